"""Exact evaluations of a likelihood, which a polynomial in its place is fitted to, and the box it holds on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.target import Target
from bayeslmm.likelihood import Factor, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.criteria import evaluated_with_slopes
from bayeslmm.likelihood.last_blocks import LastBlocks
from bayeslmm.types import BoolArray, FloatArray

# Nodes evaluated at once where the store can.
_BATCH = 40
_STEP = 1e-5


@dataclass(frozen=True)
class Box:
    """Where a polynomial holds, in the coordinates that it is a function of.

    Attributes
    ----------
    lower, upper : FloatArray, shape (d of own,)
    own : BoolArray, shape (d,)
        These coordinates; the others are free.
    """

    lower: FloatArray
    upper: FloatArray
    own: BoolArray

    @property
    def whole(self) -> bool:
        """Whether no coordinate is free."""
        return bool(self.own.all())

    @property
    def width(self) -> FloatArray:
        """Lengths of its sides."""
        return self.upper - self.lower

    def has(self, x: FloatArray) -> BoolArray:
        """Mask (K,) of points x (K, d) that are in it."""
        return np.asarray(((x[:, self.own] >= self.lower) & (x[:, self.own] <= self.upper)).all(axis=1))

    def clip(self, x: FloatArray) -> FloatArray:
        """Points (K, d) or (d,) moved to the nearest in it."""
        out = x.copy()
        out[..., self.own] = np.clip(x[..., self.own], self.lower, self.upper)
        return out

    def spread(self, at: FloatArray, count: int, seed: int) -> FloatArray:
        """Quasi-random points (count, d), denser towards the faces; free coordinates as in `at` (d,)."""
        from scipy.stats import qmc

        u = qmc.Halton(self.lower.size, scramble=True, rng=seed).random(count)
        x = np.tile(at, (count, 1))
        x[:, self.own] = 0.5 * (self.lower + self.upper) - 0.5 * self.width * np.cos(np.pi * u)
        return x


@dataclass(frozen=True)
class Nodes:
    """Exact evaluations.

    Attributes
    ----------
    x : FloatArray, shape (K, d)
    values : FloatArray, shape (K, 2)
        Both log determinants together, log r2.
    slopes : FloatArray, shape (K, 2, d)
        Their derivatives; not a number where they were not asked for.
    fixed : FloatArray, shape (K, p (p + 1) / 2 + p)
        Of the fixed effects, the lower triangle of the Cholesky factor (logarithms on the diagonal, below it ratios to
        the diagonal of the column) and the solution.
    last : tuple of LastBlocks
        What gives the same, but for slopes, at any covariances of the last blocks; empty where there are none.
    """

    x: FloatArray
    values: FloatArray
    slopes: FloatArray
    fixed: FloatArray
    last: tuple[LastBlocks, ...] = ()

    def within(self, box: Box) -> Nodes:
        """Those in a box."""
        keep = np.flatnonzero(box.has(self.x))
        last = tuple(self.last[k] for k in keep) if self.last else ()
        return Nodes(self.x[keep], self.values[keep], self.slopes[keep], self.fixed[keep], last)

    def __add__(self, other: Nodes) -> Nodes:
        return Nodes(
            np.concatenate([self.x, other.x]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.slopes, other.slopes]),
            np.concatenate([self.fixed, other.fixed]),
            self.last + other.last,
        )


def evaluate_nodes(target: Target, x: FloatArray, *, slopes: bool = True) -> Nodes:
    """Exact values, and gradients if asked for, at K points."""
    batch = _BATCH if target.cp.sums.batched else 1
    # Where effects leave nothing of the residuals but rounding, numbers are nan: a node without density.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        parts = [_evaluate_batch(target, x[k : k + batch], slopes) for k in range(0, x.shape[0], batch)]
    return sum(parts[1:], parts[0])


def _evaluate_batch(target: Target, x: FloatArray, slopes: bool) -> Nodes:
    cp = target.cp
    factors = par.block_factors(cp, target.terms(x)[0])
    if slopes:
        factor, traces, squared = evaluated_with_slopes(cp, factors)
        found = _slopes(target, x, factor, traces, squared)
    else:
        factor = evaluate(cp, factors)
        found = np.full((x.shape[0], 2, x.shape[1]), np.nan)
    last = cp.sums.last_blocks(factor)
    return Nodes(x, *_outputs(factor, found, cp.p), () if last is None else (last,))


def _slopes(
    target: Target, x: FloatArray, factor: Factor, traces: Sequence[FloatArray], squared: Sequence[FloatArray]
) -> FloatArray:
    """Derivatives (K, 2, d) of the values along the coordinates."""
    K, d = x.shape
    slopes = np.zeros((K, 2, d))
    for k in range(d):
        change = _covariance_slopes(target, x, k)
        slopes[:, 0, k] = sum((a * g).sum((1, 2)) for a, g in zip(traces, change, strict=True))
        squares = sum((a * g).sum((1, 2)) for a, g in zip(squared, change, strict=True))
        slopes[:, 1, k] = -squares / factor.r2
    return slopes


def _outputs(factor: Factor, slopes: FloatArray, p: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Values, slopes and numbers of the fixed effects, as `Nodes` has them."""
    q2 = factor.chol.shape[1] - p
    L = factor.chol[:, q2:, q2:]
    values = np.stack([factor.log_det + factor.log_det_fixed, np.log(factor.r2)], axis=1)
    solution = factor.solution[:, factor.solution.shape[1] - p :]
    return values, slopes, np.concatenate([in_logs(L), solution], axis=1)


def in_logs(L: FloatArray) -> FloatArray:
    """Lower triangles of Cholesky factors (K, c, c), row by row, as polynomials stand for them.

    Logarithms of the diagonal, and ratios to the diagonal of the column below it: all entries of a factor fall off
    together, by orders of magnitude, where an sd grows.
    """
    diagonal = np.diagonal(L, axis1=1, axis2=2)
    ratios = L / diagonal[:, None, :] + np.eye(L.shape[1]) * (np.log(diagonal) - 1.0)[:, None, :]
    return np.asarray(ratios[:, *np.tril_indices(L.shape[1])])


def from_logs(logs: FloatArray, size: int) -> FloatArray:
    """The factors (K, c, c) of what `in_logs` made of them."""
    L = np.zeros((logs.shape[0], size, size))
    L[:, *np.tril_indices(size)] = logs
    diagonal = np.exp(np.clip(np.diagonal(L, axis1=1, axis2=2), -300.0, 300.0))
    L[:, np.arange(size), np.arange(size)] = 1.0
    return L * diagonal[:, None, :]


def _covariance_slopes(target: Target, x: FloatArray, k: int) -> list[FloatArray]:
    """Derivative (K, c, c) of the relative covariance of every block along one coordinate."""
    step = np.zeros(x.shape[1])
    step[k] = _STEP
    ends = []
    for sign in (1.0, -1.0):
        T = par.block_factors(target.cp, target.terms(np.where(target.folded, np.abs(x), x) + sign * step)[0])
        ends.append([t @ np.swapaxes(t, 1, 2) for t in T])
    return [(a - b) / (2.0 * _STEP) for a, b in zip(*ends, strict=True)]
