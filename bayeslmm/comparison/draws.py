"""Draws that stand for a REML fit: a parametric bootstrap, and confidence distributions from profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayeslmm.design.screen import fill
from bayeslmm.faces import REMLResult
from bayeslmm.inference.bootstrap import bootstrap_optima
from bayeslmm.inference.explained import explained
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.reml.many import Optima
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.results.explained import icc_columns, r2_columns
from bayeslmm.results.labels import Parameter
from bayeslmm.results.refits import Refits, optima_of
from bayeslmm.types import FloatArray

# Replicates unless the user says, where many would take long, and where each is a search over residual parameters, too.
BOOTSTRAP, FEW, FEWEST = 1_000, 200, 50
# Random effects above which they would.
_MANY = 1_000
# Signed roots at which profiles are inverted.
_ROOTS = np.linspace(0.5, 4.0, 8)


def replicates(fit: REMLResult) -> int:
    """How many replicates unless the user says: fewer where responses are fitted one by one, or slowly."""
    if fit.design.residual.names:
        return FEWEST
    structures = [term.structure for term in fit.design.terms]
    quick = fit.cp.sums.batched and fit.design.q <= _MANY and all(s.plain for s in structures)
    return BOOTSTRAP if quick else FEW


@dataclass(frozen=True)
class FitBootstrap:
    """Estimates from simulated responses.

    Attributes
    ----------
    estimates : DataFrame
        Replicates x parameters under their labels.
    explained : DataFrame
        Replicates x intraclass correlations and R2.
    failed : int
        Replicates left out because their fit did not converge.
    """

    estimates: pd.DataFrame
    explained: pd.DataFrame
    failed: int

    def __repr__(self) -> str:
        failed = f", {self.failed} left out that did not converge" if self.failed else ""
        return fill(
            f"<{len(self.estimates)} bootstrap estimates of {self.estimates.shape[1]} parameters{failed}>", indent="  "
        )


def draw_bootstrap(fit: REMLResult, n: int, rng: np.random.Generator) -> FitBootstrap:
    """Fit the model to `n` responses simulated from its own estimates."""
    chunks = _refitted(fit, n, rng)
    estimates = pd.concat([Refits(fit.design, fit.reml, chunk).estimates() for chunk in chunks], ignore_index=True)
    shares = pd.concat([_explained(fit, chunk) for chunk in chunks], ignore_index=True)
    good = np.array([status.ok for chunk in chunks for status in chunk.status])
    kept = [frame[good].reset_index(drop=True) for frame in (estimates, shares)]
    return FitBootstrap(kept[0], kept[1], int((~good).sum()))


def _refitted(fit: REMLResult, n: int, rng: np.random.Generator) -> list[Optima]:
    optimum, beta = fit.optimum, fit.fixef().to_numpy()
    if isinstance(optimum, ResidualOptimum):
        return [optima_of(fit, simulate_responses(fit.design, optimum.terms, fit.sigma, beta, n, rng, optimum.lam))]
    return list(bootstrap_optima(fit.cp, optimum.terms, fit.sigma, beta, n, rng, reml=fit.reml))


def _explained(fit: REMLResult, chunk: Optima) -> pd.DataFrame:
    lam = NO_PARAMETERS if chunk.lam is None else chunk.lam
    parts = explained(fit.design, chunk.beta, chunk.terms, chunk.sigma, lam)
    return pd.concat([icc_columns(parts), r2_columns(parts)], axis=1)


def profile_draws(
    fit: REMLResult, known: Sequence[Parameter], n: int, rng: np.random.Generator
) -> dict[str, FloatArray]:
    """Values (n,) of every parameter whose signed roots ``+- sqrt(c(value) - c(estimate))`` are standard normal.

    The normal quantiles are evenly spaced and shuffled, so that there is no Monte Carlo error. What would lie beyond
    the end of the parameter's range is put at the end: an sd has the probability there with which it is not told from
    zero.
    """
    estimates = fit.estimates()
    ends = [fit.confint(float(2.0 * ndtr(root) - 1.0)) for root in _ROOTS]
    draws = {}
    for p in known:
        wanted = ndtri((rng.permutation(n) + 0.5) / n)
        estimate = float(estimates[p.label])
        low, high = np.array([frame.loc[p.label].to_numpy(dtype=float) for frame in ends]).T
        if np.isnan([estimate, *low, *high]).any():
            draws[p.label] = np.full(n, np.nan)
            continue
        below, above = (_until_the_end(fit, p, outward) for outward in (low, high))
        roots = np.concatenate([-below[0][::-1], [0.0], above[0]])
        values = np.concatenate([below[1][::-1], [estimate], above[1]])
        from scipy.interpolate import PchipInterpolator

        inverse = PchipInterpolator(roots, values)
        draws[p.label] = np.asarray(inverse(np.clip(wanted, roots[0], roots[-1])))
    return draws


def _until_the_end(fit: REMLResult, p: Parameter, outward: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Roots and values away from the estimate; of those at the end of the range only one, with its own root."""
    bound = outward[-1]
    inside = outward != bound
    if inside[:-1].all():
        return _ROOTS, outward
    rise = float(fit.profile(p.label, [bound])["criterion"].iloc[0]) - fit.criterion
    root = np.sqrt(max(rise, 0.0))
    kept = inside & (root > _ROOTS)
    return (np.append(_ROOTS[kept], root), np.append(outward[kept], bound)) if root > 0 else (_ROOTS[:0], _ROOTS[:0])
