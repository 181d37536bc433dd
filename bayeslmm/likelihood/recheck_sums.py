"""The criterion at one point once more where there are no rows to look at: from the numbers that stand for them.

The sums are those of few rows: R and E of every level, and as many as D has columns. What is looked at is the residual
on these, or the criterion by one dense factorisation of them; nothing of the elimination by blocks is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.conditional import conditional_means, internal_beta
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossed_sums import CrossedSums
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.recheck import MARGIN, UNIT, dense_check, gap_and_bound
from bayeslmm.likelihood.sums import Sums
from bayeslmm.types import FloatArray

# Share of its sum of squares within levels below which a column does not vary within them.
_ROUNDING = 1e-20


def compressed_size(cp: SummedDesign) -> float:
    """Doubles that `recheck_compressed` needs; infinite for sums that it cannot take apart."""
    if not isinstance(cp.sums, LevelSums):
        return float("inf")
    columns = sum(block.q for block in cp.blocks) + cp.p
    return float((cp.sums.R.shape[0] * cp.sums.R.shape[1] + cp.sums.D.shape[0] + columns) * columns)


def compressed_rows(sums: LevelSums) -> tuple[FloatArray, FloatArray]:
    """Rows with the same sums: columns (r, q + p) of all effects and of X in internal coordinates, and y (r,)."""
    J, c, m = sums.E.shape
    first = np.zeros((J * c + m, J * c))
    places = np.arange(J)[:, None] * c + np.arange(c)
    first[places[:, :, None], places[:, None, :]] = sums.R
    between = sums.E.reshape(J * c, m)
    rest = np.concatenate([between, _root(sums.D, (between**2).sum(0))])
    y = rest[:, -1]
    if sums.reference is not None:
        y = y + rest[:, : len(sums.reference)] @ sums.reference
    return np.concatenate([first, rest[:, :-1]], axis=1), y


def _root(D: FloatArray, between: FloatArray) -> FloatArray:
    """Rows (m, m) whose cross-products D is, of columns whose sums of squares between levels are known (m,)."""
    within = np.maximum(np.diagonal(D), 0.0)
    # What is left of a column that does not vary within levels has correlations of rounding, beyond one.
    scale = np.sqrt(np.where(within > _ROUNDING * (within + between), within, 0.0))
    unit = np.where(scale > 0, scale, 1.0)
    varies = scale > 0
    values, vectors = np.linalg.eigh(np.where(varies[:, None] & varies, D / (unit[:, None] * unit), 0.0))
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T * scale)


def recheck_compressed(cp: SummedDesign, factors: Sequence[FloatArray], reml: bool) -> tuple[float, float]:
    """The profiled criterion and the rounding of it, as `recheck`, on rows that the sums stand for.

    Parameters
    ----------
    cp : SummedDesign
        Of dense levels.
    factors : sequence of FloatArray, each (c, c)
        Internal relative factor of each block.
    reml : bool
    """
    if not isinstance(cp.sums, LevelSums):
        raise TypeError("these cross-products are stored as a hierarchy")
    columns, y = compressed_rows(cp.sums)
    for block, span, T in zip(cp.blocks, cp.frame.spans, factors, strict=True):
        own = columns[:, span].reshape(len(y), block.n_levels, block.size)
        columns[:, span] = (own @ T).reshape(len(y), block.q)
    return dense_check(cp, columns, y, reml)


def recheck_residual_of_sums(
    cp: SummedDesign, factors: Sequence[FloatArray], factor: Factor, reml: bool
) -> tuple[float, float]:
    """As `recheck_residual`, on rows that the sums stand for."""
    means = conditional_means(cp, factors, factor)
    effects, penalty = list[FloatArray](), 0.0
    for block, T, b in zip(cp.blocks, factors, means.b, strict=True):
        effects.append(b[0] @ block.inverse_basis.T)
        penalty += float((np.linalg.lstsq(T[0], effects[-1].T)[0] ** 2).sum())
    squares, largest = _squares(cp.sums, effects, internal_beta(cp, means.beta)[0])
    known, nu = float(factor.r2[0]), degrees_of_freedom(cp, reml)
    # What rounding does to a sum of squares whose parts are so large.
    blurred = MARGIN * UNIT * largest / max(known, 1e-300)
    gap, bound = gap_and_bound(cp, squares + penalty, known, nu, 1.0)
    return gap, bound + nu * blurred


def _squares(sums: Sums, effects: Sequence[FloatArray], beta: FloatArray) -> tuple[float, float]:
    """Sum of squares of the residual at effects (J, c) and beta (p,), and the largest of the parts of it."""
    if isinstance(sums, LevelSums):
        trailing = np.concatenate([np.empty(0), *(own.ravel() for own in effects[1:])])
        if sums.reference is not None:
            trailing = trailing - sums.reference
        v = np.concatenate([-trailing, -beta, [1.0]])
        left = sums.E @ v - (sums.R @ effects[0][..., None])[..., 0]
        return float((left**2).sum() + v @ sums.D @ v), float((v**2 * np.diagonal(sums.D)).sum())
    if isinstance(sums, CrossedSums):
        return _crossed_squares(sums, effects, beta)
    if not isinstance(sums, ChainSums):
        raise TypeError("sums of an unknown kind")
    return _chain_squares(sums, effects, beta)


def _crossed_squares(sums: CrossedSums, effects: Sequence[FloatArray], beta: FloatArray) -> tuple[float, float]:
    fixed = np.append(-beta, 1.0)
    others = -np.concatenate([own.ravel() for own in effects[1:]])
    between = sums.cells.times(others[:, None])
    left = sums.fixed @ fixed + between[..., 0] - (sums.R @ effects[0][..., None])[..., 0]
    # The products of the other factors have both parts, of which the between part is counted in `left`.
    within = others @ (sums.products @ others) - float((between**2).sum())
    own = fixed @ sums.D @ fixed
    largest = float((others**2 * sums.products.diagonal()).sum() + (fixed**2 * np.diagonal(sums.D)).sum())
    return float((left**2).sum() + within + own + 2.0 * others @ sums.within @ fixed), largest


def _chain_squares(sums: ChainSums, effects: Sequence[FloatArray], beta: FloatArray) -> tuple[float, float]:
    chain = sums.plan.chain
    fixed = np.append(-beta, 1.0)
    dense = -np.concatenate([np.empty(0), *(own.ravel() for own in effects[chain:])])
    left = sums.fixed @ fixed - (sums.R @ effects[0][..., None])[..., 0]
    for parents, up, own in zip(sums.plan.up[0], sums.up, effects[1:chain], strict=True):
        left -= (up @ own[parents][..., None])[..., 0]
    left += (sums.cells.rows() @ dense).reshape(left.shape)
    v = np.concatenate([dense, fixed])
    total, largest = float((left**2).sum() + v @ sums.D @ v), float((v**2 * np.diagonal(sums.D)).sum())
    for k, (rows, own) in enumerate(zip(sums.rows, effects[1:chain], strict=True)):
        b = -own[:, :, None]
        square = float((b.mT @ rows.own @ b).sum())
        other = rows.effects @ dense + rows.fixed @ fixed
        for parents, up, later in zip(sums.plan.up[k + 1], rows.up, effects[k + 2 : chain], strict=True):
            other -= (up @ later[parents][..., None])[..., 0]
        total, largest = total + square + 2.0 * float((b[..., 0] * other).sum()), largest + square
    return total, largest
