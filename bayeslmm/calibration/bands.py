"""Tests of uniformity for ranks: chi-square in bins, and the ECDF inside a simultaneous band."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bayeslmm.types import FloatArray, IntArray

BINS = 16
# Fewest ranks expected in a bin for the chi-square distribution to hold.
_EXPECTED = 5
# Simulated sets of uniform ranks from which the width of the band is found.
_SIMULATIONS = 4000
_ROUNDING = 1e-12


def bin_count(n: int) -> int:
    """Bins for n ranks: 16, or fewer (a power of two) where they would be too empty."""
    bins = BINS
    while bins > 2 and n < _EXPECTED * bins:
        bins //= 2
    return bins


def chi_square(ranks: IntArray, draws: int) -> tuple[FloatArray, FloatArray]:
    """Pearson's statistic for uniform ranks and its p value, column by column.

    Parameters
    ----------
    ranks : IntArray, shape (N, Q)
        0 to `draws`.
    draws : int
        L.

    Returns
    -------
    tuple of FloatArray, each (Q,)
        Statistic; p value.
    """
    from scipy.stats import chi2

    n, bins = ranks.shape[0], bin_count(ranks.shape[0])
    bin_of_rank = np.arange(draws + 1) * bins // (draws + 1)
    expected = n * np.bincount(bin_of_rank, minlength=bins) / (draws + 1)
    observed = np.array([np.bincount(bin_of_rank[column], minlength=bins) for column in ranks.T])
    statistic = ((observed - expected) ** 2 / expected).sum(axis=1)
    return statistic, np.asarray(chi2.sf(statistic, bins - 1))


def ecdf_difference(ranks: IntArray, draws: int) -> FloatArray:
    """ECDF of the ranks less the uniform one at j / (L + 1), j = 1 .. L; shape (L, Q)."""
    counts = np.array([np.bincount(column, minlength=draws + 1) for column in ranks.T])
    below = np.cumsum(counts, axis=1)[:, :-1].T
    return np.asarray(below / ranks.shape[0] - _points(draws)[:, None])


@lru_cache(maxsize=64)
def difference_band(n: int, draws: int, level: float) -> tuple[FloatArray, FloatArray]:
    """Lower and upper end, each (L,), between which the whole ECDF difference of n ranks lies with this probability.

    At each point the count of ranks below is binomial, so that pointwise intervals of one probability are exact; that
    probability is simulated so that they hold together.

    References
    ----------
    Sailynoja, Burkner & Vehtari (2022), Statistics and Computing 32, 32.
    """
    from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands

    points = _points(draws)
    # A fixed seed: the band of a given size is a constant.
    rng = np.random.default_rng(2022)
    pointwise = simulate_confidence_bands(n, 1, points, level, _SIMULATIONS, rng)
    lower, upper = get_pointwise_confidence_band(pointwise, n, points)
    return lower - points, upper - points


def band_ratio(difference: FloatArray, band: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Largest difference in units of the band's end on its side, shape (Q,): up to 1 is inside.

    Points where the band reaches 0 or 1, so that nothing can be outside, do not count on that side.
    """
    points = _points(difference.shape[0])
    lower = np.where(band[0] + points > _ROUNDING, -band[0], np.inf)[:, None]
    upper = np.where(band[1] + points < 1.0 - _ROUNDING, band[1], np.inf)[:, None]
    return np.asarray(np.maximum(difference / upper, -difference / lower).max(axis=0))


def _points(draws: int) -> FloatArray:
    return np.arange(1, draws + 1) / (draws + 1)
