"""How often intervals held the truth in simulations of a user's design: a table, text and a figure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.calibration.coverage_chunk import CoverageChunk, CoveragePlan
from bayeslmm.calibration.coverage_kinds import DERIVED
from bayeslmm.calibration.coverage_plot import plot_shares
from bayeslmm.calibration.shares import mc_error, where_truth_is
from bayeslmm.design.readable import html_table, readable, table_text
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.types import FloatArray

COLUMNS = (
    "parameter",
    "method",
    "truth",
    "replicates",
    "coverage",
    "mc_error",
    "below",
    "above",
    "none",
    "mean_width",
    "median_width",
    "zero",
)
_PRINTED = ["truth", "coverage", "mc_error", "below", "above", "none", "mean_width", "median_width", "zero"]
# What is printed in few letters.
_SHORT = {"mc_error": "+-", "mean_width": "width", "median_width": "median"}
_SHARES = ["coverage", "below", "above", "none", "zero"]


@by_value
@dataclass(frozen=True, eq=False)
class Coverage:
    """How often the intervals of a design held the truth they were simulated from.

    Attributes
    ----------
    table : pandas.DataFrame
        One row for every ``parameter`` and ``method``: its ``truth``; ``replicates``; ``coverage``, the share that
        held it, with the Monte Carlo error ``mc_error`` (half of Wilson's interval of one standard error, not zero at
        0 and 1); ``below`` and ``above``, the shares with the truth below or above the interval, and ``none``, without
        one (misses all); ``mean_width`` and ``median_width`` of the intervals there are; ``zero``, the share of
        estimates of the sd that are exactly 0, which count like all others.
    formula : str
    level : float
    reml : bool
    replicates : int
        Asked for.
    done : int
    seed : int
    singular : float
        Share of fits on the boundary.
    not_converged : int
        Fits; they count like all others.
    notes : tuple of str
        What was left out, and why.
    seconds : float
        Wall-clock time.
    """

    table: pd.DataFrame
    formula: str
    level: float
    reml: bool
    replicates: int
    done: int
    seed: int
    singular: float
    not_converged: int
    notes: tuple[str, ...]
    seconds: float

    def plot(self, ax: Any = None) -> Any:
        """Coverage of every interval with two Monte Carlo errors, and the level.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.axes.Axes
        """
        return plot_shares(self.table, self.level, f"{self.formula}: {self.done:,} responses", ax)

    def __str__(self) -> str:
        return "\n".join([fill(self._head()), "", *self._lines(), "", *map(fill, self._tail())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = [f"<p>{html.escape(line)}</p>" for line in (self._head(), *self._tail())]
        return f"<div>{lines[0]}{html_table(self._shown())}{''.join(lines[1:])}</div>"

    def _shown(self) -> pd.DataFrame:
        rows = self.table.set_index(["parameter", "method"])[_PRINTED]
        return rows.round(dict.fromkeys(_SHARES, 3) | {"mc_error": 4}).rename(columns=_SHORT)

    def _lines(self) -> list[str]:
        """The table, the intervals of each parameter under its name."""
        shown = self._shown().reset_index("parameter")
        lines = table_text(shown.drop(columns=["parameter", "truth", "zero"]), index_names=False).split("\n")
        if len(lines) != len(shown) + 1:
            # Folded, on a narrow screen.
            return table_text(self._shown()).split("\n")
        out = [f"  {lines[0]}"]
        names = shown["parameter"].tolist()
        for i, name in enumerate(names):
            if i == 0 or name != names[i - 1]:
                out.append(_title(name, shown["truth"].iloc[i], shown["zero"].iloc[i]))
            out.append(f"  {lines[i + 1]}")
        return out

    def _head(self) -> str:
        count = f"{self.done:,} simulated responses" + (
            "" if self.done == self.replicates else f" of {self.replicates:,} (interrupted)"
        )
        criterion = "REML" if self.reml else "ML"
        return f"Coverage of {self.level:.0%} intervals in {self.formula}: {count}, {criterion} (seed {self.seed})"

    def _tail(self) -> list[str]:
        lines = [f"{self.singular:.1%} of the fits are on the boundary."]
        if self.not_converged:
            lines.append(f"{self.not_converged} of the fits did not converge; they count.")
        return [*lines, *self.notes]


def _title(name: str, truth: float, zero: float) -> str:
    return f"{name} = {truth:.5g}" + (f" ({zero:.1%} of the estimates are 0)" if zero > 0 else "")


def summarise(plan: CoveragePlan, parts: Sequence[CoverageChunk], replicates: int, seconds: float) -> Coverage:
    """The result of chunks, in their order."""
    low, high, estimates = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("low", "high", "estimates")
    )
    singular, ok = (np.concatenate([getattr(part, name) for part in parts]) for name in ("singular", "ok"))
    labels = [p.label for p in parameters(plan.design)]
    rows = []
    for (p, kind), a, b in zip(plan.asked.rows, low, high, strict=True):
        sd = f"sd_{p.label.partition('_')[2]}" if p.kind in DERIVED else p.label
        rows.append(_row(p, kind, a, b, plan.truth.value(p), estimates[labels.index(sd)]))
    return Coverage(
        readable(pd.DataFrame(rows, columns=list(COLUMNS))),
        plan.design.formula,
        plan.level,
        plan.reml,
        replicates,
        int(ok.size),
        plan.seed,
        float(singular.mean()),
        int((~ok).sum()),
        plan.asked.notes,
        seconds,
    )


def _row(
    p: Parameter, kind: str, low: FloatArray, high: FloatArray, truth: float, estimates: FloatArray
) -> dict[str, object]:
    none = np.isnan(low) | np.isnan(high)
    where = np.where(none, 2, where_truth_is(low, high, truth))
    width = (high - low)[~none]
    shares = {name: float((where == code).mean()) for name, code in _OUTCOMES.items()}
    return {
        "parameter": p.label,
        "method": kind,
        "truth": truth,
        "replicates": low.size,
        **shares,
        "mc_error": mc_error(shares["coverage"], low.size),
        "mean_width": float(width.mean()) if width.size else np.nan,
        "median_width": float(np.median(width)) if width.size else np.nan,
        "zero": float((estimates == 0.0).mean()) if p.kind in ("sd", *DERIVED) else np.nan,
    }


_OUTCOMES = {"coverage": 0, "below": -1, "above": 1, "none": 2}
