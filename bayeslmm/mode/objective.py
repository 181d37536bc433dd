"""Minus twice the log posterior density of the variance parameters, with its exact gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.at_means import AtMeans, factors_at_means
from bayeslmm.bayes.prior_slopes import log_slope
from bayeslmm.bayes.priors import Flat, Power, Priors, SdPrior
from bayeslmm.bayes.term_priors import Decov, FlatFactor
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.density_gradient import density_gradient
from bayeslmm.mode.coordinates import Coordinates, StatedTerm, TermCoordinate
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Objective:
    """What the mode is the minimum of, as a function of coordinates.

    The sum of -2 log p(y | sds, correlations, sigma), beta integrated out (REML) or at its best value (ML), and of
    minus twice the log density of each prior on the scale on which it is stated.

    Attributes
    ----------
    cp : SummedDesign
        Its effects are those that the priors are about.
    priors : Priors
    reml : bool
    coordinates : Coordinates
    changes : tuple of AtMeans or None
        For every term the effects that `cp` and `priors` are about, where not the user's own.
    """

    cp: SummedDesign
    priors: Priors
    reml: bool
    coordinates: Coordinates
    changes: tuple[AtMeans | None, ...] = ()

    def factors_at_means(self, terms: Sequence[FloatArray]) -> list[FloatArray]:
        """Relative factors (c, c) of the effects that the priors are about, from those of the user's effects."""
        return factors_at_means(self.changes, terms)

    def __call__(self, z: FloatArray) -> tuple[float, FloatArray]:
        """Value and gradient (d,) at coordinates (d,); inf where there is no density."""
        nothing = float("inf"), np.zeros(z.size)
        with np.errstate(all="ignore"):
            places = self.coordinates.places(z)
            log_prior = self._log_prior(z, places)
            if not np.isfinite(log_prior):
                return nothing
            try:
                value, gradient = self._likelihood(z, places)
            except np.linalg.LinAlgError:
                return nothing
            gradient -= 2.0 * self._prior_slopes(z, places)
        value -= 2.0 * log_prior
        return (value, gradient) if np.isfinite(value) and np.isfinite(gradient).all() else nothing

    def log_prior(self, z: FloatArray) -> float:
        """Log density of the variance parameters on the scales of their priors, up to constants where improper."""
        return self._log_prior(z, self.coordinates.places(z))

    def _log_prior(self, z: FloatArray, places: Sequence[StatedTerm | None]) -> float:
        total = _log_density(stated_sigma(self.priors), self.coordinates.sigma(z))
        for k, place in enumerate(places):
            if place is not None:
                total += self._log_prior_term(k, place)
        return total

    def _log_prior_term(self, k: int, place: StatedTerm) -> float:
        joint, structure = self.priors.joints[k], self.coordinates.terms[k].structure
        if isinstance(joint, FlatFactor):
            return 0.0
        if isinstance(joint, Decov):
            total = _decov(joint, place.stated)
        else:
            pairs = zip(structure.sd_effects, place.stated, strict=True)
            total = sum(_log_density(self.priors.sds[k][own[0]], float(value)) for own, value in pairs)
        eta = self.priors.lkj[k]
        return total if eta == 1 else total + (eta - 1.0) * float(np.log(np.cos(place.angles) ** 2).sum())

    def _likelihood(self, z: FloatArray, places: list[StatedTerm | None]) -> tuple[float, FloatArray]:
        own, sigma = self.coordinates, self.coordinates.sigma(z)
        found = density_gradient(self.cp, own.factors(places), sigma, self.priors.beta, reml=self.reml)
        gradient, along_sigma = np.zeros(z.size), found.log_sigma
        for term, part, place, slopes in zip(own.terms, own.parts, places, found.covariances, strict=True):
            if place is None:
                continue
            in_sds, in_angles = term.gradient(place, slopes)
            # At a given absolute sd the ratio falls with sigma.
            along_sigma -= float((in_sds * place.relative)[term.absolute].sum())
            in_stated = np.where(term.absolute, in_sds / sigma, in_sds)
            gradient[part] = np.concatenate([term.chain(place, in_stated), in_angles])
        gradient[-1] = along_sigma
        return found.value, gradient

    def _prior_slopes(self, z: FloatArray, places: list[StatedTerm | None]) -> FloatArray:
        sigma, own = self.coordinates.sigma(z), self.coordinates
        out = np.zeros(z.size)
        for k, (term, part, place) in enumerate(zip(own.terms, own.parts, places, strict=True)):
            if place is not None:
                out[part] = self._slopes_of_term(k, term, place)
        out[-1] = sigma * log_slope(stated_sigma(self.priors), sigma)
        return out

    def _slopes_of_term(self, k: int, term: TermCoordinate, place: StatedTerm) -> FloatArray:
        joint = self.priors.joints[k]
        if isinstance(joint, FlatFactor):
            return np.zeros(term.size)
        if isinstance(joint, Decov):
            in_stated = _decov_slopes(joint, place.stated)
        else:
            pairs = zip(term.structure.sd_effects, place.stated, strict=True)
            in_stated = np.array([log_slope(self.priors.sds[k][own[0]], float(value)) for own, value in pairs])
        eta = self.priors.lkj[k]
        turned = np.zeros(place.angles.size) if eta == 1 else -2.0 * (eta - 1.0) * np.tan(place.angles)
        return np.concatenate([term.chain(place, in_stated), turned])


def stated_sigma(priors: Priors) -> SdPrior:
    """The prior of sigma on the scale on which it is stated: ``1 / sigma`` says flat in log sigma."""
    prior = priors.sigma
    return Flat() if isinstance(prior, Power) and prior.exponent == -1 else prior


def _log_density(prior: SdPrior, value: float) -> float:
    return float(prior.log_density(np.array([value]))[0])


def _decov(prior: Decov, t: FloatArray) -> float:
    """Log density of the root mean square of relative sds (c,) and of their shares in the sum of squares."""
    total = float((t**2).sum())
    density = _log_density(prior.scalar(), float(np.sqrt(total / t.size)))
    if prior.concentration == 1:
        return density
    return density + (prior.concentration - 1.0) * float(np.log(t**2 / total).sum())


def _decov_slopes(prior: Decov, t: FloatArray) -> FloatArray:
    total, c = float((t**2).sum()), t.size
    tau = float(np.sqrt(total / c))
    along = log_slope(prior.scalar(), tau) * (t / (c * tau) if tau > 0 else np.full(c, 1.0 / np.sqrt(c)))
    if prior.concentration == 1:
        return np.asarray(along)
    return np.asarray(along + 2.0 * (prior.concentration - 1.0) * (1.0 / t - c * t / total))
