"""Expected curvature of a log likelihood in the parameters of a residual covariance, rows without other effects."""

from __future__ import annotations

import numpy as np

from bayeslmm.residual.blocks import ChainRoots, DenseRoots
from bayeslmm.types import FloatArray

# Doubles of the derivatives that are taken; beyond, the patterns of most groups stand for all.
_MOST = 2_000_000


def chain_information(roots: ChainRoots, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Traces (k,) of ``R^-1 dR_j`` and (k, k) of ``R^-1 dR_j R^-1 dR_k`` along a chain.

    Given the one before, a row has a mean and a variance; the information of a chain is that of these, one by one.
    """
    k = spread.shape[0]
    before, after = roots.pairs
    log_sd = np.concatenate([spread, np.zeros((roots.slopes.shape[0], spread.shape[1]))])
    log_sd[k:, after] = -roots.slopes * roots.r / roots.rest
    mean = np.concatenate([roots.r * (spread[:, after] - spread[:, before]), roots.slopes]) / np.sqrt(roots.rest)
    return 2.0 * log_sd.sum(1), 2.0 * mean @ mean.T + 4.0 * log_sd @ log_sd.T


def dense_information(roots: DenseRoots, spread: FloatArray, own: list[FloatArray]) -> FloatArray:
    """Traces (k, k) of ``R^-1 dR_j R^-1 dR_k`` by pattern, of those that most groups have where they are many."""
    k = spread.shape[0] + own[0].shape[0]
    total = np.zeros((k, k))
    for block, L, W, dC in zip(roots.layout.blocks, roots.lower, roots.inverse, own, strict=True):
        (U, m, _), counts = L.shape, block.counts
        kept = np.argsort(-counts, kind="stable")[: max(1, _MOST // (k * m * m))] if U * k * m * m > _MOST else None
        chosen = slice(None) if kept is None else kept
        weight = counts[chosen] * (1.0 if kept is None else counts.sum() / counts[kept].sum())
        L, W, dC = L[chosen], W[chosen], dC[:, chosen]
        by_row = spread[:, block.first[chosen]]
        half = (W * by_row[..., None, :]) @ L if spread.shape[0] else np.empty((0, *L.shape))
        inner = np.concatenate([half + half.mT, W @ dC @ W.mT])
        flat = (inner * np.sqrt(weight)[:, None, None]).reshape(k, -1)
        total += flat @ flat.T
    return total
