"""The criterion to all digits of the data, for estimates at which the elimination by blocks has lost them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bayeslmm.likelihood import accurate as acc
from bayeslmm.numerics.newton import Point, Trial
from bayeslmm.reml.criterion import Criterion
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Precise:
    """A criterion evaluated on the rows of the data; the same function as `plain`, up to the latter's rounding."""

    plain: Criterion
    _last: dict[bytes, acc.Accurate | None] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def rows(self) -> acc.Rows:
        return acc.rows_of(self.plain.cp)

    def evaluation(self, x: FloatArray) -> acc.Accurate | None:
        """The evaluation at the free entries x, kept from the last call if that was there."""
        key = x.tobytes()
        if key not in self._last:
            factors = self._factors(x)
            self._last.clear()
            self._last[key] = acc.evaluate_accurately(self.rows, factors)
        return self._last[key]

    def _factors(self, x: FloatArray) -> Sequence[FloatArray]:
        return [T[0] for T in self.plain.factors(x)]

    def __call__(self, x: FloatArray) -> Trial:
        """Criterion at x (inf where it is not defined, -inf for a perfect fit) and its derivatives."""
        plain, nan = self.plain, np.full((x.size, x.size), np.nan)
        found = self.evaluation(x)
        value = float("inf") if found is None else float("-inf")
        if found is not None and found.r2 > 0:
            value = plain.penalised(x, found.criterion(plain.reml))
        if not np.isfinite(value) or found is None:
            return Trial(value, lambda: Point(x, value, nan[0], nan))
        usable: acc.Accurate = found

        def expand() -> Point:
            first = acc.accurate_derivatives(usable, plain.reml)
            gradient, hessian = acc.accurate_gradient(plain.cp, usable.factors, first)
            return plain.point(x, value, gradient, hessian, True)

        return Trial(value, expand, max(1e-11, 4e-14 * abs(value)))
