"""Sums with one block eliminated level by level and all else dense.

The rows of the largest grouping factor are stored split into a between and a within part: with ``Z_l = Q_l R_l`` for
level l, ``E_l = Q_l' W`` (between) and ``D = W'W - sum_l E_l'E_l`` (within), where W collects the columns of the other
random terms, of X and y. For any variances the eliminated matrix is then
``D + sum_l E_l' (I + R_l Sigma R_l')^-1 E_l``: a sum of positive terms, without the cancellation of ``W'W - ...``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.packed_pairs import PackedPairs
from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray, IntArray

# Levels are taken together by their R up to this many kinds; beyond `_MANY` levels that has to save something.
_KINDS = 256
_MANY = 256
# Share of their size by which equal columns of two levels differ.
_ROUNDING = 1e-13
# Numbers of all levels from where on loops over them are worth their compilation.
_LONG = 1_000_000
# Levels whose columns differ more in size cannot be compared by one measure.
_ALIKE = 1e5
# Products of columns that are kept level by level (their packed triangles: a quarter), and the ratio of the sum of
# squares of the response to what no effects could explain from which on a fit is tight.
_MOST_PRODUCTS, _TIGHT = 16_000_000, 1e6


@dataclass(frozen=True)
class Moments:
    """Statistics of the first block, taken together over levels with the same columns.

    Attributes
    ----------
    R : FloatArray, shape (U, c, c)
        Distinct triangular factors.
    counts : FloatArray, shape (U,)
        Levels that have each.
    sums : FloatArray, shape (U, c, c, m, m)
        ``sum_l E_l[a]' E_l[b]``.
    """

    R: FloatArray
    counts: FloatArray
    sums: FloatArray


@dataclass(frozen=True)
class LevelSums:
    """Cross-products with one block eliminated level by level and all else dense: the numbers that `Levels` works on.

    Attributes
    ----------
    frame : Frame
    n : int
        Observations summed.
    R : FloatArray, shape (J, c, c)
        Triangular factors of the first block within each level.
    E : FloatArray, shape (J, c, m)
        Between part of the trailing columns: random effects of the other blocks (q2), X (p), y (1).
    D : FloatArray, shape (m, m)
        Within part of their cross-products.
    reference : FloatArray or None, shape (q2,)
        Effects of the other blocks that were taken out of y before it was summed.
    """

    frame: Frame
    n: int
    R: FloatArray
    E: FloatArray
    D: FloatArray
    reference: FloatArray | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.frame.blocks

    @cached_property
    def q_trailing(self) -> int:
        """q2, the number of random effects outside the first block."""
        return self.frame.q_trailing

    @cached_property
    def p(self) -> int:
        return self.frame.p

    @property
    def by_point(self) -> tuple[FloatArray, FloatArray]:
        """R (1, J, c, c) and E (1, J, c, m): the first axis is that of the points, which share them."""
        return self.R[None], self.E[None]

    @cached_property
    def unlike(self) -> bool:
        """Whether columns differ so much in size, between levels or within one, that rounding of some hides others."""
        return unlike(self.R)

    @cached_property
    def worth_loops(self) -> bool:
        """Whether levels are so many, with columns of their own, that arrays over all of them and points are long."""
        return self.E.size >= _LONG and not self.q_trailing and not self.unlike and self.moments is None

    @cached_property
    def alike(self) -> bool:
        """Whether all levels have the same columns of the first block, but for rounding."""
        first = self.R[0]
        size = direct.largest(first)
        # Of many levels one tells of most that are not.
        if len(self.R) > _MANY and direct.largest(self.R[-1] - first) > _ROUNDING * size:
            return False
        return direct.largest(self.R - first) <= _ROUNDING * size

    @cached_property
    def moments(self) -> Moments | None:
        """Between parts summed over levels that share R; None where few do."""
        J, c, m = self.E.shape
        if not c or self.unlike:
            return None
        if self.alike:
            which, first = None, np.zeros(1, dtype=np.int64)
        # Half the levels are enough to see that there are too many kinds.
        elif J > _MANY and _distinct(self.R[: J // 2].reshape(J // 2, -1))[1].size > _KINDS:
            return None
        else:
            which, first = _distinct(self.R.reshape(J, -1))
        kinds = first.size
        if kinds > _KINDS or kinds * c * m > max(8 * J, 64) or (J > _MANY and kinds > J / 4):
            return None
        counts = np.array([J]) if which is None else np.bincount(which)
        sums = np.empty((kinds, c, c, m, m))
        parts = [self.E]
        if which is not None and kinds > 1:
            parts = np.split(self.E[np.argsort(which, kind="stable")], np.cumsum(counts)[:-1])
        for u, part in enumerate(parts):
            flat = part.reshape(part.shape[0], c * m)
            sums[u] = (flat.T @ flat).reshape(c, m, c, m).transpose(0, 2, 1, 3)
        return Moments(self.R[first], counts.astype(float), sums)

    @cached_property
    def pairs(self) -> PackedPairs | None:
        """Products of columns for evaluations at many points; None where they are too many or would lose digits."""
        (J, c, m), moments = self.E.shape, self.moments
        # Inverses do not keep the last digits, which tight fits need: the tightest is with effects as they like.
        rest = self.D[-1, -1] - self.D[-1, :-1] @ np.linalg.lstsq(self.D[:-1, :-1], self.D[:-1, -1], rcond=1e-12)[0]
        tight = (self.E[..., -1] ** 2).sum() + self.D[-1, -1] > _TIGHT * rest
        if not c or self.unlike or tight:
            return None
        if moments is not None:
            sums = moments.sums
            return PackedPairs.of(moments.R, moments.counts, self.D, self._by_effect, lambda a, b: sums[:, a, b])
        if J * c * c * m * m > _MOST_PRODUCTS:
            return None
        E = self.E
        return PackedPairs.of(
            self.R, np.ones(J), self.D, self._by_effect, lambda a, b: E[:, a, :, None] * E[:, b, None, :]
        )

    @property
    def _by_effect(self) -> IntArray:
        """Trailing columns with the same effect of all levels of a block together."""
        spans = self.frame.trailing_spans
        parts = [np.arange(span.start, span.stop).reshape(-1, block.size).T.ravel() for block, span in spans]
        return np.concatenate([*parts, np.arange(self.q_trailing, self.D.shape[0])])


def unlike(R: FloatArray) -> bool:
    """Whether the rows of factors (J, c, c) differ so much in size that rounding of some hides others."""
    sizes = np.abs(R).max(axis=2, initial=0.0)
    smallest = sizes.min(initial=np.inf)
    if not smallest > 0:
        smallest = sizes.min(where=sizes > 0, initial=np.inf)
    return bool(sizes.max(initial=0.0) > _ALIKE * smallest)


def _distinct(rows: FloatArray) -> tuple[IntArray, IntArray]:
    """Group rows that are equal up to the rounding of sums: the group of each row, a row of each group."""
    scale = np.abs(rows).max(axis=0)
    keys = np.round(rows / np.where(scale > 0, scale, 1.0), 13) + 0.0
    if (keys == keys[0]).all():
        return np.zeros(rows.shape[0], dtype=np.int64), np.zeros(1, dtype=np.int64)
    if keys.shape[1] == 1:
        _, first, which = np.unique(keys[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return which.ravel(), first
