"""The matrix of all effects but those of the first factor, as an operator: products, its diagonal, solutions.

With S the cross-products that are left when the first factor is eliminated, ``K = I + T'S T`` is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_kernels import explained_products
from bayeslmm.likelihood.crossed_sums import CrossedSums, explained, whitening
from bayeslmm.types import FloatArray

# Residual of a solution beside its right-hand side, in the metric of the diagonal, and what is still a solution.
_TOLERANCE, _USABLE = 1e-13, 1e-8
_ITERATIONS = 3000
# A relative factor with a smaller singular value than this has no inverse that may be used.
_REGULAR = 1e-3
# Iterations without progress after which rounding has been reached.
_PATIENCE = 20


@dataclass(frozen=True)
class Operator:
    """K at one point.

    Attributes
    ----------
    s : CrossedSums
    T : tuple of FloatArray, each (c, c)
        Relative factors of all blocks.
    M : FloatArray, shape (J, c, c)
        ``(I + R G R')^-1`` of the first factor.
    W : FloatArray, shape (J, c, c)
        ``I - M``.
    log_first : float
        ``log |I + R G R'|`` of all its levels.
    """

    s: CrossedSums
    T: tuple[FloatArray, ...]
    M: FloatArray
    W: FloatArray
    log_first: float

    @classmethod
    def at(cls, s: CrossedSums, factors: Sequence[FloatArray]) -> Operator:
        """At relative factors (c, c)."""
        M, logs = whitening(s.R, factors[0])
        # What is estimated depends on which root of a covariance is taken: always the triangular one.
        T = (factors[0], *(np.linalg.cholesky(T @ T.T) if is_regular(T) else T for T in factors[1:]))
        return cls(s, T, M, explained(s.R, factors[0]), float(logs.sum()))

    def scaled(self, rows: FloatArray, transposed: bool = False) -> FloatArray:
        """Rows (q, k) multiplied by T (or T') of their block."""
        out = np.empty_like(rows)
        for (block, span), T in zip(self.s.others, self.T[1:], strict=True):
            if block.size == 1:
                out[span] = rows[span] * T[0, 0]
            else:
                tiles = rows[span].reshape(block.n_levels, block.size, -1)
                out[span] = small.dot(T.T if transposed else T, tiles).reshape(span.stop - span.start, -1)
        return out

    def products(self, v: FloatArray) -> FloatArray:
        """``S v`` for v (q, k)."""
        return np.asarray(self.s.products @ v - explained_products(self.s.cells, self.W, v))

    def times(self, v: FloatArray) -> FloatArray:
        """``K v``."""
        return v + self.scaled(self.products(self.scaled(v)), transposed=True)

    @cached_property
    def tiles(self) -> tuple[FloatArray, ...]:
        """Diagonal tiles (J, c, c) of S of each other block."""
        forms = self.s.tile_forms(self.W)
        return tuple(own - form for own, form in zip(self.s.diagonal_tiles, forms, strict=True))

    @cached_property
    def inner_tiles(self) -> tuple[FloatArray, ...]:
        """Those of ``K - I = T'S T``."""
        return tuple(small.dot(small.dot(T.T, tile), T) for tile, T in zip(self.tiles, self.T[1:], strict=True))

    @cached_property
    def diagonal(self) -> FloatArray:
        """Of K, shape (q,)."""
        return diagonal_of(self.inner_tiles) + 1.0

    def solve(self, right: FloatArray) -> FloatArray:
        """``K^-1 right`` for right (q, k), by conjugate gradients scaled with the diagonal.

        Raises
        ------
        numpy.linalg.LinAlgError
            No convergence: K is singular to rounding.
        """
        return conjugate_gradients(self, right)


def is_regular(T: FloatArray) -> bool:
    """Whether the inverse of a relative factor may be used."""
    return bool(np.linalg.svd(T, compute_uv=False)[-1] > _REGULAR)


def diagonal_of(tiles: Sequence[FloatArray]) -> FloatArray:
    """Diagonals of the tiles (J, c, c) of all blocks, shape (q,)."""
    return np.concatenate([np.diagonal(tile, axis1=1, axis2=2).ravel() for tile in tiles])


def conjugate_gradients(operator: Operator, right: FloatArray) -> FloatArray:
    """See `Operator.solve`.

    References
    ----------
    Hestenes & Stiefel (1952), J. Research of the National Bureau of Standards 49, 409-436.
    """
    x = np.zeros(right.shape)
    if not right.size:
        return x
    inverse = 1.0 / operator.diagonal[:, None]
    r = np.array(right, dtype=float)
    z = r * inverse
    p = z
    rz = (r * z).sum(0)
    goal = _TOLERANCE**2 * rz
    best, since = np.inf, 0
    for _ in range(_ITERATIONS):
        if (rz <= goal).all() or since > _PATIENCE:
            break
        product = operator.times(p)
        step = rz / np.maximum((p * product).sum(0), 1e-300)
        x += step * p
        r -= step * product
        z = r * inverse
        new = (r * z).sum(0)
        p = z + (new / np.maximum(rz, 1e-300)) * p
        rz = new
        worst = float((rz / np.maximum(goal, 1e-300)).max())
        best, since = (worst, 0) if worst < 0.5 * best else (best, since + 1)
    if (rz > (_USABLE / _TOLERANCE) ** 2 * goal).any() or not np.isfinite(x).all():
        raise np.linalg.LinAlgError("conjugate gradients do not converge: the matrix is singular to rounding")
    return x
