"""Where many criteria, each minimised over all coordinates but one, have risen by a given amount.

At an end of a profile interval the criterion is the minimum plus the cut, and its gradient in all other coordinates
is zero: equations that Newton's method solves from exact derivatives without minimising at every trial value
(Venzon & Moolgavkar 1988). A bracket, a trust radius and a limit to every step keep it on the profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.numerics.newton import CLOSE, FLAT, LONGEST
from bayeslmm.types import BoolArray, FloatArray, IntArray

type Function = Callable[[FloatArray, IntArray], tuple[FloatArray, FloatArray, FloatArray]]

# A predicted fall below this is close enough to the profile to go along it.
_SETTLED = 0.05
# The last step is this small: what is left is of the order of its square.
_LAST_STEP = 1e-6
_LAST_FALL = 1e-10
_NEAR = 1e-3
_MAX_EVALUATIONS = 80


@dataclass(frozen=True)
class Ends:
    """Ends of K profile intervals in the coordinate of the target.

    Attributes
    ----------
    t : FloatArray, shape (K,)
        The end; that of the coordinate's range (which may be infinite) where the cut is not reached before it; nan
        where the search failed.
    x : FloatArray, shape (K, d)
        All coordinates there.
    evaluations : IntArray, shape (K,)
    """

    t: FloatArray
    x: FloatArray
    evaluations: IntArray


@dataclass
class _Ends:
    """Of all searches; o is the distance of the target from the estimate, outwards. Updated in place."""

    x: FloatArray
    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    low: FloatArray
    high: FloatArray
    rise_low: FloatArray
    rise_high: FloatArray
    reach: FloatArray
    radius: FloatArray
    evaluations: IntArray
    running: BoolArray
    t: FloatArray


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes
    ----------
    function : callable
        Maps points (A, d) and the numbers (A,) of the searches to criteria, gradients and Hessians.
    start : FloatArray, shape (K, d)
        Minima of the criteria, target first.
    minimum : FloatArray, shape (K,)
        Criteria there.
    cut : float
    side : FloatArray, shape (K,)
        1 or -1.
    end : FloatArray, shape (K,)
        End of the range of the target's coordinate on that side.
    relative : BoolArray, shape (K,)
        Whether the end is to be right to a share of its size, not of the unit of the coordinate.
    reach, far : FloatArray, shape (K,)
        First step that is not too long; distance from the estimate beyond which there is taken to be no end.
    """

    function: Function
    start: FloatArray
    minimum: FloatArray
    cut: float
    side: FloatArray
    end: FloatArray
    relative: BoolArray
    reach: FloatArray
    far: FloatArray

    @property
    def room(self) -> FloatArray:
        """Distance from the estimate to the end of the range (K,)."""
        return np.asarray(self.side * (self.end - self.start[:, 0]))

    def distance(self, x: FloatArray, which: IntArray) -> FloatArray:
        """How far out the target is (A,)."""
        return np.asarray(self.side[which] * (x[:, 0] - self.start[which, 0]))


def find_ends(search: Search) -> Ends:
    """Find all ends together.

    Parameters
    ----------
    search : Search

    Returns
    -------
    Ends

    References
    ----------
    Venzon & Moolgavkar (1988), Applied Statistics 37, 87-94.
    """
    K = search.start.shape[0]
    everyone = np.arange(K)
    value, gradient, hessian = search.function(search.start, everyone)
    at_end = search.room <= 1e-13
    state = _Ends(
        search.start.copy(),
        value,
        gradient,
        hessian,
        np.zeros(K),
        np.full(K, np.inf),
        np.zeros(K),
        np.full(K, np.nan),
        search.reach.copy(),
        np.maximum(1.0, np.abs(search.start).max(axis=1)),
        np.ones(K, dtype=np.int64),
        ~at_end & np.isfinite(hessian).all(axis=(1, 2)),
        np.where(at_end, search.end, np.nan),
    )
    while True:
        state.running &= state.evaluations < _MAX_EVALUATIONS
        running = np.flatnonzero(state.running)
        if running.size == 0:
            return Ends(state.t, state.x, state.evaluations)
        _advance(search, state, running)


@dataclass(frozen=True)
class _Local:
    """The model of the criterion at the current points."""

    newton: FloatArray
    tangent: FloatArray
    fall: FloatArray
    saddle: BoolArray
    rise: FloatArray
    slope: FloatArray
    bend: FloatArray


def _model(search: Search, state: _Ends, which: IntArray) -> _Local:
    """Newton step of the other coordinates, how they follow the target, and the profile to second order."""
    H, g = state.hessian[which], state.gradient[which]
    curvature, vectors = np.linalg.eigh(H[:, 1:, 1:])
    largest = np.maximum(np.abs(curvature).max(axis=1, keepdims=True, initial=0.0), 1e-300)
    steep = np.maximum(np.abs(curvature), FLAT * largest)
    slope = (g[:, None, 1:] @ vectors)[:, 0]
    across = (H[:, None, 0, 1:] @ vectors)[:, 0]
    with np.errstate(over="ignore"):
        fall = (slope**2 / steep).sum(1)
        step, follow = (np.clip(-along / steep, -LONGEST, LONGEST) for along in (slope, across))
    down = curvature < -1e-7 * largest
    saddle = down.any(axis=1)
    if saddle.any():
        push = np.where(slope > 0, -0.5, 0.5) * state.radius[which, None]
        step = np.where(down & (np.abs(step) < np.abs(push)), push, step)
    side = search.side[which]
    return _Local(
        (vectors @ step[..., None])[..., 0],
        (vectors @ follow[..., None])[..., 0],
        fall,
        saddle,
        state.value[which] - 0.5 * fall - search.minimum[which],
        side * (g[:, 0] + (follow * slope).sum(1)),
        H[:, 0, 0] + (follow * across).sum(1),
    )


def _advance(search: Search, state: _Ends, which: IntArray) -> None:
    local = _model(search, state, which)
    settled = ~local.saddle & (local.fall < _SETTLED)
    out = search.distance(state.x[which], which)
    _narrow(search, state, which, local, settled, out)
    at_end = settled & (out >= search.room[which]) & (local.rise < search.cut) & (local.fall < 1e-4)
    lost = settled & (out > search.far[which]) & (local.rise < search.cut)
    state.t[which[at_end]] = search.end[which[at_end]]
    state.t[which[lost]] = np.where(np.isfinite(search.end), search.end, search.side * np.inf)[which[lost]]
    step = _outward(search, state, which, local, out)
    size = np.where(search.relative[which], np.abs(state.x[which, 0] + search.side[which] * step), 1.0)
    near = np.abs(local.rise - search.cut) < _NEAR * search.cut
    last = settled & near & (local.fall < _LAST_FALL) & (np.abs(step) <= _LAST_STEP * size) & ~at_end & ~lost
    limited, capped = _limit(search, state, which, local, step, out)
    move = np.where(last, step, np.where(settled, limited, 0.0))
    full = np.empty((which.size, state.x.shape[1]))
    full[:, 0] = search.side[which] * move
    full[:, 1:] = local.newton + local.tangent * full[:, :1]
    done = at_end | lost | last
    state.t[which[last]] = state.x[which[last], 0] + full[last, 0]
    state.x[which[last]] += full[last]
    state.running[which[done]] = False
    go = ~done
    if go.any():
        _try(search, state, which[go], full[go], settled[go], local.fall[go], capped[go])


def _narrow(search: Search, state: _Ends, which: IntArray, local: _Local, settled: BoolArray, out: FloatArray) -> None:
    """Brackets from points that are close enough to the profile to tell on which side of the end they are."""
    clear = settled & (np.abs(local.rise - search.cut) > 10.0 * local.fall + 1e-7)
    inner, outer = clear & (local.rise < search.cut), clear & (local.rise > search.cut)
    state.low[which[inner]], state.rise_low[which[inner]] = out[inner], local.rise[inner]
    state.high[which[outer]], state.rise_high[which[outer]] = out[outer], local.rise[outer]


def _outward(search: Search, state: _Ends, which: IntArray, local: _Local, out: FloatArray) -> FloatArray:
    """Step of the target to the end, by Newton's method for the root of the rise, which is close to linear."""
    rise = np.maximum(local.rise, 0.0)
    root, aim = np.sqrt(rise), np.sqrt(search.cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = 2.0 * root * (aim - root) / local.slope
        # At the minimum the slope says nothing.
        curve = np.sqrt(2.0 * np.maximum(search.cut - rise, 0.0) / local.bend)
    early = (rise < 0.01 * search.cut) | (local.slope <= 0)
    step = np.where(early, curve, along)
    return np.where(np.isfinite(step), step, state.reach[which])


def _limit(
    search: Search, state: _Ends, which: IntArray, local: _Local, step: FloatArray, out: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """The step within reach, bracket and range, and whether reach was what limited it."""
    reach, room = state.reach[which], search.room[which]
    capped = np.abs(step) >= reach
    new = out + np.clip(step, -reach, reach)
    low, high = state.low[which], state.high[which]
    known = np.isfinite(high)
    aim = np.sqrt(search.cut)
    below, above = np.sqrt(np.maximum(state.rise_low[which], 0.0)), np.sqrt(state.rise_high[which])
    with np.errstate(invalid="ignore"):
        share = np.clip((aim - below) / (above - below), 0.05, 0.95)
        between = low + share * (high - low)
    outside = known & ((new >= high) | (new <= low))
    new = np.where(outside, between, np.maximum(new, low))
    return np.minimum(new, room) - out, capped & ~outside


def _try(
    search: Search,
    state: _Ends,
    which: IntArray,
    full: FloatArray,
    settled: BoolArray,
    fall: FloatArray,
    capped: BoolArray,
) -> None:
    """Evaluate the step; along the profile it may rise, off it it must fall."""
    length = np.linalg.norm(full[:, 1:], axis=1)
    shrink = np.minimum(1.0, 2.0 * state.radius[which] / np.maximum(length, 1e-300))
    full = full * shrink[:, None]
    trial = state.x[which] + full
    # An end of the range is met exactly.
    room = search.room[which]
    close = np.isfinite(room) & (search.distance(trial, which) >= room * (1.0 - 1e-15))
    trial[close, 0] = search.end[which[close]]
    value, gradient, hessian = search.function(trial, which)
    state.evaluations[which] += 1
    finite = np.isfinite(value) & np.isfinite(hessian).all(axis=(1, 2))
    old = state.value[which]
    most = 3.0 * np.maximum(search.cut, old - search.minimum[which])
    noise = np.maximum(1e-11, 4e-14 * np.abs(old))
    lower = (value < old) | ((fall < CLOSE) & (value <= old + noise))
    accepted = finite & np.where(settled, value - search.minimum[which] < most, lower)
    moved = which[accepted]
    state.x[moved], state.value[moved] = trial[accepted], value[accepted]
    state.gradient[moved], state.hessian[moved] = gradient[accepted], hessian[accepted]
    grown = which[accepted & settled & capped]
    state.reach[grown] *= 2.0
    refused = ~accepted & settled
    state.reach[which[refused]] = 0.3 * np.abs(full[refused, 0])
    state.radius[which[refused]] = np.maximum(0.5 * np.minimum(state.radius[which], length)[refused], 1e-12)
    state.radius[which[~accepted & ~settled]] = 0.25 * (shrink * length)[~accepted & ~settled]
    grow = accepted & (shrink >= 1.0)
    state.radius[which[grow]] = np.maximum(state.radius[which[grow]], 2.0 * length[grow])
