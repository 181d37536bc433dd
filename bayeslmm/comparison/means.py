"""Means of a fit and of posteriors side by side, and the same contrasts of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.design.readable import headed, readable
from bayeslmm.equality import by_value
from bayeslmm.means.averages import Weights
from bayeslmm.means.call import Names, Scale
from bayeslmm.means.functions import Side
from bayeslmm.means.joint_draws import farther_table
from bayeslmm.means.marginal import MarginalMeans
from bayeslmm.means.of_draws import PosteriorMeans
from bayeslmm.means.shown import PrintedMeans, heading, label_index, letter_texts, texts
from bayeslmm.results.digits import in_digits
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF

_OF_FIT = ("estimate", "conf_low", "conf_high", "p_value")
_OF_DRAWS = ("mean", "hdi_low", "hdi_high", "p_positive")


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class ComparedMeans(PrintedMeans):
    """Means, slopes or contrasts by REML and by posteriors, with one row for each: what ``both.means()`` returns.

    Attributes
    ----------
    reml : MarginalMeans
    posteriors : dict of str to PosteriorMeans
        By the names of `Comparison.names`.
    """

    reml: MarginalMeans
    posteriors: dict[str, PosteriorMeans]

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers of all.

        Labels, ``estimate``, ``conf_low``, ``conf_high`` (and ``p_value`` of contrasts) of REML, then for every
        posterior ``mean``, ``hdi_low``, ``hdi_high`` (and ``p_positive``); with several, their names stand behind in
        brackets.
        """
        parts = [self.reml._frame[[*self.reml.labels.columns, *_there(self.reml._frame, _OF_FIT)]]]
        for name, means in self.posteriors.items():
            own = means._frame[_there(means._frame, _OF_DRAWS)]
            parts.append(
                own
                if len(self.posteriors) == 1
                else own.rename(columns={column: f"{column} ({name})" for column in own})
            )
        return readable(pd.concat(parts, axis=1))

    def pairs(self, adjust: str = "tukey", **options: Any) -> ComparedMeans:
        """All pairwise differences of all; see `MarginalMeans.pairs`."""
        return self._each(lambda means: means.pairs(adjust, **options))

    def contrast(
        self, method: str | Mapping[str, Any] | None = None, adjust: str | None = None, **options: Any
    ) -> ComparedMeans:
        """The same contrasts of all; see `MarginalMeans.contrast`."""
        return self._each(lambda means: means.contrast(method, adjust, **options))

    def letters(self, adjust: str = "tukey", level: float | None = None, *, by: Any = None) -> pd.DataFrame:
        """Compact letter displays of all beside each other: means that share a letter do not differ by that engine.

        Parameters
        ----------
        adjust : str
            Of the pairwise tests of the fit; posteriors ask whether the interval of a difference holds zero.
        level : float, optional
            One minus the level of significance, and that of the intervals; of the means by default.
        by : str or sequence of str, optional
            As in `MarginalMeans.contrast`.

        Returns
        -------
        pandas.DataFrame
            Labels, ``estimate`` and ``letters`` of REML, in whose order the rows are, and ``mean`` and ``letters`` of
            every posterior, with its name in brackets.
        """
        level = self.reml.display.level if level is None else check_level(level)
        fit = self.reml._lettered(self.reml._regrouped(by, None), level, adjust)
        rows, columns = fit.index, [*self.reml.labels.columns, "estimate", "letters"]
        out, shown = fit[columns].reset_index(drop=True), letter_texts(self.reml.labels, fit)[columns]
        shown = shown.rename(columns={"estimate": "REML"})
        for name, means in self.posteriors.items():
            own = means._lettered(means._regrouped(by, None), level).loc[rows]
            digits = in_digits(means._frame, means.monte_carlo_errors, means._sizes).loc[rows]
            mean, letter = f"mean ({name})", f"letters ({name})"
            out[mean], out[letter] = own["mean"].to_numpy(), own["letters"].to_numpy()
            shown[name], shown[letter] = digits["mean"].to_numpy(), own["letters"].to_numpy()
        title = f"Means that share a letter do not differ (REML: adjust={adjust!r}; posterior: HDI of the difference)"
        return headed(out, title, (), lambda: shown)

    def test(
        self, null: float = 0.0, side: Side = "two-sided", delta: float = 0.0, adjust: str | None = None
    ) -> pd.DataFrame:
        """The test of every row by REML, and the posterior probability of what it would show.

        Parameters
        ----------
        null, side, delta, adjust
            As in `MarginalMeans.test` and `PosteriorMeans.test`.

        Returns
        -------
        pandas.DataFrame
            Labels, ``estimate``, ``t``, ``p_value``, and ``probability``; of several posteriors with names in brackets.
        """
        fit = self.reml.test(null, side, delta, adjust)
        table, sizes = pd.DataFrame(fit[[*self.reml.labels.columns, "estimate", "t", "p_value"]]), {}
        for name, means in self.posteriors.items():
            column = "probability" if len(self.posteriors) == 1 else f"probability ({name})"
            table[column] = means.test(null, side, delta, adjust)["probability"].to_numpy()
            sizes[column] = [means.source.post._size(np.asarray(own > null)) for own in means.source.values.T]
        return readable(table, lambda: in_digits(table, None, sizes))

    def regrid(self) -> ComparedMeans:
        """The means of all in units of the response."""
        return self._each(lambda means: means.regrid())

    def _each(self, made: Callable[[Any], Any]) -> ComparedMeans:
        return replace(
            self, reml=made(self.reml), posteriors={name: made(own) for name, own in self.posteriors.items()}
        )

    @property
    def _heading(self) -> str:
        return heading(self.reml.display).replace(" intervals", " intervals, HDI of posteriors")

    def _notes(self) -> Sequence[str]:
        return [*self.reml._notes(), "Numbers from draws are rounded to their Monte Carlo error."]

    def _texts(self) -> pd.DataFrame:
        fit = texts(self.reml.labels, self.reml._frame)
        out = {"REML": fit["estimate"].tolist()}
        out[f"{100 * self.reml.display.level:.4g} % interval"] = _joined(fit["conf_low"], fit["conf_high"])
        if "p_value" in fit:
            out["p"] = fit["p_value"].tolist()
        for name, means in self.posteriors.items():
            own = in_digits(means._frame, means.monte_carlo_errors, means._sizes)
            out[name] = own["mean"].tolist()
            out[f"HDI{'' if len(self.posteriors) == 1 else f' ({name})'}"] = _joined(own["hdi_low"], own["hdi_high"])
            if "p_positive" in own:
                null = "1" if means.display.ratio else "0"
                out[f"P(> {null})" + ("" if len(self.posteriors) == 1 else f" ({name})")] = own["p_positive"].tolist()
        return label_index(self.reml.labels, pd.DataFrame(out, dtype=object))


def compared_means(
    both: Compared,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF = "satterthwaite",
    type: Scale = "link",
    rope: float | Sequence[float] | None = None,
) -> ComparedMeans:
    """Means of factors by REML and by every posterior, to be compared by ``.pairs()`` and ``.contrast()``.

    Parameters
    ----------
    of, by, at, weights, ddf, type
        As in `REMLResult.means`.
    rope : float or pair of float, optional
        As in `Posterior.means`.

    Returns
    -------
    ComparedMeans
        Prints as a table; ``.frame`` is a data frame.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines"))
    >>> both = bl.compare(model.fit(), model.sample(random_seed=1))
    >>> both.means("Machine").pairs().frame[["contrast", "estimate", "mean"]].round(0)
      contrast  estimate  mean
    0    A - B      -8.0  -8.0
    1    A - C     -14.0 -14.0
    2    B - C      -6.0  -6.0
    """
    fit = both.reml.means(of, by=by, at=at, weights=weights, ddf=ddf, level=both.level, type=type)
    own = {
        name: post.means(of, by=by, at=at, weights=weights, level=both.level, type=type, rope=rope)
        for name, post in both.by_name.items()
    }
    return ComparedMeans(fit, own)


def compared_trends(
    both: Compared,
    variable: str,
    of: Names = None,
    *,
    by: Names = None,
    at: Mapping[str, Any] | None = None,
    weights: Weights = "equal",
    ddf: DDF = "satterthwaite",
    rope: float | Sequence[float] | None = None,
) -> ComparedMeans:
    """Slopes of a numeric column by REML and by every posterior; see `REMLResult.trends`.

    Parameters
    ----------
    variable : str
    of, by, at, weights, ddf
        As in `REMLResult.trends`.
    rope : float or pair of float, optional
        As in `Posterior.means`.

    Returns
    -------
    ComparedMeans
    """
    fit = both.reml.trends(variable, of, by=by, at=at, weights=weights, ddf=ddf, level=both.level)
    own = {
        name: post.trends(variable, of, by=by, at=at, weights=weights, level=both.level, rope=rope)
        for name, post in both.by_name.items()
    }
    return ComparedMeans(fit, own)


def compared_estimable(
    both: Compared, L: Any, *, ddf: DDF = "satterthwaite", rope: float | Sequence[float] | None = None
) -> ComparedMeans:
    """Linear functions of fixed and random effects by REML and by every posterior; see `REMLResult.estimable`.

    Parameters
    ----------
    L : mapping or array-like
    ddf : str
        As in `REMLResult.estimable`.
    rope : float or pair of float, optional
        As in `Posterior.estimable`.

    Returns
    -------
    ComparedMeans
    """
    fit = both.reml.estimable(L, ddf=ddf, level=both.level)
    own = {name: post.estimable(L, level=both.level, rope=rope) for name, post in both.by_name.items()}
    return ComparedMeans(fit, own)


def compared_joint_tests(
    both: Compared,
    by: Names = None,
    *,
    at: Mapping[str, Any] | None = None,
    ddf: DDF = "satterthwaite",
    df2: Literal["least", "combined"] = "least",
) -> pd.DataFrame:
    """F tests of the terms by REML, and how far out zero is in every posterior.

    Parameters
    ----------
    by, at, ddf, df2
        As in `REMLResult.joint_tests`.

    Returns
    -------
    pandas.DataFrame
        As `REMLResult.joint_tests`, with ``p_farther`` of `Posterior.joint_tests` before the note; of several
        posteriors with their names in brackets.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines"))
    >>> both = bl.compare(model.fit(), model.sample(random_seed=1))
    >>> both.joint_tests()[["term", "df1", "df2", "F", "p_farther"]]
       term     df1  df2       F  p_farther
    0  Machine    2   46  87.798    < 0.001
    """
    frame = pd.DataFrame(both.reml.joint_tests(by, at=at, ddf=ddf, df2=df2))
    shares = dict[str, list[float]]()
    for name, post in both.by_name.items():
        own, sizes = farther_table(post, by, at)
        column = "p_farther" if len(both.by_name) == 1 else f"p_farther ({name})"
        frame.insert(len(frame.columns) - 1, column, own["p_farther"].to_numpy())
        shares[column] = sizes
    return readable(frame, lambda: in_digits(frame, None, shares))


def _there(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in frame]


def _joined(low: pd.Series, high: pd.Series) -> list[str]:
    return [f"[{a}, {b}]" if a and b else "" for a, b in zip(low, high, strict=True)]
