"""Profile of the fitted criterion for one standard deviation, correlation or sigma, and intervals from it.

The criterion is the one that was fitted: a REML fit is profiled in the REML criterion. Ends are roots, not
spline interpolations, and one-sided where the parameter's range ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri

from bayeslmm.design.covariance import CovarianceStructure, Diagonal, canonical
from bayeslmm.design.shared import Shared
from bayeslmm.errors import DesignError
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
    the target's term permuted so that the target comes first), or the coordinates of a structure whose effects share
    an sd, scaled to the fit; and log sigma. A term that was fixed stays so in relation to sigma, so that its sd has
    the profile of sigma.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    target : ProfileTarget
    """

    def __init__(self, cp: CrossProducts, optimum: Optimum, target: ProfileTarget) -> None:
        self._cp, self._optimum, self.target = cp, optimum, target
        self._fixed = target.term in optimum.fixed
        self._order = self._permutation()
        self._scales = self._term_scales()
        self.estimate = self._read(optimum)
        self.minimum = float(minus_two_log_density(cp, optimum.factor, np.array([optimum.sigma]), optimum.reml)[0])
        self._own = [self._term_at_optimum(i) for i in range(len(cp.design.terms))]
        self._start = self._free_at_optimum()
        self._path: dict[float, FloatArray] = {self.estimate: self._start}
        self._values: dict[float, float] = {self.estimate: self.minimum}

    def __call__(self, value: float) -> float:
        """Criterion at a value of the parameter, minimised over the others."""
        value = float(value)
        if self._fixed and value == 0 != self.estimate:
            return float("inf")
        if value not in self._values:
            self._check(value)
            near = min(self._path, key=lambda known: abs(known - value))
            best = self._minimise(value, self._path[near])
            if near != self.estimate and best.value > self.minimum + 50.0:
                again = self._minimise(value, self._start)
                best = again if again.value < best.value else best
            self._path[value], self._values[value] = best.x, best.value
        return self._values[value]

    def _check(self, value: float) -> None:
        low, high = self.range
        if self.constant or not low - 1e-12 <= value <= high + 1e-12:
            what = "was fixed and has no profile" if self.constant else f"takes values from {low:.4g} to {high:g}"
            raise DesignError(
                f"The parameter profiled {what}; {value:g} was asked for. Its estimate is {self.estimate:g}."
            )

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
        weights = self._cp.design.row_weights
        scales = []
        for term, T in zip(self._cp.design.terms, self._optimum.terms, strict=True):
            w = 1.0 if weights is None else weights[:, None]
            rms = np.sqrt((w * term.Z**2).sum(0) / self._cp.n)
            fitted = np.sqrt((T**2).sum(-1))
            scales.append(self._optimum.sigma * np.maximum(fitted, 0.3 / np.where(rms > 0, rms, 1.0)))
        return scales

    def _absolute(self, i: int) -> FloatArray:
        """Lower factor of term i at the optimum, effects permuted."""
        order = self._order[i]
        T = self._optimum.terms[i][order] * self._optimum.sigma
        if isinstance(self._structure(i), Diagonal):
            return np.asarray(np.diag(np.sqrt((T**2).sum(-1))))
        return np.asarray(canonical(T[None])[0])

    def _structure(self, i: int) -> CovarianceStructure:
        return self._cp.design.terms[i].structure

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
        structure = self._structure(i)
        entries = list(zip(structure.rows.tolist(), structure.cols.tolist(), strict=True))
        if i == self.target.term and self.target.kind == "sd":
            entries.remove((0, 0))
        if i == self.target.term and self.target.kind == "corr":
            entries.remove((1, 0))
        return entries

    def _free_at_optimum(self) -> FloatArray:
        free: list[float] = [x for own in self._own for x in own]
        if self.target.kind != "sigma" and not self._fixed:
            free.append(float(np.log(self._optimum.sigma)))
        return np.array(free)

    def _term_at_optimum(self, i: int) -> list[float]:
        if i in self._optimum.fixed:
            return []
        structure = self._structure(i)
        return self._shared_at_optimum(i, structure) if isinstance(structure, Shared) else self._entries_at_optimum(i)

    def _entries_at_optimum(self, i: int) -> list[float]:
        C, scale = self._absolute(i), self._scales[i][self._order[i]]
        free = []
        for a, b in self._entries(i):
            entry = C[a, b]
            if self.target.kind == "corr" and i == self.target.term and (a, b) == (1, 1):
                entry = np.hypot(C[1, 0], C[1, 1])
            free.append(float(entry / scale[a]))
        return free

    def _shared_at_optimum(self, i: int, structure: Shared) -> list[float]:
        """Coordinates of a structure with one sd; of the target's, the one of sd and correlation that is free."""
        theta = structure.theta(self._optimum.terms[i] * self._optimum.sigma)
        if i != self.target.term:
            x = structure.coordinates(theta)
            return list(np.where(structure.scales, x / self._scales[i][0], x))
        if self.target.kind == "corr":
            return [float(theta[0] / self._scales[i][0])]
        return [float(structure.angle(theta[1]))] if structure.correlated else []

    def _criterion(self, value: float, free: FloatArray) -> FloatArray:
        K, position = free.shape[0], 0
        sigma = np.full(K, self._sigma_of(value))
        if self.target.kind != "sigma" and not self._fixed:
            sigma = np.exp(np.clip(free[:, -1], -700, 700))
        terms = []
        for i in range(len(self._cp.design.terms)):
            part = free[:, position : position + len(self._own[i])]
            terms.append(self._relative(i, part, value, sigma))
            position += len(self._own[i])
        try:
            factor = evaluate(self._cp, par.block_factors(self._cp, terms))
        except np.linalg.LinAlgError:
            return np.full(K, 1e300)
        out = minus_two_log_density(self._cp, factor, sigma, self._optimum.reml)
        return np.where(np.isfinite(out), out, 1e300)

    def _relative(self, i: int, part: FloatArray, value: float, sigma: FloatArray) -> FloatArray:
        """Relative factors (K, c, c) of term i."""
        T, structure = self._optimum.terms[i], self._structure(i)
        if i in self._optimum.fixed:
            return np.broadcast_to(T, (part.shape[0], *T.shape))
        if isinstance(structure, Shared):
            return self._shared_factor(i, structure, part, value) / sigma[:, None, None]
        return self._entry_factor(i, part, value) / sigma[:, None, None]

    def _sigma_of(self, value: float) -> float:
        """Sigma, where the value of the target determines it."""
        if not self._fixed:
            return value
        return value / self.estimate * self._optimum.sigma

    def _entry_factor(self, i: int, part: FloatArray, value: float) -> FloatArray:
        scale = self._scales[i][self._order[i]]
        C = np.zeros((part.shape[0], scale.size, scale.size))
        for k, (a, b) in enumerate(self._entries(i)):
            C[:, a, b] = part[:, k] * scale[a]
        if i == self.target.term:
            self._fix(C, value)
        return np.asarray(C[:, np.argsort(self._order[i])])

    def _shared_factor(self, i: int, structure: Shared, part: FloatArray, value: float) -> FloatArray:
        scale = self._scales[i][0]
        if i != self.target.term:
            return structure.factor(np.where(structure.scales, part * scale, part))
        given = np.full(part.shape[0], value)
        if self.target.kind == "corr":
            theta = [part[:, 0] * scale, given]
        elif structure.correlated:
            theta = [given, structure.correlation(part[:, 0])]
        else:
            theta = [given]
        return structure.factor(structure.coordinates(np.stack(theta, axis=-1)))

    def _fix(self, C: FloatArray, value: float) -> None:
        if self.target.kind == "sd":
            C[:, 0, 0] = value
        elif self.target.kind == "corr":
            size = C[:, 1, 1].copy()
            C[:, 1, 0] = value * size
            C[:, 1, 1] = size * np.sqrt(max(1.0 - value**2, 0.0))

    @property
    def range(self) -> tuple[float, float]:
        """Ends of the values that the target can take."""
        if self.target.kind != "corr":
            return 0.0, np.inf
        structure = self._structure(self.target.term)
        return structure.correlation_range if isinstance(structure, Shared) else (-1.0, 1.0)

    @property
    def moves_sigma(self) -> bool:
        """Whether a value of the target is a value of sigma, so that zero is out of reach."""
        return self.target.kind == "sigma" or self._fixed

    @property
    def constant(self) -> bool:
        """Whether the target was fixed and does not move with sigma either."""
        return self._fixed and (self.target.kind == "corr" or self.estimate == 0)


def profile_interval(profile: Profile, level: float = 0.95) -> tuple[float, float]:
    """Interval of the values whose profiled criterion rises by less than the chi-square quantile.

    Parameters
    ----------
    profile : Profile
    level : float

    Returns
    -------
    tuple of float
        Lower and upper end; an end of the parameter's range (0, +-1) where that comes first. A fixed parameter that
        does not move with sigma has both ends at its value.
    """
    if profile.constant:
        return profile.estimate, profile.estimate
    cut = profile.minimum + float(chdtri(1, 1.0 - level))

    def excess(value: float) -> float:
        return profile(value) - cut

    if profile.target.kind == "corr":
        low, high = profile.range
        return _towards(excess, profile.estimate, low), _towards(excess, profile.estimate, high)
    if profile.estimate <= 0:
        return 0.0, _outwards(excess, *_first_step(profile))
    lower = 0.0
    if profile.moves_sigma or excess(0.0) > 0:
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
