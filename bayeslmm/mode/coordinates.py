"""Coordinates of the mode: the quantities that priors are stated on, in units that an optimiser likes.

An sd with an absolute prior stands as itself, one with a prior on sd / sigma as that ratio; correlations stand as
angles, in whose sines and cosines the covariance is smooth at correlations of 1 and -1 too. The mode is the highest
point of a function of these quantities, whatever coordinates it is looked for in: no Jacobian enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.bayes.prior_slopes import at_zero, upper_end
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.term_priors import Decov
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Logarithms of an sd, in its unit, and of sigma between which they are looked for.
_REACH = 60.0
# Correlations this near to their ends are there.
_END = 1.0 - 1e-15
# Steps of the differences of correlation matrices in their angles, and their weights: an error of 1e-13.
_STEP = 1e-3
_STENCIL, _WEIGHTS = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([1.0, -8.0, 8.0, -1.0]) / 12.0


@dataclass(frozen=True)
class StatedTerm:
    """Where one term is.

    Attributes
    ----------
    stated : FloatArray, shape (d,)
        Its sds as their priors are stated: in the units of the data, or over sigma.
    relative : FloatArray, shape (d,)
        The same over sigma.
    angles : FloatArray, shape (m,)
        Of its correlations.
    factor : FloatArray, shape (c, c)
        A square root of its relative covariance.
    """

    stated: FloatArray
    relative: FloatArray
    angles: FloatArray
    factor: FloatArray


@dataclass(frozen=True)
class TermCoordinate:
    """Coordinates of one term: its sds, then the angles of its correlations.

    Attributes
    ----------
    structure : CovarianceStructure
    absolute : BoolArray, shape (d,)
        Whether the prior of each sd is of the sd itself.
    logarithmic : BoolArray, shape (d,)
        Whether it excludes zero, so that the logarithm is the coordinate.
    unit : FloatArray, shape (d,)
    upper : FloatArray, shape (d,)
        Ends of the priors, in what they are stated on.
    """

    structure: CovarianceStructure
    absolute: BoolArray
    logarithmic: BoolArray
    unit: FloatArray
    upper: FloatArray

    @cached_property
    def sds(self) -> int:
        """d, the number of sds."""
        return len(self.structure.sd_effects)

    @cached_property
    def size(self) -> int:
        """D + m."""
        return self.sds + len(self.structure.partials)

    @cached_property
    def owner(self) -> IntArray:
        """For every effect (c,) the number of its sd."""
        owner = np.zeros(self.structure.size, dtype=int)
        for k, effects in enumerate(self.structure.sd_effects):
            owner[list(effects)] = k
        return owner

    @cached_property
    def _uncorrelated(self) -> FloatArray:
        return self.structure.partial_root(np.zeros(0), np.ones(0))

    def place(self, z: FloatArray, sigma: float) -> StatedTerm:
        """The term at coordinates (d + m,)."""
        own, angles = z[: self.sds], z[self.sds :]
        with np.errstate(over="ignore"):
            stated = self.unit * np.where(self.logarithmic, np.exp(np.minimum(own, 2 * _REACH)), own)
        relative = np.where(self.absolute, stated / sigma, stated)
        return StatedTerm(stated, relative, angles, self.spread(relative)[:, None] * self.root(angles))

    def spread(self, of_sds: FloatArray) -> FloatArray:
        """Values (c,) of effects from values (d,) of their sds."""
        return of_sds[self.owner]

    def root(self, angles: FloatArray) -> FloatArray:
        """A square root (..., c, c) of the correlation matrix at angles (..., m)."""
        if not angles.shape[-1]:
            return self._uncorrelated
        return self.structure.partial_root(np.sin(angles), np.cos(angles) ** 2)

    def correlations(self, angles: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The correlation matrix (c, c) and its derivatives (m, c, c) in the angles."""
        m, c = angles.size, self.structure.size
        if not m:
            return self._uncorrelated @ self._uncorrelated.T, np.zeros((0, c, c))
        steps = angles + _STEP * _STENCIL[:, None, None] * np.eye(m)
        roots = self.root(np.concatenate([angles[None], steps.reshape(4 * m, m)]))
        R = roots @ roots.mT
        return R[0], np.tensordot(_WEIGHTS / _STEP, R[1:].reshape(4, m, c, c), 1)

    def gradient(self, place: StatedTerm, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives in the relative sds (d,) and the angles (m,) from those (c, c) in the relative covariance."""
        R, turned = self.correlations(place.angles)
        t = self.spread(place.relative)
        each = 2.0 * (slopes * R) @ t
        in_sds = np.bincount(self.owner, each, self.sds)
        return in_sds, ((slopes * np.outer(t, t)) * turned).sum((1, 2))

    def chain(self, place: StatedTerm, in_stated: FloatArray) -> FloatArray:
        """Derivatives (d,) in the coordinates of the sds from those in what is stated."""
        return in_stated * np.where(self.logarithmic, place.stated, self.unit)

    def inverse(self, T: FloatArray, sigma: float) -> FloatArray:
        """Coordinates of a relative factor (c, c), inside of what the priors allow."""
        sd = np.sqrt((T**2).sum(-1))[[own[0] for own in self.structure.sd_effects]]
        stated = np.minimum(sd * np.where(self.absolute, sigma, 1.0), self.upper) / self.unit
        with np.errstate(divide="ignore"):
            own = np.where(self.logarithmic, np.maximum(np.log(stated), -_REACH), stated)
        z = np.asarray(self.structure.factor_places(T), dtype=float).reshape(-1)
        return np.concatenate([own, np.arcsin(np.where(np.abs(z) > _END, np.sign(z), z))])

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest values of the coordinates."""
        free = np.full(self.size - self.sds, np.inf)
        high = self.upper / self.unit
        high = np.where(self.logarithmic, np.minimum(np.log(high), _REACH), high)
        return np.append(np.where(self.logarithmic, -_REACH, 0.0), -free), np.append(high, free)


@dataclass(frozen=True)
class Coordinates:
    """Coordinates z of all terms that are not held, and at the end the logarithm of sigma over its unit.

    Attributes
    ----------
    terms : tuple of TermCoordinate
        Terms in the order of the formula.
    held : mapping of int to FloatArray
        Position of a term to its relative factor (c, c).
    sigma_unit, sigma_upper : float
    sigma_known : bool
        Whether sigma stays at its unit.
    """

    terms: tuple[TermCoordinate, ...]
    held: Mapping[int, FloatArray]
    sigma_unit: float
    sigma_upper: float
    sigma_known: bool = False

    @property
    def size(self) -> int:
        return sum(own.size for k, own in enumerate(self.terms) if k not in self.held) + 1

    def sigma(self, z: FloatArray) -> float:
        return float(self.sigma_unit * np.exp(z[-1]))

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """For every term where its coordinates are; empty for one that is held."""
        found, position = list[slice](), 0
        for k, own in enumerate(self.terms):
            stop = position + (0 if k in self.held else own.size)
            found.append(slice(position, stop))
            position = stop
        return tuple(found)

    def places(self, z: FloatArray) -> list[StatedTerm | None]:
        """Every term at z; None for one that is held."""
        sigma = self.sigma(z)
        pairs = enumerate(zip(self.terms, self.parts, strict=True))
        return [None if k in self.held else own.place(z[part], sigma) for k, (own, part) in pairs]

    def factors(self, places: Sequence[StatedTerm | None]) -> list[FloatArray]:
        """Relative factors (c, c) of all terms."""
        return [self.held[k] if place is None else place.factor for k, place in enumerate(places)]

    def inverse(self, factors: Sequence[FloatArray], sigma: float) -> FloatArray:
        """Coordinates of relative factors (c, c) and sigma."""
        sigma = min(sigma, self.sigma_upper)
        own = [
            term.inverse(T, sigma)
            for k, (term, T) in enumerate(zip(self.terms, factors, strict=True))
            if k not in self.held
        ]
        return np.concatenate([*own, [np.log(sigma / self.sigma_unit)]])

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest values of z."""
        pairs = [own.bounds() for k, own in enumerate(self.terms) if k not in self.held]
        top = min(_REACH, float(np.log(self.sigma_upper / self.sigma_unit)))
        bottom = -_REACH
        if self.sigma_known:
            bottom = top = 0.0
        low = np.concatenate([*(pair[0] for pair in pairs), [bottom]])
        return low, np.concatenate([*(pair[1] for pair in pairs), [top]])

    def at_zero(self) -> BoolArray:
        """Mask of the coordinates that are sds and may be zero."""
        own = [
            np.append(~term.logarithmic, np.zeros(term.size - term.sds, dtype=bool))
            for k, term in enumerate(self.terms)
            if k not in self.held
        ]
        return np.concatenate([*own, np.zeros(1, dtype=bool)])


def term_coordinate(priors: Priors, position: int, structure: CovarianceStructure, unit: FloatArray) -> TermCoordinate:
    """Coordinates of one term under its priors.

    Parameters
    ----------
    priors : Priors
    position : int
    structure : CovarianceStructure
    unit : FloatArray, shape (d,)
        Sizes of its sds, in what the priors are stated on.
    """
    joint, own = priors.joints[position], [priors.sds[position][effects[0]] for effects in structure.sd_effects]
    if joint is None:
        absolute = [not prior.relative for prior in own]
        logarithmic = [at_zero(prior) == -np.inf for prior in own]
        upper = [upper_end(prior) for prior in own]
    else:
        away = isinstance(joint, Decov) and (joint.shape > 1 or joint.concentration > 1)
        absolute, logarithmic, upper = [False] * len(own), [away] * len(own), [np.inf] * len(own)
    return TermCoordinate(
        structure, np.array(absolute, dtype=bool), np.array(logarithmic, dtype=bool), unit, np.array(upper)
    )
