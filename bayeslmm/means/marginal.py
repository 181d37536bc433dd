"""Means, slopes and contrasts of a fit: estimates, standard errors, degrees of freedom, tests and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.readable import headed, readable
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.inference.hypothesis import rank_of
from bayeslmm.means.adjust import ADJUSTMENTS, STEPWISE, Family, critical_values, p_values
from bayeslmm.means.averages import RowLabels
from bayeslmm.means.functions import LabelledFunctions, Side, asked_test
from bayeslmm.means.letters import lettered, within
from bayeslmm.means.shown import PrintedMeans, heading, letter_texts, number_texts, texts, with_labels
from bayeslmm.means.sources import Estimated, FitSource, NumberSource
from bayeslmm.results.intervals import check_level
from bayeslmm.types import FloatArray, IntArray


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class MarginalMeans(PrintedMeans, LabelledFunctions):
    """Means over a reference grid of a fit, slopes, or contrasts of these: what ``fit.means()`` returns.

    It prints as a table, and `frame` has the numbers. `pairs` and `contrast` compare the rows, `letters` marks those
    that do not differ, `test` has other hypotheses, `regrid` goes back to the units of the response.

    Attributes
    ----------
    source : FitSource or NumberSource
        Where the numbers come from.
    labels : RowLabels
        What the rows are.
    display : Display
        Level, adjustment and scale of what is shown.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    >>> fit.means("Machine").pairs().frame[["contrast", "estimate", "p_value"]].round(4)
      contrast  estimate  p_value
    0    A - B   -7.9667      0.0
    1    A - C  -13.9167      0.0
    2    B - C   -5.9500      0.0
    """

    source: FitSource | NumberSource

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers with their labels.

        Columns: those of the labels, ``estimate``, ``std_error``, ``df`` (inf: normal), ``conf_low``, ``conf_high``,
        and of slopes and contrasts ``t`` and ``p_value`` (of zero, of a ratio of one), adjusted as said. nan in what
        the data say nothing about.
        """
        frame = self._frame
        return readable(frame.copy(), lambda: number_texts(self.labels, frame))

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return with_labels(self.labels, self._numbers())

    @property
    def estimates(self) -> FloatArray:
        """Estimates (m,), on the scale shown."""
        return np.asarray(self._frame["estimate"].to_numpy())

    @property
    def vcov(self) -> pd.DataFrame:
        """Covariance of the estimates on the scale of the model, in which contrasts are linear."""
        names = [self.labels.name(i) for i in range(self.labels.size)]
        return readable(pd.DataFrame(self._estimated.covariance, index=names, columns=names))

    @property
    def _estimated(self) -> Estimated:
        return self.source.estimated

    def _numbers(self) -> pd.DataFrame:
        found, display = self._estimated, self.display
        half = np.full(self.labels.size, np.nan)
        for rows, family in self._families:
            half[rows] = critical_values(family, display.level, display.adjust)
        low, high = found.estimate - half * found.std_error, found.estimate + half * found.std_error
        values = self._on_scale(found.estimate, found.std_error, low, high)
        frame = pd.DataFrame(dict(zip(("estimate", "std_error"), values[:2], strict=True)))
        frame["df"], frame["conf_low"], frame["conf_high"] = found.df, values[2], values[3]
        if display.kind != "mean":
            t = found.estimate / found.divisor
            frame["t"], frame["p_value"] = t, self._p_values(t, display.adjust)
        return frame

    def _p_values(self, t: FloatArray, adjust: str, side: int = 0) -> FloatArray:
        p = np.full(self.labels.size, np.nan)
        for rows, family in self._families:
            p[rows] = p_values(family, t[rows], adjust, side)
        return p

    def _on_scale(self, estimate: FloatArray, error: FloatArray, low: FloatArray, high: FloatArray) -> list[FloatArray]:
        link = self.display.scale
        if link is None:
            return [estimate, error, low, high]
        if self.display.ratio:
            ratio, *ends = map(link.ratios, (estimate, low, high))
            return [ratio, link.rate * ratio * error, *ends]
        v = self.display.variance or 0.0
        ends = [link.inverse(x, v) for x in (low, high)]
        return [link.inverse(estimate, v), np.abs(link.derivative(estimate, v)) * error, *ends]

    @cached_property
    def _families(self) -> list[tuple[IntArray, Family]]:
        """Rows that can be estimated, group by group."""
        found, out = self._estimated, []
        correlation = found.covariance / found.divisor[:, None] / found.divisor
        for rows in self.labels.groups:
            own = rows[found.known[rows] & (found.std_error[rows] > 0)]
            if not own.size:
                continue
            family = Family(
                found.estimate[own],
                found.std_error[own],
                found.df[own],
                correlation[np.ix_(own, own)],
                # Groups differ in size where levels are nested.
                (1 + isqrt(1 + 8 * len(rows))) // 2 if self.display.means else 0,
                self._rank(own),
            )
            out.append((own, family))
        return out

    def _rank(self, rows: IntArray) -> int:
        if isinstance(self.source, FitSource):
            return max(rank_of(self.source.functions.L[rows]), 1)
        return int(np.linalg.matrix_rank(self._estimated.covariance[np.ix_(rows, rows)], hermitian=True)) or 1

    def test(
        self, null: float = 0.0, side: Side = "two-sided", delta: float = 0.0, adjust: str | None = None
    ) -> pd.DataFrame:
        """Tests of every row against a number, of one side or of a margin.

        Parameters
        ----------
        null : float
            On the scale of the model (the logarithm of a ratio).
        side : {"two-sided", "greater", "less", "noninferiority", "nonsuperiority", "equivalence"}
            What is to be shown: that the value differs from `null`, is larger, or smaller; that it is above
            ``null - delta``; below ``null + delta``; nearer to `null` than `delta`.
        delta : float
            The margin.
        adjust : str, optional
            As in `contrast`; of the table by default. One-sided tests have Sidak's where tukey, mvt or scheffe is
            asked for.

        Returns
        -------
        pandas.DataFrame
            Labels, ``estimate``, ``std_error``, ``df``, ``t``, ``p_value``.
        """
        null, delta, side = asked_test(null, delta, side)
        adjust = self.display.adjust if adjust is None else choice("adjust", adjust, ADJUSTMENTS, DesignError)
        found = self._estimated
        away = found.estimate - null
        shift = {"noninferiority": away + delta, "nonsuperiority": away - delta, "equivalence": np.abs(away) - delta}
        t = shift.get(side, away) / found.divisor
        sign = {"greater": 1, "noninferiority": 1, "two-sided": 0}.get(side, -1)
        p = self._p_values(t, adjust, sign)
        table = self._frame.drop(columns=["conf_low", "conf_high"]).assign(t=t, p_value=p)
        return readable(table, lambda: number_texts(self.labels, table))

    def letters(self, adjust: str = "tukey", level: float | None = None, *, by: Any = None) -> pd.DataFrame:
        """Compact letter display: means that share a letter do not differ.

        Parameters
        ----------
        adjust : str
            Of the pairwise tests.
        level : float, optional
            One minus the level of significance; that of the intervals by default.
        by : str or sequence of str, optional
            As in `contrast`.

        Returns
        -------
        pandas.DataFrame
            The table, sorted by the estimates in every group, with a column ``letters``; none where a mean cannot be
            estimated.

        References
        ----------
        Piepho (2004), J. Comput. Graph. Statist. 13, 456-466.
        """
        level = self.display.level if level is None else check_level(level)
        labels = self._regrouped(by, None)
        table = self._lettered(labels, level, adjust).reset_index(drop=True)
        title = f"Means that share a letter do not differ (adjust={adjust!r}, level {100 * (1.0 - level):.4g} %)"
        return headed(table, within(title, labels.by), (), lambda: letter_texts(self.labels, table))

    def _lettered(self, labels: RowLabels, level: float, adjust: str) -> pd.DataFrame:
        """The table of `letters`, its index the places of the rows."""
        p = replace(self, labels=labels).pairs(adjust)._frame["p_value"].to_numpy()
        return lettered(self._frame, labels.groups, self._estimated.estimate, p < 1.0 - level, np.isfinite(p))

    def regrid(self) -> MarginalMeans:
        """The same means in units of the response, to be compared there.

        Contrasts are then differences, with standard errors by the delta method.

        Raises
        ------
        DesignError
            The response is not transformed, or these are no means.
        """
        link = self._regriddable()
        found, v = self._estimated, self.display.variance or 0.0
        slope = link.derivative(found.estimate, v)
        numbers = Estimated(link.inverse(found.estimate, v), slope[:, None] * found.covariance * slope, found.df)
        return replace(
            self, source=NumberSource(numbers), display=replace(self.display, link=None, response=False, variance=None)
        )

    def _regriddable(self) -> Any:
        if self.display.link is None or self.display.kind != "mean":
            raise DesignError(
                "regrid() takes means on a transformed scale back to units of the response: these are "
                + ("no means." if self.display.kind != "mean" else "in its units already.")
            )
        return self.display.link

    @property
    def _heading(self) -> str:
        return heading(self.display)

    def _texts(self) -> pd.DataFrame:
        return texts(self.labels, self._frame)

    def _notes(self) -> Sequence[str]:
        return fit_notes(self)


def fit_notes(means: MarginalMeans) -> list[str]:
    """What a reader has to know of a table."""
    display, found = means.display, means._estimated
    notes = list(display.notes)
    how = adjustment(means)
    if how:
        notes.append(f"Adjusted: {how}.")
    if not found.known.all():
        lost = [means.labels.name(int(i)) for i in np.flatnonzero(~found.known)]
        notes.append(
            f"Not estimable: {', '.join(lost[:8])}{', ...' if len(lost) > 8 else ''}. The data have no information on "
            "a cell that is needed."
        )
    return notes


def adjustment(means: MarginalMeans) -> str:
    """Words for the adjustment of tests and intervals, that of the largest family; empty if each stands alone."""
    families, adjust = [own for _, own in means._families], means.display.adjust
    family = max(families, key=lambda own: own.size, default=None)
    if family is None or family.method(adjust) == "none":
        return ""
    method, m, fewest = family.method(adjust), family.size, min(own.means for own in families)
    compared = f"{fewest} to {family.means}" if fewest < family.means else f"{family.means}"
    words = {
        "tukey": f"Tukey's method for comparing {compared} means",
        "mvt": f"the multivariate t distribution of {m} functions",
        "scheffe": f"Scheffe's method of rank {family.rank}",
        "fdr": f"the false discovery rate of {m} tests",
    }
    text = words.get(method, f"the {method.capitalize()} method for {m} tests")
    if adjust == "tukey" and method == "sidak":
        text += " (Tukey's is for all pairs of one set of means)"
    if method in STEPWISE:
        text += "; intervals by Bonferroni's"
    if method == "mvt":
        worst = max(
            family.directions.error(abs(t), df)
            for t, df in zip(family.estimate / family.std_error, family.df, strict=True)
        )
        text += f", p values to {worst:.0e} (standard error)" if worst > 0 else ""
    return text
