"""Default distributions of residual parameters on their scales without bounds, of which a prior is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from bayeslmm.types import FloatArray

_LOG_2PI = float(np.log(2.0 * np.pi))
# Standard deviations, about, within which nearly all of a distribution is.
_FAR = 5.0


@dataclass(frozen=True)
class NormalLaw:
    """Normal with a mean and a standard deviation.

    Attributes
    ----------
    mean, sd : float
    """

    mean: float
    sd: float

    before: ClassVar[tuple[int, ...]] = ()

    @property
    def bulk(self) -> tuple[float, float]:
        """Where nearly all of it is."""
        return self.mean - _FAR * self.sd, self.mean + _FAR * self.sd

    def log_density(self, x: FloatArray, before: FloatArray) -> FloatArray:
        """Log density (S,) at x (S,), given earlier entries (S, b)."""
        return np.asarray(-0.5 * (_LOG_2PI + ((x - self.mean) / self.sd) ** 2) - np.log(self.sd))

    def draw(self, before: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draws (S,), given earlier entries (S, b)."""
        return np.asarray(self.mean + self.sd * rng.standard_normal(before.shape[0]))


@dataclass(frozen=True)
class UniformLaw:
    """What makes a correlation uniform on its range: logistic, of ``scale`` times the logit of its place there.

    Attributes
    ----------
    scale : float
        1/2 for atanh of a correlation, 1 for a logit.
    """

    scale: float

    before: ClassVar[tuple[int, ...]] = ()

    @property
    def bulk(self) -> tuple[float, float]:
        """Where nearly all of it is."""
        return -2.0 * _FAR * self.scale, 2.0 * _FAR * self.scale

    def log_density(self, x: FloatArray, before: FloatArray) -> FloatArray:
        """Log density (S,) at x (S,), given earlier entries (S, b)."""
        u = np.abs(x) / self.scale
        return np.asarray(-u - 2.0 * np.log1p(np.exp(-u)) - np.log(self.scale))

    def draw(self, before: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draws (S,), given earlier entries (S, b)."""
        return np.asarray(rng.logistic(0.0, self.scale, before.shape[0]))


@dataclass(frozen=True)
class SphereLaw:
    r"""An entry of a row u of a Cholesky factor ``(u, 1) / |(u, 1)|`` of a correlation matrix under LKJ(eta).

    Row i (from 1) of K has ``i - 1`` entries with density proportional to ``(1 + |u|^2)^-((K + 2 eta - 1) / 2)``:
    multivariate t with ``K - i + 2 eta`` degrees of freedom. Given those before it, entry j is a t variable.

    Attributes
    ----------
    df : float
        Of this entry given those before.
    before : tuple of int
        Places of the earlier entries of the row among the parameters of the structure.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001, for the density of the matrix.
    """

    df: float
    before: tuple[int, ...]

    @property
    def bulk(self) -> tuple[float, float]:
        """Where nearly all of it is, whatever the earlier entries."""
        return -_FAR, _FAR

    def _scale(self, before: FloatArray) -> FloatArray:
        return np.sqrt((1.0 + (before**2).sum(1)) / self.df)

    def log_density(self, x: FloatArray, before: FloatArray) -> FloatArray:
        """Log density (S,) at x (S,), given earlier entries (S, b)."""
        scale, df = self._scale(before), self.df
        constant = gammaln(0.5 * (df + 1.0)) - gammaln(0.5 * df) - 0.5 * np.log(np.pi * df)
        return np.asarray(constant - np.log(scale) - 0.5 * (df + 1.0) * np.log1p((x / scale) ** 2 / df))

    def draw(self, before: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draws (S,), given earlier entries (S, b)."""
        return self._scale(before) * rng.standard_t(self.df, before.shape[0])


type Law = NormalLaw | UniformLaw | SphereLaw


def sphere_laws(K: int, eta: float = 1.0) -> tuple[Law, ...]:
    """Laws of the entries below the diagonal, row by row, of the factor of K correlated quantities under LKJ(eta)."""
    out, start = list[Law](), 0
    for i in range(1, K):
        out += [SphereLaw(K - 1 - i + 2.0 * eta + j, tuple(range(start, start + j))) for j in range(i)]
        start += i
    return tuple(out)


def shifted(laws: tuple[Law, ...], by: int) -> tuple[Law, ...]:
    """The same laws for parameters that come later by so many places."""
    return tuple(
        SphereLaw(law.df, tuple(k + by for k in law.before)) if isinstance(law, SphereLaw) else law for law in laws
    )


def draw(laws: tuple[Law, ...], size: int, rng: np.random.Generator) -> FloatArray:
    """Draws (S, k) of the parameters.

    Examples
    --------
    >>> draw((NormalLaw(0.0, 1.0), *sphere_laws(2)), 3, np.random.default_rng(1)).shape
    (3, 2)
    """
    out = np.empty((size, len(laws)))
    for k, law in enumerate(laws):
        out[:, k] = law.draw(out[:, list(law.before)], rng)
    return out


def log_density(laws: tuple[Law, ...], lam: FloatArray) -> FloatArray:
    """Log density (S,) of parameters (S, k)."""
    total = np.zeros(lam.shape[0])
    for k, law in enumerate(laws):
        total = total + law.log_density(lam[:, k], lam[:, list(law.before)])
    return total
