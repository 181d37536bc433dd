"""Very many levels at many points, one after the other in compiled loops, which keep nothing of a level.

Arrays over points and levels would take more time and memory than the arithmetic.
"""

from __future__ import annotations

import numpy as np

from bayeslmm.likelihood.kernels import done
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.types import FloatArray

# Levels that are summed by themselves first, which rounds less.
_STEP = 4096


def eliminated(s: LevelSums, T: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Log determinant (K,) and trailing cross-products (K, m, m) at K points; None where nothing is compiled."""
    K, m = T.shape[0], s.D.shape[0]
    log_det, S = np.zeros(K), np.zeros((K, m, m))
    if not done("eliminate_levels", s.R, s.E, np.ascontiguousarray(T), log_det, S, _STEP):
        return None
    return log_det, s.D + S


def gradient(
    s: LevelSums, T: FloatArray, chol: FloatArray, residual: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Derivatives (K, c, c) of the log determinants by REML, and of r2 (their negative), in the covariance.

    Parameters
    ----------
    s : LevelSums
        Of one block.
    T : FloatArray, shape (K, c, c)
        Its relative factors.
    chol, residual : FloatArray, shape (K, p, p), (K, m)
        Of the evaluation there.
    """
    K, c = T.shape[:2]
    half = np.linalg.inv(chol)
    Q = np.swapaxes(half, -1, -2) @ half
    out = np.zeros((K, 3, c, c))
    v = np.ascontiguousarray(residual)
    if not done("level_gradient", s.R, s.E, np.ascontiguousarray(T), np.ascontiguousarray(Q), v, out, _STEP):
        return None
    out += np.swapaxes(np.tril(out, -1), -1, -2)
    return out[:, 0] - out[:, 1], out[:, 2]
