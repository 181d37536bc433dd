"""Priors as plain data: densities of a standard deviation, and the set of priors of a model.

Every density is of a standard deviation s >= 0 in the units of the data, vectorised and normalised where it
can be; an improper one says so with ``proper = False`` and is a density up to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import gammaln

from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior
from bayeslmm.types import FloatArray

_LOG_2 = float(np.log(2.0))


class SdPrior(Protocol):
    """A prior on one standard deviation.

    Attributes
    ----------
    proper : bool
        Whether the density integrates to one.
    even : bool
        Whether its mirror image continues it smoothly through zero, so that the boundary can be unfolded.
    """

    @property
    def proper(self) -> bool: ...
    @property
    def even(self) -> bool: ...

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        ...

    def __str__(self) -> str: ...


def _check_scale(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise PriorError(
            f"{name} is {value!r}, but a scale must be a positive finite number in the units of the "
            "response. Give a positive number, e.g. the standard deviation of the response."
        )


@dataclass(frozen=True)
class HalfT:
    """Half-t prior: the default for every standard deviation (3 degrees of freedom).

    Parameters
    ----------
    df : float
        Degrees of freedom; 1 is the half-Cauchy.
    scale : float
        Units of y (per unit of the column, for a slope).

    References
    ----------
    Gelman (2006), Bayesian Analysis 1, 515-534.

    Examples
    --------
    >>> round(float(HalfT(3, 10.0).log_density(np.array(0.0))), 4)
    -2.6103
    """

    df: float
    scale: float
    proper: bool = True
    even: bool = True

    def __post_init__(self) -> None:
        _check_scale("The scale of a half-t prior", self.scale)
        _check_scale("The degrees of freedom of a half-t prior", self.df)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        nu, c = self.df, self.scale
        constant = _LOG_2 + gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
        return np.asarray(constant - np.log(c) - (nu + 1) / 2 * np.log1p((s / c) ** 2 / nu))

    def __str__(self) -> str:
        name = "half-Cauchy(" if self.df == 1 else f"half-t({self.df:g}, "
        return f"{name}scale {self.scale:.4g})"


def HalfCauchy(scale: float) -> HalfT:
    """Half-Cauchy prior: a half-t with one degree of freedom."""
    return HalfT(1.0, scale)


@dataclass(frozen=True)
class HalfNormal:
    """Half-normal prior with the given scale (the sd of the unfolded normal)."""

    scale: float
    proper: bool = True
    even: bool = True

    def __post_init__(self) -> None:
        _check_scale("The scale of a half-normal prior", self.scale)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        constant = _LOG_2 - 0.5 * np.log(2 * np.pi) - np.log(self.scale)
        return np.asarray(constant - 0.5 * (s / self.scale) ** 2)

    def __str__(self) -> str:
        return f"half-normal(scale {self.scale:.4g})"


@dataclass(frozen=True)
class Exponential:
    """Exponential prior with the given mean; the penalised-complexity prior of a standard deviation.

    References
    ----------
    Simpson, Rue, Riebler, Martins & Sorbye (2017), Statistical Science 32, 1-28.
    """

    mean: float
    proper: bool = True
    even: bool = False

    def __post_init__(self) -> None:
        _check_scale("The mean of an exponential prior", self.mean)

    @classmethod
    def pc(cls, upper: float, probability: float = 0.05) -> Exponential:
        """The prior with ``P(s > upper) = probability``."""
        return cls(-upper / float(np.log(probability)))

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        return np.asarray(-np.log(self.mean) - s / self.mean)

    def __str__(self) -> str:
        return f"exponential(mean {self.mean:.4g})"


@dataclass(frozen=True)
class Uniform:
    """Uniform prior on (0, upper)."""

    upper: float
    proper: bool = True
    even: bool = False

    def __post_init__(self) -> None:
        _check_scale("The upper end of a uniform prior", self.upper)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        return np.where(s <= self.upper, -np.log(self.upper), -np.inf)

    def __str__(self) -> str:
        return f"uniform(0, {self.upper:.4g})"


@dataclass(frozen=True)
class Flat:
    """Improper uniform prior on (0, inf); with it the posterior mode in theta is the REML estimate."""

    proper: bool = False
    even: bool = True

    def log_density(self, s: FloatArray) -> FloatArray:
        """Zero: a density up to a constant."""
        return np.zeros_like(s, dtype=float)

    def __str__(self) -> str:
        return "flat"


@dataclass(frozen=True)
class Power:
    """Improper density proportional to ``s ** exponent``; exponent 1 is the boundary-avoiding gamma(2, 0).

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709.
    """

    exponent: float
    proper: bool = False
    even: bool = False

    def log_density(self, s: FloatArray) -> FloatArray:
        """``exponent * log s``."""
        with np.errstate(divide="ignore"):
            return np.asarray(self.exponent * np.log(s))

    def __str__(self) -> str:
        return f"density proportional to s^{self.exponent:g}"


@dataclass(frozen=True)
class InverseGammaVariance:
    """Inverse-gamma(shape, rate) prior on the variance s^2, as a density of s.

    With small shape and rate it is not vague: it puts a spike at s of order ``sqrt(rate)`` (Gelman 2006).
    """

    shape: float
    rate: float
    proper: bool = True
    even: bool = False

    def __post_init__(self) -> None:
        _check_scale("The shape of an inverse-gamma prior", self.shape)
        _check_scale("The rate of an inverse-gamma prior", self.rate)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        a, b = self.shape, self.rate
        with np.errstate(divide="ignore", over="ignore"):
            tail = np.where(s > 0, b / np.maximum(s, 1e-300) ** 2, np.inf)
            return np.asarray(a * np.log(b) - gammaln(a) - (2 * a + 1) * np.log(np.maximum(s, 1e-300)) - tail + _LOG_2)

    def __str__(self) -> str:
        return f"inverse-gamma({self.shape:g}, {self.rate:g}) on the variance"


@dataclass(frozen=True)
class Priors:
    """All priors of a model.

    Attributes
    ----------
    sds : tuple of tuple of SdPrior
        For every term of the design (in its order) one prior per effect; the same for effects that share an sd,
        where it counts once.
    lkj : tuple of float
        For every term the shape eta of the LKJ prior on its correlation matrix (1 is uniform over
        correlation matrices); ignored for terms without correlations. A correlation that all effects share
        (compound symmetry, AR1) has its place on its range distributed as beta(eta, eta).
    sigma : SdPrior
        Residual standard deviation.
    beta : NormalPrior or None
        None is flat, which is what makes the posterior comparable with REML.
    """

    sds: tuple[tuple[SdPrior, ...], ...]
    lkj: tuple[float, ...]
    sigma: SdPrior
    beta: NormalPrior | None = None

    @property
    def proper(self) -> bool:
        """Whether the joint prior can be drawn from."""
        sds = all(prior.proper for term in self.sds for prior in term)
        return sds and self.sigma.proper and self.beta is not None and bool(self.beta.proper.all())
