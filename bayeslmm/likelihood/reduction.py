"""From a design to the cross-products that every evaluation starts from.

The residual sum of squares at given variances is what is left of ``y'y`` after the fit is subtracted. Where an
effect is a thousand times the residual sd, six digits cancel in that difference, whatever the order of the
elimination. So a reference fit (fixed effects and random effects of the trailing blocks) is taken out of the
response first, on the rows themselves, and the evaluation accounts for it exactly (`factor.split_reference`).
The first block needs no reference: its between and within parts are stored apart. With no other block only the fixed
effects cancel: between the least-squares fit, which large effects of the levels have pulled away, and the fit within
levels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.likelihood.crossproducts import CrossProducts, Levels, internal_blocks, split_levels, sum_up
from bayeslmm.likelihood.factor import Factor, apply_lambda, evaluate
from bayeslmm.types import FloatArray

# Ratio of sds at which the reference is fitted: close to least squares, yet never worse conditioned than this.
_RATIO = 100.0
# Digits may cancel up to this factor: three of sixteen.
CANCELS = 1e3
# A pass that takes a fit out gains about ten digits; more passes than this need only data without residual.
PASSES = 4
# Beside the whole, a sum of squares of a column below this is rounding; of a response, within levels, that has none
# beyond its fit.
_ROUNDING = 1e-20
EXACT = 1e-27
# Columns this close to others within levels are left to them.
_COLLINEAR = 1e-10


def cross_products(design: Design) -> CrossProducts:
    """Reduce a design to the cross-products that every criterion evaluation starts from.

    Parameters
    ----------
    design : Design

    Returns
    -------
    CrossProducts

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), sec. 3, for the blocked elimination; the
    between-within split is the one of the analysis of variance.
    """
    cp = sum_up(design)
    if not isinstance(cp.store, Levels):
        return cp
    if len(cp.blocks) == 1:
        return _take_out_within(cp)
    factors = [_RATIO * np.eye(block.size)[None] for block in cp.blocks]
    for _ in range(PASSES):
        try:
            factor = evaluate(cp, factors)
        except np.linalg.LinAlgError:
            break
        if factor.total[0] <= CANCELS * factor.r2[0]:
            break
        cp = _take_out(cp, factors, factor)
    return cp


def _take_out_within(cp: CrossProducts) -> CrossProducts:
    """Take the fit within levels out of the response of a model with one block, where much would cancel."""
    for _ in range(PASSES):
        beta, left = fit_within(cp, cp.levels.D[:-1, -1:], cp.levels.D[-1, -1:])
        if cp.levels.D[-1, -1] <= CANCELS * left[0]:
            break
        residual = cp.response.residual - cp.fixed.columns @ beta[:, 0]
        response = replace(cp.response, residual=residual, coef=cp.response.coef + beta[:, 0])
        _, blocks, columns = internal_blocks(cp.design)
        store = split_levels(cp.design, blocks, columns, cp.fixed, response)
        if store.D[-1, -1] <= EXACT * (cp.levels.D[-1, -1] + (cp.levels.E[..., -1] ** 2).sum()):
            # What is left is the rounding of an exact fit, better not magnified.
            break
        cp = replace(cp, response=response, store=store)
    return cp


def fit_within(cp: CrossProducts, products: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fixed effects within the levels of a single block.

    Parameters
    ----------
    cp : CrossProducts
    products : FloatArray, shape (p, K)
        Within parts of the cross-products of X with K responses.
    squares : FloatArray, shape (K,)
        Within sums of squares of the responses.

    Returns
    -------
    beta : FloatArray, shape (p, K)
        Orthogonalised columns; zero for those that do not vary within levels.
    left : FloatArray, shape (K,)
        Sums of squares that the fit leaves, digits lost to cancellation included.
    """
    D, E = cp.levels.D[:-1, :-1], cp.levels.E[..., :-1]
    within = np.diagonal(D)
    # Columns that do not vary within levels leave rounding only.
    varies = np.flatnonzero(within > _ROUNDING * (within + (E**2).sum(axis=(0, 1))))
    beta = np.zeros(products.shape)
    if varies.size:
        scale = np.sqrt(within[varies])[:, None]
        scaled = D[np.ix_(varies, varies)] / (scale * scale.T)
        beta[varies] = np.linalg.lstsq(scaled, products[varies] / scale, rcond=_COLLINEAR)[0] / scale
    return beta, squares - (beta * products).sum(axis=0)


def _take_out(cp: CrossProducts, factors: list[FloatArray], factor: Factor) -> CrossProducts:
    """Take the fit at one point out of the response, row by row."""
    q2 = cp.q_trailing
    fitted = apply_lambda(cp, factors[1:], factor.solution[..., None], transposed=False)[0, :, 0]
    beta, effects = fitted[q2:], fitted[:q2]
    step = effects if cp.reference is None else effects - cp.reference
    residual = cp.response.residual - cp.fixed.columns @ beta
    _, blocks, columns = internal_blocks(cp.design)
    start = 0
    for block, Z in zip(blocks[1:], columns[1:], strict=True):
        tile = step[start : start + block.q].reshape(block.n_levels, block.size)
        residual = residual - (Z * tile[block.grouping.codes]).sum(1)
        start += block.q
    response = replace(cp.response, residual=residual, coef=cp.response.coef + beta)
    store = split_levels(cp.design, blocks, columns, cp.fixed, response)
    return replace(cp, store=store, response=response, reference=effects)
