"""Posterior densities without a kernel: averages over draws of the exact density of one parameter given the others.

At a draw all parameters but one are held and the posterior density is evaluated along that one, fixed and random
effects integrated out. The average of the normalised curves over some draws is an unbiased estimate of the marginal
density at every point; curves are as smooth as the posterior itself, so that no wiggle of it is noise.

References
----------
Gelfand & Smith (1990), J. American Statistical Association 85, 398-409.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.likelihood import SummedDesign, evaluate, minus_two_log_density_normal
from bayeslmm.likelihood import parameters as par
from bayeslmm.types import FloatArray, IntArray

# Draws that are averaged and places of a curve; doubles that all evaluations may touch (a second), for fewer draws if
# need be; evaluations at once.
_DRAWS, _FEWEST, _PLACES, _MOST, _BATCH = 400, 60, 121, 3e7, 4000
# Curves go on beyond the largest draw by this factor, where the mass is that of one draw in many.
_BEYOND = 1.6

type LogDensity = Callable[[FloatArray, IntArray], FloatArray]


@dataclass(frozen=True)
class HeldDraws:
    """Draws at which all parameters but one are held.

    Attributes
    ----------
    cp : SummedDesign
    priors : Priors
    draws : VarianceDraws
    """

    cp: SummedDesign
    priors: Priors
    draws: VarianceDraws

    @classmethod
    def some(cls, cp: SummedDesign, priors: Priors, draws: VarianceDraws) -> HeldDraws | None:
        """Some of the draws; None where the curves would be dear, or need what is not integrated out here."""
        size = draws.sigma.size
        affordable = _MOST / (cp.sums.cost * _PLACES) if cp.sums.batched else 0.0
        if (
            affordable < _FEWEST
            or cp.design.residual.names
            or priors.heavy
            or any(j is not None for j in priors.joints)
        ):
            return None
        chosen = np.unique(np.linspace(0, size - 1, min(_DRAWS, size, int(affordable))).astype(np.int64))
        return cls(cp, priors, draws.part(chosen))

    def log_likelihood(self, factors: list[FloatArray], sigma: FloatArray) -> FloatArray:
        """Log density (K,) of the response at K relative factors and residual sds, fixed effects over their prior."""
        factor = evaluate(self.cp, par.block_factors(self.cp, factors))
        found = minus_two_log_density_normal(self.cp, factor, sigma[:, None], self.priors.beta)
        return np.asarray(-0.5 * found[:, 0])

    def of_sd(self, position: int, effects: tuple[int, ...]) -> LogDensity:
        """The density along one sd, units of y, all other sds, correlations and sigma held."""

        def log_density(s: FloatArray, rows: IntArray) -> FloatArray:
            own = self.draws.part(rows)
            factors = list(own.factors)
            T = factors[position].copy()
            for k in effects:
                size = np.sqrt((T[:, k] ** 2).sum(-1))
                T[:, k] *= (s / own.sigma / size)[:, None]
            factors[position] = T
            return self.log_likelihood(factors, own.sigma) + self._prior(position, effects[0], T, s, own.sigma)

        return log_density

    def of_sigma(self) -> LogDensity:
        """The density along sigma, all sds and correlations held."""

        def log_density(s: FloatArray, rows: IntArray) -> FloatArray:
            own = self.draws.part(rows)
            ratio = own.sigma / s
            factors = [T * ratio[:, None, None] for T in own.factors]
            total = self.log_likelihood(factors, s) + self.priors.sigma.log_density(s)
            for priors, t in zip(self.priors.sds, own.relative_sds, strict=True):
                for k in range(t.shape[1]):
                    if priors[k].relative:
                        total = total + priors[k].log_density(t[:, k] * ratio) - np.log(s)
            return np.asarray(total)

        return log_density

    def _prior(self, position: int, effect: int, T: FloatArray, s: FloatArray, sigma: FloatArray) -> FloatArray:
        """Log prior density (K,) along an sd, up to a constant."""
        change, priors = self.priors.changes[position], self.priors.sds[position]
        if change is None:
            value = s / sigma if priors[effect].relative else s
            return np.asarray(priors[effect].log_density(value))
        # Sds and correlations of both bases are those of covariances that are linear functions of one another with
        # determinant 1; of c sds and their correlations the covariance has the Jacobian of all sds to the power c.
        at_means = change.inverse @ T
        sds = np.sqrt((at_means**2).sum(-1))
        rows = at_means / sds[:, :, None]
        c, eta = sds.shape[1], self.priors.lkj[position]
        total = c * (np.log(s) - np.log(sds).sum(1))
        if eta != 1.0:
            total = total + (eta - 1.0) * np.linalg.slogdet(rows @ rows.mT)[1]
        for k in range(c):
            total = total + priors[k].log_density(sds[:, k] if priors[k].relative else sds[:, k] * sigma)
        return np.asarray(total)


def average_density(log_density: LogDensity, n: int, draws: FloatArray, grid: FloatArray) -> FloatArray | None:
    """Average of the curves of n draws on a grid.

    Parameters
    ----------
    log_density : callable
        Of places (K,) and, for each, the number of a draw (K,); up to a constant of each draw.
    n : int
    draws : FloatArray, shape (S,)
        Of the parameter, all positive; how far the curves have to go.
    grid : FloatArray, shape (G,)

    Returns
    -------
    FloatArray, shape (G,), or None
        None where some curve is no density that a grid could hold.
    """
    from scipy.interpolate import PchipInterpolator

    low, high = float(draws.min()), float(draws.max())
    start = 0.0 if low < 0.2 * high else low / _BEYOND
    places = np.linspace(start, _BEYOND * high, _PLACES)
    # Where a density begins at zero it is evaluated next to it: at zero itself the logarithms of some are infinite.
    inside = np.maximum(places, 1e-9 * high)
    x, rows = np.tile(inside, n), np.repeat(np.arange(n), _PLACES)
    with np.errstate(all="ignore"):
        parts = [log_density(x[a : a + _BATCH], rows[a : a + _BATCH]) for a in range(0, x.size, _BATCH)]
        values = np.concatenate(parts).reshape(n, _PLACES)
        curves = np.exp(values - values.max(axis=1, keepdims=True))
        curves /= np.trapezoid(curves, places, axis=1)[:, None]
    if not np.isfinite(curves).all():
        return None
    found = PchipInterpolator(places, curves.mean(axis=0), extrapolate=False)(grid)
    return np.asarray(np.nan_to_num(found, nan=0.0))
