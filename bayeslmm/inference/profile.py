"""Profile of the fitted criterion for one standard deviation, correlation or sigma, and intervals from it.

The criterion is the one that was fitted: a REML fit is profiled in the REML criterion. Ends are roots, not
spline interpolations, and one-sided where the parameter's range ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2

from bayeslmm.likelihood import evaluate, minus_two_log_density
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.numerics.differences import trials
from bayeslmm.numerics.newton import minimise
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class ProfileTarget:
    """The parameter to profile.

    Attributes
    ----------
    kind : {"sd", "corr", "sigma"}
    term : int
        Position in ``design.terms`` (not for sigma).
    effects : tuple of int
        The effect, or the pair of a correlation.
    """

    kind: str
    term: int = -1
    effects: tuple[int, ...] = ()


class Profile:
    """The criterion as a function of one parameter, minimised over all others.

    Coordinates of the others are absolute: entries of the lower factor of every term's covariance (effects of
    the target's term permuted so that the target comes first), scaled to the fit, and log sigma.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    target : ProfileTarget
    """

    def __init__(self, cp: CrossProducts, optimum: Optimum, target: ProfileTarget) -> None:
        self._cp, self._optimum, self.target = cp, optimum, target
        self._order = self._permutation()
        self._scales = self._term_scales()
        self.estimate = self._read(optimum)
        self.minimum = float(minus_two_log_density(cp, optimum.factor, np.array([optimum.sigma]), optimum.reml)[0])
        self._start = self._free_at_optimum()
        self._path: dict[float, FloatArray] = {self.estimate: self._start}
        self._values: dict[float, float] = {self.estimate: self.minimum}

    def __call__(self, value: float) -> float:
        """Criterion at a value of the parameter, minimised over the others."""
        value = float(value)
        if value not in self._values:
            near = min(self._path, key=lambda known: abs(known - value))
            best = self._minimise(value, self._path[near])
            if near != self.estimate and best.value > self.minimum + 50.0:
                again = self._minimise(value, self._start)
                best = again if again.value < best.value else best
            self._path[value], self._values[value] = best.x, best.value
        return self._values[value]

    def _minimise(self, value: float, start: FloatArray):  # type: ignore[no-untyped-def]
        def criterion(free: FloatArray) -> FloatArray:
            return self._criterion(value, free)

        if start.size == 0:
            from bayeslmm.numerics.newton import Point

            return Point(start, float(criterion(start[None])[0]), start, np.zeros((0, 0)))
        return minimise(trials(criterion), start, max_evaluations=80)

    def _permutation(self) -> list[list[int]]:
        orders = [list(range(len(term.effects))) for term in self._cp.design.terms]
        if self.target.kind != "sigma":
            first = list(self.target.effects)
            rest = [k for k in orders[self.target.term] if k not in first]
            orders[self.target.term] = first + rest
        return orders

    def _term_scales(self) -> list[FloatArray]:
        weights = self._cp.design.weights
        scales = []
        for term, T in zip(self._cp.design.terms, self._optimum.terms, strict=True):
            w = 1.0 if weights is None else weights[:, None]
            rms = np.sqrt((w * term.Z**2).mean(0))
            fitted = np.sqrt((T**2).sum(-1))
            scales.append(self._optimum.sigma * np.maximum(fitted, 0.3 / np.where(rms > 0, rms, 1.0)))
        return scales

    def _absolute(self, i: int) -> FloatArray:
        """Lower factor of term i at the optimum, effects permuted."""
        order = self._order[i]
        T = self._optimum.terms[i][order] * self._optimum.sigma
        if not self._cp.design.terms[i].structure.basis_free:
            return np.asarray(np.diag(np.sqrt((T**2).sum(-1))))
        return np.asarray(par.canonical(T[None])[0])

    def _read(self, optimum: Optimum) -> float:
        if self.target.kind == "sigma":
            return optimum.sigma
        C = self._absolute(self.target.term)
        if self.target.kind == "sd":
            return float(C[0, 0])
        size = float(np.hypot(C[1, 0], C[1, 1]))
        return float(C[1, 0] / size) if size > 0 else 0.0

    def _entries(self, i: int) -> list[tuple[int, int]]:
        """Free entries of the permuted factor of term i, without those the target fixes."""
        structure = self._cp.design.terms[i].structure
        entries = list(zip(structure.rows.tolist(), structure.cols.tolist(), strict=True))
        if i == self.target.term and self.target.kind == "sd":
            entries.remove((0, 0))
        if i == self.target.term and self.target.kind == "corr":
            entries.remove((1, 0))
        return entries

    def _free_at_optimum(self) -> FloatArray:
        free = []
        for i in range(len(self._cp.design.terms)):
            C, scale = self._absolute(i), self._scales[i][self._order[i]]
            for a, b in self._entries(i):
                entry = C[a, b]
                if self.target.kind == "corr" and i == self.target.term and (a, b) == (1, 1):
                    entry = np.hypot(C[1, 0], C[1, 1])
                free.append(entry / scale[a])
        if self.target.kind != "sigma":
            free.append(np.log(self._optimum.sigma))
        return np.array(free)

    def _criterion(self, value: float, free: FloatArray) -> FloatArray:
        K, position = free.shape[0], 0
        sigma = np.full(K, value)
        if self.target.kind != "sigma":
            sigma = np.exp(np.clip(free[:, -1], -700, 700))
        terms = []
        for i, term in enumerate(self._cp.design.terms):
            c, scale = len(term.effects), self._scales[i][self._order[i]]
            C = np.zeros((K, c, c))
            for a, b in self._entries(i):
                C[:, a, b] = free[:, position] * scale[a]
                position += 1
            if i == self.target.term:
                self._fix(C, value)
            back = np.argsort(self._order[i])
            terms.append(C[:, back] / sigma[:, None, None])
        try:
            factor = evaluate(self._cp, par.block_factors(self._cp, terms))
        except np.linalg.LinAlgError:
            return np.full(K, 1e300)
        out = minus_two_log_density(self._cp, factor, sigma, self._optimum.reml)
        return np.where(np.isfinite(out), out, 1e300)

    def _fix(self, C: FloatArray, value: float) -> None:
        if self.target.kind == "sd":
            C[:, 0, 0] = value
        elif self.target.kind == "corr":
            size = C[:, 1, 1].copy()
            C[:, 1, 0] = value * size
            C[:, 1, 1] = size * np.sqrt(max(1.0 - value**2, 0.0))


def profile_interval(profile: Profile, level: float = 0.95) -> tuple[float, float]:
    """Interval of the values whose profiled criterion rises by less than the chi-square quantile.

    Parameters
    ----------
    profile : Profile
    level : float

    Returns
    -------
    tuple of float
        Lower and upper end; 0 or +-1 where the parameter's range ends first.
    """
    cut = profile.minimum + float(chi2.ppf(level, 1))

    def excess(value: float) -> float:
        return profile(value) - cut

    if profile.target.kind == "corr":
        return _towards(excess, profile.estimate, -1.0), _towards(excess, profile.estimate, 1.0)
    if profile.estimate <= 0:
        return 0.0, _outwards(excess, *_first_step(profile))
    lower = 0.0
    if profile.target.kind == "sigma" or excess(0.0) > 0:
        lower = _downwards(excess, profile.estimate)
    return lower, _outwards(excess, profile.estimate, 1.4 * profile.estimate)


def _first_step(profile: Profile) -> tuple[float, float]:
    scale = float(profile._scales[profile.target.term][profile.target.effects[0]])
    return 0.0, scale


def _towards(excess: Callable[[float], float], estimate: float, end: float) -> float:
    """Root between the estimate and the end of the range, or the end."""
    inside, step = estimate, 0.25
    while True:
        outside = inside + step * (end - inside)
        if abs(end - outside) < 1e-7:
            return end
        if excess(outside) > 0:
            return float(brentq(excess, inside, outside, xtol=1e-11, rtol=1e-11))
        inside, step = outside, min(2 * step, 0.7)


def _downwards(excess: Callable[[float], float], estimate: float) -> float:
    inside = estimate
    while True:
        outside = 0.7 * inside
        if excess(outside) > 0:
            return float(brentq(excess, outside, inside, xtol=1e-14 * estimate, rtol=1e-10))
        inside = outside
        if inside < 1e-12 * estimate:
            return 0.0


def _outwards(excess: Callable[[float], float], inside: float, outside: float) -> float:
    while excess(outside) < 0:
        inside, outside = outside, 1.6 * outside
        if not np.isfinite(outside) or outside > 1e12 * max(inside, 1e-300):
            return float("inf")
    return float(brentq(excess, inside, outside, xtol=1e-14 * outside, rtol=1e-10))


def profile_curve(profile: Profile, values: FloatArray) -> FloatArray:
    """Criterion over a grid of values, walked outwards from the estimate so that every start is near."""
    out = np.empty(values.size)
    for k in np.argsort(np.abs(values - profile.estimate)):
        out[k] = profile(float(values[k]))
    return out
