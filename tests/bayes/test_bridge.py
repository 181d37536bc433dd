"""Both engines have the same posterior: the joint density of the PyMC model is the collapsed one
times the conditional density of the fixed and random effects, at points drawn at random.

    log p(y, beta, z, sd, corr, sigma) = log prior(sd, corr, sigma) + log p(y | sd, corr, sigma)
                                         + log N(beta, z | conditional mean and covariance)

The collapsed form of the PyMC model is the first two terms of the right side.

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
from scipy.special import betaln, gammaln
from scipy.stats import beta

from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.presets import PRESETS, default_priors
from bayeslmm.bayes.priors import (
    Chi,
    Decov,
    Exponential,
    Flat,
    FlatFactor,
    Gamma,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    Relative,
    Uniform,
)
from bayeslmm.bayes.pymc_model import build_collapsed_model, build_pymc_model
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
    form: str | dict[str, str] = "noncentered"
    preset: str | None = None


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
    "heterogeneous autoregression": Case("heterogeneous autoregression", {"weights": True}),
    "heterogeneous autoregression, sd zero": Case("heterogeneous autoregression", sd=0.0),
    "heterogeneous compound symmetry": Case("heterogeneous compound symmetry", {"weights": True}),
    "heterogeneous compound symmetry, sd zero": Case("heterogeneous compound symmetry", sd=0.0),
    "toeplitz": Case("toeplitz", {"offset": True}),
    "toeplitz, sd zero": Case("toeplitz", sd=0.0),
    "heterogeneous and toeplitz": Case("heterogeneous and toeplitz", beta=INFORMATIVE),
    "heterogeneous and toeplitz, centred": Case("heterogeneous and toeplitz", form="centered"),
    "heterogeneous and toeplitz, collapsed": Case("heterogeneous and toeplitz", form="collapsed"),
    "all structures": Case("all structures", beta=INFORMATIVE),
    "all structures, centred": Case("all structures", form="centered"),
    "mixed forms": Case("blocks and crossed", form={"g": "centered", "h": "noncentered"}),
    "mixed forms, the other way": Case("all structures", form={"g": "noncentered", "h": "centered"}),
    "gamma": Case("slopes", family=(Gamma(2.0, 0.3), Gamma(1.5, 0.7))),
    "gamma, proper and not": Case("slopes", family=(Gamma(2.0, 0.3), Gamma(2.0, 0.0))),
    "chi": Case("slopes", family=(Chi(3.0, 2.0), Chi(1.0, 0.5))),
    "relative": Case("slopes", family=(Relative(HalfT(3.0, 2.0)), Relative(HalfT(4.0, 1.0)))),
    "relative and absolute": Case("uncorrelated", family=(Relative(Exponential(2.0)), HalfNormal(2.0))),
    "collapsed": Case("slopes 3x3", {"weights": True, "offset": True}, form="collapsed"),
    "collapsed, nested": Case("nested", beta=INFORMATIVE, form="collapsed"),
    "collapsed, no fixed effects": Case("one-way", {"fixed": ()}, form="collapsed"),
    "collapsed, sd zero": Case("blocks and crossed", sd=0.0, form="collapsed"),
    "collapsed, partly flat beta": Case(
        "slopes", beta=replace(INFORMATIVE, sd=np.array([np.inf, 0.7])), form="collapsed"
    ),
    "collapsed, all structures": Case("all structures", beta=INFORMATIVE, form="collapsed"),
    "collapsed, two terms": Case("repeated effect", family=(), form="collapsed"),
    "one sd, uniform": Case("compound symmetry", family=(Uniform(9.0),) * 3),
}


CASES |= {
    f"{preset}, {form}": Case(kind, preset=preset, form=form)
    for preset in PRESETS
    for form, kind in (
        ("noncentered", "blocks and crossed"),
        ("centered", "all structures"),
        ("collapsed", "slopes 3x3"),
        ("collapsed", "blocks and crossed"),
    )
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
    centred = [g for g, form in _forms(data, case).items() if form == "centered"]
    rng = np.random.default_rng(3)
    for _ in range(POINTS):
        point = _draw(data, priors, case, rng)
        expected = _log_prior(data, priors, point) + _log_marginal(data, priors, point)
        if case.form != "collapsed":
            expected += _log_conditional(data, priors, point)
        expected -= _log_jacobian_of_effects(data, point, centred)
        assert log_p(point) == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


def _forms(design: Design, case: Case) -> dict[str, str]:
    return case.form if isinstance(case.form, dict) else dict.fromkeys(design.groupings, case.form)


def _priors(design: Design, case: Case) -> Priors:
    if case.preset:
        return PRESETS[case.preset](design)
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
    if keyword == "toep":
        phi = rng.uniform(-1.0, 1.0, size - 1)
        rho = np.array([1.0, *phi[:1], *(phi[:1] ** 2 + (1.0 - phi[:1] ** 2) * phi[1:])])
        return np.linalg.cholesky(rho[np.abs(np.subtract.outer(np.arange(size), np.arange(size)))])
    if keyword in ("cs", "csh", "ar1", "ar1h"):
        rho = rng.uniform(_lowest(keyword, size), 1.0)
        lags = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        return np.linalg.cholesky(rho ** (lags if keyword in ("ar1", "ar1h") else np.sign(lags)))
    A = rng.normal(size=(size, size + 1))
    covariance = A @ A.T
    s = np.sqrt(np.diag(covariance))
    return np.linalg.cholesky(covariance / np.outer(s, s))


SHARED = ("id", "cs", "ar1", "toep")


def _lowest(keyword: str, size: int) -> float:
    """Lower end of the correlation that all effects share."""
    return -1.0 if keyword in ("ar1", "ar1h") else -1.0 / (size - 1)


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
        if keyword == "toep":
            parts.append((1.0 + _partial_autocorrelations(L)) / 2.0)
        elif keyword in ("cs", "csh", "ar1", "ar1h"):
            low = _lowest(keyword, size)
            parts.append(np.array([(L[1, 0] - low) / (1.0 - low)]))
        elif keyword == "us":
            parts.append((1.0 + _partials(L)[0]) / 2.0)
    return np.concatenate(parts)


def _partial_autocorrelations(L: np.ndarray) -> np.ndarray:
    """Those at distances 1 and 2, the second from its textbook formula."""
    R = (L @ L.T)[0]
    return np.array([R[1], *((R[2:3] - R[1] ** 2) / (1.0 - R[1] ** 2))])


# The PyMC side.


def _pymc_log_density(design: Design, priors: Priors, form: Any) -> Callable[[Point], float]:
    from pymc.model.transform.conditioning import remove_value_transforms

    collapsed = form == "collapsed"
    built = (
        build_collapsed_model(cross_products(design), priors) if collapsed else build_pymc_model(design, priors, form)
    )
    model = remove_value_transforms(built)
    function = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    layout = make_layout(design)

    def log_p(point: Point) -> float:
        named = _values(design, priors, layout.groups, point)
        values = {model.rvs_to_values[rv].name: named[rv.name] for rv in model.free_RVs}
        return float(function(values))

    return log_p


def _values(design: Design, priors: Priors, groups: tuple[GroupLayout, ...], point: Point) -> dict[str, Any]:
    named: dict[str, Any] = {"beta": point.beta, "sigma": point.sigma}
    for group in groups:
        g = group.name
        sd, z = _own_sds(design, group, point), point.z[g]
        # Priors may be about the effects at the means of the columns, and are then about nothing else.
        centred = any(priors.changes[k] is not None for k in group.labels.terms)
        variable = f"sd_at_mean_{g}" if centred else f"sd_{g}"
        named[variable] = sd
        named[f"ratio_{g}"] = sd / point.sigma
        for label, s in zip(group.sds, sd, strict=True):
            named |= {f"{variable}__{label.name}": s, f"ratio_{g}__{label.name}": s / point.sigma}
        named |= _decov_values(group, sd / point.sigma)
        named[f"z_{g}"] = z
        named[f"b_at_mean_{g}" if centred else f"b_{g}"] = z @ _effect_factor(group, point).T
        named[f"r_{g}"] = _places(design, group, point)
    return named


def _decov_values(group: GroupLayout, ratios: np.ndarray) -> dict[str, Any]:
    """Root mean square and shares of the squares of the ratios, term by term."""
    named: dict[str, Any] = {}
    for term in group.labels.terms:
        own = [k for k, label in enumerate(group.sds) if label.term == term]
        suffix = group.name if len(group.labels.terms) == 1 else f"{group.name}__{group.sds[own[0]].name}"
        squares = ratios[own] ** 2
        if squares.any():
            named[f"tau_{suffix}"] = np.sqrt(squares.mean())
            named[f"shares_{suffix}"] = squares / squares.sum()
    return named


def _partials(L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of a < b given the effects before a, and d L[b, a] / d correlation."""
    a, b = np.triu_indices(L.shape[0], 1)
    left = np.sqrt([1.0 - (L[i, :j] ** 2).sum() for i, j in zip(b, a, strict=True)])
    return L[b, a] / left, left


# The collapsed side.


def _log_prior(design: Design, priors: Priors, point: Point) -> float:
    """Log prior of sigma, of the sds (ratios to sigma where the prior is of these) and of the correlations."""
    total = float(priors.sigma.log_density(np.array(point.sigma)))
    for group in make_layout(design).groups:
        for k, columns, L in zip(group.labels.terms, group.labels.slices, point.L[group.name], strict=True):
            sd, keyword = point.sd[group.name][columns], design.terms[k].structure.keyword
            sd = sd[:1] if keyword in SHARED else sd
            total += _log_prior_of_sds(priors, k, sd, point.sigma)
            if keyword == "us" and L.shape[0] > 1:
                flat = isinstance(priors.joints[k], FlatFactor)
                total += _log_flat_rows(L) if flat else _log_lkj(L, priors.lkj[k])
            elif keyword == "toep":
                places = (1.0 + _partial_autocorrelations(L)) / 2.0
                total += float(beta.logpdf(places, priors.lkj[k], priors.lkj[k]).sum())
            elif keyword in ("cs", "csh", "ar1", "ar1h"):
                low, eta = _lowest(keyword, L.shape[0]), priors.lkj[k]
                total += float(beta.logpdf((L[1, 0] - low) / (1.0 - low), eta, eta))
    return total


def _log_prior_of_sds(priors: Priors, k: int, sd: np.ndarray, sigma: float) -> float:
    t, c = sd / sigma, sd.size
    joint = priors.joints[k]
    if joint is not None:
        total = float(joint.log_density(t[None])[0])
        if isinstance(joint, Decov):
            # density of (tau, shares): t_k^2 = c tau^2 share_k
            squares = (t**2).sum()
            total += (c - 1) * np.log(squares) + np.log(2.0 * c * np.sqrt(squares / c)) - np.log(2.0 * t).sum()
        return total
    return sum(
        float(p.log_density(np.array(r if p.relative else s))) for p, s, r in zip(priors.sds[k], sd, t, strict=False)
    )


def _log_flat_rows(L: np.ndarray) -> float:
    """Rows of L uniform on half-spheres, as a density of r = (1 + partial correlation) / 2."""
    i = np.arange(1, L.shape[0])
    log_area = (i + 1) / 2.0 * np.log(np.pi) - gammaln((i + 1) / 2.0)
    return float(-(log_area + np.log(np.diag(L)[1:])).sum() + np.log(2.0 * _partials(L)[1]).sum())


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
            factors[k] = (_to_zeros(priors, k, L.shape[0]) @ (relative[:, None] * L))[None]
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
    A = np.hstack([design.X, *_effect_columns(design, priors, point)])
    A, y = A * np.sqrt(weights)[:, None] / point.sigma, y * np.sqrt(weights) / point.sigma
    # Rows of H are what the priors of beta are on; those of z are on z itself.
    H, prior_precision, prior_mean = np.eye(A.shape[1]), np.ones(A.shape[1]), np.zeros(A.shape[1])
    prior_precision[: design.p] = 0.0 if priors.beta is None else priors.beta.sd**-2.0
    prior_mean[: design.p] = 0.0 if priors.beta is None else priors.beta.mean
    if priors.beta is not None and priors.beta.basis is not None:
        H[: design.p, : design.p] = priors.beta.basis
    precision = A.T @ A + H.T @ (prior_precision[:, None] * H)
    mean = np.linalg.solve(precision, A.T @ y + H.T @ (prior_precision * prior_mean))
    difference = np.concatenate([point.beta, *(z.ravel() for z in point.z.values())]) - mean
    log_det = np.linalg.slogdet(precision)[1]
    quadratic = difference @ precision @ difference
    return float(0.5 * (log_det - quadratic - difference.size * np.log(2.0 * np.pi)))


def _effect_columns(design: Design, priors: Priors, point: Point) -> list[np.ndarray]:
    """For every group the n x (J c) matrix that multiplies z, level by level."""
    out = []
    for group in make_layout(design).groups:
        grouping = design.groupings[group.labels.group]
        columns = [design.terms[k].Z for k in group.labels.terms]
        changes = [_to_zeros(priors, k, z.shape[1]) for k, z in zip(group.labels.terms, columns, strict=True)]
        Z = np.hstack([z @ A for z, A in zip(columns, changes, strict=True)])
        scaled = Z @ _effect_factor(group, point)
        indicator = np.eye(grouping.n_levels)[grouping.codes]
        out.append((indicator[:, :, None] * scaled[:, None, :]).reshape(design.n, -1))
    return out


def _to_zeros(priors: Priors, k: int, size: int) -> np.ndarray:
    """A with ``b = A b_c``, b_c being the effects that the priors are about."""
    change = priors.changes[k]
    return np.eye(size) if change is None else np.array(change.rows)


def _effect_factor(group: GroupLayout, point: Point) -> np.ndarray:
    size = len(group.labels.effects)
    L = np.zeros((size, size))
    for columns, block in zip(group.labels.slices, point.L[group.name], strict=True):
        L[columns, columns] = block
    return point.sd[group.name][:, None] * L


def _log_jacobian_of_effects(design: Design, point: Point, groups: list[str]) -> float:
    """Log |d b / d z| for the effects of some grouping factors."""
    return sum(
        len(group.labels.levels) * float(np.log(np.diag(_effect_factor(group, point))).sum())
        for group in make_layout(design).groups
        if group.labels.group in groups
    )
