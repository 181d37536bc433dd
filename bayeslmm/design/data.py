"""Check the data, and drop and count the rows that cannot be used."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import kind_of, shown
from bayeslmm.design import kinds
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.formula import Formula
from bayeslmm.design.lazy import Labels, LabelsByReason
from bayeslmm.design.looks import likeness, listed
from bayeslmm.design.names import literal
from bayeslmm.design.quoting import missing_column, names_in
from bayeslmm.design.remedies import remedy
from bayeslmm.errors import DesignError
from bayeslmm.numerics import direct
from bayeslmm.types import AnyArray, BoolArray, FloatArray

_HALF = re.compile("[\ud800-\udfff]")
_SHOWN = 5


def used_columns(
    formula: Formula, data: pd.DataFrame | Sequence[str], namespace: Mapping[str, Any], extra: Iterable[str] = ()
) -> list[str]:
    """Names of the columns that the formula needs, each known to exist exactly once.

    Parameters
    ----------
    formula : Formula
    data : pandas.DataFrame or sequence of str
        The data or the names of its columns.
    namespace : mapping
        What else a formula may use.
    extra : iterable of str
        Further columns.

    Raises
    ------
    DesignError
        Missing or duplicated columns.
    """
    available = [str(name) for name in (data.columns if isinstance(data, pd.DataFrame) else data)]
    names: dict[str, None] = {}
    pieces = [formula.response, formula.fixed, *formula.offsets, *(bar.left for bar in formula.bars)]
    for text in dict.fromkeys(pieces):
        names |= dict.fromkeys(names_in(text, available, namespace))
    for bar in formula.bars:
        names |= dict.fromkeys(bar.factors)
    names |= dict.fromkeys(extra)
    for name in names:
        if name not in available:
            raise missing_column(name, available, formula)
        if available.count(name) > 1:
            raise DesignError(
                f"The data frame has {available.count(name)} columns named {name!r}, so it is not clear which one the "
                "formula means. Rename or drop the others."
            )
    return list(names)


def is_text(text: str) -> bool:
    """Whether nothing in a text is half a character."""
    return _HALF.search(text) is None


def check_text(columns: Mapping[str, pd.Series]) -> None:
    """Refuse names and levels that are no text: halves of characters, which nothing can print or save.

    Parameters
    ----------
    columns : mapping of str to pandas.Series

    Raises
    ------
    DesignError
    """
    for name, series in columns.items():
        values: Any = series.dtype.categories if isinstance(series.dtype, pd.CategoricalDtype) else series
        # Columns of text alone are text already where they are not kept as objects.
        texts = [v for v in values.tolist() if isinstance(v, str)] if values.dtype == object else []
        if not is_text("".join([str(name), *texts])):
            odd = next(text for text in (str(name), *texts) if not is_text(text))
            raise DesignError(
                f"The column {literal(str(name))} has the name or level {literal(odd)}, which holds half a character "
                "(a lone surrogate) and can be neither printed nor saved. It comes from text that was read in a wrong "
                "encoding: read the file again, in UTF-8 or what it was written in."
            )


def complete_rows(
    data: pd.DataFrame, columns: Sequence[str] | Mapping[str, pd.Series], extra: Mapping[str, FloatArray]
) -> tuple[BoolArray, DroppedRows]:
    """Which rows have no missing value, and a record of the others.

    Parameters
    ----------
    data : pandas.DataFrame
    columns : sequence of str or mapping
        Names, or the columns by name.
    extra : mapping
        Further vectors (weights, frequency) by name.

    Raises
    ------
    DesignError
        A column without any value, no complete row.
    """
    keep = np.empty(data.shape[0], dtype=bool)
    keep.fill(True)
    masks: dict[str, BoolArray] = {}
    for name in columns:
        missing = missing_values(columns[name] if isinstance(columns, Mapping) else data[name])
        if missing is not None:
            if missing.all():
                from bayeslmm.design.no_data import no_values

                raise no_values(name, missing.size)
            masks[f"missing {name}"] = missing
    for name, vector in extra.items():
        if np.isnan(vector).any():
            masks[f"missing {name}"] = np.isnan(vector)
        if (vector == 0).any():
            masks[f"{name.removesuffix('s')} 0"] = vector == 0
    for mask in masks.values():
        keep &= ~mask
    if not masks:
        return keep, DroppedRows()
    if not keep.any():
        from bayeslmm.design.no_data import no_rows

        raise no_rows({reason: int(mask.sum()) for reason, mask in masks.items()})
    index = data.index
    reasons = {reason: Labels(index[mask]) for reason, mask in masks.items()}
    return keep, DroppedRows(Labels(index[~keep]), LabelsByReason(reasons), _unit(index))


def _unit(index: pd.Index) -> str:
    """What labels of rows number, if the index says so by its name."""
    return str(index.name) if str(index.name).startswith("line of ") else ""


def missing_values(series: pd.Series) -> BoolArray | None:
    """Where values are missing; None if they are nowhere, which is found without a mask where possible."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and (dtype.kind in "iub" or _surely_finite(series.to_numpy())):
        return None
    if isinstance(dtype, pd.CategoricalDtype) and np.asarray(series.array.codes).min() >= 0:
        return None
    missing: BoolArray = np.asarray(series.isna())
    if not isinstance(dtype, np.dtype) and pd.api.types.is_float_dtype(dtype):
        # Types with missing values of their own may hold NaN beside these.
        missing = np.isnan(series.to_numpy(dtype=float, na_value=np.nan))
    return missing if missing.any() else None


def _surely_finite(values: AnyArray) -> bool:
    """Whether all are finite, by one pass that may overflow and then knows nothing."""
    return values.dtype.kind == "f" and values.itemsize <= 8 and math.isfinite(direct.squares(values))


def surely_usable(series: pd.Series) -> bool:
    """Whether one look shows nothing to be dropped or refused: whole or finite numbers, a level that is text per row.

    Examples
    --------
    >>> surely_usable(pd.Series([1.0, 2.0])), surely_usable(pd.Series([1.0, np.nan]))
    (True, False)
    """
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return dtype.kind in "iu" or _surely_finite(series.to_numpy())
    if not isinstance(dtype, pd.CategoricalDtype) or dtype.categories.dtype == object:
        return False
    return int(np.asarray(series.array.codes).min()) >= 0


def check_finite_columns(columns: Mapping[str, pd.Series]) -> None:
    """Refuse infinite values and complex numbers.

    Raises
    ------
    DesignError
    """
    check_real(columns)
    for name, series in columns.items():
        plain = isinstance(series.dtype, np.dtype)
        if plain and (series.dtype.kind in "iub" or _surely_finite(series.to_numpy())):
            continue
        if not pd.api.types.is_numeric_dtype(series.dtype):
            continue
        values = series.to_numpy(dtype=float, na_value=np.nan)
        bad = np.isinf(values)
        if bad.any():
            raise DesignError(
                f"Column {name!r} has {int(bad.sum())} infinite value(s), at row(s) {row_names(series.index, bad)}. A "
                "likelihood cannot use them: replace them, or set them to missing to have the rows dropped."
            )


def check_real(columns: Mapping[str, pd.Series]) -> None:
    """Refuse complex numbers.

    Raises
    ------
    DesignError
    """
    for name, series in columns.items():
        if series.dtype.kind == "c":
            raise DesignError(f"Column {name!r} holds complex numbers. Use the real part, the modulus or the angle.")


def check_finite_result(name: str, values: FloatArray, index: pd.Index) -> None:
    """Refuse values that a transformation has made infinite or undefined."""
    if _surely_finite(values):
        return
    bad = ~np.isfinite(values)
    if bad.any():
        raise DesignError(
            f"{name} is infinite or undefined at row(s) {row_names(index, bad)} although the columns it is made from "
            "are not (a logarithm of zero or of a negative number, a division by zero?). Change the expression or "
            "drop these rows."
        )


def row_names(index: pd.Index, bad: BoolArray) -> str:
    """The first labels of the rows concerned."""
    labels = [str(label) for label in index[bad][:_SHOWN]]
    return ", ".join(labels) + (", ..." if int(bad.sum()) > _SHOWN else "")


def check_usable(name: str, series: pd.Series) -> None:
    """Refuse predictors that are neither numbers nor levels of a factor.

    Raises
    ------
    DesignError
        Numbers stored as objects.
    """
    found = kinds.number_objects(series)
    if found:
        kind = "" if found == "numbers" else f" ({found})"
        number, factor = _number(name, series, found), remedy("category", name, series)
        raise DesignError(
            f"Column {name!r} holds numbers as Python objects{kind}, so it is not clear whether it is a number or a "
            f"factor. Convert it: {number} for a number, {factor} for a factor."
        )
    if series.dtype == object and (odd := kinds.unhashable(series)) is not None:
        raise DesignError(
            f"Column {name!r} holds {kind_of(odd)} in each cell, e.g. {str(odd)[:60]}, which is neither a "
            "number nor a level. Take what is meant out of it into a column of its own."
        )


def _number(name: str, series: pd.Series, found: str) -> str:
    if found == "complex":
        return f"{remedy('category', name, series).split('.astype')[0]}.map(lambda z: z.real)"
    return remedy("float" if found != "numbers" else "number", name, series)


def check_no_time(name: str, series: pd.Series) -> None:
    """Refuse dates and durations as terms of their own: their unit has to be chosen first."""
    found = kinds.time_kind(series)
    if found:
        number, factor = remedy(found.remedy, name, series), remedy("category", name, series)
        raise DesignError(
            f"Column {name!r} holds {found.words} (first: {series.iloc[0]}); a slope needs a number with a unit. "
            f"Convert it, e.g. {number} for {found.unit}, or {factor} for a factor."
        )


def check_response_column(name: str, series: pd.Series) -> None:
    """Refuse a response that is not numeric.

    Raises
    ------
    DesignError
    """
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iuf":
        return
    boolean = pd.api.types.is_bool_dtype(series.dtype)
    if pd.api.types.is_numeric_dtype(series.dtype) and not boolean:
        return
    values = series.drop_duplicates()[:3].tolist()
    shown = ", ".join(repr(v) if isinstance(v, str) else str(v) for v in values)
    if boolean or all(isinstance(v, bool) for v in values):
        raise DesignError(
            f"The response {name!r} is boolean. A linear mixed model describes a numeric response with normal "
            "errors; for a yes/no response use a logistic mixed model (bambi, brms, glmer), or convert on "
            f"purpose with {remedy('float', name, series)}."
        )
    if isinstance(series.dtype, pd.CategoricalDtype):
        raise DesignError(
            f"The response {name!r} is categorical (values {shown}, ...). A linear mixed model needs a numeric "
            "response; convert it, or use a model for categories (bambi, brms)."
        )
    time = kinds.time_kind(series)
    if time:
        raise DesignError(
            f"The response {name!r} holds {time.words} (first: {series.iloc[0]}). A linear mixed model needs numbers "
            f"with a unit: e.g. {remedy(time.remedy, name, series)} for {time.unit}."
        )
    raise DesignError(
        f"The response {name!r} is not numeric: it has type {series.dtype} with values such as {shown}. "
        f"{_to_numbers(name, series)}"
    )


def _to_numbers(name: str, series: pd.Series) -> str:
    """How a response becomes numbers; never by a conversion that would leave nothing of it."""
    if kinds.number_objects(series):
        return f"Convert it, e.g. {remedy('float', name, series)}."
    values = series.dropna()
    found = likeness([str(value) for value in values.unique()])
    if found is not None and found.words.startswith("numbers"):
        # The other conversions stop at a text that is no number.
        lost = "which become missing" if "coerced" in found.remedies else "to be made missing first"
        but = f" (but for {listed(found.exceptions)}, {lost})" if found.exceptions else ""
        ways = " or ".join(remedy(way, name, series) for way in found.remedies)
        looks = "" if found.words == "numbers" else f"It looks like {found.words}. "
        return f"{looks}Convert it, e.g. {ways}{but}."
    odd = int(pd.to_numeric(values, errors="coerce").isna().sum())
    if odd == len(values):
        return (
            "None of its values is a number as it stands: take out what does not belong to the number (units, signs of "
            f"currency, a minus that is a dash), after which {remedy('number', name, series)} converts it, or name "
            "another column."
        )
    return f"Convert it, e.g. {remedy('coerced', name, series)}, which makes {odd:,} of {len(values):,} values missing."


def check_response_values(name: str, y: FloatArray, offset: FloatArray | None) -> None:
    """Refuse a constant response."""
    rest = y if offset is None else y - offset
    if rest.size > 1 and rest[-1] == rest[0] and (rest == rest[0]).all():
        from bayeslmm.design.no_data import constant_response

        raise constant_response(name, rest.size, rest[0])


def read_weights(weights: Any, data: pd.DataFrame) -> FloatArray | None:
    """Precision weights (n,), not yet restricted to complete rows.

    Parameters
    ----------
    weights : str, array or None
        A column name or an expression of columns (``"1 / (1 + Days)"``), or one value per row.

    Raises
    ------
    DesignError
        Wrong length, not numeric, negative or infinite values.
    """
    values = read_numbers("weights", weights, data)
    if values is None:
        return None
    bad = (values < 0) | np.isinf(values)
    if bad.any():
        first = ", ".join(f"{v:g}" for v in values[bad][:_SHOWN])
        raise DesignError(
            f"{int(bad.sum())} weight(s) are negative or infinite ({first} at row(s) {row_names(data.index, bad)}). A "
            "weight is a precision: the residual variance of a row is sigma^2 / weight. Use positive numbers; a "
            "weight of 0 leaves the row out."
        )
    return values


def no_numbers(given: Any) -> str:
    """What values are that NumPy would make numbers of although they are none; empty for others."""
    series = given if isinstance(given, pd.Series) else None
    if series is None:
        try:
            array = np.ma.getdata(given) if np.ma.isMA(given) else np.asarray(given)
        except Exception:
            return f"{shown(given)}, which makes no array"
        if array.ndim != 1:
            return ""
        if array.dtype.names is not None:
            return "records"
        series = pd.Series(array)
    if kinds.time_kind(series) is not None:
        return "dates or durations"
    if pd.api.types.is_complex_dtype(series.dtype) or kinds.number_objects(series) == "complex":
        return "complex"
    text = pd.api.types.is_string_dtype(series.dtype) and not pd.api.types.is_numeric_dtype(series.dtype)
    if text and any(isinstance(value, str | bytes) for value in series):
        return f"text (e.g. {series.iloc[0]!r})"
    return ""


def read_numbers(what: str, given: Any, data: pd.DataFrame) -> FloatArray | None:
    """An argument that gives one number per row (n,), nan where missing; None if it was not given.

    Parameters
    ----------
    what : str
        Name of the argument.
    given : array or None
    data : pandas.DataFrame

    Raises
    ------
    DesignError
        Wrong length, another index, not numeric.
    """
    if given is None:
        return None
    if isinstance(given, pd.Series) and not given.index.equals(data.index):
        raise DesignError(
            f"{what} is a Series with another index than the data, so its order may be another one. Make it a column "
            f"of the data, or pass {what}.to_numpy() if row i of one belongs to row i of the other."
        )
    odd = no_numbers(given)
    if odd:
        raise DesignError(f"The values of {what} are not numbers but {odd}. Convert them to one number per row.")
    try:
        values = np.asarray(
            np.ma.filled(np.ma.asarray(given, dtype=float), np.nan) if np.ma.isMA(given) else given, float
        )
    except Exception as error:
        raise DesignError(f"The values of {what} are not numbers: {error}. Give one number per row.") from error
    if values.shape != (data.shape[0],):
        raise DesignError(
            f"{what} has shape {values.shape}, but the data have {data.shape[0]} rows. Give one number per row, or the "
            "name of a column."
        )
    return values
