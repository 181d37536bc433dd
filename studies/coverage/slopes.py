"""Random slopes in balanced layouts, for thousands of responses at once: what their posteriors need of the data.

Every group has the same x. Its least-squares coefficients are independent of the others' and of the residual sum of
squares: ``B_j ~ N(beta, A)``, ``A = Sigma + sigma^2 C``, ``C = (X_j' X_j)^-1``, ``SSE ~ sigma^2 chi2_f``. With S the
squares and products of the B_j about their mean, which estimates beta whatever the variances are, -2 log likelihood is

    f log sigma^2 + SSE / sigma^2 + m log |A| + tr(A^-1 S),   m = J - 1 for REML and J for ML.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Slopes:
    """K responses of one layout, reduced.

    Attributes
    ----------
    groups, size : int
    correlated : bool
        Whether the fitted model has a correlation.
    noise : FloatArray, shape (2, 2)
        C.
    squares : FloatArray, shape (K, 2, 2)
        S.
    mean : FloatArray, shape (K, 2)
        Mean of the coefficients.
    within : FloatArray, shape (K,)
        SSE.
    variance : FloatArray, shape (K,)
        Sample variance of all observations.
    """

    groups: int
    size: int
    correlated: bool
    noise: FloatArray
    squares: FloatArray
    mean: FloatArray
    within: FloatArray
    variance: FloatArray

    @property
    def f(self) -> int:
        """Degrees of freedom of SSE."""
        return self.groups * (self.size - 2)

    def part(self, rows: slice | IntArray | BoolArray) -> Slopes:
        """Some of the responses."""
        own = (self.squares[rows], self.mean[rows], self.within[rows], self.variance[rows])
        return Slopes(self.groups, self.size, self.correlated, self.noise, *own)

    def deviance(
        self, v: FloatArray, first: FloatArray, cross: FloatArray, second: FloatArray, reml: bool
    ) -> FloatArray:
        """-2 log likelihood less its constant at ``sigma^2 = v`` and entries of Sigma, arrays (K, ...)."""
        extra = (slice(None),) + (None,) * (v.ndim - 1)
        a, b, c = first + v * self.noise[0, 0], cross + v * self.noise[0, 1], second + v * self.noise[1, 1]
        det = a * c - b * b
        S = self.squares
        trace = (c * S[:, 0, 0][extra] - 2.0 * b * S[:, 0, 1][extra] + a * S[:, 1, 1][extra]) / det
        m = self.groups - int(reml)
        return np.asarray(self.f * np.log(v) + self.within[extra] / v + m * np.log(det) + trace)


def design_x(cell: Cell) -> FloatArray:
    """Columns (n, 2) of every group."""
    return np.stack([np.ones(cell.size), np.arange(cell.size, dtype=float)], axis=1)


def reduce(cell: Cell, Y: FloatArray) -> Slopes:
    """Sufficient statistics of responses (n, K), group after group."""
    X = design_x(cell)
    noise = np.linalg.inv(X.T @ X)
    y = Y.T.reshape(-1, cell.groups, cell.size)
    B = y @ (X @ noise)
    within = ((y - B @ X.T) ** 2).sum(axis=(1, 2))
    mean = B.mean(axis=1)
    centred = B - mean[:, None]
    return Slopes(
        cell.groups,
        cell.size,
        cell.design == "x | g",
        noise,
        centred.mT @ centred,
        mean,
        within,
        Y.var(axis=0, ddof=1),
    )
