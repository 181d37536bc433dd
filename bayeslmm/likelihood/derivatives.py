"""Exact first and second derivatives of the profiled criteria at one point.

With ``S = Z' P0 Z`` and ``s = Z' P0 y`` (P0 the projection that removes the fixed effects under
``V0 = I + Z G Z'``; for ML the trace terms use V0^-1 in place of P0) the criterion's logarithmic part changes by
``tr(S dG)`` and ``r2`` by ``-s' dG s``, and each once more by ``-tr(S dG S dG')`` and ``2 s' dG S dG' s``. Only
the blocks of S that the covariance couples are formed. Everything is in terms of G = Lambda Lambda', so that a
zero variance is an ordinary point: the derivative in theta^2 at theta = 0 is an entry of the gradient in G.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.likelihood import large, small
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossproducts import CrossProducts, Moments
from bayeslmm.likelihood.factor import Factor, apply_lambda, whiten_first
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class _Sums:
    """Sums over the levels of the first block.

    With ``A_l = R'M^-1R``, ``B_l = R'M^-1E_l`` (m columns, y last), ``K_l = B_l Q B_l'`` and ``s_l = B_l v`` the
    blocks of S are ``S_ll' = [l = l'] A_l - B_l Q B_l''``.
    """

    A: FloatArray  # (c, c)
    BB: FloatArray  # (c, c, m, m)   sum B_l[a]' B_l[b]
    AA: FloatArray  # (c2, c2)   sum A_l[a, b] A_l[e, f], pairs of indices flattened
    KA: FloatArray  # (c2, c2)   sum K_l[a, b] A_l[e, f]
    SA: FloatArray  # (c2, c2)   sum s_l[a] s_l[b] A_l[e, f]


@dataclass(frozen=True)
class _Pieces:
    """Blocks of S and s, with t = q2 + p trailing columns.

    ``S_l2 = B_l R2``, ``S_22 = S22``; first index: which trace (the columns of X swept out, or not). The
    projections of y always have X swept out.
    """

    sums: _Sums
    Q: FloatArray  # (t, t)   with X
    Q_trace: FloatArray  # (t, t)   with or without X
    v: FloatArray  # (m,)   columns of the residual: (-solution, 1)
    R2: FloatArray  # (t, q2)
    R2_trace: FloatArray
    S22: FloatArray  # (q2, q2)
    S22_trace: FloatArray
    s2: FloatArray  # (q2,)


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the profiled criterion at one point.

    Attributes
    ----------
    blocks : tuple of FloatArray, each (c, c)
        Gradient in the relative covariance G of each block (symmetric; element (a, b) is the derivative
        along a change of G whose only entry is (a, b)).
    pieces : _Pieces
        Kept for second derivatives.
    """

    blocks: tuple[FloatArray, ...]
    pieces: _Pieces | large.Pieces
    nu: int
    r2: float

    @property
    def exact(self) -> bool:
        """Whether second derivatives are exact (a hierarchy has the average information)."""
        return isinstance(self.pieces, _Pieces)


def _sweep(L: FloatArray, factors: Sequence[FloatArray], cp: CrossProducts, t: int) -> FloatArray:
    """``[Lambda 0; 0 I] K^-1 [Lambda 0; 0 I]'`` for the leading t x t part of the joint matrix."""
    half = _inverse_lower(L[:t, :t])
    if cp.q_trailing:
        half = small.transpose(apply_lambda(cp, factors, small.transpose(half)[None], transposed=False))[0]
    return np.asarray(half.T @ half)


def _inverse_lower(L: FloatArray) -> FloatArray:
    if L.shape[0] < 64:  # SciPy's checks cost more than the solve
        return np.asarray(np.linalg.inv(L))
    return np.asarray(solve_triangular(L, np.eye(L.shape[0]), lower=True))


def _pieces(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, reml: bool) -> _Pieces:
    q2, t = cp.q_trailing, cp.q_trailing + cp.p
    D = factor.trailing[0]
    D_t, D_y = D[:-1, :-1], D[:-1, -1]
    Q = _sweep(factor.chol[0], factors[1:], cp, t)
    Q_trace = Q
    if not reml:
        Q_trace = np.zeros((t, t))
        Q_trace[:q2, :q2] = _sweep(factor.chol[0], factors[1:], cp, q2)
    x = Q @ D_y
    v = np.append(-x, 1.0)
    sums = _level_sums(cp, factors[0], factor, Q_trace, v)
    R2, S22 = _trailing_part(Q, D_t, q2)
    R2_trace, S22_trace = (R2, S22) if reml else _trailing_part(Q_trace, D_t, q2)
    s2 = D_y[:q2] - D_t[:q2] @ x
    return _Pieces(sums, Q, Q_trace, v, R2, R2_trace, S22, S22_trace, s2)


def _level_sums(cp: CrossProducts, T: FloatArray, factor: Factor, Q: FloatArray, v: FloatArray) -> _Sums:
    if cp.levels.moments is not None:
        return _sums_from_moments(cp.levels.moments, T, Q, v)
    lower, half = factor.first or whiten_first(cp, T)
    Y = small.solve_lower(lower[0], cp.levels.R)
    Yt = small.transpose(Y)
    A, B = small.dot(Yt, Y), small.dot(Yt, half[0])
    J, c, m = B.shape
    t = m - 1
    flat = B.reshape(J, c * m)
    BB = (flat.T @ flat).reshape(c, m, c, m).transpose(0, 2, 1, 3)
    K = small.dot(small.dot(B[..., :t], Q), small.transpose(B[..., :t])).reshape(J, c * c)
    s = B.reshape(J * c, m) @ v
    ss = small.dot(s.reshape(J, c, 1), s.reshape(J, 1, c)).reshape(J, c * c)
    pairs = A.reshape(J, c * c)
    return _Sums(A.sum(0), BB, pairs.T @ pairs, K.T @ pairs, ss.T @ pairs)


def _sums_from_moments(moments: Moments, T: FloatArray, Q: FloatArray, v: FloatArray) -> _Sums:
    """The same with levels that share R taken together."""
    U, c, m = moments.R.shape[0], moments.R.shape[1], v.size
    F = moments.R @ T[0]
    M = F @ small.transpose(F)
    diagonal = np.arange(c)
    M[:, diagonal, diagonal] += 1.0
    Y = small.solve_lower(small.cholesky(M), np.concatenate([moments.R, np.broadcast_to(np.eye(c), M.shape)], axis=2))
    A = small.transpose(Y[..., :c]) @ Y[..., :c]
    C = small.transpose(Y[..., :c]) @ Y[..., c:]
    both = (C[:, :, None, :, None] * C[:, None, :, None, :]).reshape(U, c * c, c * c)
    BB = both @ moments.sums.reshape(U, c * c, m * m)
    table = np.zeros((m, m))
    table[:-1, :-1] = Q
    forms = BB @ np.stack([table.ravel(), np.outer(v, v).ravel()], axis=1)
    pairs = A.reshape(U, c * c)
    counted = moments.counts[:, None] * pairs
    return _Sums(
        counted.sum(0).reshape(c, c),
        BB.sum(0).reshape(c, c, m, m),
        pairs.T @ counted,
        forms[..., 0].T @ pairs,
        forms[..., 1].T @ pairs,
    )


def _trailing_part(Q: FloatArray, D: FloatArray, q2: int) -> tuple[FloatArray, FloatArray]:
    if q2 == 0:
        return D[:, :0], D[:0, :0]
    R2 = np.eye(D.shape[0])[:, :q2] - Q @ D[:, :q2]
    return R2, D[:q2] @ R2


def derivatives(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, reml: bool = True) -> Derivatives:
    """Gradient of the profiled criterion in the covariance of every block.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors.
    factor : Factor
        ``evaluate(cp, factors)``.
    reml : bool

    Returns
    -------
    Derivatives
    """
    nu, r2 = degrees_of_freedom(cp, reml), float(factor.r2[0])
    scale = nu / r2
    if factor.hierarchy is not None and isinstance(cp.store, Hierarchy):
        eliminated, dense = factor.hierarchy
        solution = dense.scale(factor.solution.T.copy(), False)[:, 0]
        parts, kept = large.gradient(cp.store, eliminated, dense, solution, scale, reml)
        return Derivatives(tuple(parts), kept, nu, r2)
    pieces = _pieces(cp, factors, factor, reml)
    sums = pieces.sums
    between = np.tensordot(sums.BB[..., :-1, :-1], pieces.Q_trace, 2)
    blocks = [sums.A - between - scale * (sums.BB @ pieces.v) @ pieces.v]
    start = 0
    for block in cp.blocks[1:]:
        span = slice(start, start + block.q)
        tiles = _diagonal_tiles(pieces.S22_trace[span, span], block.size)
        s = pieces.s2[span].reshape(-1, block.size)
        blocks.append(tiles.sum(0) - scale * s.T @ s)
        start += block.q
    return Derivatives(tuple(blocks), pieces, nu, r2)


def _diagonal_tiles(matrix: FloatArray, size: int) -> FloatArray:
    levels = matrix.shape[0] // size
    tiles = matrix.reshape(levels, size, levels, size)
    return np.asarray(np.moveaxis(np.diagonal(tiles, axis1=0, axis2=2), -1, 0))


@dataclass(frozen=True)
class _Stack:
    """Contractions of the d directions of one block, stacked along the first axis."""

    gamma: FloatArray  # (d, c, c)
    s: FloatArray  # Gamma s, level by level (d, J, c)
    slope: FloatArray  # s' dG s (d,)


@dataclass(frozen=True)
class _FirstStack:
    """Contractions of the directions of the first block."""

    gamma: FloatArray  # (d, c, c)
    slope: FloatArray  # (d,)
    U: FloatArray  # sum B_l' Gamma B_l (d, t, t)
    v: FloatArray  # sum B_l' Gamma s_l (d, t)


def second_derivatives(cp: CrossProducts, first: Derivatives, directions: Sequence[FloatArray]) -> FloatArray:
    """Second derivatives of the profiled criterion along changes of G.

    Parameters
    ----------
    cp : CrossProducts
    first : Derivatives
        At the same point.
    directions : sequence of FloatArray, each (d_b, c, c)
        For every block the symmetric changes of its covariance; the result has them one block after the other.

    Returns
    -------
    FloatArray, shape (d, d)
        ``d^2 f [Gamma_a, Gamma_b]`` with sigma profiled out (curvature of G itself is not included).
    """
    pieces, scale = first.pieces, first.nu / first.r2
    if isinstance(pieces, large.Pieces):
        return large.information(pieces, directions, scale, first.r2)
    head = _stack_first(pieces, directions[0])
    tails, spans, start = list[_Stack](), list[slice](), 0
    for block, gamma in zip(cp.blocks[1:], directions[1:], strict=True):
        spans.append(slice(start, start + block.q))
        tails.append(_stack(pieces.s2[spans[-1]].reshape(-1, block.size), gamma))
        start += block.q
    slope = np.concatenate([head.slope, *(tail.slope for tail in tails)]) if tails else head.slope
    traces, curves = _assemble(pieces, head, tails, spans)
    return -traces + scale * (2.0 * curves - np.outer(slope, slope) / first.r2)


def _stack(s: FloatArray, gamma: FloatArray) -> _Stack:
    moved = s @ gamma
    return _Stack(gamma, moved, (moved * s).sum((1, 2)))


def _stack_first(pieces: _Pieces, gamma: FloatArray) -> _FirstStack:
    BB = pieces.sums.BB
    d, c, m = gamma.shape[0], gamma.shape[1], BB.shape[2]
    U = (gamma.reshape(d, c * c) @ BB.reshape(c * c, m * m)).reshape(d, m, m)
    v = U @ pieces.v
    return _FirstStack(gamma, v @ pieces.v, U[:, :-1, :-1], v[:, :-1])


def _assemble(
    pieces: _Pieces, head: _FirstStack, tails: Sequence[_Stack], spans: Sequence[slice]
) -> tuple[FloatArray, FloatArray]:
    """``tr(S dG_a S dG_b)`` and ``s' dG_a S dG_b s`` for all pairs."""
    if not tails:
        return _pair_first(pieces, head)
    ends = np.cumsum([0, head.gamma.shape[0], *(tail.gamma.shape[0] for tail in tails)])
    rows = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    traces, curves = np.empty((ends[-1], ends[-1])), np.empty((ends[-1], ends[-1]))

    def put(i: int, j: int, pair: tuple[FloatArray, FloatArray]) -> None:
        traces[rows[i], rows[j]], curves[rows[i], rows[j]] = pair
        traces[rows[j], rows[i]], curves[rows[j], rows[i]] = pair[0].T, pair[1].T

    put(0, 0, _pair_first(pieces, head))
    for i, (tail, span) in enumerate(zip(tails, spans, strict=True), start=1):
        put(0, i, _pair_mixed(pieces, head, tail, span))
        for j in range(1, i + 1):
            put(i, j, _pair_trailing(pieces, (tail, span), (tails[j - 1], spans[j - 1])))
    return traces, curves


def _inner(a: FloatArray, b: FloatArray) -> FloatArray:
    """All inner products of two stacks over everything but their first axis."""
    size = math.prod(a.shape[1:])
    return np.asarray(a.reshape(a.shape[0], size) @ b.reshape(b.shape[0], size).T)


def _pair_first(pieces: _Pieces, x: _FirstStack) -> tuple[FloatArray, FloatArray]:
    # With S = A - B Q B' level by level: tr(A Ga A Gb) - 2 tr(K Ga A Gb) + tr(Q U_a Q U_b).
    sums, (d, c) = pieces.sums, x.gamma.shape[:2]
    gamma = x.gamma.reshape(d, c * c)
    local = np.stack([sums.AA - sums.KA - sums.KA.T, sums.SA]).reshape(2, c, c, c, c)
    # tr(P Ga N Gb) = sum P[a, b] Ga[b, e] N[e, f] Gb[f, a]
    kernel = local.transpose(0, 2, 3, 4, 1).reshape(2, c * c, c * c)
    trace, curve = gamma @ kernel @ gamma.T
    QU = pieces.Q_trace @ x.U
    trace = trace + _inner(QU, small.transpose(QU))
    return trace, curve - x.v @ pieces.Q @ x.v.T


def _pair_mixed(pieces: _Pieces, a: _FirstStack, b: _Stack, span: slice) -> tuple[FloatArray, FloatArray]:
    R2 = pieces.R2_trace[:, span]
    c = b.gamma.shape[-1]
    inner = (R2.T @ a.U @ R2).reshape(a.U.shape[0], -1, c, R2.shape[1] // c, c)
    tiles = np.diagonal(inner, axis1=1, axis2=3).sum(-1)
    return _inner(tiles, b.gamma), a.v @ pieces.R2[:, span] @ b.s.reshape(b.s.shape[0], -1).T


def _pair_trailing(pieces: _Pieces, a: tuple[_Stack, slice], b: tuple[_Stack, slice]) -> tuple[FloatArray, FloatArray]:
    (x, rows), (z, columns) = a, b
    ca, cb = x.gamma.shape[-1], z.gamma.shape[-1]
    S = pieces.S22_trace[rows, columns]
    tiles = np.moveaxis(S.reshape(-1, ca, S.shape[1] // cb, cb), 2, 1)
    left = x.gamma[:, None, None] @ tiles
    right = tiles @ z.gamma[:, None, None]
    S_s = pieces.S22[rows, columns]
    curve = x.s.reshape(x.s.shape[0], -1) @ S_s @ z.s.reshape(z.s.shape[0], -1).T
    return _inner(left, right), curve
