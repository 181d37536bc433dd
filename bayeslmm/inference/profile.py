"""Profiles of a criterion for any one parameter of a fit, and intervals from them.

The criterion is the one that was fitted: a REML fit is profiled in the REML criterion. For a fixed effect of a REML
fit it is the likelihood with all other fixed effects integrated over a flat prior, since the REML criterion itself
knows no fixed effects. Ends are roots, not spline interpolations, and one-sided where the parameter's range ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from bayeslmm.errors import DesignError
from bayeslmm.inference.profile_coordinates import Axis, ProfileTarget, axis, from_value, to_value
from bayeslmm.inference.profile_criterion import ProfiledCriterion, reference
from bayeslmm.inference.profile_search import Start, minima, minimise_others, search_ends, without_an_effect
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import user_beta
from bayeslmm.likelihood.reduction import takes_responses
from bayeslmm.likelihood.replicates import reduce_responses
from bayeslmm.numerics.newton import Ending
from bayeslmm.reml import Optimum
from bayeslmm.reml.many import Optima
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Responses whose ends are looked for together.
_TOGETHER = 4096
# Share of the cut by which the criterion may miss it at an end that was found.
_SAME_RISE = 1e-3


def _values(criterion: ProfiledCriterion, start: Start, t: FloatArray, beta: FloatArray) -> FloatArray:
    """Values of the parameters in the user's units from their coordinates (S,)."""
    t, out = t.copy(), np.empty(t.size)
    for i, a in enumerate(criterion.axes):
        rows = np.flatnonzero(start.target == i)
        response = start.response[rows]
        sigma = criterion.base.sigma[response]
        t[rows] = t[rows] * criterion.units(start.target[rows], response)[:, 0]
        if a.target.kind == "fixed":
            unit = criterion.base.unit(np.broadcast_to(a.functional, (rows.size, a.functional.size)), response)
            out[rows] = beta[response, a.target.term] + unit * t[rows]
        else:
            out[rows] = to_value(a, t[rows], sigma)
    return out


def profile_ends(
    cp: SummedDesign, optimum: Optimum, targets: Sequence[ProfileTarget], level: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Profile intervals of several parameters of a fit.

    Parameters
    ----------
    cp : SummedDesign
    optimum : Optimum
        The criterion profiled is the one that was minimised.
    targets : sequence of ProfileTarget
    level : float

    Returns
    -------
    low, high : FloatArray, shape (T,)
        Units of the parameters. Where the cut is not reached before, the end of the parameter's range (0, +-1, inf). A
        term that was fixed keeps its ratio to sigma: its sd has the interval of sigma, its correlations have both
        ends at their values.

    References
    ----------
    Venzon & Moolgavkar (1988), Applied Statistics 37, 87-94.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> low, high = profile_ends(fit.cp, fit.optimum, [ProfileTarget("sd", 0, (0,)), ProfileTarget("sigma")])
    >>> low.round(3), high.round(3)
    (array([15.657, 38.23 ]), array([101.066,  67.658]))
    """
    low, high = np.full(len(targets), np.nan), np.full(len(targets), np.nan)
    if not optimum.sigma > 0:
        return low, high
    free = [t for t in targets if not _is_held(optimum, t)]
    sigma = ProfileTarget("sigma")
    # What is held relative to sigma has its interval, if it is not known.
    moves = len(free) < len(targets) and cp.sigma is None
    asked = list(dict.fromkeys([*free, *([sigma] if moves else [])]))
    if not asked:
        values = np.array([_held_value(optimum, t)[0] for t in targets])
        return values, values.copy()
    criterion = _criterion(cp, optimum, asked)
    start = minima(criterion, 1)
    beta = user_beta(cp, criterion.base.solution)
    ends = search_ends(criterion, start, level, True, bool(optimum.ridges))
    a, b = (
        np.where(_out_of_reach(criterion, start, t, level), np.nan, _values(criterion, start, t, beta)) for t in ends
    )
    a, b = np.minimum(a, b), np.maximum(a, b)
    for i, target in enumerate(targets):
        if not _is_held(optimum, target):
            low[i], high[i] = a[asked.index(target)], b[asked.index(target)]
            continue
        estimate, share = _held_value(optimum, target)
        k = asked.index(sigma) if moves else 0
        low[i], high[i] = (estimate, estimate) if share == 0 else (share * a[k], share * b[k])
    return low, high


def _out_of_reach(criterion: ProfiledCriterion, start: Start, ends: FloatArray, level: float) -> BoolArray:
    """Ends (A,) at which a correlation that is no coordinate by itself has met the edge of what is possible.

    There another correlation matrix may be better that is singular, which its coordinates do not reach.
    """
    found, cut = np.zeros(ends.size, dtype=bool), float(ndtri(0.5 + level / 2.0)) ** 2
    for k, a in enumerate(criterion.axes):
        unit = float(criterion.units(np.array([k]), np.zeros(1, dtype=int))[0, 0])
        inside = a.ends[0] < ends[k] * unit < a.ends[1]
        if a.solved is None or a.solved[1] == 0 or not inside:
            continue
        t = float(ends[k])
        with np.errstate(all="ignore"):
            again = minimise_others(criterion, np.append(t, start.x[k, 1:]), start.u[k], k, 0, t)
        rise = again.value - float(start.minimum[k])
        found[k] = again.ending is not Ending.converged or not abs(rise - cut) < _SAME_RISE * cut
    return found


def _criterion(cp: SummedDesign, optimum: Optimum, targets: Sequence[ProfileTarget]) -> ProfiledCriterion:
    base = reference(cp, optimum.factors, np.array([optimum.sigma]))
    axes = tuple(axis(cp, optimum.fixed, target) for target in targets)
    return ProfiledCriterion(cp, optimum.reml, optimum.fixed, base, axes)


def expand_at_estimate(
    cp: SummedDesign, optimum: Optimum, targets: Sequence[ProfileTarget]
) -> tuple[tuple[Axis, ...], FloatArray, FloatArray]:
    """Coordinates of several targets, x (T, d) at the estimate and Hessians (T, d, d) of the criterion there."""
    criterion = _criterion(cp, optimum, targets)
    which = np.arange(len(targets))
    return criterion.axes, *criterion.expand_at_estimates(which, np.zeros_like(which))


def _is_held(optimum: Optimum, target: ProfileTarget) -> bool:
    return target.kind in ("sd", "corr", "ratio") and target.term in optimum.fixed


def _held_value(optimum: Optimum, target: ProfileTarget) -> tuple[float, float]:
    """Estimate of a parameter of a term that was fixed, and its share of sigma if it moves with it."""
    T = optimum.terms[target.term]
    sd = np.sqrt((T**2).sum(-1))
    first = float(sd[target.effects[0]])
    if target.kind == "sd":
        return first * optimum.sigma, first if optimum.cp.sigma is None else 0.0
    if target.kind == "ratio":
        return first**2, 0.0
    a, b = target.effects
    both = float(sd[a] * sd[b])
    return (float(T[a] @ T[b]) / both if both > 0 else 0.0), 0.0


def profile_ends_many(
    cp: SummedDesign, Y: FloatArray, optima: Optima, target: ProfileTarget, level: float = 0.95, reml: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Profile intervals of one parameter for many responses of one design.

    Parameters
    ----------
    cp : SummedDesign
    Y : FloatArray, shape (n, K)
        Units of y.
    optima : Optima
        ``optimise_many(cp, Y, reml)``.
    target : ProfileTarget
    level : float
    reml : bool

    Returns
    -------
    low, high : FloatArray, shape (K,)
        As of `profile_ends`; nan for a response that is fitted without residual.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.reml.many import optimise_many
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> Y = fit.design.y[:, None] * [1.0, 2.0]
    >>> low, high = profile_ends_many(fit.cp, Y, optimise_many(fit.cp, Y), ProfileTarget("sigma"))
    >>> high.round(2)
    array([ 67.66, 135.32])
    """
    low, high = np.full(Y.shape[1], np.nan), np.full(Y.shape[1], np.nan)
    for rows, criterion in criteria_many(cp, Y, optima, target, reml):
        start = minima(criterion, rows.size)
        a, b = (_values(criterion, start, t, optima.beta[rows]) for t in search_ends(criterion, start, level))
        low[rows], high[rows] = np.minimum(a, b), np.maximum(a, b)
    return low, high


def criteria_many(
    cp: SummedDesign, Y: FloatArray, optima: Optima, target: ProfileTarget, reml: bool
) -> Iterator[tuple[IntArray, ProfiledCriterion]]:
    """Responses that leave a residual, some at a time, with their criteria in coordinates that start with a target."""
    usable = np.flatnonzero(optima.sigma > 0)
    together = takes_responses(cp)
    step = _TOGETHER if together else 1
    for k in range(0, usable.size, step):
        rows = usable[k : k + step]
        terms = [T[rows] for T in optima.terms]
        own = cp if together else cross_products(replace(cp.design, y=Y[:, rows[0]]))
        replicates = reduce_responses(cp, Y[:, rows]).replicates if together else None
        base = reference(own, par.block_factors(own, terms), optima.sigma[rows], replicates)
        yield rows, ProfiledCriterion(own, reml, (), base, (axis(own, (), target),))


class Profile:
    """The criterion as a function of one parameter, minimised over all others.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    target : ProfileTarget

    Attributes
    ----------
    estimate : float
        Where the profile has its minimum, units of the parameter.
    minimum : float
        Criterion there.
    """

    def __init__(self, cp: SummedDesign, optimum: Optimum, target: ProfileTarget) -> None:
        self.target = target
        self._held = _is_held(optimum, target)
        self._criterion = _criterion(cp, optimum, [ProfileTarget("sigma") if self._held else target])
        self._start = minima(self._criterion, 1)
        self.minimum = float(self._start.minimum[0])
        self._beta = user_beta(cp, self._criterion.base.solution)
        self._share = 1.0
        if self._held:
            self.estimate, self._share = _held_value(optimum, target)
        else:
            self.estimate = float(_values(self._criterion, self._start, self._start.x[:, 0], self._beta)[0])
        self._path = {float(self._start.x[0, 0]): (self._start.x[0, 1:], self.minimum)}

    @property
    def _axis(self) -> Axis:
        return self._criterion.axes[0]

    @property
    def range(self) -> tuple[float, float]:
        """Ends of the values that the target can take."""
        if self.target.kind == "fixed":
            return -np.inf, np.inf
        if self.target.kind != "corr":
            return 0.0, np.inf
        return self._axis.structure.correlation_range if self._axis.structure is not None else (-1.0, 1.0)

    @property
    def constant(self) -> bool:
        """Whether the target was fixed and does not move with sigma either."""
        return self._held and self._share == 0

    def __call__(self, value: float) -> float:
        """Criterion at a value of the parameter, minimised over the others."""
        self._check(value)
        if value == 0 and self._axis.target.kind == "sigma":
            return float("inf")
        t = self._coordinate(float(value))
        if t not in self._path:
            near = self._path[min(self._path, key=lambda known: abs(known - t))][0]
            found = minimise_others(self._criterion, np.append(t, near), self._start.u[0], 0, 0, t)
            self._path[t] = found.x, found.value
        return min(self._path[t][1], self._highest)

    @cached_property
    def _highest(self) -> float:
        """The criterion of a correlation is nowhere above this."""
        return float(without_an_effect(self._criterion, self._start)[0])

    def _coordinate(self, value: float) -> float:
        base = self._criterion.base
        if self.target.kind != "fixed":
            whole = float(from_value(self._axis, np.array(value / self._share), base.sigma[0]))
            return whole / float(self._criterion.units(*np.zeros((2, 1), dtype=int))[0, 0])
        unit = base.unit(self._axis.functional[None], np.zeros(1, dtype=int))[0]
        return float((value - self._beta[0, self.target.term]) / unit)

    def _check(self, value: float) -> None:
        low, high = self.range
        if self.constant or not low - 1e-12 <= value <= high + 1e-12:
            what = "was fixed and has no profile" if self.constant else f"takes values from {low:.4g} to {high:g}"
            raise DesignError(
                f"The parameter profiled {what}; {value:g} was asked for. Its estimate is {self.estimate:g}."
            )


def profile_curve(profile: Profile, values: FloatArray) -> FloatArray:
    """Criterion over a grid of values, walked outwards from the estimate so that every start is near."""
    out = np.empty(values.size)
    for k in np.argsort(np.abs(values - profile.estimate)):
        out[k] = profile(float(values[k]))
    return out
