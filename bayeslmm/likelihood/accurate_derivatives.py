"""First and second derivatives of the criterion from an evaluation with all digits.

Changes of a covariance are taken in the metric of its own factor, where a small change of a huge variance is a small
number and nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.accurate import Accurate, AccurateRows, BlockRows
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.types import FloatArray

# Directions with a relative sd below this are expressed by their columns, others by their effects.
_BY_EFFECT = 0.1


@dataclass(frozen=True)
class AccurateDerivatives:
    """First derivatives of the criterion in a metric in which nothing cancels, and what second ones need.

    Attributes
    ----------
    metric : tuple of FloatArray, each (c, c)
        Regular M of each block, the internal relative factor where that is regular: a change of the covariance is
        ``M A M'``.
    S, S_trace : FloatArray, shape (q, q)
        ``(I (x) M)' Z' P0 Z (I (x) M)``; for the traces with V0^-1 in place of P0 for ML.
    s : FloatArray, shape (q,)
        ``(I (x) M)' Z' P0 y``.
    scale, r2 : float
        nu / r2, and r2.
    """

    metric: tuple[FloatArray, ...]
    S: FloatArray
    S_trace: FloatArray
    s: FloatArray
    scale: float
    r2: float


def accurate_derivatives(point: Accurate, reml: bool) -> AccurateDerivatives:
    """What the gradient and Hessian at a point are made from."""
    rows, q = point.rows, point.rows.q
    n = rows.X.shape[0]
    columns, metric = np.zeros((n + q, q)), list[FloatArray]()
    for block, T in zip(rows.blocks, point.factors, strict=True):
        M = _express(rows, block, T, columns)
        metric.append(M)
    residual, right = _residuals(point.G[:, :-1], columns), point.G[:, -1] * np.sqrt(point.r2)
    S = residual.T @ residual
    without = residual if reml else _residuals(point.G[:, :q], columns)
    nu = degrees_of_freedom(rows.cp, reml)
    sigma = rows.cp.sigma
    scale, r2 = (nu / point.r2, point.r2) if sigma is None else (1.0 / sigma**2, float("inf"))
    return AccurateDerivatives(tuple(metric), S, S if reml else without.T @ without, residual.T @ right, scale, r2)


def _express(rows: AccurateRows, block: BlockRows, T: FloatArray, columns: FloatArray) -> FloatArray:
    """Fill in vectors (n + q, J c) that have the residuals of ``[Z (I (x) M); 0]``; M (c, c).

    ``[Z Lambda; 0]`` and ``-[0; I]`` differ by columns of F, so that their residuals are the same.
    """
    n, c, J = rows.X.shape[0], block.size, block.n_levels
    U, s, Vt = np.linalg.svd(T)
    by_effect = s >= _BY_EFFECT
    M = U * np.where(by_effect, s, 1.0)
    if by_effect.all():
        # The factor itself has its rows to all digits.
        M, Vt = T, np.eye(c)
    tiles = columns[n:].reshape(-1, columns.shape[1])[block.start : block.stop, block.start : block.stop]
    tiles[:] = -np.kron(np.eye(J), np.where(by_effect, Vt.T, 0.0))
    if not by_effect.all():
        Z = (block.Z @ block.basis @ U)[:, ~by_effect]
        Z = Z if rows.root is None else Z * rows.root[:, None]
        place = block.start + block.codes[:, None] * c + np.flatnonzero(~by_effect)
        columns[np.arange(n)[:, None], place] = Z
    return M


def _residuals(G: FloatArray, columns: FloatArray) -> FloatArray:
    rest = columns - G @ (G.T @ columns)
    return np.asarray(rest - G @ (G.T @ rest))


def accurate_gradient(
    cp: CrossProducts, internal: FloatArray, first: AccurateDerivatives
) -> tuple[FloatArray, FloatArray]:
    """Gradient (k,) and Hessian (k, k) of the profiled criterion in the internal vector (k,)."""
    slices, changes, local = list[slice](), list[FloatArray](), list[FloatArray]()
    gradient = list[FloatArray]()
    for b, columns, _, entries, structure in cp.frame.terms:
        block, M, x = cp.blocks[b], first.metric[b], internal[entries]
        span, inverse = cp.frame.spans[b], np.linalg.inv(M)
        slopes = _slopes(first, span, block.size)
        W = par.frame(cp, b, columns, structure)
        outer = np.eye(block.size)[:, columns]
        to_metric = inverse @ (outer if W is None else outer @ W)
        A = to_metric @ structure.directions(x) @ to_metric.T
        gradient.append((A * slopes).sum(axis=(1, 2)))
        changes += list(A)
        slices += [span] * len(A)
        local.append(structure.curvature(x, to_metric.T @ slopes @ to_metric))
    return np.concatenate(gradient), _second(first, slices, changes, local)


def block_slopes(cp: CrossProducts, first: AccurateDerivatives) -> list[FloatArray]:
    """Derivatives (c, c) of the criterion in a change A of the covariance ``M A M'`` of each block."""
    return [_slopes(first, span, block.size) for block, span in zip(cp.blocks, cp.frame.spans, strict=True)]


def _slopes(first: AccurateDerivatives, span: slice, c: int) -> FloatArray:
    """Derivatives of the criterion in A of one block, summed over its levels, (c, c)."""
    tiles = first.S_trace[span, span]
    J = tiles.shape[0] // c
    tiles = tiles.reshape(J, c, J, c)
    s = first.s[span].reshape(J, c)
    return np.asarray(np.einsum("iaib->ab", tiles) - first.scale * (s.T @ s))


def _second(
    first: AccurateDerivatives, slices: list[slice], changes: list[FloatArray], local: list[FloatArray]
) -> FloatArray:
    moved = [_columns_times(first.S_trace[:, span], A) for span, A in zip(slices, changes, strict=True)]
    score = [_columns_times(first.s[None, span], A)[0] for span, A in zip(slices, changes, strict=True)]
    squares = np.array([float(one @ first.s[span]) for one, span in zip(score, slices, strict=True)])
    k = len(changes)
    H = np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1):
            trace = float((moved[i][slices[j]] * moved[j][slices[i]].T).sum())
            square = float(score[i] @ first.S[slices[i], slices[j]] @ score[j])
            H[i, j] = H[j, i] = -trace + 2.0 * first.scale * square
    H -= first.scale * np.outer(squares, squares) / first.r2
    start = 0
    for part in local:
        stop = start + part.shape[0]
        H[start:stop, start:stop] += part
        start = stop
    return H


def _columns_times(columns: FloatArray, A: FloatArray) -> FloatArray:
    """``columns (I (x) A)``."""
    rows, c = columns.shape[0], A.shape[0]
    return (columns.reshape(rows, -1, c) @ A).reshape(rows, -1)
