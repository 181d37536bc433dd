"""Rows of groups in their order, groups of one size and one pattern of positions together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.types import FloatArray, IntArray

# Pairs of rows that a start is made from.
_MOST_PAIRS = 200_000


@dataclass(frozen=True)
class Together:
    """All groups with m rows.

    Attributes
    ----------
    rows : IntArray, shape (B, m)
        Rows of every group, in the order of their positions.
    which : IntArray, shape (B,)
        Pattern of every group.
    first : IntArray, shape (U, m)
        Rows of one group of each pattern.
    counts : FloatArray, shape (U,)
        Groups of each pattern.
    """

    rows: IntArray
    which: IntArray
    first: IntArray
    counts: FloatArray


@dataclass(frozen=True)
class RowLayout:
    """Rows sorted by group and position.

    Attributes
    ----------
    order : IntArray, shape (n,)
    follows : IntArray, shape (s,)
        Places in `order` of rows that have one before them in their group.
    blocks : tuple of Together
    """

    order: IntArray
    follows: IntArray
    blocks: tuple[Together, ...]

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """Rows (s,) that have one before them in their group: the one before, and they."""
        return self.order[self.follows - 1], self.order[self.follows]

    @cached_property
    def previous(self) -> IntArray:
        """The row (n,) before each, itself where there is none."""
        before, after = self.pairs
        found = np.arange(self.order.size)
        found[after] = before
        return found


def make_layout(clusters: IntArray, at: FloatArray, keys: tuple[FloatArray | IntArray, ...]) -> RowLayout:
    """Lay out rows with groups (n,), positions (n, d), and what else makes patterns differ, each (n,)."""
    order = np.lexsort((*at.T[::-1], clusters))
    own = clusters[order]
    starts = np.flatnonzero(np.append(True, own[1:] != own[:-1])) if own.size else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, own.size))
    follows = np.setdiff1d(np.arange(own.size), starts, assume_unique=True)
    described: FloatArray = np.column_stack([at, *keys]).astype(float)
    blocks = tuple(_together(order, starts[sizes == m], int(m), described) for m in np.unique(sizes))
    return RowLayout(order, follows, blocks)


def _together(order: IntArray, starts: IntArray, m: int, described: FloatArray) -> Together:
    rows = order[starts[:, None] + np.arange(m)]
    flat = np.ascontiguousarray(described[rows].reshape(rows.shape[0], -1)) + 0.0
    # Whole rows as one item each sort much faster than column by column.
    items = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, which, counts = np.unique(items, return_index=True, return_inverse=True, return_counts=True)
    return Together(rows, which.ravel(), rows[first], counts.astype(float))


def pairs_within(layout: RowLayout) -> tuple[IntArray, IntArray]:
    """Pairs of rows of one group: all, or those that are close where these are many."""
    first, second, left = [], [], _MOST_PAIRS
    for block in layout.blocks:
        B, m = block.rows.shape
        for lag in range(1, m):
            if left <= 0:
                break
            first.append(block.rows[:, :-lag].ravel())
            second.append(block.rows[:, lag:].ravel())
            left -= B * (m - lag)
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *first]), np.concatenate([nothing, *second])
