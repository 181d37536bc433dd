"""Both engines have the same posterior: the joint density of the PyMC model is the collapsed one
times the conditional density of the fixed and random effects, at points drawn at random.

    log p(y, beta, z, sd, corr, sigma) = log prior(sd, corr, sigma) + log p(y | sd, corr, sigma)
                                         + log N(beta, z | conditional mean and covariance)

The left side is evaluated in PyMC's graph. The marginal likelihood on the right is the one that
REML maximises; the conditional comes from a dense precision matrix formed here, which shares no
code with the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import beta

from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.priors import (
    Exponential,
    Flat,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    Uniform,
)
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.design.design import Design
from bayeslmm.likelihood import (
    NormalPrior,
    cross_products,
    evaluate,
    minus_two_log_density,
    minus_two_log_density_normal,
)
from bayeslmm.likelihood.parameters import block_factors

pytest.importorskip("pymc")

POINTS = 3
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Case:
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    beta: NormalPrior | None = None
    sd: float | None = None
    family: tuple[Any, ...] = ()
    form: str = "noncentered"


INFORMATIVE = NormalPrior(np.array([8.0, 0.5]), np.array([3.0, 0.7]))
CASES = {
    "one-way": Case("one-way"),
    "crossed": Case("crossed"),
    "nested": Case("nested"),
    "correlated slopes": Case("slopes"),
    "correlated slopes, 3 x 3": Case("slopes 3x3"),
    "uncorrelated": Case("uncorrelated"),
    "weights": Case("crossed", {"weights": True}),
    "offset": Case("slopes", {"offset": True}),
    "weights and offset": Case("slopes 3x3", {"weights": True, "offset": True}),
    "sd near zero": Case("slopes", sd=1e-6),
    "sd zero": Case("slopes", sd=0.0),
    "sd zero, crossed and weighted": Case("blocks and crossed", {"weights": True}, sd=0.0),
    "no intercept": Case("slopes", {"fixed": ("x",)}),
    "no fixed effects": Case("one-way", {"fixed": ()}),
    "two terms on one factor": Case("two terms"),
    "effect in two terms": Case("repeated effect"),
    "blocks and crossed": Case("blocks and crossed", {"weights": True, "offset": True}),
    "normal beta": Case("slopes", beta=INFORMATIVE),
    "normal beta, weights, sd zero": Case("crossed", {"weights": True}, beta=INFORMATIVE, sd=0.0),
    "partly flat beta": Case("slopes", beta=replace(INFORMATIVE, sd=np.array([np.inf, 0.7]))),
    "half-normal": Case("slopes", family=(HalfNormal(2.0), HalfNormal(0.5))),
    "uniform": Case("slopes", family=(Uniform(9.0), Uniform(7.0))),
    "flat": Case("slopes", family=(Flat(), Flat())),
    "power": Case("slopes", family=(Power(1.0), Power(0.5))),
    "inverse gamma": Case("slopes", family=(InverseGammaVariance(0.5, 0.2), InverseGammaVariance(2.0, 1.0))),
    "mixed families": Case("slopes", family=(Exponential(2.0), HalfT(4.0, 3.0))),
    "centred": Case("blocks and crossed", form="centered"),
    "centred, independent": Case("uncorrelated", form="centered"),
    "identity": Case("identity"),
    "compound symmetry": Case("compound symmetry", {"weights": True}),
    "autoregression": Case("autoregression", {"offset": True}),
    "autoregression, sd zero": Case("autoregression", sd=0.0),
    "all structures": Case("all structures", beta=INFORMATIVE),
    "all structures, centred": Case("all structures", form="centered"),
    "one sd, uniform": Case("compound symmetry", family=(Uniform(9.0),) * 3),
}


@dataclass(frozen=True)
class Point:
    """Values of all parameters; sd (of every effect), L and z by group, with one block of L for every term."""

    beta: np.ndarray
    sigma: float
    sd: dict[str, np.ndarray]
    L: dict[str, list[np.ndarray]]
    z: dict[str, np.ndarray]


@pytest.mark.parametrize("name", CASES)
def test_joint_density_is_collapsed_times_conditional(name: str, design: Callable[..., Design]) -> None:
    case = CASES[name]
    data = design(case.kind, **case.options)
    priors = _priors(data, case)
    log_p = _pymc_log_density(data, priors, case.form)
    rng = np.random.default_rng(3)
    for _ in range(POINTS):
        point = _draw(data, priors, case, rng)
        expected = _log_prior(data, priors, point) + _log_marginal(data, priors, point)
        expected += _log_conditional(data, priors, point)
        if case.form == "centered":
            expected -= _log_jacobian_of_effects(data, point)
        assert log_p(point) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


def _priors(design: Design, case: Case) -> Priors:
    priors = replace(default_priors(design), beta=case.beta, lkj=(1.7,) * len(design.terms))
    return replace(priors, sds=(case.family,)) if case.family else priors


def _draw(design: Design, priors: Priors, case: Case, rng: np.random.Generator) -> Point:
    sd, L, z = {}, {}, {}
    sigma = float(rng.uniform(0.5, 2.0))
    for group in make_layout(design).groups:
        size = len(group.labels.effects)
        sd[group.name] = rng.uniform(0.2, 3.0, size)
        if case.sd is not None:
            sd[group.name][-1] = case.sd * sigma
        for k, columns in zip(group.labels.terms, group.labels.slices, strict=True):
            if design.terms[k].structure.keyword in SHARED:
                sd[group.name][columns] = sd[group.name][columns][-1]
        L[group.name] = [_correlation_factor(design, k, rng) for k in group.labels.terms]
        z[group.name] = rng.normal(size=(len(group.labels.levels), size))
    return Point(rng.normal(3.0, 4.0, design.p), sigma, sd, L, z)


def _correlation_factor(design: Design, k: int, rng: np.random.Generator) -> np.ndarray:
    term = design.terms[k]
    size, keyword = len(term.effects), term.structure.keyword
    if keyword in ("diag", "id"):
        return np.eye(size)
    if keyword in ("cs", "ar1"):
        rho = rng.uniform(_lowest(keyword, size), 1.0)
        lags = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        return np.linalg.cholesky(rho ** (lags if keyword == "ar1" else np.sign(lags)))
    A = rng.normal(size=(size, size + 1))
    covariance = A @ A.T
    s = np.sqrt(np.diag(covariance))
    return np.linalg.cholesky(covariance / np.outer(s, s))


SHARED = ("id", "cs", "ar1")


def _lowest(keyword: str, size: int) -> float:
    """Lower end of the correlation that all effects share."""
    return -1.0 if keyword == "ar1" else -1.0 / (size - 1)


def _own_sds(design: Design, group: GroupLayout, point: Point) -> np.ndarray:
    """Standard deviations with those that effects share given once."""
    parts = []
    for k, columns in zip(group.labels.terms, group.labels.slices, strict=True):
        sd = point.sd[group.name][columns]
        parts.append(sd[:1] if design.terms[k].structure.keyword in SHARED else sd)
    return np.concatenate(parts)


def _places(design: Design, group: GroupLayout, point: Point) -> np.ndarray:
    """What the beta priors are about: ``(1 + partial correlation) / 2``, or the place of a shared correlation."""
    parts = [np.empty(0)]
    for k, L in zip(group.labels.terms, point.L[group.name], strict=True):
        keyword, size = design.terms[k].structure.keyword, L.shape[0]
        if keyword in ("cs", "ar1"):
            low = _lowest(keyword, size)
            parts.append(np.array([(L[1, 0] - low) / (1.0 - low)]))
        elif keyword == "us":
            parts.append((1.0 + _partials(L)[0]) / 2.0)
    return np.concatenate(parts)


# The PyMC side.


def _pymc_log_density(design: Design, priors: Priors, form: str) -> Callable[[Point], float]:
    from pymc.model.transform.conditioning import remove_value_transforms

    model = remove_value_transforms(build_pymc_model(design, priors, form))
    function = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    layout = make_layout(design)

    def log_p(point: Point) -> float:
        named = _values(design, layout.groups, point)
        values = {model.rvs_to_values[rv].name: named[rv.name] for rv in model.free_RVs}
        return float(function(values))

    return log_p


def _values(design: Design, groups: tuple[GroupLayout, ...], point: Point) -> dict[str, Any]:
    named: dict[str, Any] = {"beta": point.beta, "sigma": point.sigma}
    for group in groups:
        g = group.name
        sd, z = _own_sds(design, group, point), point.z[g]
        named[group.sd] = sd
        named |= {f"{group.sd}__{e}": s for e, s in zip(group.labels.effects, sd, strict=False)}
        named[f"z_{g}"] = z
        named[group.b] = z @ _effect_factor(group, point).T
        named[f"r_{g}"] = _places(design, group, point)
    return named


def _partials(L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of a < b given the effects before a, and d L[b, a] / d correlation."""
    a, b = np.triu_indices(L.shape[0], 1)
    left = np.sqrt([1.0 - (L[i, :j] ** 2).sum() for i, j in zip(b, a, strict=True)])
    return L[b, a] / left, left


# The collapsed side.


def _log_prior(design: Design, priors: Priors, point: Point) -> float:
    total = float(priors.sigma.log_density(np.array(point.sigma)))
    for group in make_layout(design).groups:
        for k, columns, L in zip(group.labels.terms, group.labels.slices, point.L[group.name], strict=True):
            sd, keyword = point.sd[group.name][columns], design.terms[k].structure.keyword
            sd = sd[:1] if keyword in SHARED else sd
            total += sum(float(p.log_density(np.array(s))) for p, s in zip(priors.sds[k], sd, strict=False))
            if keyword == "us" and L.shape[0] > 1:
                total += _log_lkj(L, priors.lkj[k])
            elif keyword in ("cs", "ar1"):
                low, eta = _lowest(keyword, L.shape[0]), priors.lkj[k]
                total += float(beta.logpdf((L[1, 0] - low) / (1.0 - low), eta, eta))
    return total


def _log_lkj(L: np.ndarray, eta: float) -> float:
    """LKJ density of the correlation matrix, as a density of r = (1 + partial correlation) / 2."""
    c = L.shape[0]
    k = np.arange(1, c)
    a = eta + (c - 1 - k) / 2.0
    log_constant = ((c - k) * ((2.0 * a - 1.0) * np.log(2.0) + betaln(a, a))).sum()
    log_diagonal = np.log(np.diag(L))
    corr_by_L = ((c - np.arange(1, c + 1)) * log_diagonal).sum()
    L_by_r = np.log(2.0 * _partials(L)[1]).sum()
    return float(2.0 * (eta - 1.0) * log_diagonal.sum() - log_constant + corr_by_L + L_by_r)


def _log_marginal(design: Design, priors: Priors, point: Point) -> float:
    factors: list[np.ndarray] = [np.empty(0)] * len(design.terms)
    for group in make_layout(design).groups:
        for k, columns, L in zip(group.labels.terms, group.labels.slices, point.L[group.name], strict=True):
            relative = point.sd[group.name][columns] / point.sigma
            factors[k] = (relative[:, None] * L)[None]
    cp = cross_products(design)
    factor = evaluate(cp, block_factors(cp, factors))
    sigma = np.array([[point.sigma]])
    if priors.beta is None:
        return -0.5 * float(minus_two_log_density(cp, factor, sigma, reml=True)[0, 0])
    return -0.5 * float(minus_two_log_density_normal(cp, factor, sigma, priors.beta)[0, 0])


def _log_conditional(design: Design, priors: Priors, point: Point) -> float:
    """Log density of (beta, z) given everything else, from their dense joint precision matrix."""
    weights = np.ones(design.n) if design.weights is None else design.weights
    y = design.y if design.offset is None else design.y - design.offset
    A = np.hstack([design.X, *_effect_columns(design, point)])
    A, y = A * np.sqrt(weights)[:, None] / point.sigma, y * np.sqrt(weights) / point.sigma
    prior_precision, prior_mean = np.ones(A.shape[1]), np.zeros(A.shape[1])
    prior_precision[: design.p] = 0.0 if priors.beta is None else priors.beta.sd**-2.0
    prior_mean[: design.p] = 0.0 if priors.beta is None else priors.beta.mean
    precision = A.T @ A + np.diag(prior_precision)
    mean = np.linalg.solve(precision, A.T @ y + prior_precision * prior_mean)
    difference = np.concatenate([point.beta, *(z.ravel() for z in point.z.values())]) - mean
    log_det = np.linalg.slogdet(precision)[1]
    quadratic = difference @ precision @ difference
    return float(0.5 * (log_det - quadratic - difference.size * np.log(2.0 * np.pi)))


def _effect_columns(design: Design, point: Point) -> list[np.ndarray]:
    """For every group the n x (J c) matrix that multiplies z, level by level."""
    out = []
    for group in make_layout(design).groups:
        grouping = design.groupings[group.labels.group]
        Z = np.hstack([design.terms[k].Z for k in group.labels.terms])
        scaled = Z @ _effect_factor(group, point)
        indicator = np.eye(grouping.n_levels)[grouping.codes]
        out.append((indicator[:, :, None] * scaled[:, None, :]).reshape(design.n, -1))
    return out


def _effect_factor(group: GroupLayout, point: Point) -> np.ndarray:
    size = len(group.labels.effects)
    L = np.zeros((size, size))
    for columns, block in zip(group.labels.slices, point.L[group.name], strict=True):
        L[columns, columns] = block
    return point.sd[group.name][:, None] * L


def _log_jacobian_of_effects(design: Design, point: Point) -> float:
    """Log |d b / d z|."""
    return sum(
        len(group.labels.levels) * float(np.log(np.diag(_effect_factor(group, point))).sum())
        for group in make_layout(design).groups
    )
