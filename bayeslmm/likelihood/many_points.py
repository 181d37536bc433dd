"""Evaluations and draws of dense levels at thousands of points: what densities need, and nothing else.

The first block is eliminated by one matrix product for all points (`packed_pairs`). Trailing effects are in another
order than elsewhere, the same effect of all levels of a block together: Lambda is then some multiples of whole
slices. The response goes through the Cholesky factorisation as one more column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

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
        Those of trailing blocks lower triangular.
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
    """Exact draws (K, t) of trailing random effects, in their own order, and fixed effects.

    Points that come up again, as resampled ones do, are evaluated once.
    """
    q2, step = s.q_trailing, _together(s, pairs)
    out = np.empty((sigma.size, q2 + s.p))
    rows = np.concatenate([T.reshape(sigma.size, -1) for T in factors], axis=1)
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    by_point = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[by_point], np.arange(0, first.size + step, step))
    for k, (begin, end) in enumerate(pairwise(ends)):
        at = _solve(s, pairs, [T[first[k * step : (k + 1) * step]] for T in factors])
        draws = by_point[begin:end]
        own = which[draws] - k * step
        beta = draw_fixed(at.factor.take(own), 0, sigma[draws], rng, prior)
        chol = at.chol[own]
        right = chol[:, -1, :q2] + sigma[draws, None] * rng.standard_normal((draws.size, q2))
        right -= (beta[:, None] @ chol[:, q2:-1, :q2])[:, 0]
        u = np.linalg.solve(small.transpose(chol[:, :q2, :q2]), right[..., None])[..., 0]
        out[draws[:, None], pairs.order[:q2]] = u if at.moved is None else u + at.moved[own]
        out[draws, q2:] = beta
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
    """The lower triangle of ``Lambda' S Lambda`` in place; lower triangular factors."""
    for (block, span), T in zip(frame.trailing_spans, factors, strict=True):
        effects = [slice(first, first + block.n_levels) for first in range(span.start, span.stop, block.n_levels)]
        weights = T[:, :, :, None, None]
        # What an effect is made of are itself and later ones, which are still the old ones.
        for b, own in enumerate(effects):
            rows = joint[:, own, : span.stop]
            rows *= weights[:, b, b]
            for a in range(b + 1, block.size):
                rows += weights[:, a, b] * joint[:, effects[a], : span.stop]
        for b, own in enumerate(effects):
            columns = joint[:, own.start :, own]
            columns *= weights[:, b, b]
            for a in range(b + 1, block.size):
                columns += weights[:, a, b] * joint[:, own.start :, effects[a]]
