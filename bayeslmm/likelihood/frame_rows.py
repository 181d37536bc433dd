"""Rows of data with their columns in the coordinates of a frame: what sums are made from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bayeslmm.equality import made_fast
from bayeslmm.types import BoolArray, FloatArray, IntArray


@made_fast
@dataclass(frozen=True)
class FrameRows:
    """Weighted (or otherwise whitened) columns of some rows, in the coordinates of a frame.

    Attributes
    ----------
    codes : tuple of IntArray, each (n,)
        For every block of the frame the level of each row.
    Z : tuple of FloatArray, each (n, c)
        For every block its columns within the level.
    Xy : FloatArray, shape (n, p + 1)
        Columns of X, then the response.
    n : int
        Observations that the rows stand for.
    dense : FloatArray or None, shape (n, q2)
        Columns of the effects of all blocks but the first, where whitening has mixed rows of several of their levels;
        in place of their `Z`.
    heavy : BoolArray or None, shape (n,)
        Rows whose weight dwarfs all others.
    root : FloatArray or None, shape (n,)
        Roots of the weights that the columns were multiplied by.
    """

    codes: tuple[IntArray, ...]
    Z: tuple[FloatArray, ...]
    Xy: FloatArray
    n: int
    dense: FloatArray | None = None
    heavy: BoolArray | None = None
    root: FloatArray | None = None

    def take(self, rows: IntArray, n: int | None = None) -> FrameRows:
        """Some of the rows, standing for n observations (as many as rows by default)."""
        return FrameRows(
            tuple(codes[rows] for codes in self.codes),
            tuple(Z[rows] for Z in self.Z),
            self.Xy[rows],
            rows.size if n is None else n,
            None if self.dense is None else self.dense[rows],
            None if self.heavy is None else self.heavy[rows],
            None if self.root is None else self.root[rows],
        )

    def without(self, rows: BoolArray) -> FrameRows:
        """The same with the columns of some rows put to zero."""
        kept = ~rows[:, None]
        return replace(self, Z=tuple(z * kept for z in self.Z), Xy=self.Xy * kept, heavy=None, root=None)
