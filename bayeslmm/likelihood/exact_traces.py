"""The trace terms of a hierarchy's Hessian, from all columns of the projected cross-products of its random effects.

``S = Z' P0 Z`` costs one solution per random effect; once it is there, ``tr(S dG S dG')`` of all pairs of parameters
is a product of small matrices for every pair of blocks. Where parameters are many, that is much less than
differences of the gradient along each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bayeslmm.likelihood import elimination as el
from bayeslmm.likelihood import large
from bayeslmm.types import FloatArray

# Random effects for each parameter up to which their columns cost less than two gradients, and at all.
_PER_PARAMETER, _MOST = 128, 3000
# Columns at a time.
_CHUNK = 256


@dataclass(frozen=True)
class ChainPieces(large.ChainScores):
    """`derivatives.SecondOrder` of a hierarchy at one point: the average information, exact traces on request."""

    @property
    def exact(self) -> bool:
        return False

    def affordable(self, parameters: int) -> bool:
        """Whether exact traces cost less than differences of the gradient."""
        return _rows(self)[-1] <= min(_MOST, _PER_PARAMETER * parameters)

    def second(
        self, directions: Sequence[FloatArray], scale: FloatArray, r2: FloatArray, traces_of: bool | None
    ) -> FloatArray:
        """Second derivatives (1, d, d) along changes of G."""
        single = [gamma[0] for gamma in directions]
        if traces_of is not None:
            return exact_second(self, single, float(scale[0]), float(r2[0]), traces_of)[None]
        return large.information(self, single, float(scale[0]), float(r2[0]))[None]

    def traces(self, directions: Sequence[FloatArray]) -> FloatArray:
        """``tr(S dG S dG')`` of all pairs (1, d, d)."""
        return _traces(projected(self, self.reml), _rows(self), [gamma[0] for gamma in directions])[None]

    def information(self, directions: Sequence[FloatArray], scale: float) -> tuple[FloatArray, FloatArray]:
        """``s' dG S dG' s`` and ``s' dG s`` times `scale`: what traces are expected to be."""
        both, slopes = large.curves(self, directions)
        return scale * both, scale * slopes


def exact_second(
    pieces: large.ChainScores, directions: Sequence[FloatArray], scale: float, r2: float, reml: bool
) -> FloatArray:
    """Second derivatives of the profiled criterion along changes of G, see `derivatives.Derivatives.second`.

    Parameters
    ----------
    pieces : large.ChainScores
    directions : sequence of FloatArray, each (d_b, c, c)
        For every block the symmetric changes of its covariance.
    scale, r2 : float
        ``nu / r2`` and r2.
    reml : bool

    Returns
    -------
    FloatArray, shape (d, d)
    """
    both, slopes = large.curves(pieces, directions)
    traces = _traces(projected(pieces, reml), _rows(pieces), directions)
    return np.asarray(scale * (2.0 * both - np.outer(slopes, slopes) / r2) - traces)


def projected(pieces: large.ChainScores, reml: bool = True) -> FloatArray:
    """``Z' P0 Z`` (``Z' V0^-1 Z`` for ML), the chain first, shape (q, q)."""
    total = _rows(pieces)[-1]
    S = np.empty((total, total))
    for start in range(0, total, _CHUNK):
        stop = min(start + _CHUNK, total)
        S[:, start:stop] = _columns(pieces, start, stop, reml)
    return S


def _columns(pieces: large.ChainScores, start: int, stop: int, reml: bool) -> FloatArray:
    h, dense, q = pieces.h, pieces.dense, pieces.h.q_dense
    unit = np.eye(_rows(pieces)[-1], stop - start, -start)
    ends = np.cumsum([0, *(s[..., 0].size for s in pieces.scores)])
    shapes = [(*s.shape[:-1], stop - start) for s in pieces.scores]
    z = [unit[a:b].reshape(shape) for shape, (a, b) in zip(shapes, pairwise(ends), strict=True)]
    column = el.product(h, z)
    halves, right = el.forward(h, pieces.eliminated, column)
    if reml:
        solution = dense.solve(right)
    else:
        # The leading block of the factor is that of the random effects alone.
        alone = replace(dense, upper=np.asfortranarray(dense.upper[:q, :q]))
        solution = np.zeros_like(right)
        solution[:q] = alone.solve(right[:q]) if q else right[:q]
    found = el.scores(h, column, el.backward(h, pieces.eliminated, halves, solution), solution)
    return np.concatenate([part.reshape(-1, stop - start) for part in found])


def _rows(pieces: large.ChainScores) -> list[int]:
    """Where the random effects of every block end, from 0."""
    chain = [s[..., 0].size for s in pieces.scores[:-1]]
    dense = [T.shape[0] * J for T, J in zip(pieces.dense.lam, pieces.dense.levels, strict=True)]
    return [int(end) for end in np.cumsum([0, *chain, *dense])]


def _traces(S: FloatArray, ends: Sequence[int], directions: Sequence[FloatArray]) -> FloatArray:
    """``tr(S dG S dG')`` for all pairs of directions."""
    tiles = [(slice(a, b), g) for (a, b), g in zip(pairwise(ends), directions, strict=True)]
    return np.block([[_pair(S[i, j], g, other) for j, other in tiles] for i, g in tiles])


def _pair(S: FloatArray, gamma: FloatArray, other: FloatArray) -> FloatArray:
    c, k = gamma.shape[1], other.shape[1]
    flat = S.reshape(-1, c, S.shape[1] // k, k).transpose(1, 3, 0, 2).reshape(c * k, -1)
    gram = (flat @ flat.T).reshape(c, k, c, k).transpose(0, 2, 1, 3).reshape(c * c, k * k)
    return np.asarray(gamma.reshape(-1, c * c) @ gram @ other.reshape(-1, k * k).T)
