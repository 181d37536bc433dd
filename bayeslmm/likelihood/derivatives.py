"""Exact first and second derivatives of the profiled criteria at one point.

With ``S = Z' P0 Z`` and ``s = Z' P0 y`` (P0 the projection that removes the fixed effects under
``V0 = I + Z G Z'``; for ML the trace terms use V0^-1 in place of P0) the criterion's logarithmic part changes by
``tr(S dG)`` and ``r2`` by ``-s' dG s``, and each once more by ``-tr(S dG S dG')`` and ``2 s' dG S dG' s``. Only
the blocks of S that the covariance couples are formed. Everything is in terms of G = Lambda Lambda', so that a
zero variance is an ordinary point: the derivative in theta^2 at theta = 0 is an entry of the gradient in G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from bayeslmm.likelihood import small
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.factor import Factor, apply_lambda, whiten_first
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class _Pieces:
    """Blocks of S and s, with J, c of the first block, t = q2 + p trailing columns.

    ``S_ll' = [l = l'] A_l - B_l Q B_l''``, ``S_l2 = B_l R2``, ``S_22 = S22``; first index: which trace (the
    columns of X swept out, or not). The projections of y always have X swept out.
    """

    A: FloatArray  # (J, c, c)
    B: FloatArray  # (J, c, t)
    Q: FloatArray  # (t, t)   with X
    Q_trace: FloatArray  # (t, t)   with or without X
    R2: FloatArray  # (t, q2)
    R2_trace: FloatArray
    S22: FloatArray  # (q2, q2)
    S22_trace: FloatArray
    s1: FloatArray  # (J, c)
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
    pieces: _Pieces
    nu: int
    r2: float


def _sweep(L: FloatArray, factors: Sequence[FloatArray], cp: CrossProducts, t: int) -> FloatArray:
    """``[Lambda 0; 0 I] K^-1 [Lambda 0; 0 I]'`` for the leading t x t part of the joint matrix."""
    half = solve_triangular(L[:t, :t], np.eye(t), lower=True)
    if cp.q_trailing:
        half = small.transpose(
            apply_lambda(cp, factors, small.transpose(half)[None], transposed=False)
        )[0]
    return np.asarray(half.T @ half)


def _pieces(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, reml: bool) -> _Pieces:
    q2, t = cp.q_trailing, cp.q_trailing + cp.p
    lower, half = whiten_first(cp, factors[0])
    Y = small.solve_lower(lower, np.broadcast_to(cp.R, lower.shape))[0]
    Yt = small.transpose(Y)
    B_all = Yt @ half[0]
    B, B_y = B_all[..., :-1], B_all[..., -1]
    D = factor.trailing[0]
    D_t, D_y = D[:-1, :-1], D[:-1, -1]
    Q = _sweep(factor.chol[0], factors[1:], cp, t)
    Q_trace = Q
    if not reml:
        Q_trace = np.zeros((t, t))
        Q_trace[:q2, :q2] = _sweep(factor.chol[0], factors[1:], cp, q2)
    x = Q @ D_y
    R2, S22 = _trailing_part(Q, D_t, q2)
    R2_trace, S22_trace = _trailing_part(Q_trace, D_t, q2)
    s2 = D_y[:q2] - D_t[:q2] @ x
    return _Pieces(
        Yt @ Y, B, Q, Q_trace, R2, R2_trace, S22, S22_trace, B_y - B @ x, np.asarray(s2)
    )


def _trailing_part(Q: FloatArray, D: FloatArray, q2: int) -> tuple[FloatArray, FloatArray]:
    R2 = np.eye(D.shape[0])[:, :q2] - Q @ D[:, :q2]
    return R2, D[:q2] @ R2


def derivatives(
    cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, reml: bool = True
) -> Derivatives:
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
    pieces = _pieces(cp, factors, factor, reml)
    nu, r2 = degrees_of_freedom(cp, reml), float(factor.r2[0])
    scale = nu / r2
    c = cp.blocks[0].size
    rows = pieces.B.reshape(-1, pieces.B.shape[-1])
    swept = (rows @ pieces.Q_trace).reshape(pieces.B.shape)
    N = pieces.A.sum(0) - np.tensordot(swept, pieces.B, ([0, 2], [0, 2]))
    blocks = [N.reshape(c, c) - scale * pieces.s1.T @ pieces.s1]
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


type Direction = tuple[int, FloatArray]


def second_derivatives(
    cp: CrossProducts, first: Derivatives, directions: Sequence[Direction]
) -> FloatArray:
    """Second derivatives of the profiled criterion along changes of G.

    Parameters
    ----------
    cp : CrossProducts
    first : Derivatives
        At the same point.
    directions : sequence of (block, Gamma)
        Index of the block and the symmetric change (c, c) of its covariance.

    Returns
    -------
    FloatArray, shape (d, d)
        ``d^2 f [Gamma_a, Gamma_b]`` with sigma profiled out (curvature of G itself is not included).
    """
    pieces, scale = first.pieces, first.nu / first.r2
    slope = np.array([_slope(cp, pieces, direction) for direction in directions])
    traces, curves = _pairings(cp, pieces, directions)
    return -traces + scale * (2.0 * curves - np.outer(slope, slope) / first.r2)


def _slope(cp: CrossProducts, pieces: _Pieces, direction: Direction) -> float:
    """``s' dG s``."""
    s = _level_parts(cp, pieces, direction[0])
    return float(np.einsum("la,ab,lb->", s, direction[1], s))


def _level_parts(cp: CrossProducts, pieces: _Pieces, block: int) -> FloatArray:
    if block == 0:
        return pieces.s1
    start = sum(b.q for b in cp.blocks[1:block])
    return pieces.s2[start : start + cp.blocks[block].q].reshape(-1, cp.blocks[block].size)


@dataclass(frozen=True)
class _FirstBlock:
    """Contractions of a direction of the first block."""

    A: FloatArray  # A_l Gamma (J, c, c)
    U: FloatArray  # sum B_l' Gamma B_l (t, t)
    GB: FloatArray  # Gamma B_l (J, c, t)
    s: FloatArray  # Gamma s_l (J, c)
    v: FloatArray  # sum B_l' Gamma s_l (t,)


@dataclass(frozen=True)
class _Trailing:
    """Contractions of a direction of a trailing block."""

    expand: FloatArray  # (I (x) Gamma) s2, zero outside its block (q2,)
    gamma: FloatArray
    span: slice


def _prepare_first(pieces: _Pieces, gamma: FloatArray) -> _FirstBlock:
    GB = gamma @ pieces.B
    t = pieces.B.shape[-1]
    U = pieces.B.reshape(-1, t).T @ GB.reshape(-1, t)
    s = pieces.s1 @ gamma
    v = np.tensordot(pieces.B, s, ([0, 1], [0, 1]))
    return _FirstBlock(pieces.A @ gamma, U, GB, s, v)


def _prepare_trailing(cp: CrossProducts, pieces: _Pieces, direction: Direction) -> _Trailing:
    block = cp.blocks[direction[0]]
    start = sum(b.q for b in cp.blocks[1 : direction[0]])
    span = slice(start, start + block.q)
    expand = np.zeros(pieces.s2.shape)
    expand[span] = (pieces.s2[span].reshape(-1, block.size) @ direction[1]).ravel()
    return _Trailing(expand, direction[1], span)


def _pairings(
    cp: CrossProducts, pieces: _Pieces, directions: Sequence[Direction]
) -> tuple[FloatArray, FloatArray]:
    """``tr(S dG_a S dG_b)`` and ``s' dG_a S dG_b s`` for all pairs."""
    prepared = [
        _prepare_first(pieces, gamma) if block == 0 else _prepare_trailing(cp, pieces, (block, gamma))
        for block, gamma in directions
    ]
    d = len(prepared)
    traces, curves = np.empty((d, d)), np.empty((d, d))
    for a in range(d):
        for b in range(a + 1):
            pair = _pair(pieces, prepared[a], prepared[b])
            traces[a, b], curves[a, b] = pair
            traces[b, a], curves[b, a] = pair
    return traces, curves


def _pair(
    pieces: _Pieces, a: _FirstBlock | _Trailing, b: _FirstBlock | _Trailing
) -> tuple[float, float]:
    if isinstance(a, _FirstBlock) and isinstance(b, _FirstBlock):
        return _pair_first(pieces, a, b)
    if isinstance(a, _Trailing) and isinstance(b, _Trailing):
        return _pair_trailing(pieces, a, b)
    if isinstance(a, _Trailing):
        a, b = b, a
    assert isinstance(a, _FirstBlock) and isinstance(b, _Trailing)
    return _pair_mixed(pieces, a, b)


def _pair_first(pieces: _Pieces, a: _FirstBlock, b: _FirstBlock) -> tuple[float, float]:
    Q = pieces.Q_trace
    cross = np.einsum("lij,lji->", a.A, b.A)
    AGB = pieces.A @ b.GB
    t = Q.shape[0]
    cross -= 2.0 * ((a.GB.reshape(-1, t).T @ AGB.reshape(-1, t)) * Q).sum()
    cross += np.einsum("ij,ji->", Q @ a.U, Q @ b.U)
    curve = np.einsum("li,lij,lj->", a.s, pieces.A, b.s) - a.v @ pieces.Q @ b.v
    return float(cross), float(curve)


def _pair_mixed(pieces: _Pieces, a: _FirstBlock, b: _Trailing) -> tuple[float, float]:
    R2 = pieces.R2_trace
    inner = R2[:, b.span].T @ a.U @ R2[:, b.span]
    tiles = _diagonal_tiles(inner, b.gamma.shape[0]).sum(0)
    curve = a.v @ pieces.R2 @ b.expand
    return float((tiles * b.gamma).sum()), float(curve)


def _pair_trailing(pieces: _Pieces, a: _Trailing, b: _Trailing) -> tuple[float, float]:
    S = pieces.S22_trace[a.span, b.span]
    ca, cb = a.gamma.shape[0], b.gamma.shape[0]
    tiles = S.reshape(-1, ca, S.shape[1] // cb, cb)
    left = np.einsum("lamb,bd->lamd", tiles, b.gamma)
    trace = np.einsum("lamd,lcmd,ca->", left, tiles, a.gamma)
    return float(trace), float(a.expand @ pieces.S22 @ b.expand)
