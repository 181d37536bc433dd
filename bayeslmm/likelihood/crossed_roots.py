"""Products with a square root of the inverse of K, for draws, by Lanczos' method."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh_tridiagonal

from bayeslmm.likelihood.crossed_operator import Operator
from bayeslmm.types import FloatArray

# Steps at most; error of a draw, in units of its length.
_STEPS, _SETTLED = 600, 1e-10
_CHECKED = 8


def inverse_roots(operator: Operator, noise: FloatArray) -> FloatArray:
    """``D^-1/2 A^-1/2 noise`` (q, k), whose covariance is ``K^-1`` for standard normal noise; see `crossed_lanczos`.

    References
    ----------
    Chow & Saad (2014), SIAM J. Sci. Comput. 36, A588-A608.
    """
    root = np.sqrt(operator.diagonal)
    out = np.empty(noise.shape)
    for k in range(noise.shape[1]):
        out[:, k] = _one(operator, noise[:, k], root) / root
    return out


def _one(operator: Operator, x: FloatArray, root: FloatArray) -> FloatArray:
    norm = float(np.sqrt(x @ x))
    if norm == 0.0:
        return x.copy()
    steps = min(_STEPS, x.size)
    basis = np.empty((min(64, steps), x.size))
    basis[0] = x / norm
    alpha, beta = np.zeros(steps), np.zeros(steps)
    last = np.zeros(0)
    for m in range(steps):
        w = operator.times((basis[m] / root)[:, None])[:, 0] / root
        for _ in range(2):
            part = basis[: m + 1] @ w
            alpha[m] += part[m]
            w -= part @ basis[: m + 1]
        beta[m] = np.sqrt(w @ w)
        ended = m + 1 == steps or beta[m] <= 1e-14 * alpha[: m + 1].max()
        if ended or (m + 1) % _CHECKED == 0:
            t, U = eigh_tridiagonal(alpha[: m + 1], beta[:m])
            own = (U * (U[0] / np.sqrt(np.maximum(t, 1e-300)))).sum(1)
            # The basis is orthonormal: the change of the draw is that of its coefficients.
            change = own.copy()
            change[: last.size] -= last
            if ended or np.sqrt(change @ change) < _SETTLED * np.sqrt(own @ own):
                return np.asarray(norm * (own @ basis[: m + 1]))
            last = own
        if m + 1 == basis.shape[0]:
            basis = np.concatenate([basis, np.empty((min(64, steps - m - 1), x.size))])
        basis[m + 1] = w / beta[m]
    raise AssertionError("the last step returns")
