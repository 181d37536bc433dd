"""Posteriors of balanced random slopes by importance sampling, hundreds of responses at once.

The proposal of each response is a product of histograms, one per coordinate, adapted to the posterior's marginals
(Lepage 1978): on bounded coordinates that copes with densities that pile up at a zero variance or a correlation of one,
where a mixture of t distributions around a mode does not. Points are a shifted Sobol sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import dct, idct
from scipy.special import chdtri
from scipy.stats.qmc import Sobol

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.errors import FitError
from bayeslmm.types import FloatArray
from studies.coverage.marginals import Ends, Marginals
from studies.coverage.oneway_posterior import default_log_prior, mean_ends
from studies.coverage.slopes import Slopes

# Bins of every histogram; log2 of the points, of each adaptation and in the end; adaptations.
_BINS, _FIRST, _LAST, _ROUNDS = 32, 10, 12, 4
# Added to both where the sample is not good enough.
_MORE = 4
# Share of the proposal that is spread evenly over the range.
_FLOOR = 0.05
# Effective sample size from which on the marginals are smooth enough for an interval.
ENOUGH = 400.0
# Nodes of the marginals; width of the kernel over the posterior sd; points kept for the fixed effects.
_NODES, _KERNEL, _KEPT = 161, 0.12, 1024
_DEPTH, _TAIL = 23.0, 24.0
# Responses times points held at once.
_CHUNK = 400_000


@dataclass(frozen=True)
class SlopesPosterior:
    """Of K responses.

    Attributes
    ----------
    sds : tuple of Marginals
        Of intercepts and of slopes.
    fixed : tuple of Ends
        Equal-tailed intervals of both fixed effects.
    effective : FloatArray, shape (K,)
        Effective sample size of the importance sample.
    """

    sds: tuple[Marginals, Marginals]
    fixed: tuple[Ends, Ends]
    effective: FloatArray


@dataclass(frozen=True)
class _Box:
    """Ranges of the coordinates: sds as ``scale sinh(x)``, log sigma, and the correlation."""

    scale: FloatArray  # (K, 2)
    low: FloatArray  # (K, d)
    high: FloatArray  # (K, d)


def posterior(
    data: Slopes, level: float, rms: FloatArray, shifts: FloatArray, prior: SdPrior | None = None
) -> SlopesPosterior:
    """Intervals of every response.

    Parameters
    ----------
    data : Slopes
    level : float
    rms : FloatArray, shape (2,)
        Root mean squares of the columns, by which the scales of the default priors are divided.
    shifts : FloatArray, shape (K, 4)
        Uniform numbers that shift the points of each response.
    prior : SdPrior, optional
        Of every sd; by default half-t(3, sd(y) / rms), and half-t(3, sd(y)) for sigma.

    Raises
    ------
    FitError
        Too small an effective sample, also with more points.

    References
    ----------
    Lepage (1978), Journal of Computational Physics 27, 192-203.
    """
    step = max(1, _CHUNK >> _LAST)
    parts = [
        _checked(data.part(slice(k, k + step)), level, rms, shifts[k : k + step], prior)
        for k in range(0, data.within.size, step)
    ]
    sds = tuple(
        Marginals(
            parts[0].sds[i].x,
            np.concatenate([part.sds[i].scale for part in parts]),
            np.concatenate([part.sds[i].mass for part in parts]),
        )
        for i in (0, 1)
    )
    fixed = tuple(
        (np.concatenate([part.fixed[i][0] for part in parts]), np.concatenate([part.fixed[i][1] for part in parts]))
        for i in (0, 1)
    )
    return SlopesPosterior((sds[0], sds[1]), (fixed[0], fixed[1]), np.concatenate([part.effective for part in parts]))


def _checked(data: Slopes, level: float, rms: FloatArray, shifts: FloatArray, prior: SdPrior | None) -> SlopesPosterior:
    """With more points, for all of them, where those of some response are not enough."""
    post = _posterior(data, level, rms, shifts, prior)
    if post.effective.min() >= ENOUGH:
        return post
    post = _posterior(data, level, rms, shifts, prior, _MORE)
    if post.effective.min() < ENOUGH:
        raise FitError(
            f"The importance sample of a posterior with random slopes is worth {post.effective.min():.0f} draws only "
            f"({data.groups} groups of {data.size}), and its intervals would be noise. Study a cell with fewer groups "
            "or smaller variances of the slopes."
        )
    return post


def _posterior(
    data: Slopes, level: float, rms: FloatArray, shifts: FloatArray, prior: SdPrior | None, more: int = 0
) -> SlopesPosterior:
    box = _box(data)
    K, d = box.low.shape
    histogram = np.full((K, d, _BINS), 1.0 / _BINS)
    for _ in range(_ROUNDS):
        x, log_q, bins = _draw(histogram, box, shifts, _FIRST + more)
        weights = _weights(_log_density(data, box, x, rms, prior) - log_q)
        histogram = _adapt(bins, weights)
    x, log_q, _ = _draw(histogram, box, shifts, _LAST + more)
    weights = _weights(_log_density(data, box, x, rms, prior) - log_q)
    effective = 1.0 / (weights**2).sum(axis=1)
    nodes = np.linspace(0.0, float(box.high[0, 0]), _NODES)
    sds = [Marginals(nodes, box.scale[:, i], _smooth(x[:, i], weights, nodes)) for i in (0, 1)]
    fixed = [_fixed(data, box, x[..., :_KEPT], weights[:, :_KEPT], i, level) for i in (0, 1)]
    return SlopesPosterior((sds[0], sds[1]), (fixed[0], fixed[1]), effective)


def _box(data: Slopes) -> _Box:
    m, f = data.groups - 1, data.f
    noise = (data.within / f)[:, None] * np.diagonal(data.noise)
    found = np.maximum(np.diagonal(data.squares, axis1=1, axis2=2) / m - noise, 0.0)
    scale = np.sqrt(found + noise * np.sqrt(2.0 / data.groups))
    reach = 2.0 + _TAIL / (data.groups + 2)
    low = 0.5 * np.log(data.within / chdtri(f, np.exp(-_DEPTH)))
    spread = np.sqrt(_DEPTH / f)
    # Effects that are not there would add to the noise.
    most = data.within + (np.linalg.inv(data.noise) * data.squares).sum(axis=(1, 2))
    high = 0.5 * np.log(np.maximum(data.within / f, most / (f + 2 * m))) + spread + _DEPTH / (f + 3)
    zero = np.zeros_like(low)
    lows, highs = [zero, zero, low], [zero + reach, zero + reach, high]
    if data.correlated:
        lows, highs = [*lows, zero - 1.0], [*highs, zero + 1.0]
    return _Box(scale, np.stack(lows, axis=1), np.stack(highs, axis=1))


def _draw(
    histogram: FloatArray, box: _Box, shifts: FloatArray, log_points: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points (K, d, S), log density of the proposal (K, S), and places in units of bins (K, d, S)."""
    K, d, B = histogram.shape
    points = _sobol(d, log_points)
    u = (points.T + shifts[:, :d, None]) % 1.0
    cdf = np.concatenate([np.zeros((K, d, 1)), np.cumsum(histogram, axis=2)], axis=2)
    cdf /= cdf[..., -1:]
    place, log_q = np.empty_like(u), np.zeros((K, u.shape[2]))
    for k in range(K):
        for i in range(d):
            place[k, i] = np.interp(u[k, i], cdf[k, i], np.arange(B + 1.0))
    width = (box.high - box.low) / B
    log_height = np.log(histogram) - np.log(width)[:, :, None]
    for i in range(d):
        bins = np.minimum(place[:, i].astype(int), B - 1)
        log_q += np.take_along_axis(log_height[:, i], bins, axis=1)
    return box.low[:, :, None] + width[:, :, None] * place, log_q, place


_sobols: dict[tuple[int, int], FloatArray] = {}


def _sobol(d: int, log_points: int) -> FloatArray:
    """The first points of the Sobol sequence (S, d), moved to the middle of their cells."""
    if (d, log_points) not in _sobols:
        points = Sobol(d, scramble=False).random_base2(log_points)
        _sobols[d, log_points] = points + 0.5 / 2**log_points
    return _sobols[d, log_points]


def _weights(log_weights: FloatArray) -> FloatArray:
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _adapt(place: FloatArray, weights: FloatArray) -> FloatArray:
    """Histograms (K, d, B) of the weighted points, smoothed a little, with a floor."""
    K, d, _ = place.shape
    out = np.empty((K, d, _BINS))
    for k in range(K):
        for i in range(d):
            bins = np.minimum(place[k, i].astype(int), _BINS - 1)
            out[k, i] = np.bincount(bins, weights[k], minlength=_BINS)
    ends = np.concatenate([out[..., :1], out, out[..., -1:]], axis=2)
    out = 0.25 * ends[..., :-2] + 0.5 * out + 0.25 * ends[..., 2:]
    return np.asarray((1.0 - _FLOOR) * out / out.sum(axis=2, keepdims=True) + _FLOOR / _BINS)


def _log_density(data: Slopes, box: _Box, x: FloatArray, rms: FloatArray, prior: SdPrior | None) -> FloatArray:
    """Log posterior density (K, S) in the coordinates; a correlation is uniform a priori, LKJ(1)."""
    spread = np.sqrt(data.variance)
    first, second = (box.scale[:, i, None] * np.sinh(x[:, i]) for i in (0, 1))
    log_p = np.log(np.cosh(x[:, 0])) + np.log(np.cosh(x[:, 1])) + x[:, 2]
    sigma = np.exp(x[:, 2])
    for s, size in ((first, rms[0]), (second, rms[1]), (sigma, 1.0)):
        log_p += default_log_prior(s, spread / size) if prior is None else prior.log_density(s)
    cross = x[:, 3] * first * second if data.correlated else np.zeros(1)
    return np.asarray(log_p - 0.5 * data.deviance(sigma**2, first**2, cross, second**2, reml=True))


def _smooth(x: FloatArray, weights: FloatArray, nodes: FloatArray) -> FloatArray:
    """Density (K, G) of weighted points (K, S): tents on the nodes, then a normal kernel reflected at the ends."""
    K, G, h = x.shape[0], nodes.size, nodes[1] - nodes[0]
    mass = np.empty((K, G))
    for k in range(K):
        place = np.minimum(x[k] / h, G - 1 - 1e-9)
        left = place.astype(int)
        part = weights[k] * (place - left)
        mass[k] = np.bincount(left, weights[k] - part, minlength=G) + np.bincount(left + 1, part, minlength=G)[:G]
    # The end nodes have half a cell.
    mass[:, [0, -1]] *= 2.0
    centre = (weights * x).sum(axis=1)
    sd = np.sqrt((weights * (x - centre[:, None]) ** 2).sum(axis=1))
    frequency = np.pi * np.arange(G) / ((G - 1) * h)
    kernel = np.exp(-0.5 * (frequency * _KERNEL * sd[:, None]) ** 2)
    return np.maximum(idct(dct(mass, type=1, axis=1) * kernel, type=1, axis=1), 0.0)


def _fixed(data: Slopes, box: _Box, x: FloatArray, weights: FloatArray, which: int, level: float) -> Ends:
    """A fixed effect is normal about the mean coefficient given the variances."""
    s, v = box.scale[:, which, None] * np.sinh(x[:, which]), np.exp(2.0 * x[:, 2])
    sds = np.sqrt((s**2 + v * data.noise[which, which]) / data.groups)
    return mean_ends(weights, np.broadcast_to(data.mean[:, which, None], sds.shape), sds, level)
