"""Families of priors on one standard deviation, as plain data with normalised log densities.

Every density is of a standard deviation s >= 0 in the units of the data (or of the ratio s / sigma, inside
`Relative`). An improper one says so with ``proper = False`` and is a density up to a constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from scipy.special import gammainccinv, gammaincinv, gammaln, ndtri, stdtrit

from bayeslmm.arguments import level, shown
from bayeslmm.bayes.prior_numbers import check_scale, is_finite_number, settle
from bayeslmm.errors import PriorError
from bayeslmm.types import FloatArray

LOG_2 = float(np.log(2.0))
# Below this a standard deviation is zero; its inverse square is still finite.
_TINY = 1e-150
# Shape from which on Stirling's formula with one correction has all digits.
LARGE_SHAPE = 1e5


class SdPrior(Protocol):
    """A prior on one standard deviation.

    Attributes
    ----------
    proper : bool
        Whether the density integrates to one.
    even : bool
        Whether its mirror image continues it smoothly through zero, so that the boundary can be unfolded.
    relative : bool
        Whether it is a density of the ratio sd / sigma instead of the sd.
    """

    @property
    def proper(self) -> bool: ...
    @property
    def even(self) -> bool: ...
    @property
    def relative(self) -> bool: ...

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        ...

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability; nan if improper."""
        ...

    def __str__(self) -> str: ...


def is_sd_prior(value: Any) -> bool:
    """Whether a value is a prior of one standard deviation; a class of priors is none."""
    try:
        return (
            not isinstance(value, type)
            and callable(value.log_density)
            and all(isinstance(getattr(value, name), bool | np.bool_) for name in ("proper", "even"))
        )
    except Exception:
        return False


def power(exponent: float, s: FloatArray) -> FloatArray:
    """``exponent * log s``, with 0 log 0 = 0."""
    if exponent == 0:
        return np.zeros_like(s, dtype=float)
    with np.errstate(divide="ignore"):
        return np.asarray(exponent * np.log(s))


def log_gamma_peak(shape: float, x: FloatArray) -> FloatArray:
    """``shape log x - x - log Gamma(shape)`` for large shapes, with its digits near the peak x = shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        off = x / shape - 1.0
        # off - log(1 + off), by its series where the difference would cancel
        series = off**2 * (0.5 - off * (1 / 3 - off * (0.25 - off * (0.2 - off * (1 / 6 - off / 7)))))
        fall = np.where(np.abs(off) < 1e-3, series, off - np.log1p(off))
        peak = 0.5 * np.log(shape / (2 * np.pi)) - 1.0 / (12.0 * shape)
        return np.where(np.isfinite(x) & (x > 0), peak - shape * fall, -np.inf)


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
    >>> round(HalfT(3, 10.0).quantile(0.95), 2)
    31.82
    """

    df: float
    scale: float
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The scale of a half-t prior", self.scale)
        check_scale("The degrees of freedom of a half-t prior", self.df)
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        nu, c = self.df, self.scale
        constant = LOG_2 + gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * np.log(nu * np.pi)
        return np.asarray(constant - np.log(c) - (nu + 1) / 2 * np.log1p((s / c) ** 2 / nu))

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return self.scale * float(stdtrit(self.df, (1.0 + probability) / 2.0))

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
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The scale of a half-normal prior", self.scale)
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        constant = LOG_2 - 0.5 * np.log(2 * np.pi) - np.log(self.scale)
        return np.asarray(constant - 0.5 * (s / self.scale) ** 2)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return self.scale * float(ndtri((1.0 + probability) / 2.0))

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
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The mean of an exponential prior", self.mean)
        settle(self)

    @classmethod
    def pc(cls, upper: float, probability: float = 0.05) -> Exponential:
        """The prior with ``P(s > upper) = probability``.

        Examples
        --------
        >>> round(Exponential.pc(100.0, 0.05).quantile(0.95), 6)
        100.0
        """
        check_scale("The upper value of a PC prior", upper)
        if not (is_finite_number(probability) and 0 < probability < 1):
            raise PriorError(
                f"The probability of a PC prior is {shown(probability)}, but P(sd > {upper:g}) must lie between 0 "
                "and 1. "
                "Give for example 0.05."
            )
        return cls(-upper / float(np.log(float(probability))))

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        return np.asarray(-np.log(self.mean) - s / self.mean)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return -self.mean * float(np.log1p(-probability))

    def __str__(self) -> str:
        return f"exponential(mean {self.mean:.4g})"


@dataclass(frozen=True)
class Gamma:
    """Gamma(shape, rate) prior on the standard deviation; rate 0 gives the improper density ``s^(shape - 1)``.

    ``Gamma(2, 0)`` is the boundary-avoiding prior: the posterior mode is never zero. As a posterior it excludes zero
    by construction, so use it for point estimates.

    Parameters
    ----------
    shape : float
    rate : float
        1 / units of y; 0 is allowed.

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709.
    """

    shape: float
    rate: float
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The shape of a gamma prior", self.shape)
        if not (is_finite_number(self.rate) and self.rate == 0):
            check_scale("The rate of a gamma prior", self.rate)
        settle(self)

    @property
    def proper(self) -> bool:
        return self.rate > 0

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        if self.shape >= LARGE_SHAPE and self.proper:
            return log_gamma_peak(self.shape, self.rate * s) - np.log(np.maximum(s, _TINY))
        log_power = power(self.shape - 1.0, s)
        if not self.proper:
            return log_power
        return np.asarray(self.shape * np.log(self.rate) - gammaln(self.shape) + log_power - self.rate * s)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability; nan if the rate is 0."""
        probability = level("probability", probability, PriorError)
        return float(gammaincinv(self.shape, probability)) / self.rate if self.proper else float("nan")

    def __str__(self) -> str:
        return f"gamma({self.shape:g}, rate {self.rate:.4g})"


@dataclass(frozen=True)
class Uniform:
    """Uniform prior on (0, upper)."""

    upper: float
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The upper end of a uniform prior", self.upper)
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        return np.where(s <= self.upper, -np.log(self.upper), -np.inf)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return self.upper * probability

    def __str__(self) -> str:
        return f"uniform(0, {self.upper:.4g})"


@dataclass(frozen=True)
class Flat:
    """Improper uniform prior on (0, inf)."""

    proper: ClassVar[bool] = False
    even: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    def log_density(self, s: FloatArray) -> FloatArray:
        """Zero: a density up to a constant."""
        return np.zeros_like(s, dtype=float)

    def quantile(self, probability: float) -> float:
        """nan: improper."""
        probability = level("probability", probability, PriorError)
        return float("nan")

    def __str__(self) -> str:
        return "flat"


@dataclass(frozen=True)
class Power:
    """Improper density proportional to ``s ** exponent``; -1 is flat on log s, 1 the boundary-avoiding gamma(2, 0).

    References
    ----------
    Chung, Rabe-Hesketh, Dorie, Gelman & Liu (2013), Psychometrika 78, 685-709.
    """

    exponent: float
    proper: ClassVar[bool] = False
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not is_finite_number(self.exponent):
            raise PriorError(
                f"The exponent of a power prior is {shown(self.exponent)}, but the density s^exponent needs a finite "
                "number. Give for example 1."
            )
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """``exponent * log s``."""
        return power(self.exponent, s)

    def quantile(self, probability: float) -> float:
        """nan: improper."""
        probability = level("probability", probability, PriorError)
        return float("nan")

    def __str__(self) -> str:
        return f"density proportional to s^{self.exponent:g}"


@dataclass(frozen=True)
class InverseGammaVariance:
    """Inverse-gamma(shape, rate) prior on the variance s^2, as a density of s.

    With small shape and rate it is not vague: it puts a spike at s of order ``sqrt(rate)`` (Gelman 2006).

    Parameters
    ----------
    shape : float
    rate : float
        Units of y squared.

    Raises
    ------
    PriorError
        A parameter is not positive; at zero the posterior would be improper.
    """

    shape: float
    rate: float
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if any(is_finite_number(value) and value == 0 for value in (self.shape, self.rate)):
            raise PriorError(
                f"InverseGammaVariance({shown(self.shape)}, {shown(self.rate)}) has a parameter of zero. With both "
                "zero the "
                "density is 1/s, whose integral diverges at s = 0, where the likelihood is positive: the posterior is "
                "improper (Hobert & Casella 1996). Use the default half-t, or bl.Flat() with at least 3 levels."
            )
        check_scale("The shape of an inverse-gamma prior", self.shape)
        check_scale("The rate of an inverse-gamma prior", self.rate)
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        a, b = self.shape, self.rate
        safe = np.maximum(s, _TINY)
        with np.errstate(over="ignore"):
            tail = np.where(s > 0, b / safe**2, np.inf)
            if a >= LARGE_SHAPE:
                return log_gamma_peak(a, tail) - np.log(safe) + LOG_2
            return np.asarray(a * np.log(b) - gammaln(a) - (2 * a + 1) * np.log(safe) - tail + LOG_2)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        with np.errstate(divide="ignore"):
            return float(np.sqrt(self.rate / np.float64(gammainccinv(self.shape, probability))))

    def __str__(self) -> str:
        return f"inverse-gamma({self.shape:g}, {self.rate:g}) on the variance"
