"""Tables of means and contrasts as text and as HTML: R's digits, groups under each other."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.readable import html_table, table_text
from bayeslmm.design.screen import cell_text, screen_width, wrap
from bayeslmm.means.averages import RowLabels, text_of
from bayeslmm.means.functions import Display

_LEAST_P = 1e-4
# Digits of the smallest standard error of a table, and most decimals.
_DIGITS, _MOST_PLACES = 3, 7


class PrintedMeans(ABC):
    """What prints as a heading, a table and notes."""

    @property
    @abstractmethod
    def _heading(self) -> str: ...

    @abstractmethod
    def _texts(self) -> pd.DataFrame: ...

    @abstractmethod
    def _notes(self) -> Sequence[str]: ...

    def __repr__(self) -> str:
        width, notes = screen_width(), self._notes()
        parts = [*wrap(self._heading, width, "  "), "", table_text(self._texts(), width)]
        if notes:
            parts += ["", *(line for note in notes for line in wrap(note, width, "  "))]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self._heading)}</b></p>", html_table(self._texts())]
        return "\n".join([*parts, *(f"<div>{html.escape(note)}</div>" for note in self._notes())])


def heading(display: Display) -> str:
    """What the numbers are and on which scale."""
    link, scale = display.link, ""
    if link is not None and display.scale is None:
        scale = f" on the {link.name} scale"
    elif link is not None and display.kind == "mean":
        scale = f" in units of {link.response}" + (", adjusted for bias" if display.variance is not None else "")
    method = f", {display.method}" if display.method else ""
    return f"{display.title}{scale} ({100 * display.level:.4g} % intervals{method})"


def texts(labels: RowLabels, frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as text, with labels as the index."""
    numbers = number_texts(labels, frame)
    return label_index(labels, numbers[[name for name in frame.columns if name not in labels.columns]])


def number_texts(labels: RowLabels, frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as text beside labels as columns."""
    places, plain = _decimals(frame), {*labels.columns, "letters"}
    columns = {
        name: [text_of(v) if name in plain else _cell(str(name), v, places) for v in values]
        for name, values in frame.items()
    }
    return pd.DataFrame(columns, dtype=object)


def letter_texts(labels: RowLabels, table: pd.DataFrame) -> pd.DataFrame:
    """A display of letters as text, its labels as columns."""
    return number_texts(labels, table).set_axis([""] * len(table), axis=0)


def with_labels(labels: RowLabels, numbers: pd.DataFrame) -> pd.DataFrame:
    """Labels as columns before the numbers."""
    columns = {name: list(values) for name, values in labels.columns.items()}
    return pd.concat([pd.DataFrame(columns), numbers], axis=1) if columns else numbers


def label_index(labels: RowLabels, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with labels as its index, those of groups first."""
    names = [*labels.by, *labels.own]
    columns = [[text_of(value) for value in labels.columns[name]] for name in names]
    if not names:
        index = pd.Index(["overall"] * len(frame))
    else:
        index = (
            pd.MultiIndex.from_arrays(columns, names=names) if len(names) > 1 else pd.Index(columns[0], name=names[0])
        )
    return frame.set_axis(index, axis=0)


_IN_UNITS = ("estimate", "std_error", "conf_low", "conf_high")


def _decimals(frame: pd.DataFrame) -> int | None:
    """Decimals that show three digits of the smallest standard error; None where that would be too many or none."""
    errors = frame["std_error"].to_numpy(dtype=float)
    errors = errors[np.isfinite(errors) & (errors > 0)]
    numbers = frame[[name for name in _IN_UNITS if name in frame.columns]].to_numpy(dtype=float)
    largest = float(np.nanmax(np.abs(numbers), initial=0.0))
    if not errors.size or not np.isfinite(largest):
        return None
    places = _DIGITS - 1 - int(np.floor(np.log10(errors.min())))
    return places if 0 <= places <= _MOST_PLACES and largest < 10.0**_MOST_PLACES else None


def _cell(name: str, value: float, places: int | None) -> str:
    if value != value:
        return "not estimable" if name == "estimate" else ""
    if name in _IN_UNITS and places is not None and np.isfinite(value):
        return f"{value:.{places}f}"
    if name == "p_value":
        return f"{value:.4f}" if value >= _LEAST_P else "<0.0001"
    return f"{value:.3f}" if name == "t" else f"{value:.1f}" if name == "df" and value < 1e5 else cell_text(value)
