"""Residual structures of independent rows: equal variances, precision weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bayeslmm.equality import by_value
from bayeslmm.residual.residual import Chosen, Residual
from bayeslmm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy import sparse


class IndependentRows(ABC):
    """Rows are independent: R is diagonal, and all follows from the precision of every row.

    A member has `precision`, and `log_precision_slopes` if it has parameters.
    """

    clusters: ClassVar[IntArray | None] = None

    @abstractmethod
    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """What ``sigma^2`` is divided by for each of r rows, shape (r,) after the axes of points."""

    def log_precision_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Derivatives (k, r) of the log precisions in the entries of lam, after the axes of points."""
        return np.zeros((*lam.shape, self.precision(lam, rows).shape[-1]))

    def root(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Roots of the precisions."""
        return np.sqrt(self.precision(lam, rows))

    def whiten(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return columns * self.root(lam, rows)[..., None]

    def color(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return columns / self.root(lam, rows)[..., None]

    def whiten_slopes(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        half = 0.5 * self.log_precision_slopes(lam, rows)[..., None]
        return np.asarray(half * self.whiten(lam, columns, rows)[..., None, :, :])

    def inner_slopes(
        self, lam: FloatArray, columns: FloatArray, left: FloatArray, white: FloatArray | None = None
    ) -> FloatArray:
        """Sums (k,) over rows and columns of ``left * whiten_slopes(lam, columns)``, at one point."""
        by_row = (left * (self.whiten(lam, columns) if white is None else white)).sum(1)
        return np.asarray(0.5 * (self.log_precision_slopes(lam) @ by_row))

    def information(self, lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Traces (k,) of ``R^-1 dR_j``, and (k, k) of ``R^-1 dR_j R^-1 dR_k``, at one point."""
        slopes = self.log_precision_slopes(lam)
        return -slopes.sum(-1), slopes @ slopes.T

    def log_det(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(0.0 - np.log(self.precision(lam, rows)).sum(-1))

    def log_det_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(-self.log_precision_slopes(lam, rows).sum(-1))

    def variance(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.asarray(1.0 / self.precision(lam, rows))

    def covariance(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        return _diagonal(self.variance(lam, rows))

    def whitening(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        return _diagonal(self.root(lam, rows))


@dataclass(frozen=True)
class Homoscedastic(IndependentRows):
    r"""Residuals of one variance: R is the identity matrix.

    Attributes
    ----------
    n : int
        Rows.

    Examples
    --------
    >>> from bayeslmm.residual import NO_PARAMETERS
    >>> Homoscedastic(3).log_det(NO_PARAMETERS), Homoscedastic(3).latex(r"\sigma")
    (array(0.), '\\sigma^2')
    """

    n: int

    keyword: ClassVar[str] = "iid"
    names: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[bool] = True
    weights: ClassVar[FloatArray | None] = None
    text: ClassVar[str] = "sigma^2 I"

    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return np.ones((*lam.shape[:-1], size_of(self.n, rows)))

    def whiten(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return at_points(lam, columns)

    def color(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        return at_points(lam, columns)

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(size_of(self.n, rows))

    def data(self) -> dict[str, FloatArray]:
        return {}

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return sigma

    def latex(self, sigma: str) -> str:
        return f"{sigma}^2"

    def check(self, n: int) -> None:
        if self.n != n:
            raise ValueError(f"the residuals are those of {self.n} rows, not {n}")


@by_value
@dataclass(frozen=True, eq=False)
class PrecisionWeights(IndependentRows):
    """The residual variance of row i is ``sigma^2 / weights[i]``.

    Attributes
    ----------
    weights : FloatArray, shape (n,)
        All positive.

    Examples
    --------
    >>> from bayeslmm.residual import NO_PARAMETERS
    >>> residual = PrecisionWeights(np.array([1.0, 4.0]))
    >>> residual.whiten(NO_PARAMETERS, np.array([[3.0], [3.0]])).tolist()
    [[3.0], [6.0]]
    >>> residual.variance(NO_PARAMETERS).tolist()
    [1.0, 0.25]
    """

    weights: FloatArray

    keyword: ClassVar[str] = "weights"
    names: ClassVar[tuple[str, ...]] = ()
    identity: ClassVar[bool] = False

    @property
    def n(self) -> int:
        return int(self.weights.shape[0])

    @property
    def text(self) -> str:
        return "sigma^2 W^-1" if (self.weights != 1.0).any() else "sigma^2 I"

    @cached_property
    def _root(self) -> FloatArray:
        return np.sqrt(self.weights)

    def precision(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return of_rows(lam, self.weights, rows)

    def root(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        return of_rows(lam, self._root, rows)

    def part(self, rows: slice | IntArray) -> Self:
        return type(self)(self.weights[rows])

    def data(self) -> dict[str, FloatArray]:
        return {"weights": self.weights}

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        return sigma / math.sqrt(data["weights"])

    def latex(self, sigma: str) -> str:
        return f"{sigma}^2 / w_{{i}}"

    def check(self, n: int) -> None:
        if self.weights.shape != (n,):
            raise ValueError(f"weights has shape {self.weights.shape}, not ({n},)")
        if not np.isfinite(self.weights).all():
            raise ValueError("weights has values that are no finite numbers, which no design has")
        if not (self.weights > 0).all():
            raise ValueError("some weight is not positive")


def make_residual(n: int, weights: FloatArray | None = None) -> Residual:
    """The residual structure of n rows with the precision weights they have, if any."""
    return Homoscedastic(n) if weights is None else PrecisionWeights(weights)


def _diagonal(values: FloatArray) -> sparse.csc_array:
    from scipy import sparse

    return sparse.csc_array(sparse.diags_array(values))


def size_of(n: int, rows: Chosen) -> int:
    """How many of n rows are chosen."""
    if rows is None:
        return n
    return len(range(*rows.indices(n))) if isinstance(rows, slice) else int(rows.size)


def of_rows(lam: FloatArray, values: FloatArray, rows: Chosen) -> FloatArray:
    """Values of the rows at every point, as a view."""
    return at_points(lam, values if rows is None else values[rows], 1)


def at_points(lam: FloatArray, values: FloatArray, own: int = 2) -> FloatArray:
    """Values with the axes of points in front, where lam has more of these than they; `own` axes are the values'."""
    points = lam.shape[:-1]
    if not points:
        return values
    return np.broadcast_to(values, (*np.broadcast_shapes(points, values.shape[:-own]), *values.shape[-own:]))
