"""Evaluations and draws of dense levels at thousands of points: what densities need, and nothing else.

The first block is eliminated by one matrix product for all points (`packed_pairs`). Trailing effects are in another
order than elsewhere, the same effect of all levels of a block together: Lambda is then some multiples of whole
slices. The response goes through the Cholesky factorisation as one more column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.factor import Factor, cholesky_points, split_reference, stacked
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.packed_pairs import PackedPairs
from bayeslmm.likelihood.rotation import InternalPrior, draw_fixed
from bayeslmm.types import FloatArray

# Doubles in work at once: half a megabyte stays in a cache. Fewer points do not pay for a call.
_CACHED, _FEWEST = 60_000, 64


@dataclass(frozen=True)
class _Solved:
    """K points.

    Attributes
    ----------
    factor : Factor
        Of the fixed effects.
    chol : FloatArray, shape (K, m, m)
        Cholesky factors of trailing effects, fixed effects and response; the last pivot has no meaning.
    moved : FloatArray or None, shape (K, q2)
        Effects that were taken out of the response.
    """

    factor: Factor
    chol: FloatArray
    moved: FloatArray | None


def evaluate_many(s: LevelSums, pairs: PackedPairs, factors: Sequence[FloatArray]) -> Factor:
    """Log determinants, r2, and the factor and the estimates of the fixed effects at K points.

    Parameters
    ----------
    s : LevelSums
    pairs : PackedPairs
        Its own.
    factors : sequence of FloatArray, each (K, c, c)
    """
    step = _together(s, pairs)
    starts = range(0, factors[0].shape[0], step)
    return stacked([_solve(s, pairs, [T[k : k + step] for T in factors]).factor for k in starts])


def draw_many(
    s: LevelSums,
    pairs: PackedPairs,
    factors: Sequence[FloatArray],
    sigma: FloatArray,
    rng: np.random.Generator,
    prior: InternalPrior | None,
) -> FloatArray:
    """Exact draws (K, t) of the trailing random effects, in their own order, and of the fixed effects."""
    q2, step = s.q_trailing, _together(s, pairs)
    out = np.empty((sigma.size, q2 + s.p))
    for k in range(0, sigma.size, step):
        part = slice(k, k + step)
        at = _solve(s, pairs, [T[part] for T in factors])
        beta = draw_fixed(at.factor, 0, sigma[part], rng, prior)
        right = at.chol[:, -1, :q2] + sigma[part, None] * rng.standard_normal((beta.shape[0], q2))
        right -= (beta[:, None] @ at.chol[:, q2:-1, :q2])[:, 0]
        u = np.linalg.solve(small.transpose(at.chol[:, :q2, :q2]), right[..., None])[..., 0]
        out[part, pairs.order[:q2]] = u if at.moved is None else u + at.moved
        out[part, q2:] = beta
    return out


def _together(s: LevelSums, pairs: PackedPairs) -> int:
    """How many points are evaluated together."""
    return int(max(_CACHED // (s.D.size + pairs.products.shape[0]), _FEWEST))


def _solve(s: LevelSums, pairs: PackedPairs, factors: Sequence[FloatArray]) -> _Solved:
    q2 = s.q_trailing
    log_det, joint = pairs.eliminate(factors[0])
    total, moved = joint[:, -1, -1].copy(), None
    if s.reference is not None:
        moved, combination = split_reference(s, s.reference, factors[1:])
        moved, combination = moved[:, pairs.order[:q2]], combination[:, pairs.order]
        column = (joint @ combination[..., None])[..., 0]
        joint[:, :-1, -1] = joint[:, -1, :-1] = column[:, :-1]
        total = (column * combination).sum(-1) + (moved**2).sum(-1)
    if q2:
        _multiply_lambda(s.frame, factors[1:], joint)
        small.add_identity(joint, q2)
    if moved is not None:
        joint[:, -1, :q2] -= moved
    # Any last pivot will do: the row before it is what is asked for.
    joint[:, -1, -1] = 1.0 + 2.0 * total
    chol = cholesky_points(joint)
    half, fixed = chol[:, -1, :-1], chol[:, q2:-1, q2:-1]
    solution = np.linalg.solve(small.transpose(fixed), half[:, q2:, None])[..., 0]
    logs = 2.0 * np.log(np.diagonal(chol, axis1=1, axis2=2)[:, :-1])
    log_det += logs[:, :q2].sum(-1)
    log_det_fixed = logs[:, q2:].sum(-1) + s.frame.log_det_fixed
    nothing, r2 = np.empty((log_det.size, 0)), total - (half**2).sum(-1)
    factor = Factor(log_det, log_det_fixed, r2, nothing[..., None], fixed, solution, nothing, total)
    return _Solved(factor, chol, moved)


def _multiply_lambda(frame: Frame, factors: Sequence[FloatArray], joint: FloatArray) -> None:
    """``Lambda' S Lambda`` in place, the lower triangle of it."""
    for rows in (joint, small.transpose(joint)):
        for (block, span), T in zip(frame.trailing_spans, factors, strict=True):
            effects = [
                slice(span.start + a * block.n_levels, span.start + (a + 1) * block.n_levels) for a in range(block.size)
            ]
            old = [rows[:, effect].copy() for effect in effects] if block.size > 1 else [rows[:, effects[0]]]
            for b, effect in enumerate(effects):
                new = np.multiply(old[0], T[:, 0, b, None, None], out=rows[:, effect])
                for a in range(1, block.size):
                    new += old[a] * T[:, a, b, None, None]
