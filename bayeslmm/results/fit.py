"""A fit: design, sums and optimum, and the numbers that are read off them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag
from bayeslmm.design.design import Design
from bayeslmm.design.padding import by_row
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.imports import later
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import FitStatus, Optimum, optimise
from bayeslmm.types import FloatArray

# A fit is made without what may be asked of it.
if TYPE_CHECKING:
    from bayeslmm.bayes.priors import Priors
    from bayeslmm.design import readable
    from bayeslmm.inference import explained, kenward_roger, residual_kenward_roger
    from bayeslmm.inference.explained import Explained
    from bayeslmm.inference.kenward_roger import KenwardRoger
    from bayeslmm.likelihood import conditional, layout
    from bayeslmm.likelihood.conditional import Conditional
    from bayeslmm.likelihood.layout import Structure
    from bayeslmm.reml.penalty import Penalty
    from bayeslmm.reml.residual_optimum import ResidualOptimum
    from bayeslmm.results import dropped_columns, effects, labels, prior_table, tables
    from bayeslmm.results.labels import Parameter
else:
    (readable,) = later("bayeslmm.design", "readable")
    explained, kenward_roger, residual_kenward_roger = later(
        "bayeslmm.inference", "explained", "kenward_roger", "residual_kenward_roger"
    )
    conditional, layout = later("bayeslmm.likelihood", "conditional", "layout")
    dropped_columns, effects, labels, prior_table, tables = later(
        "bayeslmm.results", "dropped_columns", "effects", "labels", "prior_table", "tables"
    )


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class Fit:
    """What an optimisation found; the functions of `results` and `boundary` take it.

    Attributes
    ----------
    design : Design
    cp : SummedDesign
    optimum : Optimum
        Everything about the optimisation.
    origin : Model or None
        What it is a fit of, where that was at hand; `update` asks it for the data.
    """

    design: Design
    cp: SummedDesign
    optimum: Optimum
    origin: Any = field(default=None, repr=False, compare=False)

    @property
    def reml(self) -> bool:
        """Whether the restricted criterion was used."""
        return self.optimum.reml

    @property
    def formula(self) -> str:
        return self.design.formula

    @property
    def n(self) -> int:
        """Number of observations used (with frequencies, their sum)."""
        return self.design.n_observations

    @property
    def sigma(self) -> float:
        """Residual standard deviation, units of y."""
        return self.optimum.sigma

    @property
    def theta(self) -> FloatArray:
        """Relative covariance parameters in lme4's order, shape (k,)."""
        return self.optimum.theta

    @property
    def criterion(self) -> float:
        """REML criterion or deviance: -2 log (restricted) likelihood at the optimum."""
        return self.optimum.criterion

    @property
    def loglik(self) -> float:
        """Log (restricted) likelihood."""
        return -0.5 * self.optimum.criterion

    @property
    def df(self) -> int:
        """Number of parameters that were estimated: fixed effects, theta, sigma unless known, those of residuals."""
        known = sum(len(self.design.terms[i].structure.rows) for i in self.optimum.fixed)
        varied = self.design.n_theta - known + (self.design.sigma is None) + self.optimum.lam.size
        return self.design.p + varied

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom: observations less all estimated parameters, `n` - `df` (as in lme4).

        Those of ``ddf="residual"`` in tests of the fixed effects are n - p.
        """
        return self.n - self.df

    @property
    def aic(self) -> float:
        return self.criterion + 2.0 * self.df

    @property
    def bic(self) -> float:
        return self.criterion + float(np.log(self.n)) * self.df

    @property
    def status(self) -> FitStatus:
        """How the optimisation ended; ``str(status)`` says it in words."""
        return self.optimum.status

    @property
    def is_singular(self) -> bool:
        """Whether some combination of effects has no variance."""
        return bool(self.optimum.vanished)

    @property
    def evaluations(self) -> int:
        return self.optimum.evaluations

    @property
    def structure(self) -> Structure:
        """How the random effects were eliminated: sizes, fill and work of one evaluation."""
        return layout.describe_structure(self.cp)

    @cached_property
    def trace(self) -> pd.DataFrame:
        """Trial steps of the optimiser: value, predicted fall, length, accepted."""
        return readable.readable(pd.DataFrame([vars(step) for step in self.optimum.trace]))

    @cached_property
    def _parameters(self) -> tuple[Parameter, ...]:
        return labels.parameters(self.design)

    @cached_property
    def _conditional(self) -> Conditional:
        return conditional.conditional_means(self.cp, self.optimum.factors, self.optimum.factor)

    @cached_property
    def _memo(self) -> dict[str, Any]:
        """What functions of the fit have found and need not look for again."""
        return {}

    @property
    def _coefficients(self) -> pd.Index:
        # An empty list of names would give an index without a type.
        return pd.Index(list(self.design.fixed_names), dtype=str)

    def fixef(self, *, dropped: bool = False) -> pd.Series:
        """Fixed effects, indexed by coefficient; those that were left out as nan if `dropped`."""
        estimates = pd.Series(self._conditional.beta[0], index=self._coefficients, name="estimate")
        return dropped_columns.with_dropped(self.design, estimates, dropped)

    def vcov(self) -> pd.DataFrame:
        """Covariance of the fixed effects, theta taken as known."""
        values = conditional.beta_covariance(self.cp, self.optimum.factor)[0] * self.sigma**2
        return readable.readable(pd.DataFrame(values, index=self._coefficients, columns=self._coefficients))

    def std_error(self) -> pd.Series:
        """Standard errors of the fixed effects, theta taken as known."""
        values = np.sqrt(np.diagonal(self.vcov().to_numpy()))
        return pd.Series(values, index=self._coefficients, name="std_error")

    def ranef(self) -> dict[str, pd.DataFrame]:
        """Conditional means of the random effects (BLUPs): group to frame of levels x effects."""
        return readable.Tables(effects.by_group(self.design, self.cp, [b[0] for b in self._conditional.b]))

    def ranef_variances(self, *, fixed_known: bool = True) -> dict[str, FloatArray]:
        """Conditional covariances of the random effects: group to array (levels, c, c).

        Parameters
        ----------
        fixed_known : bool
            Hold the fixed effects at their estimates, as lme4's condVar does; False adds their uncertainty.
        """
        optimum = self.optimum
        flag("fixed_known", fixed_known, DesignError)
        blocks = conditional.conditional_variances(self.cp, optimum.factors, optimum.factor, fixed_known=fixed_known)
        return effects.variances_by_group(self.design, self.cp, [v * self.sigma**2 for v in blocks])

    def varcorr(self) -> pd.DataFrame:
        """Variances, standard deviations and correlations: group, effect1, effect2, vcov, sdcor."""
        return tables.varcorr_table(self.design, self.optimum.terms, self.sigma)

    def fitted(self) -> pd.Series:
        """Fitted values including random effects and offset, indexed as the rows kept.

        With ``na_action="exclude"`` indexed as the data, nan in rows that were left out; so are all results by row.
        """
        return by_row(self.design, self._fitted, "fitted")

    @property
    def _fitted(self) -> FloatArray:
        """Fitted values (n,) of the rows of the design."""
        return effects.fitted_values(
            self.design, self.cp, self._conditional.beta[0], [b[0] for b in self._conditional.b]
        )

    def estimates(self) -> pd.Series:
        """Estimates of all parameters under their labels."""
        values = labels.estimates(
            self.design, self._parameters, self.optimum.terms, self.sigma, self._conditional.beta[0], self.optimum.lam
        )
        return pd.Series(values, index=[p.label for p in self._parameters], name="estimate")

    @property
    def penalty(self) -> Penalty | None:
        """What kept the variances off zero; None for an ordinary fit."""
        return self.optimum.penalty

    @property
    def priors(self) -> Priors | None:
        """The priors of which this is the posterior mode; None for an ordinary fit."""
        from bayeslmm.mode import PosteriorMode

        return self.optimum.priors if isinstance(self.optimum, PosteriorMode) else None

    @property
    def restraint(self) -> str | None:
        """What keeps the estimates from the top of the likelihood, in words; None for an ordinary fit."""
        if self.priors is not None:
            return f"priors ({prior_table.prior_line(self.design, self.priors)})"
        return None if self.penalty is None else f"a penalty ({self.penalty})"

    @property
    def _estimate_name(self) -> str:
        return "penalised estimate" if self.priors is None else "posterior mode"

    @property
    def _fixed(self) -> dict[int, FloatArray]:
        terms = self.design.terms
        return {i: terms[i].structure.theta(self.optimum.terms[i]) for i in self.optimum.fixed}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the grouping factors."""
        return tuple(self.design.groupings)

    @property
    def _joint(self) -> ResidualOptimum | None:
        """The optimum, if residuals have parameters that were found with the others."""
        from bayeslmm.reml.residual_optimum import ResidualOptimum

        return self.optimum if isinstance(self.optimum, ResidualOptimum) else None

    @cached_property
    def _other_optimum(self) -> Optimum:
        """The minimum of the other criterion, ML after REML and the reverse."""
        if self._joint is not None:
            from bayeslmm.reml.residual_optimum import optimum_of

            return optimum_of(self.design, not self.optimum.reml)
        return optimise(self.cp, not self.optimum.reml, fixed=self._fixed)

    def _by_criterion(self, criterion: str | None) -> Optimum:
        criterion = choice("criterion", criterion, (None, "REML", "ML"), DesignError)
        return self.optimum if criterion in (None, self._criterion_name) else self._other_optimum

    @property
    def _criterion_name(self) -> str:
        return "REML" if self.optimum.reml else "ML"

    def _estimates_of(self, optimum: Optimum) -> pd.Series:
        if optimum is self.optimum:
            return self.estimates()
        known = self._parameters
        values = labels.estimates(self.design, known, optimum.terms, optimum.sigma, self._beta_of(optimum), optimum.lam)
        return pd.Series(values, index=[p.label for p in known], name="estimate")

    def _beta_of(self, optimum: Optimum) -> FloatArray:
        if optimum is self.optimum:
            return np.asarray(self._conditional.beta[0])
        return np.asarray(conditional.conditional_means(optimum.cp, optimum.factors, optimum.factor).beta[0])

    @cached_property
    def _explained(self) -> Explained:
        optimum = self.optimum
        terms = [T[None] for T in optimum.terms]
        return explained.explained(self.design, self._conditional.beta, terms, np.array([optimum.sigma]), optimum.lam)

    @cached_property
    def _kenward_roger(self) -> KenwardRoger:
        if self._joint is not None:
            return residual_kenward_roger.residual_kenward_roger(self._joint)
        return kenward_roger.kenward_roger(self.cp, self.optimum)

    @cached_property
    def _kenward_roger_linear(self) -> KenwardRoger:
        """Without second derivatives; variances and covariances of random effects have none."""
        if self._joint is not None:
            return residual_kenward_roger.residual_kenward_roger(self._joint, linear=True)
        return self._kenward_roger
