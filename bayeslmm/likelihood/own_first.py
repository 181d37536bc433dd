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

from bayeslmm.likelihood import small
from bayeslmm.likelihood.chain_sums import ChainSums
from bayeslmm.likelihood.kernels import Cells, weighed
from bayeslmm.types import FloatArray

# Most effects: larger inverses would be taken level by level and draw by draw.
_MOST_EFFECTS = 2


def eliminated_by_draw(h: ChainSums) -> bool:
    """Whether the first member has few enough effects."""
    return h.frame.blocks[0].size <= _MOST_EFFECTS


@dataclass(frozen=True)
class OwnFirst:
    """The first member at S draws.

    Attributes
    ----------
    E : Cells
        Between part of the columns of all others, c rows per level.
    y : FloatArray, shape (J, c, 1)
        That of the response.
    R : FloatArray, shape (J, c, c)
    T : FloatArray, shape (S, c, c)
    inverse, weights : FloatArray, shape (c (c + 1) / 2, J, S)
        ``M^-1`` and W, the lower triangles row by row.
    """

    E: Cells
    y: FloatArray
    R: FloatArray
    T: FloatArray
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
        inverse = _inverses(h.R, T)
        weights = inverse - _inverses(h.R, reference[0][None])
        # Rounding alone may have made them negative.
        np.maximum(weights[0], 0.0, out=weights[0])
        return cls(E, h.fixed[..., -1:], h.R, T, inverse, weights)

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
        R, T = self.R, self.T
        explained = weighed(self.inverse, self.y - self.E.times(rows))
        # The effects are T u, u of mean T'R' M^-1 left and covariance sigma^2 (I + F'F)^-1, F = R T.
        u = small.dot_each(small.transpose(T), small.dot(small.transpose(R), explained))
        noise = rng.standard_normal(u.shape)
        if T.shape[1] == 1:
            noise[:, 0] /= np.sqrt(1.0 + (R[:, 0] * T[:, 0, 0]) ** 2)
        else:
            # F' entry by entry.
            F = np.einsum("jax,sxb->bajs", R, T)
            determinant = np.linalg.det(R)[:, None] * np.linalg.det(T)
            L = small.cholesky_beside_identity(np.moveaxis(F, (0, 1), (-2, -1)), determinant)
            noise[:, 1] /= L[..., 1, 1]
            noise[:, 0] = (noise[:, 0] - L[..., 1, 0] * noise[:, 1]) / L[..., 0, 0]
        return small.dot_each(T, u + sigma * noise)


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


def _inverses(R: FloatArray, T: FloatArray) -> FloatArray:
    """``M^-1`` of every level and draw, lower triangles row by row."""
    if T.shape[1] == 1:
        return np.asarray(1.0 / (1.0 + (R[:, 0] * T[:, 0, 0]) ** 2))[None]
    return np.stack([entries.T for entries in small.inverse_beside_identity(R, T)[:3]])


def _roots(weights: FloatArray) -> FloatArray:
    """Lower Cholesky factors of nonnegative matrices, row by row."""
    first: FloatArray = np.sqrt(weights[0])
    if len(weights) == 1:
        return first[None]
    below = np.divide(weights[1], first, out=np.zeros_like(first), where=first > 0.0)
    return np.stack([first, below, np.sqrt(np.maximum(weights[2] - below**2, 0.0))])
