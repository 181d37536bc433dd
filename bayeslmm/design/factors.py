"""Values that are levels: factors of columns and expressions, their order, their coding, and dates beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design import kinds
from bayeslmm.design.contrasts import NAMED, Contrasts, Treatment
from bayeslmm.design.expressions import Call, Node
from bayeslmm.design.functions import CODINGS
from bayeslmm.design.groups import level_name
from bayeslmm.design.tables import labels_of
from bayeslmm.errors import DesignError
from bayeslmm.types import AnyArray, BoolArray, FloatArray, IntArray

_SHOWN = 8
# Code of a value on new rows that is none of the levels, where such rows get zeros.
NO_LEVEL = -1


@dataclass(frozen=True, eq=False)
class CodedFactor:
    """Values that are levels.

    Attributes
    ----------
    codes : IntArray, shape (n,)
        Position of each value among the levels.
    levels : tuple
        In their order.
    ordered : bool
    contrasts : str, Treatment, array, optional
        How the factor is coded; by default ``"poly"`` if it is ordered, else ``"treatment"``.
    """

    codes: IntArray
    levels: tuple[Any, ...]
    ordered: bool = False
    contrasts: Contrasts | None = None

    @property
    def coding(self) -> Contrasts:
        if self.contrasts is not None:
            return self.contrasts
        return "poly" if self.ordered else "treatment"


@dataclass(frozen=True, eq=False)
class Times:
    """Dates or durations; functions of the user's own can make numbers of them."""

    series: pd.Series


@dataclass(frozen=True, eq=False)
class Indicators:
    """Columns (n, k) of some levels, 1 in their rows: numbers, which no rule about intercepts and margins recodes."""

    matrix: FloatArray
    names: tuple[str, ...]


type Column = FloatArray | BoolArray | CodedFactor | Times


@dataclass(frozen=True)
class Omitting:
    """``Sum(level)``: deviations from the mean, without a coefficient of that level."""

    level: Any = None


def column_values(series: pd.Series, keep_levels: bool = False) -> Column:
    """Values of a column of the data; levels that do not occur are left out unless they are to be kept."""
    dtype = series.dtype
    if kinds.time_kind(series) is not None:
        return Times(kinds.plain_times(series).reset_index(drop=True))
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(series.array if keep_levels else _with_rows(series.array))
    if pd.api.types.is_bool_dtype(dtype):
        return series.to_numpy(dtype=bool)
    if pd.api.types.is_numeric_dtype(dtype):
        # Powers and differences of integers would wrap around.
        return (
            series.to_numpy(dtype=float, na_value=np.nan) if not isinstance(dtype, np.dtype) else series.to_numpy(float)
        )
    levels = sorted(pd.unique(series).tolist(), key=lambda v: (str(type(v)), v))
    return _categories(pd.Categorical(series, categories=pd.Index(levels, tupleize_cols=False)))


def _with_rows(values: pd.Categorical) -> pd.Categorical:
    """The factor without levels that do not occur, which pandas takes long to find where there are none."""
    codes = np.asarray(values.codes)
    every = codes.size and codes.min() >= 0 and np.bincount(codes, minlength=len(values.categories)).min() > 0
    return values if every else values.remove_unused_categories()


def _categories(values: Any) -> CodedFactor:
    codes: IntArray = np.asarray(values.codes, dtype=np.int64)
    return CodedFactor(codes, tuple(labels_of(values.categories)), bool(values.ordered))


def as_factor(
    value: Any, node: Node, known_levels: dict[Node, CodedFactor], *, zero_levels: bool = False
) -> CodedFactor:
    """Levels of any column; on other rows those of the first evaluation, which `known_levels` keeps by node."""
    if isinstance(value, Times):
        value = _categories(pd.Categorical(value.series))
    if isinstance(value, np.ndarray) and value.ndim == 1:
        levels, codes = np.unique(value, return_inverse=True)
        value = CodedFactor(codes.astype(np.int64), tuple(_whole_levels(levels)))
    if not isinstance(value, CodedFactor):
        raise DesignError(f"A factor needs a column, one value per row, not {described(value)}.")
    if value.codes.min(initial=0) < 0 and not zero_levels:
        raise DesignError(f"{_text(node)} has {int((value.codes < 0).sum())} value(s) that are no level.")
    known = known_levels.setdefault(node, value)
    return value if known.levels == value.levels else recoded(value, known, node, zero_levels=zero_levels)


def _whole_levels(levels: AnyArray) -> list[Any]:
    """Levels of a numeric column under the names that they have in the data: 2, not 2.0."""
    if levels.dtype == float and np.isfinite(levels).all() and (levels == np.round(levels)).all():
        return [int(level) for level in levels]
    return list(levels.tolist())


def _text(node: Node | str) -> str:
    return node if isinstance(node, str) else (node.text if isinstance(node, Call) else "A factor")


def recoded(value: CodedFactor, known: CodedFactor, node: Node | str, *, zero_levels: bool = False) -> CodedFactor:
    """Values as levels known from other rows; others are an error, or no level where these are allowed."""
    position = {level_name(level): place for place, level in enumerate(known.levels)}
    unknown = [name for name in map(level_name, value.levels) if name not in position]
    used = {level_name(value.levels[code]) for code in np.unique(value.codes) if code != NO_LEVEL}
    unknown = [name for name in unknown if name in used]
    if unknown and not zero_levels:
        shown = ", ".join(map(repr, unknown[:_SHOWN]))
        raise DesignError(
            f"{_text(node)} has level(s) on the new rows that the data of the model did not have: {shown}. Known "
            f"levels: {level_names(known)}."
        )
    place = np.array([position.get(level_name(level), NO_LEVEL) for level in value.levels], dtype=np.int64)
    return CodedFactor(_moved(value.codes, place), known.levels, known.ordered, known.contrasts)


def _moved(codes: IntArray, place: IntArray) -> IntArray:
    """Codes after the levels have got other places; no level stays none."""
    return np.where(codes == NO_LEVEL, NO_LEVEL, place[codes])


def with_levels(factor: CodedFactor, levels: Any) -> CodedFactor:
    """The factor with levels in a given order, all of those that occur."""
    if levels is None:
        return factor
    if not isinstance(levels, list) or len({level_name(v) for v in levels}) < len(levels):
        raise DesignError(f"levels are a list of different values, e.g. levels=['b', 'a'], not {described(levels)}.")
    names = [level_name(level) for level in levels]
    missing = [level_name(level) for level in factor.levels if level_name(level) not in names]
    if missing:
        raise DesignError(
            f"levels={levels!r} leaves out {', '.join(map(repr, missing[:_SHOWN]))}, which occurs: its rows would have "
            "no level. Name all levels, or drop the rows beforehand."
        )
    occurring = [level for level in levels if level_name(level) in {level_name(v) for v in factor.levels}]
    return recoded(factor, CodedFactor(factor.codes, tuple(occurring), factor.ordered, factor.contrasts), "levels")


def with_reference(factor: CodedFactor, level: Any) -> CodedFactor:
    """The factor with another first level."""
    if factor.ordered:
        raise DesignError(
            f"relevel() is for unordered factors; this one is ordered (levels {level_names(factor)}), and its trends "
            "would follow the new order. Use T(f, 'b') for differences from a level."
        )
    if level is None:
        raise DesignError("relevel() needs the level that becomes the reference: relevel(f, 'b').")
    place = level_position(factor, level)
    order = [place, *(i for i in range(len(factor.levels)) if i != place)]
    levels = tuple(factor.levels[i] for i in order)
    places = np.argsort(order).astype(np.int64)
    return CodedFactor(_moved(factor.codes, places), levels, factor.ordered, factor.contrasts)


def level_position(factor: CodedFactor, value: Any) -> int:
    """Position of a level by its value or its name."""
    if isinstance(value, np.ndarray | CodedFactor | Times | list):
        raise DesignError(f"A level is a number or a text, not {described(value)}. Levels: {level_names(factor)}.")
    for place, level in enumerate(factor.levels):
        if (isinstance(value, str) and level_name(level) == value) or level_name(level) == level_name(value):
            return place
    raise DesignError(
        f"{value!r} is no level of the factor it is compared with, so that nothing would be told apart by it. "
        f"Levels: {level_names(factor)}."
    )


def level_names(factor: CodedFactor) -> str:
    """The first levels in words."""
    names = [repr(level_name(level)) for level in factor.levels[:_SHOWN]]
    return ", ".join(names) + (", ..." if len(factor.levels) > _SHOWN else "")


def described(value: Any) -> str:
    """A value in words, for messages."""
    if isinstance(value, CodedFactor):
        shown = ", ".join(repr(level_name(level)) for level in value.levels[:3])
        return f"a factor (levels {shown}{', ...' if len(value.levels) > 3 else ''})"
    if isinstance(value, Times):
        first = value.series.iloc[0] if len(value.series) else "none"
        return (
            f"dates or durations (first: {first}). Convert them in the data beforehand, e.g. "
            "(data[name] - data[name].min()) / pandas.Timedelta('1D') for days"
        )
    if isinstance(value, Indicators):
        return f"columns of the levels {', '.join(value.names[:3])}"
    if isinstance(value, np.ndarray):
        return "a column"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else f"{value!r}"


def chosen_coding(name: str, factor: CodedFactor, named: Mapping[str, Any]) -> tuple[bool, Contrasts | None]:
    """Whether a factor is ordered, and its contrasts, by the function that makes it."""
    if name in ("ordered", "as.ordered"):
        return True, "poly"
    if name in ("factor", "as.factor"):
        return factor.ordered, None
    if name == "T":
        return False, Treatment(named.get("ref"))
    contrast = Omitting(named.get("omit")) if name == "S" else named.get("contrast")
    return factor.ordered, _contrasts(contrast, factor)


def _contrasts(given: Any, factor: CodedFactor) -> Contrasts | None:
    """Contrasts as ``C()`` takes them: a name of ours, formulae's or R's, a call, a matrix row by row."""
    if given is None:
        return factor.contrasts
    if isinstance(given, Omitting):
        return _omitting(factor, given.level)
    if isinstance(given, list):
        raise DesignError(
            "C() takes the name of a coding: C(f, Sum), C(f, Treatment('b')). For a matrix use contrasts=."
        )
    if isinstance(given, str):
        return _named_contrasts(given, factor)
    return given if isinstance(given, Treatment) else _refuse_contrasts(given)


def _named_contrasts(name: str, factor: CodedFactor) -> Contrasts:
    if name == "Sum":
        return _omitting(factor, None)
    kind = CODINGS.get(name, name)
    if kind == "SAS":
        return Treatment(factor.levels[-1])
    if kind not in NAMED and name in map(level_name, factor.levels):
        raise DesignError(
            f"{name!r} is a level, where C() takes the name of a coding. For differences from it write "
            f"C(f, Treatment({name!r})), for deviations from the mean without a coefficient of it C(f, Sum({name!r}))."
        )
    return kind


def _refuse_contrasts(given: Any) -> Contrasts:
    raise DesignError(
        f"C() takes the name of a coding, e.g. C(f, Sum) or C(f, Treatment('b')), not {described(given)}."
    )


def indicators(factor: CodedFactor, levels: Any, *, every: bool = False) -> FloatArray | Indicators:
    """lme4's ``dummy(f, levels)``: columns of some levels, by default of all but the first, or of `every` one.

    A single one is a numeric column like any other.
    """
    if levels is None:
        places = list(range(0 if every else 1, len(factor.levels)))
    else:
        places = [level_position(factor, value) for value in (levels if isinstance(levels, list) else [levels])]
    if not places or len(set(places)) < len(places):
        raise DesignError(
            f"dummy() makes a column for each of the levels that it is given, each named once, and of a factor of one "
            f"level none by itself. Levels here: {level_names(factor)}."
        )
    matrix = np.asarray(factor.codes[:, None] == np.array(places), dtype=float)
    if len(places) == 1:
        return matrix[:, 0]
    return Indicators(matrix, tuple(level_name(factor.levels[place]) for place in places))


def _omitting(factor: CodedFactor, level: Any) -> Contrasts:
    """Sum contrasts without a column of the level given, by default the last one."""
    names = [level_name(value) for value in factor.levels]
    place = len(names) - 1 if level is None else level_position(factor, level)
    matrix = np.delete(np.eye(len(names)), place, axis=1)
    matrix[place] = -1.0
    kept = [name for i, name in enumerate(names) if i != place]
    return pd.DataFrame(matrix, index=list(factor.levels), columns=kept)


def single(value: Any, what: str) -> Any:
    """A single value, or an error that says what it is instead."""
    if isinstance(value, np.ndarray | CodedFactor | Times | list) or callable(value):
        raise DesignError(f"{what} takes single values, numbers or text, not {described(value)}.")
    return value.item() if isinstance(value, np.generic) else value
