"""Ends of profile intervals of a fit whose residuals have parameters.

An end is where the root of the rise is that of the quantile: its derivative is known from the multiplier of the
equation that holds the parameter, so that few minima are needed.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from bayeslmm.inference.residual_profile import FAR, ResidualProfile
from bayeslmm.numerics.held import HeldMinimum

# Rise of the criterion by which an end may miss the cut, and minima that are looked for before it is given up.
_MISSED, _MINIMA = 1e-7, 60
# On a scale without bounds the longest step, and that of an angle.
_LONGEST, _TURN = 4.0, 0.7
_FALL = 1e-6


def residual_profile_ends(profile: ResidualProfile, level: float) -> tuple[float, float]:
    """Ends of a profile interval.

    Parameters
    ----------
    profile : ResidualProfile
    level : float

    Returns
    -------
    low, high : float
        Units of the parameter; ends of its range where the cut is not reached before, nan where the search failed.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> from bayeslmm.inference.profile_coordinates import ProfileTarget
    >>> fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    >>> low, high = residual_profile_ends(ResidualProfile(fit.optimum, ProfileTarget("residual", 0)), 0.95)
    >>> round(low, 3), round(high, 3)
    (0.711, 0.878)
    """
    cut = float(ndtri(0.5 + level / 2.0)) ** 2
    return _End(profile, -1, cut).found(), _End(profile, 1, cut).found()


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
        if profile.target.kind == "sd" and side < 0 and profile.at_zero - self.minimum < self.cut:
            return bound
        begin, near = self._first(begin)
        if near is None:
            return float("nan")
        return self._searched(begin, near, bound)

    def _first(self, begin: float) -> tuple[float, HeldMinimum | None]:
        """A point to search from: the minimum, or one just within the range where that is at an end."""
        profile = self.profile
        off = profile.start
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
                if guess == self.limit or abs(guess - begin) > FAR or self._flat(found, guess, begin):
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
