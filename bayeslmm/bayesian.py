"""The Bayesian side of a model: priors, sampling, the model in PyMC, in source text and in equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.design.readable import readable
from bayeslmm.errors import FitError
from bayeslmm.faces import Posterior
from bayeslmm.habits import SAMPLE_ARGUMENTS, no_argument
from bayeslmm.likelihood import SummedDesign
from bayeslmm.reml import Optimum
from bayeslmm.residual import refuse_parameters
from bayeslmm.specification import Specification

if TYPE_CHECKING:
    from xarray import DataTree

    from bayeslmm.bayes.default_priors import PriorSpec


def priors(model: Specification, priors: PriorSpec = None) -> pd.DataFrame:
    """The priors that `sample` would use, in the units of the data and in words.

    Parameters
    ----------
    priors : None, str, Priors or mapping
        As in `sample`.
    """
    from bayeslmm.bayes.default_priors import resolve_priors
    from bayeslmm.results.prior_table import prior_table

    return prior_table(model._design, resolve_priors(model._design, priors))


def sample(
    model: Specification,
    draws: int = 4000,
    *,
    method: Literal["auto", "quadrature", "importance", "collapsed_nuts", "nuts"] = "auto",
    priors: PriorSpec = None,
    random_seed: int | np.random.Generator | None = None,
    chains: int = 4,
    tune: int = 1000,
    progressbar: bool = True,
    log_likelihood: bool | None = None,
    keep: Sequence[str] | None = None,
    form: Literal["noncentered", "centered", "auto"] | Mapping[str, str] | None = None,
    sigma: float | None = None,
    **unknown: Any,
) -> Posterior:
    """Sample the posterior.

    Parameters
    ----------
    draws : int
        Draws over all chains.
    method : {"auto", "quadrature", "importance", "collapsed_nuts", "nuts"}
        ``"auto"``: quadrature for at most three variance parameters (sigma included), else importance sampling, and
        collapsed NUTS where its weights are not to be trusted. These three integrate the fixed and random effects
        out and draw them exactly afterwards; ``post.certificate()`` says which was used and how far it can be
        trusted. ``"nuts"`` samples the full hierarchical model with PyMC; ``"auto"`` does so where a fixed effect
        has a prior that is not normal (`StudentT`).
    priors : None, str, Priors or mapping
        The name of a preset (``"default"``, ``"weak"``, ``"brms"``, ``"rstanarm"``, ``"bambi"``, ``"pc"``,
        ``"boundary_avoiding"``, ``"flat"``), or what to change in one:
        ``{"sd_Subject": bl.HalfNormal(50), "lkj": 2, "beta": "weak"}``.
    random_seed : int or numpy.random.Generator, optional
    chains, tune : int
        For ``"nuts"`` and ``"collapsed_nuts"``; the draws of the other methods are independent and are laid out as
        `chains` chains.
    progressbar : bool
        Whether to show, in a terminal or a notebook, the progress of what takes longer than a second.
    log_likelihood : bool, optional
        Whether to store the pointwise log likelihood, which ``az.loo`` needs (n x draws numbers); by default up to
        four million of them. ``post.loo()`` does not need it.
    keep : sequence of str, optional
        Grouping factors (or ``"b_<group>"``) whose random effects are stored; all by default, ``()`` for none.
        Fixed effects, standard deviations, correlations and sigma always are.
    form : {"noncentered", "centered", "auto"} or mapping, optional
        For ``"nuts"``, how its model has the random effects, as in `to_pymc`; non-centred by default.
    sigma : float, optional
        The residual standard deviation, units of y, where it is known: as in ``model.fit(sigma=...)``.

    Returns
    -------
    Posterior

    Raises
    ------
    PriorError
        The prior does not fit the model, or makes the posterior improper.
    FitError
        An argument that means nothing; a worker process that died.

    Warns
    -----
    ConvergenceWarning
        The draws are not to be trusted, or the run was interrupted and what was drawn is returned.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> post = model.sample(500, random_seed=1)
    >>> post.method
    'quadrature'
    """
    from bayeslmm.results.sampling import Settings, sample_posterior

    no_argument("model.sample", sample, unknown, SAMPLE_ARGUMENTS, FitError)
    settings = Settings(draws, method, chains, tune, random_seed, progressbar, log_likelihood, keep, form)
    if sigma is not None:
        refuse_parameters(model.design.residual, "model.sample(sigma=)")
    own = model if sigma is None else model._with_sigma(sigma)

    def fitted() -> tuple[SummedDesign, Optimum]:
        optimum = own._optimum(True)
        # Exact points that the fit was refined with serve its posterior, too.
        refined = optimum.estimated is not None
        return (optimum.cp if own._design.residual.names or refined else own.cross_products), optimum

    drawn = sample_posterior(own._design, priors, settings, fitted)
    if isinstance(random_seed, int | np.integer):
        drawn.data.attrs["random_seed"] = int(random_seed)
    return Posterior._of(drawn)


def to_pymc(
    model: Specification,
    priors: PriorSpec = None,
    *,
    form: Literal["noncentered", "centered", "auto", "collapsed"] | Mapping[str, str] = "noncentered",
) -> Any:
    """The model as a ``pm.Model``, to read, extend or sample by hand.

    Parameters
    ----------
    priors : None, str, Priors or mapping
        As in `sample`.
    form : {"noncentered", "centered", "auto", "collapsed"} or mapping
        How random effects are written: ``"noncentered"`` as ``sd * z`` with standard normal z; ``"centered"`` as
        normals with their own sd; ``"auto"`` either, for each grouping factor, as `forms` explains. A mapping
        gives each grouping factor, or random term as written, its form. ``"collapsed"`` integrates fixed and random
        effects out: only the variance parameters are left, and the likelihood is the one that REML maximises.

    Returns
    -------
    pymc.Model
        ``pm.sample_posterior_predictive(post.data, model=...)`` takes the draws of `sample` under the same priors;
        the collapsed form has no response to draw.

    Raises
    ------
    PriorError
        An unknown form, or a prior without a counterpart in PyMC.
    """
    from bayeslmm.bayes.default_priors import resolve_priors
    from bayeslmm.bayes.pymc_model import build_collapsed_model, build_pymc_model

    resolved = resolve_priors(model._design, priors)
    if isinstance(form, str) and form == "collapsed":
        refuse_parameters(model.design.residual, "model.to_pymc(form='collapsed')")
        return build_collapsed_model(model.cross_products, resolved)
    forms = _forms(model, form)
    return build_pymc_model(model._design, resolved, forms)


def pymc_source(
    model: Specification,
    priors: PriorSpec = None,
    *,
    form: Literal["noncentered", "centered", "auto"] | Mapping[str, str] = "noncentered",
) -> str:
    """Runnable source of the hierarchical model in PyMC, as one would write it by hand.

    Parameters
    ----------
    priors : None, str, Priors or mapping
        As in `sample`.
    form : {"noncentered", "centered", "auto"} or mapping
        As in `to_pymc`.

    Returns
    -------
    str
        Needs numpy, pandas, PyMC and the data frame ``df``; a comment lists what has to be given as an array.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> print(model.pymc_source().splitlines()[-1].strip())
    pm.Normal("Yield", mu=mu, sigma=sigma, observed=y, dims="obs")
    """
    from bayeslmm.bayes.default_priors import resolve_priors
    from bayeslmm.bayes.pymc_source import write_pymc_source

    forms = _forms(model, form)
    return write_pymc_source(model._design, resolve_priors(model._design, priors), forms)


def _forms(model: Specification, form: str | Mapping[str, str]) -> dict[str, Any]:
    """Form of every grouping factor."""
    from bayeslmm.bayes.forms import resolve_forms

    return resolve_forms(model._design, form, lambda: model._optimum(True).terms, lambda: model._optimum(True).lam)


def forms(model: Specification) -> pd.DataFrame:
    """The form that ``to_pymc(form="auto")`` gives the effects of each grouping factor, and why.

    Where residuals have parameters, these are at the REML fit too.

    Raises
    ------
    DesignError
        Residuals of different levels of a factor depend on one another.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    >>> model.forms()["form"].to_dict(), model.forms()["ratio"].round(1).to_dict()
    ({'plate': 'centered', 'sample': 'noncentered'}, {'plate': 14.2, 'sample': 296.1})
    """
    from bayeslmm.bayes.forms import choose_forms

    optimum = model._optimum(True)
    chosen = choose_forms(model._design, optimum.terms, optimum.lam)
    rows = [(c.group, c.form, c.ratio, c.levels, c.reason) for c in chosen]
    return readable(pd.DataFrame(rows, columns=["group", "form", "ratio", "levels", "reason"]).set_index("group"))


def prior_predictive(
    model: Specification,
    draws: int = 1000,
    *,
    priors: PriorSpec = "weak",
    random_seed: int | np.random.Generator | None = None,
) -> DataTree:
    """Draws from a proper prior, and responses given them.

    Parameters
    ----------
    draws : int
    priors : None, str, Priors or mapping
        As in `sample`, but proper: the default has flat fixed effects, ``"weak"`` has not.
    random_seed : int or numpy.random.Generator, optional

    Returns
    -------
    xarray.DataTree
        Groups prior, prior_predictive, observed_data.

    Raises
    ------
    PriorError
        A prior is improper.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> tree = model.prior_predictive(100, random_seed=1)
    >>> tree["prior_predictive"]["Yield"].shape
    (1, 100, 30)
    """
    from bayeslmm.bayes.predictive import prior_predictive
    from bayeslmm.design.observations import need_observations

    need_observations(model.design, "prior_predictive() draws responses")
    return prior_predictive(model._design, priors, draws, random_seed)
