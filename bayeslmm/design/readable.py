"""Data frames that are shown whole: folded to the width of the screen, nothing cut and no column hidden."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayeslmm.design.names import on_terminal
from bayeslmm.design.screen import ScreenColumn, cell_text, cells, screen_width, table_lines, wrap

_NUMBER = re.compile(r"[<>]? ?[-+]?(\d+\.?\d*(e[-+]?\d+)?|inf)|NaN|\[[^\[\]]*\]")


@dataclass(frozen=True, eq=False)
class Digits:
    """How the numbers of a table are written where not all of their digits are known.

    Attributes
    ----------
    frame : DataFrame
        The numbers.
    texts : callable
        Makes a frame of texts, rows and columns as there, when the table is first shown.
    """

    frame: pd.DataFrame
    texts: Callable[[], pd.DataFrame]

    def __reduce__(self) -> tuple[Any, ...]:
        # Files and other processes get the numbers: what their errors are computed from would be all of the draws.
        return type(None), ()

    def of(self, columns: pd.Index) -> dict[object, dict[float, str]]:
        """Texts by column and number: they go where the number goes, in any order or choice of rows."""
        if not (self.frame.columns.is_unique and columns.is_unique):
            return {}
        texts = self.texts()
        return {
            name: dict(zip(self.frame[name].tolist(), texts[name], strict=True))
            for name in columns.intersection(self.frame.columns)
            if self.frame[name].dtype.kind == "f"
        }


class Table(pd.DataFrame):
    """A data frame that prints as pandas prints it, but all of its columns, in blocks that fit the screen.

    What pandas computes from it prints in the same way. Numbers from draws, which the frame has in full, are printed as
    far as their Monte Carlo error lets them be known. Rows beyond pandas' ``display.max_rows`` are left out with a
    line that says so.

    Examples
    --------
    >>> wide = Table({f"column {k}": [k / 7] for k in range(8)}, index=["row"])
    >>> print(wide)
         column 0  column 1  column 2  column 3  column 4  column 5  column 6
    row       0.0  0.142857  0.285714  0.428571  0.571429  0.714286  0.857143
    <BLANKLINE>
         column 7
    row       1.0
    """

    # What pandas hands on to the frames that it makes of this one.
    _metadata = ["_digits"]  # noqa: RUF012
    _digits: Digits | None = None

    @property
    def _constructor(self) -> Any:
        return Table

    def __repr__(self) -> str:
        most = pd.get_option("display.max_rows")
        count = len(self)
        if not most or count <= most:
            return _as_pandas(self)
        head, tail = (most + 1) // 2, most // 2
        shown = self.iloc[[*range(head), *range(count - tail, count)]]
        note = f"{count} rows, of which {head + 1} to {count - tail} are not shown; to_string() has them all."
        return "\n".join([_as_pandas(shown), "", *wrap(note, screen_width())])

    def _repr_html_(self) -> str | None:
        texts = self._texts()
        with pd.option_context("display.max_colwidth", None, "display.max_columns", None):
            return _notebook(super() if texts is None else texts)

    def _texts(self) -> pd.DataFrame | None:
        """The frame as texts, where some of its numbers are not printed with all digits."""
        known = {} if self._digits is None or self.empty else self._digits.of(self.columns)
        if not known:
            return None
        # What is missing has no text, nor has a number that was computed from those of the table.
        columns = [[known.get(name, {}).get(value) for value in self[name].tolist()] for name in self.columns]
        if not any(map(any, columns)):
            return None
        out = {}
        for j, own in enumerate(columns):
            cells = _pandas_cells(self.iloc[:, j])
            out[j] = [text or cell for text, cell in zip(own, cells, strict=True)]
        return pd.DataFrame(out, index=self.index, dtype=object).set_axis(self.columns, axis=1)


@dataclass(frozen=True, eq=False)
class _Layout:
    """The texts of all cells of one frame."""

    texts: pd.DataFrame


class HeadedTable(Table):
    """A table that prints under a heading, with notes below it.

    Examples
    --------
    >>> print(headed(pd.DataFrame({"F": [1.5]}, index=["x"]), "Tests", ["One term."], lambda: None))
    Tests
         F
    x  1.5
    One term.
    """

    _metadata = ["_digits", "_layout", "heading", "notes"]  # noqa: RUF012
    heading: str = ""
    notes: tuple[str, ...] = ()
    # Not `_digits`, which frames made from this one would print their numbers by.
    _layout: _Layout | None = None

    @property
    def _constructor(self) -> Any:
        # Choices of rows and columns are tables of their own, of which the heading need not be true.
        return Table

    def _laid_out(self) -> pd.DataFrame | None:
        texts = None if self._layout is None else self._layout.texts
        return texts if texts is not None and texts.shape == self.shape else None

    def __repr__(self) -> str:
        width, texts = screen_width(), self._laid_out()
        above = [line for part in self.heading.split("\n") if part for line in wrap(part, width, "  ")]
        body = super().__repr__() if texts is None else table_text(texts, width, index_names=False)
        below = [line for note in self.notes for line in wrap(note, width)]
        # Of a table in several parts notes are about all of them, not about the last.
        return "\n".join([*above, body, *([""] if below and "\n\n" in body else []), *below])

    def _repr_html_(self) -> str | None:
        texts = self._laid_out()
        body = super()._repr_html_() if texts is None else html_table(texts)
        from html import escape

        first, _, more = self.heading.partition("\n")
        parts = [f"<p><b>{escape(first)}</b></p>"] if first else []
        parts += [f"<div>{escape(line)}</div>" for line in more.split("\n") if line]
        parts += [body or "", *(f"<div>{escape(note)}</div>" for note in self.notes)]
        return "\n".join(parts)


class Tables(dict[str, pd.DataFrame]):
    """Data frames by name, each printed under its name."""

    def __repr__(self) -> str:
        # The name of the index is that of the group, which stands above.
        return "\n\n".join(f"{name}\n{_table(frame).rename_axis(index=None)!r}" for name, frame in self.items())

    def _repr_html_(self) -> str:
        from html import escape

        parts = (f"<p><b>{escape(name)}</b></p>{_table(frame)._repr_html_()}" for name, frame in self.items())
        return "".join(parts)


def _notebook(frame: Any) -> str | None:
    """What pandas shows in a notebook."""
    found: str | None = frame._repr_html_()
    return found


def _table(frame: pd.DataFrame) -> Table:
    return frame if isinstance(frame, Table) else Table(frame)


def _as_pandas(frame: Table) -> str:
    """What pandas prints where that fits the screen, else the same numbers in blocks."""
    width = screen_width()
    if frame.empty:
        return table_text(frame, width)
    texts = frame._texts()
    if texts is not None:
        return table_text(texts, width)
    text = on_terminal(frame.to_string())
    # Signs that take two columns, or none, would put pandas' columns out of line.
    if cells(text) == len(text) and max(map(len, text.split("\n"))) <= width:
        return text
    shown = {j: _pandas_cells(frame.iloc[:, j]) for j in range(frame.shape[1])}
    texts = pd.DataFrame(shown, index=frame.index, dtype=object).set_axis(frame.columns, axis=1)
    return table_text(texts, width)


def _pandas_cells(values: pd.Series) -> list[str]:
    if values.dtype.kind != "f":
        return ["NaN" if missing else cell_text(value) for value, missing in zip(values, values.isna(), strict=True)]
    return [text.strip() for text in values.to_string(index=False, header=False).split("\n")]


def readable(frame: pd.DataFrame, texts: Callable[[], pd.DataFrame] | None = None) -> Table:
    """The same frame, to be shown whole.

    Parameters
    ----------
    frame : DataFrame
    texts : callable, optional
        Makes the texts of its numbers where not all of their digits are known; see `results.digits.in_digits`.
    """
    out = Table(frame)
    out.attrs = dict(frame.attrs)
    out._digits = None if texts is None else Digits(frame, texts)
    return out


def headed(
    frame: pd.DataFrame,
    heading: str,
    notes: Sequence[str] = (),
    texts: Callable[[], pd.DataFrame | None] | None = None,
) -> HeadedTable:
    """The same frame, to be shown whole under a heading; see `readable`."""
    out = HeadedTable(frame)
    out.attrs = dict(frame.attrs)
    shown = None if texts is None else texts()
    out._layout = None if shown is None else _Layout(shown)
    out.heading, out.notes = heading, tuple(notes)
    return out


def table_text(
    frame: pd.DataFrame,
    width: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    index_names: bool = True,
) -> str:
    """All of a data frame as text that fits the screen.

    Parameters
    ----------
    frame : DataFrame
        Numbers are shown with five significant digits, texts as they are.
    width : int, optional
        Of the screen by default.
    groups : mapping, optional
        Headings of blocks to their columns, for frames that have to be folded.
    index_names : bool
        Whether to show names of the index.
    """
    width = screen_width() if width is None else width
    labels, columns = frame_columns(frame, groups, index_names)
    if not columns:
        return "\n".join(wrap(f"No columns; rows: {', '.join(map(str, frame.index))}", width))
    if not len(frame):
        return "\n".join(wrap(f"No rows; columns: {', '.join(column.heading for column in columns)}", width))
    return "\n".join(table_lines(labels, columns, width))


def frame_columns(
    frame: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None, index_names: bool = True
) -> tuple[list[ScreenColumn], list[ScreenColumn]]:
    """Columns of labels and of cells of a data frame; see `table_text`."""
    named = {str(column): heading for heading, columns in (groups or {}).items() for column in columns}
    columns = [_column(name, frame.iloc[:, j], named) for j, name in enumerate(frame.columns)]
    return _labels(frame.index, index_names), columns


def _column(name: object, values: pd.Series, groups: Mapping[str, str]) -> ScreenColumn:
    texts = tuple(cell_text(value) for value in values.tolist())
    words = not all(text == "" or _NUMBER.fullmatch(text) for text in texts)
    return ScreenColumn(_heading(name), texts, words, groups.get(str(name), ""))


def _heading(name: object) -> str:
    return cell_text(" ".join(map(str, name)) if isinstance(name, tuple) else name)


def _labels(index: pd.Index, names: bool) -> list[ScreenColumn]:
    levels = [index.get_level_values(k) for k in range(index.nlevels)]
    return [
        ScreenColumn(
            _heading(level.name) if names and level.name is not None else "", tuple(map(_label, level.tolist()))
        )
        for level in levels
    ]


def _label(value: object) -> str:
    return cell_text(value) if isinstance(value, float) else cell_text(str(value))


def html_table(frame: pd.DataFrame, index_names: bool = True) -> str:
    """All of a data frame as an HTML table; a heading without words is no heading."""
    with pd.option_context("display.max_colwidth", None):
        page = frame.to_html(na_rep="", float_format=cell_text, border=0, index_names=index_names)
    return page.replace("<th></th>", "<td></td>")
