"""REML and ML fits, penalised ones among them, with all that can be asked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.habits import FIT, no_attribute
from bayeslmm.imports import later
from bayeslmm.results.fit import Fit

# A fit is made without what may be asked of it.
if TYPE_CHECKING:
    from bayeslmm.boundary import build, zero_tests
    from bayeslmm.figures import residual_plots
    from bayeslmm.files.writing import FilePath
    from bayeslmm.means import estimable, joint, of_fit
    from bayeslmm.results import (
        accessors,
        bootstrap_runs,
        collinearity,
        cross_validation,
        fit_coefficients,
        fit_intervals,
        fit_summary,
        heterogeneity,
        influence,
        intervals,
        mode_words,
        predictions,
        random_effects,
        refits,
        residual_kinds,
        residual_tables,
        serial,
        simulations,
        tables,
        textbook,
        updates,
        variance_errors,
    )
    from bayeslmm.results.linear import DDF
    from bayeslmm.results.summary import Summary
    from bayeslmm.storage import fits
    from bayeslmm.testing import dropping, residual_tests, term_table
    from bayeslmm.words import of_fit as words
    from bayeslmm.words.explanation import Explanation
else:
    build, zero_tests = later("bayeslmm.boundary", "build", "zero_tests")
    (residual_plots,) = later("bayeslmm.figures", "residual_plots")
    estimable, joint, of_fit = later("bayeslmm.means", "estimable", "joint", "of_fit")
    accessors, bootstrap_runs, collinearity, cross_validation, fit_coefficients, fit_intervals = later(
        "bayeslmm.results",
        *("accessors", "bootstrap_runs", "collinearity", "cross_validation", "fit_coefficients", "fit_intervals"),
    )
    fit_summary, heterogeneity, influence, intervals, mode_words, predictions, random_effects, refits = later(
        "bayeslmm.results",
        *("fit_summary", "heterogeneity", "influence", "intervals"),
        *("mode_words", "predictions", "random_effects", "refits"),
    )
    residual_kinds, residual_tables, serial, simulations, tables, textbook, updates, variance_errors = later(
        "bayeslmm.results",
        *("residual_kinds", "residual_tables", "serial", "simulations"),
        *("tables", "textbook", "updates", "variance_errors"),
    )
    (fits,) = later("bayeslmm.storage", "fits")
    dropping, residual_tests, term_table = later("bayeslmm.testing", "dropping", "residual_tests", "term_table")
    (words,) = later("bayeslmm.words", "of_fit")


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class REMLResult(Fit):
    """A linear mixed model fitted by REML or ML: what ``model.fit()`` returns.

    It prints its summary. Ask `coefficients` for the fixed effects with tests, `confint` for intervals of all
    parameters, `ranef` for the effects of the levels, `varcorr` and `sigma` for the variances, `means` for means
    and contrasts, `predict` for predictions, `plot` for the residuals, `boundary` what a variance of zero means,
    and `explain` for plain words.

    Attributes
    ----------
    design : Design
        Formula and data as arrays and names.
    cp : SummedDesign
        The design with the sums that the likelihood is computed from.
    optimum : Optimum
        Everything about the optimisation.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> round(fit.sigma, 3), round(float(fit.fixef()["Intercept"]), 1)
    (49.51, 1527.5)
    >>> fit.confint().round(2)
                         conf_low  conf_high
    sd_Batch[Intercept]     15.66     101.07
    sigma                   38.23      67.66
    Intercept             1486.45    1568.55
    """

    coefficients = fit_coefficients.coefficients
    test_fixed = fit_coefficients.test_fixed
    anova = term_table.anova
    drop1 = dropping.drop1
    step = dropping.step
    means = of_fit.fit_means
    trends = of_fit.fit_trends
    joint_tests = joint.joint_tests
    estimable = estimable.fit_estimable
    vcov_kenward_roger = fit_coefficients.vcov_kenward_roger
    residuals = residual_kinds.residuals
    residual_covariance = residual_tables.residual_covariance
    acf = serial.acf
    semivariogram = serial.semivariogram
    leverage = residual_kinds.leverage
    cooks_distance = residual_kinds.cooks_distance
    influence = influence.influence
    ranef = random_effects.ranef
    ranef_variances = random_effects.ranef_variances
    coef = random_effects.coef
    varcorr_matrices = random_effects.varcorr_matrices
    rePCA = random_effects.re_pca
    vif = collinearity.vif
    plot = residual_plots.plot_fit
    cv = cross_validation.cv
    correlation = accessors.correlation
    weights = accessors.weights
    variances = variance_errors.variances
    vcov_variances = variance_errors.vcov_variances
    r2 = fit_coefficients.r2
    icc = fit_coefficients.icc
    predict = predictions.predict_fit
    simulate = simulations.simulate
    criterion_at = textbook.criterion_at
    matrices = textbook.matrices
    mme = textbook.mme
    shrinkage = textbook.shrinkage
    refit = refits.refit
    update = updates.update
    profile = fit_intervals.profile
    confint = fit_intervals.confint
    bootstrap = bootstrap_runs.bootstrap
    tidy = fit_intervals.tidy
    refit_many = refits.refit_many
    test_zero = zero_tests.test_zero
    test_residual = residual_tests.test_residual
    boundary = build.boundary
    heterogeneity = heterogeneity.heterogeneity

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return no_attribute(self, name, FIT, "fit")

    def summary(self, ddf: DDF | None = None, digits: int = 4, *, correlation: bool = False) -> Summary:
        """What a terminal shows of a fit: text there, tables in a notebook.

        Parameters
        ----------
        ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}, optional
            Degrees of freedom and p values of the fixed effects, as in `coefficients`. By default Satterthwaite's, or z
            where these would take long or do not exist, which is then said.
        digits : int
            Significant digits of the smallest standard error; estimates have as many places after the point.
        correlation : bool
            Whether to show the correlations of the estimates of the fixed effects, too.

        Returns
        -------
        Summary

        Raises
        ------
        DesignError
            `digits` is no number of digits; `ddf` is not known or does not exist for this fit.
        FitError
            The fit has not the degrees of freedom that were asked for.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
        Linear mixed model fitted by restricted maximum likelihood (REML)
        Formula: Reaction ~ Days + (Days | Subject)
        180 observations; groups: Subject 18
        REML criterion 1743.63; log likelihood -871.81; AIC 1755.63; BIC 1774.79
        Status: converged
        <BLANKLINE>
        Scaled residuals
              Min       1Q  Median      3Q     Max
          -3.9536  -0.4634  0.0231  0.4634  5.1793
        <BLANKLINE>
        Random effects
        Groups    Name       Variance  Std.Dev.   Corr
        Subject   Intercept    612.09    24.740
                  Days          35.07     5.922  0.066
        Residual               654.94    25.592
        <BLANKLINE>
        Fixed effects (t tests with Satterthwaite's df)
                   Estimate  Std. Error  df  t value   Pr(>|t|)
        Intercept   251.405       6.825  17   36.838  < 2.2e-16
        Days         10.467       1.546  17    6.771   3.26e-06
        """
        return fit_summary.fit_summary(self, ddf, digits, correlation)

    def explain(self, level: float = 0.95) -> Explanation:
        """What the fit says, in plain words.

        Parameters
        ----------
        level : float
            Of the intervals, which are those of `tidy`.

        Returns
        -------
        Explanation
            Paragraphs: text in a terminal, HTML in a notebook.

        Raises
        ------
        DesignError
            The level is not strictly between 0 and 1.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
        >>> print(fit.explain().paragraphs[1])
        On average over the levels of the groups: The average Yield is 5.7 (95 % interval 4.3 to 7.1).
        """
        return words.explain_fit(self, self.tidy(intervals.check_level(level)), level)

    def save(self, path: FilePath, *, overwrite: bool = False) -> None:
        """Write the fit to one file, to be read by `bayeslmm.load`; no pickle.

        Parameters
        ----------
        path : str or path
            Taken as it is; no extension is added.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        StorageError
            The path exists, nothing can be written there, or a row label cannot be kept.
        """
        fits.save_parts(path, self.design, self.optimum, overwrite=overwrite)

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


def _refusal(fit: Fit, what: str) -> FitError:
    return FitError(
        f"{what} is not available for a fit with {fit.restraint}: it measures falls of the likelihood "
        f"from its highest point, and the {fit._estimate_name} is not there. Use "
        f"model.fit(reml={fit.reml}) for intervals and tests, or model.sample() for a posterior."
    )


def _refused(name: str, reason: str) -> Callable[..., NoReturn]:
    """A method that says why there is none."""

    def method(self: Fit, *args: Any, **kwargs: Any) -> NoReturn:
        raise _refusal(self, name)

    method.__name__, method.__doc__ = name, f"Refused: {reason}."
    return method


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class PenalisedResult(REMLResult):
    """Estimates under a penalty (``model.fit(penalty=...)``).

    ``criterion`` is the one without the penalty, at the penalised estimates, so that it can be set beside the minimum
    of an ordinary fit; ``optimum.objective`` is what was minimised. Estimates, predictions and Wald intervals of the
    fixed effects given these are as in an ordinary fit. What needs the minimum of the criterion itself is refused:
    profiles, tests of zero variances, the boundary report.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="boundary_avoiding")
    >>> round(float(fit.estimates()["sd_Batch[Intercept]"]), 4), fit.is_singular
    (1.1729, False)
    """

    profile = _refused("profile", "the estimate is not the top of the likelihood")
    test_zero = _refused("test_zero", "a test compares maxima of the likelihood")
    boundary = _refused("boundary", "the report is about the criterion without the penalty")
    refit_many = _refused("refit_many", "many responses are fitted without a penalty or priors only")
    heterogeneity = _refused("heterogeneity", "intervals of tau2 are about the criterion without the penalty")
    step = _refused("step", "likelihood ratios need the minimum of the criterion")
    bootstrap = _refused("bootstrap", "many responses are fitted without a penalty only")

    def confint(
        self,
        level: float = 0.95,
        method: str = "wald",
        parameters: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Wald intervals of the fixed effects, theta taken as known; those of variances are refused.

        Raises
        ------
        FitError
            Another method than ``"wald"``, or another parameter.
        """
        if method != "wald" or kwargs:
            raise _refusal(self, f"confint(method={method!r})")
        names = list(self.design.fixed_names) if parameters is None else parameters
        chosen = [names] if isinstance(names, str) else list(names)
        others = [label for label in chosen if label not in self.design.fixed_names]
        if others:
            raise _refusal(self, f"An interval of {', '.join(others)}")
        return fit_intervals.confint(self, level, "wald", parameters)

    def tidy(self, level: float = 0.95, ddf: DDF | None = None) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; intervals (t, as `coefficients`) for fixed effects only."""
        errors, interval = fit_intervals.fixed_intervals(self, intervals.check_level(level), ddf, say=True)
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        interval = interval.reindex([p.label for p in self._parameters])
        return tables.tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), interval)

    def summary(self, ddf: DDF | None = None, digits: int = 4, *, correlation: bool = False) -> Summary:
        """As of an ordinary fit, with a note on the penalty."""
        plain = super().summary(ddf, digits, correlation=correlation)
        note = (
            f"Penalty: {self.penalty}. The criterion above is without it, at the penalised estimates; a point estimate "
            "off zero by construction, which says nothing for or against a variance of zero."
        )
        return replace(plain, title=f"{plain.title} with a penalty", notes=(*plain.notes, note))


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class ModeResult(PenalisedResult):
    """The posterior mode: estimates under priors (``model.fit(priors=...)``).

    The highest point of the posterior density of the standard deviations, correlations and sigma, the random effects
    integrated out, and the fixed effects integrated out (``reml=True``) or at their best values. The density is that of
    each quantity as its prior is stated: of an sd, of sd / sigma, of a correlation matrix; another scale has another
    mode. `priors` has the priors, ``optimum.objective`` what was minimised, and ``criterion`` is -2 log (restricted)
    likelihood at the estimates. Standard errors of the fixed effects are those given the variance parameters, normal
    priors of the fixed effects included; Satterthwaite's degrees of freedom come from the curvature of the posterior.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> fit = model.fit(priors={"preset": "flat", "sd": bl.Gamma(2, 0)})
    >>> round(float(fit.estimates()["sd_Batch[Intercept]"]), 4)
    1.1778
    """

    mme = _refused("mme", "Henderson's equations have no priors of the fixed effects")

    def summary(self, ddf: DDF | None = None, digits: int = 4, *, correlation: bool = False) -> Summary:
        """As of an ordinary fit, with notes on the priors."""
        plain = fit_summary.fit_summary(self, ddf, digits, correlation)
        # The report on the boundary is about the likelihood.
        notes = [note.replace("fit.boundary()", "model.fit().boundary()") for note in plain.notes]
        return replace(
            plain, title="Posterior mode of a linear mixed model", notes=(*notes, *mode_words.mode_notes(self))
        )
