"""What the values of a column are where its type does not say: times and numbers kept as Python objects."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class TimeKind:
    """A kind of times.

    Attributes
    ----------
    words : str
        What the values are called.
    remedy : str
        Which conversion makes numbers of them (`remedies`).
    unit : str
        The unit of these.
    """

    words: str
    remedy: str
    unit: str


_DATES = TimeKind("dates or durations", "days", "days")
_DATE_OBJECTS = TimeKind("dates or durations", "days of dates", "days")
_DURATIONS = TimeKind("dates or durations", "days of durations", "days")
_PERIODS = TimeKind("dates or durations (periods)", "days of periods", "days")
_TIMES_OF_DAY = TimeKind("dates or durations (times of the day)", "hours of times", "hours")
_OBJECTS = {
    "date": _DATE_OBJECTS,
    "datetime": _DATE_OBJECTS,
    "datetime64": _DATE_OBJECTS,
    "timedelta": _DURATIONS,
    "timedelta64": _DURATIONS,
    "time": _TIMES_OF_DAY,
    "period": _PERIODS,
}
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")


def time_kind(series: pd.Series) -> TimeKind | None:
    """Which kind of times a column holds, whatever it is kept as; None for anything else, categories included."""
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype | pd.StringDtype):
        return None
    if isinstance(dtype, pd.PeriodDtype):
        return _PERIODS
    if isinstance(dtype, pd.ArrowDtype):
        return _of_arrow(str(dtype))
    if dtype.kind in "mM":
        return _DATES if dtype.kind == "M" else _DURATIONS
    if not pd.api.types.is_object_dtype(dtype):
        return None
    found = pd.api.types.infer_dtype(series, skipna=True)
    if found == "mixed" and all(isinstance(value, dt.date | np.datetime64) for value in series.dropna()):
        return _DATE_OBJECTS if series.notna().any() else None
    return _OBJECTS.get(found)


def _of_arrow(name: str) -> TimeKind | None:
    starts = {"date": _DATE_OBJECTS, "timestamp": _DATES, "duration": _DURATIONS, "time": _TIMES_OF_DAY}
    return next((kind for start, kind in starts.items() if name.startswith(start)), None)


def plain_times(series: pd.Series) -> pd.Series:
    """Times in NumPy's types where these hold them, as they are otherwise."""
    if isinstance(series.dtype, pd.ArrowDtype):
        return pd.Series(series.tolist(), index=series.index, name=series.name)
    return series


def number_objects(series: pd.Series) -> str:
    """``"numbers"``, ``"fractions"`` or ``"complex"`` if a column holds numbers as Python objects, else nothing."""
    if series.dtype != object:
        return ""
    found = pd.api.types.infer_dtype(series, skipna=True)
    if found == "complex":
        return "complex"
    if found in _NUMBERS:
        return "numbers"
    if found not in ("mixed", "mixed-integer"):
        return ""
    values = series.dropna()
    numbers = len(values) and all(isinstance(value, Number) and not isinstance(value, bool) for value in values)
    if not numbers:
        return ""
    return "complex" if any(isinstance(value, complex) for value in values) else "fractions"


def unhashable(series: pd.Series) -> Any:
    """A value that cannot be a level, such as a list; None if there is none."""
    return next((value for value in series if not isinstance(value, Hashable)), None)
