"""What a power study found: a table, text and a figure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.boundary.zero_tests import in_words
from bayeslmm.calibration.shares import mc_error
from bayeslmm.design.readable import html_table, readable, table_text
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.inference.zero_many import zero_method
from bayeslmm.planning.cells import RESULTS
from bayeslmm.planning.chunk import PowerChunk, PowerPlan, PowerTask, tested_sd
from bayeslmm.plots.power import plot_power
from bayeslmm.types import BoolArray, FloatArray

_SHARES = {"power": 3, "mc_error": 4, "singular": 3, "none": 3}
_SHORT = {"mc_error": "+-"}


@by_value
@dataclass(frozen=True, eq=False)
class PowerStudy:
    """Power of a study, by sizes and true values.

    Attributes
    ----------
    table : pandas.DataFrame
        What was varied (``groups``, ``replicates``, ``total``, labels of parameters) in the first columns, then:
        ``rows`` of the study; ``parameter`` and ``test``; its ``truth`` (the mean, where it has a distribution);
        ``power``, the share of responses whose test is significant, and its Monte Carlo error ``mc_error`` (half of
        Wilson's interval of one standard error, not zero at 0 and 1); ``width``, the mean width of the intervals;
        ``none``, the share without a test, which count as not significant; ``singular``, the share of fits on the
        boundary, which count like all others; ``n`` responses.
    varied : tuple of str
        The first columns.
    formula : str
    alpha : float
    reml : bool
    replicates : int
        Responses for each combination that were asked for.
    seed : int
    spread : dict of str to float
        Fixed effects with a distribution, whose power is an assurance, and its sd.
    hypotheses : tuple of str
        What is tested of the variances.
    seconds : float
        Wall-clock time.
    """

    table: pd.DataFrame
    varied: tuple[str, ...]
    formula: str
    alpha: float
    reml: bool
    replicates: int
    seed: int
    spread: dict[str, float]
    hypotheses: tuple[str, ...]
    seconds: float

    def plot(self, parameters: str | Sequence[str] | None = None, *, x: str | None = None, ax: Any = None) -> Any:
        """Power curves with two Monte Carlo errors, and the share of singular fits below them.

        Parameters
        ----------
        parameters : str or sequence of str, optional
            Which of the table; by default all.
        x : str, optional
            The column along which curves run; by default the one with most values. What else varies has a curve each.
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        DesignError
            A name that is not in the table.
        """
        return plot_power(self.table, self.varied, self.alpha, self._what, self.formula, parameters, x, ax)

    @property
    def _what(self) -> str:
        return "assurance" if self.spread else "power"

    def __str__(self) -> str:
        return "\n".join([fill(self._head()), "", *self._lines(), "", *map(fill, self._tail())])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = [f"<p>{html.escape(line)}</p>" for line in (self._head(), *self._tail())]
        return f"<div>{lines[0]}{html_table(self._shown())}{''.join(lines[1:])}</div>"

    def _shown(self) -> pd.DataFrame:
        columns = [*self.varied, "rows", "singular", "parameter", "test", "power", "mc_error", "width"]
        if (self.table["none"] > 0).any():
            columns.append("none")
        return self.table[columns].round(_SHARES).rename(columns={**_SHORT, "power": self._what})

    def _lines(self) -> list[str]:
        """The table, the tests of each combination under it."""
        shown = self._shown()
        own = [*self.varied, "rows", "singular"]
        body = shown.drop(columns=own).set_index("parameter")
        lines = table_text(body, index_names=False).split("\n")
        if len(lines) != len(shown) + 1:
            # Folded, on a narrow screen.
            return table_text(shown.set_index([*own, "parameter"])).split("\n")
        out, last = [f"  {lines[0]}"], None
        for line, (_, row) in zip(lines[1:], shown.iterrows(), strict=True):
            title = ", ".join(f"{name} = {row[name]:g}" for name in self.varied)
            title = f"{title or 'the study'}: {row['rows']} rows, {row['singular']:.1%} of the fits singular"
            out += [title] if title != last else []
            out.append(f"  {line}")
            last = title
        return out

    def _head(self) -> str:
        criterion = "REML" if self.reml else "ML"
        return (
            f"{self._what.capitalize()} at alpha = {self.alpha:g} in {self.formula}: {self.replicates:,} responses "
            f"simulated for each row, {criterion} (seed {self.seed})"
        )

    def _tail(self) -> list[str]:
        lines = [
            f"{label} is drawn with sd {sd:g} about its value for every response." for label, sd in self.spread.items()
        ]
        lines += [f"Hypothesis: {text}." for text in self.hypotheses]
        fewer = int((self.table["n"] < self.replicates)[self.table["test"] != "hdi"].sum())
        if fewer:
            lines.append(f"The run was interrupted: {fewer} rows have fewer responses.")
        return [*lines, "Singular fits (on the boundary) count like all others."]


def summarise(
    plans: Sequence[PowerPlan], done: Mapping[PowerTask, PowerChunk], n: int, alpha: float, seconds: float
) -> PowerStudy:
    """The result of the tasks that were done."""
    parts: dict[str, list[PowerChunk]] = {}
    for task, chunk in done.items():
        parts.setdefault(task.key, []).append(chunk)
    # Of all responses of a combination, also beside the few that have posteriors.
    singular = {plan.seed: _singular(parts[plan.key]) for plan in reversed(plans) if plan.key in parts}
    rows = [
        row for plan in plans if plan.key in parts for row in _rows(plan, parts[plan.key], alpha, singular[plan.seed])
    ]
    first = plans[0]
    varied = tuple(first.cell.varied)
    design = first.intervals.design
    return PowerStudy(
        readable(pd.DataFrame(rows, columns=[*varied, *RESULTS])),
        varied,
        design.formula,
        alpha,
        first.intervals.reml,
        n,
        first.intervals.seed,
        dict(first.cell.spread),
        tuple(in_words(design, removal) for removal in first.removals if len(design.terms[removal.term].effects) > 1),
        seconds,
    )


def _singular(parts: Sequence[PowerChunk]) -> float:
    return float(np.concatenate([part.singular for part in parts]).mean())


def _rows(plan: PowerPlan, parts: Sequence[PowerChunk], alpha: float, singular: float) -> list[dict[str, object]]:
    low, high, p_values = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("low", "high", "p_values")
    )
    count = sum(part.singular.size for part in parts)
    truth, design, reml = plan.intervals.truth, plan.intervals.design, plan.intervals.reml
    shared = {**plan.cell.varied, "rows": design.n, "singular": singular, "n": count}
    rows, widths = [], dict[str, float]()
    for (p, kind), a, b in zip(plan.intervals.asked.rows, low, high, strict=True):
        width = (b - a)[np.isfinite(a) & np.isfinite(b)]
        mean = float(width.mean()) if width.size else np.nan
        if kind == "profile":
            widths[p.label] = mean
            continue
        found = {"parameter": p.label, "test": "z" if kind == "wald" else kind, "truth": truth.values[p.label]}
        rows.append({**shared, **found, **_share((a > 0) | (b < 0), np.isnan(a)), "width": mean})
    names = [
        (tested_sd(design, removal) or design.terms[removal.term].label, zero_method(design, removal, reml))
        for removal in plan.removals
    ]
    names += [(", ".join(design.fixed_names[j] for j in own), f"F, {plan.ddf}") for own in plan.joint]
    for (label, test), p in zip(names, p_values, strict=True):
        found = {"parameter": label, "test": test, "truth": truth.values.get(label, np.nan)}
        rows.append({**shared, **found, **_share(p <= alpha, np.isnan(p)), "width": widths.get(label, np.nan)})
    return rows


def _share(significant: BoolArray, none: FloatArray | BoolArray) -> dict[str, float]:
    share = float(significant.mean())
    return {"power": share, "mc_error": mc_error(share, significant.size), "none": float(np.mean(none))}
