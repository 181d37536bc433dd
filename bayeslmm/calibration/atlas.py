"""The coverage atlas and its like: a table of cells, criteria, text and a figure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayeslmm.arguments import text, whole
from bayeslmm.calibration.atlas_criteria import criteria
from bayeslmm.datasets import load_dataset
from bayeslmm.design.readable import table_text
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.files.writing import destination, replacing

CELL_COLUMNS = ["design", "groups", "size", "icc", "slope_sd", "rho"]


@by_value
@dataclass(frozen=True, eq=False)
class CoverageStudy:
    """How often intervals held the truth, by cell, parameter and method.

    Attributes
    ----------
    table : pandas.DataFrame
        Columns of the cell (``design``, ``groups``, ``size``, ``icc``, ``slope_sd``, ``rho``), ``parameter`` with its
        ``truth``, ``method``, ``replicates``; ``coverage`` with its Monte Carlo error ``mc_error`` (half of Wilson's
        interval of one standard error, so that it is positive where the coverage is 0 or 1); ``below`` and ``above``,
        the shares of replicates with the truth below or above the interval; ``width_median`` (the total sd at x = 0
        is 1) and for sds ``width_ratio`` to that of the F pivot; ``zero_share`` of singular REML fits, and
        ``zero_exact`` where it has a closed form.
    level : float
    replicates : int
        Asked for in every cell.
    cells : int
        Asked for.
    seed : int
    seconds : float
        Wall-clock time.
    """

    table: pd.DataFrame
    level: float
    replicates: int
    cells: int
    seed: int
    seconds: float

    def coverage(self, parameter: str = "sd[Intercept]", method: str = "hdi") -> pd.Series:
        """Coverage by cell.

        Parameters
        ----------
        parameter : {"sd[Intercept]", "sd[x]", "Intercept", "x"}
        method : str
            For sds ``reml_profile``, ``ml_profile``, ``pivot``, ``hdi`` or ``equal_tailed``; for fixed effects ``z``,
            ``satterthwaite``, ``kenward_roger`` or ``posterior``.

        Raises
        ------
        FitError
            The study has no such rows.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> bool(bl.coverage_atlas().coverage("sd[Intercept]", "pivot").between(0.938, 0.962).all())
        True
        """
        return self._rows(parameter, method).set_index(CELL_COLUMNS)["coverage"]

    def _rows(self, parameter: str, method: str) -> pd.DataFrame:
        """Rows of one parameter and method."""
        text("parameter", parameter, "the name of a parameter", FitError)
        text("method", method, "the name of a method", FitError)
        # As Python's text: a library of strings may refuse one that it cannot encode.
        names = zip(self.table["parameter"].tolist(), self.table["method"].tolist(), strict=True)
        rows = self.table[[pair == (parameter, method) for pair in names]]
        if rows.empty:
            pairs = self.table[["parameter", "method"]].drop_duplicates()
            known = "; ".join(f"{p}: {', '.join(own['method'])}" for p, own in pairs.groupby("parameter", sort=False))
            raise FitError(f"There is no parameter {parameter!r} with method {method!r} here. There are {known}.")
        return rows

    @property
    def summary(self) -> pd.DataFrame:
        """For every design, parameter and method the mean, least and largest coverage of the cells, and mean widths."""
        grouped = self.table.groupby(["design", "parameter", "method"], sort=False, observed=True)
        return grouped.agg(
            cells=("coverage", "size"),
            mean=("coverage", "mean"),
            worst=("coverage", "min"),
            best=("coverage", "max"),
            width_ratio=("width_ratio", "mean"),
        )

    @property
    def criteria(self) -> pd.DataFrame:
        """Whether exact intervals are exact and honest ones honest; see `atlas_criteria.criteria`."""
        return criteria(self.table, self.level)

    def worst(self, n: int = 10, parameter: str = "sd[Intercept]", method: str = "hdi") -> pd.DataFrame:
        """The n cells of the lowest coverage."""
        n = whole("n", n, 1, error=FitError)
        return self._rows(parameter, method).nsmallest(n, "coverage").reset_index(drop=True)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table, numbers with six significant digits; a file that is there is replaced.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        StorageError
            Nothing can be written there.
        """
        with replacing(destination(path, overwrite=True)) as part:
            self.table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")

    def plot(self, parameter: str = "sd[Intercept]", design: str = "balanced", **keywords: Any) -> Any:
        """Heat map of the coverage; see `bayeslmm.plot_coverage`."""
        from bayeslmm.plots.coverage import plot_coverage

        return plot_coverage(self.table, parameter, design, level=self.level, **keywords)

    def __str__(self) -> str:
        return "\n".join([fill(self._head()), table_text(self.summary.round(3)), *map(fill, self._tail())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{line}</p>" for line in (self._head(), *self._tail()))
        return f"<div>{lines}{self.summary.round(3).to_html()}</div>"

    def _head(self) -> str:
        done = len(self.table[CELL_COLUMNS].drop_duplicates())
        counts = f"{done} cells, {self.replicates} replicates each"
        return f"Coverage of {self.level:.0%} intervals: {counts} (seed {self.seed})"

    def _tail(self) -> list[str]:
        short = self.table[self.table["replicates"] < self.replicates][CELL_COLUMNS].drop_duplicates()
        missing = self.cells - len(self.table[CELL_COLUMNS].drop_duplicates())
        if missing or len(short):
            return [f"Interrupted: {missing} of {self.cells} cells were not run, {len(short)} have fewer replicates."]
        return []


def coverage_atlas() -> CoverageStudy:
    """The coverage study that ships with the package: all cells of `coverage_grid`, 4,000 replicates of each.

    Returns
    -------
    CoverageStudy
        Its table is also ``bl.load_dataset("coverage_atlas")``.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> bl.coverage_atlas().replicates
    4000
    """
    table = load_dataset("coverage_atlas")
    for column in ("design", "parameter", "method"):
        table[column] = table[column].astype(str)
    cells = len(table[CELL_COLUMNS].drop_duplicates())
    return CoverageStudy(table, 0.95, int(table["replicates"].max()), cells, 1, 0.0)
