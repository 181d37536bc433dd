"""The estimates of balanced designs in closed form.

*One grouping factor.* All levels have the same columns Z of the random effects, the fixed effects span Z, and what they
have besides varies alike within every level. With ``M = sigma^2 (I + R Sigma R')`` the criterion is, plus constants,

    ``k log |M| + tr(M^-1 S) + f log sigma^2 + W / sigma^2``,   M - sigma^2 I positive semidefinite,

S being the sum of squares and products of the levels about their mean, W what is left within them, k and f degrees of
freedom. It is convex in ``(M^-1, sigma^-2)``, as is the set that these may come from: there is one minimum. Eigenvalues
of ``S / k`` below sigma^2 are pooled with the residual, the smallest first (Amemiya 1985, Am. Stat. 39, 112-117).

*Crossed intercepts.* All cells of any two factors hold as many rows, and so does each level of the fixed effects' sums.
By REML every factor has a term ``k log m + S / m`` like these, with ``m = sigma^2 + (rows of a level) variance``.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray, IntArray

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
        return _crossed(s) if reml else None
    return _one_factor(s, reml)


def _one_factor(s: LevelSums, reml: bool) -> list[FloatArray] | None:
    J, c, _ = s.E.shape
    k = J - 1 if reml else J
    f = s.n - (s.p if reml else 0) - c * k
    if c == 0 or k < 1 or f < 1 or not _spanned(s):
        return None
    effects = s.E[..., -1] - s.E[..., -1].mean(axis=0)
    products, within = effects.T @ effects, float(s.D[-1, -1])
    if not within > _RESIDUAL * (within + float(np.trace(products))):
        return None
    values, vectors = direct.eigenvectors(products)
    ratios = _ratios(values, np.full(c, k), within, f)
    return [direct.solve(s.R[0], vectors * np.sqrt(ratios))]


def _spanned(s: LevelSums) -> bool:
    """Whether the fixed effects are the same in each level, and span all that is random."""
    c, p, first = s.E.shape[1], s.p, s.R[0]
    size = np.abs(first).max()
    X, within = s.E[..., :-1], s.D[:-1, :-1]
    if p < c or first.diagonal().min() <= _NOTHING * size or not _same(X, max(np.abs(X[0]).max(), size)):
        return False
    # Within levels nothing may be left of as many columns as there are effects; nor may y, which has X taken out.
    total = float(np.trace(within)) + len(X) * float((X[0] * X[0]).sum())
    rest = direct.eigenvalues(within)[:c] if p > c else np.abs(within)
    left = np.abs(s.D[:-1, -1]).max()
    return bool(rest.max() <= _NOTHING * total and left <= _SAME * np.sqrt(total * max(float(s.D[-1, -1]), 0.0)))


def _crossed(s: LevelSums) -> list[FloatArray] | None:
    q2, flat = s.q_trailing, s.E.reshape(-1, s.E.shape[-1])
    if any(block.size != 1 for block in s.blocks) or s.frame.fixed.constant is None:
        return None
    # Cross-products with the first factor, and of all others with one another.
    first, rest = s.R[0, 0, 0] * flat, s.D + flat.T @ flat
    rows, others = float(s.R[0, 0, 0] ** 2), np.diagonal(rest)[:q2]
    square = float(rest[-1, -1])
    spans = [span for _, span in s.frame.trailing_spans]
    fixed = slice(q2, -1)
    tables = [first[:, fixed], *(rest[span, fixed] for span in spans)]
    tables += [first[:, span].reshape(-1, 1) for span in spans]
    tables += [rest[a, b].reshape(-1, 1) for i, a in enumerate(spans) for b in spans[:i]]
    tables += [others[span, None] for span in spans]
    unexplained = np.abs(rest[fixed, -1]).max() <= _SAME * np.sqrt(np.diagonal(rest)[fixed].max() * square)
    if not unexplained or not all(_same(table, s.n) for table in tables):
        return None
    sizes = np.array([rows, *(others[span.start] for span in spans)])
    scores = [first[:, -1], *(rest[span, -1] for span in spans)]
    squares = np.array([float(score @ score) for score in scores]) / sizes
    k = np.array([score.size - 1 for score in scores])
    within, f = square - float(squares.sum()), s.n - s.p - int(k.sum())
    if k.min() < 1 or f < 1 or not within > _RESIDUAL * square:
        return None
    return [np.full((1, 1), root) for root in np.sqrt(_ratios(squares, k, within, f) / sizes)]


def _same(rows: FloatArray, size: float) -> bool:
    """Whether all rows of a table are the same, but for rounding."""
    return bool(np.abs(rows - rows[0]).max(initial=0.0) <= _SAME * size)


def _ratios(squares: FloatArray, k: IntArray, within: float, f: int) -> FloatArray:
    """``m / sigma^2 - 1`` of sums of squares with k degrees of freedom; those below sigma^2 are pooled."""
    pooled = np.zeros(squares.size, dtype=bool)
    for i in np.argsort(squares / k):
        if squares[i] > k[i] * (within / f):
            break
        within, f, pooled[i] = within + float(squares[i]), f + int(k[i]), True
    return np.where(pooled, 0.0, squares / k / (within / f) - 1.0)
