"""Standard errors of the predictions of a fit, and the degrees of freedom of their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from bayeslmm.bayes.predictive import Request
from bayeslmm.design.newdata import Rows
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference.prediction import RowsTaken, new_level_variance, prediction_variance, variance_df
from bayeslmm.inference.residual_degrees import residual_variance_df
from bayeslmm.likelihood import Factor, SummedDesign
from bayeslmm.likelihood import parameters as par
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.fit import Fit
from bayeslmm.results.known_residuals import known_rows
from bayeslmm.results.linear import DDF, combinations, plain_df
from bayeslmm.types import FloatArray

# Distinct rows whose fixed parts are taken one by one, exactly; more go together, by differences (1e-7 relative).
_ONE_BY_ONE = 200
# Share of the residual variance that is none, squares of rounding errors.
_NOTHING = 1e-24
# Methods for any prediction; others are for combinations of the fixed effects.
_ANYWHERE = ("satterthwaite", "residual", "z")


def errors_and_df(fit: Fit, rows: Rows, request: Request, ddf: DDF) -> tuple[FloatArray, FloatArray]:
    """Standard errors (k,) and degrees of freedom (k,); nan where these are not determined.

    Raises
    ------
    DesignError
        A method that exists for combinations of the fixed effects alone, and other predictions.
    """
    mean_of_fixed = not request.groups and not request.observation and not request.known_residuals
    if mean_of_fixed and fit.optimum.sigma > 0 and rows.n and ddf not in _ANYWHERE:
        return _of_combinations(fit, rows, ddf)
    if ddf == "knapp-hartung" and fit.optimum.sigma > 0 and _only_new_levels(fit, rows, request):
        return _of_new_studies(fit, rows, request)
    if ddf not in _ANYWHERE:
        raise DesignError(
            f"ddf={ddf!r} is for means without random effects (kind='mean', random=None). Use ddf='satterthwaite', "
            "which is for all predictions."
        )
    relative = _Variance(fit, rows, request)
    variance = relative.at(fit.optimum.factors, fit.optimum.factor)
    error = fit.optimum.sigma * np.sqrt(variance)
    if ddf != "satterthwaite":
        return error, plain_df(fit, np.zeros((rows.n, fit.cp.p)), ddf)
    known = (variance > relative.rounding) & (fit.optimum.sigma > 0)
    df = np.full(rows.n, np.inf)
    if not known.any():
        return error, df
    if mean_of_fixed and len(np.unique(rows.X, axis=0)) <= _ONE_BY_ONE:
        # Where there is no minimum, it is said once for all rows.
        with suppress(FitError):
            df[known] = _of_combinations(fit, rows, ddf)[1][known]
            return error, df
    if isinstance(fit.optimum, ResidualOptimum):
        df[known] = residual_variance_df(fit.optimum, lambda *at: np.where(known, relative.with_residual(*at), 1.0))[
            known
        ]
    else:
        df[known] = variance_df(fit.cp, fit.optimum, relative.at)[known]
    return error, df


def _only_new_levels(fit: Fit, rows: Rows, request: Request) -> bool:
    """Whether no prediction has a random effect of a level of the data, whose error has the same data in it."""
    levels = fit.design.groupings
    return request.sample_new and all((own.codes >= levels[name].n_levels).all() for name, own in rows.levels.items())


def _of_new_studies(fit: Fit, rows: Rows, request: Request) -> tuple[FloatArray, FloatArray]:
    """The variance between levels beside Knapp and Hartung's of the mean."""
    mean, df = _of_combinations(fit, rows, "knapp-hartung")
    plain = _of_combinations(fit, rows, "z")[0]
    rest = fit.optimum.sigma**2 * _Variance(fit, rows, request).at(fit.optimum.factors, fit.optimum.factor) - plain**2
    return np.sqrt(mean**2 + np.maximum(rest, 0.0)), df


class _Variance:
    """Variances of predictions over sigma^2, at any covariance of the random effects."""

    def __init__(self, fit: Fit, rows: Rows, request: Request) -> None:
        self.fit, self.rows, self.request = fit, rows, request
        levels = {k: (t.group, fit.design.groupings[t.group].n_levels) for k, t in enumerate(fit.design.terms)}
        self.levels = {k: value for k, value in levels.items() if value[0] in request.groups}
        self.known = known_rows(fit, rows) if request.known_residuals else None

    @property
    def rounding(self) -> FloatArray:
        """Variances (k,) below which a row is one of the data, whose residual is known."""
        if self.known is None:
            return np.zeros(self.rows.n)
        return np.asarray(_NOTHING * self.rows.observed.variance(self.fit.optimum.lam))

    def at(self, factors: Sequence[FloatArray], factor: Factor) -> FloatArray:
        """Variances (k,) at internal factors of the blocks, each (1, c, c)."""
        return self.with_residual(self.fit.cp, factors, factor, self.fit.optimum.lam)

    def with_residual(
        self, cp: SummedDesign, factors: Sequence[FloatArray], factor: Factor, lam: FloatArray
    ) -> FloatArray:
        """The same at other residual parameters, too: `cp` has the sums of rows whitened by these."""
        given = None if self.known is None else self.known.at(lam)
        taken = None if given is None else RowsTaken(self.fit.design, given.weights)
        variance = prediction_variance(cp, factors, factor, self.rows, self.request.groups, taken)
        if self.request.sample_new:
            terms = [T[0] for T in par.term_factors(cp, list(factors))]
            variance = variance + new_level_variance(terms, self.rows, self.levels)
        if not self.request.observation:
            return variance
        return np.asarray(variance + (self.rows.observed.variance(lam) if given is None else given.variance))


def _of_combinations(fit: Fit, rows: Rows, ddf: DDF) -> tuple[FloatArray, FloatArray]:
    """Those of the same combinations of the coefficients."""
    distinct, place = np.unique(rows.X, axis=0, return_inverse=True)
    parts = [combinations(fit, distinct[k : k + _ONE_BY_ONE], ddf) for k in range(0, len(distinct), _ONE_BY_ONE)]
    error, df = (np.concatenate([getattr(part, name) for part in parts]) for name in ("std_error", "df"))
    place = place.reshape(-1)
    return error[place], np.where(error > 0, df, np.inf)[place]
