"""Many responses of one design: their cross-products, all at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.likelihood.factor import Replicates
from bayeslmm.likelihood.reduction import CANCELS, EXACT, PASSES, fit_within, frame_columns, level_sums_of
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Responses:
    """Responses reduced to what the criteria need.

    Attributes
    ----------
    replicates : Replicates
    shift : FloatArray, shape (K, p)
        Least-squares coefficients that were taken out of each response, orthogonalised columns.
    spread : FloatArray, shape (K,)
        Root mean square of what they leave.
    """

    replicates: Replicates
    shift: FloatArray
    spread: FloatArray


def reduce_responses(cp: SummedDesign, Y: FloatArray) -> Responses:
    """Cross-products of further responses with the columns of a design.

    Parameters
    ----------
    cp : SummedDesign
        With dense levels.
    Y : FloatArray, shape (n, K)
        Units of y; the design's offset is subtracted.
    """
    design = cp.design
    weights = design.row_weights
    root = None if weights is None else np.sqrt(weights)[:, None]
    X = cp.fixed.columns
    Y = Y if design.offset is None else Y - design.offset[:, None]
    residual, shift = _residualise(cp, X, Y, weights)
    spread = np.sqrt(np.average(residual**2, axis=0, weights=weights))
    residual = residual if root is None else residual * root
    columns = [z if root is None else z * root for z in frame_columns(cp)]
    X = X if root is None else X * root
    codes, J = cp.blocks[0].grouping.codes, cp.blocks[0].n_levels
    Q, _ = grouped_qr(columns[0], codes, J)
    # Within parts on both sides: what is constant within levels would else leave the rounding of large effects.
    within = split_columns(Q, X, codes, J)[0]
    replicates = _sum_up(cp, Q, columns, within, residual)
    if len(cp.blocks) > 1:
        return Responses(replicates, shift.T, spread)
    for _ in range(PASSES):
        beta, left = fit_within(level_sums_of(cp), replicates.D[:, :-1].T, replicates.D[:, -1])
        far = replicates.D[:, -1] > CANCELS * left
        if not far.any():
            break
        closer = _sum_up(cp, Q, columns, within, residual - X @ (beta * far))
        far &= closer.D[:, -1] > EXACT * (residual**2).sum(axis=0)
        residual, shift = residual - X @ (beta * far), shift + beta * far
        E = np.where(far[:, None, None], closer.E, replicates.E)
        replicates = Replicates(E, np.where(far[:, None], closer.D, replicates.D))
    return Responses(replicates, shift.T, spread)


def _sum_up(
    cp: CrossProducts, Q: FloatArray, columns: list[FloatArray], within: FloatArray, residual: FloatArray
) -> Replicates:
    """Between and within parts of the cross-products of residuals (n, K).

    All rows are multiplied by root weights; `Q` (n, c) are the orthonormal columns of the first block, `columns` those
    of all blocks, `within` (n, p) is what X varies within the levels of the first.
    """
    codes, J = cp.blocks[0].grouping.codes, cp.blocks[0].n_levels
    K, c, m = residual.shape[1], Q.shape[1], cp.q_trailing + cp.p + 1
    E = np.empty((K, J, c))
    rest = residual
    for a in range(c):
        sums = _indicator(Q[:, a], codes, J).T @ residual
        E[:, :, a] = sums.T
        rest = rest - Q[:, a, None] * sums[codes]
    D = np.empty((K, m))
    D[:, -1] = (rest**2).sum(axis=0)
    q2 = cp.q_trailing
    D[:, q2:-1] = rest.T @ within
    for (block, span), Z in zip(cp.frame.trailing_spans, columns[1:], strict=True):
        tile = np.stack([_indicator(z, block.grouping.codes, block.n_levels).T @ rest for z in Z.T], axis=1)
        D[:, span] = tile.reshape(block.q, K).T
    return Replicates(E, D)


def _residualise(
    cp: CrossProducts, X: FloatArray, Y: FloatArray, weights: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Least-squares residuals (n, K) and coefficients (p, K)."""
    if X.shape[1] == 0:
        return Y, np.zeros((0, Y.shape[1]))
    one = cp.response.constant_coef
    level = Y[0] if one.any() else np.zeros(Y.shape[1])
    residual = Y - level
    weighted = X if weights is None else X * weights[:, None]
    gram = weighted.T @ X
    coef = np.outer(one, level)
    # The second pass refines the first where that has cancelled digits.
    for _ in range(2):
        step = np.linalg.solve(gram, weighted.T @ residual)
        residual, coef = residual - X @ step, coef + step
    return residual, coef


def _indicator(values: FloatArray, codes: np.ndarray, n_levels: int) -> sparse.csr_array:
    n = codes.size
    return sparse.csr_array((values, codes, np.arange(n + 1)), shape=(n, n_levels))
