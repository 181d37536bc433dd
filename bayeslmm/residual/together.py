"""Residual covariances of many groups of rows at many points of the parameters, written out, and their derivatives."""

from __future__ import annotations

import numpy as np

from bayeslmm.residual.residual import Residual
from bayeslmm.residual.structured import CorrelatedRows, UnequalVariances
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
    if _one_cluster_each(residual, size):
        return residual.correlation.matrix(own, residual.at.reshape(groups, size, -1))
    out = np.zeros((lam.shape[0], groups, size, size))
    for block in residual.layout.blocks:
        matrices = residual.correlation.matrix(own, residual.at[block.first])
        group, place = np.divmod(block.rows, size)
        out[:, group[:, :1, None], place[:, :, None], place[:, None]] = matrices[:, block.which]
    return out


def _one_cluster_each(residual: CorrelatedRows, size: int) -> bool:
    clusters = residual.clusters.reshape(-1, size)
    return bool((clusters == clusters[:, :1]).all())


def group_inner_slopes(
    residual: Residual, lam: FloatArray, size: int, G: FloatArray, more: FloatArray, counts: FloatArray
) -> FloatArray:
    """Derivatives (k,) of the sum of ``tr(G dV)`` over groups, and of log determinants of further observations.

    Parameters
    ----------
    residual, size
        As for `group_covariances`.
    lam : FloatArray, shape (k,)
    G : FloatArray, shape (U, m, m)
        Symmetric.
    more : FloatArray, shape (U, m)
        Observations that a row stands for: the variances are those of their means.
    counts : FloatArray, shape (U,)
        Groups that each counts for in the log determinants.
    """
    if not isinstance(residual, CorrelatedRows | UnequalVariances):
        raise TypeError(f"residuals with {residual.keyword} have no slopes")
    R, k, i = group_covariances(residual, lam[None], size)[0], len(residual.spreads.names), np.arange(size)
    R[:, i, i] /= more
    by_row = 2.0 * ((G * R).sum(2) + counts[:, None] * (more - 1.0))
    of_spreads = residual.spreads.slopes(lam[:k]) @ by_row.ravel()
    if not isinstance(residual, CorrelatedRows):
        return np.asarray(of_spreads)
    sd = np.sqrt(residual.variance(lam)).reshape(-1, size)
    own = _inner_correlation_slopes(residual, lam[k:], G * sd[:, :, None] * sd[:, None])
    return np.concatenate([of_spreads, own])


def _inner_correlation_slopes(residual: CorrelatedRows, lam: FloatArray, G: FloatArray) -> FloatArray:
    """Derivatives (k,) of the sum of ``tr(G dC)`` over groups."""
    groups, size, _ = G.shape
    if _one_cluster_each(residual, size):
        slopes = residual.correlation.slopes(lam, residual.at.reshape(groups, size, -1))
        return np.asarray(slopes.reshape(lam.size, -1) @ G.ravel())
    total = np.zeros(lam.size)
    for block in residual.layout.blocks:
        group, place = np.divmod(block.rows, size)
        own = G[group[:, :1, None], place[:, :, None], place[:, None]]
        slopes = residual.correlation.slopes(lam, residual.at[block.first])
        total += slopes[:, block.which].reshape(lam.size, -1) @ own.ravel()
    return total
