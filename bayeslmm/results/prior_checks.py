"""How a posterior depends on its priors: power-scaling, and a sweep over other priors without sampling again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import labels as texts
from bayeslmm.arguments import real, shown
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.log_likelihood import marginal_log_likelihood
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.sensitivity import Reweighted, log_prior, overridden, reweight, scaled_priors
from bayeslmm.design.readable import readable
from bayeslmm.errors import ConvergenceWarning, DesignError
from bayeslmm.likelihood.residual_products import ResidualProducts
from bayeslmm.numerics.resample import systematic
from bayeslmm.residual import residual_labels
from bayeslmm.residual.laws import NormalLaw
from bayeslmm.results.draws import Draws
from bayeslmm.results.intervals import check_level, hdi
from bayeslmm.results.labels import Parameter, find
from bayeslmm.results.negligible import check_delta, column_size

if TYPE_CHECKING:
    from xarray import DataTree


SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
# An sd below this share of sigma (per sd of its column) is called small.
_SMALL = 0.1


def psense(post: Draws, *, threshold: float = 0.05) -> pd.DataFrame:
    """Sensitivity of every parameter to a change of the power of the prior and of the likelihood.

    Parameters
    ----------
    threshold : float
        Sensitivities above it count.

    Returns
    -------
    DataFrame
        Columns prior, likelihood, diagnosis. The prior is that of sds, correlations, sigma, residual parameters and
        fixed effects (flat and uniform parts count nothing); the likelihood has the random effects integrated out.

    References
    ----------
    Kallioinen, Paananen, Burkner & Vehtari (2024), Statistics and Computing 34, 57.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(1000, random_seed=1)
    >>> post.psense()["diagnosis"].tolist()
    ['prior and data may disagree', 'ok', 'ok']
    """
    from arviz_stats import psense

    real("threshold", threshold, least=0.0, error=DesignError)
    tree = power_tree(post)
    found = {}
    for name in ("prior", "likelihood"):
        if name == "prior" and np.ptp(tree["log_prior"]["log_prior"].to_numpy()) == 0:
            # Flat throughout: there is nothing to scale, and ArviZ would look for the tail of a constant.
            found[name] = [0.0] * len(post._parameters)
            continue
        values = psense(tree, group=name)
        found[name] = [float(np.asarray(values[_variable(post, p)]).ravel()[p.column]) for p in post._parameters]
    frame = pd.DataFrame(found, index=[p.label for p in post._parameters])
    prior, likelihood = frame["prior"] >= threshold, frame["likelihood"] >= threshold
    frame["diagnosis"] = np.select(
        [prior & likelihood, prior], ["prior and data may disagree", "strong prior or weak data"], "ok"
    )
    return readable(frame)


def power_tree(post: Draws) -> DataTree:
    """DataTree with what ArviZ's functions on power-scaling need.

    Returns
    -------
    xarray.DataTree
        Groups posterior (without random effects; residual parameters in the units of tables, as ``residual``),
        log_prior and log_likelihood, both one number per draw.
    """
    from arviz_base import from_dict

    posterior = post.data["posterior"]
    residual = post.design.residual
    names = [str(name) for name in posterior.data_vars if not str(name).startswith("b_") and name not in residual.names]
    draws, cp = post._variance_draws, post._integrated
    prior = log_prior(post.design, post.priors, draws)
    if isinstance(cp, ResidualProducts):
        likelihood = cp.log_likelihood(draws.factors, draws.lam, draws.sigma, draws.beta)
    else:
        likelihood = marginal_log_likelihood(cp, draws.factors, draws.sigma, draws.beta)
    variables = {name: posterior[name].to_numpy() for name in names}
    coords = {str(k): v.to_numpy() for k, v in posterior.coords.items() if k not in ("chain", "draw")}
    dims = {name: [str(d) for d in posterior[name].dims[2:]] for name in names}
    if residual.names:
        variables["residual"] = post._by_chain(post._residual_draws)
        coords["residual_parameter"], dims["residual"] = np.array(residual_labels(residual)), ["residual_parameter"]
    return from_dict(
        {
            "posterior": variables,
            "log_prior": {"log_prior": post._by_chain(prior)},
            "log_likelihood": {make_layout(post.design).response: post._by_chain(likelihood)},
        },
        coords=coords,
        dims=dims,
    )


def _variable(post: Draws, p: Parameter) -> str:
    if p.kind in ("sigma", "fixed", "residual"):
        return "beta" if p.kind == "fixed" else p.kind
    own = next(g for g in make_layout(post.design).groups if g.labels.group == p.group)
    return own.sd if p.kind == "sd" else own.corr


def prior_sweep(
    post: Draws,
    priors: Mapping[str, Any] | None = None,
    *,
    scales: Sequence[float] = SCALES,
    parameters: Sequence[str] | None = None,
    delta: float | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """The posterior under other priors, by reweighting the draws.

    Parameters
    ----------
    priors : mapping, optional
        Name to what ``sample(priors=...)`` takes, or to one prior for every group sd. A mapping changes the
        priors that it names and leaves the others of this posterior.
    scales : sequence of float
        Without `priors`: factors on the scales of the priors of `parameters`.
    parameters : sequence of str, optional
        Labels of the sds (or ``"sigma"``, or residual parameters with a normal prior) whose priors are scaled; by
        default all group sds, and where there are none residual parameters, or else sigma. One label will do.
    delta : float, optional
        For P(sd < delta); by default a tenth of the posterior mean of sigma, per sd of the column (per root
        mean square where the model depends on its zero).
    level : float
        Of the highest-density intervals.

    Returns
    -------
    DataFrame
        One row per prior and parameter: mean, sd, interval, P(sd < delta); log of the evidence relative to that
        of this posterior's priors; Pareto k, effective number of draws, and whether these say that the row can
        be relied on. ``.attrs["level"]`` is that of the intervals.

    Raises
    ------
    DesignError
        `priors` is no mapping or empty, no `scales` or `parameters`, unknown labels, a negative `delta`.
    PriorError
        A prior that the model cannot have, a scale that is not positive, or a prior without one.

    Warns
    -----
    ConvergenceWarning
        Some rows cannot: sample with these priors instead.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(2000, random_seed=1)
    >>> sweep = post.prior_sweep({"half-normal": bl.HalfNormal(60), "exponential": bl.Exponential(60)})
    >>> sweep.loc[("half-normal", "sd_Batch[Intercept]"), "reliable"].item()
    True
    """
    check_level(level)
    check_delta(delta)
    rows = []
    for name, changed in _swept(post, priors, scales, parameters):
        weighed = reweight(post.design, post.priors, changed, post._variance_draws)
        rows += [_swept_row(post, name, p, weighed, delta, level) for p in post._parameters]
    frame = pd.DataFrame(rows).set_index(["prior", "parameter"])
    frame.attrs["level"] = level
    bad = list(dict.fromkeys(frame.index[~frame["reliable"]].get_level_values(0)))
    if bad:
        warnings.warn(
            f"The draws cannot tell the posterior under {', '.join(bad)} (Pareto k above 0.7 or few effective "
            "draws): these priors put mass where there are no draws. Sample with them: sample(priors=...).",
            ConvergenceWarning,
            stacklevel=2,
        )
    return readable(frame)


def _swept(
    post: Draws, priors: Mapping[str, Any] | None, scales: Sequence[float], labels: Sequence[str] | None
) -> list[tuple[str, Priors]]:
    if priors is not None:
        _check_mapping(priors)
        return [(str(name), overridden(post.design, post.priors, spec)) for name, spec in priors.items()]
    chosen = _with_scales(post)
    if labels is not None:
        chosen = [
            find(post.design, label, post.priors)
            for label in _some("parameters", texts("parameters", labels, error=DesignError))
        ]
        odd = [p.label for p in chosen if p.kind not in ("sd", "sigma", "residual")]
        if odd:
            raise DesignError(f"{', '.join(odd)}: only priors of standard deviations have scales. Name sds.")
    places = [(p.position, p.effects[0]) for p in chosen if p.kind == "sd"]
    sigma = any(p.kind == "sigma" for p in chosen)
    residual = [p.position for p in chosen if p.kind == "residual"]
    factors = _some("scales", scales)
    swept = [scaled_priors(post.design, post.priors, s, places, sigma, residual) for s in factors]
    return [(f"scale x {s:g}", changed) for s, changed in zip(factors, swept, strict=True)]


def _with_scales(post: Draws) -> list[Parameter]:
    """The parameters whose priors are scaled unless some are named."""
    known, own = post._parameters, post.priors.residual
    normal = [p for p in known if p.kind == "residual" and isinstance(own[p.position], NormalLaw)]
    return [p for p in known if p.kind == "sd"] or normal or [p for p in known if p.kind == "sigma"]


def _swept_row(
    post: Draws, name: str, p: Parameter, weighed: Reweighted, delta: float | None, level: float
) -> dict[str, Any]:
    draws, w = post._draws(p), weighed.weights
    mean = float(w @ draws)
    # The same stream for all rows, so that equal weights give equal intervals.
    low, high = hdi(draws[systematic(w, draws.size, np.random.default_rng(0))], level, p.kind)
    threshold = _delta(post, p) if delta is None else delta
    return {
        "prior": name,
        "parameter": p.label,
        "mean": mean,
        "sd": float(np.sqrt(w @ (draws - mean) ** 2)),
        "hdi_low": low,
        "hdi_high": high,
        "delta": threshold if p.kind == "sd" else np.nan,
        "p_below": float(w[draws < threshold].sum()) if p.kind == "sd" else np.nan,
        "log_evidence_ratio": weighed.log_evidence_ratio,
        "pareto_k": weighed.pareto_k,
        "ess": weighed.ess,
        "reliable": weighed.reliable,
    }


def _delta(post: Draws, p: Parameter) -> float:
    if p.kind != "sd":
        return float("nan")
    return _SMALL * float(np.mean(post._variance_draws.sigma)) / column_size(post.design, p)


def listed(name: str, values: Any) -> tuple[Any, ...]:
    """The elements of an argument that is a sequence; one text is one element.

    Raises
    ------
    DesignError
        It is no sequence.
    """
    try:
        if isinstance(values, bytes | bytearray | memoryview | Mapping):
            raise TypeError(f"{type(values).__name__} are no list of values")
        return (values,) if isinstance(values, str) else tuple(values)
    except Exception as error:
        raise DesignError(
            f"{name}={shown(values)} is no sequence. Write {name}=[{shown(values)}] for one of them."
        ) from error


def _some(name: str, values: Any) -> tuple[Any, ...]:
    """The same, and not empty."""
    chosen = listed(name, values)
    if not chosen:
        raise DesignError(
            f"{name}={shown(values)} is empty, so that there is nothing to compare. Leave it out for the usual ones."
        )
    return chosen


def _check_mapping(priors: Any) -> None:
    example = "prior_sweep({'half-normal': bl.HalfNormal(10), 'weak': 'weak'})"
    if not isinstance(priors, Mapping):
        raise DesignError(
            f"priors={shown(priors)} has no names for the rows of the table. Give a mapping of names to priors: "
            f"{example}."
        )
    if not priors:
        raise DesignError(
            f"priors={priors!r} names no prior. Leave it out to scale those of this posterior, or {example}."
        )
