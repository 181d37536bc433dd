"""Priors of a whole random-effects term (Wishart, decov, flat in theta), and priors on the ratio sd / sigma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.special import gammaincinv, gammaln

from bayeslmm.arguments import level, real, shown
from bayeslmm.bayes.prior_families import LARGE_SHAPE, LOG_2, Gamma, Power, SdPrior, is_sd_prior, log_gamma_peak, power
from bayeslmm.bayes.prior_numbers import check_scale, settle
from bayeslmm.errors import ArgumentError, PriorError
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Chi:
    """Scaled chi prior, ``s = scale * chi_df``: the marginal of one sd under a Wishart prior.

    Parameters
    ----------
    df : float
        1 is the half-normal; the density behaves like ``s^(df - 1)`` at zero.
    scale : float
        Units of y (per unit of the column, for a slope).
    """

    df: float
    scale: float
    proper: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("The scale of a chi prior", self.scale)
        check_scale("The degrees of freedom of a chi prior", self.df)
        settle(self)

    @property
    def even(self) -> bool:
        return self.df == 1

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at s >= 0."""
        half = 0.5 * (s / self.scale) ** 2
        if 0.5 * self.df >= LARGE_SHAPE:
            return LOG_2 + log_gamma_peak(0.5 * self.df, half) - np.log(np.maximum(s, 1e-150))
        constant = (1.0 - 0.5 * self.df) * LOG_2 - gammaln(0.5 * self.df) - self.df * np.log(self.scale)
        return np.asarray(constant + power(self.df - 1.0, s) - half)

    def quantile(self, probability: float) -> float:
        """Value that s is below with the given probability."""
        probability = level("probability", probability, PriorError)
        return self.scale * float(np.sqrt(2.0 * gammaincinv(0.5 * self.df, probability)))

    def __str__(self) -> str:
        return f"chi({self.df:g}, scale {self.scale:.4g})"


@dataclass(frozen=True)
class Relative:
    """A prior on the ratio sd / sigma: ``Relative(Exponential(1))`` is rstanarm's prior of a scalar term.

    Parameters
    ----------
    prior : SdPrior
        Density of the ratio; its scale is in units of the residual sd.

    Examples
    --------
    >>> from bayeslmm.bayes.priors import HalfNormal
    >>> print(Relative(HalfNormal(2.0)))
    half-normal(scale 2) times sigma
    """

    prior: SdPrior
    relative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_sd_prior(self.prior) or getattr(self.prior, "relative", False):
            raise PriorError(
                f"Relative was given {shown(self.prior)}, but it makes a prior on an sd into one on the ratio sd / "
                "sigma. "
                "Give a prior object such as bl.HalfT(3, 1)."
            )

    @property
    def proper(self) -> bool:
        return self.prior.proper

    @property
    def even(self) -> bool:
        return self.prior.even

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at the ratio s = sd / sigma >= 0."""
        return self.prior.log_density(s)

    def quantile(self, probability: float) -> float:
        """Ratio that sd / sigma is below with the given probability."""
        return self.prior.quantile(probability)

    def __str__(self) -> str:
        return f"{self.prior} on sd / sigma" if not self.prior.proper else f"{self.prior} times sigma"


class TermPrior(Protocol):
    """A joint prior on the relative sds of one term with several effects.

    Attributes
    ----------
    proper : bool
    """

    @property
    def proper(self) -> bool: ...

    def log_density(self, t: FloatArray) -> FloatArray:
        """Log density (K,) of relative sds t = sd / sigma, shape (K, c)."""
        ...

    def marginal(self, effect: int, size: int) -> SdPrior:
        """Prior of one relative sd of a term with `size` effects."""
        ...

    def partial_shapes(self, size: int) -> FloatArray:
        """Shapes (c, c) of the densities of canonical partial correlations; see `Priors.partial_shapes`."""
        ...

    def __str__(self) -> str: ...


def lkj_shapes(eta: float, size: int) -> FloatArray:
    """Shape (i, j), i > j: under LKJ(eta) a partial correlation has density ~ ``(1 - z^2)^(shape - 1)``.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, 1989-2001.
    """
    return np.tile(eta + (size - 2 - np.arange(size)) / 2.0, (size, 1))


@dataclass(frozen=True)
class Decov:
    """The covariance prior of rstanarm, on the covariance of a term relative to sigma^2.

    Its trace is ``c tau^2`` with ``tau ~ gamma(shape, scale)``; the shares of the c variances in the trace are
    Dirichlet(concentration) and the correlation matrix is LKJ(regularization). A term with one effect has
    ``sd / sigma ~ gamma(shape, scale)``.

    Parameters
    ----------
    regularization : float
        Shape of the LKJ prior.
    concentration : float
    shape : float
    scale : float
        In units of sigma.

    References
    ----------
    Goodrich, Gabry, Ali & Brilleman, rstanarm: Bayesian applied regression modeling via Stan (documentation of priors).
    """

    regularization: float = 1.0
    concentration: float = 1.0
    shape: float = 1.0
    scale: float = 1.0
    proper: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("regularization", "concentration", "shape", "scale"):
            check_scale(f"The {name} of a decov prior", getattr(self, name))
        settle(self)

    def log_density(self, t: FloatArray) -> FloatArray:
        """Log density (K,) of relative sds t, shape (K, c).

        With S = sum t_k^2 = c tau^2 and shares p_k = t_k^2 / S the map (tau, p) -> t^2 has the Jacobian
        ``S^(c-1) 2 c tau``, and t^2 -> t has ``prod 2 t_k``.
        """
        c = t.shape[-1]
        total = (t**2).sum(-1)
        tau = np.sqrt(total / c)
        delta = self.concentration
        log_tau = Gamma(self.shape, 1.0 / self.scale).log_density(tau)
        shares = t**2 / np.where(total > 0, total, 1.0)[..., None]
        log_shares = gammaln(c * delta) - c * gammaln(delta) + power(delta - 1.0, shares).sum(-1)
        with np.errstate(divide="ignore"):
            log_jacobian = c * LOG_2 + np.log(t).sum(-1) - (c - 1) * np.log(total) - np.log(2 * c * tau)
        return np.asarray(log_tau + log_shares + log_jacobian)

    def marginal(self, effect: int, size: int) -> SdPrior:
        """Prior of one relative sd of a term with `size` effects."""
        return Relative(self.scalar() if size == 1 else DecovMarginal(self, size))

    def scalar(self) -> Gamma:
        """Prior of sd / sigma in a term with one effect."""
        return Gamma(self.shape, 1.0 / self.scale)

    def partial_shapes(self, size: int) -> FloatArray:
        """Shapes (c, c) of the densities of canonical partial correlations."""
        return lkj_shapes(self.regularization, size)

    def draw(self, size: int, count: int, rng: np.random.Generator) -> FloatArray:
        """Relative sds (count, c) of a term with c = `size` effects."""
        tau = rng.gamma(self.shape, self.scale, count)
        return np.asarray(tau[:, None] * np.sqrt(size * rng.dirichlet(np.full(size, self.concentration), count)))

    def __str__(self) -> str:
        numbers = (self.regularization, self.concentration, self.shape, self.scale)
        return f"decov({', '.join(f'{v:g}' for v in numbers)})"


@dataclass(frozen=True)
class DecovMarginal:
    """One relative sd under `Decov`: ``tau sqrt(c p)``, tau gamma, p the first share of the Dirichlet.

    The integral over the share is a Gauss-Jacobi sum: for tables and figures, not for sampling.
    """

    prior: Decov
    size: int
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def log_density(self, s: FloatArray) -> FloatArray:
        """Log density at the ratio s >= 0."""
        factors, weights = self._shares()
        values = self.prior.scalar().log_density(np.asarray(s, dtype=float)[..., None] / factors)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log((weights * np.exp(values) / factors).sum(-1)))

    def quantile(self, probability: float) -> float:
        """Ratio that sd / sigma is below with the given probability."""
        from scipy.optimize import brentq
        from scipy.special import gammainc

        factors, weights = self._shares()
        prior = self.prior
        top = prior.scale * float(gammaincinv(prior.shape, 1 - 1e-3 * (1 - probability))) * np.sqrt(self.size)

        def excess(s: float) -> float:
            return float((weights * gammainc(prior.shape, s / (prior.scale * factors))).sum()) - probability

        return float(brentq(excess, 0.0, top, xtol=1e-12 * top, rtol=1e-12))

    def _shares(self) -> tuple[FloatArray, FloatArray]:
        """Nodes of sqrt(c p) and weights of its distribution."""
        from scipy.special import roots_legendre

        # p = sin^2(a / 2) makes the square root smooth; the beta density is integrated in the angle a.
        delta, c = self.prior.concentration, self.size
        nodes, weights = roots_legendre(400)
        # a second substitution a = pi (1 + sin(pi v / 2)) / 2 tames end points where the density is infinite
        v = 0.5 * np.pi * nodes
        angle = 0.5 * np.pi * (1.0 + np.sin(v))
        log_p, log_q = 2 * np.log(np.sin(angle / 2)), 2 * np.log(np.cos(angle / 2))
        log_beta = gammaln(delta) + gammaln((c - 1) * delta) - gammaln(c * delta)
        log_density = (delta - 0.5) * log_p + ((c - 1) * delta - 0.5) * log_q - log_beta
        measure = weights * 0.25 * np.pi**2 * np.cos(v)
        share = measure * np.exp(log_density)
        return np.sqrt(c) * np.exp(0.5 * log_p), share / share.sum()

    def __str__(self) -> str:
        return f"{self.prior} share"


@dataclass(frozen=True)
class FlatFactor:
    """Improper: flat in theta, the entries of the relative Cholesky factor T, whose posterior mode is then REML.

    In relative sds t and the correlation factor L (T = diag(t) L) this is ``prod t_k^(k-1)``, k from 1, times the rows
    of L uniform on their half-spheres; for two effects ``t_2`` and LKJ(1/2). It depends on the order of the effects.
    """

    proper: ClassVar[bool] = False

    def log_density(self, t: FloatArray) -> FloatArray:
        """Log density (K,) of relative sds t, shape (K, c), up to a constant."""
        return np.asarray(sum((power(float(k), t[..., k]) for k in range(1, t.shape[-1])), np.zeros(t.shape[:-1])))

    def marginal(self, effect: int, size: int) -> SdPrior:
        """Prior of one relative sd."""
        return Relative(Power(float(effect)))

    def partial_shapes(self, size: int) -> FloatArray:
        """Shapes (c, c) of the densities of canonical partial correlations."""
        i, j = np.indices((size, size))
        return np.asarray((i - j) / 2.0)

    def __str__(self) -> str:
        return "flat in theta"


@dataclass(frozen=True)
class Wishart:
    """Wishart(df, scale) prior on the covariance matrix of a term, with a diagonal scale matrix.

    Then the sds are independent with densities ``s^(df-1) exp(-s^2 / (2 v))`` and the correlation matrix is
    LKJ((df - c + 1) / 2). An infinite scale gives the improper densities ``s^(df-1)``.

    Parameters
    ----------
    df : float
        Above c - 1.
    scale : float or sequence of float
        Diagonal v of the scale matrix (a variance: units of y squared), one or per effect.

    References
    ----------
    Chung, Gelman, Rabe-Hesketh, Liu & Dorie (2015), J. Educational and Behavioral Statistics 40, 136-157.
    """

    df: float
    scale: float | Sequence[float] = float("inf")

    def __post_init__(self) -> None:
        check_scale("The number of degrees of freedom of a Wishart prior", self.df)
        several = isinstance(self.scale, list | tuple) or (isinstance(self.scale, np.ndarray) and self.scale.ndim == 1)
        try:
            for value in self.scale if several else (self.scale,):  # type: ignore[union-attr]
                real("scale", value, above=0.0, finite=False)
        except ArgumentError:
            raise PriorError(
                f"The Wishart prior has the scale {shown(self.scale)}; it is a variance, in the units of y squared, "
                "and has "
                "to be positive (inf for the improper prior)."
            ) from None
        if not several:
            settle(self)

    def sds(self, size: int) -> tuple[SdPrior, ...]:
        """Priors of the c = `size` sds."""
        scales = tuple(self.scale) if np.ndim(self.scale) else (self.scale,) * size  # type: ignore[arg-type]
        if len(scales) != size:
            raise PriorError(
                f"The Wishart prior has {len(scales)} scales, but the term has {size} effects. Give one or {size}."
            )
        return tuple(Chi(self.df, float(np.sqrt(v))) if np.isfinite(v) else Power(self.df - 1.0) for v in scales)

    def eta(self, size: int) -> float:
        """Shape of the LKJ prior on the correlation matrix.

        Raises
        ------
        PriorError
            Too few degrees of freedom.
        """
        if not self.df > size - 1:
            raise PriorError(
                f"The Wishart prior has {self.df!r} degrees of freedom, but a term with {size} effects needs more than "
                f"{size - 1}: below, it has no density. Use for example {size + 2}."
            )
        return (self.df - size + 1.0) / 2.0

    def __str__(self) -> str:
        return f"Wishart({self.df:g}, {self.scale})"
