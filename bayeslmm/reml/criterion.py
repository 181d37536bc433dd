"""The profiled criterion, with or without a penalty, as the optimiser sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bayeslmm.equality import made_fast
from bayeslmm.likelihood import CrossProducts, Derivatives, Factor, SummedDesign, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.differences import jacobian
from bayeslmm.numerics.newton import Point, Trial
from bayeslmm.reml.fixed import Held
from bayeslmm.reml.penalty import Penalty, penalty_derivatives, penalty_value
from bayeslmm.types import FloatArray


def has_value(cp: CrossProducts, factor: Factor) -> bool:
    """Whether the criterion is a number: at a known sigma whatever r2 is, else where something is left of y."""
    return bool(factor.r2[0] > 0 if cp.sigma is None else factor.r2[0] >= 0)


@made_fast
@dataclass(frozen=True)
class Criterion:
    """The profiled criterion of one data set as a function of the free entries of the internal vector."""

    cp: SummedDesign
    reml: bool
    held: Held
    penalty: Penalty | None = None
    _last: dict[bytes, Factor] = field(default_factory=dict, repr=False, compare=False)

    def factor(self, x: FloatArray, factors: Sequence[FloatArray]) -> Factor:
        """The evaluation at the free entries x, kept from the last call if that was there."""
        key = x.tobytes()
        if key not in self._last:
            self._last.clear()
            self._last[key] = evaluate(self.cp, factors)
        return self._last[key]

    def internal(self, x: FloatArray) -> FloatArray:
        """Internal vector at the free entries x; x itself where none is held."""
        return self.held.full(x) if self.held.terms else x

    def factors(self, x: FloatArray) -> list[FloatArray]:
        """Internal factors of the blocks."""
        return par.internal_factors(self.cp, self.internal(x))

    def __call__(self, x: FloatArray) -> Trial:
        """Criterion at x (inf where it is not defined, -inf for a perfect fit) and its derivatives."""
        factors = self.factors(x)
        try:
            factor = self.factor(x, factors)
        except np.linalg.LinAlgError:
            return self._undefined(x, float("inf"))
        if not has_value(self.cp, factor):
            return self._undefined(x, float("-inf"))
        value = self.penalised(x, float(profiled(self.cp, factor, self.reml)[0]))
        if value == np.inf:
            return self._undefined(x, value)

        def expand() -> Point:
            first = derivatives(self.cp, factors, factor, self.reml)
            internal = self.internal(x)
            gradient, hessian = par.gradient(self.cp, internal, first)[0], self._curvature(internal, first)
            return self.point(x, value, gradient, hessian, first.exact)

        trailing = self.rounding(x)
        return Trial(value, expand, max(1e-11, 4e-14 * abs(value), trailing), 10.0 * trailing)

    def hessian(self, x: FloatArray) -> FloatArray:
        """The exact Hessian at x in the free entries; by differences where that takes less than the exact traces."""
        factors = self.factors(x)
        first = derivatives(self.cp, factors, self.factor(x, factors), self.reml)
        whole: bool | None = None
        if not self.cp.blocks[0].terms:
            return jacobian(lambda x: self(x).expand().gradient, x)
        if not first.exact:
            if not first.pieces.affordable(x.size):
                return jacobian(lambda x: self(x).expand().gradient, x)
            whole = self.reml
        internal = self.internal(x)
        gradient = par.gradient(self.cp, internal, first)[0]
        return self.point(x, 0.0, gradient, par.hessian(self.cp, internal, first, whole)[0], True).hessian

    def _curvature(self, internal: FloatArray, first: Derivatives) -> FloatArray:
        """Second derivatives in the internal vector, without a penalty."""
        if self.cp.blocks[0].terms:
            return np.asarray(par.hessian(self.cp, internal, first)[0])
        # Nothing is eliminated level by level: of so few effects the gradient costs little.
        return jacobian(self._slopes, internal)

    def _slopes(self, internal: FloatArray) -> FloatArray:
        factors = par.internal_factors(self.cp, internal)
        first = derivatives(self.cp, factors, evaluate(self.cp, factors), self.reml)
        return np.asarray(par.gradient(self.cp, internal, first)[0])

    def rounding(self, x: FloatArray) -> float:
        """About what the criterion is wrong by at x because the trailing block is a matrix of condition x^2."""
        return 2e-15 * float(x @ x) if self.cp.q_trailing else 0.0

    def penalised(self, x: FloatArray, value: float) -> float:
        """A value of the criterion with the penalty at the free entries x."""
        if self.penalty is None:
            return value
        return value + penalty_value(self.cp, self.penalty, self.held.full(x), self.held.terms)

    def point(self, x: FloatArray, value: float, gradient: FloatArray, hessian: FloatArray, exact: bool) -> Point:
        """Derivatives (k,), (k, k) of the criterion with those of the penalty, in the free entries."""
        if self.penalty is not None:
            more = penalty_derivatives(self.cp, self.penalty, self.held.full(x), self.held.terms)
            gradient, hessian = gradient + more[0], hessian + more[1]
        if self.held.terms:
            free = self.held.free
            gradient, hessian = gradient[free], hessian[np.ix_(free, free)]
        return Point(x, value, gradient, hessian, exact)

    @staticmethod
    def _undefined(x: FloatArray, value: float) -> Trial:
        nan = np.full((x.size, x.size), np.nan)
        return Trial(value, lambda: Point(x, value, nan[0], nan))
