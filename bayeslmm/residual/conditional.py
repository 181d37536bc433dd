"""Residuals of single rows given those of the others, at many points of the parameters."""

from __future__ import annotations

import numpy as np

from bayeslmm.residual.residual import Residual, each_point
from bayeslmm.types import FloatArray


def given_the_others(residual: Residual, lam: FloatArray, e: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What every residual is off its mean given all others, and its variance over sigma^2 given them.

    With ``Q = R^-1`` these are ``(Q e)_i / Q_ii`` and ``1 / Q_ii``; of independent rows the residual and its variance.

    Parameters
    ----------
    residual : Residual
    lam : FloatArray, shape (K, k)
    e : FloatArray, shape (K, n)
        Residuals.

    Returns
    -------
    tuple of FloatArray, each (K, n)

    References
    ----------
    Buerkner, Gabry & Vehtari (2021), Computational Statistics 36, 1243-1261.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> off, variance = given_the_others(model.design.residual, np.arctanh([[0.5]]), np.ones((1, 180)))
    >>> off[0, :3].round(3).tolist(), variance[0, :3].round(3).tolist()
    ([0.5, 0.2, 0.2], [0.75, 0.6, 0.6])
    """
    if residual.clusters is None:
        return e, residual.variance(lam)
    off, variance = np.empty(e.shape), np.empty(e.shape)
    for at, own in each_point(lam):
        W = residual.whitening(at)
        variance[own] = 1.0 / np.asarray(W.power(2).sum(axis=0))
        off[own] = (W.T @ (W @ e[own].T)).T * variance[own]
    return off, variance
