"""Posteriors of one-way layouts on a grid of both standard deviations, hundreds of responses at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from bayeslmm.bayes.prior_families import HalfT, SdPrior
from bayeslmm.types import FloatArray
from studies.coverage.marginals import Ends, Marginals, mixture_quantile
from studies.coverage.oneway import OneWay

# Nodes of the sd; of log sigma per width of its likelihood; where its tails are cut off (log density).
_NODES, _SPACING, _DEPTH = 97, 0.8, 23.0
# Log density of the tail of the sd beyond the last node.
_TAIL = 24.0
# Responses times nodes held at once: a few MB, which stay near the caches.
_CHUNK = 400_000
# Every second node in both directions is enough for a mean.
_THIN = 2


@dataclass(frozen=True)
class Posterior:
    """Of K responses.

    Attributes
    ----------
    sd : Marginals
    sigma : FloatArray, shape (K, 2)
        Mean and sd of the residual sd.
    mean : Ends
        Equal-tailed interval of the mean.
    """

    sd: Marginals
    sigma: FloatArray
    mean: Ends


def default_log_prior(s: FloatArray, spread: FloatArray) -> FloatArray:
    """Log density of the package's default, half-t(3) of scale sd(y), at s (K, ...)."""
    scaled = s / spread.reshape(-1, *([1] * (s.ndim - 1)))
    return HalfT(3, 1.0).log_density(scaled)


def posterior(data: OneWay, level: float, prior: SdPrior | None = None) -> Posterior:
    """Integrate the posterior of every response by the trapezoidal rule.

    Parameters
    ----------
    data : OneWay
    level : float
    prior : SdPrior, optional
        Prior of both standard deviations, even at zero; by default half-t(3, sd(y)).

    Returns
    -------
    Posterior
    """
    x, z = np.linspace(0.0, _reach(data), _NODES), _log_sigma_nodes(data)
    step = max(1, _CHUNK // (x.size * z.shape[1]))
    parts = [
        _posterior(data.part(slice(k, k + step)), x, z[k : k + step], level, prior) for k in range(0, len(z), step)
    ]
    sd = Marginals(
        x, np.concatenate([part.sd.scale for part in parts]), np.concatenate([part.sd.mass for part in parts])
    )
    ends = [np.concatenate([part.mean[side] for part in parts]) for side in (0, 1)]
    return Posterior(sd, np.concatenate([part.sigma for part in parts]), (ends[0], ends[1]))


def _reach(data: OneWay) -> float:
    """Last node: the posterior falls like ``s^-(J + 2)`` there, four powers of it from the prior."""
    return 2.0 + _TAIL / (data.groups + 2)


def _scale(data: OneWay) -> FloatArray:
    """Unit of the sd: its moment estimate and what the data can tell from zero."""
    J, f = data.groups, data.n - data.groups
    size = data.n / J
    noise = data.within / f / size
    means = data.second.sum(axis=1) - data.first.sum(axis=1) ** 2 / J
    found = np.maximum(means / (J - 1) - noise, 0.0)
    return np.asarray(np.sqrt(found + noise * np.sqrt(2.0 / J)))


def _log_sigma_nodes(data: OneWay) -> FloatArray:
    """Nodes (K, S) of log sigma: from what is within groups alone to what all groups alike would give."""
    f = data.n - data.groups
    low = 0.5 * np.log(data.within / chdtri(f, np.exp(-_DEPTH)))
    # The prior's own tail cuts a t distribution of few degrees of freedom off.
    tail = _DEPTH / (f + 3)
    high = np.maximum(0.5 * np.log(data.within / f), 0.5 * np.log(data.variance)) + np.sqrt(_DEPTH / (f + 3)) + tail
    count = int(np.ceil((high - low).max() * np.sqrt(2.0 * data.n) / _SPACING)) + 1
    return np.asarray(low[:, None] + (high - low)[:, None] * np.linspace(0.0, 1.0, count))


def _posterior(data: OneWay, x: FloatArray, z: FloatArray, level: float, prior: SdPrior | None) -> Posterior:
    scale, spread = _scale(data), np.sqrt(data.variance)
    s = scale[:, None] * np.sinh(x)
    log_s = _log_prior(s, spread, prior) + np.log(np.cosh(x))
    log_sigma = _log_prior(np.exp(z), spread, prior) + z
    v, w = np.exp(2.0 * z)[:, None, :], (s**2)[:, :, None]
    between = data.between(v, w)
    deviance = (data.n - data.groups) * 2.0 * z + data.within[:, None] / v[:, 0]
    joint = -0.5 * (between.log_det + between.squares + np.log(between.info))
    joint += log_s[:, :, None] + (log_sigma - 0.5 * deviance)[:, None, :]
    p = np.exp(joint - joint.max(axis=(1, 2), keepdims=True))
    # At 0, where the range is folded, half weight.
    weights = p.copy()
    weights[:, 0] *= 0.5
    total = weights.sum(axis=(1, 2))
    marginal_z, sigma = weights.sum(axis=1) / total[:, None], np.exp(z)
    mean_sigma = (marginal_z * sigma).sum(axis=1)
    sd_sigma = np.sqrt((marginal_z * (sigma - mean_sigma[:, None]) ** 2).sum(axis=1))
    thin = (slice(None), slice(None, None, _THIN), slice(None, None, _THIN))
    shape = joint.shape
    means = np.broadcast_to(between.mean + data.shift[:, None, None], shape)[thin].reshape(shape[0], -1)
    sds = np.sqrt(1.0 / between.info)[thin].reshape(shape[0], -1)
    mean = mean_ends(weights[thin].reshape(shape[0], -1), means, sds, level)
    return Posterior(Marginals(x, scale, p.sum(axis=2)), np.stack([mean_sigma, sd_sigma], axis=1), mean)


def _log_prior(s: FloatArray, spread: FloatArray, prior: SdPrior | None) -> FloatArray:
    return default_log_prior(s, spread) if prior is None else prior.log_density(s)


def mean_ends(weights: FloatArray, means: FloatArray, sds: FloatArray, level: float) -> Ends:
    """Equal-tailed interval of a fixed effect, a mixture of normals; arrays (K, M)."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    upper = mixture_quantile(weights, means, sds, 0.5 * (1.0 + level))
    centre = means[:, 0]
    if np.allclose(means, centre[:, None], rtol=0.0, atol=1e-10 * float(sds.max())):
        return 2.0 * centre - upper, upper
    return mixture_quantile(weights, means, sds, 0.5 * (1.0 - level)), upper
