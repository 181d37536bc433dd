"""A start for the optimiser from moments of the sums over levels.

For a level with cross-products ``F = Z'Z`` and sums ``s = Z'y`` the model has ``E s s' = F Sigma F + sigma^2 F``
(other terms left out); with columns orthogonal over the data F is nearly a multiple of the identity, and one
equation for Sigma follows by adding up over levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.design.covariance import smallest_bound
from bayeslmm.likelihood import small
from bayeslmm.likelihood.factor import Replicates, evaluate_levels
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from bayeslmm.likelihood.chain_sums import ChainSums
    from bayeslmm.likelihood.crossed_sums import CrossedSums

# Relative sds of a start stay between these: a start at zero would be a saddle, one far out slow.
_SMALLEST, _LARGEST = 0.1, 1e6
# A moment estimate of sigma^2 below this share of the total variance is not used.
_SMALL_SHARE = 0.02
_WIDE = 1e5
# Up to this many effects of the first block, variances are estimated together.
_TOGETHER = 300


def level_start(s: LevelSums) -> list[FloatArray]:
    """Relative factors (c, c), lower triangular and regular, of every block."""
    several = len(s.blocks) > 1 or s.blocks[0].size == 1
    if several and s.E.shape[0] * s.E.shape[1] <= _TOGETHER:
        return _joint_moments(s)
    return _one_by_one(*_level_moments(s))


def chain_start(h: ChainSums) -> list[FloatArray]:
    """The same for a hierarchy."""
    return _one_by_one(*_chain_moments(h))


def chain_squares(h: ChainSums) -> list[FloatArray]:
    """Sums of squares (J, c) of the columns of every level of every block."""
    return [np.diagonal(F, axis1=1, axis2=2) for F in _chain_moments(h)[1]]


def crossed_start(s: CrossedSums) -> list[FloatArray]:
    """The same where nothing is filled in."""
    return _one_by_one(*_crossed_moments(s))


def crossed_squares(s: CrossedSums) -> list[FloatArray]:
    """Sums of squares (J, c) of the columns of every level of every block."""
    return [np.diagonal(F, axis1=1, axis2=2) for F in _crossed_moments(s)[1]]


def _crossed_moments(s: CrossedSums) -> tuple[list[FloatArray], list[FloatArray], float]:
    y, Rt = s.fixed[..., -1:], small.transpose(s.R)
    sums, products = [small.dot(Rt, y)[..., 0]], [small.dot(Rt, s.R)]
    of_others = s.within[:, -1:] + s.cells.transposed_times(y)
    for (block, span), tiles in zip(s.others, s.diagonal_tiles, strict=True):
        sums.append(of_others[span].reshape(block.n_levels, block.size))
        products.append(tiles)
    return sums, products, float(_within(s.n, s.frame.p, s.D[-1, -1], s.R, float((y**2).sum())))


def _one_by_one(sums: list[FloatArray], products: list[FloatArray], within: float) -> list[FloatArray]:
    return [_factor(s[None], F, np.array([within]))[0] for s, F in zip(sums, products, strict=True)]


def _joint_moments(s: LevelSums) -> list[FloatArray]:
    """Variances of one or several factors from one system of moment equations.

    With ``S = Z' M Z`` and ``s = Z' M y`` (M takes the fixed effects out) the expectation of ``s_i^2`` is
    ``sum_j S_ij^2 v_j + sigma^2 S_ii``. Divided by S_ii and added up over the levels of each effect, together with
    the equation of ``y' M y``, these are as many equations as variances (Henderson 1953; covariances left out).
    """
    q2, (J, c) = s.q_trailing, s.E.shape[:2]
    left = (small.transpose(s.R) @ s.E).reshape(J * c, -1)
    below = s.D + np.tensordot(s.E, s.E, ((0, 1), (0, 1)))
    q = J * c + q2
    ZZ = np.zeros((q, q))
    tiles = ZZ[: J * c, : J * c].reshape(J, c, J, c)
    tiles[np.arange(J), :, np.arange(J)] = small.transpose(s.R) @ s.R
    ZZ[: J * c, J * c :] = left[:, :q2]
    ZZ[J * c :, : J * c] = left[:, :q2].T
    ZZ[J * c :, J * c :] = below[:q2, :q2]
    right = np.concatenate([left[:, q2:], below[:q2, q2:]])
    if s.p:
        # y is orthogonal to X already.
        ZZ -= right[:, :-1] @ np.linalg.solve(below[q2:-1, q2:-1], right[:, :-1].T)
    response, square = right[:, -1], float(below[-1, -1])
    if s.reference is not None:
        back = ZZ[:, J * c :] @ s.reference
        square += float(s.reference @ (2.0 * response[J * c :] + back[J * c :]))
        response = response + back
    owner = _effect_numbers(s)
    known = np.maximum(np.diagonal(ZZ), 0.0)
    usable = known > 1e-10 * known.max()
    weight = np.where(usable, 1.0 / np.where(usable, known, 1.0), 0.0)
    k = int(owner.max()) + 1
    member = np.zeros((k, q))
    member[owner, np.arange(q)] = 1.0
    system = np.zeros((k + 1, k + 1))
    system[:k, :k] = (member * weight) @ (ZZ * ZZ) @ member.T
    system[:k, k] = member @ usable
    system[k, :k] = member @ known
    system[k, k] = s.n - s.p
    values = np.append((member * weight) @ response**2, square)
    variances = np.linalg.lstsq(system, values)[0]
    sigma2, total = float(variances[k]), square / max(s.n - s.p, 1)
    if sigma2 < _SMALL_SHARE * total:
        # Lost in the sampling error of the large variances; at large ratios r2 is close to what those leave.
        wide = evaluate_levels(s, [_WIDE * np.eye(block.size)[None] for block in s.blocks])
        sigma2 = max(float(wide.r2[0]) / max(s.n - s.p, 1), 1e-30 * total, 1e-300)
    ratios = variances[:k] / sigma2
    ends = np.cumsum([0, *(block.size for block in s.blocks)])
    roots = np.sqrt(np.clip(ratios, _SMALLEST**2, _LARGEST**2))
    return [np.diag(roots[a:b]) for a, b in pairwise(ends)]


def _effect_numbers(s: LevelSums) -> IntArray:
    """Number of the effect that each random effect is a level of."""
    ends = np.cumsum([0, *(block.size for block in s.blocks)])
    spans = zip(pairwise(ends), s.blocks, strict=True)
    return np.concatenate([np.tile(np.arange(a, b), block.n_levels) for (a, b), block in spans])


def at_an_end(factors: Sequence[FloatArray]) -> bool:
    """Whether a moment estimate had to be moved to where it makes sense."""
    for T in factors:
        smallest = smallest_bound(T)
        if smallest < 1.01 * _SMALLEST and np.linalg.svd(T, compute_uv=False)[-1] < 1.01 * _SMALLEST:
            return True
    return False


def moment_factors_many(s: LevelSums, replicates: Replicates) -> list[FloatArray]:
    """The same for many responses: (K, c, c) for every block."""
    K = replicates.E.shape[0]
    _, products, _ = _level_moments(s)
    sums = [(replicates.E[:, :, None] @ s.R)[:, :, 0]]
    for block, span in s.frame.trailing_spans:
        y = replicates.D[:, span] + np.tensordot(replicates.E, s.E[:, :, span], ((1, 2), (0, 1)))
        sums.append(y.reshape(K, block.n_levels, block.size))
    within = _within(s.n, s.p, replicates.D[:, -1], s.R, (replicates.E**2).sum((1, 2)))
    return [_factor(s, F, within) for s, F in zip(sums, products, strict=True)]


def _factor(s: FloatArray, F: FloatArray, within: FloatArray) -> FloatArray:
    """From sums (K, J, c), cross-products (J, c, c) and residual variances (K,)."""
    n = np.trace(F, axis1=1, axis2=2) / s.shape[2]
    moment = s.mT @ s - within[:, None, None] * F.sum(0)
    moment /= max(float((n**2).sum()), 1e-300) * within[:, None, None]
    values, vectors = np.linalg.eigh(moment)
    values = np.clip(values, _SMALLEST**2, _LARGEST**2)
    return np.linalg.cholesky((vectors * values[:, None]) @ vectors.mT)


def _level_moments(s: LevelSums) -> tuple[list[FloatArray], list[FloatArray], float]:
    Rt = small.transpose(s.R)
    sums, products = [(Rt @ s.E[..., -1:])[..., 0]], [Rt @ s.R]
    for block, span in s.frame.trailing_spans:
        E = s.E[:, :, span]
        full = s.D[span, span] + np.tensordot(E, E, ((0, 1), (0, 1)))
        y = s.D[span, -1] + np.tensordot(E, s.E[..., -1], ((0, 1), (0, 1)))
        sums.append(y.reshape(block.n_levels, block.size))
        tiles = full.reshape(block.n_levels, block.size, block.n_levels, block.size)
        products.append(np.moveaxis(np.diagonal(tiles, axis1=0, axis2=2), -1, 0))
    return (
        sums,
        products,
        float(_within(s.n, s.p, s.D[-1, -1], s.R, float((s.E[..., -1] ** 2).sum()))),
    )


def _chain_moments(h: ChainSums) -> tuple[list[FloatArray], list[FloatArray], float]:
    from bayeslmm.likelihood import elimination as el

    zeros = [np.zeros((block.n_levels, block.size, 1)) for block in h.frame.blocks[: h.plan.chain]]
    all_sums = el.scores(h, el.response(h), zeros, np.zeros((h.D.shape[0] - 1, 1)))
    sums = [s[..., 0] for s in all_sums[:-1]]
    products = [small.transpose(h.R) @ h.R]
    for rows, parents, up in zip(h.rows, h.plan.up[0], h.up, strict=True):
        products.append(rows.own + el.sums_by(parents, small.transpose(up) @ up, rows.own.shape[0]))
    squares = np.zeros((h.q_dense, h.cells.values.shape[1]))
    np.add.at(squares, h.cells.columns, h.cells.values**2)
    diagonal = np.diagonal(h.D)[: h.q_dense] + squares.sum(1)
    for block, span in h.frame.trailing_spans:
        sums.append(all_sums[-1][span, 0].reshape(block.n_levels, block.size))
        products.append(diagonal[span].reshape(block.n_levels, block.size)[:, None] * np.eye(block.size))
    return sums, products, float(_within(h.n, h.frame.p, h.D[-1, -1], h.R, float((h.fixed[..., -1] ** 2).sum())))


def _within(n: int, p: int, within: FloatArray | float, R: FloatArray, between: FloatArray | float) -> FloatArray:
    """Variance left within the levels of the first block, per degree of freedom."""
    rank = int((np.diagonal(R, axis1=1, axis2=2) > 0).sum())
    free = n - rank - p
    total = np.maximum((within + between) / n, 1e-300)
    # Saturated levels say nothing about sigma: a share of the total variance will do.
    return np.maximum(within / free, 1e-4 * total) if free > 0 else 0.2 * total
