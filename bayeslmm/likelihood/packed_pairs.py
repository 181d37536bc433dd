"""Products of the columns of the first block's levels, packed so that one matrix product eliminates it at many points.

``sum_l E_l' (I + R_l Sigma R_l')^-1 E_l`` is linear in the entries of the small inverses; the products of columns that
they multiply are formed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class PackedPairs:
    """What the first block says about the trailing columns, ready for many points.

    Attributes
    ----------
    R : FloatArray, shape (U, c, c)
        Triangular factors of levels, or of kinds of levels.
    counts : FloatArray, shape (U,)
        Levels of each kind.
    products : FloatArray, shape (c (c + 1) / 2 * U, m (m + 1) / 2)
        Lower triangles of ``E[a]' E[a]``, and of ``E[a]' E[b] + E[b]' E[a]`` for b < a, in the order of the entries
        of a packed inverse.
    whole : IntArray, shape (m * m,)
        Where the entries of a matrix in the new order are in a packed triangle.
    within : FloatArray, shape (m (m + 1) / 2,)
        What is left within levels.
    order : IntArray, shape (m,)
        Trailing columns in the order of the matrices that come out.
    """

    R: FloatArray
    counts: FloatArray
    products: FloatArray
    whole: IntArray
    within: FloatArray
    order: IntArray

    @classmethod
    def of(
        cls,
        R: FloatArray,
        counts: FloatArray,
        D: FloatArray,
        order: IntArray,
        product: Callable[[int, int], FloatArray],
    ) -> PackedPairs:
        """From ``product(a, b)``, the products ``E[a]' E[b]`` (U, m, m) of every kind of level."""
        c, m = R.shape[-1], D.shape[0]
        rows, columns = np.tril_indices(m)
        whole = np.zeros((m, m), dtype=np.int64)
        whole[rows, columns] = whole[columns, rows] = np.arange(rows.size)
        parts = []
        for a in range(c):
            for b in range(a + 1):
                pair = product(a, b)
                packed = pair[:, rows, columns]
                parts.append(packed if a == b else packed + pair[:, columns, rows])
        return cls(R, counts, np.concatenate(parts), whole[np.ix_(order, order)].ravel(), D[rows, columns], order)

    def eliminate(self, T: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Log determinants (K,) and trailing cross-products (K, m, m) at K relative factors (K, c, c)."""
        K, m = T.shape[0], self.order.size
        inverses, log_dets = self._inverses(T)
        packed = inverses @ self.products
        packed += self.within
        return log_dets @ self.counts, np.take(packed, self.whole, axis=1).reshape(K, m, m)

    def _inverses(self, T: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Packed inverses (K, c (c + 1) / 2 * U) and log determinants (K, U) of all pairs of factors and kinds."""
        K, c = T.shape[0], T.shape[-1]
        if c == 2:
            first, across, second, log_dets = small.inverse_beside_identity(self.R, T)
            return np.concatenate([first, across, second], axis=1), log_dets
        F = np.einsum("uab,kbc->acku", self.R, T)
        M = np.einsum("acku,bcku->abku", F, F)
        M[np.arange(c), np.arange(c)] += 1.0
        packed, log_dets = small.packed_inverse(M.reshape(c, c, -1))
        return packed.reshape(-1, K, self.R.shape[0]).transpose(1, 0, 2).reshape(K, -1), log_dets.reshape(K, -1)
