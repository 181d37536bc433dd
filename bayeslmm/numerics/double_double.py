"""Sums of products with twice the digits of binary64, elementwise on arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.types import FloatArray

# Splits a double into two halves of 26 bits, whose products are exact.
_SPLITTER = 134217729.0


@dataclass(frozen=True)
class Pair:
    """An unevaluated sum ``high + low`` of two doubles, elementwise."""

    high: FloatArray
    low: FloatArray

    def column(self, k: int) -> Pair:
        """One column of a matrix, as a matrix."""
        return Pair(self.high[:, k, None], self.low[:, k, None])

    def plus(self, a: FloatArray, b: FloatArray, a_low: FloatArray | None = None) -> Pair:
        """Add the product a b, to twice the digits; `a_low` adds to a."""
        product = a * b
        low = self.low + _error(a, b, product)
        if a_low is not None:
            low = low + a_low * b
        total = self.high + product
        back = total - self.high
        return Pair(total, low + ((self.high - (total - back)) + (product - back)))

    def rounded(self) -> FloatArray:
        """The nearest doubles."""
        return self.high + self.low

    def normal(self) -> Pair:
        """The same sum with ``low`` below half a unit in the last place of ``high``."""
        high = self.high + self.low
        back = high - self.high
        return Pair(high, (self.high - (high - back)) + (self.low - back))


def zeros(shape: tuple[int, ...]) -> Pair:
    """A pair of zeros."""
    return Pair(np.zeros(shape), np.zeros(shape))


def _error(a: FloatArray, b: FloatArray, product: FloatArray) -> FloatArray:
    """What rounding took from a product (Dekker 1971)."""
    a_high, b_high = _upper(a), _upper(b)
    a_low, b_low = a - a_high, b - b_high
    return np.asarray(((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)


def _upper(a: FloatArray) -> FloatArray:
    scaled = _SPLITTER * a
    return np.asarray(scaled - (scaled - a))


def difference(a: FloatArray, b: FloatArray) -> Pair:
    """``a - b`` without rounding (Knuth 1969)."""
    total = a - b
    back = total - a
    return Pair(total, (a - (total - back)) - (b + back))
