"""Whether chunks go together: kinds of columns, and the order of levels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import kind_of
from bayeslmm.errors import DesignError
from bayeslmm.sources.frames import no_levels, text_columns, with_text, without_value

_NUMBERS, _LEVELS, _BOOLEANS = "numbers", "levels", "booleans"
_SHOWN = 8


@dataclass(frozen=True)
class Seen:
    """What a column was when it first had a value.

    Attributes
    ----------
    kind, words : str
        Its kind, and its type in words.
    where : str
        The chunk.
    """

    kind: str
    words: str
    where: str


@dataclass
class Conforming:
    """Makes chunks alike, or says which column of which chunk is not.

    Attributes
    ----------
    source : str
        For messages.
    seen : dict of str to Seen
    levels : dict of str to pandas.Index
        Levels of columns of categories, in the order of the first chunk; further ones behind.
    ordered : dict of str to str
        Chunks in which columns first were ordered categories.
    """

    source: str
    seen: dict[str, Seen] = field(default_factory=dict)
    levels: dict[str, pd.Index] = field(default_factory=dict)
    ordered: dict[str, str] = field(default_factory=dict)

    def conform(self, frame: pd.DataFrame, where: str) -> pd.DataFrame:
        """The chunk; categories are those of all chunks so far, in one order.

        Parameters
        ----------
        frame : pandas.DataFrame
        where : str
            The chunk, such as ``"chunk 3"``.

        Raises
        ------
        DesignError
        """
        text = text_columns(frame)
        changed: dict[str, Any] = {}
        for name in frame.columns:
            series = frame[name]
            if len(series):
                self._check_kind(name, series, name in text, where, changed)
            if name not in text and name not in changed and isinstance(series.dtype, pd.CategoricalDtype):
                self._order(name, series, where, changed)
        return with_text(frame.assign(**changed), text) if changed else frame

    def _check_kind(self, name: str, series: pd.Series, text: bool, where: str, changed: dict[str, Any]) -> None:
        kind, words = kind_of_column(series, text)
        if kind == "mixed":
            _check_cells(name, series)
        known = self.seen.get(name)
        if known is not None and known.kind == kind:
            return
        if without_value(series):
            # A column without any value in a chunk may have any type there.
            if known is not None:
                changed[name] = _missing(known.kind, len(series), series)
            return
        if known is None:
            self.seen[name] = Seen(kind, words, where)
            return
        raise self._differing(name, Seen(kind, words, where))

    def _order(self, name: str, series: pd.Series, where: str, changed: dict[str, Any]) -> None:
        categories, ordered = series.cat.categories, bool(series.cat.ordered)
        known = self.levels.get(name)
        if ordered:
            self.ordered.setdefault(name, where)
        if known is None:
            self.levels[name] = categories
            return
        if known is categories or known.equals(categories):
            return
        places = known.get_indexer(categories)
        new = categories[places < 0]
        if name in self.ordered:
            self._check_order(name, known, categories, places, where)
        self.levels[name] = known.append(new) if len(new) else known
        changed[name] = series.cat.set_categories(self.levels[name], ordered=ordered)

    def _check_order(self, name: str, known: pd.Index, found: pd.Index, places: Any, where: str) -> None:
        """Ordered levels may go on behind the known ones, and nowhere else."""
        old = places[places >= 0]
        behind = len(old) == len(places) or (
            bool((places[len(old) :] < 0).all()) and len(old) > 0 and old[-1] == len(known) - 1
        )
        if bool(np.all(np.diff(old) > 0)) and behind:
            return
        raise DesignError(
            f"The ordered levels of column {name!r} of the {self.source} are {_listed(found)} in {where}, and "
            f"{_listed(known)} before. The orders contradict each other, or leave open which of two levels comes first,"
            " and contrasts depend on it. Give the column the same categories in every chunk: "
            "series.cat.set_categories([...], ordered=True)."
        )

    def join(self, other: Conforming) -> None:
        """Take in what was seen of later chunks.

        Raises
        ------
        DesignError
            They do not go together with those of before.
        """
        for name, later in other.seen.items():
            known = self.seen.setdefault(name, later)
            if known.kind != later.kind:
                raise self._differing(name, later)
        for name, levels in other.levels.items():
            empty = pd.Series(pd.Categorical([], categories=levels, ordered=name in other.ordered))
            self._order(name, empty, other.ordered.get(name, "another chunk"), {})

    def _differing(self, name: str, found: Seen) -> DesignError:
        known = self.seen[name]
        return DesignError(
            f"Column {name!r} of the {self.source} is {found.words} in {found.where}, but {known.words} in "
            f"{known.where}. A column is of one kind in all chunks, else it is not clear whether it is a number or a "
            "factor. Convert it as the chunks are made."
        )


def _check_cells(name: str, series: pd.Series) -> None:
    odd = next((value for value in series if not isinstance(value, Hashable)), None)
    if odd is not None:
        raise DesignError(
            f"Column {name!r} holds {kind_of(odd)} in each cell, e.g. {str(odd)[:60]}, which is neither a number nor a "
            "level. Take what is meant out of it into a column of its own."
        )


def kind_of_column(series: pd.Series, text: bool = False) -> tuple[str, str]:
    """The kind of a column, and its type in words.

    Examples
    --------
    >>> kind_of_column(pd.Series([1.5, 2.0])), kind_of_column(pd.Series([True, None]))
    (('numbers', 'numbers (float64)'), ('booleans', 'booleans (object)'))
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = dtype.categories.dtype
        words = "text" if text else f"categories ({levels})"
        return (_LEVELS if levels.kind not in "iufb" else f"{_LEVELS} that are numbers"), words
    kind = getattr(dtype, "kind", "O")
    if pd.api.types.is_bool_dtype(dtype):
        return _BOOLEANS, f"booleans ({dtype})"
    if pd.api.types.is_numeric_dtype(dtype):
        return _NUMBERS, f"numbers ({dtype})"
    if kind == "M":
        return "dates", f"dates ({dtype})"
    if kind == "m":
        return "durations", f"durations ({dtype})"
    found = pd.api.types.infer_dtype(series, skipna=True)
    return (_BOOLEANS if found == "boolean" else found), f"{'booleans' if found == 'boolean' else found} ({dtype})"


def _missing(kind: str, n: int, series: pd.Series) -> Any:
    if kind in (_NUMBERS, _BOOLEANS):
        return np.full(n, np.nan)
    if kind.startswith(_LEVELS):
        return no_levels(n)
    return series.array


def _listed(levels: Sequence[Any] | pd.Index) -> str:
    shown = " < ".join(str(level) for level in levels[:_SHOWN])
    return shown if len(levels) <= _SHOWN else f"{shown} < ... ({len(levels)} levels)"
