"""Residual covariances of many groups of rows at many points of the parameters, written out."""

from __future__ import annotations

import numpy as np

from bayeslmm.residual.residual import Residual
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.types import FloatArray


def group_covariances(residual: Residual, lam: FloatArray, size: int) -> FloatArray:
    """Covariances (K, U, m, m) over sigma^2 of rows that lie in groups of m, one after the other.

    Parameters
    ----------
    residual : Residual
        Of ``U m`` rows; those that are correlated are in one group.
    lam : FloatArray, shape (K, k)
    size : int
        m.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("Orthodont").head(4)
    >>> design = bl.Model("distance ~ 1", data, residual="cs(Subject)").design
    >>> group_covariances(design.residual, np.zeros((1, 1)), 4)[0, 0, 0].round(4)
    array([1.    , 0.3333, 0.3333, 0.3333])
    """
    variance = residual.variance(lam)
    points, groups = lam.shape[0], variance.shape[-1] // size
    if not isinstance(residual, CorrelatedRows):
        out = np.zeros((points, groups, size, size))
        out[..., np.arange(size), np.arange(size)] = variance.reshape(points, groups, size)
        return out
    sd = np.sqrt(variance).reshape(points, groups, size)
    return _correlations(residual, lam, groups, size) * sd[..., None] * sd[..., None, :]


def _correlations(residual: CorrelatedRows, lam: FloatArray, groups: int, size: int) -> FloatArray:
    own = lam[:, len(residual.spreads.names) :]
    out = np.zeros((lam.shape[0], groups, size, size))
    for block in residual.layout.blocks:
        matrices = residual.correlation.matrix(own, residual.at[block.first])
        group, place = np.divmod(block.rows, size)
        out[:, group[:, :1, None], place[:, :, None], place[:, None]] = matrices[:, block.which]
    return out
