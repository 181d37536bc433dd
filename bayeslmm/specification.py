"""A formula compiled for data, with its sufficient statistics and optima: what both engines start from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd

from bayeslmm.design import Design, DroppedRows, build_design
from bayeslmm.design.known import with_sigma
from bayeslmm.design.tables import kept_table
from bayeslmm.errors import DesignError
from bayeslmm.habits import MODEL, no_attribute
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.reduction import at_sigma
from bayeslmm.reml import Optimum, optimise
from bayeslmm.residual import refuse_parameters

# Arguments that are about rows read in chunks.
_OF_SOURCES = ("memory", "progress", "n_jobs", "client", "checkpoint")
_OF_READING = frozenset({*_OF_SOURCES, "cells"})
_TABLES = ("DataFrame", "Table", "RecordBatch")


def reduced(formula: str, data: Any, arguments: Mapping[str, Any]) -> tuple[Any, Design, SummedDesign | None]:
    """Data to be kept, the design, and its sums where the rows were read in chunks.

    Parameters
    ----------
    formula : str
    data : table or source of rows
    arguments : mapping
        Of `build_design`, with those of sources: ``memory``, ``progress``, ``n_jobs``, ``client`` and ``checkpoint``.

    Raises
    ------
    FormulaError, DesignError
    """
    own = {name: value for name, value in arguments.items() if name not in _OF_READING}
    if arguments["cells"] is not False:
        from bayeslmm.design.gathered import asks_for_cells, build_gathered

        if asks_for_cells(arguments["cells"], frequency=own.pop("frequency"), memory=arguments["memory"]):
            return kept_table(data), build_gathered(formula, data, own), None
    if not _read_in_chunks(data):
        for name in _OF_SOURCES:
            if arguments[name] is not None:
                raise DesignError(
                    f"{name}= is about rows that are read in chunks (a parquet file, a query, an iterator of frames); "
                    "these data are a table in memory. Leave it out."
                )
        table = kept_table(data)
        return table, build_design(formula, table, **own), None
    from bayeslmm.arguments import flag
    from bayeslmm.sources import open_source
    from bayeslmm.streaming.build import summed
    from bayeslmm.streaming.crew import crew_of
    from bayeslmm.streaming.limits import bytes_of

    memory = bytes_of(arguments["memory"])
    shown = arguments["progress"]
    progress = True if shown is None else flag("progress", shown, DesignError, meaning="True shows a bar.")
    source = data if _opened(data) else open_source(data)
    crew = crew_of(source, arguments["n_jobs"], arguments["client"], arguments["checkpoint"])
    sums = summed(formula, source, **own, memory=memory, progress=progress, crew=crew)
    return source, sums.design, sums


def for_data(arguments: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Arguments of a model for other data: what is about reading in chunks is none of a table's in memory."""
    if arguments.get("cells", False) is not False or _read_in_chunks(data):
        return dict(arguments)
    return {name: None if name in _OF_SOURCES else value for name, value in arguments.items()}


def _read_in_chunks(data: Any) -> bool:
    # Tables in memory are known without anything that reads others.
    root = type(data).__module__.partition(".")[0]
    if isinstance(data, pd.DataFrame) or (root in ("polars", "pyarrow") and type(data).__name__ in _TABLES):
        return False
    from bayeslmm.sources import is_source

    return _opened(data) or is_source(data)


def _opened(data: Any) -> bool:
    """Whether data are a source that was opened before."""
    return hasattr(data, "chunks") and hasattr(data, "pieces")


class Specification:
    """The state of a `Model`; functions of the posterior take it."""

    _design: Design
    _optima: dict[bool, Optimum]
    # The user's table, where the model was made from one in this process.
    _table: Any = None
    # What it was made with besides formula and table.
    _arguments: Mapping[str, Any] | None = None
    # Columns of the sums, of a model of cells.
    _sums: Mapping[str, str] | None = None
    # Whether there is no response that could be fitted.
    planned: ClassVar[bool] = False

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return no_attribute(self, name, MODEL, "model")

    @property
    def design(self) -> Design:
        """The frozen design: every array and name."""
        return self._design

    @property
    def formula(self) -> str:
        return self._design.formula

    @property
    def dropped(self) -> DroppedRows:
        """Rows left out, and why."""
        return self._design.dropped

    @property
    def n(self) -> int:
        """Number of observations used (with frequencies, their sum)."""
        return self._design.n_observations

    @property
    def p(self) -> int:
        """Number of fixed effects."""
        return self._design.p

    @property
    def q(self) -> int:
        """Number of random effects."""
        return self._design.q

    @cached_property
    def cross_products(self) -> SummedDesign:
        """The sufficient statistics that both engines start from."""
        refuse_parameters(self._design.residual, "What is asked for")
        return cross_products(self._design)

    def __getstate__(self) -> dict[str, Any]:
        # The design has all that a fit needs; the table may be much larger.
        return {name: value for name, value in vars(self).items() if name not in ("_table", "_arguments")}

    def _with_sigma(self, sigma: Any) -> Self:
        """The same with a residual standard deviation that is known."""
        design = with_sigma(self._design, sigma)
        own = self._with_design(design, at_sigma(self.cross_products, design))
        own._table = self._table
        return own

    def _with_design(self, design: Design, sums: SummedDesign | None) -> Self:
        """The same with another design, and its cross-products where they are at hand; without the user's table."""
        own = copy.copy(self)
        own._design, own._optima, own._arguments = design, {}, self._arguments
        vars(own).pop("cross_products", None)
        if sums is not None:
            vars(own)["cross_products"] = sums
        return own

    def _optimum(self, reml: bool) -> Optimum:
        if reml not in self._optima:
            self._optima[reml] = self._found(reml)
        return self._optima[reml]

    def _found(self, reml: bool) -> Optimum:
        if self._design.terms and not self._design.residual.names:
            return optimise(self.cross_products, reml)
        from bayeslmm.reml.residual_optimum import optimum_of

        return optimum_of(self._design, reml)
