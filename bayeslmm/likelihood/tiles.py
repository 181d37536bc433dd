"""Diagonal tiles of the projected cross-products of the trailing random effects, summed over levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.likelihood import small
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray

# Smallest singular value of a relative factor that is inverted.
_REGULAR = 0.1


def trailing_tiles(
    s: LevelSums, factors: Sequence[FloatArray], S22: FloatArray, inverse: FloatArray
) -> tuple[FloatArray, ...]:
    """Sums of the diagonal tiles of ``S22 = S - S Q S``.

    For a regular factor ``T' tile T = I - tile of K^-1``, where nothing large cancels; the definition serves the
    others.
    """
    out = []
    for (block, span), T in zip(s.frame.trailing_spans, factors, strict=True):
        direct = diagonal_tiles(S22[:, span, span], block.size)
        regular = _smallest(T) > _REGULAR
        if regular.any():
            middle = block.n_levels * np.eye(block.size) - _gram_tiles(inverse[:, :, span], block.size)
            safe = np.where(regular[:, None, None], T, np.eye(block.size))
            left = _solve_transposed(safe, middle)
            exact = _solve_transposed(safe, small.transpose(left))
            direct = np.where(regular[:, None, None], exact, direct)
        out.append(direct)
    return tuple(out)


def _solve_transposed(T: FloatArray, b: FloatArray) -> FloatArray:
    """``T'^-1 b`` of stacks (K, c, c)."""
    return np.asarray(b / T if T.shape[-1] == 1 else np.linalg.solve(small.transpose(T), b))


def _smallest(T: FloatArray) -> FloatArray:
    """Smallest singular values (K,) of factors (K, c, c), which need not be triangular."""
    if T.shape[-1] == 1:
        return np.asarray(np.abs(T[:, 0, 0]))
    return np.asarray(np.linalg.svd(T, compute_uv=False)[:, -1])


def _gram_tiles(half: FloatArray, size: int) -> FloatArray:
    """Sum over levels of ``H_l' H_l`` for columns H (K, t, J c)."""
    columns = half.reshape(*half.shape[:2], -1, size)
    return np.asarray(np.einsum("ktja,ktjb->kab", columns, columns))


def diagonal_tiles(matrix: FloatArray, size: int) -> FloatArray:
    """Sum of the diagonal tiles (K, c, c) of a matrix (K, J c, J c)."""
    K, levels = matrix.shape[0], matrix.shape[1] // size
    tiles = matrix.reshape(K, levels, size, levels, size)
    return np.asarray(np.einsum("kjajb->kab", tiles))
