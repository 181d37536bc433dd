"""Searches for the ends of profile intervals: where they start, all at once, and one at a time where that fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri

from bayeslmm.inference.profile_coordinates import ProfileTarget, axis, relative_lengths, signed_lengths
from bayeslmm.inference.profile_criterion import ProfiledCriterion
from bayeslmm.inference.profile_many import Search, find_ends
from bayeslmm.numerics.newton import NewtonResult, Point, Trial, minimise
from bayeslmm.numerics.newton_many import minimise_many
from bayeslmm.types import FloatArray, IntArray

# Evaluations for the check that no minimum lower than this is missed at an end.
_RECHECK = 60
_LOWER = 1e-5
# Standard deviations and coefficients in units of the fit beyond which there is taken to be no end. On a ridge the
# covariance of y is a difference of ever larger variances, of which nothing would be left further out.
_FAR = 1e6
_FAR_ON_A_RIDGE = 1e4
# On a ridge that ends at a residual of zero, sigma is followed down to this share of the fit's: the criterion differs
# from its limit by about the square.
_LOWEST = 1e-5


@dataclass(frozen=True)
class Start:
    """Minima that searches start from, one for each (target, response).

    Attributes
    ----------
    target, response : IntArray, shape (S,)
    x : FloatArray, shape (S, d)
    u : FloatArray, shape (S, k + 2)
    minimum : FloatArray, shape (S,)
    """

    target: IntArray
    response: IntArray
    x: FloatArray
    u: FloatArray
    minimum: FloatArray


def minima(criterion: ProfiledCriterion, n_responses: int) -> Start:
    """Minima of the criteria of all targets and responses: the fits, or what is near them for a fixed effect."""
    T, everyone = len(criterion.axes), np.arange(n_responses)
    target, response = np.repeat(np.arange(T), n_responses), np.tile(everyone, T)
    both = [criterion.starts(t, everyone) for t in range(T)]
    x, u = (np.concatenate(parts) for parts in zip(*both, strict=True))
    minimum = np.empty(x.shape[0])
    moved = np.array([criterion.reml and criterion.axes[t].target.kind == "fixed" for t in target])
    rows = np.flatnonzero(moved)
    if rows.size:
        # The other fixed effects are integrated out, so that the minimum is not that of the REML criterion.
        x[rows], minimum[rows] = _minimise_all(criterion, x[rows], u[rows], target[rows], response[rows])
    rows = np.flatnonzero(~moved)
    if rows.size:
        minimum[rows] = criterion.expand(x[rows], u[rows], target[rows], response[rows])[0]
    return Start(target, response, x, u, minimum)


def _minimise_all(
    criterion: ProfiledCriterion, x: FloatArray, u: FloatArray, target: IntArray, response: IntArray
) -> tuple[FloatArray, FloatArray]:
    if criterion.exact:
        found = minimise_many(lambda at, k: criterion.expand(at, u[k], target[k], response[k]), x)
        return found.x, found.value
    out = [minimise_others(criterion, x[k], u[k], int(target[k]), int(response[k])) for k in range(x.shape[0])]
    return np.array([one.x for one in out]), np.array([one.value for one in out])


def minimise_on_a_ridge(
    criterion: ProfiledCriterion, x: FloatArray, u: FloatArray, target: int, response: int, t: float
) -> NewtonResult:
    """`minimise_others` on a ridge, along which sigma may go to zero.

    The criterion is a function of the square of sigma there, and of covariances in units of the response, which do not
    change while sigma does. In log sigma and ratios it has no minimum, and Newton's method would take one small step
    after the other along a bent valley. The coordinates are lengths in units of the fit's sigma, and s with
    ``sigma^2 = s^2 + lowest^2`` in the same.
    """
    axes = criterion.axes[target]
    places = np.flatnonzero(axes.order == criterion.n_terms)
    scale = int(places[0]) - 1 if places.size else -1
    if scale < 0:
        return minimise_others(criterion, x, u, target, response, t)
    (own, powers), signed = relative_lengths(criterion.pieces, axes), signed_lengths(criterion.pieces, axes)

    def evaluate(free: FloatArray) -> Trial:
        if (free[signed] < 0).any():
            # Beyond a length of zero the correlation is the opposite of what is held: another point of the profile.
            return Trial(np.inf, lambda: Point(free, np.inf, free, np.empty((free.size, free.size))))
        point, slope, bend = _from_lengths(free, scale, own, powers)
        f, g, H = criterion.expand(np.append(t, point)[None], u[None], np.array([target]), np.array([response]))
        gradient, hessian = g[0, 1:], H[0, 1:, 1:]
        J = np.eye(free.size)
        shrink, along = np.exp(-point[scale] / powers), slope / powers
        J[own, own], J[own, scale], J[scale, scale] = shrink, -along * point[own], slope
        hessian = J.T @ hessian @ J
        hessian[own, scale] -= gradient[own] * shrink * along
        hessian[scale, own] -= gradient[own] * shrink * along
        hessian[scale, scale] += bend * gradient[scale] + (gradient[own] * (along**2 - bend / powers)) @ point[own]
        value = float(f[0]) if np.isfinite(f[0]) else np.inf
        made = Point(free, value, gradient @ J, hessian, criterion.exact)
        return Trial(value, lambda: made, max(1e-11, 4e-14 * abs(value)))

    begin = x[1:].copy()
    begin[own] *= np.exp(begin[scale] / powers)
    begin[scale] = np.sqrt(max(np.exp(2.0 * begin[scale]) - _LOWEST**2, 0.0))
    found = minimise(evaluate, begin)
    return replace(found, x=_from_lengths(found.x, scale, own, powers)[0])


def _from_lengths(free: FloatArray, scale: int, own: IntArray, powers: FloatArray) -> tuple[FloatArray, float, float]:
    """Coordinates relative to sigma, with its log, and the first two derivatives of that."""
    point, s = free.copy(), float(free[scale])
    square = s * s + _LOWEST**2
    point[scale] = 0.5 * np.log(square)
    point[own] /= np.sqrt(square) ** (1.0 / powers)
    return point, s / square, (_LOWEST**2 - s * s) / square**2


def minimise_others(
    criterion: ProfiledCriterion, x: FloatArray, u: FloatArray, target: int, response: int, t: float | None = None
) -> NewtonResult:
    """Minimise over all coordinates, or with the target's held at t over the others."""
    first = 0 if t is None else 1

    def evaluate(free: FloatArray) -> Trial:
        point = free if t is None else np.append(t, free)
        one = criterion.expand(point[None], u[None], np.array([target]), np.array([response]))
        value = float(one[0][0]) if np.isfinite(one[0][0]) else np.inf
        made = Point(free, value, one[1][0, first:], one[2][0, first:, first:], criterion.exact)
        return Trial(value, lambda: made, max(1e-11, 4e-14 * abs(value)))

    return minimise(evaluate, x[first:])


def without_an_effect(criterion: ProfiledCriterion, start: Start) -> FloatArray:
    """Lowest criteria (S,) at which an effect of a correlation has no variance; inf for other targets.

    Every correlation that no other effects have too is one of such a model, so that its profile is nowhere higher.
    """
    lowest = np.full(start.target.size, np.inf)
    pairs = [
        (t, ProfileTarget("sd", a.target.term, (effect,)))
        for t, a in enumerate(criterion.axes)
        if a.target.kind == "corr" and a.structure is not None
        for effect in a.structure.freed_by(a.target.effects)
    ]
    if not pairs:
        return lowest
    targets = list(dict.fromkeys(one for _, one in pairs))
    axes = tuple(axis(criterion.cp, criterion.held, one) for one in targets)
    others = replace(criterion, axes=axes)
    n_responses = int(start.response.max()) + 1
    value = _at_zero(others, n_responses)
    for t, one in pairs:
        rows = np.flatnonzero(start.target == t)
        lowest[rows] = np.fmin(lowest[rows], value[targets.index(one), start.response[rows]])
    return lowest


def _at_zero(criterion: ProfiledCriterion, n_responses: int) -> FloatArray:
    """Criteria (targets, responses) with the target at zero, minimised over the others."""
    T, everyone = len(criterion.axes), np.arange(n_responses)
    target, response = np.repeat(np.arange(T), n_responses), np.tile(everyone, T)
    both = [criterion.starts(t, everyone) for t in range(T)]
    x, u = (np.concatenate(parts) for parts in zip(*both, strict=True))
    x[:, 0] = 0.0
    if not criterion.exact:
        out = [minimise_others(criterion, x[k], u[k], int(target[k]), int(response[k]), 0.0) for k in range(len(x))]
        return np.array([one.value for one in out]).reshape(T, n_responses)

    def function(free: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        point = np.column_stack([np.zeros(which.size), free])
        f, g, H = criterion.expand(point, u[which], target[which], response[which])
        return f, g[:, 1:], H[:, 1:, 1:]

    return minimise_many(function, x[:, 1:]).value.reshape(T, n_responses)


def search_ends(
    criterion: ProfiledCriterion, start: Start, level: float, again: bool = False, ridge: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Coordinates of the lower and upper ends (S,); `again`: look for lower minima at the ends found."""
    S = start.target.size
    which = np.tile(np.arange(S), 2)
    side = np.repeat([-1.0, 1.0], S)
    ends = np.array([criterion.axes[t].ends for t in start.target])
    ends = ends / criterion.units(start.target, start.response)[:, :1]
    kinds = np.array([criterion.axes[t].target.kind for t in start.target])[which]
    size = np.abs(start.x[which, 0])
    relative = np.isin(kinds, ["sd", "ratio"])
    search = Search(
        lambda x, k: criterion.expand(x, start.u[which[k]], start.target[which[k]], start.response[which[k]]),
        start.x[which],
        start.minimum[which],
        float(chdtri(1, 1.0 - level)),
        side,
        np.concatenate([ends[:, 0], ends[:, 1]]),
        relative,
        np.where(relative, np.maximum(1.0, size), np.where(kinds == "fixed", 4.0, 0.7)),
        np.where(kinds == "sigma", 28.0, (_FAR_ON_A_RIDGE if ridge else _FAR) * np.maximum(1.0, size)),
    )
    t = find_ends(search).t
    anything = np.tile(without_an_effect(criterion, start) - start.minimum < search.cut, 2)
    t[anything] = search.end[anything]
    failed = np.flatnonzero(np.isnan(t) & np.isfinite(search.minimum)).tolist()
    for k in failed:
        t[k] = _nested(criterion, start, int(which[k]), search, k, ridge=ridge)
    if again and criterion.exact:
        for k, x in _lower(search, t).items():
            t[k] = _nested(criterion, start, int(which[k]), search, k, (float(t[k]), x), ridge)
    return t[:S], t[S:]


def _lower(search: Search, t: FloatArray) -> dict[int, FloatArray]:
    """Ends where the criterion has a lower minimum, reached from the estimate, than the one that was followed."""
    rows = np.flatnonzero(np.isfinite(t))
    rows = rows[np.abs(t[rows] - search.end[rows]) > 1e-13]

    def function(free: FloatArray, which: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        f, g, H = search.function(np.column_stack([t[rows[which]], free]), rows[which])
        return f, g[:, 1:], H[:, 1:, 1:]

    if not rows.size:
        return {}
    found = minimise_many(function, search.start[rows, 1:], _RECHECK)
    rise = found.value - search.minimum[rows]
    return {int(rows[i]): found.x[i] for i in np.flatnonzero(rise < search.cut - _LOWER)}


def _nested(
    criterion: ProfiledCriterion,
    start: Start,
    s: int,
    search: Search,
    k: int,
    begin: tuple[float, FloatArray] | None = None,
    ridge: bool = False,
) -> float:
    """An end by minimising over the other coordinates at every value of the target, from `begin` on outwards."""
    from scipy.optimize import brentq

    t0, side, room = float(start.x[s, 0]), float(search.side[k]), float(search.room[k])
    path = {0.0: start.x[s, 1:]} if begin is None else {side * (begin[0] - t0): begin[1]}
    known: dict[float, float] = {}

    def excess(out: float) -> float:
        # Asked again, it would start nearer, and at a rounding error or another minimum could change its sign.
        if out not in known:
            known[out] = rise(out)
        return known[out]

    def rise(out: float) -> float:
        near = path[min(path, key=lambda known: abs(known - out))]
        found = (minimise_on_a_ridge if ridge else minimise_others)(
            criterion, np.append(0.0, near), start.u[s], int(start.target[s]), int(start.response[s]), t0 + side * out
        )
        path[out] = found.x
        return min(found.value, 1e300) - float(start.minimum[s]) - search.cut

    inside, step = next(iter(path)), 0.1 * float(search.reach[k])
    if excess(inside) >= 0:
        return t0 + side * inside
    while True:
        outside = min(inside + step, room)
        if excess(outside) > 0:
            out = float(brentq(excess, inside, outside, xtol=1e-13 * max(outside, 1e-300), rtol=1e-11))
            return t0 + side * out
        if outside >= room:
            return float(search.end[k])
        if outside > search.far[k]:
            return float(search.end[k]) if np.isfinite(search.end[k]) else side * np.inf
        inside, step = outside, 1.6 * step
