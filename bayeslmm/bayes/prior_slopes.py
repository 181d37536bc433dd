"""First derivatives of prior log densities of a standard deviation, and how these behave at both ends."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from bayeslmm.bayes.prior_families import (
    Exponential,
    Flat,
    Gamma,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    SdPrior,
    Uniform,
)
from bayeslmm.bayes.term_priors import Chi, Relative

# Step of the differences for a prior that is none of the package's, relative to where it is asked.
_STEP = 1e-5


@singledispatch
def log_slope(prior: SdPrior, s: float) -> float:
    """Derivative of the log density of a prior at s >= 0; at zero the one from the right.

    Of a prior that is none of the package's, by central differences (by one-sided ones at zero).

    Parameters
    ----------
    prior : SdPrior
    s : float

    Examples
    --------
    >>> log_slope(HalfNormal(2.0), 1.0), log_slope(Exponential(4.0), 0.0)
    (-0.25, -0.25)
    """
    if s <= 0:
        # Second order: the value at zero and two beside it.
        h = 1e-4
        p = prior.log_density(np.array([0.0, h, 2.0 * h]))
        return float((4.0 * p[1] - 3.0 * p[0] - p[2]) / (2.0 * h))
    h = _STEP * s
    p = prior.log_density(np.array([s - 2 * h, s - h, s + h, s + 2 * h]))
    return float((p[0] - 8.0 * p[1] + 8.0 * p[2] - p[3]) / (12.0 * h))


@log_slope.register
def _(prior: HalfT, s: float) -> float:
    return -(prior.df + 1.0) * s / (prior.df * prior.scale**2 + s**2)


@log_slope.register
def _(prior: HalfNormal, s: float) -> float:
    return -s / prior.scale**2


@log_slope.register
def _(prior: Exponential, s: float) -> float:
    return -1.0 / prior.mean


@log_slope.register
def _(prior: Gamma, s: float) -> float:
    return _over(prior.shape - 1.0, s) - prior.rate


@log_slope.register
def _(prior: Power, s: float) -> float:
    return _over(prior.exponent, s)


@log_slope.register
def _(prior: Chi, s: float) -> float:
    return _over(prior.df - 1.0, s) - s / prior.scale**2


@log_slope.register
def _(prior: InverseGammaVariance, s: float) -> float:
    return _over(-(2.0 * prior.shape + 1.0), s) + (2.0 * prior.rate / s**3 if s > 0 else np.inf)


@log_slope.register(Flat)
@log_slope.register(Uniform)
def _(prior: Flat | Uniform, s: float) -> float:
    return 0.0


@log_slope.register
def _(prior: Relative, s: float) -> float:
    return log_slope(prior.prior, s)


def _over(power: float, s: float) -> float:
    """Slope of ``power log s``."""
    if power == 0:
        return 0.0
    return power / s if s > 0 else float(np.copysign(np.inf, power))


def at_zero(prior: SdPrior) -> float:
    """Log density of a prior at zero: inf where it has a spike there, -inf where it excludes zero."""
    return float(prior.log_density(np.zeros(1))[0])


def upper_end(prior: SdPrior) -> float:
    """Value above which a prior has no density; inf for most."""
    inner = prior.prior if isinstance(prior, Relative) else prior
    return inner.upper if isinstance(inner, Uniform) else float("inf")
