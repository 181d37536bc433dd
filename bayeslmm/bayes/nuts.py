"""The hierarchical model sampled by NUTS: nutpie where it is installed, else PyMC's own sampler."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.bayes.interrupted import OneAfterTheOther, complete_draws, sampling
from bayeslmm.bayes.layout import Layout
from bayeslmm.bayes.nuts_stats import library, schema_stats
from bayeslmm.types import AnyArray, FloatArray

# Condition number of the scaled columns of X beyond which coefficients need a joint mass matrix.
_COLLINEAR = 30.0


@dataclass(frozen=True)
class NutsDraws:
    """Draws of NUTS.

    Attributes
    ----------
    posterior : dict
        Documented variables (see `Layout.posterior_dims`), shape (chain, draw, ...).
    stats : dict
        Sampler statistics under the names of the ArviZ schema, shape (chain, draw).
    library : str
        ``"nutpie"`` or ``"pymc"``.
    """

    posterior: dict[str, AnyArray]
    stats: dict[str, AnyArray]
    library: str


def sample_nuts(
    model: Any,
    layout: Layout,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    random_seed: int | None = None,
    cores: int | None = None,
    target_accept: float = 0.9,
    progress: bool = False,
    sampler: str = "auto",
    callback: Callable[..., None] | None = None,
) -> NutsDraws:
    """Sample a model of `build_pymc_model`.

    Parameters
    ----------
    model : pymc.Model
    layout : Layout
        ``make_layout(design)`` of the design it was built from.
    draws, tune, chains : int
        Draws kept and draws of the warm-up per chain.
    random_seed, cores : int, optional
        Cores: chains run at once; default as many as there are processors.
    target_accept : float
        Above the usual 0.8 because standard deviations near zero bend the posterior sharply.
    progress : bool
        Whether to show a progress bar.
    sampler : {"auto", "nutpie", "pymc"}
    callback : callable, optional
        Called after every draw (PyMC) or from time to time (nutpie) with what the library passes.

    Returns
    -------
    NutsDraws

    Raises
    ------
    FitError, KeyboardInterrupt
        A chain failed, or its process died; interrupted before a draw was kept.

    Warns
    -----
    ConvergenceWarning
        Interrupted (Ctrl-C): what was drawn is returned.
    """
    cores = min(cores or os.cpu_count() or 1, chains)
    options = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "target_accept": target_accept}
    sampler = library(sampler)
    run = _nutpie if sampler == "nutpie" else _pymc
    with sampling(chains):
        trace = run(model, layout, random_seed, progress, options, callback)
    posterior = {
        name: trace["posterior"][name].transpose("chain", "draw", *dims).to_numpy()
        for name, dims in (layout.posterior_dims | layout.at_mean_dims).items()
        if name in trace["posterior"]
    }
    posterior, stats = complete_draws(posterior, schema_stats(trace["sample_stats"]), draws, chains)
    return NutsDraws(posterior, stats, sampler)


def _nutpie(
    model: Any,
    layout: Layout,
    seed: int | None,
    progress: bool,
    options: dict[str, Any],
    callback: Callable[..., None] | None,
) -> Any:
    import nutpie

    # A jitter of one is harmless on a log scale but not in the units of the response.
    jitter = {rv for rv in model.free_RVs if rv.name != "beta"}
    compiled = nutpie.compile_pymc_model(
        model,
        jitter_rvs=jitter,
        initial_points=_start(model, layout),
        var_names=_names(model, layout),
    )
    return nutpie.sample(
        compiled,
        seed=seed,
        progress_bar=progress,
        save_warmup=False,
        adaptation=_adaptation(model, layout),
        progress_callback=callback,
        **options,
    )


def _pymc(
    model: Any,
    layout: Layout,
    seed: int | None,
    progress: bool,
    options: dict[str, Any],
    callback: Callable[..., None] | None,
) -> Any:
    import pymc as pm

    if options["chains"] == 1 or options["cores"] == 1:
        callback = OneAfterTheOther(options["draws"] + options["tune"], callback)
    return pm.sample(
        model=model,
        initvals=_start(model, layout),
        random_seed=seed,
        progressbar=progress,
        var_names=_names(model, layout),
        nuts_sampler="pymc",
        compute_convergence_checks=False,
        quiet=not progress,
        callback=callback,
        **options,
    )


def _adaptation(model: Any, layout: Layout) -> str:
    """A low-rank mass matrix where fixed effects are strongly correlated (a slope on years).

    Elsewhere the diagonal one mixes better: it is not misled by the funnels of sds near zero.
    """
    if not layout.coef:
        return "diag"
    X = model["X"].get_value()
    condition = np.linalg.cond(X / np.linalg.norm(X, axis=0))
    return "low_rank" if condition > _COLLINEAR else "diag"


def _start(model: Any, layout: Layout) -> dict[str, FloatArray]:
    """Least-squares fixed effects, since zero may be thousands of standard deviations away.

    Not an initial value of the model itself: PyMC can neither condition nor copy such models.
    """
    if not layout.coef:
        return {}
    response = model[layout.response]
    # Correlated residuals are a potential of the response, which is data.
    y = model.rvs_to_values[response].data if response in model.rvs_to_values else response.get_value()
    if "offset" in model.named_vars:
        y = y - model["offset"].get_value()
    return {"beta": np.linalg.lstsq(model["X"].get_value(), y)[0]}


def _names(model: Any, layout: Layout) -> list[str]:
    return [name for name in (*layout.posterior_dims, *layout.at_mean_dims) if name in model.named_vars]
