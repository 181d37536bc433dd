"""Sums of other rows at every point: many parts of one data set on its frame, each with some rows left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from bayeslmm.design.grouping import rows_of_groups
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.level_sums import Moments, unlike
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.reduction import frame_columns, frame_rows
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Doubles of the within parts of single levels held at once; beyond, those of what stays are differences.
_MOST_TILES = 8_000_000


@dataclass(frozen=True)
class ManyLevels(Levels):
    """Dense levels of K sets of rows: point k is evaluated on set k.

    R is (K, J, c, c), E (K, J, c, m) and D (K, m, m); all sets stand for the same number n of observations. What needs
    points: `evaluate` with `keep`, and `derivatives`.
    """

    @property
    def by_point(self) -> tuple[FloatArray, FloatArray]:
        """R and E, which points do not share."""
        return self.R, self.E

    @cached_property
    def unlike(self) -> bool:
        return unlike(self.R.reshape(-1, *self.R.shape[2:]))

    @cached_property
    def moments(self) -> Moments | None:
        return None

    def part(self, chosen: slice | IntArray | BoolArray) -> Self:
        """Some of the sets."""
        return type(self)(self.frame, self.n, self.R[chosen], self.E[chosen], self.D[chosen], self.reference)


@dataclass(frozen=True)
class LevelRows:
    """The rows of a data set on its frame, and what every level of the first block adds to the sums.

    Attributes
    ----------
    cp : SummedDesign
    codes : IntArray, shape (n,)
        Level of each row.
    Z : FloatArray, shape (n, c)
        Columns of the first block.
    W : FloatArray, shape (n, m)
        All other columns: effects of the other blocks, X, the response.
    tiles : FloatArray or None, shape (J, m, m)
        Within parts of the levels.
    """

    cp: SummedDesign
    codes: IntArray
    Z: FloatArray
    W: FloatArray
    tiles: FloatArray | None

    @classmethod
    def of(cls, cp: SummedDesign) -> LevelRows:
        """Rows of cross-products that are kept as dense levels, none of which outweighs the others."""
        rows: FrameRows = frame_rows(cp.design, cp.frame, frame_columns(cp), cp.response)
        W = cp.frame.trailing_rows(rows.Xy, list(zip(rows.Z, rows.codes, strict=True)))
        J, m = cp.blocks[0].n_levels, W.shape[1]
        tiles = None
        if J * m * m <= _MOST_TILES:
            Q, _ = grouped_qr(rows.Z[0], rows.codes[0], J)
            tiles = _products(split_columns(Q, W, rows.codes[0], J)[0], rows.codes[0], J)
        return cls(cp, rows.codes[0], rows.Z[0], W, tiles)

    def without(self, sets: Sequence[IntArray], n: int) -> ManyLevels:
        """The sums of all rows but those of each set, which leave n observations.

        Levels with no row in a set are those of all rows; the others are formed again from the rows that stay.
        """
        sums = self.cp.sums
        assert isinstance(sums, Levels)
        K, J = len(sets), sums.R.shape[0]
        touched, stay, owner = self._stay(sets)
        cell = owner * J + self.codes[stay]
        cells, own = np.unique(cell, return_inverse=True)
        Q, R = grouped_qr(self.Z[stay], own, cells.size)
        rest, between = split_columns(Q, self.W[stay], own, cells.size)
        all_R, all_E = (np.repeat(part[None], K, axis=0) for part in (sums.R, sums.E))
        all_R[touched], all_E[touched] = 0.0, 0.0
        all_R[cells // J, cells % J], all_E[cells // J, cells % J] = R, between
        return ManyLevels(sums.frame, n, all_R, all_E, self._within(touched, rest, owner), sums.reference)

    def _stay(self, sets: Sequence[IntArray]) -> tuple[BoolArray, IntArray, IntArray]:
        """Levels (K, J) that a set touches; their rows that stay, set after set, and the set of each."""
        J = self.cp.blocks[0].n_levels
        of_level = rows_of_groups(self.codes, J)
        touched = np.zeros((len(sets), J), dtype=bool)
        stay = []
        for k, rows in enumerate(sets):
            levels = np.unique(self.codes[rows])
            touched[k, levels] = True
            own = np.concatenate([of_level[level] for level in levels])
            stay.append(np.setdiff1d(own, rows))
        owner = np.repeat(np.arange(len(sets)), [rows.size for rows in stay])
        return touched, np.concatenate(stay), owner

    def _within(self, touched: BoolArray, rest: FloatArray, owner: IntArray) -> FloatArray:
        """Within parts (K, m, m) of all levels together."""
        own = _products(rest, owner, touched.shape[0])
        if self.tiles is not None:
            # Sums of what stays: nothing cancels, however large the rows that go are.
            J, m, _ = self.tiles.shape
            return own + (~touched @ self.tiles.reshape(J, m * m)).reshape(-1, m, m)
        sums = self.cp.sums
        assert isinstance(sums, Levels)
        out = np.repeat(sums.D[None], touched.shape[0], axis=0) + own
        for k, levels in enumerate(touched):
            rows = np.flatnonzero(levels[self.codes])
            Q, _ = grouped_qr(self.Z[rows], self.codes[rows], levels.size)
            gone = split_columns(Q, self.W[rows], self.codes[rows], levels.size)[0]
            out[k] -= gone.T @ gone
        return out


def _products(rows: FloatArray, codes: IntArray, groups: int) -> FloatArray:
    """Cross-products (G, m, m) of the rows of every group."""
    parts = (rows[own] for own in rows_of_groups(codes, groups))
    return np.stack([part.T @ part for part in parts])
