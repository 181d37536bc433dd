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

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import lapack

from bayeslmm.design.design import Design
from bayeslmm.design.dominant import heavy_rows
from bayeslmm.likelihood.columns import Basis, Known, Response, orthogonalise, residualise
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.factor import Factor, apply_lambda
from bayeslmm.likelihood.frame import Block, Frame, choose_blocks, mean_weights
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.heavy import fixed_part
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.sums import Sums
from bayeslmm.types import FloatArray

# Ratio of sds at which the reference is fitted: close to least squares, yet never worse conditioned than this.
RATIO = 100.0
# Digits may cancel up to this factor: three of sixteen.
CANCELS = 1e3
# A pass that takes a fit out gains about ten digits; more passes than this need only data without residual.
PASSES = 4
# Beside the whole, a sum of squares of a column below this is rounding; of a response, within levels, that has none
# beyond its fit.
_ROUNDING = 1e-20
EXACT = 1e-27
# Doubles of columns that are kept for further responses.
_KEPT = 100_000
# Columns this close to others within levels are left to them.
_COLLINEAR = 1e-10


def cross_products(design: Design) -> SummedDesign:
    """Reduce a design to the cross-products that every criterion evaluation starts from.

    Parameters
    ----------
    design : Design

    Returns
    -------
    SummedDesign

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), sec. 3, for the blocked elimination; the
    between-within split is the one of the analysis of variance.
    """
    known: Known = {}
    order, blocks, columns = choose_blocks(design, known)
    fixed, response = _fixed_part(design, blocks, columns, known)
    frame = Frame(blocks, order, fixed, tuple(term.structure for term in design.terms))
    return sum_up(design, frame, columns, response, log_weights(design))


def at_sigma(cp: SummedDesign, design: Design) -> SummedDesign:
    """The same sums for a design that differs in what is known of sigma alone."""
    return replace(cp, design=design, sigma=design.sigma)


def for_response(cp: SummedDesign, design: Design) -> SummedDesign:
    """The cross-products of a design that differs from that of others in the response alone; coordinates are theirs."""
    if cp.rows != "own" or heavy_rows(design) is not None:
        return cross_products(design)
    columns = cp.columns if cp.columns is not None else frame_columns(cp)
    sums = sum_up(design, cp.frame, columns, _response(design, cp.fixed), cp.log_weights)
    if sum(z.size for z in columns) <= _KEPT:
        # In a loop over responses the next one finds them.
        for own in (cp, sums):
            vars(own)["columns"] = columns
    return sums


def sum_up(
    design: Design, frame: Frame, columns: list[FloatArray], response: Response, log_weight: float
) -> SummedDesign:
    """Cross-products of the rows of a design on a frame, a reference fit taken out where much would cancel.

    Parameters
    ----------
    design : Design
    frame : Frame
    columns : list of FloatArray, each (n, c)
        Columns of the blocks in its coordinates.
    response : Response
    log_weight : float
    """
    sums = sums_of(frame, frame_rows(design, frame, columns, response))
    return _settled(SummedDesign(sums, response, log_weight, sigma_unit(design), design, sigma=design.sigma), columns)


def sums_of(frame: Frame, rows: FrameRows) -> Sums:
    """Sums of rows, kept as the plan of the frame says."""
    if frame.plan.store == "levels":
        return Levels.of(frame, rows)
    if frame.plan.store == "hierarchy":
        from bayeslmm.likelihood.hierarchy import Hierarchy

        return Hierarchy.of(frame, rows)
    from bayeslmm.likelihood.crossed import Crossed

    return Crossed.of(frame, rows)


def _settled(cp: SummedDesign, columns: list[FloatArray]) -> SummedDesign:
    """The same; of dense levels with a reference fit taken out where much would cancel."""
    if not cp.sums.batched:
        return cp
    return _take_out_within(cp, columns) if len(cp.blocks) == 1 else _take_out_reference(cp, columns)


def frame_rows(design: Design, frame: Frame, columns: list[FloatArray], response: Response) -> FrameRows:
    """Weighted columns of a design in the coordinates of a frame."""
    root = None if design.row_weights is None else np.sqrt(design.row_weights)
    Xy = _weigh(np.concatenate([frame.fixed.columns.T, response.residual[None]]), root).T
    Z = tuple(_weigh(z.T, root).T for z in columns)
    codes = tuple(block.grouping.codes for block in frame.blocks)
    return FrameRows(codes, Z, Xy, design.n_observations, heavy=heavy_rows(design), root=root)


def _weigh(rows: FloatArray, root: FloatArray | None) -> FloatArray:
    return rows if root is None else rows * root


def _fixed_part(
    design: Design, blocks: tuple[Block, ...], columns: list[FloatArray], known: Known
) -> tuple[Basis, Response]:
    """Coordinates of X, and the response less a fit on it; its spread in the units of sigma."""
    heavy, measure, weights = heavy_rows(design), mean_weights(design), design.row_weights
    if heavy is None or measure is None or weights is None:
        fixed = orthogonalise(design.X, measure, rotate=False, known=known)
        return fixed, _response(design, fixed)
    y, codes = design.y_less_offset, blocks[0].grouping.codes
    fixed, response = fixed_part(design.X, y, columns[0], codes, heavy, weights, measure)
    return fixed, _in_sigma(design, response)


def _response(design: Design, fixed: Basis) -> Response:
    return _in_sigma(design, residualise(design.y_less_offset, fixed, design.row_weights))


def _in_sigma(design: Design, response: Response) -> Response:
    unit = sigma_unit(design)
    return response if unit == 1.0 else replace(response, spread=response.spread * unit)


def sigma_unit(design: Design) -> float:
    """What sigma is in units of y: the root of the mean weight of an observation, heavy rows left aside."""
    weights = None if design.weights is None else mean_weights(design)
    return 1.0 if weights is None else float(np.sqrt(weights.mean()))


def log_weights(design: Design) -> float:
    """Sum of the log precision weights over the observations."""
    if design.weights is None:
        return 0.0
    logs = np.log(design.weights)
    return float(logs.sum() if design.frequency is None else design.frequency @ logs)


def takes_responses(cp: SummedDesign) -> bool:
    """Whether other responses can be reduced with the columns at hand (`replicates.reduce_responses`)."""
    plain = cp.rows == "own" and cp.sums.reference is None
    return cp.sums.batched and plain and heavy_rows(cp.design) is None


def as_levels(cp: SummedDesign) -> SummedDesign:
    """The same with dense levels, whatever the numbers of effects."""
    if cp.sums.batched:
        return cp
    frame = replace(cp.frame, plan=replace(cp.plan, chain=1, store="levels"))
    columns = frame_columns(cp)
    return replace(cp, sums=Levels.of(frame, replace(frame_rows(cp.design, frame, columns, cp.response), n=cp.n)))


def frame_columns(cp: SummedDesign) -> list[FloatArray]:
    """Columns (n, c) of the blocks on the rows of the design, not weighted."""
    if cp.rows == "own":
        return choose_blocks(cp.design)[2]
    return [block.columns(cp.design) @ block.basis for block in cp.blocks]


def _again(cp: SummedDesign, columns: list[FloatArray], response: Response) -> FrameRows:
    """The same rows with another response; whitening may have left fewer observations than the design has."""
    return replace(frame_rows(cp.design, cp.frame, columns, response), n=cp.n)


def _take_out_reference(cp: SummedDesign, columns: list[FloatArray]) -> SummedDesign:
    """Take a fit at large variances out of the response where much would cancel."""
    if _surely_keeps(level_sums_of(cp)):
        return cp
    factors = [RATIO * np.eye(block.size)[None] for block in cp.blocks]
    for _ in range(PASSES):
        try:
            factor = cp.sums.evaluate(factors)
        except np.linalg.LinAlgError:
            break
        if factor.total[0] <= CANCELS * factor.r2[0]:
            break
        cp = _take_out(cp, columns, factors, factor)
    return cp


def _surely_keeps(sums: LevelSums) -> bool:
    """Whether little cancels at large variances, by what is left where effects of the first block cost nothing.

    That is no more than what is left at any of its variances, and the sum of squares as it is no less than what is
    subtracted from.
    """
    within, flat = sums.D.diagonal(), sums.E.reshape(-1, sums.D.shape[0])
    total = within + (flat * flat).sum(axis=0)
    # Columns of X that do not vary within levels leave rounding only.
    chosen = (within > _ROUNDING * total)[:-1].nonzero()[0]
    if not chosen.size:
        return False
    A = sums.D[chosen[:, None], chosen]
    A.reshape(-1)[:: chosen.size + 1] += (chosen < sums.q_trailing) / RATIO**2
    L, failed = lapack.dpotrf(A, lower=1)
    if failed:
        return False
    half = lapack.dtrtrs(L, sums.D[chosen, -1], lower=1)[0]
    return bool(total[-1] <= CANCELS * (float(sums.D[-1, -1]) - float(half @ half)))


def _take_out_within(cp: SummedDesign, columns: list[FloatArray]) -> SummedDesign:
    """Take the fit within levels out of the response of a model with one block, where much would cancel."""
    for _ in range(PASSES):
        sums = level_sums_of(cp)
        beta, left = fit_within(sums, sums.D[:-1, -1:], sums.D[-1, -1:])
        if sums.D[-1, -1] <= CANCELS * left[0]:
            break
        residual = cp.response.residual - cp.fixed.columns @ beta[:, 0]
        response = replace(cp.response, residual=residual, coef=cp.response.coef + beta[:, 0])
        closer = Levels.of(cp.frame, _again(cp, columns, response))
        if closer.D[-1, -1] <= EXACT * (sums.D[-1, -1] + (sums.E[..., -1] ** 2).sum()):
            # What is left is the rounding of an exact fit, better not magnified.
            break
        cp = replace(cp, response=response, sums=closer)
    return cp


def level_sums_of(cp: SummedDesign) -> LevelSums:
    """The arrays of dense levels; an error of the program if the sums are kept otherwise."""
    if not isinstance(cp.sums, LevelSums):
        raise TypeError("these cross-products are stored as a hierarchy")
    return cp.sums


def fit_within(sums: LevelSums, products: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fixed effects within the levels of a single block.

    Parameters
    ----------
    sums : LevelSums
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
    D, E = sums.D[:-1, :-1], sums.E[..., :-1]
    within = D.diagonal()
    # Columns that do not vary within levels leave rounding only.
    flat = E.reshape(E.shape[0] * E.shape[1], E.shape[2])
    between = (flat * flat).sum(axis=0).tolist()
    varies = [j for j, (w, b) in enumerate(zip(within.tolist(), between, strict=True)) if w > _ROUNDING * (w + b)]
    beta = np.zeros(products.shape)
    if not varies:
        return beta, squares
    scale = np.sqrt(within[varies])[:, None]
    scaled = D[np.ix_(varies, varies)] / (scale * scale.T)
    beta[varies] = np.linalg.lstsq(scaled, products[varies] / scale, rcond=_COLLINEAR)[0] / scale
    return beta, squares - (beta * products).sum(axis=0)


def effect_fits(cp: SummedDesign, columns: Sequence[FloatArray], effects: FloatArray) -> Iterator[FloatArray]:
    """What internal effects (q2,) of all blocks but the first are on the rows, (n,) for each of these blocks."""
    for (block, span), Z in zip(cp.frame.trailing_spans, columns[1:], strict=True):
        yield (Z * effects[span].reshape(block.n_levels, block.size)[block.grouping.codes]).sum(1)


def _take_out(cp: SummedDesign, columns: list[FloatArray], factors: list[FloatArray], factor: Factor) -> SummedDesign:
    """Take the fit at one point out of the response, row by row."""
    q2, sums = cp.q_trailing, level_sums_of(cp)
    fitted = apply_lambda(sums.frame, factors[1:], factor.solution[..., None], transposed=False)[0, :, 0]
    beta, effects = fitted[q2:], fitted[:q2]
    step = effects if sums.reference is None else effects - sums.reference
    residual = cp.response.residual - cp.fixed.columns @ beta
    for fit in effect_fits(cp, columns, step):
        residual = residual - fit
    response = replace(cp.response, residual=residual, coef=cp.response.coef + beta)
    closer = Levels.of(cp.frame, _again(cp, columns, response), effects)
    return replace(cp, sums=closer, response=response)
