"""The result of testing zero variances: every method side by side, and what the p value says."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from bayeslmm.equality import by_value
from bayeslmm.results.summary import Summary

# An exact F test below the first and a likelihood ratio above the second disagree.
_SMALL, _LARGE = 0.05, 0.2


@by_value
@dataclass(frozen=True, eq=False)
class ZeroTest:
    """Test that some random effects have no variance.

    Attributes
    ----------
    hypothesis : str
        The null hypothesis in words.
    statistic : float
        Rise of the criterion (-2 log restricted likelihood, or likelihood) when the effects are left out; of `method`.
    p_value : float
    method : str
        Row of the table that these are from; ``"none"``, with a p value of nan, where no method applies.
    mc_error : float
        Monte Carlo standard error of the p value; 0 where there is no simulation.
    p_zero : float
        Probability, under the null hypothesis, that the statistic is exactly 0; nan where the method does not say.
    criterion : {"REML", "ML"}
    rise : float
        Rise of the fit's own criterion.
    table : pandas.DataFrame
        One row per method: statistic, distribution, p_value, mc_error, note. A method that does not apply has no p
        value and a note that says why.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> test = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit().test_zero("Batch")
    >>> test.method, round(test.p_value, 6)
    ('exact RLRT', 0.004398)
    """

    hypothesis: str
    statistic: float
    p_value: float
    method: str
    mc_error: float
    p_zero: float
    criterion: str
    rise: float
    table: pd.DataFrame = field(repr=False)
    _remarks: tuple[str, ...] = field(default=(), repr=False)
    _note: str = field(default="", repr=False)
    _reached: str = field(default="", repr=False)
    _change: float = field(default=float("nan"), repr=False)
    _zero: bool = field(default=True, repr=False)

    @property
    def conclusion(self) -> str:
        """What the p value says, and what it does not."""
        if self.method == "none":
            return f"there is no p value. {self._note}"
        return " ".join(text for text in (conclusion(self), disagreement(self)) if text)

    @cached_property
    def _summary(self) -> Summary:
        name = "REML criterion" if self.criterion == "REML" else "Deviance (ML)"
        notes = [f"Null hypothesis: {self.hypothesis}", f"{name} rises by {self.rise:.5g} without them."]
        if np.isfinite(self.p_zero):
            notes.append(f"Probability that it does not rise at all, under the null hypothesis: {self.p_zero:.3f}")
        shown = self.table.drop(columns="note")
        remarks = [f"{method}: {note}" for method, note in self.table["note"].items() if note]
        return Summary(
            "Test of a zero variance",
            tuple(notes),
            (("By method", shown),),
            (f"By {self.method}, {self.conclusion}", *remarks, *self._remarks),
            {"By method": p_value_errors(shown)},
        )

    def __str__(self) -> str:
        return str(self._summary)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._summary._repr_html_()


@by_value
@dataclass(frozen=True, eq=False)
class ZeroTests:
    """Tests of every random term of a fit, and of every effect of correlated terms.

    Attributes
    ----------
    tests : tuple of ZeroTest
    table : pandas.DataFrame
        One row per removal: term, removed, rise of the criterion, asymptotic distribution and its p value
        (``p_chi_bar``), the p value to believe with its Monte Carlo error, method and note (nan, with the reasons,
        where no method applies).
    criterion : {"REML", "ML"}
    """

    tests: tuple[ZeroTest, ...]
    table: pd.DataFrame
    criterion: str

    @cached_property
    def _summary(self) -> Summary:
        name = "REML criterion" if self.criterion == "REML" else "deviance (ML)"
        remark = (
            "p_value is of the method named beside it; p_chi_bar is its large-sample approximation. A large p value is "
            "not evidence that a variance is zero."
        )
        notes = [
            f"{term}, {removed}: {note}"
            for term, removed, note in self.table[["term", "removed", "note"]].to_numpy()
            if note
        ]
        shown = self.table.drop(columns="note")
        return Summary(
            "Random effects left out one at a time",
            (f"rise: the likelihood-ratio statistic, by which the {name} is higher without the effects",),
            (("Tests", shown),),
            (remark, *notes),
            {"Tests": p_value_errors(shown)},
        )

    def __str__(self) -> str:
        return str(self._summary)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._summary._repr_html_()


def p_value_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Monte Carlo errors of the p values of a table, themselves known to two digits."""
    return pd.DataFrame({"p_value": table["mc_error"], "mc_error": np.nan}, index=table.index)


def conclusion(test: ZeroTest) -> str:
    """What the p value says, and what it does not."""
    wald = test.method == "F (Wald)"
    if not wald and max(test.rise, test.statistic) <= 0.0:
        return _no_rise(test)
    what = "so large an F" if wald else "so large a rise of the criterion"
    if test._reached and test.p_value >= _SMALL:
        return (
            f"p is at most {test.p_value:.3g} ({test._reached} reached the rise of {test.statistic:.4g}): more of them "
            "would say how much smaller."
        )
    p = _p_text(test)
    if test.p_value < _SMALL:
        return f"{p}: {what} would be rare if the variance were zero."
    return (
        f"{p}: {what.replace('so large', 'such')} is not unusual if the variance is zero. That does not show that it "
        "is zero: see a confidence interval for the values that are compatible with the data."
    )


def _no_rise(test: ZeroTest) -> str:
    caution = "This is not evidence that the variance is zero: see an upper confidence limit or the posterior."
    if not test._zero:
        return (
            f"p = 1: leaving the effects out does not make the fit worse by the criterion (it changes by "
            f"{test._change:.3g}), although their estimate is not zero: the fit may be a local minimum, or its "
            f"variances cannot be told apart. {caution}"
        )
    zero = "" if np.isnan(test.p_zero) else f" (it is, in {test.p_zero:.0%} of samples, when the variance is zero)"
    return (
        f"p = 1: leaving the effects out does not make the fit worse, the estimate is on the boundary{zero}. {caution}"
    )


def _p_text(test: ZeroTest) -> str:
    if test._reached:
        return f"p is at most {test.p_value:.3g} ({test._reached} reached the rise of {test.statistic:.4g})"
    text = f"p = {test.p_value:.3g}" if test.p_value > 1e-12 else "p < 1e-12"
    return text if test.mc_error == 0.0 else f"{text} (Monte Carlo error {test.mc_error:.1g})"


def disagreement(test: ZeroTest) -> str:
    """What to make of a small p value of the exact F test beside a large one of the likelihood ratio.

    Both have the right level. In unbalanced designs the estimate of a variance can be zero, and the likelihood ratio
    with it, although the means of many small groups differ by more than chance.

    Parameters
    ----------
    test : ZeroTest

    Returns
    -------
    str
        Empty where they do not disagree.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.boundary.zero_test import disagreement
    >>> disagreement(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit().test_zero("Batch"))
    ''
    """
    table = test.table.dropna(subset="p_value")
    ratios = [method for method in table.index if method != "F (Wald)"]
    if not ratios or "F (Wald)" not in table.index:
        return ""
    name = test.method if test.method in ratios else ratios[0]
    f, ratio = table["p_value"].loc[["F (Wald)", name]].to_numpy(dtype=float)
    if not (f < _SMALL and ratio > _LARGE):
        return ""
    others = " and takes other random effects as fixed" if table.loc["F (Wald)", "note"] else ""
    return (
        f"The exact F test (p = {f:.3g}) and the likelihood ratio ({name}, p = {ratio:.3g}) disagree. They weigh "
        f"levels differently: F counts every level alike{others}, the likelihood counts levels with much data more. "
        "Neither is wrong; look at the levels themselves."
    )
