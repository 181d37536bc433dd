"""Random slopes in balanced layouts, for thousands of responses at once: profiles and the exact pivot.

Every group has the same x. Its least-squares coefficients are independent of the others' and of the residual sum of
squares: ``B_j ~ N(beta, A)``, ``A = Sigma + sigma^2 C``, ``C = (X_j' X_j)^-1``, ``SSE ~ sigma^2 chi2_f``. With S the
squares and products of the B_j about their mean, which estimates beta whatever the variances are, -2 log likelihood is

    f log sigma^2 + SSE / sigma^2 + m log |A| + tr(A^-1 S),   m = J - 1 for REML and J for ML.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri

from bayeslmm.calibration.coverage_cells import Cell
from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.calibration.coverage_roots import likelihood_ends
from bayeslmm.numerics.newton_many import minimise_many
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Derivatives of a covariance matrix in its entries 11, 12, 22.
_ENTRIES = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])


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

    def swapped(self) -> Slopes:
        """Slopes first."""
        own = (self.squares[:, ::-1, ::-1], self.mean[:, ::-1], self.within, self.variance)
        return Slopes(self.groups, self.size, self.correlated, self.noise[::-1, ::-1], *own)

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


def pivot_ends(data: Slopes, which: int, level: float) -> Ends:
    """Exact interval for ``s / sigma`` of intercepts (0) or slopes (1), the other effects as fixed; nan if empty."""
    m, c = data.groups - 1, data.noise[which, which]
    ratio = data.squares[:, which, which] / c / m / (data.within / data.f)
    low, high = (c * (ratio / fdtri(m, data.f, p) - 1.0) for p in (0.5 * (1.0 + level), 0.5 * (1.0 - level)))
    empty = high < 0.0
    ends = [np.where(empty, np.nan, np.sqrt(np.maximum(end, 0.0))) for end in (low, high)]
    return ends[0], ends[1]


def profile(data: Slopes, s: FloatArray, start: FloatArray, reml: bool) -> tuple[FloatArray, FloatArray]:
    """Least -2 log likelihood (K,) with the first sd held at s (K,), and where: ``(a, b, log sigma)``.

    The factor of Sigma is ``[[s, 0], [a, b]]``, without correlation a is zero and left out: the criterion is smooth in
    these, and even in b.
    """
    free = slice(None) if data.correlated else slice(1, None)
    m = data.groups - int(reml)

    def function(x: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        whole = x if data.correlated else np.concatenate([np.zeros((len(x), 1)), x], axis=1)
        value, gradient, hessian = _derivatives(data, which, m, s[which], whole)
        return value, gradient[:, free], hessian[:, free, free]

    result = minimise_many(function, start[:, free])
    found = start.copy()
    found[:, free] = result.x
    return result.value, found


def _derivatives(
    data: Slopes, which: IntArray, m: int, s: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Value, gradient and Hessian in ``(a, b, log sigma)``."""
    a, b, v = x[:, 0], x[:, 1], np.exp(2.0 * x[:, 2])
    sigma = np.stack([np.stack([s * s, s * a], -1), np.stack([s * a, a * a + b * b], -1)], 1)
    A = sigma + v[:, None, None] * data.noise
    P, S, within = np.linalg.inv(A), data.squares[which], data.within[which]
    M = P @ S @ P
    value = data.f * 2.0 * x[:, 2] + within / v + m * np.log(np.linalg.det(A)) + (P * S).sum(axis=(1, 2))
    D = np.concatenate([_ENTRIES, data.noise[None]])
    g = np.einsum("kij,dij->kd", m * P - M, D)
    PD, MD = P[:, None] @ D, M[:, None] @ D
    H = -m * np.einsum("kdij,keji->kde", PD, PD) + 2.0 * np.einsum("kdij,keji->kde", PD, MD)
    H = 0.5 * (H + H.mT)
    g[:, 3] += data.f / v - within / v**2
    H[:, 3, 3] += -data.f / v**2 + 2.0 * within / v**3
    J = np.zeros((len(x), 3, 4))
    J[:, 0, 1], J[:, 0, 2], J[:, 1, 2], J[:, 2, 3] = s, 2.0 * a, 2.0 * b, 2.0 * v
    hessian = J @ H @ J.mT
    hessian[:, 0, 0] += 2.0 * g[:, 2]
    hessian[:, 1, 1] += 2.0 * g[:, 2]
    hessian[:, 2, 2] += 4.0 * v * g[:, 3]
    return value, (J @ g[..., None])[..., 0], hessian


def profile_ends(data: Slopes, T: FloatArray, sigma: FloatArray, reml: bool, level: float) -> Ends:
    """Where the profile of the first sd is the chi-square quantile above its minimum; 0 where it is not below that.

    Parameters
    ----------
    data : Slopes
        See `Slopes.swapped` for the second sd.
    T : FloatArray, shape (K, 2, 2)
        Relative factor of the covariance at the optimum of this criterion, effects in the order of `data`.
    sigma : FloatArray, shape (K,)
    reml : bool
    level : float
    """
    cov = (T @ T.mT) * sigma[:, None, None] ** 2
    lowest = data.deviance(sigma**2, cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1], reml)
    top = np.sqrt(cov[:, 0, 0])
    safe = np.where(top > 0, top, 1.0)
    a = np.where(top > 0, cov[:, 0, 1] / safe, 0.0)
    b = np.sqrt(np.maximum(cov[:, 1, 1] - a * a, 0.0))
    unit = sigma * np.sqrt(np.diagonal(data.noise))[:, None]
    floor = 0.1 * unit[1]
    start = np.stack([a, np.maximum(b, floor), np.log(sigma)], axis=1)

    def height(s: FloatArray, rows: IntArray) -> FloatArray:
        value, found = profile(data.part(rows), s, start[rows], reml)
        # The next place is near this one; not at b = 0, where the slope along b is none.
        found[:, 1] = np.maximum(np.abs(found[:, 1]), floor[rows])
        start[rows] = found
        return value - lowest[rows]

    return likelihood_ends(height, top, unit[0], level)
