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
from bayeslmm.likelihood import CrossProducts, Derivatives, Factor
from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class HeldCoefficient:
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
    held: HeldCoefficient,
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
    column = cp.sums.solve_fixed(factor, rows, held.functional)
    c = (column[:, q2:] * held.functional).sum(1)
    off = held.value - (held.functional * factor.solution[rows, q2:]).sum(1)
    terms.r2[rows] += off**2 / c
    weight, part, infinite = terms.weight[rows], along.part(rows), np.full(rows.size, np.inf)
    # Squares of a sum have the mixed ones in them; both are brought to one size.
    size = np.sqrt(terms.r2[rows] / c)
    own = factor.part(rows)
    nu = degrees_of_freedom(cp, reml)
    one, other, both = cp.sums.with_column([T[rows] for T in factors], own, first, column, size, -off / c, nu, reml)
    mixed_squares = [0.5 * (c - a - b) for a, b, c in zip(one.squares, other.squares, both.squares, strict=True)]
    mixed = part.along(mixed_squares) / size[:, None]
    H = replace(one, scale=weight, r2=infinite).second(part.stacks)
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
    curve = own.second(part.stacks) - none.second(part.stacks)
    slope = part.along(column.squares) * share[:, None]
    return np.asarray(-curve - slope[:, :, None] * slope[:, None, :])
