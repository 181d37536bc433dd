"""Exact first and second derivatives of the profiled criteria, at one or many points.

With ``S = Z' P0 Z`` and ``s = Z' P0 y`` (P0 the projection that removes the fixed effects under
``V0 = I + Z G Z'``; for ML the trace terms use V0^-1 in place of P0) the criterion's logarithmic part changes by
``tr(S dG)`` and ``r2`` by ``-s' dG s``, and each once more by ``-tr(S dG S dG')`` and ``2 s' dG S dG' s``. Only
the blocks of S that the covariance couples are formed. Everything is in terms of G = Lambda Lambda', so that a
zero variance is an ordinary point: the derivative in theta^2 at theta = 0 is an entry of the gradient in G.

The first axis of every array counts points. Sums over the levels of the first block are formed once; what
follows does not depend on their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy.linalg import lapack

from bayeslmm.likelihood import small
from bayeslmm.likelihood.factor import Factor, apply_lambda
from bayeslmm.likelihood.level_sums import LevelSums, Moments
from bayeslmm.likelihood.tiles import diagonal_tiles, trailing_tiles
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class _Sums:
    """Sums over the levels of the first block.

    With ``A_l = R'M^-1R``, ``B_l = R'M^-1E_l`` (m columns, y last), ``K_l = B_l Q B_l'`` and ``s_l = B_l v`` the
    blocks of S are ``S_ll' = [l = l'] A_l - B_l Q B_l''``. Pairs of indices are flattened (c2 = c^2, m2 = m^2).
    """

    A: FloatArray  # (K, c2)
    BB: FloatArray  # (K, c2, m2)   sum B_l[a]' B_l[b]
    KK: FloatArray  # (K, c2)   sum K_l
    SS: FloatArray  # (K, c2)   sum s_l s_l'
    AA: FloatArray  # (K, c2, c2)   sum A_l[a, b] A_l[e, f]
    KA: FloatArray  # (K, c2, c2)   sum K_l[a, b] A_l[e, f]
    SA: FloatArray  # (K, c2, c2)   sum s_l[a] s_l[b] A_l[e, f]


@dataclass(frozen=True)
class _Trailing:
    """The trailing random effects, with t = q2 + p trailing columns: ``S_l2 = B_l R2`` and ``S_22``.

    For the traces the columns of X are swept out, or not; the projections of y always have them swept out.
    """

    R2: FloatArray  # (K, t, q2)
    R2_trace: FloatArray
    S22: FloatArray  # (K, q2, q2)
    S22_trace: FloatArray
    s2: FloatArray  # (K, q2)
    tiles: tuple[FloatArray, ...]  # (K, c, c) each, sum of the diagonal tiles of S_22 for the traces
    spans: tuple[slice, ...]  # effects of each trailing block


class SecondOrder(Protocol):
    """What second derivatives are made from, by the sums that the first ones come from.

    Directions are changes of G, for every block an array (K, d_b, c, c) of symmetric matrices.
    """

    @property
    def exact(self) -> bool:
        """Whether `second` is exact unless told to be cheap, or the average information."""

    def second(
        self, directions: Sequence[FloatArray], scale: FloatArray, r2: FloatArray, traces_of: bool | None
    ) -> FloatArray:
        """Second derivatives (K, d, d) of the profiled criterion, scale (K,) being ``nu / r2``; see `Derivatives`."""

    def traces(self, directions: Sequence[FloatArray]) -> FloatArray:
        """``tr(S dG S dG')`` of all pairs (K, d, d), with S by REML or ML as for the first derivatives."""

    def information(self, directions: Sequence[FloatArray], scale: float) -> tuple[FloatArray, FloatArray]:
        """``tr(S dG S dG')`` (d, d) and ``tr(S dG)`` (d,) at one point along changes (d_b, c, c).

        Or what is expected to be the same: ``scale`` times the squares of the response.
        """

    def affordable(self, parameters: int) -> bool:
        """Whether exact second derivatives cost less than differences of the gradient."""


@dataclass(frozen=True)
class LevelPieces:
    """What the derivatives are made from."""

    sums: _Sums
    Q: FloatArray  # (K, t, t)   with X
    Q_trace: FloatArray  # (K, t, t)   with or without X
    v: FloatArray  # (K, m)   columns of the residual: (-solution, 1)
    trailing: _Trailing | None

    @property
    def exact(self) -> bool:
        return True

    def affordable(self, parameters: int) -> bool:
        """They are at hand."""
        return True

    def second(
        self, directions: Sequence[FloatArray], scale: FloatArray, r2: FloatArray, traces_of: bool | None
    ) -> FloatArray:
        """See `SecondOrder`; exact for REML or ML as the first derivatives were."""
        traces, curves, slope = self._pairs(directions)
        products = slope[:, :, None] * slope[:, None, :]
        return np.asarray(scale[:, None, None] * (2.0 * curves - products / r2[:, None, None]) - traces)

    def traces(self, directions: Sequence[FloatArray]) -> FloatArray:
        """See `SecondOrder`."""
        return self._pairs(directions)[0]

    def information(self, directions: Sequence[FloatArray], scale: float) -> tuple[FloatArray, FloatArray]:
        """See `SecondOrder`; exact."""
        c = directions[0].shape[-1]
        sums = [(self.sums.A - self.sums.KK)[0].reshape(c, c)]
        if self.trailing is not None:
            for span, gamma in zip(self.trailing.spans, directions[1:], strict=True):
                sums.append(diagonal_tiles(self.trailing.S22_trace[:, span, span], gamma.shape[-1])[0])
        slopes = [np.tensordot(gamma, S, 2) for gamma, S in zip(directions, sums, strict=True)]
        return self.traces([gamma[None] for gamma in directions])[0], np.concatenate(slopes)

    def _pairs(self, directions: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``tr(S dG S dG')``, ``s' dG S dG' s`` and ``s' dG s`` of all (pairs of) directions."""
        head = stack_first(self, directions[0])
        spans = () if self.trailing is None else self.trailing.spans
        tails = [stack(self.trailing, span, gamma) for span, gamma in zip(spans, directions[1:], strict=True)]
        slope = np.concatenate([head.slope, *(tail.slope for tail in tails)], axis=1) if tails else head.slope
        return *assemble(self, head, tails, spans), slope


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the profiled criterion.

    Attributes
    ----------
    traces, squares : tuple of FloatArray, each (K, c, c)
        Derivatives of the logarithmic part, and of minus r2, in the relative covariance G of each block (symmetric;
        element (a, b) is the derivative along a change of G whose only entry is (a, b)).
    pieces : SecondOrder
        Kept for second derivatives.
    scale : FloatArray, shape (K,)
        nu / r2.
    r2 : FloatArray, shape (K,)
    """

    traces: tuple[FloatArray, ...]
    squares: tuple[FloatArray, ...]
    pieces: SecondOrder
    scale: FloatArray
    r2: FloatArray

    @cached_property
    def blocks(self) -> tuple[FloatArray, ...]:
        """Gradient of the profiled criterion in G of each block, each (K, c, c)."""
        scale = self.scale[:, None, None]
        return tuple(trace - scale * square for trace, square in zip(self.traces, self.squares, strict=True))

    @property
    def exact(self) -> bool:
        """Whether second derivatives are exact (a hierarchy has the average information)."""
        return self.pieces.exact

    def second(self, directions: Sequence[FloatArray], traces_of: bool | None = None) -> FloatArray:
        """Second derivatives of the profiled criterion along changes of G.

        Parameters
        ----------
        directions : sequence of FloatArray, each (K, d_b, c, c)
            For every block the symmetric changes of its covariance; the result has them one block after the other.
        traces_of : bool, optional
            The exact trace terms of a hierarchy too, by REML (True) or ML; by default the average information.

        Returns
        -------
        FloatArray, shape (K, d, d)
            ``d^2 f [Gamma_a, Gamma_b]`` with sigma profiled out (curvature of G itself is not included).
        """
        return self.pieces.second(directions, self.scale, self.r2, traces_of)


def level_derivatives(s: LevelSums, factors: Sequence[FloatArray], factor: Factor, nu: int, reml: bool) -> Derivatives:
    """Gradient of the profiled criterion in the covariance of every block; see `criteria.derivatives`."""
    r2 = factor.r2
    scale = nu / r2
    pieces = _pieces(s, factors, factor, reml)
    K, c = scale.size, s.blocks[0].size
    traces = [(pieces.sums.A - pieces.sums.KK).reshape(K, c, c)]
    squares = [pieces.sums.SS.reshape(K, c, c)]
    if pieces.trailing is not None:
        for block, span in s.frame.trailing_spans:
            own = pieces.trailing.s2[:, span].reshape(K, block.n_levels, block.size)
            squares.append(small.transpose(own) @ own)
        traces += pieces.trailing.tiles
    return Derivatives(tuple(traces), tuple(squares), pieces, scale, r2)


def _pieces(s: LevelSums, factors: Sequence[FloatArray], factor: Factor, reml: bool) -> LevelPieces:
    q2, t, K = s.q_trailing, s.q_trailing + s.p, factor.r2.size
    D = factor.trailing
    Q, inverse = _sweep(factor.chol, factors[1:], s, t)
    Q_trace = Q
    if not reml:
        Q_trace = np.zeros((K, t, t))
        if q2:
            Q_trace[:, :q2, :q2], inverse = _sweep(factor.chol, factors[1:], s, q2)
    v = factor.residual
    sums = _level_sums(s, factors[0], factor, Q_trace, v)
    if not q2:
        return LevelPieces(sums, Q, Q_trace, v, None)
    R2, S22 = _trailing_part(Q, D, q2)
    R2_trace, S22_trace = (R2, S22) if reml else _trailing_part(Q_trace, D, q2)
    s2 = (D[:, :q2] @ v[..., None])[..., 0]
    tiles = trailing_tiles(s, factors[1:], S22_trace, inverse)
    spans = tuple(span for _, span in s.frame.trailing_spans)
    return LevelPieces(sums, Q, Q_trace, v, _Trailing(R2, R2_trace, S22, S22_trace, s2, tiles, spans))


def _sweep(L: FloatArray, factors: Sequence[FloatArray], s: LevelSums, t: int) -> tuple[FloatArray, FloatArray]:
    """``[Lambda 0; 0 I] K^-1 [Lambda 0; 0 I]'`` for the leading t x t part of the joint matrix, and ``L^-1``."""
    single = L.shape[0] == 1 and t > 0
    half = lapack.dtrtri(L[0, :t, :t], lower=1)[0][None] if single else np.linalg.inv(L[:, :t, :t])
    inverse = half
    if s.q_trailing:
        half = small.transpose(apply_lambda(s.frame, factors, small.transpose(half), transposed=False))
    return np.asarray(small.transpose(half) @ half), inverse


def _trailing_part(Q: FloatArray, D: FloatArray, q2: int) -> tuple[FloatArray, FloatArray]:
    R2 = small.add_identity(-(Q @ D[:, :-1, :q2]), q2)
    return R2, D[:, :q2, :-1] @ R2


def _level_sums(s: LevelSums, T: FloatArray, factor: Factor, Q: FloatArray, v: FloatArray) -> _Sums:
    K, m = v.shape
    table = np.zeros((K, m, m, 2))
    table[:, :-1, :-1, 0] = Q
    table[..., 1] = v[:, :, None] * v[:, None, :]
    if s.moments is not None and not factor.replicated:
        return _sums_from_moments(s.moments, T, table.reshape(K, m * m, 2))
    if factor.first is None:
        raise TypeError("derivatives at many points need evaluate(..., keep=True)")
    lower, half = factor.first
    Y = small.solve_lower(lower, s.by_point[0])
    Yt = small.transpose(Y)
    A, B = small.dot(Yt, Y), small.dot(Yt, half)
    J, c = B.shape[1:3]
    flat = B.reshape(K, J, c * m)
    BB = (small.transpose(flat) @ flat).reshape(K, c, m, c, m).transpose(0, 1, 3, 2, 4).reshape(K, c * c, m * m)
    rows = B.reshape(K, J * c, m)
    swept = (rows[..., :-1] @ Q).reshape(K, J, c, m - 1)
    forms = small.dot(swept, small.transpose(B[..., :-1])).reshape(K, J, c * c)
    projected = (rows @ v[..., None]).reshape(K, J, c)
    ss = (projected[..., :, None] * projected[..., None, :]).reshape(K, J, c * c)
    pairs = A.reshape(K, J, c * c)
    return _Sums(
        pairs.sum(1),
        BB,
        forms.sum(1),
        ss.sum(1),
        small.transpose(pairs) @ pairs,
        small.transpose(forms) @ pairs,
        small.transpose(ss) @ pairs,
    )


def _sums_from_moments(moments: Moments, T: FloatArray, table: FloatArray) -> _Sums:
    """The same with levels that share R taken together; tables (K, m2, 2) of Q and of v v'."""
    K, m2 = table.shape[:2]
    U, c = moments.R.shape[:2]
    F = moments.R @ T[:, None]
    M = F @ small.transpose(F)
    small.add_identity(M)
    if c == 1:
        C = moments.R / M
        A = C * moments.R
        both = C * C
    else:
        lower = small.cholesky(M)
        Y = small.solve_lower(lower, moments.R[None])
        A = small.transpose(Y) @ Y
        C = small.transpose(Y) @ small.solve_lower(lower, np.eye(c)[None, None])
        both = (C[..., :, None, :, None] * C[..., None, :, None, :]).reshape(K, U, c * c, c * c)
    BB = both @ moments.sums.reshape(U, c * c, m2)
    forms = BB @ table[:, None]
    pairs = A.reshape(K, U, c * c)
    counted = moments.counts[:, None] * pairs
    KK, SS = forms[..., 0], forms[..., 1]
    return _Sums(
        counted.sum(1),
        BB.sum(1),
        KK.sum(1),
        SS.sum(1),
        small.transpose(pairs) @ counted,
        small.transpose(KK) @ pairs,
        small.transpose(SS) @ pairs,
    )


@dataclass(frozen=True)
class Stack:
    """Contractions of the d directions of one trailing block."""

    gamma: FloatArray  # (K, d, c, c)
    s: FloatArray  # Gamma s, level by level (K, d, J c)
    slope: FloatArray  # s' dG s (K, d)


@dataclass(frozen=True)
class FirstStack:
    """Contractions of the directions of the first block."""

    gamma: FloatArray  # (K, d, c, c)
    slope: FloatArray  # (K, d)
    U: FloatArray  # sum B_l' Gamma B_l (K, d, t, t)
    v: FloatArray  # sum B_l' Gamma s_l (K, d, t)


def stack(trailing: _Trailing | None, span: slice, gamma: FloatArray) -> Stack:
    """Directions (K, d, c, c) of a trailing block with what they do to its part of s."""
    assert trailing is not None
    K, d, c = gamma.shape[:3]
    s = trailing.s2[:, None, span].reshape(K, 1, -1, c)
    moved = s @ gamma
    return Stack(gamma, moved.reshape(K, d, -1), (moved * s).sum((2, 3)))


def stack_first(pieces: LevelPieces, gamma: FloatArray) -> FirstStack:
    """The same for the first block, from sums over its levels."""
    (K, d, c), m = gamma.shape[:3], pieces.v.shape[1]
    U = (gamma.reshape(K, d, c * c) @ pieces.sums.BB).reshape(K, d, m, m)
    v = (U @ pieces.v[:, None, :, None])[..., 0]
    return FirstStack(gamma, (v * pieces.v[:, None]).sum(-1), U[..., :-1, :-1], v[..., :-1])


def assemble(
    pieces: LevelPieces, head: FirstStack, tails: Sequence[Stack], spans: Sequence[slice]
) -> tuple[FloatArray, FloatArray]:
    """``tr(S dG_a S dG_b)`` and ``s' dG_a S dG_b s`` for all pairs."""
    if not tails or pieces.trailing is None:
        return _pair_first(pieces, head)
    ends = np.cumsum([0, head.gamma.shape[1], *(tail.gamma.shape[1] for tail in tails)])
    rows = [slice(int(a), int(b)) for a, b in pairwise(ends)]
    shape = (head.gamma.shape[0], int(ends[-1]), int(ends[-1]))
    traces, curves = np.empty(shape), np.empty(shape)

    def put(i: int, j: int, pair: tuple[FloatArray, FloatArray]) -> None:
        traces[:, rows[i], rows[j]], curves[:, rows[i], rows[j]] = pair
        if i != j:
            traces[:, rows[j], rows[i]] = small.transpose(pair[0])
            curves[:, rows[j], rows[i]] = small.transpose(pair[1])

    put(0, 0, _pair_first(pieces, head))
    for i, (tail, span) in enumerate(zip(tails, spans, strict=True), start=1):
        put(0, i, _pair_mixed(pieces.trailing, head, tail, span))
        for j in range(1, i + 1):
            put(i, j, _pair_trailing(pieces.trailing, (tail, span), (tails[j - 1], spans[j - 1])))
    return traces, curves


def _inner(a: FloatArray, b: FloatArray) -> FloatArray:
    """All inner products of two stacks (K, d, ...) over everything but their first two axes."""
    size = math.prod(a.shape[2:])
    return a.reshape(*a.shape[:2], size) @ small.transpose(b.reshape(*b.shape[:2], size))


def _pair_first(pieces: LevelPieces, x: FirstStack) -> tuple[FloatArray, FloatArray]:
    # With S = A - B Q B' level by level: tr(A Ga A Gb) - 2 tr(K Ga A Gb) + tr(Q U_a Q U_b).
    sums, (K, d, c) = pieces.sums, x.gamma.shape[:3]
    local = sums.AA - sums.KA - small.transpose(sums.KA)
    curve = sums.SA
    gamma = x.gamma.reshape(K, d, c * c)
    if c > 1:
        # tr(P Ga N Gb) = sum P[a, b] Ga[b, e] N[e, f] Gb[f, a]
        local, curve = (
            a.reshape(K, c, c, c, c).transpose(0, 2, 3, 4, 1).reshape(K, c * c, c * c) for a in (local, curve)
        )
    QU = pieces.Q_trace[:, None] @ x.U
    trace = gamma @ local @ small.transpose(gamma) + _inner(QU, small.transpose(QU))
    return trace, gamma @ curve @ small.transpose(gamma) - x.v @ pieces.Q @ small.transpose(x.v)


def _pair_mixed(trailing: _Trailing, a: FirstStack, b: Stack, span: slice) -> tuple[FloatArray, FloatArray]:
    R2 = trailing.R2_trace[..., span]
    c, (K, d, t) = b.gamma.shape[-1], a.U.shape[:3]
    tiles = R2.reshape(K, 1, t, -1, c)
    swept = (a.U @ R2[:, None]).reshape(K, d, t, -1, c)
    if c == 1:
        diagonal = (tiles * swept).sum((2, 3))[..., None]
    else:
        diagonal = np.einsum("kdtja,kdtjb->kdab", np.broadcast_to(tiles, swept.shape), swept)
    return _inner(diagonal, b.gamma), a.v @ trailing.R2[..., span] @ small.transpose(b.s)


def _pair_trailing(
    trailing: _Trailing, a: tuple[Stack, slice], b: tuple[Stack, slice]
) -> tuple[FloatArray, FloatArray]:
    (x, rows), (z, columns) = a, b
    K, ca, cb = x.gamma.shape[0], x.gamma.shape[-1], z.gamma.shape[-1]
    S = trailing.S22_trace[:, rows, columns]
    curve = x.s @ trailing.S22[:, rows, columns] @ small.transpose(z.s)
    if ca == cb == 1:
        return x.gamma[..., 0] * (S * S).sum((1, 2))[:, None, None] * small.transpose(z.gamma[..., 0]), curve
    tiles = S.reshape(K, 1, -1, ca, S.shape[2] // cb, cb).swapaxes(3, 4)
    left = x.gamma[:, :, None, None] @ tiles
    right = tiles @ z.gamma[:, :, None, None]
    return _inner(left, right), curve
