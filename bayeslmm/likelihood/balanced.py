"""The estimates of balanced designs in closed form.

*One grouping factor.* All levels have the same columns Z of the random effects, the fixed effects span Z, and what they
have besides varies alike within every level. With ``M = sigma^2 (I + R Sigma R')`` the criterion is, plus constants,

    ``k log |M| + tr(M^-1 S) + f log sigma^2 + W / sigma^2``,   M - sigma^2 I positive semidefinite,

S being the sum of squares and products of the levels about their mean, W what is left within them, k and f degrees of
freedom. It is convex in ``(M^-1, sigma^-2)``, as is the set that these may come from: there is one minimum. Eigenvalues
of ``S / k`` below sigma^2 are pooled with the residual (Amemiya 1985, Am. Stat. 39, 112-117).

*Intercepts of crossed or nested factors*, by REML. All cells of crossed factors hold as many rows, all levels of a
nested one as many inner levels, and the fixed effects' sums are the same in all levels. Every factor then has a mean
square of its own, with expectation ``m = sigma^2 + (rows of a level) variance`` (of a factor with others nested in it
their m in the place of sigma^2), and the criterion a term ``k log m + S / m``, convex in 1 / m. Mean squares below the
one that they cannot be below are pooled with it, the smallest first (Thompson 1962, Ann. Math. Stat. 33, 273-289).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray

# Share of themselves by which sums of different levels differ, and by which fixed effects vary within them, by
# rounding.
_SAME, _NOTHING = 1e-11, 1e-13
# Less than this share that is left within levels is no residual that a formula should divide by.
_RESIDUAL = 1e-6


def closed_form(s: LevelSums, reml: bool) -> list[FloatArray] | None:
    """Square roots (c, c) of the relative covariances of the blocks at the only minimum.

    None where levels are unlike, columns of the fixed effects among them.
    """
    if s.reference is not None or not s.alike or s.unlike:
        return None
    if len(s.blocks) > 1:
        return _intercepts(s) if reml else None
    return _one_factor(s, reml)


def _one_factor(s: LevelSums, reml: bool) -> list[FloatArray] | None:
    J, c, _ = s.E.shape
    k = J - 1 if reml else J
    f = s.n - (s.p if reml else 0) - c * k
    if c == 0 or k < 1 or f < 1 or not _spanned(s):
        return None
    effects = s.E[..., -1] - s.E[..., -1].sum(axis=0) / J
    products, within = effects.T @ effects, float(s.D[-1, -1])
    if not within > _RESIDUAL * (within + sum(products.diagonal().tolist())):
        return None
    values, vectors = direct.eigenvectors(products)
    ratios = _ratios([within, *values.tolist()], [f, *[k] * c], [0] * (c + 1))
    return [direct.solve(s.R[0], vectors * np.sqrt(ratios))]


def _spanned(s: LevelSums) -> bool:
    """Whether the fixed effects are the same in each level, and span all that is random."""
    c, p, first = s.E.shape[1], s.p, s.R[0]
    size = direct.largest(first)
    X, within = s.E[..., :-1], s.D[:-1, :-1]
    if p < c or first.diagonal().min() <= _NOTHING * size or not _same(X, max(direct.largest(X[0]), size)):
        return False
    # Within levels nothing may be left of as many columns as there are effects; nor may y, which has X taken out.
    total = sum(within.diagonal().tolist()) + len(X) * direct.squares(X[0].reshape(-1))
    rest = direct.eigenvalues(within)[:c] if p > c else np.abs(within)
    left = direct.largest(s.D[:-1, -1])
    return bool(rest.max() <= _NOTHING * total and left <= _SAME * np.sqrt(total * max(float(s.D[-1, -1]), 0.0)))


def _intercepts(s: LevelSums) -> list[FloatArray] | None:
    q2, flat = s.q_trailing, s.E.reshape(-1, s.E.shape[-1])
    if any(block.size != 1 for block in s.blocks) or s.frame.fixed.constant is None:
        return None
    # Cross-products of every factor with all columns.
    own, rest = s.R[0, 0, 0], s.D + flat.T @ flat
    spans = [span for _, span in s.frame.trailing_spans]
    products = [own * flat, *(rest[span] for span in spans)]
    diagonal, fixed = rest.diagonal(), slice(q2, -1)
    rows = [float(own**2), *(float(diagonal[span.start]) for span in spans)]
    square = float(diagonal[-1])
    unexplained = direct.largest(rest[fixed, -1]) <= _SAME * math.sqrt(diagonal[fixed].max() * square)
    alike = [diagonal[span, None] for span in spans] + [table[:, fixed] for table in products]
    if not unexplained or not all(_same(table, s.n) for table in alike):
        return None
    before = _before(s, products, rows, spans)
    if before is None:
        return None
    squares = [float(table[:, -1] @ table[:, -1]) / size for table, size in zip(products, rows, strict=True)]
    k = [len(table) for table in products]
    if before[-1] > 0:
        # Each less what the factor that it is nested in has of it.
        squares = [own - outer for own, outer in pairwise([*squares, 0.0])]
        k = [own - outer for own, outer in pairwise([*k, 1])]
    else:
        k = [levels - 1 for levels in k]
    within, f = square - sum(squares), s.n - s.p - sum(k)
    if min(k) < 1 or f < 1 or not within > _RESIDUAL * square:
        return None
    ratios = _ratios([within, *squares], [f, *k], before)
    return [np.array([[math.sqrt(ratio / size)]]) for ratio, size in zip(ratios, rows, strict=True)]


def _before(s: LevelSums, products: list[FloatArray], rows: list[float], spans: list[slice]) -> list[int] | None:
    """The mean square that each cannot be below, 0 being the residual's: of crossed factors that, in a chain the last.

    None for factors that are neither all crossed in equal cells nor each nested in the next.
    """
    factors = range(len(products))
    tables = {(i, j): products[i][:, spans[j - 1]] for i in factors for j in factors[i + 1 :]}
    if all(_same(table.reshape(-1, 1), s.n) for table in tables.values()):
        return [0] * (len(products) + 1)
    # A level that lies in one level of another factor has all its rows there.
    nested = all(direct.largest(table.max(axis=1) - rows[i]) <= _SAME * s.n for (i, _), table in tables.items())
    return [0, *factors] if nested else None


def _same(rows: FloatArray, size: float) -> bool:
    """Whether all rows of a table are the same, but for rounding."""
    return direct.largest(rows - rows[0]) <= _SAME * size


def _ratios(squares: list[float], k: list[int], before: list[int]) -> list[float]:
    """By how much mean squares exceed the ones before them, in units of the first, after pooling: S - 1 numbers."""
    places, owner = range(1, len(squares)), list(range(len(squares)))
    mean = [own / count for own, count in zip(squares, k, strict=True)]
    while violators := [i for i in places if owner[i] == i and mean[i] <= mean[before[i]]]:
        lowest = min(violators, key=mean.__getitem__)
        pool = owner[before[lowest]]
        squares[pool], k[pool] = squares[pool] + squares[lowest], k[pool] + k[lowest]
        owner = [pool if own == lowest else own for own in owner]
        mean = [squares[own] / k[own] for own in owner]
    return [(mean[i] - mean[before[i]]) / mean[0] for i in places]
