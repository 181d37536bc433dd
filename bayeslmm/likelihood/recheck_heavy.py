"""The independent evaluation of the criterion where few rows outweigh all others: they enter as constraints.

With weights W of the heavy rows, A = [Z Lambda, X] and B what the light rows and the penalty of the effects make of
the normal equations, ``B + A'WA`` loses B in its rounding. The matrix ``K = [[W^-1, A], [A', -B]]`` holds the same
equations without a large number: ``det(B + A'WA) = |det K| det W``, and its solution has the multipliers of the heavy
rows beside the coefficients (Bjorck 1996 on weighted least squares by the augmented system). At infinite weight it is
the constrained problem, as regular as any other, because heavy rows are independent of each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from bayeslmm.likelihood.heavy import split_level
from bayeslmm.types import FloatArray

# Steps of refinement: one sees the digits that the solution lost.
_REFINEMENTS = 1


@dataclass(frozen=True)
class HeavyRows:
    """Rows that outweigh all others.

    Attributes
    ----------
    columns : FloatArray, shape (h, q + p)
        Of all effects, not weighted.
    y : FloatArray, shape (h,)
    weights : FloatArray, shape (h,)
    unit : float
        A weight of the light rows.
    """

    columns: FloatArray
    y: FloatArray
    weights: FloatArray
    unit: float


@dataclass(frozen=True)
class Constrained:
    """What the criterion is made of.

    Attributes
    ----------
    log_det : float
        Of the matrix of the mixed model equations; for ML of its part for the random effects.
    r2 : float
    lost : float
        By how many units of rounding `log_det` may be off.
    blurred : float
        The same of half of log(r2).
    """

    log_det: float
    r2: float
    lost: float
    blurred: float


def constrained(light: FloatArray, y: FloatArray, heavy: HeavyRows, q: int, reml: bool) -> Constrained | None:
    """Evaluate; None if the matrix is singular in binary64.

    Parameters
    ----------
    light : FloatArray, shape (n - h, q + p)
        Weighted columns ``[Z Lambda, X]`` of the light rows.
    y : FloatArray, shape (n - h,)
        Their weighted response.
    heavy : HeavyRows
    q : int
        Number of columns that are random effects.
    reml : bool

    Examples
    --------
    >>> heavy = HeavyRows(np.array([[2.0, 1.0]]), np.array([3.0]), np.array([1e300]), 1.0)
    >>> found = constrained(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.0, 1.0]), heavy, 1, True)
    >>> # The least b^2 + u^2 + (b - 1)^2 with 2 u + b = 3 is 17 / 9.
    >>> round(found.r2 * 9, 8), round(float(found.log_det - np.log(1e300)), 10)
    (17.0, 2.1972245773)
    """
    root = np.sqrt(heavy.unit)
    B = _normal(light, q)
    equations = _equations(B, root * heavy.columns, heavy.unit / heavy.weights)
    if equations is None:
        return None
    logs = equations if reml else _random_part(B[:q, :q], heavy, q)
    if logs is None:
        return None
    r2, blurred = _residual(equations, light, y, heavy, q)
    return Constrained(logs.log_det, r2, logs.lost, blurred)


@dataclass(frozen=True)
class _Equations:
    LU: FloatArray
    pivots: NDArray[np.int32]
    scale: FloatArray
    log_det: float
    lost: float

    def solve(self, right: FloatArray) -> FloatArray:
        return np.asarray(self.scale * lapack.dgetrs(self.LU, self.pivots, self.scale * right)[0])


def _normal(light: FloatArray, q: int) -> FloatArray:
    B = light.T @ light
    B.flat[: q * (len(B) + 1) : len(B) + 1] += 1.0
    return np.asarray(B)


def _equations(B: FloatArray, rows: FloatArray, inverse: FloatArray) -> _Equations | None:
    """Factorise K, its columns brought to one length; `log_det` is that of ``B + rows' rows / inverse``."""
    h, size = rows.shape[0], rows.shape[0] + len(B)
    K = np.zeros((size, size))
    K[:h, :h], K[:h, h:], K[h:, :h], K[h:, h:] = np.diag(inverse), rows, rows.T, -B
    largest = np.maximum(np.diagonal(B), (rows**2).max(axis=0, initial=0.0))
    _, exponent = np.frexp(np.sqrt(np.where(largest > 0, largest, 1.0)))
    scale = np.concatenate([np.ones(h), np.ldexp(1.0, -exponent)])
    K *= scale * scale[:, None]
    LU, pivots, failed = lapack.dgetrf(K)
    inverted, singular = lapack.dgetri(LU, pivots)
    if failed or singular or not np.isfinite(inverted).all():
        return None
    log_det = np.log(np.abs(np.diagonal(LU))).sum() - 2.0 * np.log(scale).sum() - np.log(inverse).sum()
    return _Equations(LU, pivots, scale, float(log_det), _sensitivity(LU, pivots, inverted))


def _sensitivity(LU: FloatArray, pivots: NDArray[np.int32], inverted: FloatArray) -> float:
    """Relative change of the determinant by errors of the size of ``|L| |U|``."""
    errors = (np.abs(np.tril(LU, -1)) + np.eye(len(LU))) @ np.abs(np.triu(LU))
    for i in reversed(range(len(pivots))):
        errors[[i, pivots[i]]] = errors[[pivots[i], i]]
    return float((np.abs(inverted.T) * errors).sum())


def _random_part(B: FloatArray, heavy: HeavyRows, q: int) -> _Equations | None:
    """The equations of the random effects alone, where heavy rows need not be independent: as few as span them."""
    if not q:
        return _Equations(np.zeros((0, 0)), np.zeros(0, dtype=np.int32), np.zeros(0), 0.0, 0.0)
    root = np.sqrt(heavy.weights / heavy.unit)
    Z = np.sqrt(heavy.unit) * heavy.columns[:, :q]
    R = split_level(Z * root[:, None], np.zeros((root.size, 0)), root)[0]
    size = np.abs(R).max(axis=1)
    kept = size > 0
    return _equations(B, R[kept] / size[kept, None], size[kept] ** -2.0)


def _residual(equations: _Equations, light: FloatArray, y: FloatArray, heavy: HeavyRows, q: int) -> tuple[float, float]:
    """r2 from the residuals themselves and the rounding of half its logarithm, in units of rounding."""
    root, h = np.sqrt(heavy.unit), heavy.y.size
    rows, inverse, target = root * heavy.columns, heavy.unit / heavy.weights, root * heavy.y
    solution = np.zeros(h + light.shape[1])
    residual, missed = y, target
    for _ in range(1 + _REFINEMENTS):
        multipliers, coef = solution[:h], solution[h:]
        score = residual @ light + multipliers @ rows
        score[:q] -= coef[:q]
        solution = solution + equations.solve(np.concatenate([missed, -score]))
        multipliers, coef = solution[:h], solution[h:]
        residual = y - light @ coef
        missed = target - rows @ coef - inverse * multipliers
    u = coef[:q]
    r2 = float(residual @ residual + u @ u + multipliers @ (inverse * multipliers))
    known, most = max(r2, 1e-300), float(np.abs(coef).max(initial=0.0))
    largest = max(float(np.abs(y).max(initial=0.0)), float(np.abs(light).max(initial=0.0)) * most)
    # What a constraint is missed by changes r2 in proportion to its multiplier.
    bent = float(np.abs(multipliers) @ (np.abs(target) + np.abs(rows) @ np.abs(coef)))
    return r2, float(largest * np.sqrt((y.size + h) / known) + bent / known)
