"""Means, slopes and contrasts of a posterior, draw by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag, numbers_of, shown
from bayeslmm.design.readable import headed, readable
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.means.averages import RowLabels, Weights
from bayeslmm.means.call import Names, Scale, asked_means, asked_slopes, given_variance
from bayeslmm.means.functions import LabelledFunctions, Side, adjustment, asked_test
from bayeslmm.means.grid import Centre
from bayeslmm.means.letters import lettered, within
from bayeslmm.means.shown import PrintedMeans, heading, label_index, with_labels
from bayeslmm.means.sources import DrawSource, draw_source
from bayeslmm.results.digits import in_digits
from bayeslmm.results.draws import Draws
from bayeslmm.results.explained import explained_draws
from bayeslmm.results.intervals import check_level, hdi
from bayeslmm.results.linear import DDF, known_ddf
from bayeslmm.results.monte_carlo import standard_errors
from bayeslmm.types import FloatArray

# Columns of which a Monte Carlo error is known.
_SUMMARIES = ("mean", "sd", "median", "hdi_low", "hdi_high")


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class PosteriorMeans(PrintedMeans, LabelledFunctions):
    """Means over a reference grid of a posterior, slopes, or contrasts of these: what ``post.means()`` returns.

    It prints as a table, `frame` has the numbers and `draws` all draws. `pairs` and `contrast` compare the rows.

    Attributes
    ----------
    source : DrawSource
        Where the draws come from.
    labels : RowLabels
        What the rows are.
    display : Display
        Level and scale of what is shown.
    rope : tuple of float or None
        Region of practical equivalence, on the scale shown.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).sample(random_seed=1)
    >>> post.means("Machine").pairs().frame["mean"].round(0).tolist()
    [-8.0, -14.0, -6.0]
    """

    source: DrawSource
    rope: tuple[float, float] | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers with their labels.

        Columns: those of the labels, ``mean``, ``sd``, ``median``, ``hdi_low``, ``hdi_high``, of slopes and contrasts
        ``p_positive`` (posterior probability above zero, of a ratio above one), and with a `rope` ``in_rope``. nan in
        what the data say nothing about.
        """
        frame = self._frame
        return readable(frame.copy(), lambda: in_digits(frame, self.monte_carlo_errors, self._sizes))

    @property
    def draws(self) -> pd.DataFrame:
        """All draws on the scale shown: a row for every draw, a column for every row of the table."""
        names = ["; ".join(map(str, row)) for row in zip(*self.labels.columns.values(), strict=True)] or ["overall"]
        return readable(pd.DataFrame(self._values, columns=names))

    @cached_property
    def _values(self) -> FloatArray:
        values, link = self.source.values, self.display.scale
        if link is None:
            return values
        if self.display.ratio:
            return link.ratios(values)
        variance = self.display.variance
        if variance is None:
            return link.inverse(values)
        own = np.full(len(values), variance)
        return link.mean(values, explained_draws(self.source.post).unexplained if np.isnan(variance) else own)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        rows = [self._row(own) for own in self._values.T]
        if self._exact is not None:
            rows = [{**row, "mean": float(mean)} for row, mean in zip(rows, self._exact, strict=True)]
        return with_labels(self.labels, pd.DataFrame(rows))

    @cached_property
    def _exact(self) -> FloatArray | None:
        """Means without Monte Carlo error, of linear functions of a posterior by quadrature."""
        exact, functions = self.source.post.exact, self.source.functions
        if exact is None or functions is None or self.display.scale is not None:
            return None
        return np.where(self._known, functions.L @ exact.beta_mean + functions.offset, np.nan)

    def _row(self, draws: FloatArray) -> dict[str, float]:
        known = bool(np.isfinite(draws).all())
        low, high = hdi(draws, self.display.level, "fixed") if known else (np.nan, np.nan)
        row = {
            "mean": draws.mean(),
            "sd": draws.std(ddof=1),
            "median": np.median(draws),
            "hdi_low": low,
            "hdi_high": high,
        }
        if self.display.kind != "mean":
            row["p_positive"] = float(np.mean(draws > self._null)) if known else np.nan
        if self.rope is not None and self.display.kind != "mean":
            row["in_rope"] = float(np.mean((draws >= self.rope[0]) & (draws <= self.rope[1]))) if known else np.nan
        return row

    @property
    def _null(self) -> float:
        return 1.0 if self.display.ratio else 0.0

    @cached_property
    def monte_carlo_errors(self) -> pd.DataFrame:
        """Monte Carlo standard errors of the numbers: how much they would change with another seed."""
        post, level = self.source.post, self.display.level
        rows = [standard_errors(own, level, "fixed", post._dependent, post._inflation) for own in self._values.T]
        found = pd.DataFrame(rows)[list(_SUMMARIES)]
        return found if self._exact is None else found.assign(mean=0.0)

    @property
    def _sizes(self) -> dict[str, list[float]]:
        size = self.source.post._size
        out = {"p_positive": [size(own > self._null) for own in self._values.T]}
        if self.rope is not None:
            low, high = self.rope
            out["in_rope"] = [size((own >= low) & (own <= high)) for own in self._values.T]
        return out

    def regrid(self) -> PosteriorMeans:
        """The same means in units of the response, draw by draw: contrasts are then differences there.

        Raises
        ------
        DesignError
            The response is not transformed, or these are no means.
        """
        if self.display.link is None or self.display.kind != "mean":
            raise DesignError("regrid() takes means on a transformed scale to units of the response; these are not.")
        own = replace(self, display=replace(self.display, response=True))
        source = DrawSource(self.source.post, own._values)
        return replace(self, source=source, display=replace(self.display, link=None, response=False, variance=None))

    def letters(self, adjust: str = "none", level: float | None = None, *, by: Any = None) -> pd.DataFrame:
        """Compact letter display: two means share a letter if the interval of their difference holds zero.

        Parameters
        ----------
        adjust : str
            Ignored; a fit has it.
        level : float, optional
            Of the highest-density intervals of the differences.
        by : str or sequence of str, optional
        """
        level = self.display.level if level is None else check_level(level)
        labels = self._regrouped(by, None)
        table = self._lettered(labels, level)
        interval = f"the {100 * level:.4g} % HDI of their difference"
        title = f"Means that share a letter: {interval} holds {self._no_difference:g}"
        shown = table.reset_index(drop=True)
        return headed(shown, within(title, labels.by), (), lambda: self._letter_texts(table))

    @property
    def _no_difference(self) -> float:
        """What a difference of two of the means, or their ratio, is where there is none."""
        return 1.0 if self.display.scale is not None and self.display.scale.ratio else 0.0

    def _lettered(self, labels: RowLabels, level: float) -> pd.DataFrame:
        """The table of `letters`, its index the places of the rows."""
        pairs = replace(self, labels=labels, display=replace(self.display, level=level)).pairs()._frame
        apart = ((pairs["hdi_low"] > self._no_difference) | (pairs["hdi_high"] < self._no_difference)).to_numpy()
        known = np.isfinite(pairs["mean"].to_numpy())
        return lettered(self._frame, labels.groups, self._frame["mean"].to_numpy(), apart, known)

    def _letter_texts(self, table: pd.DataFrame) -> pd.DataFrame:
        digits = in_digits(self._frame, self.monte_carlo_errors, self._sizes).loc[table.index]
        cells = {name: [str(v) for v in (table if name == "letters" else digits)[name]] for name in table.columns}
        return pd.DataFrame(cells, dtype=object).set_axis([""] * len(table), axis=0)

    def test(
        self, null: float = 0.0, side: Side = "two-sided", delta: float = 0.0, adjust: str | None = None
    ) -> pd.DataFrame:
        """Posterior probability of what a test of the same arguments would show; see `MarginalMeans.test`.

        Parameters
        ----------
        null : float
            On the scale of the model (the logarithm of a ratio).
        side : {"two-sided", "greater", "less", "noninferiority", "nonsuperiority", "equivalence"}
            That the value is above `null`; below; above ``null - delta``; below ``null + delta``; nearer to `null` than
            `delta`. Two-sided: that it is on the side of `null` on which more of the posterior is.
        delta : float
            The margin.
        adjust : str, optional
            As of a fit, so that both take one call; probabilities need no adjustment.

        Returns
        -------
        pandas.DataFrame
            Labels, ``mean``, ``sd``, ``probability``.
        """
        null, delta, side = asked_test(null, delta, side)
        adjustment(adjust, "none")
        away = self.source.values - null
        shown_side = {
            "two-sided": away * np.sign(np.median(away, axis=0)),
            "greater": away,
            "less": -away,
            "noninferiority": away + delta,
            "nonsuperiority": delta - away,
            "equivalence": delta - np.abs(away),
        }[side]
        agree = [own > 0 for own in shown_side.T]
        share = [float(own.mean()) if known else np.nan for own, known in zip(agree, self._known, strict=True)]
        table = self._frame[[*self.labels.columns, "mean", "sd"]].assign(probability=share)
        sizes = {"probability": [self.source.post._size(own) for own in agree]}
        return readable(table, lambda: in_digits(table, self.monte_carlo_errors, sizes))

    @property
    def _heading(self) -> str:
        return heading(self.display).replace(" intervals", " HDI")

    def _texts(self) -> pd.DataFrame:
        names = [name for name in self._frame.columns if name not in (*self.labels.columns, "median")]
        out = in_digits(self._frame[names], self.monte_carlo_errors, self._sizes)
        out["mean"] = [text if known else "not estimable" for text, known in zip(out["mean"], self._known, strict=True)]
        above = "P(> 1)" if self.display.ratio else "P(> 0)"
        return label_index(self.labels, out.rename(columns={"p_positive": above, "in_rope": "P(in ROPE)"}))

    @property
    def _known(self) -> list[bool]:
        return [bool(known) for known in np.isfinite(self._values).all(axis=0)]

    def _notes(self) -> Sequence[str]:
        notes = [*self.display.notes, "Numbers from draws are rounded to their Monte Carlo error."]
        if self.rope is not None:
            notes.append(f"ROPE: {self.rope[0]:g} to {self.rope[1]:g}.")
        if not all(self._known):
            notes.append("Not estimable: the data have no information on a cell that is needed.")
        return notes


def posterior_means(
    post: Draws,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF | None = None,
    level: float = 0.95,
    type: Scale = "link",
    adjust: str = "none",
    rope: float | Sequence[float] | None = None,
    bias_adjust: bool = False,
    sigma: float | None = None,
    centre: Centre = "mean",
) -> PosteriorMeans:
    """Posterior of the means of factors, to be compared by ``.pairs()`` and ``.contrast()``; as `fit_means` of a fit.

    Parameters
    ----------
    of, by, at, weights, type, centre
        As in `bayeslmm.means.of_fit.fit_means`.
    ddf, adjust : optional
        As of a fit, so that both take one call; a posterior has no degrees of freedom, and its intervals need no
        adjustment.
    level : float
        Of highest-density intervals.
    rope : float or pair of float, optional
        Region of practical equivalence, on the scale shown: minus to plus a number, or from one number to another.
        Tables of contrasts have the posterior probability of it.
    bias_adjust : bool
        Whether means taken back to units of the response are those of y, averaged over its variation about them in
        every draw, not its medians.
    sigma : float, optional
        The standard deviation of that variation; by default that of a new observation of a new group, draw by draw.

    Returns
    -------
    PosteriorMeans
        Prints as a table; ``.frame`` is a data frame, ``.draws`` has the draws.

    Raises
    ------
    DesignError
        As `fit_means`.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).sample(random_seed=1)
    >>> post.means("Machine").draws.shape
    (4000, 3)
    """
    known_ddf(ddf)
    adjustment(adjust, "none")
    asked = asked_means(post.design, of, by, at, weights, type, level, centre)
    display = asked.display
    if flag("bias_adjust", bias_adjust, DesignError):
        own = given_variance(display, sigma)
        display = replace(display, variance=np.nan if own is None else own)
    return PosteriorMeans(draw_source(post, asked.functions), asked.labels, display, read_rope(rope))


def posterior_trends(
    post: Draws,
    variable: str,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF | None = None,
    level: float = 0.95,
    adjust: str = "none",
    rope: float | Sequence[float] | None = None,
    centre: Centre = "mean",
) -> PosteriorMeans:
    """Posterior of the slopes of a numeric column; arguments as in `bayeslmm.means.of_fit.fit_trends`.

    Parameters
    ----------
    variable : str
    of, by, at, weights, level, centre
        As for a fit.
    ddf, adjust : optional
        As in `posterior_means`.
    rope : float or pair of float, optional
        As in `posterior_means`.

    Returns
    -------
    PosteriorMeans

    Raises
    ------
    DesignError
        As for a fit.
    """
    known_ddf(ddf)
    adjustment(adjust, "none")
    asked = asked_slopes(post.design, variable, of, by, at, weights, level, centre)
    return PosteriorMeans(draw_source(post, asked.functions), asked.labels, asked.display, read_rope(rope))


def read_rope(rope: float | Sequence[float] | None) -> tuple[float, float] | None:
    """The ends of a region of practical equivalence."""
    if rope is None:
        return None
    ends = np.atleast_1d(numbers_of("rope", rope, error=DesignError))
    if ends.size == 1 and ends[0] > 0:
        return -float(ends[0]), float(ends[0])
    if ends.shape != (2,) or not ends[0] < ends[1]:
        raise DesignError(f"rope={shown(rope)} is no region. Give a positive number, or its two ends, the lower first.")
    return float(ends[0]), float(ends[1])
