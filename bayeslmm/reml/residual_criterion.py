"""The profiled criterion as a function of the relative covariances and the parameters of the residuals together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bayeslmm.likelihood import Factor, SummedDesign, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.residual_slopes import residual_slopes
from bayeslmm.likelihood.whitened import RowsAtPoints
from bayeslmm.numerics.differences import slopes
from bayeslmm.numerics.newton import Point, Trial
from bayeslmm.residual import estimable
from bayeslmm.types import FloatArray

# Of differences of exact gradients, central: the fifth root of what these are rounded to would be best.
_STEP = 3e-4
# Rows times parameters of residuals from which on differences of gradients take too long.
_MANY = 50_000
# Parameters beyond these sizes are correlations of one, or ratios of sds that no data have. Entries of a root of a
# correlation matrix leave ``1 / size^2`` of a variance, atanh and log ``exp(-2 size)``.
FARTHEST, _FARTHEST_OF_ROOT = 40.0, 300.0
# A search that ends this close to them was stopped by them.
STOPPED = 0.99


@dataclass(frozen=True)
class JointCriterion:
    """Criterion of x = (internal vector, lam).

    Attributes
    ----------
    rows : RowsAtPoints
    reml : bool
    exact : bool
        Whether second derivatives are exact even where expected ones are cheaper.
    """

    rows: RowsAtPoints
    reml: bool
    exact: bool = False
    _last: dict[bytes, tuple[SummedDesign, list[FloatArray], Factor]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def n_theta(self) -> int:
        """Entries of x that belong to random effects."""
        return self.rows.base.frame.n_theta

    @cached_property
    def _farthest(self) -> FloatArray:
        names = self.rows.design.residual.names
        return np.array([_FARTHEST_OF_ROOT if name.startswith("chol") else FARTHEST for name in names])

    def beyond(self, lam: FloatArray) -> bool:
        """Whether some residual parameter, of lam (k,), is larger than any is let become."""
        return bool((np.abs(lam) > self._farthest).any())

    def stopped_by_size(self, x: FloatArray) -> bool:
        """Whether some residual parameter is as large as any is let become."""
        return bool((np.abs(x[self.n_theta :]) > STOPPED * self._farthest).any())

    def at(self, x: FloatArray) -> tuple[SummedDesign, list[FloatArray], Factor]:
        """Sums, factors and evaluation at x, kept from the last call if that was there."""
        key = x.tobytes()
        if key not in self._last:
            self._last.clear()
            cp = self.rows.at(x[self.n_theta :])
            factors = par.internal_factors(cp, x[: self.n_theta])
            self._last[key] = (cp, factors, evaluate(cp, factors))
        return self._last[key]

    def terms(self, x: FloatArray) -> list[FloatArray]:
        """Relative factors of the terms at x, on the user's columns."""
        base = self.rows.base
        return [T[0] for T in par.term_factors(base, par.internal_factors(base, x[: self.n_theta]))]

    def __call__(self, x: FloatArray) -> Trial:
        nan = np.full((x.size, x.size), np.nan)
        nothing = Trial(float("inf"), lambda: Point(x, float("inf"), nan[0], nan))
        if self.beyond(x[self.n_theta :]):
            return nothing
        try:
            with np.errstate(all="ignore"):
                cp, _, factor = self.at(x)
        except np.linalg.LinAlgError:
            return nothing
        with np.errstate(all="ignore"):
            value = float(profiled(cp, factor, self.reml)[0])
        if not factor.r2[0] > 0 or not np.isfinite(value):
            return nothing
        return Trial(value, lambda: self.point(x, value), max(1e-11, 4e-14 * abs(value)))

    def gradient(self, x: FloatArray) -> FloatArray:
        """Derivatives (k,) at x."""
        cp, factors, factor = self.at(x)
        own = np.empty(0)
        if self.n_theta:
            own = par.gradient(cp, x[: self.n_theta], derivatives(cp, factors, factor, self.reml))[0]
        return np.concatenate([own, residual_slopes(self.rows, cp, factors, factor, x[self.n_theta :], self.reml)])

    def point(self, x: FloatArray, value: float) -> Point:
        """Value, gradient and curvature: expected without random effects, exact or by differences with them."""
        gradient = self.gradient(x)
        if self.n_theta and not self.exact and self.rows.design.n * (x.size - self.n_theta) > _MANY:
            return Point(x, value, gradient, self.apart(x), False)
        hessian = self.hessian(x) if self.n_theta or self.exact else self.expected(x)
        return Point(x, value, gradient, hessian, bool(self.n_theta) or self.exact)

    def expected(self, x: FloatArray) -> FloatArray:
        """Expected curvature in lam, sigma at its best value; about that, as fixed effects are left out of account."""
        traces, information = estimable(self.rows.design.residual).information(x)
        # All rows are counted, for REML too: with fewer it would be negative along a common scale.
        return np.asarray(information - np.outer(traces, traces) / self.rows.base.n)

    def apart(self, x: FloatArray) -> FloatArray:
        """Curvature in theta, and the expected one in lam, as if they did not know of one another."""
        t, out = self.n_theta, np.zeros((x.size, x.size))
        cp, factors, factor = self.at(x)
        if cp.blocks[0].terms:
            out[:t, :t] = par.hessian(cp, x[:t], derivatives(cp, factors, factor, self.reml))[0]
        else:
            out[:t, :t] = np.eye(t) * degrees_of_freedom(cp, self.reml)
        out[t:, t:] = self.expected(x[t:])
        return out

    def hessian(self, x: FloatArray, sharp: bool = False) -> FloatArray:
        """Second derivatives at x; of lam by differences of the gradient, extrapolated to a step of zero if `sharp`."""
        # Exact ones in theta are those of sums by level.
        k, t = x.size, self.n_theta if self.rows.base.blocks[0].terms else 0
        out = np.empty((k, k))
        if t:
            cp, factors, factor = self.at(x)
            out[:t, :t] = par.hessian(cp, x[:t], derivatives(cp, factors, factor, self.reml))[0]

        def differences(step: float) -> FloatArray:
            return slopes(lambda rest: self.gradient(np.concatenate([x[:t], rest])), x[t:], step).T

        out[:, t:] = differences(_STEP)
        if sharp:
            out[:, t:] = (4.0 * out[:, t:] - differences(2.0 * _STEP)) / 3.0
        out[t:, :t] = out[:t, t:].T
        out[t:, t:] = 0.5 * (out[t:, t:] + out[t:, t:].T)
        return out
