"""The line of log sigma at every point: where its integrand is, nodes on it, and draws from it.

The integrand is a likelihood, which is known, times priors that may be narrower by any factor or lie elsewhere. In log
sigma the likelihood and all families of priors are log-concave, so that what nodes on the likelihood see tells
whether they are enough: a narrow peak between two of them leaves a sharp bend at the higher one. Only a normal prior on
fixed effects can make a second hump, whose place is known too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.types import BoolArray, FloatArray, IntArray

# The integrand is followed down to this log density below its peak.
DEPTH = 38.0
# Spacing in units of the peak's width: the trapezoidal rule has then converged to rounding.
SPACING = 0.5
# Nodes on the likelihood are enough if the integrand at both ends is this far below its peak ...
_ENOUGH = 24.0
# ... and its second difference there at most this: a spacing of 0.84 widths, an error of 1e-12.
_BEND = 0.7
# Where the peak is this far below those of other points, an error of its density by a small factor does not matter.
_NEGLIGIBLE, _MODERATE = 60.0, 20.0
# How far from the likelihood, in log sigma, the integrand is looked for.
_REACH = 345.0
# Spacing that follows walls of the form exp(-s) and exp(-s^2) however flat the peak is, and the most nodes.
_WALL_SPACING, _MOST = 0.2, 400
# Ends of the double-exponential rule where a jump cuts the integrand, and its nodes.
_TAU, _CUT_NODES = 3.2, 81
_SECTIONS = 16
_ZOOMS = 26
_HUMP_NODES = 240

# Log density at log sigma, shape (k, S), of the rows given (all if None).
type Integrand = Callable[[FloatArray, "IntArray | None"], FloatArray]


@dataclass(frozen=True)
class Lines:
    """Equally spaced nodes of a coordinate u on (0, 1) at each of K points.

    Attributes
    ----------
    lower, upper : FloatArray, shape (K,)
        Ends in log sigma.
    cut : BoolArray, shape (K,)
        Whether the integrand jumps to zero at the upper end. Then log sigma is a double-exponential function of u,
        which takes no notice of what happens at ends; otherwise linear.
    count : int
        Nodes.

    References
    ----------
    Takahasi & Mori (1974), Publications RIMS 9, 721-741.
    """

    lower: FloatArray
    upper: FloatArray
    cut: BoolArray
    count: int

    def nodes(self) -> tuple[FloatArray, FloatArray]:
        """Log sigma (K, S) and log of its derivative by u, (K, S) or (K, 1)."""
        return self.at(np.broadcast_to(np.linspace(0.0, 1.0, self.count), (self.lower.size, self.count)))

    def at(self, u: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The same at given u, shape (K, S)."""
        length = (self.upper - self.lower)[:, None]
        with np.errstate(divide="ignore"):
            log_length = np.log(length)
        if not self.cut.any():
            return self.lower[:, None] + length * u, log_length
        tau = _TAU * (2.0 * u - 1.0)
        bent = np.pi * np.sinh(tau)
        from_upper = length / (1.0 + np.exp(bent))
        log_slope = (
            log_length - np.logaddexp(0, bent) - np.logaddexp(0, -bent) + np.log(2 * _TAU * np.pi * np.cosh(tau))
        )
        cut = self.cut[:, None]
        return (
            np.where(cut, self.upper[:, None] - from_upper, self.lower[:, None] + length * u),
            np.where(cut, log_slope, log_length),
        )

    def take(self, rows: IntArray) -> Lines:
        """Lines of some of the points."""
        return replace(self, lower=self.lower[rows], upper=self.upper[rows], cut=self.cut[rows])


@dataclass(frozen=True)
class Places:
    """What is known of the integrands of K points before they are evaluated.

    Attributes
    ----------
    centre : FloatArray, shape (K,)
        Log sigma at the peak of the likelihood.
    reach : FloatArray, shape (K,)
        Largest log sigma at which it can have a peak: `centre`, or above it under a normal prior on fixed effects.
    wall : FloatArray, shape (K,)
        Log sigma from which on the integrand is zero; inf if there is none.
    width : float
        Of the likelihood's peak in log sigma.
    """

    centre: FloatArray
    reach: FloatArray
    wall: FloatArray
    width: float


def sigma_range(nu: float) -> tuple[float, float]:
    """Where ``-nu u - nu/2 (exp(-2u) - 1)``, the log likelihood in u = log(sigma / peak), is above -depth."""
    lower = upper = np.sqrt(DEPTH / nu)
    for _ in range(60):
        drop = -nu * lower + 0.5 * nu * np.expm1(2 * lower)
        lower -= (drop - DEPTH) / (nu * np.expm1(2 * lower))
        rise = nu * upper + 0.5 * nu * np.expm1(-2 * upper)
        upper -= (rise - DEPTH) / (-nu * np.expm1(-2 * upper))
    return -float(lower), float(upper)


def integrate_lines(
    integrand: Integrand, nu: float, places: Places
) -> tuple[Lines, FloatArray, FloatArray, FloatArray]:
    """Nodes that follow the integrand, its values there, and log integrals.

    Parameters
    ----------
    integrand : callable
    nu : float
        Degrees of freedom of the likelihood: its log is ``-nu u - nu/2 exp(-2u)``.
    places : Places

    Returns
    -------
    Lines
    FloatArray, shape (K, S)
        Log sigma at the nodes.
    FloatArray, shape (K, S)
        Log density in u; -inf where there is none.
    FloatArray, shape (K,)
        Log integrals; -inf where the integrand has no finite value.
    """
    low, high = sigma_range(nu)
    count = int(np.ceil((high - low) / (SPACING / np.sqrt(2.0 * nu)))) + 1
    centre = places.centre
    lines = Lines(centre + low, centre + high, np.zeros(centre.size, dtype=bool), count)
    log_sigma, values, top = _on(integrand, lines)
    rows = np.flatnonzero(_astray(values, top, places, lines))
    if rows.size:
        lines = _with_rows(lines, rows, _follow(integrand, rows, places))
        log_sigma, values, top = _on(integrand, lines)
    safe = np.where(np.isfinite(top), top, 0.0)
    log_integral = safe + np.log(np.exp(values - safe[:, None]).sum(axis=1)) - np.log(lines.count - 1)
    return lines, log_sigma, values, np.where(np.isfinite(top), log_integral, -np.inf)


def at_one_place(integrand: Integrand, log_sigma: float, size: int) -> tuple[Lines, FloatArray, FloatArray, FloatArray]:
    """The same where sigma is known: one node at each of K points, whose value is the log integral."""
    place = np.full(size, log_sigma)
    values = _finite(integrand(place[:, None], None))
    return Lines(place, place, np.zeros(size, dtype=bool), 1), place[:, None], values, values[:, 0]


def _on(integrand: Integrand, lines: Lines) -> tuple[FloatArray, FloatArray, FloatArray]:
    log_sigma, log_slope = lines.nodes()
    values = _finite(integrand(log_sigma, None) + log_slope)
    return log_sigma, values, values.max(axis=1)


def _finite(values: FloatArray) -> FloatArray:
    """Without nan, which is what an overflow on both sides leaves: no density."""
    return np.where(np.isnan(values), -np.inf, values)


def _astray(values: FloatArray, top: FloatArray, places: Places, lines: Lines) -> BoolArray:
    """Mask (K,) of the points whose integrand the nodes on the likelihood do not hold."""
    inner = values[:, 1:-1]
    rows = np.arange(top.size)
    peak = np.argmax(inner, axis=1)
    bend = 2.0 * inner[rows, peak] - values[rows, peak] - values[rows, peak + 2]
    ends = np.maximum(values[:, 0], values[:, -1]) > top - _ENOUGH
    sharp = ~(bend < _BEND) & ~((bend < _MODERATE) & (top < top.max() - _NEGLIGIBLE))
    return np.asarray(
        ends | sharp | ~np.isfinite(top) | (places.wall < lines.upper) | (places.reach > lines.upper - places.width)
    )


def _with_rows(lines: Lines, rows: IntArray, found: Lines) -> Lines:
    lower, upper, cut = lines.lower.copy(), lines.upper.copy(), lines.cut.copy()
    lower[rows], upper[rows], cut[rows] = found.lower, found.upper, found.cut
    return Lines(lower, upper, cut, max(lines.count, found.count))


def _follow(integrand: Integrand, rows: IntArray, places: Places) -> Lines:
    """Lines of some points around wherever their integrand is."""
    wall = places.wall[rows]
    wall = np.where(np.isfinite(wall), wall - 4e-16 * np.maximum(1.0, np.abs(wall)), np.inf)
    centre, reach = places.centre[rows], places.reach[rows]

    def at(z: FloatArray, some: IntArray | None = None) -> FloatArray:
        return _finite(integrand(z, rows if some is None else rows[some]))

    scan = _scan(centre, reach, wall, places.width)
    seen = at(scan)
    mode, top, step, width = _zoom(at, scan, seen)
    lower = _end(at, mode, top, step, -1.0, wall)
    upper = _end(at, mode, top, step, 1.0, wall)
    # Whatever else of it was seen: a second hump.
    held = seen > top[:, None] - DEPTH
    lower = np.minimum(lower, np.where(held, scan, np.inf).min(axis=1, initial=np.inf))
    upper = np.maximum(upper, np.where(held, scan, -np.inf).max(axis=1, initial=-np.inf))
    cut = upper >= wall
    upper = np.minimum(upper, wall)
    finest = np.where(reach > centre, np.minimum(width, places.width), width)
    counts = np.where(cut, _CUT_NODES, (upper - lower) / np.minimum(SPACING * finest, _WALL_SPACING))
    found = np.isfinite(top)
    count = int(np.ceil(np.clip(counts[found].max(initial=0.0), 0.0, _MOST - 1.0))) + 1
    # Nothing finite anywhere: the likelihood's own place is as good as any.
    lower, upper = np.where(found, lower, centre - places.width), np.where(found, upper, centre + places.width)
    return Lines(lower, upper, cut & found, count)


def _scan(centre: FloatArray, reach: FloatArray, wall: FloatArray, width: float) -> FloatArray:
    """Log sigma (k, S), ascending: the whole range coarsely, where humps can be finely."""
    wide = centre[:, None] + np.linspace(-_REACH, _REACH, 70)
    span = reach - centre
    if (span > 0).any():
        count = int(np.clip(np.ceil(span.max() / width) + 9, 9, _HUMP_NODES))
        fine = centre[:, None] - 4 * width + (span + 8 * width)[:, None] * np.linspace(0.0, 1.0, count)
        wide = np.sort(np.concatenate([wide, fine], axis=1), axis=1)
    return np.asarray(np.minimum(wide, wall[:, None]))


def _zoom(
    at: Callable[[FloatArray, IntArray | None], FloatArray], z: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Peak, its height, a step over which it falls by little, and its width; all (k,)."""
    share = np.linspace(0.0, 1.0, _SECTIONS + 1)
    around, heights = _highest(z, values)
    for _ in range(_ZOOMS):
        fall = heights[:, 1] - heights[:, ::2].min(axis=1)
        active = np.flatnonzero(fall > SPACING)
        if not active.size:
            break
        low, high = around[active, 0], around[active, 2]
        again = low[:, None] + (high - low)[:, None] * share
        around[active], heights[active] = _highest(again, at(again, active))
    step = np.maximum(0.5 * (around[:, 2] - around[:, 0]), 1e-15)
    with np.errstate(invalid="ignore", divide="ignore"):
        bend = 2.0 * heights[:, 1] - heights[:, 0] - heights[:, 2]
        width = np.where(bend > 0, step / np.sqrt(bend), np.inf)
    return around[:, 1], heights[:, 1], step, width


def _highest(z: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The highest node of each row between its neighbours, (k, 3), and the values there."""
    best = np.argmax(values, axis=1)
    index = np.stack([np.maximum(best - 1, 0), best, np.minimum(best + 1, z.shape[1] - 1)], axis=1)
    return np.take_along_axis(z, index, axis=1), np.take_along_axis(values, index, axis=1)


def _end(
    at: Callable[[FloatArray, IntArray | None], FloatArray],
    mode: FloatArray,
    top: FloatArray,
    step: FloatArray,
    side: float,
    wall: FloatArray,
) -> FloatArray:
    """Where on one side the integrand has fallen by the depth, or the wall: (k,), up to an eighth too far."""
    doublings = int(np.ceil(np.log2(2.0 * _REACH / step.min()))) + 1
    distance = np.minimum(step[:, None] * 2.0 ** np.arange(-1, doublings), 2.0 * _REACH)
    limit = top[:, None] - DEPTH
    below = ~(at(np.minimum(mode[:, None] + side * distance, wall[:, None]), None) > limit)
    rows = np.arange(mode.size)
    first = np.where(below.any(axis=1), np.argmax(below, axis=1), distance.shape[1] - 1)
    far = distance[rows, first]
    near = np.where(first > 0, distance[rows, np.maximum(first - 1, 0)], 0.0)
    finer = near[:, None] + (far - near)[:, None] * np.linspace(0.0, 1.0, 9)[1:]
    below = ~(at(np.minimum(mode[:, None] + side * finer, wall[:, None]), None) > limit)
    below[:, -1] = True
    return np.asarray(mode + side * finer[rows, np.argmax(below, axis=1)])
