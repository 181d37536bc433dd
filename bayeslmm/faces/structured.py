"""Fits of models whose residuals have parameters: what is theirs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.equality import by_value
from bayeslmm.faces.fit import REMLResult
from bayeslmm.results.fit_intervals import fixed_intervals
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF
from bayeslmm.results.residual_intervals import wald_residual
from bayeslmm.results.tables import tidy_table


@by_value
@dataclass(frozen=True, repr=False, eq=False)
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

    def tidy(self, level: float = 0.95, ddf: DDF | None = None) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; Wald intervals, t for fixed effects as `coefficients`."""
        errors, fixed = fixed_intervals(self, check_level(level), ddf, say=True)
        ends = wald_residual(self, None, level)
        ends.loc[fixed.index] = fixed
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        return tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), ends)
