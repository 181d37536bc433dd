"""What becomes of the criterion when one fixed effect is held at a value.

With ``w = Z' V0^-1 X (X' V0^-1 X)^-1 e_j`` and the notation of `likelihood.derivatives`, the conditional estimate b^
and c = ((X' V0^-1 X)^-1)_jj change by ``db^ = -w' dG s`` and ``dc = w' dG w``; with beta_j held at b everything is as
before with ``s_b = s - w (b - b^) / c``, ``S_b = S + w w' / c`` and ``r2_b = r2 + (b - b^)^2 / c``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.inference.profile_curves import Curves, Terms
from bayeslmm.likelihood import CrossProducts, Derivatives, Factor, derivatives, large
from bayeslmm.likelihood import elimination as el
from bayeslmm.likelihood.derivatives import second_derivatives
from bayeslmm.likelihood.factor import apply_lambda
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class Held:
    """Which coefficient is held where.

    Attributes
    ----------
    rows : IntArray, shape (A,)
        The points.
    functional : FloatArray, shape (A, p)
        The coefficient in terms of the internal ones.
    value : FloatArray, shape (A,)
    unit : FloatArray, shape (A,)
        Derivatives are in the coefficient divided by this.
    """

    rows: IntArray
    functional: FloatArray
    value: FloatArray
    unit: FloatArray


@dataclass(frozen=True)
class Change:
    """Derivatives of the points concerned.

    Attributes
    ----------
    hessian : FloatArray, shape (A, k, k)
        Along the changes of G, without the curvature of G.
    slope, bend : FloatArray, shape (A,)
        First and second derivative in the coefficient.
    mixed : FloatArray, shape (A, k)
    """

    hessian: FloatArray
    slope: FloatArray
    bend: FloatArray
    mixed: FloatArray


def hold_coefficient(
    cp: CrossProducts,
    reml: bool,
    held: Held,
    factors: Sequence[FloatArray],
    factor: Factor,
    first: Derivatives,
    terms: Terms,
    along: Curves,
) -> Change:
    """Change the terms of the criterion (in place) at the points where a coefficient is held.

    Parameters
    ----------
    cp : CrossProducts
    reml : bool
        Whether the other coefficients are integrated out.
    held : Held
    factors, factor, first
        All points: internal factors, evaluation, derivatives.
    terms : Terms
    along : Curves
    """
    rows, q2 = held.rows, cp.q_trailing
    column = _column(cp, held.functional, factor, rows)
    c = (column[:, q2:] * held.functional).sum(1)
    off = held.value - (held.functional * factor.solution[rows, q2:]).sum(1)
    terms.r2[rows] += off**2 / c
    weight, part, infinite = terms.weight[rows], along.part(rows), np.full(rows.size, np.inf)
    # Squares of a sum have the mixed ones in them; both are brought to one size.
    size = np.sqrt(terms.r2[rows] / c)
    own = _part(factor, rows)
    one, other, both = _swapped(cp, [T[rows] for T in factors], own, first, column, size, -off / c, reml)
    mixed_squares = [0.5 * (c - a - b) for a, b, c in zip(one.squares, other.squares, both.squares, strict=True)]
    mixed = part.along(mixed_squares) / size[:, None]
    H = second_derivatives(cp, replace(one, scale=weight, r2=infinite), part.stacks)
    H += (2.0 * weight / c)[:, None, None] * mixed[:, :, None] * mixed[:, None, :]
    for squares, new in zip(terms.squares, one.squares, strict=True):
        squares[rows] = new
    if reml:
        terms.logs[rows] += np.log(c)
        terms.nu[rows] += 1.0
        share = 1.0 / terms.r2[rows]
        H += _log_curvature(cp, other, share, part)
        for traces, new in zip(terms.traces, other.squares, strict=True):
            traces[rows] += share[:, None, None] * new
    slope, bend = 2.0 * weight * held.unit * off / c, 2.0 * weight * held.unit**2 / c
    return Change(H, slope, bend, 2.0 * (weight * held.unit / c)[:, None] * mixed)


def _log_curvature(cp: CrossProducts, column: Derivatives, share: FloatArray, part: Curves) -> FloatArray:
    """``d2 log c = -2 w' dG S dG w / c - (w' dG w)^2 / c^2``; w scaled so that `share` takes the place of 1 / c."""
    infinite = np.full(share.size, np.inf)
    own, none = (replace(column, scale=scale, r2=infinite) for scale in (share, 0.0 * share))
    curve = second_derivatives(cp, own, part.stacks) - second_derivatives(cp, none, part.stacks)
    slope = part.along(column.squares) * share[:, None]
    return np.asarray(-curve - slope[:, :, None] * slope[:, None, :])


def _column(cp: CrossProducts, functional: FloatArray, factor: Factor, rows: IntArray) -> FloatArray:
    """Solution (A, t) of the joint equations of (u2, beta) with the functional as right-hand side."""
    right = np.zeros((rows.size, cp.q_trailing + cp.p, 1))
    right[:, cp.q_trailing :, 0] = functional
    if factor.hierarchy is not None:
        dense = factor.hierarchy[1]
        return np.asarray(dense.back(dense.half(right[0])).T)
    L = factor.chol[rows]
    return np.asarray(np.linalg.solve(L.mT, np.linalg.solve(L, right))[..., 0])


def _part(factor: Factor, rows: IntArray) -> Factor:
    """Some points of an evaluation, with what derivatives need."""
    if factor.hierarchy is not None:
        return factor
    return replace(
        factor.take(rows),
        trailing=factor.trailing[rows],
        residual=factor.residual[rows],
        total=factor.total[rows],
        first=None if factor.first is None else (factor.first[0][rows], factor.first[1][rows]),
        replicated=factor.replicated,
    )


def _swapped(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    first: Derivatives,
    column: FloatArray,
    size: FloatArray,
    share: FloatArray,
    reml: bool,
) -> tuple[Derivatives, Derivatives, Derivatives]:
    """Derivatives with another vector for s: with the coefficient held, of w times `size`, of the sum of these."""
    if isinstance(cp.store, Hierarchy):
        return _swapped_large(cp, cp.store, factor, first, column, float(size[0]), float(share[0]))
    if cp.q_trailing:
        column = apply_lambda(cp, factors[1:], column[..., None], transposed=False)[..., 0]
    alone = np.concatenate([column, np.zeros((column.shape[0], 1))], axis=1)
    held = factor.residual + share[:, None] * alone
    scaled = alone * size[:, None]
    one, other, both = (
        derivatives(cp, factors, replace(factor, residual=v), reml) for v in (held, scaled, held + scaled)
    )
    return one, other, both


def _swapped_large(
    cp: CrossProducts, h: Hierarchy, factor: Factor, first: Derivatives, column: FloatArray, size: float, share: float
) -> tuple[Derivatives, Derivatives, Derivatives]:
    assert factor.hierarchy is not None
    assert isinstance(first.pieces, large.Pieces)
    eliminated, dense = factor.hierarchy
    solution = -dense.scale(column.T.copy(), False)
    nothing = el.response(h)
    nothing = el.Column(0.0 * nothing.between, tuple(0.0 * w for w in nothing.within), 0.0 * nothing.dense)
    halves = [np.zeros_like(member.half.fixed[..., -1:]) for member in eliminated.members]
    w = el.scores(h, nothing, el.backward(h, eliminated, halves, solution), solution)
    kept = first.pieces
    held = [s + share * own for s, own in zip(kept.scores, w, strict=True)]
    scaled = [size * own for own in w]
    both = [a + b for a, b in zip(held, scaled, strict=True)]
    one, other, total = (_with_scores(cp, first, kept, scores) for scores in (held, scaled, both))
    return one, other, total


def _with_scores(cp: CrossProducts, first: Derivatives, kept: large.Pieces, scores: list[FloatArray]) -> Derivatives:
    chain, start = kept.h.plan.chain, 0
    squares = [s[..., 0].T @ s[..., 0] for s in scores[:chain]]
    for block in cp.trailing_blocks:
        s = scores[-1][start : start + block.q, 0].reshape(block.n_levels, block.size)
        squares.append(s.T @ s)
        start += block.q
    return Derivatives(
        first.traces, tuple(s[None] for s in squares), replace(kept, scores=scores), first.scale, first.r2
    )
