"""A posterior with all that can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayeslmm.arguments import flag, whole
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.files.writing import FilePath
from bayeslmm.habits import POSTERIOR, no_attribute
from bayeslmm.means import estimable, joint_draws, of_draws
from bayeslmm.results import (
    accessors,
    checks,
    explained,
    posterior_influence,
    posterior_residuals,
    predictions,
    prior_checks,
    random_effects,
)
from bayeslmm.results.draws import Draws
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF, known_ddf
from bayeslmm.results.prior_table import prior_table
from bayeslmm.results.summary import Summary, posterior_summary
from bayeslmm.storage.posteriors import save_posterior
from bayeslmm.words.explanation import Explanation
from bayeslmm.words.of_posterior import explain_posterior


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class Posterior(Draws):
    """The posterior of a linear mixed model: what ``model.sample()`` returns.

    It prints a table of its parameters. Ask `certificate` how far its draws can be trusted, `table` and `hdi` for
    means and intervals, `ranef` for the effects of the levels, `probability_below` for probabilities, `means` for
    means and contrasts, `predict` for predictions, `loo` for leave-one-out, `prior_sweep` for other priors, and
    `explain` for plain words. All draws are in `data`, for ArviZ.

    Attributes
    ----------
    design : Design
        Formula and data as arrays and names.
    data : xarray.DataTree
        ArviZ groups ``posterior``, ``observed_data``, ``constant_data``, ``sample_stats``, ``log_likelihood``.
    priors : Priors
    method : str
        ``"quadrature"``, ``"importance"``, ``"collapsed_nuts"`` or ``"nuts"``.
    diagnostics : Diagnostics or mapping
        Certificate of the method.
    exact : ExactMoments or None
        Means and standard deviations without Monte Carlo error (quadrature).
    cp : CrossProducts or None
        What the draws were drawn from.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(random_seed=1)
    >>> post.method, dict(post.data["posterior"]["sigma"].sizes)
    ('quadrature', {'chain': 4, 'draw': 1000})
    >>> post.table()["mean"].round(1).to_dict()
    {'sd_Batch[Intercept]': 47.5, 'sigma': 52.1, 'Intercept': 1527.5}
    """

    loo = checks.loo
    residuals = posterior_residuals.posterior_residuals
    ranef = random_effects.posterior_ranef
    coef = random_effects.coef
    influence = posterior_influence.posterior_influence
    group_log_likelihood = checks.group_log_likelihood
    log_evidence = cached_property(checks.log_evidence)
    bayes_factor = checks.bayes_factor
    psense = prior_checks.psense
    power_tree = prior_checks.power_tree
    prior_sweep = prior_checks.prior_sweep
    r2 = explained.r2_table
    icc = explained.icc_table
    weights = accessors.weights
    correlation = accessors.correlation_of_draws
    predict = predictions.predict_posterior
    predict_draws = predictions.predict_draws
    add_groups = predictions.add_groups
    means = of_draws.posterior_means
    trends = of_draws.posterior_trends
    joint_tests = joint_draws.posterior_joint_tests
    estimable = estimable.posterior_estimable

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return no_attribute(self, name, POSTERIOR, "post")

    @classmethod
    def _of(cls, draws: Draws) -> Posterior:
        """The same draws, with what can be asked of them."""
        return cls(**{field.name: getattr(draws, field.name) for field in fields(draws)})

    def save(self, path: FilePath, *, overwrite: bool = False) -> None:
        """Write the posterior to a NetCDF file or zarr store, to be read by ``bl.load``; no pickle.

        Parameters
        ----------
        path : str or path
            Ends in ``.nc`` or ``.zarr``.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        StorageError
            Another extension, a path that cannot be written to, or a value that cannot be kept.
        """
        save_posterior(self, path, overwrite=overwrite)

    def explain(self, level: float = 0.95) -> Explanation:
        """What the posterior says, in plain words.

        Parameters
        ----------
        level : float
            Probability of the intervals.

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
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
        >>> "may well be near zero" in model.sample(400, random_seed=1).explain().text(400)
        True
        """
        return explain_posterior(self, check_level(level))

    def prior_table(self) -> pd.DataFrame:
        """The priors in words, by parameter."""
        return prior_table(self.design, self.priors)

    def summary(self, ddf: DDF | None = None, digits: int | None = None, *, correlation: bool = False) -> Summary:
        """Printable summary; text in a terminal, a table in a notebook.

        Parameters
        ----------
        ddf : optional
            As of a fit, so that both take one call; a posterior has no degrees of freedom.
        digits : int, optional
            Significant digits; by default those that the Monte Carlo error of each number leaves.
        correlation : bool
            Whether to show the posterior correlations of the fixed effects, too.

        Raises
        ------
        DesignError
            `digits` is no number of digits; `ddf` is not known.
        """
        known_ddf(ddf)
        digits = None if digits is None else whole("digits", digits, 1, 15, DesignError)
        shown = flag("correlation", correlation, DesignError) and self.design.p > 1
        return posterior_summary(self, digits, accessors.correlation_of_draws(self) if shown else None)

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
