"""Residual structures with parameters: standard deviations by level or covariate, correlations within groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.residual import blocks as bl
from bayeslmm.residual.correlation import Correlation
from bayeslmm.residual.information import chain_information, dense_information
from bayeslmm.residual.laws import Law, shifted
from bayeslmm.residual.layout import RowLayout, make_layout, pairs_within
from bayeslmm.residual.residual import Chosen, Residual, at_each
from bayeslmm.residual.spread import Spread, starts_elsewhere
from bayeslmm.residual.variance import IndependentRows, size_of
from bayeslmm.types import FloatArray, IntArray

# Rows of a group whose covariance is written out.
MOST_DENSE = 4000


@by_value
@dataclass(frozen=True, eq=False)
class Spreads:
    """Known weights and the product of some standard deviations: the diagonal of a covariance.

    Attributes
    ----------
    parts : tuple of Spread
    weights : FloatArray or None, shape (n,)
        Known precision weights.
    n : int
    """

    parts: tuple[Spread, ...]
    weights: FloatArray | None
    n: int

    @cached_property
    def ends(self) -> list[slice]:
        """Entries of lam of every part."""
        stops = np.cumsum([0, *(len(part.names) for part in self.parts)]).tolist()
        return [slice(a, b) for a, b in pairwise(stops)]

    @property
    def names(self) -> tuple[str, ...]:
        return _apart(tuple(name for part in self.parts for name in part.names))

    @property
    def labels(self) -> tuple[str, ...]:
        return _apart(tuple(label for part in self.parts for label in part.labels))

    @property
    def ranges(self) -> tuple[str, ...]:
        return tuple(own for part in self.parts for own in part.ranges)

    @property
    def laws(self) -> tuple[Law, ...]:
        """Default distributions of the parameters."""
        return tuple(law for part in self.parts for law in part.laws)

    def log_sd(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Log of what sigma is multiplied by, (r,) after the axes of points."""
        size = size_of(self.n, rows)
        total = np.zeros((*lam.shape[:-1], size))
        if self.weights is not None:
            total = total - 0.5 * np.log(self.weights if rows is None else self.weights[rows])
        for part, own in zip(self.parts, self.ends, strict=True):
            total = total + part.log_sd(lam[..., own], rows)
        return total

    def slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Derivatives (k, r) of `log_sd`."""
        size = size_of(self.n, rows)
        found = [part.slopes(lam[..., own], rows) for part, own in zip(self.parts, self.ends, strict=True)]
        return np.concatenate(found, axis=-2) if found else np.zeros((*lam.shape[:-1], 0, size))

    def in_units(self, lam: FloatArray) -> FloatArray:
        """Parameters (..., k) in the user's units."""
        values = [part.natural(lam[..., own]) for part, own in zip(self.parts, self.ends, strict=True)]
        return np.concatenate([lam[..., :0], *values], axis=-1)

    def natural(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Parameters (k,) in the user's units and their derivatives (k, k)."""
        slopes = [part.natural_slopes(lam[own]) for part, own in zip(self.parts, self.ends, strict=True)]
        return self.in_units(lam), np.diag(np.concatenate([np.empty(0), *slopes]))

    def start(self, squares: FloatArray) -> FloatArray:
        """Moment estimates (k,) from squared residuals (n,), those of equal variances if there is no part."""
        out = []
        if self.weights is not None:
            squares = squares * self.weights
        for part in self.parts:
            own = part.start(squares)
            squares = squares * np.exp(-2.0 * part.log_sd(own))
            out.append(own)
        return np.concatenate([np.empty(0), *out])

    def part(self, rows: slice | IntArray) -> Spreads:
        parts = tuple(part.part(rows) for part in self.parts)
        weights = None if self.weights is None else self.weights[rows]
        return Spreads(parts, weights, size_of(self.n, rows))

    def data(self) -> dict[str, FloatArray]:
        found = {} if self.weights is None else {"weights": self.weights}
        for part in self.parts:
            found |= part.data()
        return found

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        for part, own in zip(self.parts, self.ends, strict=True):
            sigma = sigma * part.factor(list(lam[own]), data, math)
        return sigma if self.weights is None else sigma / math.sqrt(data["weights"])

    def latex(self, sigma: str) -> str:
        factors = "".join(f" {part.latex()}^2" for part in self.parts)
        return f"{sigma}^2{factors}" + ("" if self.weights is None else " / w_{i}")

    def check(self, n: int) -> None:
        if self.n != n:
            raise ValueError(f"the residuals are those of {self.n} rows, not {n}")
        if self.weights is not None and (self.weights.shape != (n,) or not (self.weights > 0).all()):
            raise ValueError(f"the weights have shape {self.weights.shape}, not ({n},), or one is not positive")
        for part in self.parts:
            part.check(n)


def _apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that differ."""
    return tuple(f"{name}_{i}" if name in names[:i] else name for i, name in enumerate(names))


@dataclass(frozen=True)
class _OfSpreads:
    """What structures with unequal standard deviations share.

    Attributes
    ----------
    expression : str
        The structure as written.
    spreads : Spreads
        Of standard deviations; their parameters come first in lam.
    """

    expression: str
    spreads: Spreads

    identity: ClassVar[bool] = False

    @property
    def n(self) -> int:
        return self.spreads.n

    @property
    def weights(self) -> FloatArray | None:
        return self.spreads.weights

    def elsewhere(self, lam: FloatArray) -> list[FloatArray]:
        """Further starts (k,) where the likelihood may have several maxima."""
        return starts_elsewhere(self.spreads.parts, self.spreads.ends, lam)

    def data(self) -> dict[str, FloatArray]:
        return self.spreads.data()

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return self.spreads.scale(sigma, lam, data, math)

    def latex(self, sigma: str) -> str:
        return self.spreads.latex(sigma)

    def check(self, n: int) -> None:
        self.spreads.check(n)


@by_value
@dataclass(frozen=True, eq=False)
class UnequalVariances(IndependentRows, _OfSpreads):
    """Independent residuals whose standard deviations have parameters.

    Attributes
    ----------
    expression : str
        The structure as written.
    spreads : Spreads
    """

    keyword: ClassVar[str] = "variances"
    text: ClassVar[str] = "sigma^2 D^2"

    @property
    def names(self) -> tuple[str, ...]:
        return self.spreads.names

    @property
    def labels(self) -> tuple[str, ...]:
        return self.spreads.labels

    @property
    def ranges(self) -> tuple[str, ...]:
        return self.spreads.ranges

    @property
    def laws(self) -> tuple[Law, ...]:
        """Default distributions of the parameters."""
        return self.spreads.laws

    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.exp(-2.0 * self.spreads.log_sd(lam, rows))

    def log_precision_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return -2.0 * self.spreads.slopes(lam, rows)

    def in_units(self, lam: FloatArray) -> FloatArray:
        return self.spreads.in_units(lam)

    def natural(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.spreads.natural(lam)

    def start(self, residuals: FloatArray) -> FloatArray:
        return self.spreads.start(residuals**2)

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.expression, self.spreads.part(rows))


@by_value
@dataclass(frozen=True, eq=False)
class CorrelatedRows(_OfSpreads):
    """Residuals correlated within groups: ``R = D C D``, D of standard deviations, C of correlations.

    Attributes
    ----------
    expression : str
        The structure as written.
    spreads : Spreads
        D; its parameters come first in lam.
    correlation : Correlation
        C.
    clusters : IntArray, shape (n,)
        Group of each row.
    at : FloatArray, shape (n, d)
        Position within its group: visit, time or place; a last coordinate for the arm.
    """

    correlation: Correlation
    clusters: IntArray
    at: FloatArray

    keyword: ClassVar[str] = "correlation"
    text: ClassVar[str] = "sigma^2 D C D"

    @property
    def names(self) -> tuple[str, ...]:
        return _apart((*self.spreads.names, *self.correlation.names))

    @property
    def labels(self) -> tuple[str, ...]:
        return _apart((*self.spreads.labels, *self.correlation.labels))

    @property
    def ranges(self) -> tuple[str, ...]:
        return (*self.spreads.ranges, *self.correlation.ranges)

    @property
    def laws(self) -> tuple[Law, ...]:
        """Default distributions of the parameters."""
        a, b = pairs_within(self.layout)
        apart = np.sqrt(((self.at[a] - self.at[b]) ** 2).sum(-1))
        own = self.correlation.laws(float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0)
        return (*self.spreads.laws, *shifted(own, self._k))

    @cached_property
    def _k(self) -> int:
        return len(self.spreads.names)

    @cached_property
    def _known(self) -> dict[bytes, Any]:
        return {}

    @cached_property
    def layout(self) -> RowLayout:
        keys = tuple(key for part in self.spreads.parts for key in part.data().values())
        return make_layout(self.clusters, self.at, () if self.correlation.chain else keys)

    def _roots(self, lam: FloatArray) -> bl.ChainRoots | bl.DenseRoots:
        """Roots of C at one point, kept until another is asked for."""
        own = lam[self._k :]
        key = own.tobytes()
        if key not in self._known:
            self._known.clear()
            make = bl.chain_roots if self.correlation.chain else bl.dense_roots
            self._known[key] = make(self.correlation, own, self.layout, self.at)
        found: bl.ChainRoots | bl.DenseRoots = self._known[key]
        return found

    def _root_slopes(self, lam: FloatArray) -> Any:
        """Derivatives of C at one point, kept as long as its roots."""
        roots = self._roots(lam)
        if isinstance(roots, bl.ChainRoots):
            return roots.slopes
        own = lam[self._k :]
        key = b"slopes" + own.tobytes()
        if key not in self._known:
            self._known[key] = bl.dense_slopes(self.correlation, own, self.layout, self.at)
        return self._known[key]

    def whiten(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        own = self._of(rows)
        return at_each(lambda one, z: own._roots(one).whiten(z / own._sd(one)[:, None]), lam, columns)

    def color(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        own = self._of(rows)
        return at_each(lambda one, z: own._roots(one).color(z) * own._sd(one)[:, None], lam, columns)

    def whiten_slopes(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return at_each(self._of(rows)._whiten_slopes, lam, columns)

    def _whiten_slopes(self, lam: FloatArray, columns: FloatArray) -> FloatArray:
        roots, z = self._roots(lam), columns / self._sd(lam)[:, None]
        spread = [roots.whiten(-slope[:, None] * z) for slope in self.spreads.slopes(lam[: self._k])]
        own = roots.whiten_slopes(self._root_slopes(lam), z)
        return np.concatenate([np.reshape(spread, (self._k, *z.shape)), own])

    def inner_slopes(
        self, lam: FloatArray, columns: FloatArray, left: FloatArray, white: FloatArray | None = None
    ) -> FloatArray:
        """Sums (k,) over rows and columns of ``left * whiten_slopes(lam, columns)``, at the cost of one whitening."""
        roots, z = self._roots(lam), columns / self._sd(lam)[:, None]
        own = roots.inner_slopes(self._root_slopes(lam), z, left, white)
        if not self._k:
            return own
        by_row = (roots.whiten_transposed(left) * z).sum(1)
        return np.concatenate([-(self.spreads.slopes(lam[: self._k]) @ by_row), own])

    def log_det(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        own = self._of(rows)
        return at_each(lambda one: own._roots(one).log_det() + 2.0 * float(np.log(own._sd(one)).sum()), lam)

    def log_det_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return at_each(self._of(rows)._log_det_slopes, lam)

    def _log_det_slopes(self, lam: FloatArray) -> FloatArray:
        own = self._roots(lam).log_det_slopes(self._root_slopes(lam))
        return np.concatenate([2.0 * self.spreads.slopes(lam[: self._k]).sum(-1), own])

    def information(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Traces (k,) of ``R^-1 dR_j`` and (k, k), about, of ``R^-1 dR_j R^-1 dR_k``."""
        roots, spread = self._roots(lam), self.spreads.slopes(lam[: self._k])
        if isinstance(roots, bl.ChainRoots):
            return chain_information(roots, spread)
        return self._log_det_slopes(lam), dense_information(roots, spread, self._root_slopes(lam))

    def variance(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.exp(2.0 * self.spreads.log_sd(lam[..., : self._k], rows))

    def covariance(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        own = self._of(rows)
        own._check_dense()
        sd = sparse.diags_array(own._sd(lam))
        matrices = [own.correlation.matrix(lam[own._k :], own.at[block.first]) for block in own.layout.blocks]
        return sparse.csc_array(sd @ own._by_group(matrices) @ sd)

    def whitening(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        own = self._of(rows)
        scale = sparse.diags_array(1.0 / own._sd(lam))
        roots = own._roots(lam)
        if isinstance(roots, bl.ChainRoots):
            before, after = roots.pairs
            diagonal, root = np.ones(own.n), np.sqrt(roots.rest)
            diagonal[after] = 1.0 / root
            lags = sparse.coo_array((-roots.r / root, (after, before)), shape=(own.n, own.n))
            return sparse.csc_array((sparse.diags_array(diagonal) + lags) @ scale)
        own._check_dense()
        return sparse.csc_array(own._by_group(roots.inverse) @ scale)

    def _check_dense(self) -> None:
        most = max((block.rows.shape[1] for block in self.layout.blocks), default=0)
        if most > MOST_DENSE:
            raise DesignError(
                f"A group of {self.expression} has {most} rows; a covariance matrix is written out for {MOST_DENSE} "
                "at most. Ask for it on a part of the data."
            )

    def _by_group(self, matrices: Sequence[FloatArray]) -> sparse.coo_array:
        """Blocks of all groups from the matrices (U, m, m) of the patterns of each block of the layout."""
        rows, columns, values = [], [], []
        for block, own in zip(self.layout.blocks, matrices, strict=True):
            m = block.rows.shape[1]
            values.append(own[block.which].ravel())
            rows.append(np.repeat(block.rows, m, axis=1).ravel())
            columns.append(np.tile(block.rows, (1, m)).ravel())
        places = (np.concatenate(rows), np.concatenate(columns))
        return sparse.coo_array((np.concatenate(values), places), shape=(self.n, self.n))

    def in_units(self, lam: FloatArray) -> FloatArray:
        spread, own = self.spreads.in_units(lam[..., : self._k]), self.correlation.natural(lam[..., self._k :])
        return np.concatenate([spread, own], axis=-1)

    def natural(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        whole = np.zeros((lam.size, lam.size))
        whole[: self._k, : self._k] = self.spreads.natural(lam[: self._k])[1]
        whole[self._k :, self._k :] = self.correlation.natural_slopes(lam[self._k :])
        return self.in_units(lam), whole

    def start(self, residuals: FloatArray) -> FloatArray:
        """Moment estimates (k,) from residuals (n,) of equal variance."""
        spread = self.spreads.start(residuals**2)
        z = residuals * np.exp(-self.spreads.log_sd(spread))
        z = z / max(float(np.sqrt(np.mean(z**2))), 1e-300)
        a, b = pairs_within(self.layout)
        return np.concatenate([spread, self.correlation.start(np.stack([self.at[a], self.at[b]]), z[a] * z[b])])

    def part(self, rows: slice | IntArray) -> Self:
        clusters = np.unique(self.clusters[rows], return_inverse=True)[1].astype(np.int64)
        return type(self)(self.expression, self.spreads.part(rows), self.correlation, clusters, self.at[rows])

    def check(self, n: int) -> None:
        super().check(n)
        if self.clusters.shape != (n,) or self.at.ndim != 2 or self.at.shape[0] != n:
            raise ValueError(f"groups {self.clusters.shape} and positions {self.at.shape} are not those of {n} rows")
        if not np.isfinite(self.at).all():
            raise ValueError("some position within a group is no finite number")

    def _of(self, rows: Chosen) -> CorrelatedRows:
        return self if rows is None else self.part(rows)

    def _sd(self, lam: FloatArray) -> FloatArray:
        return np.exp(self.spreads.log_sd(lam[: self._k]))


def spread_parts(residual: Residual) -> tuple[Spread, ...]:
    """What the standard deviations of the rows are functions by; nothing where they have no parameters."""
    return residual.spreads.parts if isinstance(residual, CorrelatedRows | UnequalVariances) else ()
