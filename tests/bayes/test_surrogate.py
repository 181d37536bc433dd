"""The polynomial in place of the likelihood against the likelihood itself, and the honesty of its reported error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm.bayes import collapsed
from bayeslmm.bayes import surrogate as sur
from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.importance import importance_points
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.errors import ConvergenceWarning
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.levels import Levels
from bayeslmm.numerics.resample import normalised, systematic
from bayeslmm.reml import optimise

# Error of the log density over the posterior: 3e-3 changes an expectation by 0.003 standard deviations.
RMS = 3e-3
# Means under half-t(3) priors; the box leaves out a tail whose share of a second moment is larger.
MOMENTS, SPREADS = 5e-4, 1e-2
EVIDENCE = 5e-3
# Beyond this the polynomial gives way to the likelihood.
USED = 0.02


def nothing_between() -> pd.DataFrame:
    """Crossed and nested factors with slopes, whose REML estimates are zero but for one."""
    rng = np.random.default_rng(3)
    n = 160
    c = np.r_[np.arange(20), rng.integers(0, 20, n - 20)]
    data = pd.DataFrame({"x": rng.normal(size=n), "a": c // 4, "b": c % 4, "g": rng.integers(0, 10, n)})
    y = rng.normal(size=n)
    # Means of all cells but those of g taken out: less between them than chance leaves.
    for key in (["a", "b"], ["a"]):
        y = y - 0.9 * pd.Series(y).groupby([data[k] for k in key]).transform("mean").to_numpy()
    return data.assign(y=3.0 + y + 0.8 * rng.normal(size=10)[data["g"]])


DESIGNS: dict[str, tuple[str, Callable[[], pd.DataFrame]]] = {
    "one-way": ("Yield ~ 1 + (1 | Batch)", lambda: load_dataset("Dyestuff")),
    "one-way at zero": ("Yield ~ 1 + (1 | Batch)", lambda: load_dataset("Dyestuff2")),
    "slopes": ("Reaction ~ Days + (Days | Subject)", lambda: load_dataset("sleepstudy")),
    "uncorrelated slopes": ("Reaction ~ Days + (Days || Subject)", lambda: load_dataset("sleepstudy")),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", lambda: load_dataset("Penicillin")),
    "nested": ("strength ~ 1 + (1 | batch/cask)", lambda: load_dataset("Pastes")),
    "compound symmetry": ("score ~ Machine + cs(0 + Machine | Worker)", lambda: load_dataset("Machines")),
    "nested and crossed at zero": ("y ~ x + (1 | a/b) + (1 | g)", nothing_between),
    "slopes and crossed at zero": ("y ~ x + (x | a) + (1 | g)", nothing_between),
}
STORES = ("levels", "hierarchy")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], tuple[SummedDesign, Any]]:
    def make(name: str, store: str) -> tuple[SummedDesign, Any]:
        formula, data = DESIGNS[name]
        cp = cross_products(build_design(formula, data(), store=store))
        assert isinstance(cp.sums, Levels) == (store == "levels")
        return cp, optimise(cp).terms

    return make


type Build = Callable[[str, str], tuple[SummedDesign, Any]]


def posterior_points(target: Target, start: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    sample = importance_points(target, start, 1000, rng)
    return sample.points.x[systematic(normalised(sample.log_weights), count, rng)]


def sample(
    monkeypatch: pytest.MonkeyPatch, cp: SummedDesign, terms: Any, dear: float, method: str, **more: Any
) -> CollapsedDraws:
    monkeypatch.setattr(collapsed, "_DEAR", dear)
    priors = more.pop("priors", None) or default_priors(cp.design)
    return sample_collapsed(cp, priors, terms, method=method, rng=np.random.default_rng(1), **{"draws": 400, **more})


def used(monkeypatch: pytest.MonkeyPatch, cp: SummedDesign, terms: Any, **more: Any) -> tuple[Target, CollapsedDraws]:
    """The target that the draws were made with."""
    seen: list[Target] = []
    complete = collapsed.complete

    def spy(target: Target, *rest: Any) -> Any:
        seen.append(target)
        return complete(target, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(collapsed, "complete", spy)
        result = sample(patch, cp, terms, 0.0, "importance", **more)
    return seen[0], result


def error_at(target: Target, exact: Target, points: np.ndarray) -> float:
    difference = target.evaluate(points).log_density - exact.evaluate(points).log_density
    return float(np.sqrt(np.mean(difference**2)))


def variation_at(target: Target, exact: Target, points: np.ndarray) -> float:
    """Estimate of the total variation distance, which bounds the error of every probability, at posterior points."""
    difference = target.evaluate(points).log_density - exact.evaluate(points).log_density
    return float(0.5 * np.mean(np.abs(np.expm1(difference))))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", ["one-way", "one-way at zero", "compound symmetry"])
def test_few_parameters_have_many_digits(name: str, store: str, build: Build) -> None:
    cp, terms = build(name, store)
    target, start = make_target(cp, default_priors(cp.design), terms)
    points = posterior_points(target, start, 300 if store == "levels" else 60)
    assert error_at(sur.build_surrogate(target, start, Progress()), target, points) < RMS


@pytest.mark.parametrize("preset", ["default", "weak", "flat", "pc"])
@pytest.mark.parametrize("name", DESIGNS)
def test_what_is_sampled_is_the_posterior(
    name: str, preset: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A polynomial that is used is right at points of the posterior it knew nothing of; its error is told."""
    cp, terms = build(name, "levels")
    priors = resolve_priors(cp.design, preset)
    target, result = used(monkeypatch, cp, terms, priors=priors)
    smooth = all(even for term in priors.even for even in term)
    exact, start = make_target(cp, priors, terms, smooth=smooth)
    error = result.diagnostics.surrogate_error
    assert (error is not None) == isinstance(target, sur.SurrogateTarget)
    assert error is None or error < USED
    assert variation_at(target, exact, posterior_points(exact, start, 300)) < USED


@pytest.mark.parametrize("name", ["uncorrelated slopes", "crossed", "nested", "nested and crossed at zero"])
def test_what_is_sampled_in_a_hierarchy(name: str, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cp, terms = build(name, "hierarchy")
    target, result = used(monkeypatch, cp, terms, draws=100)
    exact, start = make_target(build(name, "levels")[0], default_priors(cp.design), terms)
    assert result.diagnostics.surrogate_error is None or result.diagnostics.surrogate_error < USED
    assert variation_at(target, exact, posterior_points(exact, start, 100)) < USED


def test_every_part_of_the_likelihood(build: Build) -> None:
    """Log determinants, r2 and the fixed effects each, also under a normal prior, where all of them matter."""
    cp, terms = build("uncorrelated slopes", "levels")
    priors = resolve_priors(cp.design, "weak")
    assert priors.beta is not None
    target, start = make_target(cp, priors, terms)
    points = posterior_points(target, start, 200)
    got = sur.build_surrogate(target, start, Progress()).surrogate(points)
    exact = target.factor(points, target.terms(points)[0])
    np.testing.assert_allclose(got.log_det + got.log_det_fixed, exact.log_det + exact.log_det_fixed, atol=2e-3)
    np.testing.assert_allclose(got.r2, exact.r2, rtol=2e-5)
    q = cp.q_trailing
    L = exact.chol[:, q:, q:]
    np.testing.assert_allclose(got.chol, L, atol=1e-3 * np.abs(L).max())
    # in units of its standard error given sigma = 1
    shift = np.swapaxes(L, 1, 2) @ (got.solution - exact.solution[:, q:])[..., None]
    assert np.abs(shift).max() < 1e-2 * np.sqrt(exact.r2.mean() / (cp.n - cp.p))


@pytest.mark.parametrize("preset", ["default", "weak"])
@pytest.mark.parametrize(
    "name", ["one-way", "one-way at zero", "uncorrelated slopes", "crossed", "nested", "compound symmetry"]
)
def test_quadrature_moments_with_and_without(
    name: str, preset: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    cp, terms = build(name, "levels")
    priors = resolve_priors(cp.design, preset)
    plain = sample(monkeypatch, cp, terms, np.inf, "quadrature", priors=priors)
    fast = sample(monkeypatch, cp, terms, 0.0, "quadrature", priors=priors)
    assert plain.diagnostics.surrogate_error is None
    assert (fast.diagnostics.surrogate_error or 0.0) < USED
    assert fast.diagnostics.log_evidence == pytest.approx(plain.diagnostics.log_evidence, abs=EVIDENCE)
    one, two = plain.exact, fast.exact
    assert one is not None and two is not None
    np.testing.assert_allclose(np.concatenate(two.sd_mean), np.concatenate(one.sd_mean), rtol=MOMENTS)
    np.testing.assert_allclose(np.concatenate(two.sd_sd), np.concatenate(one.sd_sd), rtol=SPREADS)
    np.testing.assert_allclose((two.sigma_mean, two.sigma_sd), (one.sigma_mean, one.sigma_sd), rtol=MOMENTS)
    np.testing.assert_allclose(two.beta_sd, one.beta_sd, rtol=SPREADS)
    assert (np.abs(two.beta_mean - one.beta_mean) < MOMENTS * one.beta_sd).all()


def test_draws_of_everything_through_a_polynomial(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random effects of both stores within Monte Carlo error of those without a polynomial."""
    draws = 3000
    means = {}
    for store, dear in (("levels", np.inf), ("levels", 0.0), ("hierarchy", 0.0)):
        cp, terms = build("slopes and crossed at zero", store)
        result = sample(monkeypatch, cp, terms, dear, "importance", draws=draws)
        blocks = dict(zip((block.grouping.name for block in cp.blocks), result.b, strict=True))
        b = np.concatenate([np.asarray(blocks[name]).reshape(draws, -1) for name in ("a", "g")], axis=1)
        everything = np.column_stack([result.beta, result.sigma, *result.sds, b])
        ess = draws * result.diagnostics.efficiency
        means[store, dear] = everything.mean(0), everything.std(0) / np.sqrt(ess)
    reference, error = means.pop(("levels", np.inf))
    for mean, se in means.values():
        assert (np.abs(mean - reference) < 4.5 * np.hypot(se, error)).all()


def spoil(patch: pytest.MonkeyPatch, slope: float) -> None:
    """Polynomials of the log determinant with a known slope too many: the log density is off by ``-slope z``."""
    fit = sur._fit

    def wrong(nodes: sur.Nodes, box: sur.Box, exponents: np.ndarray, *more: Any) -> sur.Polynomial:
        right = fit(nodes, box, exponents, *more)
        linear = np.flatnonzero((exponents == np.eye(box.lower.size)[0]).all(axis=1))
        right.coefficients[linear, 0] += 2.0 * slope
        return right

    patch.setattr(sur, "_fit", wrong)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("slope", [0.2, 2.0])
def test_reported_error_is_the_error(store: str, slope: float, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cp, terms = build("one-way", store)
    spoil(monkeypatch, slope)
    exact, start = make_target(cp, default_priors(cp.design), terms)
    target = sur.build_surrogate(exact, start, Progress())
    rng = np.random.default_rng(0)
    sample = importance_points(target, start, 500, rng)
    reported = sur.check(target, sample, 100, rng, Progress()).error
    x = sample.points.x[systematic(normalised(sample.log_weights), 100, rng)]
    box = target.surrogate.likelihood
    z = (2 * x[:, 0] - box.lower[0] - box.upper[0]) / (box.upper[0] - box.lower[0])
    # What does not cancel in weights is the deviation from its mean; what does spoils the evidence.
    assert 0.8 * slope * z.std() < reported < 1.3 * slope * np.sqrt(np.mean(z**2))


@pytest.mark.parametrize("peak", [20.0, 1e4])
def test_an_error_that_all_draws_share_is_an_error(peak: float, build: Build) -> None:
    """A spurious peak so narrow that the likelihood hardly varies over it."""
    cp, terms = build("one-way", "levels")
    exact, start = make_target(cp, default_priors(cp.design), terms)
    target = sur.build_surrogate(exact, start, Progress())
    target.surrogate.likelihood.coefficients[0, 0] -= 2.0 * peak
    rng = np.random.default_rng(0)
    sample = importance_points(target, start, 500, rng)
    assert sur.check(target, sample, 100, rng, Progress()).error > 0.9 * peak


def test_a_wrong_polynomial_gives_way(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cp, terms = build("crossed", "levels")
    spoil(monkeypatch, 3.0)
    target, result = used(monkeypatch, cp, terms)
    assert not isinstance(target, sur.SurrogateTarget)
    assert result.diagnostics.surrogate_error is None and result.diagnostics.reliable


@pytest.mark.parametrize("error", [0.3, float("nan")])
def test_warning_of_a_wrong_polynomial(error: float, build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing better can be had."""
    cp, terms = build("one-way", "levels")
    monkeypatch.setattr(collapsed, "_further_terms", lambda target, diagnostics: ())
    monkeypatch.setattr(sur, "check", lambda target, weighted, count, rng, progress: sur.Check(error, error, count))
    with pytest.warns(ConvergenceWarning, match="polynomial"):
        result = sample(monkeypatch, cp, terms, 0.0, "importance")
    assert not result.diagnostics.reliable
    with pytest.raises(collapsed.UnreliableWeightsError, match="polynomial"):
        sample(monkeypatch, cp, terms, 0.0, "importance", unreliable="raise")


def test_only_dear_likelihoods_of_few_parameters(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    cp, terms = build("one-way", "levels")
    assert sample(monkeypatch, cp, terms, 2000.0, "importance").diagnostics.surrogate_error is None
    cp, terms = build("one-way", "hierarchy")
    assert sample(monkeypatch, cp, terms, 2000.0, "importance").diagnostics.surrogate_error is not None


def test_outside_the_box_is_no_density(build: Build) -> None:
    cp, terms = build("nested", "levels")
    priors: Priors = default_priors(cp.design)
    target, start = make_target(cp, priors, terms)
    polynomial = sur.build_surrogate(target, start, Progress())
    beyond = np.repeat(start[None], 2, axis=0)
    lower, upper = polynomial.surrogate.likelihood.lower, polynomial.surrogate.likelihood.upper
    beyond[[0, 1], [0, 1]] = upper + (upper - lower)
    density = polynomial.evaluate(beyond).log_density
    assert (density < polynomial.evaluate(start[None]).log_density - 300).all()
    # and nothing is lost by that: the exact density there is 12 or more below the top
    assert (target.evaluate(beyond).log_density < target.evaluate(start[None]).log_density - 12).all()
