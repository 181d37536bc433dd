"""Tables in memory of several libraries as the frames that sources give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bayeslmm.arguments import kind_of
from bayeslmm.errors import DesignError
from bayeslmm.sources.frames import frame_of_pandas


def names_of(table: Any) -> tuple[str, ...]:
    """Names of the columns of a table in memory."""
    columns = table.schema.names if hasattr(table, "schema") and hasattr(table.schema, "names") else table.columns
    return tuple(str(name) for name in (columns() if callable(columns) else columns))


def no_table(value: Any, where: str) -> DesignError:
    """The message for what is none, with where it was met."""
    kind = "None" if value is None else kind_of(value)
    return DesignError(f"{where} is {kind}, not a table. Give pandas, polars or pyarrow tables.")


def frame_of(table: Any, columns: Sequence[str], where: str) -> pd.DataFrame:
    """The columns of a table in memory.

    Parameters
    ----------
    table : pandas, polars or pyarrow table
    columns : sequence of str
    where : str
        What the table is, for messages.

    Raises
    ------
    DesignError
        No table, or one without such a column.
    """
    library = type(table).__module__.split(".")[0]
    if library == "narwhals":
        return frame_of(table.to_native(), columns, where)
    if isinstance(table, pd.DataFrame):
        check_names([str(name) for name in table.columns], columns, where)
        return frame_of_pandas(table, columns)
    if library == "polars" and hasattr(table, "to_arrow"):
        check_names(names_of(table), columns, where)
        table = table.select(list(columns)).to_arrow()
    elif library != "pyarrow" or not hasattr(table, "schema"):
        raise no_table(table, where)
    # Without Arrow there are pandas frames.
    from bayeslmm.sources.arrow_frames import frame_of_arrow

    check_names(table.schema.names, columns, where)
    return frame_of_arrow(table, columns)


def check_names(found: Sequence[str], columns: Sequence[str], where: str) -> None:
    """Refuse a chunk that lacks a column, or has two of one name.

    Raises
    ------
    DesignError
    """
    lacking = [name for name in columns if name not in found]
    if lacking:
        raise DesignError(
            f"{where} has no column {', '.join(map(repr, lacking))}; it has {', '.join(map(repr, found)) or 'none'}. "
            "All chunks need the columns of the formula under the same names."
        )
    twice = [name for name in columns if list(found).count(name) > 1]
    if twice:
        raise DesignError(f"{where} has several columns named {twice[0]!r}. Rename or drop the others.")
