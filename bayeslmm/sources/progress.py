"""A bar of rows that are read: how many, and how fast."""

from __future__ import annotations

import time
from typing import Any

from bayeslmm.watched import bar_console, patience


class RowsBar:
    """Rows read and rows per second, once reading has taken a second; in a terminal or a notebook.

    Parameters
    ----------
    stage : str
    total : int or None
        Rows in all, if known.
    show : bool
    """

    def __init__(self, stage: str, total: int | None, show: bool = True) -> None:
        self._stage = stage
        self._total = total
        self._show = show
        self._begun = time.monotonic()
        self._rows = 0
        self._bar: Any = None
        self._task: Any = None

    def advance(self, rows: int) -> None:
        """Tell that so many rows more are done."""
        self._rows += rows
        seconds = time.monotonic() - self._begun
        if not self._show or seconds < patience():
            return
        if self._bar is None and not self._begin():
            self._show = False
            return
        of = f" of {compact(self._total)}" if self._total else ""
        done, rate = f"{compact(self._rows)}{of} rows", f"{compact(self._rows / seconds)} rows/s"
        self._bar.update(self._task, completed=self._rows, rows=done, rate=rate)

    def _begin(self) -> bool:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = bar_console()
        if console is None:
            return False
        rows = TextColumn("{task.fields[rows]}")
        columns = (TextColumn("{task.description}"), BarColumn(), rows, TextColumn("{task.fields[rate]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self._task = self._bar.add_task(self._stage, total=self._total, rows="", rate="")
        self._bar.start()
        return True

    def __enter__(self) -> RowsBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def compact(number: float) -> str:
    """A number in four signs or so.

    Examples
    --------
    >>> compact(950), compact(12_345_678), compact(2.5e9)
    ('950', '12.3M', '2.5G')
    """
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{sign}"
    return f"{number:.0f}"
