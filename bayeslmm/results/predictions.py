"""Predictions of both engines under one set of arguments and labels."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from bayeslmm.arguments import choice, flag, generator, shown
from bayeslmm.bayes.predictive import Request, check_prior_draws, posterior_predictive, predictive_draws, prior_tree
from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows, new_rows, predicted_rows
from bayeslmm.design.observations import need_observations
from bayeslmm.design.readable import readable
from bayeslmm.errors import BayesLMMWarning, DesignError
from bayeslmm.habits import PREDICT_ARGUMENTS, no_argument
from bayeslmm.numerics.quantiles import two_quantiles
from bayeslmm.residual import KnownVariances
from bayeslmm.results.checks import group_log_likelihood
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.intervals import check_level
from bayeslmm.results.known_residuals import KnownResiduals, predicted_residuals, uses_known, weights_or_sd
from bayeslmm.results.linear import DDF
from bayeslmm.results.new_levels import all_new, at_new_levels, refuse_new_levels, with_groups
from bayeslmm.results.prediction_errors import errors_and_df
from bayeslmm.results.random_parts import Random, random_part
from bayeslmm.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from xarray import DataArray

type Kind = Literal["mean", "observation"]
type NewLevels = Literal["error", "sample", "zero", "population", "missing"]
type NewFixedLevels = Literal["error", "zero"]

_KINDS = ("mean", "observation")
_NEW_LEVELS = ("error", "sample", "zero", "population", "missing")
_GROUPS = ("posterior_predictive", "log_likelihood", "integrated_log_likelihood", "prior", "prior_predictive")


def predict_fit(
    fit: Fit,
    newdata: Any = None,
    *,
    kind: Kind = "mean",
    random: Random = "all",
    new_levels: NewLevels = "error",
    new_fixed_levels: NewFixedLevels = "error",
    fixed: bool = True,
    level: float = 0.95,
    weights: Any = None,
    residual_sd: Any = None,
    residuals: KnownResiduals = None,
    ddf: DDF = "satterthwaite",
    random_seed: int | np.random.Generator | None = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Predictions with standard errors and intervals.

    Parameters
    ----------
    newdata : pandas, polars or pyarrow table, optional
        The rows of the model by default. The response is not needed. Transformations such as ``scale(x)`` use the
        means, standard deviations and knots of the model's own data.
    kind : {"mean", "observation"}
        The mean at a row, with a confidence interval; or a new observation there, with a prediction interval that
        has the residual variance ``sigma^2 / weight`` in it.
    random : "all", None, "new", str, sequence of str, or mapping
        Which random effects are part of the prediction. ``"all"``: those of the row's levels. None: none, the
        typical group (all effects zero). Names of grouping factors, terms such as ``"(0 + Days | Subject)"`` (lme4's
        ``re.form``), or a mapping of grouping factors to names of effects: these, all others zero. ``"new"``: every
        level is taken for one never seen, whatever its name: predictions for the population of groups, for
        which the new data need no column of them.
    new_levels : {"error", "sample", "zero", "population", "missing"}
        What a level of a grouping factor that the data did not have means: an error; a group drawn from the
        distribution between groups, whose variance widens the interval; the typical group (``"population"`` is
        MixedModels.jl's word for zero effects); or nan.
    new_fixed_levels : {"error", "zero"}
        What a level of a factor in the fixed part or left of a bar that the data did not have means: an error, or a
        row of zeros in the columns of that factor (the reference level, or the mean under sum contrasts).
    fixed : bool
        Whether the fixed effects and the offset are part of the prediction; without them it is that of the random
        part only, and new data need no columns for them.
    level : float
        Of the intervals.
    weights : str or array, optional
        Precision weights of the new rows, for ``kind="observation"``; by default the expression that the model was
        given.
    residual_sd : str or array, optional
        The same of their known residual standard deviations, in a model that was given such.
    residuals : {"known", "new"}, optional
        Of a model whose residuals are correlated within groups: ``"known"`` adds to a row of a group of the data what
        the residuals of this group say of its own (the best linear prediction; the variance of an observation is that
        given them), so that a later time of a patient is predicted from his earlier ones, and a row of the data is
        itself; ``"new"`` takes the row for one that is independent of them. By default ``"known"`` where all that is
        known of a group counts: new data with ``random="all"`` and the fixed part.
    ddf : {"satterthwaite", "kenward-roger", "residual", "z"}
        Degrees of freedom of the intervals, as in `coefficients`: a mean without random effects has the interval that
        the same combination of coefficients has there. Satterthwaite's method is applied to the variance of every
        prediction, that of random effects, new groups and new observations included. Kenward and Roger's is for means
        with ``random=None``; ``"z"`` is the normal distribution, the quickest for very many rows.
    random_seed : int or Generator, optional
        As for a posterior, of which some predictions are drawn; those of a fit are exact and use none.

    Returns
    -------
    pandas.DataFrame
        ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; index as `newdata`, nan in rows with missing
        values. The standard error is that of prediction minus truth with fixed and random effects estimated
        together (Henderson), theta taken as known; intervals are those of the t distribution.

    Raises
    ------
    DesignError
        A missing column, unknown levels, an argument that is not one of those above.

    Warns
    -----
    BayesLMMWarning
        Rows with missing values.

    Examples
    --------
    >>> import bayeslmm as bl, pandas as pd
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> at = pd.DataFrame({"Days": [10, 10], "Subject": ["308", "new"]})
    >>> fit.predict(at, new_levels="sample").round(1)
       estimate  std_error  conf_low  conf_high
    0     450.3       15.9     419.0      481.7
    1     356.1       67.6     212.0      500.2
    """
    no_argument("fit.predict", predict_fit, unknown, PREDICT_ARGUMENTS, DesignError)
    check_level(level)
    choice("ddf", ddf, get_args(DDF), DesignError)
    generator(random_seed, error=DesignError)
    own = weights_or_sd(fit.design, weights, residual_sd)
    rows, request = _asked(fit.design, newdata, kind, random, new_levels, own, new_fixed_levels, fixed, residuals)
    mean = _mean(fit, rows, request)
    if request.known_residuals:
        mean = mean + predicted_residuals(fit, rows)
    error, df = errors_and_df(fit, rows, request, ddf)
    if np.isnan(df).any():
        warnings.warn(
            f"Predictions have no degrees of freedom, and so no intervals: {fit.optimum.verdict}. ddf='z' gives those "
            "of the normal distribution.",
            BayesLMMWarning,
            stacklevel=2,
        )
    half = stdtrit(df, 0.5 + level / 2) * error
    return _frame(rows, np.column_stack([mean, error, mean - half, mean + half]))


def _mean(fit: Fit, rows: Rows, request: Request) -> FloatArray:
    mean = rows.X @ fit._conditional.beta[0]
    if rows.offset is not None:
        mean = mean + rows.offset
    for block, b in zip(fit.cp.blocks, fit._conditional.b, strict=True):
        name = block.grouping.name
        if name in request.groups:
            codes = rows.levels[name].codes
            known = codes < block.n_levels
            Z = np.concatenate([rows.Z[k] for k in block.terms], axis=1)
            mean = mean + np.where(known, (Z * b[0][np.where(known, codes, 0)]).sum(1), 0.0)
    return np.asarray(mean)


def predict_posterior(
    post: Draws,
    newdata: Any = None,
    *,
    kind: Kind = "mean",
    random: Random = "all",
    new_levels: NewLevels = "error",
    new_fixed_levels: NewFixedLevels = "error",
    fixed: bool = True,
    level: float = 0.95,
    weights: Any = None,
    residual_sd: Any = None,
    residuals: KnownResiduals = None,
    ddf: DDF = "satterthwaite",
    random_seed: int | np.random.Generator | None = None,
    **unknown: Any,
) -> pd.DataFrame:
    """Predictions with posterior standard deviations and intervals; arguments as for a fit.

    Parameters
    ----------
    newdata : pandas, polars or pyarrow table, optional
        The rows of the model by default.
    kind : {"mean", "observation"}
        The mean at a row, with a credible interval; or a new observation, with a prediction interval.
    random : "all", None, "new", str, sequence of str, or mapping
        Random effects of the row's levels; none (the typical group); those of some grouping factors, terms
        (``"(0 + x | g)"``) or effects (``{"g": ["x"]}``); or every level taken for one never seen (averaged over the
        population of groups).
    new_levels : {"error", "sample", "zero", "population", "missing"}
        What to make of levels that the data did not have. ``"sample"`` draws their effects given every draw of the
        variances: rows of one new level share them, different new levels are independent.
    new_fixed_levels : {"error", "zero"}
        What to make of levels of fixed factors that the data did not have.
    fixed : bool
        Whether the fixed effects and the offset are part of the prediction.
    level : float
    weights : str or array, optional
        Precision weights of the new rows, for ``kind="observation"``.
    residual_sd : str or array, optional
        The same of their known residual standard deviations, in a model that was given such.
    residuals : {"known", "new"}, optional
        Whether rows of a group of the data are predicted with the residuals that it has there, where residuals are
        correlated.
    ddf : str, optional
        As for a fit, whose intervals need degrees of freedom; those of draws have none.
    random_seed : int or Generator, optional
        For new levels and new observations.

    Returns
    -------
    pandas.DataFrame
        ``estimate`` (posterior mean of the mean), ``std_error`` (standard deviation), ``conf_low`` and
        ``conf_high`` (equal-tailed); index as `newdata`, nan in rows with missing values.

    Raises
    ------
    DesignError
        A missing column, unknown levels, an argument that is not one of those above.
    FitError
        The draws of random effects that are needed were not kept.

    Warns
    -----
    BayesLMMWarning
        Rows with missing values.

    Examples
    --------
    >>> import bayeslmm as bl, pandas as pd
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(random_seed=1)
    >>> table = post.predict(pd.DataFrame({"Batch": ["A", "new"]}), new_levels="sample", random_seed=2)
    >>> table["estimate"].round(-1).tolist()
    [1510.0, 1530.0]
    """
    no_argument("post.predict", predict_posterior, unknown, PREDICT_ARGUMENTS, DesignError)
    check_level(level)
    choice("ddf", ddf, get_args(DDF), DesignError)
    own = weights_or_sd(post.design, weights, residual_sd)
    rows, request = _asked(post.design, newdata, kind, random, new_levels, own, new_fixed_levels, fixed, residuals)
    out = np.empty((rows.n, 4))
    posterior = post.data["posterior"].to_dataset()
    rng = generator(random_seed, error=DesignError)
    for part, mean, drawn in predictive_draws(post.design, posterior, rows, request, rng):
        out[part, 0] = mean.mean(0)
        about = drawn - (out[part, 0] if drawn is mean else drawn.mean(0))
        out[part, 1] = np.sqrt(np.einsum("sk,sk->k", about, about) / (len(about) - 1.0))
        out[part, 2:] = two_quantiles(drawn.T, 0.5 - level / 2)
    return _frame(rows, out)


def predict_draws(
    post: Draws,
    newdata: Any = None,
    *,
    kind: Kind = "mean",
    random: Random = "all",
    new_levels: NewLevels = "error",
    new_fixed_levels: NewFixedLevels = "error",
    fixed: bool = True,
    weights: Any = None,
    residual_sd: Any = None,
    residuals: KnownResiduals = None,
    random_seed: int | np.random.Generator | None = None,
) -> DataArray:
    """All draws of the predictions; arguments as for `predict`.

    Returns
    -------
    xarray.DataArray
        Dims chain, draw, obs; obs has the labels of `newdata`'s rows where they are numbers or texts that identify
        them, else their positions. nan in rows with missing values.

    Examples
    --------
    >>> import bayeslmm as bl, pandas as pd
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(random_seed=1)
    >>> draws = post.predict_draws(pd.DataFrame({"Batch": ["A", "B"]}))
    >>> dict(draws.sizes)
    {'chain': 4, 'draw': 1000, 'obs': 2}
    """
    from xarray import DataArray

    own = weights_or_sd(post.design, weights, residual_sd)
    rows, request = _asked(post.design, newdata, kind, random, new_levels, own, new_fixed_levels, fixed, residuals)
    posterior = post.data["posterior"].to_dataset()
    sigma = posterior["sigma"]
    values = np.full((sigma.size, rows.complete.size), np.nan)
    places = np.flatnonzero(rows.complete)
    rng = generator(random_seed, error=DesignError)
    for part, _, drawn in predictive_draws(post.design, posterior, rows, request, rng):
        values[:, places[part]] = drawn
    coords = {"chain": sigma["chain"].to_numpy(), "draw": sigma["draw"].to_numpy(), "obs": _obs_labels(rows.index)}
    return DataArray(values.reshape(*sigma.shape, -1), coords, ("chain", "draw", "obs"), name=post.design.response)


def add_groups[D: Draws](
    post: D, *groups: str, draws: int = 1000, random_seed: int | np.random.Generator | None = None
) -> D:
    """A new posterior whose `data` has further groups.

    Parameters
    ----------
    *groups : {"posterior_predictive", "log_likelihood", "integrated_log_likelihood", "prior", "prior_predictive"}
        Arrays of draws times rows, but for the prior and for the integrated log likelihood, which has draws times
        levels: that of a level's rows with its effects integrated out (``post.group_log_likelihood()``). Where
        residuals are correlated, the log likelihood of a row is given the others of its group, too.
    draws : int
        Draws from the prior.
    random_seed : int or Generator, optional

    Returns
    -------
    Posterior

    Raises
    ------
    DesignError
        Another name, or `draws` is no positive whole number.
    FitError
        ``"integrated_log_likelihood"`` with crossed factors: no groups of rows are independent.
    PriorError
        A group of the prior, which is improper: sample with ``priors="weak"``.
    """
    for name in groups:
        if not isinstance(name, str) or name not in _GROUPS:
            raise DesignError(f"There is no group {shown(name)} to add. Known: {', '.join(_GROUPS)}.")
    of_rows = [name for name in groups if name not in ("prior", "integrated_log_likelihood")]
    if of_rows:
        need_observations(post.design, f"{of_rows[0]} has values", "post.predict_draws(newdata) draws new ones.")
    check_prior_draws(draws)
    rng = generator(random_seed, error=DesignError)
    tree = post.data.copy()
    if "posterior_predictive" in groups:
        tree = posterior_predictive(post.design, tree, rng)
    if "log_likelihood" in groups:
        from bayeslmm.bayes.datatree import add_log_likelihood

        tree = add_log_likelihood(tree, post.design)
    if "integrated_log_likelihood" in groups:
        from xarray import DataTree

        tree["integrated_log_likelihood"] = DataTree(group_log_likelihood(post).to_dataset())
    wanted = [name for name in ("prior", "prior_predictive") if name in groups]
    if wanted:
        prior = prior_tree(post.design, post.priors, draws, rng, predictive="prior_predictive" in groups)
        for name in wanted:
            tree[name] = prior[name]
    return replace(post, data=tree)


def _asked(
    design: Design,
    newdata: Any,
    kind: str,
    random: Random,
    new_levels: str,
    weights: Any,
    new_fixed_levels: str,
    fixed: bool,
    residuals: KnownResiduals,
) -> tuple[Rows, Request]:
    """Read the arguments of a prediction and evaluate the rows."""
    choice("kind", kind, _KINDS, DesignError)
    choice("new_levels", new_levels, _NEW_LEVELS, DesignError)
    zero = choice("new_fixed_levels", new_fixed_levels, ("error", "zero"), DesignError) == "zero"
    part, observation = random_part(design, random), kind == "observation"
    if part.every_level_new and newdata is not None:
        newdata = with_groups(design, newdata)
    if weights is not None and (newdata is None or not observation):
        name = "residual_sd" if isinstance(design.residual, KnownVariances) else "weights"
        raise DesignError(f"{name}= are those of new observations: give newdata and kind='observation' with them.")
    if not flag("fixed", fixed, DesignError) and observation:
        raise DesignError("An observation has a fixed part too: fixed=False goes with kind='mean'.")
    known = uses_known(design, residuals, newdata is not None and fixed, random)
    if newdata is None:
        rows = predicted_rows(design, part.groups)
    else:
        weighted = observation or known
        rows = new_rows(design, newdata, part.groups, weights=weights, weighted=weighted, fixed=fixed, zero_levels=zero)
    if len(rows.skipped):
        text = str(rows.skipped).replace("dropped", "without prediction")
        warnings.warn(f"Missing values in the new data: {text}.", BayesLMMWarning, stacklevel=3)
    rows = part.of(rows if fixed else rows.without_fixed())
    if part.every_level_new:
        rows = replace(rows, levels={name: all_new(design, name, own) for name, own in rows.levels.items()})
        return rows, Request(part.groups, observation, True)
    if new_levels == "error":
        refuse_new_levels(design, rows)
    if new_levels == "missing":
        rows = rows.without(at_new_levels(design, rows))
    return rows, Request(part.groups, observation, new_levels == "sample", known)


def _frame(rows: Rows, values: FloatArray) -> pd.DataFrame:
    columns = ["estimate", "std_error", "conf_low", "conf_high"]
    return readable(pd.DataFrame(rows.filled(values), index=rows.index, columns=columns))


def _obs_labels(index: AnyArray | pd.Index) -> AnyArray:
    labels = list(index)
    plain = all(isinstance(v, str) for v in labels) or all(isinstance(v, int | np.integer) for v in labels)
    if not plain or len(set(labels)) < len(labels):
        return np.arange(len(labels))
    return np.asarray(labels)
