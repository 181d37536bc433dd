"""The first member of a chain eliminated at many draws, each with its own covariance, where it has one or two effects.

What is left of the others is ``S + E' M^-1 E``, ``M = I + R T T' R'`` for every level and draw. Where the covariance is
at most that of a reference it exceeds what the reference leaves by ``E' W E``, ``W = M^-1 - M0^-1`` nonnegative.

Matrices of every level and draw are kept entry by entry, as planes (J, S): a NumPy call then works on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.kernels import Cells, weighed
from bayeslmm.types import FloatArray

# Most effects: larger inverses would be taken level by level and draw by draw.
MOST_EFFECTS = 2


@dataclass(frozen=True)
class OwnFirst:
    """The first member at S draws.

    Attributes
    ----------
    E : Cells
        Between part of the columns of all others, c rows per level.
    y : FloatArray, shape (J, c, 1)
        That of the response.
    T : FloatArray, shape (S, c, c)
    F : FloatArray, shape (c, c, J, S)
        ``R T``.
    inverse, weights : FloatArray, shape (c (c + 1) / 2, J, S)
        ``M^-1`` and W, the lower triangles row by row.
    """

    E: Cells
    y: FloatArray
    T: FloatArray
    F: FloatArray
    inverse: FloatArray
    weights: FloatArray

    @classmethod
    def of(
        cls, h: ChainSums, between: Sequence[sparse.csr_array], T: FloatArray, reference: Sequence[FloatArray]
    ) -> OwnFirst:
        """At the draws' factors T (S, c, c), not above that of the reference.

        Parameters
        ----------
        h : ChainSums
        between : sequence of csr_array
            From `between_part`.
        T : FloatArray, shape (S, c, c)
        reference : sequence of FloatArray, each (c, c)
            Factors at the reference: the first member's, then those that the columns are multiplied by.
        """
        levels = [block.n_levels for block in h.frame.blocks[1 : len(reference)]]
        rest = between[0].shape[1] - sum(J * t.shape[0] for J, t in zip(levels, reference[1:], strict=True))
        tiles = [sparse.kron(sparse.eye_array(J), t) for J, t in zip(levels, reference[1:], strict=True)]
        scale = sparse.block_diag([*tiles, sparse.eye_array(rest)], format="csr")
        E = _in_cells([sparse.csr_array(part @ scale) for part in between])
        F = _products(h.R, T)
        inverse = _inverses(F)
        weights = inverse - _inverses(_products(h.R, reference[0][None]))
        # Rounding alone may have made them negative.
        np.maximum(weights[0], 0.0, out=weights[0])
        return cls(E, h.fixed[..., -1:], T, F, inverse, weights)

    def right(self, rows: FloatArray, sigma: FloatArray, rng: np.random.Generator) -> FloatArray:
        """What ``E' W E`` adds to the right-hand side (Q, S) of the others for a change of draws at the reference."""
        left = self.y - self.E.times(rows)
        own = weighed(self.weights, left)
        root, noise = _roots(self.weights), rng.standard_normal(left.shape)
        own[:, 0] += sigma * root[0] * noise[:, 0]
        if len(root) > 1:
            own[:, 1] += sigma * (root[1] * noise[:, 0] + root[2] * noise[:, 1])
        return self.E.transposed_times(own)

    def draw(self, rows: FloatArray, sigma: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Effects (J, c, S) given all others (Q, S)."""
        explained = weighed(self.inverse, self.y - self.E.times(rows))
        noise = rng.standard_normal(explained.shape)
        F = self.F
        # The effects are T u, u of mean F' M^-1 left and covariance sigma^2 (I + F'F)^-1.
        u = np.empty_like(explained)
        if len(F) == 1:
            u[:, 0] = F[0, 0] * explained[:, 0] + sigma / np.sqrt(1.0 + F[0, 0] ** 2) * noise[:, 0]
            return np.asarray(self.T[:, 0, 0] * u)
        L = _factors_beside_identity(F.swapaxes(0, 1))
        second = noise[:, 1] / L[2]
        first = (noise[:, 0] - L[1] * second) / L[0]
        u[:, 0] = F[0, 0] * explained[:, 0] + F[1, 0] * explained[:, 1] + sigma * first
        u[:, 1] = F[0, 1] * explained[:, 0] + F[1, 1] * explained[:, 1] + sigma * second
        return np.stack([self.T[:, a, 0] * u[:, 0] + self.T[:, a, 1] * u[:, 1] for a in range(2)], axis=1)


def between_part(h: ChainSums) -> list[sparse.csr_array]:
    """Between part (J, Q) of all columns but the first member's and y, for each of its effects."""
    J, c = h.R.shape[:2]
    levels, found = np.arange(J), []
    for a in range(c):
        columns: list[sparse.csr_array] = []
        for e, parents, block in zip(h.up, h.plan.up[0], h.frame.blocks[1:], strict=False):
            places = (parents[:, None] * block.size + np.arange(block.size)).ravel()
            table = sparse.coo_array((e[:, a].ravel(), (np.repeat(levels, block.size), places)), shape=(J, block.q))
            columns.append(table.tocsr())
        if h.q_dense:
            columns.append(h.cells.matrix(a))
        found.append(sparse.csr_array(sparse.hstack([*columns, sparse.csr_array(h.fixed[:, a, :-1])])))
    return found


def _in_cells(parts: Sequence[sparse.csr_array]) -> Cells:
    """Matrices (J, Q) of each effect in cells that have all of them."""
    J, width = parts[0].shape
    if len(parts) == 1:
        starts, columns = parts[0].indptr.astype(np.int64), parts[0].indices.astype(np.int64)
        return Cells(starts, columns, width, parts[0].data[:, None])
    places = [np.repeat(np.arange(J) * width, np.diff(part.indptr)) + part.indices for part in parts]
    union = np.unique(np.concatenate(places))
    values = np.zeros((union.size, len(parts)))
    for a, part in enumerate(parts):
        values[np.searchsorted(union, places[a]), a] = part.data
    return Cells(np.searchsorted(union, np.arange(J + 1) * width), union % width, width, values)


def _products(R: FloatArray, T: FloatArray) -> FloatArray:
    """``R T`` (c, c, J, S) of every level and draw."""
    c = R.shape[1]
    out = np.empty((c, c, R.shape[0], T.shape[0]))
    for a in range(c):
        for b in range(c):
            out[a, b] = sum(R[:, a, x, None] * T[:, x, b] for x in range(c))
    return out


def _factors_beside_identity(F: FloatArray) -> FloatArray:
    """Lower Cholesky factors (3, J, S) of ``I + F F'`` for 2 x 2 matrices, as `small.cholesky_beside_identity`."""
    first = 1.0 + F[0, 0] ** 2 + F[0, 1] ** 2
    root = np.sqrt(first)
    below = (F[1, 0] * F[0, 0] + F[1, 1] * F[0, 1]) / root
    determinant = F[0, 0] * F[1, 1] - F[0, 1] * F[1, 0]
    last = np.sqrt(1.0 + (F[1, 0] ** 2 + F[1, 1] ** 2) / first + (determinant / root) ** 2)
    return np.stack([root, below, last])


def _inverses(F: FloatArray) -> FloatArray:
    """``(I + F F')^-1``, lower triangles row by row."""
    if len(F) == 1:
        return np.asarray(1.0 / (1.0 + F[0] ** 2))
    a, b, d = _factors_beside_identity(F)
    square = (a * d) ** 2
    return np.stack([(b * b + d * d) / square, -a * b / square, a * a / square])


def _roots(weights: FloatArray) -> FloatArray:
    """Lower Cholesky factors of nonnegative matrices, row by row."""
    first: FloatArray = np.sqrt(weights[0])
    if len(weights) == 1:
        return first[None]
    below = np.divide(weights[1], first, out=np.zeros_like(first), where=first > 0.0)
    return np.stack([first, below, np.sqrt(np.maximum(weights[2] - below**2, 0.0))])
