"""Polynomials in several variables on a box, of low degree along its short sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from bayeslmm.types import FloatArray, IntArray

# Shortest side that counts as such; a side of one unit or more has the full degree.
_SHORT = 0.5


@dataclass(frozen=True)
class Polynomial:
    """Polynomials of a total degree in Chebyshev form on a box.

    Attributes
    ----------
    lower, upper : FloatArray, shape (d,)
    exponents : IntArray, shape (C, d)
    coefficients : FloatArray, shape (C, O)
    """

    lower: FloatArray
    upper: FloatArray
    exponents: IntArray
    coefficients: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Values (K, O) at x (K, d)."""
        return basis(scaled(x, self.lower, self.upper), self.exponents) @ self.coefficients

    def beyond(self, x: FloatArray) -> FloatArray:
        """How far (K,) points are out of the box, in squared half widths."""
        excess = np.maximum(np.abs(scaled(x, self.lower, self.upper)) - 1.0, 0.0)
        return np.asarray((np.minimum(excess, 1e6) ** 2).sum(axis=1))


def scaled(x: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Points of the box on [-1, 1]."""
    return (2.0 * x - lower - upper) / (upper - lower)


def exponents_of(width: FloatArray, degree: int, most: float, short: float = _SHORT) -> IntArray:
    """Exponents (C, d) of at most that many terms: low degrees along coordinates as short as `short`, or shorter."""
    share = np.clip(width, short, 1.0)
    for largest in range(degree, -1, -1):
        counts = [range(int(largest * s + 1e-9) + 1) for s in share]
        if np.prod([len(c) for c in counts], dtype=float) > 1e6:
            continue
        grid = np.stack([g.ravel() for g in np.meshgrid(*counts, indexing="ij")], axis=1)
        chosen = grid[(grid / share).sum(axis=1) <= largest + 1e-9]
        if chosen.shape[0] <= most:
            return np.asarray(chosen)
    raise ValueError(f"no polynomial has at most {most} terms")


def basis(z: FloatArray, exponents: IntArray, along: int | None = None) -> FloatArray:
    """Products of Chebyshev polynomials (K, C), or their derivatives along one coordinate."""
    degree = int(exponents.max(initial=0))
    out = np.ones((z.shape[0], exponents.shape[0]))
    for k in range(z.shape[1]):
        table = chebyshev.chebvander(z[:, k], degree)
        if k == along:
            slopes = chebyshev.chebder(np.eye(degree + 1)) if degree else np.zeros((1, 1))
            table = chebyshev.chebvander(z[:, k], max(degree - 1, 0)) @ slopes
        out *= table[:, exponents[:, k]]
    return out
