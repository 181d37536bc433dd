"""One-way layouts, balanced or not, for thousands of responses at once: what their posteriors need of the data.

Everything is a function of the group means and the sum of squares within groups. With ``a_i = sigma^2 + n_i s^2`` the
means are independent N(mu, a_i / n_i), so that -2 log likelihood is

    (n - J) log sigma^2 + SSE / sigma^2 + sum log a_i + sum n_i (mean_i - mu)^2 / a_i [+ log sum n_i / a_i for REML].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class OneWay:
    """K responses of one layout, reduced. Groups of the same size are taken together.

    Attributes
    ----------
    sizes, counts : FloatArray, shape (D,)
        Distinct group sizes, and how many groups have them.
    first, second : FloatArray, shape (K, D)
        Sums of the group means, and of their squares, less `shift`.
    within : FloatArray, shape (K,)
        SSE.
    shift : FloatArray, shape (K,)
        Mean of all observations.
    variance : FloatArray, shape (K,)
        Sample variance of all observations.
    """

    sizes: FloatArray
    counts: FloatArray
    first: FloatArray
    second: FloatArray
    within: FloatArray
    shift: FloatArray
    variance: FloatArray

    @property
    def n(self) -> int:
        """Observations."""
        return int(self.sizes @ self.counts)

    @property
    def groups(self) -> int:
        """J."""
        return int(self.counts.sum())

    def part(self, rows: slice | IntArray | BoolArray) -> OneWay:
        """Some of the responses."""
        own = (self.first, self.second, self.within, self.shift, self.variance)
        return OneWay(self.sizes, self.counts, *(values[rows] for values in own))

    def between(self, v: FloatArray, w: FloatArray) -> Between:
        """What the criteria need of the means at ``sigma^2 = v`` and ``s^2 = w``, arrays (K, ...)."""
        extra = (slice(None),) + (None,) * (v.ndim - 1)
        log_det = info = m1 = m2 = np.zeros(1)
        for size, count, y1, y2 in zip(self.sizes, self.counts, self.first.T, self.second.T, strict=True):
            a = v + size * w
            precision = size / a
            log_det = log_det + count * np.log(a)
            info = info + count * precision
            m1 = m1 + precision * y1[extra]
            m2 = m2 + precision * y2[extra]
        return Between(log_det, info, m1 / info, m2 - m1**2 / info)


@dataclass(frozen=True)
class Between:
    """Of the group means: ``sum log a``, ``sum n / a``, the mean and squares about it."""

    log_det: FloatArray
    info: FloatArray
    mean: FloatArray
    squares: FloatArray


def reduce(cell: Cell, Y: FloatArray) -> OneWay:
    """Sufficient statistics of responses (n, K), group after group."""
    sizes = cell.sizes
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    shift = Y.mean(axis=0)
    residual = Y - shift
    means = np.add.reduceat(residual, starts, axis=0) / sizes[:, None]
    within = ((residual - np.repeat(means, sizes, axis=0)) ** 2).sum(axis=0)
    distinct, codes = np.unique(sizes, return_inverse=True)
    member = (codes == np.arange(distinct.size)[:, None]).astype(float)
    return OneWay(
        distinct.astype(float),
        member.sum(axis=1),
        (member @ means).T,
        (member @ means**2).T,
        within,
        shift,
        (residual**2).sum(axis=0) / (Y.shape[0] - 1),
    )
