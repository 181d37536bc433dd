"""The criterion to all digits of the data, for estimates at which the elimination by blocks has lost them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood import accurate as acc
from bayeslmm.likelihood import accurate_derivatives as accd
from bayeslmm.numerics.newton import FLAT, Ending, NewtonResult, Point, Trial, minimise_scaled
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.fixed import Held
from bayeslmm.reml.zeros import snap
from bayeslmm.types import BoolArray, FloatArray

# Factors by which standard deviations are moved, coarse ones first.
_POWERS = ((1e3, 1e-3), (10.0, 0.1))
_STRETCHES = 60
_POLISHED = 3
# Share of itself by which criteria differ that are the same.
_SAME = 1e-9
# -2 log likelihood: what an estimate may be wrong or too high by without a search for another.
_AGREES = 1e-8


@dataclass(frozen=True)
class Precise:
    """A criterion evaluated on the rows of the data; the same function as `plain`, up to the latter's rounding."""

    plain: Criterion
    _last: dict[bytes, acc.Accurate | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def cp(self) -> SummedDesign:
        return self.plain.cp

    @property
    def held(self) -> Held:
        return self.plain.held

    @cached_property
    def rows(self) -> acc.AccurateRows:
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
            first = accd.accurate_derivatives(usable, plain.reml)
            gradient, hessian = accd.accurate_gradient(plain.cp, plain.internal(x), first)
            return plain.point(x, value, gradient, hessian, True)

        return Trial(value, expand, max(1e-11, 4e-14 * abs(value)))


def stretch(precise: Precise, x: FloatArray, evaluations: int) -> tuple[FloatArray, float]:
    """Multiply the standard deviations of one effect after another by powers of ten as long as that is lower.

    Parameters
    ----------
    precise : Precise
    x : FloatArray, shape (f,)
        Free entries.
    evaluations : int
        At most so many.

    Returns
    -------
    FloatArray, shape (f,)
    float
        The criterion there.
    """
    value, left = precise(x).value, evaluations - 1
    groups = _effects(precise)
    for powers in _POWERS:
        moved = True
        while moved:
            moved = False
            for group in groups:
                for factor in powers:
                    trial = np.where(group, factor * x, x)
                    if left == 0 or np.array_equal(trial, x):
                        continue
                    left -= 1
                    there = precise(trial).value
                    if there < value:
                        x, value, moved = trial, there, True
    return x, value


def _effects(precise: Precise) -> list[BoolArray]:
    """Free entries that scale with one effect of a term (a row of its factor), or with the whole term."""
    groups, cp = list[BoolArray](), precise.cp
    full = np.zeros(precise.held.free.size, dtype=bool)
    for *_, part, structure in cp.frame.terms:
        for mask in structure.growing:
            one = full.copy()
            one[part] = mask
            if one[precise.held.free].any():
                groups.append(one[precise.held.free])
    return groups


def lowest(precise: Precise, starts: FloatArray, allowed: int, max_evaluations: int) -> NewtonResult | None:
    """The lowest minimum that is reached from some starts.

    Parameters
    ----------
    precise : Precise
    starts : FloatArray, shape (M, f)
    allowed : int
        Evaluations in all.
    max_evaluations : int
        From one start.

    Returns
    -------
    NewtonResult or None
        None if the criterion cannot be evaluated at any start.
    """
    each = min(_STRETCHES, allowed // (2 * len(starts)) + 1, max_evaluations)
    reached = sorted((stretch(precise, x, each) for x in starts), key=lambda one: one[1])
    used, best, done = each * len(starts), _nothing(starts[0]), list[float]()
    for x, value in reached[:_POLISHED]:
        same = any(abs(value - other) <= _SAME * (1.0 + abs(other)) for other in done)
        left = min(max_evaluations, allowed - used)
        if same or value == np.inf or (done and left < 1):
            continue
        done.append(value)
        again = snap(precise, minimise_scaled(precise, x, max(left, 1)), max(left, 1), minimise_scaled)
        used += again.evaluations
        if again.value < best.value:
            best = again
    return replace(best, evaluations=used) if done else None


def _nothing(x: FloatArray) -> NewtonResult:
    return NewtonResult(x, np.inf, Ending.no_descent, 0, (), np.zeros((x.size, x.size)))


def confirmed(precise: Precise, result: NewtonResult) -> bool:
    """Whether a minimum found otherwise is one to all digits, with a value that was right there."""
    trial = precise(result.x)
    if not abs(trial.value - result.value) <= _AGREES:
        return False
    point = trial.expand()
    unit = np.maximum(1.0, np.abs(result.x))
    values, vectors = np.linalg.eigh(point.hessian * (unit * unit[:, None]))
    slope = vectors.T @ (point.gradient * unit)
    flat = np.abs(values) <= FLAT * np.abs(values).max(initial=0.0)
    curved = np.where(flat, 1.0, values)
    return bool((curved > 0).all() and (np.where(flat, 0.0, slope**2 / curved)).sum() <= _AGREES)
