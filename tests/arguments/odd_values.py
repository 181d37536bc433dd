"""Values that no argument expects: each by a name and a function that makes it afresh."""

from __future__ import annotations

import datetime
import io
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


class Hostile:
    """Refuses to be compared, shown, counted, hashed or asked whether it is true."""

    __hash__ = None  # type: ignore[assignment]

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("hostile")

    __eq__ = __ne__ = __lt__ = __gt__ = __bool__ = __repr__ = __str__ = __len__ = _refuse
    __iter__ = __getitem__ = __float__ = __int__ = __index__ = __array__ = __contains__ = _refuse


class Attributes:
    """Has every attribute that it is asked for, and none of them is of use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


ODD: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "2.5": lambda: 2.5,
    "-2.5": lambda: -2.5,
    "0.0": lambda: 0.0,
    "0.95": lambda: 0.95,
    "95": lambda: 95,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "1e300": lambda: 1e300,
    "1e-300": lambda: 1e-300,
    "2**31": lambda: 2**31,
    "2**63": lambda: 2**63,
    "2**70": lambda: 2**70,
    "10**400": lambda: 10**400,
    "empty text": lambda: "",
    "blank": lambda: " ",
    "x": lambda: "x",
    "text nan": lambda: "nan",
    "text 1": lambda: "1",
    "auto and newline": lambda: "auto\n",
    "long text": lambda: "é" * 300,
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "bytes": lambda: b"x",
    "no bytes": lambda: b"",
    "bytearray": lambda: bytearray(b"ab"),
    "1j": lambda: 1j,
    "np.nan": lambda: np.float64("nan"),
    "np.float64": lambda: np.float64(0.5),
    "np.float16 inf": lambda: np.float16("inf"),
    "np.int8(-1)": lambda: np.int8(-1),
    "np.uint64": lambda: np.uint64(2**64 - 1),
    "np.bool_": lambda: np.bool_(True),
    "np.str_": lambda: np.str_("x"),
    "np.complex128": lambda: np.complex128(1j),
    "np.datetime64": lambda: np.datetime64("2020-01-01"),
    "np.datetime64 NaT": lambda: np.datetime64("NaT"),
    "array()": lambda: np.array([]),
    "array 0-d": lambda: np.array(1.0),
    "arange(3)": lambda: np.arange(3),
    "zeros (2, 2)": lambda: np.zeros((2, 2)),
    "array of objects": lambda: np.array([object(), None], dtype=object),
    "array of text": lambda: np.array(["a", "b"]),
    "array of complex": lambda: np.array([1j, 2.0]),
    "array of dates": lambda: np.array(["2020-01-01"], dtype="datetime64[D]"),
    "array of answers": lambda: np.array([True, False]),
    "masked array": lambda: np.ma.masked_array([1.0, 2.0], mask=[True, False]),
    "masked": lambda: np.ma.masked,
    "record array": lambda: np.zeros(2, dtype=[("a", float)]),
    "[]": lambda: [],
    "[1]": lambda: [1],
    '["a"]': lambda: ["a"],
    "[None]": lambda: [None],
    "nested list": lambda: [[1, 2], [3]],
    "()": lambda: (),
    "(1, 2)": lambda: (1, 2),
    "{}": lambda: {},
    '{"a": 1}': lambda: {"a": 1},
    "{1: 2}": lambda: {1: 2},
    "{None: None}": lambda: {None: None},
    "OrderedDict": lambda: OrderedDict(a=[1]),
    "set": lambda: {1, 2},
    "frozenset": lambda: frozenset("ab"),
    "range": lambda: range(3),
    "endless-looking range": lambda: range(2**62),
    "generator": lambda: (i for i in range(3)),
    "iterator": lambda: iter(["a"]),
    "map": lambda: map(str, [1]),
    "lambda": lambda: lambda *a, **k: None,
    "raising function": lambda: lambda *a, **k: 1 / 0,
    "class": lambda: int,
    "object": lambda: object(),
    "exception": lambda: ValueError("x"),
    "module": lambda: np,
    "pd.NA": lambda: pd.NA,
    "pd.NaT": lambda: pd.NaT,
    "Timestamp": lambda: pd.Timestamp("2020-01-01"),
    "Timedelta": lambda: pd.Timedelta("1D"),
    "Series": lambda: pd.Series([1.0, 2.0]),
    "Series of text": lambda: pd.Series(["a", "b"]),
    "Series of NA": lambda: pd.Series([1, None], dtype="Int64"),
    "Categorical": lambda: pd.Categorical(["a", "b"]),
    "Index": lambda: pd.Index(["a"]),
    "MultiIndex": lambda: pd.MultiIndex.from_tuples([("a", 1)]),
    "empty frame": lambda: pd.DataFrame(),
    "frame": lambda: pd.DataFrame({"a": [1, 2]}),
    "frame of the model's columns": lambda: pd.DataFrame({"y": ["a"], "x": [None], "g": [1.5]}),
    "Fraction": lambda: Fraction(1, 3),
    "Decimal": lambda: Decimal("0.5"),
    "Decimal NaN": lambda: Decimal("NaN"),
    "Decimal sNaN": lambda: Decimal("sNaN"),
    "date": lambda: datetime.date(2020, 1, 1),
    "timedelta": lambda: datetime.timedelta(1),
    "Path": lambda: Path("no_such_file"),
    "folder": lambda: Path("."),
    "StringIO": lambda: io.StringIO("a,b\n1,2"),
    "BytesIO": lambda: io.BytesIO(b"ab"),
    "Ellipsis": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "slice": lambda: slice(None),
    "long list": lambda: list(range(100_000)),
    "list of long text": lambda: ["a" * 10_000] * 10,
    "Generator": lambda: np.random.default_rng(1),
    "RandomState": lambda: np.random.RandomState(1),
    "SeedSequence": lambda: np.random.SeedSequence(1),
    "memoryview": lambda: memoryview(b"ab"),
    "dtype": lambda: np.dtype(float),
    "hostile": Hostile,
    "list of hostile": lambda: [Hostile()],
    "every attribute": Attributes,
}
