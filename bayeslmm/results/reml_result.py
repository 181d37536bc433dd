"""The result of a REML or ML fit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayeslmm.arguments import MOST_WORKERS, flag, whole
from bayeslmm.design.design import Design
from bayeslmm.design.readable import Tables, readable
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import ConvergenceWarning, DesignError
from bayeslmm.likelihood import (
    Conditional,
    CrossProducts,
    beta_covariance,
    conditional_means,
    conditional_variances,
    cross_products,
)
from bayeslmm.reml import Optimum, optimise
from bayeslmm.reml.many import optimise_many
from bayeslmm.reml.penalty import Penalty
from bayeslmm.results.effects import by_group, fitted_values, variances_by_group
from bayeslmm.results.fit_boundary import FitBoundary
from bayeslmm.results.fit_coefficients import FitCoefficients
from bayeslmm.results.fit_intervals import FitIntervals
from bayeslmm.results.fit_statistics import FitStatistics
from bayeslmm.results.fit_zero_tests import FitZeroTests
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.labels import Parameter, estimates, parameters
from bayeslmm.results.predictions import FitPredictions
from bayeslmm.results.refits import Refits, check_responses, with_response
from bayeslmm.results.summary import Summary, reml_summary
from bayeslmm.results.tables import tidy_table, varcorr_table
from bayeslmm.storage import save_parts
from bayeslmm.types import FloatArray
from bayeslmm.writing import FilePath

if TYPE_CHECKING:
    from bayeslmm.teaching import Matrices, MixedModelEquations


@by_value
@dataclass(frozen=True)
class REMLResult(FitStatistics, FitPredictions, FitIntervals, FitZeroTests, FitCoefficients, FitBoundary):
    """Estimates of a linear mixed model by restricted or full maximum likelihood.

    Attributes
    ----------
    design : Design
    cp : CrossProducts
    optimum : Optimum
        Everything about the optimisation.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> round(fit.sigma, 3), round(float(fit.fixef()["Intercept"]), 1)
    (49.51, 1527.5)
    """

    design: Design
    cp: CrossProducts
    optimum: Optimum

    @cached_property
    def _parameters(self) -> tuple[Parameter, ...]:
        return parameters(self.design)

    @cached_property
    def _conditional(self) -> Conditional:
        return conditional_means(self.cp, self.optimum.factors, self.optimum.factor)

    @property
    def _coefficients(self) -> pd.Index:
        # An empty list of names would give an index without a type.
        return pd.Index(list(self.design.fixed_names), dtype=str)

    def fixef(self) -> pd.Series:
        """Fixed effects, indexed by coefficient."""
        return pd.Series(self._conditional.beta[0], index=self._coefficients, name="estimate")

    def vcov(self) -> pd.DataFrame:
        """Covariance of the fixed effects, theta taken as known."""
        values = beta_covariance(self.cp, self.optimum.factor)[0] * self.sigma**2
        return readable(pd.DataFrame(values, index=self._coefficients, columns=self._coefficients))

    def std_error(self) -> pd.Series:
        """Standard errors of the fixed effects, theta taken as known."""
        values = np.sqrt(np.diagonal(self.vcov().to_numpy()))
        return pd.Series(values, index=self._coefficients, name="std_error")

    def ranef(self) -> dict[str, pd.DataFrame]:
        """Conditional means of the random effects (BLUPs): group to frame of levels x effects."""
        return Tables(by_group(self.design, self.cp, [b[0] for b in self._conditional.b]))

    def ranef_variances(self, *, fixed_known: bool = True) -> dict[str, FloatArray]:
        """Conditional covariances of the random effects: group to array (levels, c, c).

        Parameters
        ----------
        fixed_known : bool
            Hold the fixed effects at their estimates, as lme4's condVar does; False adds their uncertainty.
        """
        optimum = self.optimum
        flag("fixed_known", fixed_known, DesignError)
        blocks = conditional_variances(self.cp, optimum.factors, optimum.factor, fixed_known=fixed_known)
        return variances_by_group(self.design, self.cp, [v * self.sigma**2 for v in blocks])

    def matrices(self) -> Matrices:
        """X, Z, Lambda, G, R and V at the estimates, with names on rows and columns."""
        from bayeslmm.teaching import build_matrices

        return build_matrices(self.design, self.optimum.terms, self.sigma, self.optimum.lam)

    def _effects(self) -> tuple[FloatArray, ...]:
        """Predictions (J, c) of every term, in the order of the formula."""
        from bayeslmm.teaching import effects_by_term

        return effects_by_term(self.design, {group: frame.to_numpy() for group, frame in self.ranef().items()})

    def mme(self, form: Literal["auto", "b", "u"] = "auto") -> MixedModelEquations:
        """Henderson's mixed-model equations at the estimates, solved, with standard errors.

        Parameters
        ----------
        form : {"auto", "b", "u"}
            Unknowns (beta, b), which needs G^-1, or (beta, u) with b = Lambda u, which does not. ``"auto"`` takes the
            first unless G is singular.

        Raises
        ------
        FitError
            ``form="b"`` with a singular G.
        DesignError
            So many effects that C^-1 would have more than 25 million entries.
        """
        from bayeslmm.teaching import henderson

        effects = [effects.ravel() for effects in self._effects()]
        reference = np.concatenate([self.fixef().to_numpy(), *effects])
        return henderson(self.design, self.optimum.terms, self.sigma, reference, form, self.optimum.lam)

    def shrinkage(self) -> pd.DataFrame:
        """How far every level is drawn towards the mean.

        Returns
        -------
        pandas.DataFrame
            One row per term, level and effect. ``n``: rows of the level. ``raw``: least squares on the level alone, of
            what the fixed effects and the predictions of the other terms leave; nan where the level does not determine
            it. ``blup``: the prediction; for every level ``blup = W raw``. ``weight``: diagonal of the shrinkage matrix
            ``W = Sigma (Sigma + sigma^2 (Z_i'Z_i)^-1)^-1``, for one intercept ``sd^2 / (sd^2 + sigma^2 / n)``: 1 is the
            level's own mean, 0 the overall mean. ``weight_min``, ``weight_max``: extreme eigenvalues of W, always in
            [0, 1); entries of its diagonal need not be, when a term has several correlated effects.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
        >>> fit.shrinkage()[["level", "n", "raw", "blup", "weight"]].head(2).round(4)
          level  n   raw     blup  weight
        0     A  5 -22.5 -17.6069  0.7825
        1     B  5   0.5   0.3913  0.7825
        """
        from bayeslmm.teaching import shrinkage_table

        return readable(shrinkage_table(self.design, self.optimum.terms, self.fixef().to_numpy(), self._effects()))

    def varcorr(self) -> pd.DataFrame:
        """Variances, standard deviations and correlations: group, effect1, effect2, vcov, sdcor."""
        return varcorr_table(self.design, self.optimum.terms, self.sigma)

    def fitted(self) -> pd.Series:
        """Fitted values including random effects and offset, indexed as the rows kept."""
        values = fitted_values(self.design, self.cp, self._conditional.beta[0], [b[0] for b in self._conditional.b])
        return pd.Series(values, index=self.design.index, name="fitted")

    def residuals(self) -> pd.Series:
        """Response minus fitted values, units of y."""
        return pd.Series(self.design.y - self.fitted().to_numpy(), index=self.design.index, name="residual")

    def estimates(self) -> pd.Series:
        """Estimates of all parameters under their labels."""
        values = estimates(self._parameters, self.optimum.terms, self.sigma, self._conditional.beta[0])
        return pd.Series(values, index=[p.label for p in self._parameters], name="estimate")

    def tidy(self, level: float = 0.95) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns (effect, group, term, estimate, ...)."""
        interval = or_nan(lambda: self.confint(level), [p.label for p in self._parameters])
        errors = self.std_error()
        std_error = [errors.get(p.label, np.nan) if p.kind == "fixed" else np.nan for p in self._parameters]
        return tidy_table(self._parameters, self.estimates().to_numpy(), np.array(std_error), interval)

    @property
    def penalty(self) -> Penalty | None:
        """What kept the variances off zero; None for an ordinary fit."""
        return self.optimum.penalty

    @property
    def _fixed(self) -> dict[int, FloatArray]:
        terms = self.design.terms
        return {i: terms[i].structure.theta(self.optimum.terms[i]) for i in self.optimum.fixed}

    def refit(self, y: ArrayLike) -> REMLResult:
        """Fit the same model to another response.

        Parameters
        ----------
        y : array-like, shape (n,)
            In the order of the rows kept; of a Series the index says which rows are meant, so that it may have others
            too. An offset of the model stays.

        Returns
        -------
        REMLResult

        Raises
        ------
        DesignError
            Wrong shape, missing or infinite values.
        """
        design = with_response(self.design, check_responses(self.design, y, 1))
        cp = cross_products(design)
        optimum = optimise(cp, self.reml, fixed=self._fixed, penalty=self.optimum.penalty)
        if not optimum.status.ok:
            warnings.warn(f"{self.formula}: {optimum.verdict}", ConvergenceWarning, stacklevel=2)
        return type(self)(design, cp, optimum)

    def refit_many(self, Y: ArrayLike, *, workers: int = 1) -> Refits:
        """Fit the same model to many responses at once (bootstrap, simulation, permutation).

        Where the design allows it, all are solved together by one vectorised Newton iteration: 1,000 responses of
        sleepstudy take a few tenths of a second. Each result is the one that `refit` gives, whatever the others and
        the number of workers are, with one exception: in models with several variances `refit` searches for lower
        minima from many points where levels are few or very unequal, `refit_many` at zeros of the terms only.

        Parameters
        ----------
        Y : array-like, shape (n, K)
            One response per column, rows in the order of the rows kept, or a data frame whose index says which they
            are.
        workers : int
            Threads.

        Returns
        -------
        Refits

        Raises
        ------
        DesignError
            Wrong shape, missing or infinite values.
        """
        values = check_responses(self.design, Y, 2)
        workers = whole("workers", workers, 1, MOST_WORKERS, DesignError)
        optima = optimise_many(self.cp, values, self.reml, fixed=self._fixed, workers=workers)
        return Refits(self.design, self.reml, optima)

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
        save_parts(path, self.design, self.optimum, overwrite=overwrite)

    def summary(self) -> Summary:
        """Printable summary; text in a terminal, a table in a notebook."""
        return reml_summary(self)

    def __repr__(self) -> str:
        name = "REML" if self.reml else "ML"
        status = self.status.name.replace("_", " ")
        return fill(f"<{name} fit of {self.formula!r}: criterion {self.criterion:.4f}, {status}>", indent="  ")

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping factors."""
        return tuple(self.design.groupings)
