"""What a comparison is made of: fits by both criteria, posteriors and their names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pandas as pd

from bayeslmm.arguments import MOST_REFITS, kind_of, seed, whole
from bayeslmm.bayes.progress import announced
from bayeslmm.comparison.draws import FitBootstrap, draw_bootstrap, replicates
from bayeslmm.comparison.naming import different, method_names, prior_name
from bayeslmm.design.design import Design
from bayeslmm.design.same import same_design
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces import Posterior, REMLResult, fit_result
from bayeslmm.reml import optimise_penalised
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.sampling import generator

Scale = Literal["sd", "variance"]


@by_value
@dataclass(frozen=True, eq=False)
class Compared:
    """Fits and posteriors of one model; see `Comparison`, which has the tables made of them."""

    reml: REMLResult
    ml: REMLResult
    posterior: Posterior
    level: float = 0.95
    delta: float | None = None
    more: tuple[Posterior, ...] = ()
    scale: Scale = "sd"
    given: tuple[str, ...] = ()

    @property
    def design(self) -> Design:
        return self.reml.design

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters in the order of the table."""
        return parameters(self.design)

    @property
    def posteriors(self) -> dict[str, Posterior]:
        """All posteriors under the names that `long`, `fixed` and `datatrees` use.

        ``posterior (default)``, ``posterior (brms)``, or the names that they were given.
        """
        methods = self.given or method_names(self._priors)
        return dict(zip(methods, (self.posterior, *self.more), strict=True))

    @cached_property
    def _priors(self) -> tuple[str, ...]:
        return tuple(prior_name(post) for post in (self.posterior, *self.more))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Short names of the posteriors, which headings and figures have.

        The names that they were given, or else their priors: ``default priors``, the name of a preset, or in what they
        differ from one, ``sd_Batch ~ half-normal(5)``. A name that another posterior has too gets a number.
        """
        return self.given or different(self._priors)

    @property
    def by_name(self) -> dict[str, Posterior]:
        """All posteriors under their short names."""
        return dict(zip(self.names, (self.posterior, *self.more), strict=True))

    def _intervals_of(self, fit: REMLResult) -> pd.DataFrame:
        """Intervals of the parameters of one of the fits, kept; nan where it has none."""
        key = id(fit)
        if key not in self._kept_intervals:
            self._kept_intervals[key] = or_nan(lambda: fit.confint(self.level), [p.label for p in self.parameters])
        return self._kept_intervals[key]

    @cached_property
    def _kept_intervals(self) -> dict[int, pd.DataFrame]:
        return {}

    @cached_property
    def penalised(self) -> REMLResult | None:
        """REML with the boundary-avoiding penalty; None where it has no minimum (very few levels), or is not known."""
        if self.design.residual.names:
            return None
        try:
            with announced("comparison: the fit with a penalty"):
                optimum = optimise_penalised(self.reml.cp, True)
        except FitError:
            return None
        return fit_result(self.design, self.reml.cp, optimum)

    def bootstrap(self, n: int | None = None, random_seed: int = 1) -> FitBootstrap:
        """REML estimates from `n` responses simulated from the REML fit; kept for the next call.

        Parameters
        ----------
        n : int, optional
            By default 1,000, or 200 where many responses cannot be fitted together or there are many random effects,
            or 50 where residuals have parameters.
        random_seed : int

        Raises
        ------
        DesignError
            Rows stand for several observations (``frequency=``); n is not positive.
        """
        n = replicates(self.reml) if n is None else n
        n = whole("n", n, 1, MOST_REFITS, DesignError)
        random_seed = seed("random_seed", random_seed, FitError)  # type: ignore[assignment]
        if not isinstance(random_seed, int):
            return draw_bootstrap(self.reml, n, generator(random_seed))
        if (n, random_seed) not in self._bootstraps:
            self._bootstraps[n, random_seed] = draw_bootstrap(self.reml, n, generator(random_seed))
        return self._bootstraps[n, random_seed]

    @cached_property
    def _bootstraps(self) -> dict[tuple[int, int], FitBootstrap]:
        return {}


def check_same(reml: REMLResult, posterior: Posterior) -> None:
    """Refuse what is not a fit and a posterior of one model and data."""
    if not isinstance(reml, REMLResult) or not isinstance(posterior, Posterior):
        raise DesignError(
            f"compare() got {kind_of(reml)} and {kind_of(posterior)}. It takes the result of "
            "model.fit() first and that of model.sample() second."
        )
    if not same_design(reml.design, posterior.design):
        raise DesignError(
            f"compare() got fits of different models: {reml.formula!r} on {reml.n} observations and "
            f"{posterior.formula!r} on {posterior.n} observations. Fit and sample the same Model."
        )
