"""Criterion and derivatives of a hierarchy: exact gradient, average information in place of the trace terms.

With many levels the traces of the exact Hessian, ``tr(S dG S dG')``, cost a product of large matrices for each pair
of parameters. Their expectation differs from ``s' dG S dG' s / sigma^2``, which costs one solution per
parameter, only by sampling noise (Gilmour, Thompson & Cullis 1995); the more levels, the closer. The gradient
stays exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from bayeslmm.likelihood import elimination as el
from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.kernels import mirror
from bayeslmm.likelihood.selected import selected
from bayeslmm.types import FloatArray

# Smallest singular value of a relative factor whose inverse may be used: six digits of sixteen are lost there.
_REGULAR = 1e-3


@dataclass(frozen=True)
class Dense:
    """The dense block with X, factored.

    Attributes
    ----------
    upper : FloatArray, shape (t, t)
        Upper Cholesky factor, column by column in memory, of ``[Lambda 0; 0 I]' S [Lambda 0; 0 I] + [I 0; 0 0]``,
        t = q_d + p.
    lam : tuple of FloatArray, each (c, c)
        Relative factors of the dense blocks.
    levels : tuple of int
        Their numbers of levels.
    """

    upper: FloatArray
    lam: tuple[FloatArray, ...]
    levels: tuple[int, ...]

    @property
    def chol(self) -> FloatArray:
        """Lower Cholesky factor."""
        return self.upper.T

    def scale(self, rows: FloatArray, transposed: bool) -> FloatArray:
        """Multiply the rows of the random effects by Lambda' (or Lambda), in place."""
        start = 0
        for T, J in zip(self.lam, self.levels, strict=True):
            stop = start + J * T.shape[0]
            if T.shape[0] == 1:
                rows[start:stop] *= T[0, 0]
            else:
                tiles = rows[start:stop].reshape(J, T.shape[0], -1)
                rows[start:stop] = ((T.T if transposed else T) @ tiles).reshape(stop - start, -1)
            start = stop
        return rows

    def both_sides(self, S: FloatArray, transposed: bool) -> FloatArray:
        """``Lambda' S Lambda`` (or ``Lambda S Lambda'``) in place; only the lower triangle of S is read and right."""
        if all(T.shape[0] == 1 for T in self.lam):
            factors = np.ones(S.shape[0])
            stop = sum(self.levels)
            factors[:stop] = np.repeat([T[0, 0] for T in self.lam], self.levels)
            S *= factors
            S *= factors[:, None]
            return S
        mirror(S)
        self.scale(S, transposed)
        return self.scale(np.ascontiguousarray(S.T), transposed)

    def half(self, right: FloatArray) -> FloatArray:
        """``chol^-1 Lambda' right``."""
        return np.asarray(lapack.dtrtrs(self.upper, self.scale(right.copy(), True), lower=0, trans=1)[0])

    def back(self, half: FloatArray) -> FloatArray:
        """The solution (u, beta) from `half`."""
        return np.asarray(lapack.dtrtrs(self.upper, half, lower=0)[0])

    def solve(self, right: FloatArray) -> FloatArray:
        """Effects b = Lambda u and beta for right-hand sides (t, d)."""
        return self.scale(self.back(self.half(right)), False)

    def inverse(self) -> FloatArray:
        """``[Lambda 0; 0 I] K^-1 [Lambda 0; 0 I]'``, shape (t, t); lower triangle."""
        if not self.upper.size:
            return np.zeros_like(self.upper)
        return self.both_sides(lapack.dpotri(self.upper, lower=0)[0].T, False)


def factor_dense(S: FloatArray, lam: Sequence[FloatArray], levels: Sequence[int]) -> Dense:
    """Factor the dense block.

    Parameters
    ----------
    S : FloatArray, shape (t, t)
        Cross-products of its random effects and X after the chain is eliminated; the lower triangle is read.

    Raises
    ------
    numpy.linalg.LinAlgError
        Not positive definite to rounding.
    """
    shell = Dense(S[:0], tuple(lam), tuple(levels))
    joint = shell.both_sides(np.array(S, order="C"), True)
    q = sum(T.shape[0] * J for T, J in zip(lam, levels, strict=True))
    small.add_identity(joint, q)
    if not joint.size:
        return Dense(joint, shell.lam, shell.levels)
    upper, failed = lapack.dpotrf(joint.T, lower=0, clean=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("dense block is not positive definite")
    return Dense(upper, shell.lam, shell.levels)


@dataclass(frozen=True)
class ChainScores:
    """What second derivatives need.

    Attributes
    ----------
    scores : list of FloatArray
        ``Z' P0 y``: chain members (J, c, 1), then the dense block's random effects (q_d, 1).
    reml : bool
        Whether the trace terms have the fixed effects swept out.
    """

    h: ChainSums
    eliminated: el.Eliminated
    dense: Dense
    scores: list[FloatArray]
    reml: bool = True


def gradient(
    h: ChainSums, eliminated: el.Eliminated, dense: Dense, solution: FloatArray, reml: bool
) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
    """Derivatives of the logarithmic part and of minus r2 in the covariance of every block, chain first, and scores.

    Parameters
    ----------
    solution : FloatArray, shape (t,)
        Effects of the dense block (Lambda u) and beta.
    reml : bool
    """
    q, m = h.q_dense, h.D.shape[0]
    column = el.response(h)
    halves = [member.half.fixed[..., -1:] for member in eliminated.members]
    b = el.backward(h, eliminated, halves, solution[:, None])
    scores = el.scores(h, column, b, solution[:, None])
    table = np.zeros((m, m))
    Q = table[:-1, :-1]
    Q[:] = dense.inverse()
    if not reml:
        Q[:] = without_fixed(Q, q)
    # A single member reads the dense block's effects from the lower triangle.
    mirror(Q if len(eliminated.members) > 1 else Q[q:, q:])
    Q[:q, q:] = Q[q:, :q].T
    chain = selected(h, eliminated, table)
    traces = [(part.gain - part.form).sum(0) for part in chain]
    squares = [s[..., 0].T @ s[..., 0] for s in scores[:-1]]
    S = eliminated.trailing[:-1, :-1]
    start = 0
    for T, J in zip(dense.lam, dense.levels, strict=True):
        c = T.shape[0]
        span = slice(start, start + c * J)
        s = scores[-1][span, 0].reshape(J, c)
        traces.append(_projected_tiles(S, Q, span, T))
        squares.append(s.T @ s)
        start = span.stop
    return traces, squares, scores


def without_fixed(Q: FloatArray, q: int) -> FloatArray:
    """The inverse of the block without X, padded with zeros, from the inverse with X; lower triangles."""
    out = np.zeros_like(Q)
    out[:q, :q] = Q[:q, :q]
    if q and Q.shape[0] > q:
        across = Q[q:, :q]
        out[:q, :q] -= across.T @ np.linalg.solve(mirror(Q[q:, q:].copy()), across)
    return out


def _projected_tiles(S: FloatArray, Q: FloatArray, span: slice, T: FloatArray) -> FloatArray:
    """Sum over levels of the diagonal tiles of ``S - S Q S'``."""
    c = T.shape[0]
    own = np.arange(span.start, span.stop, c)
    total = np.empty((c, c))
    if np.linalg.svd(T, compute_uv=False)[-1] > _REGULAR:
        # Lambda' (S - S Q S') Lambda = I - Lambda^-1 Q Lambda^-T needs no product of large matrices.
        for a in range(c):
            for b in range(c):
                total[a, b] = Q[own + a, own + b].sum()
        inverse = np.linalg.inv(T)
        middle = own.size * np.eye(c) - inverse @ total @ inverse.T
        total = inverse.T @ middle @ inverse
        return 0.5 * (total + total.T)
    rows = mirror(S.copy())[span]
    swept = rows @ mirror(Q.copy())
    for a in range(c):
        for b in range(c):
            direct = rows[own - span.start + a, own + b].sum()
            total[a, b] = direct - np.einsum("ij,ij->", swept[a::c], rows[b::c])
    return 0.5 * (total + total.T)


def information(pieces: ChainScores, directions: Sequence[FloatArray], scale: float, r2: float) -> FloatArray:
    """Average-information approximation of the second derivatives along changes of G.

    Parameters
    ----------
    pieces : ChainScores
    directions : sequence of FloatArray, each (d_b, c, c)
        For every block the symmetric changes of its covariance.
    """
    both, slopes = curves(pieces, directions)
    return np.asarray(scale * (both - np.outer(slopes, slopes) / r2))


def curves(pieces: ChainScores, directions: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """``s' dG S dG' s`` (d, d) and ``s' dG s`` (d,) along changes of G."""
    h, dense = pieces.h, pieces.dense
    d = sum(gamma.shape[0] for gamma in directions)
    chain = h.plan.chain
    z: list[FloatArray] = [np.zeros((*s.shape[:-1], d)) for s in pieces.scores]
    slopes, column, start = np.empty(d), 0, 0
    for i, gamma in enumerate(directions):
        c = gamma.shape[1]
        if i < chain:
            s, target = pieces.scores[i][..., 0], z[i]
        else:
            size = c * dense.levels[i - chain]
            s = pieces.scores[-1][start : start + size, 0].reshape(-1, c)
            target = z[-1][start : start + size].reshape(-1, c, d)
            start += size
        for g in gamma:
            moved = s @ g
            target[..., column] = moved
            slopes[column] = (moved * s).sum()
            column += 1
    working = el.product(h, z)
    halves, right = el.forward(h, pieces.eliminated, working)
    solution = dense.solve(right)
    b = el.backward(h, pieces.eliminated, halves, solution)
    projected = el.scores(h, working, b, solution)
    both = sum((x.reshape(-1, d).T @ s.reshape(-1, d) for x, s in zip(z, projected, strict=True)), np.zeros((d, d)))
    return np.asarray(0.5 * (both + both.T)), slopes
