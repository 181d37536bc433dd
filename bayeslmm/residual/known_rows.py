"""Residuals of new rows given those of the rows of the data: conditional means and covariances under R.

Of a normal distribution with covariance ``sigma^2 R`` over old rows o and new rows n, given the residuals of the old,

    mean = R_no R_oo^-1 e ,   covariance / sigma^2 = R_nn - R_no R_oo^-1 R_on ,

group by group, since rows of different groups are independent. Where each row depends on the one before alone, the
nearest old rows before and after the new ones say all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from bayeslmm.errors import DesignError
from bayeslmm.residual.residual import Residual
from bayeslmm.residual.structured import MOST_DENSE, CorrelatedRows
from bayeslmm.types import FloatArray, IntArray

# Shares of its own variance that are left of a row given others: below the first they are rounding, and what is as far
# below zero as the second is none, even of matrices that are nearly singular.
_ROUNDING, _NEGATIVE = 1e-12, 1e-6


@dataclass(frozen=True)
class GivenRows:
    """The distribution of k new residuals given n old ones, at one point of the parameters.

    Attributes
    ----------
    weights : sparse array, shape (k, n)
        The mean is ``weights @ e`` for old residuals e.
    covariance : sparse array, shape (k, k)
        Over sigma^2.
    """

    weights: sparse.csr_array
    covariance: sparse.csr_array

    @property
    def variance(self) -> FloatArray:
        """Diagonal (k,) of the covariance."""
        return np.asarray(self.covariance.diagonal())


@dataclass(frozen=True)
class KnownRows:
    """New rows beside those of the data.

    Attributes
    ----------
    old, new : Residual
        Structures of n and of k rows, with the same parameters.
    clusters : IntArray or None, shape (k,)
        Group of each new row in the numbering of ``old.clusters``, those that it does not have behind them; None where
        all rows are independent.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> residual = model.design.residual
    >>> rows = np.arange(9)
    >>> known = KnownRows(residual.part(rows), residual.part(np.array([9])), np.array([0]))
    >>> given = known.at(np.arctanh(np.array([0.8])))
    >>> given.weights.toarray().round(12)[0, -2:].tolist(), given.variance.round(12).tolist()
    ([0.0, 0.8], [0.36])
    """

    old: Residual
    new: Residual
    clusters: IntArray | None

    def at(self, lam: FloatArray) -> GivenRows:
        """Weights and covariance at one point lam (k,) of the parameters.

        Raises
        ------
        DesignError
            A covariance that is not positive semidefinite with the new rows in it.
        """
        if not isinstance(self.old, CorrelatedRows) or not isinstance(self.new, CorrelatedRows):
            nothing = sparse.csr_array((self.new.n, self.old.n))
            return GivenRows(nothing, sparse.csr_array(self.new.covariance(lam)))
        own = lam[len(self.old.spreads.names) :]
        sd_old, sd_new = (np.sqrt(part.variance(lam)) for part in (self.old, self.new))
        weights, covariances = _Entries(), _Entries()
        for old, new in self._batches:
            m = old.shape[1]
            at = np.concatenate([self.old.at[old], self.new.at[new]], axis=1)
            C = self.old.correlation.matrix(own, at)
            if self._at_visits:
                C = np.where((at[:, :, None] == at[:, None]).all(-1), 1.0, C)
            across = C[:, :m, m:]
            w = np.linalg.solve(C[:, :m, :m], across) if m else across
            left = C[:, m:, m:] - across.mT @ w
            _check(self.old, left)
            weights.add(new, old, w.mT * sd_new[new][:, :, None] / sd_old[old][:, None, :])
            covariances.add(new, new, left * sd_new[new][:, :, None] * sd_new[new][:, None, :])
        return GivenRows(weights.array(self.new.n, self.old.n), covariances.array(self.new.n, self.new.n))

    @cached_property
    def _at_visits(self) -> bool:
        """Whether rows have places, so that another row at the same one is the same residual."""
        return isinstance(self.old, CorrelatedRows) and bool((self.old.at != self.old.at[:1]).any())

    @cached_property
    def _batches(self) -> list[tuple[IntArray, IntArray]]:
        """Old rows (B, m) and new rows (B, k) of groups that have as many of both."""
        by_size: dict[tuple[int, int], list[tuple[IntArray, IntArray]]] = {}
        for old, new in self._groups():
            by_size.setdefault((old.size, new.size), []).append((old, new))
        return [(np.stack([o for o, _ in own]), np.stack([n for _, n in own])) for own in by_size.values()]

    def _groups(self) -> Iterator[tuple[IntArray, IntArray]]:
        if not isinstance(self.old, CorrelatedRows) or not isinstance(self.new, CorrelatedRows):
            return
        if self.clusters is None:
            raise ValueError("the groups of the new rows are not known")
        order_old, order_new = _Sorted.of_clusters(self.old.clusters), _Sorted.of_clusters(self.clusters)
        for cluster in np.unique(self.clusters):
            old, new = order_old.of(cluster), order_new.of(cluster)
            if self.old.correlation.chain:
                old = old[_neighbours(self.old.at[old, 0], self.new.at[new, 0])]
            if old.size + new.size > MOST_DENSE:
                raise DesignError(
                    f"A group of {self.old.expression} has {old.size} rows in the data and {new.size} in the new ones; "
                    f"their covariance is written out for {MOST_DENSE} at most. Predict fewer rows at once, or "
                    "residuals='new'."
                )
            yield old, new


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order of their groups."""

    order: IntArray
    clusters: IntArray

    @classmethod
    def of_clusters(cls, clusters: IntArray) -> _Sorted:
        order = np.argsort(clusters, kind="stable")
        return cls(order, clusters[order])

    def of(self, cluster: int) -> IntArray:
        first, last = np.searchsorted(self.clusters, [cluster, cluster + 1])
        return self.order[first:last]


class _Entries:
    """Entries of a sparse array, collected block by block."""

    def __init__(self) -> None:
        self.rows: list[IntArray] = []
        self.columns: list[IntArray] = []
        self.values: list[FloatArray] = []

    def add(self, rows: IntArray, columns: IntArray, values: FloatArray) -> None:
        """Blocks (B, a, b) at rows (B, a) and columns (B, b)."""
        self.rows.append(np.broadcast_to(rows[:, :, None], values.shape).ravel())
        self.columns.append(np.broadcast_to(columns[:, None, :], values.shape).ravel())
        self.values.append(values.ravel())

    def array(self, k: int, n: int) -> sparse.csr_array:
        nothing = np.empty(0, dtype=np.int64)
        places = np.concatenate([nothing, *self.rows]), np.concatenate([nothing, *self.columns])
        return sparse.csr_array((np.concatenate([np.empty(0), *self.values]), places), shape=(k, n))


def _neighbours(old: FloatArray, new: FloatArray) -> IntArray:
    """Places of the old positions that are next to some new one, before or after."""
    order = np.argsort(old, kind="stable")
    after = np.searchsorted(old[order], new, side="right")
    found = np.unique(np.concatenate([after - 1, after]))
    return np.asarray(order[found[(found >= 0) & (found < old.size)]])


def _check(residual: CorrelatedRows, left: FloatArray) -> None:
    """Refuse correlations of which no covariance of so many rows is made; rounding becomes zero."""
    diagonal = np.einsum("bii->bi", left)
    if (diagonal < -_NEGATIVE).any():
        raise DesignError(
            f"With the new rows a group of {residual.expression} has more rows than its correlation can be that of "
            f"(the variance left of a row given the others would be {float(diagonal.min()):.2g}). A negative "
            "correlation of all pairs has a largest number of rows: predict fewer of a group at once, or "
            "residuals='new'."
        )
    diagonal[diagonal < _ROUNDING] = 0.0
