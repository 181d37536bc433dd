"""How much studies differ beyond their known standard errors: tau^2, I^2, H^2, Q, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.known import known_text
from bayeslmm.design.readable import readable, table_text
from bayeslmm.design.screen import fill
from bayeslmm.errors import DesignError
from bayeslmm.inference.homogeneity import (
    Homogeneity,
    cochran_q,
    dersimonian_laird,
    expected_errors,
    paule_mandel,
    q_profile,
    typical_variance,
)
from bayeslmm.inference.hypothesis import chi_square_tail
from bayeslmm.results.figures import p_text, to_places
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_intervals import confint
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import one_effect_per_row
from bayeslmm.results.predictions import predict_fit
from bayeslmm.results.term_tests import chi_square
from bayeslmm.types import FloatArray


@dataclass(frozen=True, repr=False)
class Heterogeneity:
    """Heterogeneity of the effects that rows with known standard errors estimate.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for every level of random effects (grouping factor): ``tau2`` (the variance), ``std_error`` of it by the
        expected information, ``tau``, ``I2`` (percent of the total variance of a typical row), and the profile
        likelihood interval of tau2, ``conf_low``, ``conf_high``.
    intervals : pandas.DataFrame
        ``tau2``, ``tau``, ``I2``, ``H2`` of a model with one random effect: estimate, Q-profile interval
        (``q_low``, ``q_high``) and profile likelihood interval (``conf_low``, ``conf_high``). Empty for others.
    typical_variance : float
        Residual variance of a typical row (Higgins & Thompson 2002), beside which I2 and H2 are measured.
    I2, H2 : float
        Of all levels together: I2 in percent, ``H2 = 1 + sum(tau2) / typical_variance``.
    Q : Homogeneity
        Cochran's test of no heterogeneity: ``statistic``, ``df``, ``p_value`` (QE where there are moderators).
    moderators : tuple or None
        Wald's chi-square of all coefficients but the intercept (QM), its degrees of freedom and p value.
    moments : mapping
        Tau2 by the moments of DerSimonian and Laird (``"DL"``) and of Paule and Mandel (``"PM"``), in models with one
        level per row.
    prediction : pandas.DataFrame or None
        Mean, its confidence interval and the prediction interval of the effect of a new study, for a model without
        moderators; by the normal distribution and by Knapp and Hartung.
    """

    formula: str
    criterion: str
    known: str
    level: float
    table: pd.DataFrame
    intervals: pd.DataFrame
    typical_variance: float
    Q: Homogeneity
    moderators: tuple[float, int, float] | None
    moments: Mapping[str, float]
    prediction: pd.DataFrame | None

    @property
    def tau2(self) -> float:
        """Variance between studies, over all levels."""
        return float(self.table["tau2"].sum())

    @property
    def tau(self) -> float:
        """Standard deviation between studies, over all levels."""
        return float(np.sqrt(self.tau2))

    @property
    def I2(self) -> float:
        """Percent of the variance of a typical row that is heterogeneity."""
        return 100.0 * self.tau2 / (self.tau2 + self.typical_variance)

    @property
    def H2(self) -> float:
        """Variance of a typical row over its residual variance."""
        return 1.0 + self.tau2 / self.typical_variance

    def _lines(self) -> list[str]:
        Q, percent = self.Q, f"{100 * self.level:g} %"
        name = "QE" if self.moderators is not None else "Q"
        shared = "one effect is shared by all" if self.moderators is None else "the moderators explain all differences"
        lines = [
            f"Heterogeneity of {self.formula} ({self.criterion}; {self.known})",
            f"{name}({Q.df}) = {_statistic(Q.statistic)}, {_p(Q.p_value)}: Cochran's test that {shared}",
        ]
        if self.moderators is not None:
            value, df, p = self.moderators
            lines.append(f"QM({df}) = {_statistic(value)}, {_p(p)}: all moderators, by the normal distribution")
        lines.append(
            f"I2 = {self.I2:.2f} %, H2 = {_statistic(self.H2)}, beside a typical residual variance of "
            f"{self.typical_variance:.5g}"
        )
        if self.moments:
            own = ", ".join(f"{value:.5g} ({name})" for name, value in self.moments.items())
            lines.append(f"tau2 by moments: {own}")
        out = [fill(line, indent="  ") for line in lines]
        if len(self.intervals):
            out += ["", f"{percent} intervals: Q-profile (q_) and profile likelihood (conf_)"]
            out.append(table_text(self.intervals.map(_figure)))
        else:
            out += [
                "",
                f"By level ({percent} profile likelihood intervals of tau2)",
                table_text(self.table.map(_figure)),
            ]
        if self.prediction is not None:
            out += ["", f"Mean and a new study ({percent} intervals)", table_text(self.prediction.map(_figure))]
        return out

    def __repr__(self) -> str:
        return "\n".join(self._lines())


def _p(value: float) -> str:
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _statistic(value: float) -> str:
    return to_places(value, 4) if value < 1e6 else f"{value:.5g}"


def _figure(value: float) -> str:
    return f"{value:.5g}"


def heterogeneity(fit: Fit, level: float = 0.95) -> Heterogeneity:
    """Heterogeneity between the studies of a meta-analysis: tau2, I2, H2, Q, their intervals, a new study.

    Parameters
    ----------
    level : float
        Of the intervals.

    Returns
    -------
    Heterogeneity
        Prints as a table; numbers are in its attributes.

    Raises
    ------
    DesignError
        Sigma is estimated, or a term has other effects than one random intercept.
    FitError
        No profile likelihood.

    Notes
    -----
    Q is the weighted residual sum of squares of the fixed effects alone. The Q-profile interval has the values of
    tau2 at which Q with tau2 in its weights is between quantiles of chi-square: exact, for models with one random
    effect. ``fit.coefficients(ddf="knapp-hartung")`` and ``ddf="z"`` have the tests of the fixed effects.

    References
    ----------
    Cochran (1954), Biometrics 10; Higgins & Thompson (2002), Stat. Med. 21; Viechtbauer (2007), Stat. Med. 26;
    Hartung & Knapp (2001), Stat. Med. 20.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("yi ~ 1 + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei").fit()
    >>> found = fit.heterogeneity()
    >>> round(found.tau2, 4), round(found.I2, 2), round(found.Q.statistic, 2)
    (0.3132, 92.22, 152.23)
    """
    level = check_level(level)
    design = fit.design
    _check(fit)
    typical, test, per_row = typical_variance(design), cochran_q(design), one_effect_per_row(design)
    table = _table(fit, typical, level)
    return Heterogeneity(
        fit.formula,
        "REML" if fit.reml else "ML",
        known_text(design),
        level,
        readable(table),
        readable(_intervals(fit, table, typical, level)),
        typical,
        test,
        _moderators(fit),
        {"DL": dersimonian_laird(test, typical), "PM": paule_mandel(fit.cp) ** 2} if per_row else {},
        _prediction(fit, level, per_row),
    )


def _check(fit: Fit) -> None:
    design = fit.design
    if design.sigma is None:
        raise DesignError(
            "heterogeneity() is about effects beyond residuals whose standard deviations are known, and sigma of this "
            "model is estimated. Make it with bl.Model(formula, data, residual_sd='se'); fit.icc() has shares of "
            "variance beside an estimated sigma."
        )
    for term in design.terms:
        if term.Z.shape[1] != 1 or not (term.Z == 1.0).all():
            raise DesignError(
                f"{term.label} has other effects than a random intercept ({', '.join(term.effects)}), whose variance "
                "is not the same in every row, so that there is no one tau2. See fit.varcorr() and fit.confint()."
            )
    if len(design.groupings) < len(design.terms):
        raise DesignError("A grouping factor has two terms with an intercept, which cannot be told apart.")


def _table(fit: Fit, typical: float, level: float) -> pd.DataFrame:
    """One row per term."""
    by_term = {p.position: p.label for p in fit._parameters if p.kind == "sd"}
    labels = [by_term[k] for k in range(len(fit.design.terms))]
    tau = fit.estimates()[labels].to_numpy(dtype=float)
    ends = confint(fit, level, "profile", parameters=labels).loc[labels].to_numpy()
    return pd.DataFrame(
        {
            "tau2": tau**2,
            "std_error": np.where(np.isin(np.arange(tau.size), fit.optimum.fixed), 0.0, _errors(fit)),
            "tau": tau,
            "I2": 100.0 * tau**2 / ((tau**2).sum() + typical),
            "conf_low": ends[:, 0] ** 2,
            "conf_high": ends[:, 1] ** 2,
        },
        index=pd.Index([term.group for term in fit.design.terms], name="level"),
    )


def _errors(fit: Fit) -> FloatArray:
    """Standard errors (terms,) of the variances."""
    found = expected_errors(fit.cp, fit.optimum)
    own = {block.terms[0]: float(e) for block, e in zip(fit.cp.blocks, found, strict=True)}
    return np.array([own[k] for k in range(len(fit.design.terms))])


def _intervals(fit: Fit, table: pd.DataFrame, typical: float, level: float) -> pd.DataFrame:
    columns = ["estimate", "q_low", "q_high", "conf_low", "conf_high"]
    if len(fit.design.terms) != 1:
        return pd.DataFrame(columns=columns, dtype=float)
    low, high = q_profile(fit.cp, level)
    row = table.iloc[0]
    tau2 = np.array([row["tau2"], low**2, high**2, row["conf_low"], row["conf_high"]], dtype=float)
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(tau2), 1.0, tau2 / (tau2 + typical))
    rows = {"tau2": tau2, "tau": np.sqrt(tau2), "I2": 100.0 * share, "H2": 1.0 + tau2 / typical}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _moderators(fit: Fit) -> tuple[float, int, float] | None:
    rows = np.eye(fit.design.p)[[name != "Intercept" for name in fit.design.fixed_names]]
    if not len(rows) or len(rows) == fit.design.p:
        return None
    value, df = chi_square(fit, rows)
    return value, df, float(chi_square_tail(value, df))


def _prediction(fit: Fit, level: float, per_row: bool) -> pd.DataFrame | None:
    """Mean, its interval and that of a new study, where there are no moderators."""
    if fit.design.fixed_names != ("Intercept",) or fit.design.offset is not None or fit.design.recipe is None:
        return None
    at, rows = pd.DataFrame(index=[0]), dict[str, Any]()
    for name, ddf in (("z", "z"), *((("knapp-hartung", "knapp-hartung"),) if per_row else ())):
        mean = predict_fit(fit, at, random=None, level=level, ddf=ddf).iloc[0]
        new = predict_fit(fit, at, random="new", level=level, ddf=ddf).iloc[0]
        rows[name] = [*mean, new["conf_low"], new["conf_high"]]
    columns = ["estimate", "std_error", "conf_low", "conf_high", "new_low", "new_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
