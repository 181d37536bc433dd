"""Tables of several libraries as columns under names; and what else is given for data, with the way to a table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import with_article
from bayeslmm.errors import DesignError

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

type Table = pd.DataFrame | nw.DataFrame[Any]

# Before version 3 an assignment to a data frame reached shallow copies of it.
SHARED = int(pd.__version__.split(".")[0]) < 3
# Attribute of a column that says which library its table is from, where that is not pandas.
LIBRARY = "table of"
_READERS = {
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".txt": "read_csv",
    ".parquet": "read_parquet",
    ".feather": "read_feather",
    ".xlsx": "read_excel",
    ".xls": "read_excel",
    ".ods": "read_excel",
    ".sav": "read_spss",
    ".dta": "read_stata",
    ".sas7bdat": "read_sas",
    ".json": "read_json",
}
# An index does not change, and views of it are known as such. So many are remembered, with no more labels than that.
_recent: tuple[tuple[pd.Index, tuple[Any, ...], pd.Index], ...] = ()
_INDEXES, _REMEMBERED = 8, 1_000
_TABLES = "a pandas, polars or pyarrow table"


def open_table(data: Any) -> tuple[Table, list[str]]:
    """The data as a table, nothing copied or converted, and the names of its columns.

    Columns of a pandas frame that are called by numbers, tuples or dates are found under the text of these.

    Raises
    ------
    DesignError
        Not a data frame, no rows, duplicated column names (of other tables than pandas frames).

    Examples
    --------
    >>> open_table(pd.DataFrame(np.zeros((2, 3))))[1]
    ['0', '1', '2']
    """
    table: Table
    if isinstance(data, pd.DataFrame):
        given = labels_of(data.columns)
        names = [str(name) for name in given]
        table = data if all(isinstance(name, str) for name in given) else _renamed(data, names)
    else:
        import narwhals.stable.v2 as nw
        from narwhals.exceptions import DuplicateError

        try:
            table = nw.from_native(data, eager_only=True)
            names = list(table.schema)
        except DuplicateError as error:
            raise DesignError(f"The table has several columns of one name. Rename or drop them. ({error})") from error
        except TypeError as error:
            raise DesignError(no_table(data)) from error
    if table.shape[0] == 0:
        raise DesignError(
            f"The data frame has no rows ({table.shape[1]} columns). Check the filter or the file it came from."
        )
    return table, names


def labels_of(index: pd.Index) -> Sequence[Any]:
    """Labels of columns or of levels, which take their time where Arrow has them; those of the last are remembered."""
    return _as_objects(index)[0] if isinstance(index.dtype, pd.StringDtype) else index.tolist()


def _as_objects(index: pd.Index) -> tuple[Sequence[Any], pd.Index]:
    """Labels of an index of text, and an index of them as Python's objects."""
    global _recent
    for known, labels, objects in _recent:
        if index.is_(known):
            return labels, objects
    labels = tuple(index.tolist())
    objects = pd.Index(labels, dtype=object, name=index.name)
    if len(labels) <= _REMEMBERED:
        _recent = ((index, labels, objects), *_recent[: _INDEXES - 1])
    return labels, objects


def kept_column(series: pd.Series) -> pd.Series:
    """A column of a frame to be kept, in which nothing changes when the frame is changed."""
    return series.copy() if SHARED else series


def kept_table(data: Any) -> Any:
    """A table to be kept, in which nothing changes when the user's own is changed."""
    if not isinstance(data, pd.DataFrame):
        return data
    # Without attrs, which pandas would copy along with every column; and it looks at the label of every column taken.
    plain = type(data) is pd.DataFrame and not data.attrs
    kept = data.copy(deep=SHARED) if plain else pd.DataFrame(data, copy=SHARED)
    if isinstance(data.columns.dtype, pd.StringDtype):
        kept.columns = _as_objects(data.columns)[1]
    return kept


def _renamed(data: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    frame = data.copy(deep=False)
    frame.columns = pd.Index(names, dtype=object)
    return frame


def to_pandas(table: Any, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A pandas frame with the columns named, by default all; of a pandas frame with all, not copied.

    Raises
    ------
    DesignError
        As `open_table`.
    """
    if names is None:
        table, names = open_table(table)
    if isinstance(table, pd.DataFrame):
        # pandas copies attrs along with every column.
        return pd.DataFrame(table, copy=False) if table.attrs else table
    chosen = table.select(*names)
    try:
        frame = _converted(chosen)
    except Exception as error:
        types = ", ".join(f"{name} ({dtype})" for name, dtype in chosen.schema.items())
        raise DesignError(
            f"The {table.implementation} table cannot be converted: {type(error).__name__}: {error}. Its columns are "
            f"{types}. Cast columns of unusual types to numbers or text first."
        ) from error
    frame.attrs = {LIBRARY: str(table.implementation)}
    return frame


def _converted(chosen: nw.DataFrame[Any]) -> pd.DataFrame:
    wide = {name: chosen[name].to_list() for name, dtype in chosen.schema.items() if _needs_digits(chosen[name], dtype)}
    frame = pd.DataFrame(chosen.drop(*wide).to_pandas() if wide else chosen.to_pandas())
    for name, values in wide.items():
        frame[name] = _whole_numbers(values)
    return frame


def _needs_digits(column: nw.Series[Any], dtype: Any) -> bool:
    """Whether integers would be doubles in pandas that do not hold them."""
    import narwhals.stable.v2 as nw

    from bayeslmm.sources.frames import beyond_floats

    if dtype in (nw.Int64, nw.UInt64) and column.null_count():
        return beyond_floats(column.min(), column.max())
    return dtype in (nw.Int128, nw.UInt128)


def _whole_numbers(values: Sequence[int | None]) -> pd.Series:
    """Integers of up to 128 bits as the smallest type that holds them all; beyond 64 bits as Python's."""
    ends = [value for value in values if value is not None] or [0]
    fits = min(ends) >= -(2**63) and max(ends) < 2**63
    return pd.Series(list(values), dtype="Int64" if fits else object)


def library_of(series: pd.Series) -> str:
    """``"polars"`` or ``"pyarrow"`` if a column is from such a table, else ``"pandas"``."""
    return str(series.attrs.get(LIBRARY, "pandas"))


def no_table(data: Any) -> str:
    """What is wrong with something that is no table, and how a table is made of it."""
    found, remedy = _table_from(data)
    return f"data is {found}, not a data frame. {remedy}"


def _table_from(data: Any) -> tuple[str, str]:
    kind = type(data).__name__
    if data is None:
        return "None", f"Pass {_TABLES}. (A function that changes a table in place returns None.)"
    if isinstance(data, str | PurePath):
        return f"the text {str(data)!r}" if isinstance(data, str) else f"the path {str(data)!r}", _of_text(data)
    if isinstance(data, Mapping) and not hasattr(data, "to_dataframe"):
        return with_article(kind), "Make it one: pandas.DataFrame(data), with a list of values for each column."
    if isinstance(data, np.ndarray):
        if data.dtype.names or data.ndim != 2:
            how = "pandas.DataFrame(data)" if data.dtype.names else "pandas.DataFrame({'y': ..., 'x': ..., 'g': ...})"
            return f"an array of shape {data.shape}", f"Make it one: {how}."
        names = ", ".join(repr(f"x{i}") for i in range(min(data.shape[1], 3)))
        more = ", ..." if data.shape[1] > 3 else ""
        return (
            f"an array of shape {data.shape}, which has no names of columns",
            f"Name them: pandas.DataFrame(data, columns=[{names}{more}]), and write the formula in these names.",
        )
    if isinstance(data, list | tuple):
        if not data:
            return f"an empty {kind}", f"Pass {_TABLES}. (Were the tables read into it before?)"
        rows = isinstance(data[0], Mapping)
        how = "pandas.DataFrame(data)" if rows else "pandas.DataFrame(data, columns=[...]) with a name for each column"
        return f"{with_article(kind)}{' of rows' if rows else ''}", f"Make it one: {how}."
    return with_article(kind), _of_object(data, kind)


def _of_text(data: str | PurePath) -> str:
    from bayeslmm.datasets import list_datasets

    text = str(data)
    shipped = {name.lower(): name for name in list_datasets().index}
    suffix = PurePath(text).suffix.lower()
    if text.lower() in shipped:
        return f"Load the data set first: bl.load_dataset({shipped[text.lower()]!r})."
    if suffix in _READERS:
        more = ", sep='\\t'" if suffix == ".tsv" else ""
        return f"Read the file first: pandas.{_READERS[suffix]}({text!r}{more})."
    if "~" in text:
        return "The formula comes first, then the data: bl.Model('y ~ x + (1 | g)', data)."
    near = difflib.get_close_matches(text.lower(), shipped, n=1)
    hint = f" Did you mean bl.load_dataset({shipped[near[0]]!r})?" if near else ""
    return (
        f"A file is read first, e.g. pandas.read_csv({text!r}), a shipped data set is loaded by its name, e.g. "
        f"bl.load_dataset('Dyestuff').{hint}"
    )


def _of_object(data: Any, kind: str) -> str:
    if kind == "LazyFrame":
        return "Collect it first: data.collect()."
    if kind in ("Series", "Index", "DataArray"):
        return (
            f"A model needs several columns: pass the whole table, {_TABLES}, or put them together: "
            "pandas.DataFrame({'y': ..., 'x': ..., 'g': ...})."
        )
    if "GroupBy" in kind:
        return "Pass the table that was grouped; the grouping factor stands in the formula, (1 | g)."
    ways = {
        "to_dataframe": "to_dataframe().reset_index()",
        "to_pandas": "to_pandas()",
        "toPandas": "toPandas()",
        "compute": "compute()",
        "df": "df()",
    }
    way = next((call for name, call in ways.items() if callable(getattr(data, name, None))), None)
    if way is not None:
        return f"Convert it first: data.{way}."
    if callable(data):
        return f"It is a function or class: call it, and pass what it returns, {_TABLES}."
    return f"Pass {_TABLES}, e.g. pandas.DataFrame({{'y': ..., 'x': ..., 'g': ...}})."
