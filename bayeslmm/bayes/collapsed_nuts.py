"""NUTS on the collapsed posterior: the few variance parameters only, from a warm start, without compiling anything.

Coordinates are those of `SignedDensity`, on which zero is an ordinary point that no trajectory has to avoid. They are
centred at the mode and scaled by the curvature there, so that little is left to adapt to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bayeslmm.bayes.interrupted import OneAfterTheOther, complete_draws, sampling
from bayeslmm.bayes.nuts_stats import library, schema_stats
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.signed_density import SignedDensity
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.errors import FitError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.types import AnyArray, FloatArray

# Step of central differences of the gradient, for the curvature.
_CURVATURE_STEP = 1e-4
# Gradient at which the search for the mode ends: only a centre is wanted.
_FLAT = 1e-2
# Largest scale of a direction in which the posterior at its mode is flat or not concave.
_WIDEST = 1.5
# Quantiles whose estimates the tail effective size is about.
_TAIL = (0.05, 0.95)
# Scaled to the curvature, a trajectory that needs more doublings than this is lost and only costs time.
_DEEPEST = 8
# Spread of the first points around the mode, in posterior standard deviations.
_JITTER = 0.7


@dataclass(frozen=True, eq=False)
class ScaledDensity:
    """A density on coordinates w with ``z = origin + basis w``; called as a `ValueAndGradient` function."""

    density: SignedDensity
    origin: FloatArray
    basis: FloatArray

    def __call__(self, w: AnyArray) -> tuple[AnyArray, ...]:
        value, slope = self.density(self.origin + self.basis @ np.asarray(w, dtype=float))
        return np.asarray(value), self.basis.T @ slope


@dataclass(frozen=True)
class CollapsedNuts:
    """Draws of the variance parameters.

    Attributes
    ----------
    factors : tuple of FloatArray, each (chain, draw, c, c)
        Relative factors of the effects that the priors are about, terms in the order of the formula. Rows may have
        either sign: square roots of the covariance, not canonical ones.
    sds : tuple of FloatArray, each (chain, draw, c), or (chain, draw, 1) where effects share one
        Relative to sigma, not negative.
    sigma : FloatArray, shape (chain, draw)
    stats : dict
        Sampler statistics under the names of the ArviZ schema, shape (chain, draw).
    library : str
        ``"nutpie"`` or ``"pymc"``.
    target : Target
        The density that was sampled, with log sigma as one more coordinate.
    x : FloatArray, shape (chain * draw, d)
        Its coordinates, folded where it is even.
    """

    factors: tuple[FloatArray, ...]
    sds: tuple[FloatArray, ...]
    sigma: FloatArray
    stats: dict[str, AnyArray]
    library: str
    target: Target
    x: FloatArray

    @property
    def divergences(self) -> int:
        return int(np.sum(self.stats["diverging"]))

    @cached_property
    def quantities(self) -> FloatArray:
        """Log sigma, relative sds and covariances between effects, shape (chain, draw, k): what R-hat is about."""
        own = [] if self.target.priors.sigma_known else [np.log(self.sigma)[..., None]]
        own += [self.target.lam(self.x).reshape(*self.sigma.shape, -1)]
        parts = [*own, *self.sds]
        for T in self.factors:
            G = T @ np.swapaxes(T, -1, -2)
            a, b = np.triu_indices(T.shape[-1], 1)
            free = np.ptp(G[..., a, b], axis=(0, 1)) > 0
            parts.append(G[..., a, b][..., free])
        return np.concatenate(parts, axis=-1)

    @cached_property
    def rhat(self) -> float:
        """Largest rank-normalised R-hat (Vehtari et al. 2021); nan for a single chain."""
        from arviz_stats.base import array_stats

        if self.sigma.shape[0] == 1:
            return float("nan")
        return float(np.max(array_stats.rhat(self.quantities, chain_axis=0, draw_axis=1)))

    @cached_property
    def ess(self) -> float:
        """Smallest effective sample size, bulk or tail."""
        from arviz_stats.base import array_stats

        values = self.quantities
        bulk = array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk")
        tail = array_stats.ess(values, chain_axis=0, draw_axis=1, method="tail", prob=_TAIL)
        return float(min(np.min(bulk), np.min(tail)))


def sample_collapsed_nuts(
    cp: SummedDesign,
    priors: Priors,
    start_terms: Sequence[FloatArray],
    *,
    draws: int = 1000,
    tune: int = 400,
    chains: int = 4,
    random_seed: int | np.random.Generator | None = None,
    cores: int | None = None,
    target_accept: float = 0.9,
    progress: bool = False,
    sampler: str = "auto",
) -> CollapsedNuts:
    """Sample the variance parameters with the fixed and random effects integrated out.

    Parameters
    ----------
    cp : SummedDesign
    priors : Priors
    start_terms : sequence of FloatArray, each (c, c)
        Relative factors of a REML fit on the user's columns; gives scales and the start of the search for the mode.
    draws, tune : int
        Draws kept and draws of the warm-up, per chain.
    random_seed : int or numpy.random.Generator, optional
    chains, cores : int, optional
        Cores: chains run at once; default as many as there are processors.
    target_accept : float
    progress : bool
        Whether to show a progress bar.
    sampler : {"auto", "nutpie", "pymc"}

    Returns
    -------
    CollapsedNuts

    Raises
    ------
    FitError
        The density cannot be evaluated at the start; a worker died.

    Warns
    -----
    ConvergenceWarning
        The run was interrupted: what was drawn is returned.
    """
    target, start = make_target(cp, priors, start_terms)
    density = SignedDensity(target)
    at = start if priors.sigma_known else np.append(start, density.log_sigma(start))
    scaled = scaled_to_mode(density, at)
    rng = np.random.default_rng(random_seed)
    sampler = library(sampler)
    cores = min(cores or os.cpu_count() or 1, chains)
    options = {"draws": draws, "tune": tune, "chains": chains, "cores": cores, "target_accept": target_accept}
    run = _nutpie if sampler == "nutpie" else _pymc
    with sampling(chains):
        w, stats = run(scaled, int(rng.integers(2**31)), progress, options)
    kept, stats = complete_draws({"w": w}, stats, draws, chains)
    return _collect(density, scaled.origin + kept["w"] @ scaled.basis.T, stats, sampler)


def _collect(density: SignedDensity, z: FloatArray, stats: dict[str, AnyArray], library: str) -> CollapsedNuts:
    shape = z.shape[:2]
    x, log_sigma = density.split(z)
    x = x.reshape(-1, density.target.dimension)
    factors, sds, _ = density.terms(x)
    return CollapsedNuts(
        tuple(T.reshape(*shape, *T.shape[1:]) for T in factors),
        tuple(t.reshape(*shape, -1) for t in sds),
        np.exp(log_sigma),
        stats,
        library,
        density.target,
        np.where(density.target.folded, np.abs(x), x),
    )


def scaled_to_mode(density: SignedDensity, start: FloatArray) -> ScaledDensity:
    """Coordinates centred at the posterior mode and scaled by the curvature there.

    Parameters
    ----------
    start : FloatArray, shape (d + 1,)

    Raises
    ------
    FitError
        The density cannot be evaluated at the start.
    """
    from scipy.optimize import minimize

    if not np.isfinite(density(start)[0]):
        raise FitError(
            "The posterior density is not finite at the REML fit, so that no chain can start. Check the scales of the "
            "predictors and that the priors allow for the REML estimates."
        )
    found = minimize(lambda z: _negative(density(z)), start, jac=True, method="BFGS", tol=_FLAT)  # type: ignore[call-overload]
    mode = np.asarray(found.x)
    steps = _CURVATURE_STEP * np.eye(mode.size)
    H = np.array([(density(mode - h)[1] - density(mode + h)[1]) / (2.0 * _CURVATURE_STEP) for h in steps])
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    basis = vectors / np.sqrt(np.maximum(values, _WIDEST**-2))
    return ScaledDensity(density, mode, basis)


def _negative(pair: tuple[float, FloatArray]) -> tuple[float, FloatArray]:
    return -pair[0], -pair[1]


def _nutpie(
    scaled: ScaledDensity, seed: int, progress: bool, options: dict[str, Any]
) -> tuple[FloatArray, dict[str, AnyArray]]:
    import nutpie
    from nutpie.compiled_pyfunc import from_pyfunc

    size = scaled.density.dimension

    def first(seed: int) -> FloatArray:
        # From the seed of the chain alone: chains that start at once ask in any order.
        return np.asarray(_JITTER * np.random.default_rng(seed).normal(size=size))

    model = from_pyfunc(
        size,
        lambda: lambda w: tuple(scaled(w)),
        lambda *_: lambda w: {"w": np.array(w)},
        [np.dtype("float64")],
        [(size,)],
        ["w"],
        make_initial_point_fn=first,
    )
    tree = nutpie.sample(model, seed=seed, progress_bar=progress, save_warmup=False, maxdepth=_DEEPEST, **options)
    return tree["posterior"]["w"].to_numpy(), schema_stats(tree["sample_stats"])


def _pymc(
    scaled: ScaledDensity, seed: int, progress: bool, options: dict[str, Any]
) -> tuple[FloatArray, dict[str, AnyArray]]:
    import pymc as pm

    from bayeslmm.bayes.collapsed_op import value_and_gradient

    size = scaled.density.dimension
    starts = _JITTER * np.random.default_rng(seed).normal(size=(options["chains"], size))
    with pm.Model() as model:
        w = pm.Flat("w", shape=size)
        pm.Potential("log_density", value_and_gradient(scaled, ((size,),), [w]))
    tree = pm.sample(
        model=model,
        initvals=[{"w": row} for row in starts],
        init="adapt_diag",
        random_seed=seed,
        progressbar=progress,
        nuts_sampler="pymc",
        compute_convergence_checks=False,
        quiet=not progress,
        compile_kwargs={"mode": "FAST_COMPILE"},
        callback=OneAfterTheOther(options["draws"] + options["tune"]) if options["cores"] == 1 else None,
        **options,
    )
    return tree["posterior"]["w"].to_numpy(), schema_stats(tree["sample_stats"])
