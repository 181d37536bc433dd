"""Between and within parts of the columns of some rows with respect to the levels of the first block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.heavy import split_level
from bayeslmm.likelihood.within import grouped_qr, level_sums, split_columns
from bayeslmm.types import BoolArray, FloatArray, IntArray


def split_rows(frame: Frame, rows: FrameRows) -> tuple[FloatArray, FloatArray, FloatArray]:
    """R, E and D of `LevelSums` for some rows."""
    if rows.heavy is not None and rows.root is not None:
        return _split_heavy(frame, rows, rows.heavy, rows.root)
    return _split(frame, rows)


def _split(frame: Frame, rows: FrameRows) -> tuple[FloatArray, FloatArray, FloatArray]:
    first = frame.blocks[0]
    codes, n_levels, c = rows.codes[0], first.n_levels, first.size
    Q, R = grouped_qr(rows.Z[0], codes, n_levels)
    if rows.dense is not None:
        within, between = split_columns(Q, np.hstack([rows.dense, rows.Xy]), codes, n_levels)
        return R, between, within.T @ within
    q2 = frame.q_trailing
    m = q2 + rows.Xy.shape[1]
    residual, between = split_columns(Q, rows.Xy, codes, n_levels)
    if not frame.trailing_blocks:
        return R, between, residual.T @ residual
    E, D = np.empty((n_levels, c, m)), np.empty((m, m))
    E[:, :, q2:], D[q2:, q2:] = between, residual.T @ residual
    _trailing(frame, rows.codes, rows.Z, Q, residual, E, D)
    return R, E, D


def _split_heavy(
    frame: Frame, rows: FrameRows, heavy: BoolArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same where few rows outweigh the others: their levels one by one."""
    codes = rows.codes[0]
    chosen = np.zeros(frame.blocks[0].n_levels, dtype=bool)
    chosen[codes[heavy]] = True
    # Rows of no weight leave the levels of heavy rows out.
    R, E, D = _split(frame, rows.without(chosen[codes]))
    for level in np.flatnonzero(chosen):
        own = np.flatnonzero(codes == level)
        known = [(z[own], levels[own]) for z, levels in zip(rows.Z, rows.codes, strict=True)]
        others = frame.trailing_rows(rows.Xy[own], known)
        R[level], E[level], rest, _ = split_level(rows.Z[0][own], others, root[own])
        D += rest.T @ rest
    return R, E, D


def _trailing(
    frame: Frame,
    codes: Sequence[IntArray],
    Z: Sequence[FloatArray],
    Q: FloatArray,
    residual: FloatArray,
    E: FloatArray,
    D: FloatArray,
) -> None:
    """Fill the rows and columns of E and D that belong to the other grouping factors."""
    q2 = D.shape[0] - residual.shape[1]
    sizes = [block.n_levels for block in frame.blocks]
    for j, (block, span) in enumerate(frame.trailing_spans, start=1):
        E[:, :, span] = _cross(Q, codes[0], sizes[0], Z[j], codes[j], sizes[j]).reshape(*E.shape[:2], block.q)
        for k, (other, place) in enumerate(frame.trailing_spans[:j], start=1):
            tile = _cross(Z[j], codes[j], sizes[j], Z[k], codes[k], sizes[k]).reshape(block.q, other.q)
            D[span, place] = tile
            D[place, span] = tile.T
        sums = np.stack([level_sums(codes[j], z[:, None] * residual, block.n_levels) for z in Z[j].T], 1)
        D[span, q2:] = sums.reshape(block.q, -1)
        D[q2:, span] = D[span, q2:].T
    between = E[:, :, :q2].reshape(-1, q2)
    D[:q2, :q2] -= between.T @ between


def _cross(A: FloatArray, a: IntArray, n_a: int, B: FloatArray, b: IntArray, n_b: int) -> FloatArray:
    """Cross-products of the columns of two blocks with their levels, shape (J_a, c_a, J_b, c_b)."""
    cell = a * n_b + b
    out = np.empty((n_a, A.shape[1], n_b, B.shape[1]))
    for i in range(A.shape[1]):
        for k in range(B.shape[1]):
            sums = np.bincount(cell, weights=A[:, i] * B[:, k], minlength=n_a * n_b)
            out[:, i, :, k] = sums.reshape(n_a, n_b)
    return out
