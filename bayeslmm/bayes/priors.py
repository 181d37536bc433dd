"""The set of priors of a model; the families are in ``prior_families`` and ``term_priors``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.arguments import instance, real, shown
from bayeslmm.bayes.at_means import AtMeans
from bayeslmm.bayes.coefficient_priors import Cauchy, StudentT
from bayeslmm.bayes.known_sd import KnownSd
from bayeslmm.bayes.listing import listing
from bayeslmm.bayes.prior_families import (
    Exponential,
    Flat,
    Gamma,
    HalfCauchy,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    SdPrior,
    Uniform,
    is_sd_prior,
)
from bayeslmm.bayes.prior_numbers import is_finite_number, settle
from bayeslmm.bayes.term_priors import (
    Chi,
    Decov,
    DecovMarginal,
    FlatFactor,
    Relative,
    TermPrior,
    Wishart,
    lkj_shapes,
)
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior
from bayeslmm.residual.laws import Law, NormalLaw, SphereLaw, UniformLaw
from bayeslmm.types import BoolArray, FloatArray

__all__ = [
    "Cauchy",
    "Chi",
    "Decov",
    "DecovMarginal",
    "Exponential",
    "Flat",
    "FlatFactor",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfT",
    "InverseGammaVariance",
    "Normal",
    "Power",
    "Priors",
    "Relative",
    "SdPrior",
    "StudentT",
    "TermPrior",
    "Uniform",
    "Wishart",
]


@dataclass(frozen=True)
class Normal:
    """Normal prior on one fixed effect.

    Parameters
    ----------
    mean : float
        Units of y per unit of the column.
    sd : float
        The same units; positive.

    Examples
    --------
    >>> print(Normal(0, 10))
    normal(0, sd 10)
    """

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (is_finite_number(self.mean) and is_finite_number(self.sd) and self.sd > 0):
            raise PriorError(
                f"Normal({shown(self.mean)}, {shown(self.sd)}) needs a finite mean and a positive finite sd, one "
                "number each, in "
                "units of y per unit of the column. Give each coefficient a prior of its own; for no prior information "
                "use 'flat'."
            )
        settle(self)

    def __str__(self) -> str:
        return f"normal({self.mean:.4g}, sd {self.sd:.4g})"


def _fixed_effects(beta: NormalPrior | None, others: Sequence[StudentT | None]) -> str:
    """Priors of the fixed effects, normal ones with an infinite sd flat."""
    if beta is None:
        return ", ".join("flat" if prior is None else str(prior) for prior in others) or "flat"
    pairs = zip(beta.mean, beta.sd, others or (None,) * beta.mean.size, strict=True)
    each = [str(other or (f"normal({mean:.4g}, {sd:.4g})" if np.isfinite(sd) else "flat")) for mean, sd, other in pairs]
    return ", ".join(each) + ("" if beta.basis is None else " of combinations")


@dataclass(frozen=True)
class Priors:
    """All priors of a model.

    Attributes
    ----------
    sds : tuple of tuple of SdPrior
        For every term of the design (in its order) one prior per effect; the same for effects that share an sd,
        where it counts once. A term with a joint prior has its marginals here.
    lkj : tuple of float
        For every term the shape eta of the LKJ prior on its correlation matrix (1 is uniform over
        correlation matrices); ignored for terms without correlations. A correlation that all effects share
        (compound symmetry, AR1) has its place on its range distributed as beta(eta, eta), and so has every partial
        autocorrelation (Toeplitz).
    sigma : SdPrior
        Residual standard deviation.
    beta : NormalPrior or None
        None is flat, which is what makes the posterior comparable with REML.
    joint : tuple of TermPrior or None
        For every term a joint prior on its relative sds, which takes the place of ``sds``, or None. Empty: no term has
        one.
    notes : tuple of tuple of str
        Pairs (label or kind of parameter, text): what to know, e.g. where a preset differs from the package it is named
        after.
    at_means : tuple of AtMeans or None
        For every term the effects that the priors of its sds and correlations are about: those at the means of the
        columns, or None for those at their zeros, which tables of results show. Empty: None for all.
    coefficients : tuple of StudentT or None
        For every fixed effect a prior that is not normal, where `beta` is flat, or None. Empty: none has one.
    residual : tuple of Law
        Of the parameters of the residual structure, on their scales without bounds.
    """

    sds: tuple[tuple[SdPrior, ...], ...]
    lkj: tuple[float, ...]
    sigma: SdPrior
    beta: NormalPrior | None = None
    joint: tuple[TermPrior | None, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    at_means: tuple[AtMeans | None, ...] = ()
    coefficients: tuple[StudentT | None, ...] = ()
    residual: tuple[Law, ...] = ()

    def __post_init__(self) -> None:
        _check_parts(self)
        if self.sigma.relative:
            raise PriorError(
                f"The prior of sigma is {self.sigma}, relative to sigma itself. Give an absolute prior, e.g. bl.HalfT."
            )
        if self.at_means and not self.centred:
            object.__setattr__(self, "at_means", ())
        if all(prior is None for prior in self.coefficients):
            object.__setattr__(self, "coefficients", ())

    def __repr__(self) -> str:
        rows: dict[str, str | None] = {}
        for k, (sds, joint, eta) in enumerate(zip(self.sds, self.joints, self.lkj, strict=True), 1):
            where = " at the means of the columns" if self.changes[k - 1] is not None else ""
            rows[f"sd of term {k}{where}"] = (
                str(joint) if joint is not None else ", ".join(dict.fromkeys(map(str, sds)))
            )
            rows[f"correlations of term {k}"] = f"LKJ({eta:g})" if len(sds) > 1 and joint is None else None
        rows["sigma"] = str(self.sigma)
        rows["fixed effects"] = _fixed_effects(self.beta, self.coefficients)
        rows["in words, by parameter"] = "model.priors(priors), post.prior_table()"
        return listing("Priors", rows)

    @property
    def joints(self) -> tuple[TermPrior | None, ...]:
        """One entry per term."""
        return self.joint or (None,) * len(self.sds)

    @property
    def changes(self) -> tuple[AtMeans | None, ...]:
        """One entry per term of `at_means`."""
        return self.at_means or (None,) * len(self.sds)

    @property
    def centred(self) -> bool:
        """Whether some priors are about effects at the means of columns."""
        return any(change is not None for change in self.at_means)

    def on_zeros(self, *positions: int) -> Priors:
        """The same priors, those of some terms about the effects at the zeros of the columns."""
        kept = tuple(None if k in positions else change for k, change in enumerate(self.changes))
        return replace(self, at_means=kept)

    @property
    def proper(self) -> bool:
        """Whether the joint prior can be drawn from."""
        sds = all(prior.proper for term in self.sds for prior in term)
        joint = all(prior is None or prior.proper for prior in self.joints)
        if not (sds and joint and self.sigma.proper):
            return False
        p = len(self.coefficients) if self.beta is None else self.beta.mean.size
        return (self.beta is not None or bool(self.heavy)) and not flat_coefficients(self, p).any()

    @property
    def heavy(self) -> tuple[tuple[int, StudentT], ...]:
        """Position and prior of the fixed effects whose priors are not normal."""
        return tuple((j, prior) for j, prior in enumerate(self.coefficients) if prior is not None)

    @property
    def even(self) -> tuple[tuple[bool, ...], ...]:
        """Per term and sd, whether the density continues evenly and smoothly through zero."""
        return tuple(
            tuple(joint is None and prior.even for prior in sds)
            for sds, joint in zip(self.sds, self.joints, strict=True)
        )

    @property
    def smooth(self) -> bool:
        """Whether the densities of all group sds are even."""
        return all(even for term in self.even for even in term)

    @property
    def jumps(self) -> bool:
        """Whether the density of a group sd has a jump: a grid is blind to it, and so is its error estimate."""
        return any(_jumps(prior) for term in self.sds for prior in term)

    def log_density_sigma(self, log_sigma: FloatArray) -> FloatArray:
        """Log density of log sigma; zero where sigma is known."""
        if self.sigma_known:
            return np.zeros(np.shape(log_sigma))
        return np.asarray(self.sigma.log_density(np.exp(log_sigma)) + log_sigma)

    @property
    def sigma_known(self) -> bool:
        """Whether sigma has one value instead of a prior."""
        return isinstance(self.sigma, KnownSd)

    @property
    def known_log_sigma(self) -> float | None:
        """Log sigma where it is known; None where it has a prior."""
        return float(np.log(self.sigma.value)) if isinstance(self.sigma, KnownSd) else None

    def log_density_relative(self, t: Sequence[FloatArray], sigma: FloatArray) -> FloatArray:
        """Log density of the relative sds of all terms given sigma.

        Parameters
        ----------
        t : sequence of FloatArray, each (K, c), or (K, 1) where effects share one sd
            Ratios sd / sigma.
        sigma : FloatArray, shape (K, S)

        Returns
        -------
        FloatArray, shape (K, S)
            An absolute prior p(s) has the density p(t sigma) sigma in t.
        """
        total = np.zeros(np.shape(sigma))
        log_sigma = np.log(sigma)
        for priors, joint, ratios in zip(self.sds, self.joints, t, strict=True):
            if joint is not None:
                total = total + joint.log_density(ratios)[:, None]
                continue
            for k in range(ratios.shape[1]):
                column = ratios[:, k, None]
                if priors[k].relative:
                    total = total + priors[k].log_density(column)
                else:
                    total = total + priors[k].log_density(column * sigma) + log_sigma
        return total

    def partial_shapes(self, position: int, size: int) -> FloatArray:
        """Shapes (c, c) of the densities of the canonical partial correlations of a term.

        Entry (i, j), i > j from 0: given the effects before j, the partial correlation z of effects i and j has a
        density proportional to ``(1 - z^2)^(shape - 1)``, independently of the others; its shape is
        ``eta + (c - 2 - j) / 2`` for LKJ(eta).
        """
        joint = self.joints[position]
        return lkj_shapes(self.lkj[position], size) if joint is None else joint.partial_shapes(size)

    def shapes(self, position: int, structure: CovarianceStructure) -> FloatArray:
        """Shapes (m,) of the same for what the structure of a term makes its correlations of."""
        return structure.partial_shapes(self.lkj[position], self.partial_shapes(position, structure.size))

    def log_density_sd(self, position: int, effect: int, s: FloatArray) -> FloatArray:
        """Marginal prior log density of one sd in the units of the data, whatever the form of its prior.

        Parameters
        ----------
        position, effect : int
            Term of the design, effect within it.
        s : FloatArray, shape (G,)

        Returns
        -------
        FloatArray, shape (G,)
            nan where a prior on the ratio sd / sigma meets an improper prior on sigma.
        """
        prior = self.sds[position][effect]
        if not prior.relative:
            return prior.log_density(s)
        if not self.sigma.proper:
            return np.full(np.shape(s), np.nan)
        probabilities, weights = _unit_interval(200)
        sigma = np.array([self.sigma.quantile(float(p)) for p in probabilities])
        values = prior.log_density(np.asarray(s, dtype=float)[:, None] / sigma) - np.log(sigma)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.exp(values) @ weights))


def normal_coefficients(prior: NormalPrior | None, p: int) -> NormalPrior:
    """Normal priors of the p fixed effects, those of infinite sds where there is none."""
    return prior or NormalPrior(np.zeros(p), np.full(p, np.inf))


def with_known_sigma(priors: Priors, sigma: float | None) -> Priors:
    """The same priors with the sigma that a model knows, if it does.

    Raises
    ------
    PriorError
        They were made for a model with another sigma.
    """
    if sigma is not None:
        return replace(priors, sigma=KnownSd(sigma))
    if priors.sigma_known:
        raise PriorError(
            f"These priors were made for a model whose residual standard deviation is known ({priors.sigma}), and "
            "sigma of this model has to be estimated. Start from priors of this model, or give sigma a prior."
        )
    return priors


def flat_coefficients(priors: Priors, p: int) -> BoolArray:
    """Mask of the p fixed effects, or combinations of them, whose prior is flat."""
    flat = np.ones(p, dtype=bool) if priors.beta is None else ~priors.beta.proper
    flat[[j for j, _ in priors.heavy]] = False
    return flat


def _check_parts(priors: Priors) -> None:
    """Refuse fields of other types, which would be found where they are used."""
    what = "a tuple for every term, as in model.sample(...).priors"
    for name in ("sds", "lkj", "joint", "notes", "at_means", "coefficients", "residual"):
        instance(name, getattr(priors, name), tuple, what, PriorError)
    for sds in priors.sds:
        instance("sds", sds, tuple, "for every term a tuple with one prior per effect", PriorError)
    for prior in (priors.sigma, *(prior for sds in priors.sds for prior in sds)):
        if not is_sd_prior(prior):
            raise PriorError(f"{shown(prior)} is no prior of a standard deviation. Use for example bl.HalfT(3, 1).")
    for eta in priors.lkj:
        real("lkj", eta, above=0.0, error=PriorError)
    if priors.beta is not None:
        instance("beta", priors.beta, NormalPrior, "a bl.NormalPrior, or None for flat", PriorError)
    for joint in priors.joint:
        if joint is not None and not isinstance(joint, Decov | FlatFactor):
            raise PriorError(f"joint has {shown(joint)}; it takes bl.Decov, bl.FlatFactor or None for every term.")
    for law in priors.residual:
        if not isinstance(law, NormalLaw | UniformLaw | SphereLaw):
            raise PriorError(f"residual has {shown(law)}; it takes what model.sample(...).priors has.")
    _check_notes(priors)
    _check_coefficients(priors)


def _check_coefficients(priors: Priors) -> None:
    for prior in priors.coefficients:
        if prior is not None:
            instance("coefficients", prior, StudentT, "bl.StudentT(df, location, scale) or None", PriorError)
    if priors.beta is None or not priors.heavy:
        return
    places = [j for j, _ in priors.heavy]
    if len(priors.coefficients) != priors.beta.mean.size or priors.beta.basis is not None:
        raise PriorError(
            f"coefficients has {len(priors.coefficients)} priors beside normal ones of {priors.beta.mean.size} fixed "
            "effects, or of combinations of them. Give one, or None, for every fixed effect, and no basis."
        )
    if priors.beta.proper[places].any():
        raise PriorError("A fixed effect has both a normal prior and another one. Give its normal prior an sd of inf.")


def _check_notes(priors: Priors) -> None:
    for note in priors.notes:
        if not (isinstance(note, tuple) and len(note) == 2 and all(isinstance(text, str) for text in note)):
            raise PriorError(f"notes has {shown(note)}; it takes pairs of texts, a label and what to know of it.")
    for change in priors.at_means:
        if change is not None:
            instance("at_means", change, AtMeans, "for every term what model.sample(...).priors has", PriorError)


def _jumps(prior: SdPrior) -> bool:
    return isinstance(prior, Uniform) or isinstance(getattr(prior, "prior", None), Uniform)


def _unit_interval(size: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of an integral over (0, 1) that allows for infinities at the ends."""
    from scipy.special import roots_legendre

    nodes, weights = roots_legendre(size)
    x = 0.5 * (1.0 + nodes)
    # p = x^3 (10 - 15 x + 6 x^2): flat at both ends
    return x**3 * (10 - 15 * x + 6 * x**2), 15 * weights * x**2 * (1 - x) ** 2
