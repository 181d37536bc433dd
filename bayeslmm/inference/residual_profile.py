"""Profiles of any parameter of a fit whose residuals have parameters, and the ends of intervals from them.

The criterion is minimised over all parameters but one, those of random effects, of the residuals, sigma and, for a
fixed effect, that effect together, by quasi-Newton steps from exact gradients that start with the curvature at the
estimate. An end is where the root of the rise is that of the quantile: its derivative is known from the multiplier
of the equation that holds the parameter, so that few minima are needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from bayeslmm.design.design import Design
from bayeslmm.inference.lower_rank import without_one
from bayeslmm.inference.null_model import Removal, without
from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.inference.residual_targets import JointTarget
from bayeslmm.likelihood import derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.residual_slopes import residual_slopes
from bayeslmm.likelihood.whitened import RowsAtPoints
from bayeslmm.numerics.differences import slopes
from bayeslmm.numerics.held import HeldMinimum, minimise_held, positive
from bayeslmm.reml.residual_criterion import JointCriterion
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimum_of
from bayeslmm.types import FloatArray

# Steps of differences of gradients and values that are exact to rounding.
_STEP = 1e-4
# An entry of a factor that is zero at the estimate has no slope there; off it, it has one if the profile leaves zero.
_ZERO, _OFF = 1e-3, 0.02
# Rise of the criterion by which an end may miss the cut, and minima that are looked for before it is given up.
_MISSED, _MINIMA = 1e-7, 60
# On a scale without bounds: the longest step, and how far from the estimate the criterion is followed where it does not
# rise; there a range is e^-30 of the distances, where rows are independent. The last is the longest step of an angle.
_LONGEST, _FAR, _TURN = 4.0, 30.0, 0.7
_FALL = 1e-6


@dataclass(frozen=True)
class ResidualProfile:
    """The profile of one parameter.

    Attributes
    ----------
    optimum : ResidualOptimum
        The criterion profiled is the one that was minimised.
    target : ProfileTarget
        ``kind`` may be ``"residual"``.
    """

    optimum: ResidualOptimum
    target: ProfileTarget

    @cached_property
    def _held(self) -> int | None:
        """The fixed effect that is held, if it is one."""
        return self.target.term if self.target.kind == "fixed" else None

    @property
    def _full(self) -> JointCriterion:
        return self.optimum.joint

    @cached_property
    def _estimate(self) -> tuple[float, float]:
        """Estimate of the fixed effect that is held and its standard error, (0, 1) for other targets."""
        if self._held is None:
            return 0.0, 1.0
        b, v = self._coefficient(self.optimum.joint_point)
        return b, float(self.optimum.sigma * np.sqrt(v))

    def _coefficient(self, x: FloatArray) -> tuple[float, float]:
        """Conditional estimate of the fixed effect that is held, and its variance over sigma^2."""
        cp, _, factor = self._full.at(x)
        q2, j = cp.q_trailing, self.target.term
        row = cp.fixed.transform[j]
        half = np.linalg.solve(factor.chol[0, q2:, q2:], row)
        internal = factor.solution[0, q2:] + self._full.rows.base.response.removed
        return float(row @ internal), float(half @ half)

    @cached_property
    def _rows(self) -> RowsAtPoints:
        """Rows without the column of a fixed effect that is held, its part at the estimate taken off the response."""
        if self._held is None:
            return self._full.rows
        design = self.optimum.original
        column, others = design.X[:, self._held], np.arange(design.p) != self._held
        names = tuple(name for name, own in zip(design.fixed_names, others, strict=True) if own)
        y = design.y - self._estimate[0] * column
        reduced = replace(design, X=design.X[:, others], fixed_names=names, y=y, recipe=None)
        return RowsAtPoints.of(reduced, self.optimum.lam)

    def _rows_at(self, z: FloatArray) -> RowsAtPoints:
        if self._held is None or z[-1] == 0.0:
            return self._rows
        Xy = self._rows.Xy.copy()
        Xy[:, -1] -= z[-1] * self._estimate[1] * self.optimum.original.X[:, self._held]
        return replace(self._rows, Xy=Xy)

    @cached_property
    def _joint(self) -> JointCriterion:
        return JointCriterion(self._rows, self.optimum.reml)

    @cached_property
    def measured(self) -> JointTarget:
        """The parameter as a function of the coordinates."""
        return JointTarget(self._joint, self.target)

    def function(self, z: FloatArray) -> tuple[float, FloatArray]:
        """Criterion at coordinates (internal vector, lam, log sigma, coefficient in standard errors), and its gradient.

        The coefficient, of the fixed effect that is held, is counted from its estimate; 0 for other targets.
        """
        t, reml, none = self._joint.n_theta, self.optimum.reml, (np.inf, np.zeros(z.size))
        rows = self._rows_at(z)
        if not np.isfinite(z).all() or self._joint.beyond(z[t:-2]):
            return none
        try:
            with np.errstate(all="ignore"):
                cp = replace(rows.at(z[t:-2]), sigma=float(np.exp(z[-2])))
                factors = par.internal_factors(cp, z[:t])
                factor = evaluate(cp, factors)
                value = float(profiled(cp, factor, reml)[0])
                if not (factor.r2[0] > 0 and np.isfinite(value)):
                    return none
                gradient = np.zeros(z.size)
                if t:
                    gradient[:t] = par.gradient(cp, z[:t], derivatives(cp, factors, factor, reml))[0]
                gradient[t:-2] = residual_slopes(rows, cp, factors, factor, z[t:-2], reml)
        except np.linalg.LinAlgError:
            return none
        gradient[-2] = 2.0 * degrees_of_freedom(cp, reml) - 2.0 * float(factor.r2[0]) / float(np.exp(2.0 * z[-2]))
        if self._held is not None:
            gradient[-1] = self._coefficient_slope(z)
        return (value, gradient) if np.isfinite(gradient).all() else none

    def _coefficient_slope(self, z: FloatArray) -> float:
        """Derivative in the coefficient, of which the sum of squares is a parabola: its difference is exact."""
        lam, one = z[self._joint.n_theta : -2], np.zeros(z.size)
        one[-1] = 1.0
        r2 = []
        for at in (z + one, z - one):
            cp = self._rows_at(at).at(lam)
            r2.append(float(evaluate(cp, par.internal_factors(cp, z[: self._joint.n_theta])).r2[0]))
        return 0.5 * (r2[0] - r2[1]) / float(np.exp(2.0 * z[-2]))

    @cached_property
    def point(self) -> FloatArray:
        """Coordinates of the estimate."""
        internal = par.internal_from_terms(self._rows.base, self.optimum.terms)
        return np.concatenate([internal, self.optimum.lam, [np.log(self.optimum.sigma), 0.0]])

    @cached_property
    def curvature(self) -> FloatArray:
        """About the curvature (d, d) at the estimate, positive definite."""
        x, hessian = self.optimum.joint_point, self.optimum.joint_hessian
        nu, k = degrees_of_freedom(self.optimum.cp, self.optimum.reml), x.size
        slope = slopes(lambda at: np.log(self._full.at(at)[2].r2), x, _STEP)[:, 0]
        out = np.eye(k + 2)
        # What is profiled out of sigma comes back.
        out[:k, :k] = hessian + nu * np.outer(slope, slope)
        out[:k, k] = out[k, :k] = -2.0 * nu * slope
        out[k, k] = 4.0 * nu
        if self._held is not None:
            unit = self._estimate[1]
            moved = slopes(lambda at: np.array([self._coefficient(at)[0]]), x, _STEP)[:, 0]
            out[k + 1, k + 1] = 2.0
            out[:k, k + 1] = out[k + 1, :k] = -2.0 * moved / unit
            out[:k, :k] += 2.0 * np.outer(moved, moved) / unit**2
        return positive(out)

    @cached_property
    def _start(self) -> FloatArray:
        """The estimate, off what would hold it by symmetry."""
        z, t = self.point.copy(), self._joint.n_theta
        z[:t] = np.where(np.abs(z[:t]) < _ZERO, _OFF, z[:t])
        return z

    @cached_property
    def lowest(self) -> tuple[float, FloatArray]:
        """The minimum that rises are measured from, and where it is.

        For a fixed effect of a REML fit it is that of the likelihood with the other fixed effects integrated out.
        """
        if self._held is not None and self.optimum.reml:
            found = minimise_held(self.function, self._start, self.curvature)
            if found is not None:
                return found.value, found.x
        if self._held is not None:
            return self.function(self.point)[0], self.point
        return self.optimum.criterion, self.point

    def hold(self, scaled: float, near: HeldMinimum | None) -> HeldMinimum | None:
        """The minimum with the parameter at a value on its scale, from one nearby."""
        begin, curvature = (self._start, self.curvature) if near is None else (near.x, near.curvature)
        found = minimise_held(self.function, begin, curvature, self.measured, scaled)
        if (found is None or not found.converged) and near is not None:
            again = minimise_held(self.function, near.x, self.curvature, self.measured, scaled)
            found = again if found is None or (again is not None and again.value < found.value) else found
        return found

    @property
    def estimate(self) -> float:
        """The parameter at the minimum, on its scale; infinite at an end of its range."""
        value = float(self.measured(self.lowest[1])[0])
        low, high = self.measured.limits
        return float(np.clip(value, low, high))

    def at_zero(self) -> float:
        """Lowest criterion without the effects whose standard deviation is the target."""
        term = self.optimum.original.terms[self.target.term]
        gone = term.structure.sharing(self.target.effects[0])
        kept = tuple(k for k in range(len(term.effects)) if k not in gone)
        design: Design = without(self.optimum.original, Removal(self.target.term, gone, kept))
        return float(optimum_of(design, self.optimum.reml).criterion)

    def end(self, side: int, level: float) -> float:
        """One end of the interval, units of the parameter; that of its range where the cut is not reached before."""
        return _End(self, side, float(ndtri(0.5 + level / 2.0)) ** 2).found()

    def natural(self, scaled: float) -> float:
        """Units of the parameter."""
        return (
            self._estimate[0] + self._estimate[1] * scaled if self._held is not None else self.measured.natural(scaled)
        )

    def scaled(self, value: float) -> float:
        """The inverse of `natural`."""
        return (
            (value - self._estimate[0]) / self._estimate[1] if self._held is not None else self.measured.scaled(value)
        )

    def curve(self, values: FloatArray) -> FloatArray:
        """The criterion (m,) minimised over all others at values (m,) of the parameter, outwards from the estimate."""
        out, scaled = np.full(values.size, np.inf), np.array([self.scaled(float(v)) for v in values])
        middle = self.estimate if np.isfinite(self.estimate) else -_FAR
        for side in (-1.0, 1.0):
            near: HeldMinimum | None = None
            own = np.flatnonzero((scaled - middle) * side >= 0 if side > 0 else scaled < middle)
            for k in own[np.argsort(np.abs(scaled[own] - middle))]:
                if self.target.kind == "sd" and values[k] == 0:
                    out[k] = self.at_zero()
                    continue
                found = self._followed(float(np.clip(scaled[k], -_limit(self), _limit(self))), near)
                if found is not None:
                    out[k], near = found.value, found
        return out

    def _followed(self, scaled: float, near: HeldMinimum | None, parts: int = 4) -> HeldMinimum | None:
        """The minimum at a value, by values between where it is far."""
        found = self.hold(scaled, near)
        if (found is not None and found.converged) or not parts:
            return found
        begin = self.estimate if near is None else self.measured(near.x)[0]
        between = self._followed(0.5 * (begin + scaled), near, parts - 1) if np.isfinite(begin) else None
        return found if between is None else self.hold(scaled, between) or found


def _limit(profile: ResidualProfile) -> float:
    return np.inf if profile.measured.range in ("fixed", "real") else _FAR


class _End:
    """The search for one end: Newton's method in the root of the rise, within what is known to be in and out."""

    def __init__(self, profile: ResidualProfile, side: int, cut: float) -> None:
        self.profile, self.side, self.cut = profile, float(side), cut
        self.minimum, _ = profile.lowest
        self.longest = _TURN if profile.measured.range == "angle" else _LONGEST
        self.limit = profile.measured.limits[0 if side < 0 else 1]

    def found(self) -> float:
        profile, side = self.profile, self.side
        bound = profile.measured.bounds[0 if side < 0 else 1]
        begin = profile.estimate
        at_end = profile.measured.range == "angle" and abs(begin) >= abs(self.limit) - 1e-2 and begin * side > 0
        if at_end or (not np.isfinite(begin) and side * begin > 0):
            return bound
        if profile.target.kind == "sd" and side < 0 and profile.at_zero() - self.minimum < self.cut:
            return bound
        begin, near = self._first(begin)
        if near is None:
            return float("nan")
        return self._searched(begin, near, bound)

    def _first(self, begin: float) -> tuple[float, HeldMinimum | None]:
        """A point to search from: the minimum, or one just within the range where that is at an end."""
        profile = self.profile
        off = profile._start
        if not np.array_equal(off, profile.point) or not np.isfinite(begin):
            value = profile.measured(off)[0]
            begin = value if not np.isfinite(begin) or profile.measured.range == "angle" else begin
        _, x = profile.lowest
        here = profile.measured(x)[0]
        if np.isfinite(here) and abs(here - begin) < 1e-9 and np.array_equal(off, profile.point):
            return begin, HeldMinimum(x, self.minimum, np.zeros(x.size), 0.0, profile.curvature, True)
        return begin, profile.hold(begin, None)

    def _error(self, near: HeldMinimum) -> float:
        a = self.profile.measured(near.x)[1]
        return float(np.sqrt(2.0 * a @ np.linalg.solve(near.curvature, a)))

    def _searched(self, inside: float, near: HeldMinimum, bound: float) -> float:
        side, root = self.side, float(np.sqrt(self.cut))
        outside, begin = np.inf * side, inside
        guess = inside + side * min(max(root * self._error(near), 1e-8), self.longest)
        for _ in range(_MINIMA):
            guess = min(guess * side, self.limit * side) * side
            found = self.profile.hold(guess, near)
            rise = np.inf if found is None or not found.converged else found.value - self.minimum
            if abs(rise - self.cut) < _MISSED:
                return self._last(guess, rise, found)
            if rise < self.cut:
                if guess == self.limit or abs(guess - begin) > _FAR or self._flat(found, guess, begin):
                    return bound
                inside, near = guess, found  # type: ignore[assignment]
            else:
                outside = guess
            if abs(outside - inside) < 1e-12 * max(1.0, abs(inside)):
                # Beyond lies no covariance of the structure, or a search that has failed.
                return self.profile.natural(inside) if found is None or found.converged else float("nan")
            guess = self._next(guess, found, rise, inside, outside)
        return float("nan")

    def _flat(self, found: HeldMinimum | None, guess: float, begin: float) -> bool:
        """Whether the criterion has stopped to rise far from the estimate, as where a range is next to nothing."""
        if found is None or self.profile.measured.range not in ("positive", "unit") or abs(guess - begin) < 3.0:
            return False
        return abs(found.multiplier) < _FALL

    def _last(self, guess: float, rise: float, found: HeldMinimum | None) -> float:
        if found is None or not abs(found.multiplier) > 0:
            return self.profile.natural(guess)
        return self.profile.natural(guess + (self.cut - rise) / found.multiplier)

    def _next(self, guess: float, found: HeldMinimum | None, rise: float, inside: float, outside: float) -> float:
        """The next value: Newton's in the root of the rise, within what is known."""
        side, root = self.side, float(np.sqrt(self.cut))
        new = np.nan
        if found is not None and np.isfinite(rise) and rise > 0 and side * found.multiplier > 0:
            zeta = float(np.sqrt(rise))
            new = guess + (root - zeta) * 2.0 * zeta / found.multiplier
        if np.isfinite(outside):
            within = min(inside, outside) < new < max(inside, outside)
            return new if within else 0.5 * (inside + outside)
        if not np.isfinite(new) or (new - guess) * side <= 0:
            new = guess + side * 0.5
        return guess + side * min(abs(new - guess), self.longest)


def residual_profile_ends(optimum: ResidualOptimum, target: ProfileTarget, level: float) -> tuple[float, float]:
    """Ends of a profile interval.

    Parameters
    ----------
    optimum : ResidualOptimum
    target : ProfileTarget
        ``kind`` may be ``"residual"``, ``term`` then is the place of the parameter.
    level : float

    Returns
    -------
    low, high : float
        Units of the parameter; ends of its range where the cut is not reached before, nan where the search failed.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> low, high = residual_profile_ends(fit.optimum, ProfileTarget("residual", 0), 0.95)
    >>> round(low, 3), round(high, 3)
    (0.711, 0.878)
    """
    profile = ResidualProfile(optimum, target)
    return profile.end(-1, level), profile.end(1, level)


def residual_rise_at_lower_rank(optimum: ResidualOptimum, term: int) -> float:
    """Rise of the criterion to its minimum over singular covariances of a term, all others and lam estimated again.

    nan for terms of one effect or with another structure than the unstructured one, and where no search ended.
    """
    profile = ResidualProfile(optimum, ProfileTarget("sigma"))
    base = profile._rows.base
    place = next(own for own in base.frame.terms if own.position == term)
    structure, part = place.structure, place.entries
    if not structure.basis_free or structure.size < 2:
        return float("nan")
    last = part.start + int(np.flatnonzero(structure.rows * structure.cols == (structure.size - 1) ** 2)[0])
    axis, found = np.eye(profile.point.size)[last], []
    for factor in without_one(structure.factor(profile.point[part][None])[0]):
        start = profile._start.copy()
        start[part] = factor[structure.rows, structure.cols]
        start[last] = 0.0
        one = minimise_held(profile.function, start, profile.curvature, lambda z: (float(z[last]), axis))
        if one is not None and one.converged:
            found.append(one.value)
    return max(0.0, min(found) - optimum.criterion) if found else float("nan")
