"""Linear combinations of the fixed effects of a fit: estimates, their covariance, and degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from bayeslmm.arguments import choice
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.containment import Containment, containment, nested_order
from bayeslmm.inference.kenward_roger import KenwardRoger
from bayeslmm.inference.satterthwaite import satterthwaite_df
from bayeslmm.inference.sensitivity import contrasts
from bayeslmm.reml import FitStatus
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray

# Random effects of a hierarchy beyond which the curvature of the criterion takes seconds.
_MOST_EFFECTS = 1500
# Degrees of freedom at which t is normal to rounding.
_INFINITE = 1e20

DDF = Literal["satterthwaite", "kenward-roger", "kenward-roger-linear", "containment", "residual", "knapp-hartung", "z"]

# How tables say what they tested by.
TESTS: dict[str, str] = {
    "satterthwaite": "t tests with Satterthwaite's df",
    "kenward-roger": "t tests with Kenward and Roger's standard errors and df",
    "kenward-roger-linear": "t tests with Kenward and Roger's standard errors of first order and df",
    "containment": "t tests with df by containment",
    "residual": "t tests with residual df",
    "knapp-hartung": "t tests with Knapp and Hartung's standard errors and residual df",
    "z": "z tests",
}


@dataclass(frozen=True)
class Combinations:
    """Estimates of linear combinations of the fixed effects and what is known about their errors.

    Attributes
    ----------
    estimate : FloatArray, shape (m,)
    covariance : FloatArray, shape (m, m)
        Of the estimates; adjusted for the estimation of the variances with Kenward-Roger.
    df : FloatArray, shape (m,)
        Degrees of freedom of each estimate over its standard error; inf for the normal distribution, nan for a
        combination of zeros.
    """

    estimate: FloatArray
    covariance: FloatArray
    df: FloatArray

    @property
    def std_error(self) -> FloatArray:
        """Standard errors (m,)."""
        return np.sqrt(np.diagonal(self.covariance))


def combinations(fit: Fit, L: FloatArray, ddf: DDF) -> Combinations:
    """Linear combinations ``L beta`` of the fixed effects.

    Parameters
    ----------
    fit : Fit
    L : FloatArray, shape (m, p)
        Of the user's coefficients.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "knapp-hartung", "z"}
        See `bayeslmm.results.fit_coefficients.coefficients`.

    Raises
    ------
    DesignError
        Unknown `ddf`; Kenward-Roger for an ML fit, an ``ar1`` covariance or a very large design; containment where
        grouping factors are not nested.
    FitError
        No residual variance, or no minimum (Satterthwaite).

    Examples
    --------
    The mean after five days in sleepstudy.

    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> five = combinations(fit, np.array([[1.0, 5.0]]), "satterthwaite")
    >>> [round(float(x[0]), 3) for x in (five.estimate, five.std_error, five.df)]
    [303.742, 9.581, 17.0]
    """
    check_ddf(fit, ddf)
    # In the coordinates of the orthogonalised columns a predictor far from zero costs no digits.
    own, factor, q2 = contrasts(fit.cp, L), fit.optimum.factor, fit.cp.q_trailing
    estimate = own @ (factor.solution[0, q2:] + fit.cp.response.removed)
    if ddf in ("kenward-roger", "kenward-roger-linear"):
        adjusted = kenward_roger_of(fit, ddf)
        covariance = own @ adjusted.adjusted_own[0] @ own.T
        # Where nothing was estimated, there is nothing to count as uncertain.
        estimated = fit.design.sigma is None or len(fit.optimum.fixed) < len(fit.design.terms)
        df = adjusted.known_df(own) if estimated else np.full(len(own), np.inf)
    else:
        half = solve_triangular(factor.chol[0, q2:, q2:], own.T, lower=True)
        covariance = half.T @ half
        df = satterthwaite_df(fit.cp, fit.optimum, L) if ddf == "satterthwaite" else plain_df(fit, L, ddf)
    return Combinations(estimate, covariance * fit.sigma**2 * inflation(fit, ddf), df)


def kenward_roger_of(fit: Fit, ddf: str) -> KenwardRoger:
    """Kenward and Roger's adjustment, with or without second derivatives of the residual covariance."""
    return fit._kenward_roger if ddf == "kenward-roger" else fit._kenward_roger_linear


def inflation(fit: Fit, ddf: str) -> float:
    """What the covariance of the estimates is multiplied by: Knapp and Hartung's factor, or 1.

    It is the weighted residual sum of squares over its degrees of freedom, which the variances make 1 on average.

    References
    ----------
    Hartung & Knapp (2001), Statistics in Medicine 20, 3875-3889; Sidik & Jonkman (2002), the same 21, 3153-3159.
    """
    if ddf != "knapp-hartung":
        return 1.0
    return float(fit.optimum.factor.r2[0]) / fit.sigma**2 / (fit.cp.n - fit.cp.p)


def default_ddf(fit: Fit) -> tuple[DDF, str]:
    """What tables of fixed effects use where nothing is asked for, and why where it is not Satterthwaite's method."""
    if one_effect_per_row(fit.design):
        return "z", (
            "z tests, as is usual for known standard errors: Satterthwaite's df say little of one estimated variance. "
            "summary(ddf='knapp-hartung') counts it as estimated."
        )
    if fit.cp.sums.batched or fit.design.q <= _MOST_EFFECTS:
        return "satterthwaite", ""
    return "z", (
        "z tests: degrees of freedom take a while with so many levels, and are large. summary(ddf='satterthwaite') "
        "computes them."
    )


def default_intervals(fit: Fit, level: float) -> pd.DataFrame:
    """The intervals of the fixed effects that all tables show: t with Satterthwaite's degrees of freedom.

    By the normal distribution where these would take long, or do not exist.
    """
    from scipy.special import stdtrit

    rows = np.eye(fit.design.p)
    try:
        found = combinations(fit, rows, default_ddf(fit)[0])
    except FitError:
        found = combinations(fit, rows, "z")
    # SciPy's quantile at infinitely many is that of the normal distribution.
    half = stdtrit(np.minimum(found.df, _INFINITE), 0.5 + level / 2) * found.std_error
    ends = np.column_stack([found.estimate - half, found.estimate + half])
    return pd.DataFrame(ends, index=list(fit.design.fixed_names), columns=["conf_low", "conf_high"])


def known_ddf(ddf: DDF | None) -> None:
    """Refuse unknown methods; what posteriors ask, which have no degrees of freedom but take the calls of fits."""
    if ddf is not None:
        choice("ddf", ddf, get_args(DDF), DesignError)


def check_ddf(fit: Fit, ddf: str) -> None:
    """Refuse unknown methods, and fits without an error that could have degrees of freedom."""
    choice("ddf", ddf, get_args(DDF), DesignError)
    if fit.optimum.status is FitStatus.non_finite or not fit.optimum.sigma > 0:
        raise FitError(
            f"The residual standard deviation is {fit.optimum.sigma:g}: the model reproduces the response; "
            "coefficients have no error to compare them with. Remove a random term; fit.fixef() has the estimates."
        )
    if ddf == "knapp-hartung" and not one_effect_per_row(fit.design):
        raise DesignError(
            "ddf='knapp-hartung' is for meta-analyses: known residual standard deviations (residual_sd=) and one "
            f"random intercept with one row per level, as in yi ~ 1 + (1 | study). {fit.formula} is no such model. Use "
            "ddf='kenward-roger', which is for any model."
        )


def one_effect_per_row(design: Design) -> bool:
    """Whether a model is the ordinary random-effects model of meta-analysis: one level per row, residuals known."""
    if design.sigma is None or len(design.terms) != 1 or design.frequency is not None:
        return False
    (term,) = design.terms
    return design.groupings[term.group].n_levels == design.n and term.Z.shape[1] == 1 and bool((term.Z == 1.0).all())


def plain_df(fit: Fit, L: FloatArray, ddf: DDF) -> FloatArray:
    """Degrees of freedom (m,) of combinations (m, p) that the design alone decides.

    By containment a combination has the fewest of those of its coefficients.
    """
    L = np.atleast_2d(L)
    if ddf == "containment":
        own = strata(fit).of_columns()
        return np.array([own[row != 0].min() if row.any() else np.nan for row in L])
    return np.full(L.shape[0], float(fit.cp.n - fit.cp.p) if ddf in ("residual", "knapp-hartung") else np.inf)


def strata(fit: Fit) -> Containment:
    """In which stratum of nested grouping factors each coefficient is estimated.

    Raises
    ------
    DesignError
        The grouping factors are not nested in one another.
    """
    design = fit.design
    ordered = nested_order(list(design.groupings.values()))
    if ordered is None:
        raise DesignError(
            f"ddf='containment' counts the groups of nested factors, and {', '.join(design.groupings)} are not nested "
            "in one another: a comparison has no one stratum. Use ddf='satterthwaite' or 'kenward-roger'."
        )
    return containment(design, ordered)
