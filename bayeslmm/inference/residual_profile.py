"""Profiles of any parameter of a fit whose residuals have parameters.

The criterion is minimised over all parameters but one, those of random effects, of the residuals, sigma and, for a
fixed effect, that effect together, by quasi-Newton steps from exact gradients that start with the curvature at the
estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design
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
# On a scale without bounds: how far from the estimate the criterion is followed where it does not rise. There a range
# is e^-30 of the distances, where rows are independent.
FAR = 30.0


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
    def start(self) -> FloatArray:
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
            found = minimise_held(self.function, self.start, self.curvature)
            if found is not None:
                return found.value, found.x
        if self._held is not None:
            return self.function(self.point)[0], self.point
        return self.optimum.criterion, self.point

    def hold(self, scaled: float, near: HeldMinimum | None) -> HeldMinimum | None:
        """The minimum with the parameter at a value on its scale, from one nearby."""
        begin, curvature = (self.start, self.curvature) if near is None else (near.x, near.curvature)
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

    @cached_property
    def at_zero(self) -> float:
        """Lowest criterion without the effects whose standard deviation is the target."""
        term = self.optimum.original.terms[self.target.term]
        gone = term.structure.sharing(self.target.effects[0])
        kept = tuple(k for k in range(len(term.effects)) if k not in gone)
        design: Design = without(self.optimum.original, Removal(self.target.term, gone, kept))
        return float(optimum_of(design, self.optimum.reml).criterion)

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
        middle = self.estimate if np.isfinite(self.estimate) else -FAR
        for side in (-1.0, 1.0):
            near: HeldMinimum | None = None
            own = np.flatnonzero((scaled - middle) * side >= 0 if side > 0 else scaled < middle)
            for k in own[np.argsort(np.abs(scaled[own] - middle))]:
                if self.target.kind == "sd" and values[k] == 0:
                    out[k] = self.at_zero
                    continue
                found = self._followed(float(np.clip(scaled[k], -self._limit, self._limit)), near)
                if found is not None:
                    out[k], near = found.value, found
        return out

    @property
    def _limit(self) -> float:
        return np.inf if self.measured.range in ("fixed", "real") else FAR

    def _followed(self, scaled: float, near: HeldMinimum | None, parts: int = 4) -> HeldMinimum | None:
        """The minimum at a value, by values between where it is far."""
        found = self.hold(scaled, near)
        if (found is not None and found.converged) or not parts:
            return found
        begin = self.estimate if near is None else self.measured(near.x)[0]
        between = self._followed(0.5 * (begin + scaled), near, parts - 1) if np.isfinite(begin) else None
        return found if between is None else self.hold(scaled, between) or found
