"""Fits of models whose residuals have parameters: what is right for them, and the words where nothing is yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice
from bayeslmm.design.readable import headed
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.faces.fit import REMLResult
from bayeslmm.faces.refused import refused
from bayeslmm.results import Summary, residual_tables
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_intervals import fixed_intervals
from bayeslmm.results.fit_summary import fit_summary
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF
from bayeslmm.results.residual_intervals import wald_residual
from bayeslmm.results.tables import tidy_table


def _not_yet(name: str, instead: str) -> Callable[..., NoReturn]:
    """A method that says that there is none yet, and what there is."""

    def words(fit: Fit) -> str:
        return (
            f"{name} is not there yet for a fit whose residuals have parameters "
            f"(residual={residual_tables.expression(fit)!r}): with these taken for known it would say too little, or "
            f"something else. {instead}"
        )

    return refused(name, words, instead)


_LRT = "bl.anova(smaller, larger) compares two fits by their likelihoods."


@by_value
@dataclass(frozen=True, repr=False)
class StructuredResult(REMLResult):
    """Estimates of a model whose residuals have parameters (``Model(..., residual="ar1(time | g)")``).

    ``sigma`` is the standard deviation where all factors are one: of the first level of ``by(g)``, of the first visit
    of ``us(visit | g)``. Residual parameters stand in `estimates` and all tables under ``residual_...``, in the user's
    units (correlations, ratios of standard deviations, exponents); ``optimum.lam`` has them without bounds.
    Degrees of freedom by Satterthwaite's method count their uncertainty.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy")
    >>> fit = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    >>> fit.estimates().round(3).to_dict()
    {'sigma': 49.515, 'residual_rho': 0.8, 'Intercept': 253.738, 'Days': 10.467}
    """

    residual_covariance = residual_tables.residual_covariance
    profile = _not_yet("profile", "confint() has Wald intervals on scales without bounds.")
    test_zero = _not_yet("test_zero", _LRT)
    boundary = _not_yet("boundary", _LRT)
    step = _not_yet("step", _LRT)
    variances = _not_yet("variances", "confint() has intervals of all variance parameters.")
    vcov_variances = _not_yet("vcov_variances", "confint() has intervals of all variance parameters.")

    def summary(self, ddf: DDF | None = None, digits: int = 4, *, correlation: bool = False) -> Summary:
        """As of an ordinary fit, with the residual structure."""
        plain = fit_summary(self, ddf, digits, correlation)
        own = (f"Residuals: {residual_tables.expression(self)}", residual_tables.residual_lines(self))
        tables = list(plain.tables)
        place = next((i for i, (title, _) in enumerate(tables) if title.startswith("Fixed effects")), len(tables))
        tables.insert(place, own)
        if not self.design.terms:
            tables = [table for table in tables if table[0] != "Random effects"]
        title = plain.title if self.design.terms else plain.title.replace("mixed model", "model, correlated residuals")
        return replace(plain, title=title, tables=tuple(tables))

    def confint(  # type: ignore[override]
        self,
        level: float = 0.95,
        method: Literal["wald", "bootstrap"] = "wald",
        parameters: str | Sequence[str] | None = None,
        *,
        n: int = 200,
        random_seed: int | np.random.Generator | None = None,
    ) -> pd.DataFrame:
        """Intervals of the parameters.

        Parameters
        ----------
        level : float
        method : {"wald", "bootstrap"}
            ``"wald"``: by the curvature of the criterion in all covariance parameters together, standard deviations and
            their ratios on the log scale, correlations by atanh. ``"bootstrap"``: percentiles of `bootstrap`.
        parameters : str or sequence of str, optional
            Labels, all by default; nan for an estimate at the end of its range.
        n : int
            Simulated responses of a bootstrap.
        random_seed : int or numpy.random.Generator, optional
            Of a bootstrap.

        Returns
        -------
        pandas.DataFrame
            Columns ``conf_low``, ``conf_high``; indexed by label.

        Raises
        ------
        DesignError
            Another method, an unknown label, a parameter without an interval.
        """
        level = check_level(level)
        choice("method", method, ("wald", "bootstrap"), DesignError)
        if method == "bootstrap":
            ends = self.bootstrap(n, random_seed).confint(level, "percentile", parameters)
            kind = "bootstrap intervals"
        else:
            ends, kind = wald_residual(self, parameters, level), "Wald intervals"
        criterion = "REML" if self.reml else "ML"
        ends.attrs.update(method=method, level=level, criterion=criterion)
        return headed(ends, f"{100 * level:g} % {kind} ({criterion})")

    def tidy(self, level: float = 0.95, ddf: DDF | None = None) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; Wald intervals, t for fixed effects as `coefficients`."""
        errors, fixed = fixed_intervals(self, check_level(level), ddf, say=True)
        ends = wald_residual(self, None, level)
        ends.loc[fixed.index] = fixed
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        return tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), ends)
