"""Information of a response about the variances themselves, for the question whether they can be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood.criteria import degrees_of_freedom
from bayeslmm.likelihood.crossproducts import CrossProducts
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.types import FloatArray


def information(cp: CrossProducts, factors: Sequence[FloatArray], first: Derivatives, reml: bool) -> FloatArray:
    """Information about (every entry of G, residual variance) at one point, up to a factor.

    Entry (i, j) is ``tr(P0 V_i P0 V_j)`` with V_i the derivative of the covariance of y; for a hierarchy the average
    information, ``y'P0 V_i P0 V_j P0 y nu / r2``. A null direction is a change of the variances that y cannot show.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
    first : Derivatives
        At that point.
    reml : bool

    Returns
    -------
    FloatArray, shape (d + 1, d + 1)
        Blocks in order, in each the pairs (a, b), a >= b, row by row; the residual last, if it is not known.
    """
    directions = [_entry_directions(block.size) for block in cp.blocks]
    ends = np.cumsum([0, *(gamma.shape[0] for gamma in directions)])
    d = int(ends[-1])
    # G itself, as a combination of the directions: V0 = I + sum of these.
    own = np.concatenate([_lower_entries(T[0] @ T[0].T) for T in factors])
    both, slopes = first.pieces.information(directions, float(first.scale[0]))
    total = float(degrees_of_freedom(cp, reml))
    out = np.empty((d + 1, d + 1))
    out[:d, :d] = both
    out[:d, d] = out[d, :d] = slopes - both @ own
    out[d, d] = total - 2.0 * slopes @ own + own @ both @ own
    return out if cp.sigma is None else out[:d, :d]


def _entry_directions(c: int) -> FloatArray:
    rows, cols = np.tril_indices(c)
    gamma = np.zeros((rows.size, c, c))
    gamma[np.arange(rows.size), rows, cols] = gamma[np.arange(rows.size), cols, rows] = 1.0
    return gamma


def _lower_entries(G: FloatArray) -> FloatArray:
    return np.asarray(G[np.tril_indices(G.shape[0])])
