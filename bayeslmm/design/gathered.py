"""Rows summed over cells: the GROUP BY of a formula, run where the rows are."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bayeslmm.arguments import flag, kind_of
from bayeslmm.design.build import check_text, own_names, read_formula
from bayeslmm.design.cell_sums import SumColumns
from bayeslmm.design.data import check_response_column, used_columns
from bayeslmm.design.design import Design
from bayeslmm.design.from_sums import build_from_sums, response_name
from bayeslmm.design.per_row import PerRowArguments
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.errors import BayesLMMError, BayesLMMWarning, DesignError

# Columns of the table of cells, `sources.Source.group_by`.
COLUMNS = SumColumns(n="n", mean="mean", ss="ss", n_missing="n_missing")
# Cells for every row beyond which there is nothing to be gained; small tables may have as many as they like.
_SHARE, _FEW = 0.5, 100_000


def cell_sums(
    formula: str,
    data: Any,
    *,
    weights: str | None = None,
    residual_sd: str | None = None,
    residual: str | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The cells of a formula: every combination of its predictors and grouping factors, with sums of the response.

    One GROUP BY, run by DuckDB or polars where the data are theirs (parquet files by whichever is installed), else
    chunk by chunk. What `Model` sums with ``cells=True``; the table is small where predictors take few values or are
    constant within groups, and `Model.from_sums` takes it.

    Parameters
    ----------
    formula : str
        As for `Model`. The response is a column.
    data : table or source of rows
        As `Model` takes it: a path of parquet files, a DuckDB relation, a polars LazyFrame, an Arrow dataset, an
        iterator of tables, or a table in memory.
    weights, residual_sd : str, optional
        Columns, or expressions of columns, as for `Model`; their columns are keys of the cells, too.
    residual : str, optional
        A residual structure, whose columns are keys, too.
    extra_namespace : mapping, optional
        Functions and values that the formula may use.

    Returns
    -------
    pandas.DataFrame
        The keys, sorted; ``n``, rows with a response; ``n_missing``, rows without; ``mean`` and ``ss``, the sum of
        squares about it, in the response's units and their squares. Missing keys make cells of their own.

    Raises
    ------
    FormulaError
        The formula cannot be read.
    DesignError
        The response is an expression or no number; a column that is not there, or is called as one of the sums; the
        query failed.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> cells = bl.cell_sums("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> cells.head(2)
      Batch  n  n_missing    mean       ss
    0     A  5          0  1505.0  15900.0
    1     B  5          0  1528.0   4430.0
    >>> model = bl.Model.from_sums("Yield ~ 1 + (1 | Batch)", cells)
    >>> round(model.fit().sigma, 2)
    49.51
    """
    arguments = {"weights": weights, "residual_sd": residual_sd, "residual": residual}
    return gathered(formula, data, {**arguments, "extra_namespace": extra_namespace})


def gathered(formula: str, data: Any, arguments: Mapping[str, Any]) -> pd.DataFrame:
    """The same with the arguments of `build_design`."""
    from bayeslmm.sources import is_source, open_source, text_columns

    check_text(formula)
    if not is_source(data):
        table, available = open_table(data)
        response, keys = cell_columns(formula, available, arguments)
        frame = to_pandas(table, [*keys, response])
        check_response_column(response, frame[response])
        return _sorted(_in_memory(frame, keys, response), keys)
    source = open_source(data)
    response, keys = cell_columns(formula, list(source.columns), arguments)
    if _cheap(data):
        first = next(iter(source.chunks([response])), None)
        if first is not None:
            text = response in text_columns(first)
            check_response_column(response, first[response].astype(object) if text else first[response])
    try:
        cells = source.group_by(keys, response)
    except BayesLMMError:
        raise
    except Exception as error:
        raise DesignError(
            f"The sums of {response!r} over cells of {', '.join(keys) or 'all rows'} could not be made from the "
            f"{source.name}: {error}. The response has to be a column of numbers; others are grouped as they are."
        ) from error
    return _sorted(cells, keys)


def build_gathered(formula: str, data: Any, arguments: Mapping[str, Any]) -> Design:
    """The design of sums over the cells of rows.

    Parameters
    ----------
    formula : str
    data : table or source of rows
    arguments : mapping
        Of `build_design`, without ``frequency``.

    Raises
    ------
    FormulaError, DesignError
        As `cell_sums` and `Model.from_sums`.

    Warns
    -----
    BayesLMMWarning
        Nearly as many cells as rows.
    """
    cells = gathered(formula, data, arguments)
    rows = int(cells["n"].sum() + cells["n_missing"].sum())
    if len(cells) > max(_FEW, _SHARE * rows):
        warnings.warn(
            f"{rows:,} rows are in {len(cells):,} cells of {', '.join(cells.columns[:-4])}: summing over cells saves "
            "little, and takes away what looks at single observations. Leave cells= out.",
            BayesLMMWarning,
            stacklevel=4,
        )
    return build_from_sums(formula, cells, COLUMNS, arguments)


def asks_for_cells(given: Any, *, frequency: Any, memory: Any) -> bool:
    """Whether the argument ``cells`` of `Model` asks for sums.

    Raises
    ------
    DesignError
        Neither True nor False; frequencies beside it, or a limit for rows that are not kept.
    """
    wanted = flag("cells", given, DesignError, meaning="True sums the rows over cells by one GROUP BY.")
    if wanted and frequency is not None:
        raise DesignError(
            "cells=True counts the rows of every cell, and frequency= says how many rows a row stands for; both "
            "together are not there. Sum the counts yourself and use bl.Model.from_sums(formula, cells)."
        )
    if wanted and memory is not None:
        raise DesignError(
            "memory= is about rows that are read again, and with cells=True only sums over cells are kept, in memory. "
            "Leave one of the two out."
        )
    return wanted


def cell_columns(formula: str, available: Sequence[str], arguments: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The response, and the columns whose combinations are the cells.

    Raises
    ------
    FormulaError, DesignError
    """
    weights, residual_sd = arguments.get("weights"), arguments.get("residual_sd")
    for what, given in (("weights", weights), ("residual_sd", residual_sd)):
        if given is not None and not isinstance(given, str):
            raise DesignError(
                f"{what}= is {kind_of(given)}, and rows that are summed over cells are told apart by columns. Name "
                f"one: {what}='name'."
            )
    names = (weights, residual_sd)
    parsed, _, of_residual = read_formula(formula, arguments.get("residual"), residual_sd, available, names)
    response = response_name(formula)
    namespace = own_names(arguments.get("extra_namespace"))
    used = used_columns(parsed, available, namespace, of_residual)
    asked = PerRowArguments.of(weights, residual_sd, None, available, namespace)
    # A response that is a predictor, too, would be refused as one by its name alone.
    keys = [name for name in dict.fromkeys([*used, *asked.columns]) if name != response]
    return response, keys


def _in_memory(frame: pd.DataFrame, keys: Sequence[str], response: str) -> pd.DataFrame:
    from bayeslmm.sources.grouped import check_cells, of_chunks

    check_cells(keys, response)
    return of_chunks([frame], keys, response, None)


def _cheap(data: Any) -> bool:
    """Whether reading a first chunk costs little and changes nothing."""
    from bayeslmm.sources.recognised import library

    return isinstance(data, str | os.PathLike) or library(data) in ("duckdb", "polars")


def _sorted(cells: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Cells in the order of their keys, which engines do not promise; text as text."""
    from bayeslmm.sources import text_columns

    text = text_columns(cells)
    out = pd.DataFrame(cells, copy=False)
    out.attrs = {}
    for name in text:
        out[name] = out[name].astype(object)
    if keys:
        out = out.sort_values(list(keys), kind="stable", ignore_index=True)
    return out[[*keys, "n", "n_missing", "mean", "ss"]]
