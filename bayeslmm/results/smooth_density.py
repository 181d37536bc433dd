"""Density of a standard deviation of a posterior, without the noise of a kernel estimate."""

from __future__ import annotations

from bayeslmm.bayes.conditional_density import HeldDraws, average_density
from bayeslmm.results.draws import Draws
from bayeslmm.results.labels import Parameter
from bayeslmm.types import FloatArray


def smooth_density(post: Draws, p: Parameter, grid: FloatArray) -> FloatArray | None:
    """Density of an sd or sigma on a grid; None where there is no quick exact one.

    Parameters
    ----------
    post : Draws
    p : Parameter
    grid : FloatArray, shape (G,)
        Units of the parameter.
    """
    if p.kind not in ("sd", "sigma") or p.at_mean or post.priors.sigma_known:
        return None
    held = HeldDraws.some(post.cross_products, post.priors, post._variance_draws)
    draws = post.draws(p.label)
    if held is None or not (draws > 0).all():
        return None
    log_density = held.of_sigma() if p.kind == "sigma" else held.of_sd(p.position, p.effects)
    return average_density(log_density, held.draws.sigma.size, draws, grid)
