"""What every source of data can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pandas as pd

# Row groups of parquet files have 2^20 rows by default: they stay whole.
MOST_ROWS = 1 << 20
# Numbers in a chunk: frames of many columns have fewer rows.
_MOST_NUMBERS = 1 << 24

type Piece = Callable[[], Iterator[pd.DataFrame]]


class Source(Protocol):
    """Rows that are read chunk by chunk, as often as wanted.

    Attributes
    ----------
    name : str
        For messages, such as ``"parquet folder 'ratings/' (12 files)"``.
    columns : tuple of str
    n : int or None
        Rows, if known without reading.
    ordered : bool
        Whether every pass has the same rows in the same order, and chunks end at the same rows.
    threads : bool
        Whether a thread other than the user's may read.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def n(self) -> int | None: ...

    @property
    def ordered(self) -> bool: ...

    @property
    def threads(self) -> bool: ...

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """Frames with exactly these columns, from chunk number `first` on.

        Numbers are NumPy's; whole numbers with missing values are float64 in the chunk concerned. Text and
        dictionaries are pandas Categoricals with the levels of that chunk, text with those that occur, in the order of
        their appearance (`frames.text_columns` says which columns are text: their levels have no order).
        """
        ...

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece] | None:
        """Parts that others may read by themselves, also in other processes; None where there is one stream only."""
        ...


def most_rows(columns: Sequence[str]) -> int:
    """Rows of a chunk at most.

    Examples
    --------
    >>> most_rows(["y", "x", "g"])
    1048576
    """
    return max(1, min(MOST_ROWS, _MOST_NUMBERS // max(len(columns), 1)))
