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
        dictionaries are pandas Categoricals of that chunk, some of whose levels need not occur; text has them in the
        order of their appearance, which says nothing (`frames.text_columns` says which columns are text).
        """
        ...

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece] | None:
        """Parts that others may read by themselves, also in other processes; None where there is one stream only."""
        ...

    def group_by(self, keys: Sequence[str], value: str, shift: float | None = None) -> pd.DataFrame:
        """Cells: counts, means and sums of squares of a column by the values of others, worked out where the rows are.

        Parameters
        ----------
        keys : sequence of str
            Missing values of them make cells of their own.
        value : str
            A column of numbers.
        shift : float, optional
            Taken off the values first, so that means near it have all digits; by default a value of the column, which
            is added to the means again.

        Returns
        -------
        pandas.DataFrame
            The keys as in chunks, ``n`` (rows with a value), ``n_missing``, ``mean`` (nan where `n` is 0; infinite or
            nan if a value is infinite) and ``ss``, the sum of squares about it. Cells are in no particular order.
        """
        ...


def most_rows(columns: Sequence[str]) -> int:
    """Rows of a chunk at most.

    Examples
    --------
    >>> most_rows(["y", "x", "g"])
    1048576
    """
    return max(1, min(MOST_ROWS, _MOST_NUMBERS // max(len(columns), 1)))
