"""Effects of dense levels given the trailing ones: means, draws, covariances, errors of predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.factor import Factor, apply_lambda, whiten_first
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray, IntArray


def complete_levels(
    s: LevelSums,
    factors: Sequence[FloatArray],
    trailing: FloatArray,
    sigma: FloatArray | None,
    rng: np.random.Generator | None,
) -> list[FloatArray]:
    """Internal effects (K, J, c) of every block; see `sums.Sums.complete`."""
    q2 = s.q_trailing
    lam = trailing[..., None]
    if q2:
        lam = apply_lambda(s.frame, factors[1:], lam, transposed=False)
    J, c = s.E.shape[:2]
    rows = s.E[..., :-1].reshape(J * c, lam.shape[1])
    beyond = lam.copy()
    if s.reference is not None:
        beyond[:, :q2, 0] -= s.reference
    residual = s.E[..., -1] - (rows @ beyond).reshape(lam.shape[0], J, c)
    lower, half = _level_factors(s, s.R @ factors[0][:, None], residual[..., None])
    if sigma is not None and rng is not None:
        half = half + sigma[:, None, None, None] * rng.standard_normal(half.shape)
    u = small.solve_upper(lower, half)
    internal = [(factors[0][:, None] @ u)[..., 0]]
    for block, span in s.frame.trailing_spans:
        internal.append(lam[:, span, 0].reshape(-1, block.n_levels, block.size))
    return internal


def level_variances(s: LevelSums, factors: Sequence[FloatArray], factor: Factor, fixed_known: bool) -> list[FloatArray]:
    """Covariances (J, c, c) of the effects in the user's columns, over sigma^2; see `sums.Sums.variances`."""
    q2 = s.q_trailing
    t = q2 if fixed_known else q2 + s.p
    L = factor.chol[0, :t, :t]
    root = np.linalg.solve(L, np.eye(t))
    F = s.R @ factors[0][0]
    lower, half_gain = _level_factors(s, F, s.E[..., :t])
    gain = small.solve_upper(lower, half_gain)
    scaled = apply_lambda(s.frame, factors[1:], root.T[None], transposed=False)[0] if q2 else root.T
    own = small.solve_lower(lower, np.broadcast_to(np.eye(F.shape[-1]), F.shape))
    half = np.concatenate([small.transpose(own), gain @ scaled], axis=-1)
    variances = [_user_variance(factors[0][0] @ half, s.blocks[0].basis)]
    for block, span in s.frame.trailing_spans:
        rows = scaled[span].reshape(block.n_levels, block.size, -1)
        variances.append(_user_variance(rows, block.basis))
    return variances


def _user_variance(half: FloatArray, basis: FloatArray) -> FloatArray:
    rows = basis @ half
    return rows @ small.transpose(rows)


def _level_factors(s: LevelSums, F: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cholesky factors L of ``I + F'F`` and ``L^-1 F' right``, level by level."""
    c, Ft = F.shape[-1], small.transpose(F)
    if s.unlike:
        # F'F would hide all other rows of a level behind a heavy one.
        Q, upper = np.linalg.qr(np.concatenate([F, np.broadcast_to(np.eye(c), F.shape)], axis=-2))
        return small.transpose(upper), small.transpose(Q[..., : F.shape[-2], :]) @ right
    M = Ft @ F
    small.add_identity(M)
    lower = small.cholesky(M)
    return lower, small.solve_lower(lower, Ft @ right)


def level_errors(
    s: LevelSums,
    factors: Sequence[FloatArray],
    factor: Factor,
    x: FloatArray,
    known: Sequence[tuple[FloatArray, IntArray]],
) -> FloatArray:
    """Variances (k,) of predictions; see `sums.Sums.row_errors`."""
    T = factors[0][0]
    w, codes = known[0]
    F = s.R @ T
    Ft = small.transpose(F)
    within = small.cholesky(small.add_identity(Ft @ F))
    between = small.cholesky(small.add_identity(F @ Ft))
    right = (w @ T)[..., None]
    own = small.solve_lower(within[codes], right)
    half = small.solve_lower(between[codes], F[codes] @ right)
    coupling = small.solve_lower(between, s.E[..., :-1])
    rest = s.frame.trailing_rows(x, known) - np.einsum("kct,kc->kt", coupling[codes], half[..., 0])
    columns = apply_lambda(s.frame, factors[1:], rest.T[None])[0] if s.q_trailing else rest.T
    scaled = np.linalg.solve(factor.chol[0], columns)
    return np.asarray((own[..., 0] ** 2).sum(1) + (scaled**2).sum(0))


def level_sensitivity(
    s: LevelSums, factors: Sequence[FloatArray], factor: Factor, Q: FloatArray
) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[FloatArray, FloatArray]]:
    """See `sums.Sums.sensitivity`; ``Q`` (K, t, t) is the inverse of the trailing matrix, from the derivatives."""
    q2, K, p = s.q_trailing, factor.r2.size, s.p
    column = Q[:, :, q2:]
    E = np.broadcast_to(s.E[..., :-1], (K, *s.E[..., :-1].shape))
    lower, half = whiten_first(s, factors[0], E)
    root = small.transpose(small.solve_lower(lower, s.R[None]))
    A, B = root @ small.transpose(root), root @ half
    W = [B @ column[:, None]]
    trailing = factor.trailing[:, :q2, :-1] @ column
    for block, span in s.frame.trailing_spans:
        W.append(trailing[:, span].reshape(K, block.n_levels, block.size, p))
    return column[:, q2:], tuple(W), (A, B)
