"""Draws of the variance parameters of a model, as what is computed at every draw takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.likelihood import CrossProducts
from bayeslmm.likelihood import parameters as par
from bayeslmm.types import FloatArray, IntArray


@dataclass(frozen=True)
class VarianceDraws:
    """Variance parameters of K draws.

    Attributes
    ----------
    sigma : FloatArray, shape (K,)
        Units of y.
    relative_sds : tuple of FloatArray, each (K, c), or (K, 1) where effects share one sd
        Terms in the order of the formula, divided by sigma.
    factors : tuple of FloatArray, each (K, c, c)
        Relative factors of the terms on the user's columns; square roots of the covariance, not always triangular.
    correlations : tuple of FloatArray, each (K, m)
        In the order of the structure's `pairs`.
    beta : FloatArray, shape (K, p)
    lam : FloatArray, shape (K, k)
        Parameters of the residual structure.
    """

    sigma: FloatArray
    relative_sds: tuple[FloatArray, ...]
    factors: tuple[FloatArray, ...]
    correlations: tuple[FloatArray, ...]
    beta: FloatArray
    lam: FloatArray

    def block_factors(self, cp: CrossProducts) -> list[FloatArray]:
        """Internal factors (K, c, c) of the blocks of a design; of none where it has no random effects."""
        return par.block_factors(cp, self.factors) if self.factors else [np.empty((self.sigma.size, 0, 0))]

    def part(self, chosen: slice | IntArray) -> VarianceDraws:
        """Some of the draws."""
        return VarianceDraws(
            self.sigma[chosen],
            tuple(t[chosen] for t in self.relative_sds),
            tuple(T[chosen] for T in self.factors),
            tuple(r[chosen] for r in self.correlations),
            self.beta[chosen],
            self.lam[chosen],
        )
