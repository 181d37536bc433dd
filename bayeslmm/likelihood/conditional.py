"""Conditional distribution of (beta, u) given the variance parameters: means, covariances, exact draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossproducts import CrossProducts, Levels
from bayeslmm.likelihood.elimination import backward, eliminate
from bayeslmm.likelihood.factor import Factor, apply_lambda
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.likelihood.kernels import mirror
from bayeslmm.likelihood.large import Dense, without_fixed
from bayeslmm.likelihood.normal_prior import NormalPrior, Rotation, rotate
from bayeslmm.likelihood.selected import selected
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Conditional:
    """Coefficients in the user's units at K points.

    Attributes
    ----------
    beta : FloatArray, shape (K, p)
    b : tuple of FloatArray, each (K, J, c)
        Random effects of each block of ``cp.blocks``, in the user's columns.
    """

    beta: FloatArray
    b: tuple[FloatArray, ...]


def user_beta(cp: CrossProducts, solution: FloatArray) -> FloatArray:
    """Fixed effects in the user's columns from internal ones (K, p)."""
    return np.asarray((solution + cp.response.removed) @ cp.fixed.transform.T)


def internal_beta(cp: CrossProducts, beta: FloatArray) -> FloatArray:
    """The inverse of `user_beta`: internal fixed effects of those in the user's columns (K, p)."""
    return np.asarray(np.linalg.solve(cp.fixed.transform, beta.T).T - cp.response.removed)


def beta_covariance(cp: CrossProducts, factor: Factor) -> FloatArray:
    """Covariance of beta given theta divided by sigma^2, flat prior; shape (K, p, p)."""
    q2 = factor.chol.shape[1] - cp.p
    L = factor.chol[:, q2:, q2:]
    half = np.linalg.solve(L, np.broadcast_to(np.eye(cp.p), L.shape)) @ cp.fixed.transform.T
    return small.transpose(half) @ half


def conditional_means(cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor) -> Conditional:
    """Conditional estimates of beta and of the random effects (BLUPs) at K points."""
    return _complete(cp, factors, factor, factor.solution, None, None)


def conditional_draws(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: NormalPrior | None = None,
) -> Conditional:
    """One exact draw of (beta, b) at each of K points.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        Internal relative factors.
    factor : Factor
        ``evaluate(cp, factors)``.
    sigma : FloatArray, shape (K,)
        Units of y.
    rng : numpy.random.Generator
    prior : NormalPrior, optional
        Normal prior on beta; flat if None.

    Returns
    -------
    Conditional
    """
    q2 = cp.q_trailing
    L_X = factor.chol[:, q2:, q2:]
    beta = _draw_beta(cp, factor, L_X, sigma, rng, prior)
    draw = np.empty_like(factor.solution)
    draw[:, q2:] = beta
    if q2:
        shift = beta - factor.solution[:, q2:]
        right = sigma[:, None] * rng.standard_normal((beta.shape[0], q2))
        cross = small.transpose(factor.chol[:, q2:, :q2])
        right -= (cross @ shift[..., None])[..., 0]
        upper = small.transpose(factor.chol[:, :q2, :q2])
        draw[:, :q2] = factor.solution[:, :q2] + np.linalg.solve(upper, right[..., None])[..., 0]
    return _complete(cp, factors, factor, draw, sigma, rng)


def _draw_beta(
    cp: CrossProducts,
    factor: Factor,
    L_X: FloatArray,
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: NormalPrior | None,
) -> FloatArray:
    z = rng.standard_normal((sigma.shape[0], cp.p))
    estimate = factor.solution[:, cp.q_trailing :]
    if prior is None:
        step = sigma[:, None] * z
        return estimate + np.linalg.solve(small.transpose(L_X), step[..., None])[..., 0]
    rotation: Rotation = rotate(cp, factor, prior)
    shrink = 1.0 + sigma[:, None] ** 2 * rotation.eigenvalues
    w = rotation.distance / shrink + sigma[:, None] * z / np.sqrt(shrink)
    step = rotation.vectors @ w[..., None]
    return rotation.mean + np.linalg.solve(small.transpose(L_X), step)[..., 0]


def _complete(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    trailing: FloatArray,
    sigma: FloatArray | None,
    rng: np.random.Generator | None,
) -> Conditional:
    """Effects of the first block given those of the others and beta, then the user's units."""
    if isinstance(cp.store, Hierarchy):
        return _complete_hierarchy(cp, cp.store, factors, factor, trailing, sigma, rng)
    q2, store = cp.q_trailing, cp.levels
    lam = trailing[..., None]
    if q2:
        lam = apply_lambda(cp, factors[1:], lam, transposed=False)
    J, c = store.E.shape[:2]
    rows = store.E[..., :-1].reshape(J * c, lam.shape[1])
    beyond = lam.copy()
    if cp.reference is not None:
        beyond[:, :q2, 0] -= cp.reference
    residual = store.E[..., -1] - (rows @ beyond).reshape(lam.shape[0], J, c)
    lower, half = _level_factors(store, store.R @ factors[0][:, None], residual[..., None])
    if sigma is not None and rng is not None:
        half = half + sigma[:, None, None, None] * rng.standard_normal(half.shape)
    u = small.solve_upper(lower, half)
    internal = [(factors[0][:, None] @ u)[..., 0]]
    start = 0
    for block in cp.blocks[1:]:
        part = lam[:, start : start + block.q, 0]
        internal.append(part.reshape(-1, block.n_levels, block.size))
        start += block.q
    b = tuple(v @ block.basis.T for v, block in zip(internal, cp.blocks, strict=True))
    return Conditional(user_beta(cp, trailing[:, q2:]), b)


def conditional_variances(
    cp: CrossProducts, factors: Sequence[FloatArray], factor: Factor, *, fixed_known: bool = True
) -> tuple[FloatArray, ...]:
    """Covariance of the effects of each level given theta, divided by sigma^2 (one point).

    Parameters
    ----------
    fixed_known : bool
        Hold beta at its estimate (lme4's condVar); otherwise beta is integrated over a flat prior.

    Returns
    -------
    tuple of FloatArray, each (J, c, c)
        For every block, in the user's columns.
    """
    if isinstance(cp.store, Hierarchy):
        return _variances_hierarchy(cp, cp.store, factors, factor, fixed_known)
    q2, store = cp.q_trailing, cp.levels
    t = q2 if fixed_known else q2 + cp.p
    L = factor.chol[0, :t, :t]
    root = np.linalg.solve(L, np.eye(t))
    F = store.R @ factors[0][0]
    lower, half_gain = _level_factors(store, F, store.E[..., :t])
    gain = small.solve_upper(lower, half_gain)
    scaled = apply_lambda(cp, factors[1:], root.T[None], transposed=False)[0] if q2 else root.T
    own = small.solve_lower(lower, np.broadcast_to(np.eye(F.shape[-1]), F.shape))
    half = np.concatenate([small.transpose(own), gain @ scaled], axis=-1)
    variances = [_user_variance(factors[0][0] @ half, cp.blocks[0].basis)]
    start = 0
    for block in cp.blocks[1:]:
        rows = scaled[start : start + block.q].reshape(block.n_levels, block.size, -1)
        variances.append(_user_variance(rows, block.basis))
        start += block.q
    return tuple(variances)


def _complete_hierarchy(
    cp: CrossProducts,
    h: Hierarchy,
    factors: Sequence[FloatArray],
    factor: Factor,
    trailing: FloatArray,
    sigma: FloatArray | None,
    rng: np.random.Generator | None,
) -> Conditional:
    """Effects of the chain given those of the dense block and beta, one point after the other."""
    q, chain = h.q_dense, h.plan.chain
    b = [np.empty((trailing.shape[0], block.n_levels, block.size)) for block in cp.blocks]
    for k in range(trailing.shape[0]):
        # Of many points only what all of them need is kept.
        kept = factor.hierarchy
        eliminated = eliminate(h, [T[k] for T in factors[:chain]]) if kept is None else kept[0]
        shell = Dense(h.D[:0], tuple(T[k] for T in factors[chain:]), tuple(x.n_levels for x in cp.trailing_blocks))
        dense = shell.scale(trailing[k, :, None].copy(), False)
        noise = None
        if sigma is not None and rng is not None:
            noise = [sigma[k] * rng.standard_normal((x.n_levels, x.size, 1)) for x in cp.blocks[:chain]]
        halves = [member.half.fixed[..., -1:] for member in eliminated.members]
        for i, part in enumerate(backward(h, eliminated, halves, dense, noise)):
            b[i][k] = part[..., 0]
        start = 0
        for i, block in enumerate(cp.trailing_blocks, start=chain):
            b[i][k] = dense[start : start + block.q, 0].reshape(block.n_levels, block.size)
            start += block.q
    user = tuple(v @ block.basis.T for v, block in zip(b, cp.blocks, strict=True))
    return Conditional(user_beta(cp, trailing[:, q:]), user)


def _variances_hierarchy(
    cp: CrossProducts, h: Hierarchy, factors: Sequence[FloatArray], factor: Factor, fixed_known: bool
) -> tuple[FloatArray, ...]:
    if factor.hierarchy is None:
        raise TypeError("variances are computed at a single point")
    eliminated, dense = factor.hierarchy
    q, table = h.q_dense, np.zeros(h.D.shape)
    inverse = dense.inverse()
    table[:-1, :-1] = mirror(without_fixed(inverse, q) if fixed_known else inverse)
    out = [part.own for part in selected(h, eliminated, table)]
    start = 0
    for block in cp.trailing_blocks:
        span = slice(start, start + block.q)
        tiles = table[span, span].reshape(block.n_levels, block.size, block.n_levels, block.size)
        out.append(np.moveaxis(np.diagonal(tiles, axis1=0, axis2=2), -1, 0))
        start += block.q
    return tuple(block.basis @ v @ block.basis.T for v, block in zip(out, cp.blocks, strict=True))


def _user_variance(half: FloatArray, basis: FloatArray) -> FloatArray:
    rows = basis @ half
    return rows @ small.transpose(rows)


def _level_factors(store: Levels, F: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Cholesky factors L of ``I + F'F`` and ``L^-1 F' right``, level by level."""
    c, Ft = F.shape[-1], small.transpose(F)
    if store.unlike:
        # F'F would hide all other rows of a level behind a heavy one.
        Q, upper = np.linalg.qr(np.concatenate([F, np.broadcast_to(np.eye(c), F.shape)], axis=-2))
        return small.transpose(upper), small.transpose(Q[..., : F.shape[-2], :]) @ right
    M = Ft @ F
    small.add_identity(M)
    lower = small.cholesky(M)
    return lower, small.solve_lower(lower, Ft @ right)
