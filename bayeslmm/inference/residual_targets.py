"""Parameters of a fit with residual parameters as functions of its coordinates, each on a scale without bounds.

Coordinates are (internal vector, lam, log sigma, coefficient): standard deviations are taken as logs, correlations of
effects as angles, residual parameters by the scale of their range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.numerics.differences import slopes
from bayeslmm.reml.residual_criterion import JointCriterion
from bayeslmm.residual import estimable
from bayeslmm.types import FloatArray

# Steps of differences of smooth functions that are exact to rounding.
_STEP = 1e-6
# How near to the end of its range the angle of a correlation is followed: the criterion, a function of its square
# there, has the value at the end but for rounding.
EDGE = 3e-4

type Scale = tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]


# To a scale without bounds, and back.
SCALES: dict[str, Scale] = {
    "real": (np.asarray, np.asarray),
    "positive": (np.log, np.exp),
    "unit": (logit, expit),
    "correlation": (np.arctanh, np.tanh),
}
# Derivatives in the parameter.
_SLOPES: dict[str, Callable[[float], float]] = {
    "real": lambda v: 1.0,
    "positive": lambda v: 1.0 / v,
    "unit": lambda v: 1.0 / (v * (1.0 - v)),
    "correlation": lambda v: 1.0 / (1.0 - v * v),
}


@dataclass(frozen=True)
class JointTarget:
    """One parameter of a fit as a function of its coordinates.

    Attributes
    ----------
    joint : JointCriterion
        Whose coordinates of random effects are meant.
    target : ProfileTarget
        ``kind`` may be ``"residual"``, ``term`` then is the place among the residual parameters.
    """

    joint: JointCriterion
    target: ProfileTarget

    @property
    def range(self) -> str:
        """Of `SCALES`, or ``"angle"``, ``"fixed"``."""
        kind = self.target.kind
        if kind == "residual":
            return str(estimable(self.joint.rows.design.residual).ranges[self.target.term])
        return {"sd": "positive", "sigma": "positive", "corr": "angle"}.get(kind, "fixed")

    @property
    def _ends(self) -> tuple[float, float]:
        least, most = self.joint.rows.design.terms[self.target.term].structure.correlation_range
        return float(least), float(most)

    @property
    def limits(self) -> tuple[float, float]:
        """Between what the scale is searched."""
        angle = 0.5 * np.pi - EDGE
        return (-angle, angle) if self.range == "angle" else (-np.inf, np.inf)

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the range of the parameter."""
        if self.range == "angle":
            return self._ends
        ends = {"positive": (0.0, np.inf), "unit": (0.0, 1.0), "correlation": (-1.0, 1.0)}
        return ends.get(self.range, (-np.inf, np.inf))

    def scaled(self, value: float) -> float:
        """The parameter on its scale; infinite at the ends of its range, but for an angle."""
        if self.range == "fixed":
            return value
        if self.range == "angle":
            least, most = self._ends
            return float(np.clip(np.arcsin((2.0 * value - least - most) / (most - least)), *self.limits))
        with np.errstate(divide="ignore"):
            return float(SCALES[self.range][0](np.array(value, dtype=float)))

    def natural(self, scaled: float) -> float:
        """The inverse of `scaled`."""
        if self.range == "fixed":
            return scaled
        if self.range == "angle":
            least, most = self._ends
            return float(0.5 * (least + most + (most - least) * np.sin(scaled)))
        with np.errstate(over="ignore"):
            return float(SCALES[self.range][1](np.array(scaled)))

    def __call__(self, z: FloatArray) -> tuple[float, FloatArray]:
        """The scaled parameter at coordinates z (d,), and its derivatives (d,)."""
        t, kind, slope = self.joint.n_theta, self.target.kind, np.zeros(z.size)
        sigma = z.size - 2
        if kind == "fixed":
            slope[-1] = 1.0
            return float(z[-1]), slope
        if kind == "sigma":
            slope[sigma] = 1.0
            return float(z[sigma]), slope
        if kind == "residual":
            with np.errstate(all="ignore"):
                values, own = estimable(self.joint.rows.design.residual).natural(z[t:sigma])
                value = float(values[self.target.term])
                slope[t:sigma] = _SLOPES[self.range](value) * own[self.target.term]
            return self.scaled(value), slope
        slope[:t] = slopes(lambda x: np.array([self._of_effects(x)]), z[:t], _STEP)[:, 0]
        own_sd = kind == "sd"
        slope[sigma] = float(own_sd)
        return self._of_effects(z[:t]) + own_sd * float(z[sigma]), slope

    def _of_effects(self, internal: FloatArray) -> float:
        """Log sd over sigma, or angle, at an internal vector."""
        term = self.joint.rows.design.terms[self.target.term]
        T = self.joint.terms(internal)[self.target.term]
        with np.errstate(all="ignore"):
            if self.target.kind == "sd":
                return float(np.log(np.linalg.norm(T[self.target.effects[0]])))
            rho = term.structure.correlation_of(T @ T.T, *self.target.effects)
            return float(np.arcsin((2.0 * rho - sum(self._ends)) / (self._ends[1] - self._ends[0])))
