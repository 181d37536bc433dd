"""Distribution of weighted sums of independent chi-square variables, and of ratios of such sums.

``P(sum a_k chi2_{m_k} > x) = 1/(2 pi i) int exp(K(s) - s x) / s ds`` along a line to the right of the pole, with the
cumulant generating function ``K(s) = -1/2 sum m_k log(1 - 2 a_k s)``. On the imaginary axis this is Imhof's
integral, whose integrand oscillates and decays slowly. Here the line is bent into a hyperbola through the saddle point,
on which the integrand decays exponentially and the trapezoidal rule converges geometrically; a line to the left gives
the lower tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.types import FloatArray

_HALVINGS = 12
_RELATIVE = 1e-13
_SMALLEST = 1e-300
# Angle of the hyperbola, halfway between the vertical line and the cut along the axis.
_ANGLE = math.pi / 4


@dataclass(frozen=True)
class Probability:
    """A probability and its complement, each with full relative accuracy, and an estimate of the absolute error."""

    below: float
    above: float
    error: float


@dataclass(frozen=True)
class _Form:
    """``sum a_k chi2_{m_k} - x`` with nonzero weights."""

    a: FloatArray
    m: FloatArray
    x: float

    def log_integrand(self, s: FloatArray) -> FloatArray:
        """``K(s) - s x`` for complex s, shape (nodes,)."""
        cumulant = -0.5 * np.log(1.0 - 2.0 * s[:, None] * self.a) @ self.m
        return np.asarray(cumulant - s * self.x)

    def slope(self, s: float) -> float:
        """Derivative of ``K(s) - s x - log |s|`` on the axis."""
        return float((self.m * self.a / (1.0 - 2.0 * self.a * s)).sum() - self.x - 1.0 / s)

    def curvature(self, s: float) -> float:
        return float((2.0 * self.m * (self.a / (1.0 - 2.0 * self.a * s)) ** 2).sum() + 1.0 / s**2)


def sum_probability(weights: FloatArray, x: float, dof: FloatArray | None = None) -> Probability:
    """Probability that a weighted sum of chi-square variables is at most x.

    Parameters
    ----------
    weights : FloatArray, shape (r,)
        Of either sign; zeros are left out.
    x : float
    dof : FloatArray, shape (r,), optional
        Positive degrees of freedom; 1 by default.

    Returns
    -------
    Probability

    References
    ----------
    Imhof (1961), Biometrika 48, 419-426, for the integral; Rice (1980), SIAM J. Sci. Stat. Comput. 1, 438-448, for
    the path; Weideman & Trefethen (2007), Math. Comp. 76, 1341-1356, for hyperbolas.

    Examples
    --------
    >>> round(sum_probability(np.array([1.0, 1.0]), 2.0).above, 12) == round(float(np.exp(-1.0)), 12)
    True
    """
    weights = np.asarray(weights, dtype=float)
    m = np.ones(weights.size) if dof is None else np.asarray(dof, dtype=float)
    used = (weights != 0) & (m > 0)
    a, m = weights[used], m[used]
    if not a.size or (x <= 0 and (a > 0).all()):
        return Probability(0.0, 1.0, 0.0) if a.size or x < 0 else Probability(1.0, 0.0, 0.0)
    if x >= 0 and (a < 0).all():
        return Probability(1.0, 0.0, 0.0)
    scale = float(np.abs(a).max())
    form = _Form(a / scale, m, x / scale)
    upper = form.x >= float(form.m @ form.a)
    value, error = _tail(form, upper)
    value, error = min(max(float(value), 0.0), 1.0), float(error)
    return Probability(1.0 - value, value, error) if upper else Probability(value, 1.0 - value, error)


def ratio_probability(
    numerator: FloatArray, denominator: FloatArray, c: float, dof: FloatArray | None = None
) -> Probability:
    """Probability that a ratio of two weighted sums of the same chi-square variables is at most c.

    Parameters
    ----------
    numerator, denominator : FloatArray, shape (r,)
        Weights; those of the denominator are not negative.
    c : float
    dof : FloatArray, shape (r,), optional

    Returns
    -------
    Probability

    Examples
    --------
    An F variable with 4 and 10 degrees of freedom:

    >>> found = ratio_probability(np.array([1 / 4, 0]), np.array([0, 1 / 10]), 3.47805, np.array([4, 10]))
    >>> round(found.above, 6)
    0.05
    """
    return sum_probability(np.asarray(numerator) - c * np.asarray(denominator), 0.0, dof)


def _tail(form: _Form, upper: bool) -> tuple[float, float]:
    """Probability of the upper or the lower tail, and its error."""
    side = 1.0 if upper else -1.0
    ends = form.a[form.a * side > 0]
    # Beyond this point of the axis the moment generating function is infinite.
    limit = 0.5 / float(np.abs(ends).max()) if ends.size else math.inf
    crossing = side * _saddle(form, side, limit)
    before, behind = abs(crossing), limit - abs(crossing)
    left, right = (before, behind) if upper else (behind, before)
    width = 4.0 / math.sqrt(form.curvature(crossing))
    if form.x == 0:
        return _integrate(form, crossing, min(left, right, width), 0.0)
    angle = math.copysign(_ANGLE, form.x)
    ahead, aback = (right, left) if form.x > 0 else (left, right)
    sine = math.sin(_ANGLE)
    return _integrate(form, crossing, min(aback / sine, ahead / (1.0 - sine), width), angle)


def _saddle(form: _Form, side: float, limit: float) -> float:
    """Distance from zero at which ``K(s) - s x - log |s|`` is smallest, between 0 and the limit."""
    from scipy.optimize import brentq

    def slope(distance: float) -> float:
        return side * form.slope(side * distance)

    low = min(limit, 1.0) * 0.5
    while slope(low) > 0 and low > _SMALLEST:
        low *= 0.5
    if math.isinf(limit):
        high = 2.0 * low
        while slope(high) < 0 and high < 1e300:
            high *= 2.0
        return float(brentq(slope, low, high, rtol=1e-6))
    gap = 0.5 * (limit - low)
    while slope(limit - gap) < 0 and gap > 1e-15 * limit:
        gap *= 0.5
    return float(brentq(slope, low, limit - gap, rtol=1e-6)) if slope(limit - gap) > 0 else limit - gap


def _integrate(form: _Form, crossing: float, size: float, angle: float) -> tuple[float, float]:
    """Trapezoidal rule along the hyperbola, halving the step until the sum stands still."""
    peak = float(form.log_integrand(np.array([crossing + 0j]))[0].real)

    def values(v: FloatArray) -> FloatArray:
        s = crossing + size * (np.sin(angle + 1j * v) - math.sin(angle))
        step = size * 1j * np.cos(angle + 1j * v)
        return np.asarray((np.exp(form.log_integrand(s) - peak) * step / s).imag)

    h, end = 0.25, _end(values)
    nodes: FloatArray = np.arange(1.0, math.ceil(end / h) + 1) * h
    total = 0.5 * values(np.zeros(1))[0] + values(nodes).sum()
    estimate = change = abs(h * total)
    for _ in range(_HALVINGS):
        total += values(np.arange(0.5, nodes.size + 0.5) * h).sum()
        h, previous = 0.5 * h, estimate
        nodes = np.arange(1.0, 2.0 * nodes.size + 1.0) * h
        estimate = abs(h * total)
        change = abs(estimate - previous)
        if change <= _RELATIVE * estimate:
            break
    factor = math.exp(peak) / math.pi
    # The rule converges geometrically: the error of the last sum is far below the last change, unless it is rounding.
    return factor * estimate, factor * (change + 1e-15 * estimate * math.sqrt(form.m.sum() + 1.0))


def _end(values: Callable[[FloatArray], FloatArray]) -> float:
    """Where the integrand has fallen to rounding."""
    grid = np.arange(0.0, 160.0, 1.0)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        size = np.nan_to_num(np.abs(values(grid)))
    large = np.flatnonzero(size > 1e-18 * size.max())
    return float(grid[large[-1]] + 1.5)
