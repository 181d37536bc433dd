"""The criterion at one point once more, from the rows of the data and by one dense factorisation.

A check of the elimination by blocks: other sums, another order, the residual itself in place of a difference of
squares. It costs about as much as an evaluation of a small model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from bayeslmm.design.dominant import heavy_rows
from bayeslmm.likelihood.conditional import conditional_means
from bayeslmm.likelihood.criteria import degrees_of_freedom, over_sigma
from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.likelihood.factor import Factor
from bayeslmm.numerics import direct
from bayeslmm.types import BoolArray, FloatArray

UNIT = float(np.finfo(float).eps)
# Rounding errors of sums grow with fewer terms than there are; factorisations add some.
MARGIN = 8.0
# Steps of refinement: one sees the digits that the solution lost.
_REFINEMENTS = 1


def dense_size(cp: SummedDesign) -> int:
    """Doubles that the check needs."""
    columns = sum(block.q for block in cp.blocks) + cp.p
    return int((cp.design.y.size + columns) * columns)


def recheck(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool) -> tuple[float, float]:
    """The profiled criterion, and how far rounding may take two ways to it apart.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (c, c)
        Internal relative factor of each block.
    reml : bool

    Returns
    -------
    value : float
        NaN if the matrix is not positive definite in binary64.
    bound : float
        Difference of two evaluations that rounding explains.
    """
    columns, y = _rows(cp, factors)
    heavy = heavy_rows(cp.design)
    if heavy is not None:
        return _with_heavy(cp, columns, y, heavy, reml)
    return dense_check(cp, *_weighted(cp, columns, y), reml)


def dense_check(cp: CrossProducts, columns: FloatArray, y: FloatArray, reml: bool) -> tuple[float, float]:
    """The criterion and its bound from weighted columns (r, q + p), ``[Z Lambda, X]``, and the response (r,)."""
    dense = _solved(cp, columns, y, reml)
    return (float("nan"), float("inf")) if dense is None else (dense.value, dense.bound)


def recheck_minimum(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool) -> tuple[float, float, float]:
    """The same, and how far regular factors are from stationary, from the rows and the dense factorisation alone.

    Along ``G = T (I + H) T'`` a block's criterion changes by ``tr((J I - sum C_ll - sum u_l u_l' nu / r2) H)``, C being
    the covariance of its standardised effects u given y over sigma^2 (by ML, the fixed effects known).

    Returns
    -------
    value, bound : float
        As of `recheck`.
    slope : float
        The largest entry of these matrices, each over its J; inf where nothing can be said.
    """
    unknown = float("nan"), float("inf"), float("inf")
    if heavy_rows(cp.design) is not None:
        return unknown
    dense = _solved(cp, *_weighted(cp, *_rows(cp, factors)), reml)
    if dense is None:
        return unknown
    inverse, failed = lapack.dtrtri(dense.L, lower=1)
    if failed or not dense.r2 > 0:
        return unknown
    if not reml:
        inverse = inverse[: dense.u.size]
    slopes, scale = [0.0], degrees_of_freedom(cp, reml) / dense.r2
    for block, span in zip(cp.blocks, cp.frame.spans, strict=True):
        J, c = block.n_levels, block.size
        half, u = inverse[:, span].reshape(-1, c), dense.u[span].reshape(J, c)
        rest = half.T @ half + scale * (u.T @ u)
        rest.reshape(-1)[:: c + 1] -= J
        slopes.append(direct.largest(rest) / J)
    return dense.value, dense.bound, max(slopes) if math.isfinite(sum(slopes)) else float("inf")


@dataclass(frozen=True)
class _Dense:
    """The mixed-model equations of the rows, solved."""

    L: FloatArray  # (q + p, q + p)
    u: FloatArray  # (q,)   standardised effects
    r2: float
    value: float
    bound: float


def _solved(cp: CrossProducts, columns: FloatArray, y: FloatArray, reml: bool) -> _Dense | None:
    """None if the matrix is not positive definite in binary64."""
    q = columns.shape[1] - cp.p
    A = columns.T @ columns
    A.reshape(-1)[: q * (len(A) + 1) : len(A) + 1] += 1.0
    pivots = A.diagonal().copy()
    # The transpose is what LAPACK reads without a copy.
    L, failed = lapack.dpotrf(A.T, lower=1, overwrite_a=1)
    if failed:
        return None
    solution = lapack.dpotrs(L, np.dot(y, columns), lower=1, overwrite_b=1)[0]
    residual = y - np.dot(columns, solution)
    for _ in range(_REFINEMENTS):
        score = np.dot(residual, columns)
        score[:q] -= solution[:q]
        solution = solution + lapack.dpotrs(L, score, lower=1, overwrite_b=1)[0]
        residual = y - np.dot(columns, solution)
    u, nu = solution[:q], degrees_of_freedom(cp, reml)
    r2 = float(np.dot(residual, residual) + np.dot(u, u))
    logs = 2.0 * np.log(L.diagonal())
    value = _criterion(cp, logs[:q].sum() + (logs[q:].sum() if reml else 0.0), r2, reml)
    return _Dense(L, u, r2, value, _bound(pivots, L, y, columns, solution, r2, nu, value))


def _criterion(cp: CrossProducts, log_det: float, r2: float, reml: bool) -> float:
    logs = log_det - cp.log_weights + (cp.log_det_fixed if reml else 0.0)
    return float(logs + over_sigma(cp, np.array(max(r2, 1e-300)), reml))


def _with_heavy(
    cp: SummedDesign, columns: FloatArray, y: FloatArray, heavy: BoolArray, reml: bool
) -> tuple[float, float]:
    """The same where few rows outweigh the others."""
    from bayeslmm.likelihood.recheck_heavy import HeavyRows, constrained

    weights = cp.design.row_weights
    assert weights is not None
    q, light, nu = columns.shape[1] - cp.p, ~heavy, degrees_of_freedom(cp, reml)
    root = np.sqrt(weights[light])
    rows = HeavyRows(columns[heavy], y[heavy], weights[heavy], float(weights[light].max()))
    found = constrained(columns[light] * root[:, None], y[light] * root, rows, q, reml)
    if found is None:
        return float("nan"), float("inf")
    value = _criterion(cp, found.log_det, found.r2, reml)
    lost = np.sqrt(y.size + columns.shape[1]) * found.lost
    return value, float(MARGIN * UNIT * (lost + nu * found.blurred + abs(value) + y.size))


def _rows(cp: SummedDesign, factors: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """``[Z Lambda, X]`` (n, q + p) and the response (n,)."""
    design, n = cp.design, cp.design.y.size
    q = sum(block.q for block in cp.blocks)
    columns = np.zeros((n, q + cp.p))
    flat, rows = columns.reshape(-1), np.arange(n) * (q + cp.p)
    for block, span, T in zip(cp.blocks, cp.frame.spans, factors, strict=True):
        terms = [design.terms[i].Z for i in block.terms]
        Z = (terms[0] if len(terms) == 1 else np.concatenate(terms, axis=1)) @ (block.basis @ T)
        place = rows + span.start + block.grouping.codes * block.size
        for k in range(block.size):
            flat[place + k] = Z[:, k]
    columns[:, q:] = cp.fixed.columns
    y = design.y - cp.response.constant
    return columns, y if design.offset is None else y - design.offset


def _weighted(cp: SummedDesign, columns: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    weights = cp.design.row_weights
    if weights is None:
        return columns, y
    root = np.sqrt(weights)
    return columns * root[:, None], y * root


def _bound(
    pivots: FloatArray,
    L: FloatArray,
    y: FloatArray,
    columns: FloatArray,
    solution: FloatArray,
    r2: float,
    nu: int,
    value: float,
) -> float:
    """Rounding of the pivots, of the residual, and of the value itself."""
    n, m = columns.shape
    lost = float((pivots / L.diagonal() ** 2).sum())
    largest = max(direct.largest(y), direct.largest(columns) * direct.largest(solution))
    blurred = largest * math.sqrt(n / max(r2, 1e-300))
    return float(MARGIN * UNIT * (math.sqrt(n + m) * lost + nu * blurred + abs(value) + n))


def recheck_residual(
    cp: SummedDesign, factors: Sequence[FloatArray], factor: Factor, reml: bool
) -> tuple[float, float]:
    """For data of any size: the residual sum of squares once more, on the rows, at the conditional estimates.

    Any error of these raises it, by its square.

    Parameters
    ----------
    cp : SummedDesign
    factors : sequence of FloatArray, each (1, c, c)
    factor : Factor
    reml : bool

    Returns
    -------
    gap : float
        What the difference makes of the criterion.
    bound : float
        What rounding explains of it.
    """
    design, means = cp.design, conditional_means(cp, factors, factor)
    fixed = design.X @ means.beta[0]
    residual = design.y_less_offset - fixed
    largest, penalty = max(float(np.abs(design.y).max()), float(np.abs(fixed).max(initial=0.0))), 0.0
    for block, T, b in zip(cp.blocks, factors, means.b, strict=True):
        penalty += float((np.linalg.lstsq(block.basis @ T[0], b[0].T)[0] ** 2).sum())
        part = (block.columns(design) * b[0][block.grouping.codes]).sum(axis=1)
        residual, largest = residual - part, max(largest, float(np.abs(part).max()))
    squares, heaviest = _squares(cp, residual, largest)
    r2, known, nu = squares + penalty, float(factor.r2[0]), degrees_of_freedom(cp, reml)
    return gap_and_bound(cp, r2, known, nu, 1.0 + largest * np.sqrt(heaviest * cp.n / max(known, 1e-300)))


def gap_and_bound(cp: CrossProducts, r2: float, known: float, nu: int, blurred: float) -> tuple[float, float]:
    """What two values of r2 make of the criterion, and what rounding explains of that."""
    if cp.sigma is not None:
        share = max(known, r2) / cp.sigma**2
        return abs(r2 - known) / cp.sigma**2, float(MARGIN * UNIT * (nu + share) * blurred)
    return abs(nu * float(np.log(max(r2, 1e-300) / max(known, 1e-300)))), float(MARGIN * UNIT * nu * blurred)


def _squares(cp: SummedDesign, residual: FloatArray, largest: float) -> tuple[float, float]:
    """Weighted sum of squares of residuals, and the largest weight with which their rounding enters."""
    weights, heavy = cp.design.row_weights, heavy_rows(cp.design)
    if weights is None:
        return float((residual**2).sum()), 1.0
    if heavy is None:
        return float((weights * residual**2).sum()), float(weights.max())
    # The model reproduces heavy rows to rounding, which their weight must not blow up; anything beyond it counts.
    beyond = np.maximum(np.abs(residual) - MARGIN * UNIT * largest, 0.0)
    left = np.where(heavy, beyond, residual)
    return float((weights * left**2).sum()), float(weights[~heavy].max())
