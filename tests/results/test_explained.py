"""R2 and ICC: performance (R), dense matrices, and posteriors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.inference.explained import explained
from bayeslmm.results.explained import posterior_icc, posterior_r2

HERE = Path(__file__).parent
DATA = HERE.parent / "reference" / "data"
# By performance 0.10.2 (r2_nakagawa, icc); see explained_performance.R.
REFERENCE: dict[str, Any] = json.loads((HERE / "explained_performance.json").read_text())
FORMULAS = {
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy_slope_only": ("sleepstudy", "Reaction ~ Days + (0 + Days | Subject)"),
    "pastes": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "penicillin": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "machines_worker": ("Machines", "score ~ Machine + (1 | Worker)"),
    "machines_nested": ("Machines", "score ~ Machine + (1 | Worker/Machine)"),
    "oats_nitro": ("Oats", "yield ~ nitro + (1 | Block/Variety)"),
    "cake_temp": ("cake", "angle ~ recipe + temp + (1 | recipe:replicate)"),
}


def load(name: str) -> pd.DataFrame:
    entry = json.loads((DATA / "index.json").read_text())[name]
    kinds = {c: str for c, info in entry["columns"].items() if info.get("levels")}
    return pd.read_csv(DATA / entry["file"], dtype=kinds)


def by_dense(fit: bl.REMLResult) -> tuple[float, list[float], float]:
    """Parts of the variance, observation by observation; rows repeated for frequencies."""
    design = fit.design
    times = np.ones(design.n, dtype=int) if design.frequency is None else np.asarray(design.frequency)
    mean = np.repeat(design.X @ fit.fixef().to_numpy(), times)
    weights = np.ones(design.n) if design.weights is None else design.weights
    random = []
    for term, T in zip(design.terms, fit.optimum.terms, strict=True):
        Z = np.repeat(term.Z, times, axis=0)
        random.append(float(np.mean([z @ T @ T.T @ z for z in Z])) * fit.sigma**2)
    return float(np.var(mean, ddof=1)), random, float(np.mean(np.repeat(fit.sigma**2 / weights, times)))


@pytest.mark.parametrize("case", FORMULAS)
def test_performance(case: str) -> None:
    data, formula = FORMULAS[case]
    fit, reference = bl.Model(formula, load(data)).fit(), REFERENCE[case]
    # The fits of lme4 are good to about 1e-7 there.
    assert fit.r2()["r2_marginal"] == pytest.approx(reference["r2_marginal"], rel=2e-6, abs=1e-12)
    assert fit.r2()["r2_conditional"] == pytest.approx(reference["r2_conditional"], rel=2e-6)
    icc = fit.icc()
    assert icc["icc"] == pytest.approx(reference["icc"], rel=2e-6)
    for group, value in reference.get("by_group", {}).items():
        label = f"icc_{group}"
        label = label if label in icc.index else "icc_" + ":".join(reversed(group.split(":")))
        assert icc[label] == pytest.approx(value, rel=2e-6)


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x + (x | g)", {}),
        ("y ~ x + (1 | g) + (0 + x | g) + (1 | h)", {}),
        ("y ~ x + (x | g)", {"weights": "w"}),
        ("y ~ x + (x | g)", {"frequency": "k", "weights": "w"}),
        ("y ~ 0 + (1 | g)", {}),
    ],
)
def test_parts_observation_by_observation(formula: str, options: dict[str, str]) -> None:
    rng = np.random.default_rng(3)
    n = 90
    g, h, x = rng.integers(8, size=n), rng.integers(5, size=n), rng.standard_normal(n) + 2
    y = 1 + x + rng.standard_normal(8)[g] * (1 + x) + rng.standard_normal(5)[h] + rng.standard_normal(n)
    frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})
    frame["w"], frame["k"] = rng.uniform(0.5, 2, n), rng.integers(1, 4, n)
    fit = bl.Model(formula, frame, **options).fit()
    fixed, random, residual = by_dense(fit)
    total = fixed + sum(random) + residual
    np.testing.assert_allclose(fit.r2(), [fixed / total, (fixed + sum(random)) / total], rtol=1e-10, atol=1e-15)
    icc = fit.icc()
    groups = [term.group for term in fit.design.terms]
    for group in set(groups):
        own = sum(v for v, name in zip(random, groups, strict=True) if name == group)
        assert icc[f"icc_{group}"] == pytest.approx(own / (sum(random) + residual), rel=1e-10)
    assert icc["icc"] == pytest.approx(sum(random) / (sum(random) + residual), rel=1e-10)


def test_a_variance_of_zero_explains_nothing() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    assert fit.icc().tolist() == [0.0, 0.0]
    assert fit.r2().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_of_y_do_not_matter(scale: float) -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    other = fit.refit(scale * (fit.design.y - 1e4))
    np.testing.assert_allclose(other.r2(), fit.r2(), rtol=1e-6)
    np.testing.assert_allclose(other.icc(), fit.icc(), rtol=1e-6)


def test_draws_of_a_posterior() -> None:
    data = bl.load_dataset("sleepstudy")
    post = bl.Model("Reaction ~ Days + (Days | Subject)", data).sample(300, random_seed=2)
    days = data["Days"].to_numpy(dtype=float)
    sd0, sd1 = post.draws("sd_Subject[Intercept]"), post.draws("sd_Subject[Days]")
    corr, sigma = post.draws("corr_Subject[Intercept.Days]"), post.draws("sigma")
    fixed = post.draws("Days") ** 2 * days.var(ddof=1)
    random = sd0**2 + 2 * corr * sd0 * sd1 * days.mean() + sd1**2 * (days**2).mean()
    total = fixed + random + sigma**2
    r2, icc = posterior_r2(post), posterior_icc(post)
    np.testing.assert_allclose(r2["r2_marginal"], fixed / total, rtol=1e-9)
    np.testing.assert_allclose(r2["r2_conditional"], (fixed + random) / total, rtol=1e-9)
    np.testing.assert_allclose(icc["icc_Subject"], random / (random + sigma**2), rtol=1e-9)
    assert list(icc.columns) == ["icc_Subject", "icc"]


def test_points_are_independent() -> None:
    fit = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes")).fit()
    beta, sigma = np.array([[1.0], [50.0]]), np.array([1.0, 4.0])
    terms = [np.array([[[2.0]], [[0.0]]]), np.array([[[0.0]], [[1.0]]])]
    parts = explained(fit.design, beta, terms, sigma)
    np.testing.assert_allclose(parts.icc(), [0.8, 0.5], rtol=1e-14)
    np.testing.assert_allclose(parts.icc(fit.design.terms[0].group), [0.8, 0.0], rtol=1e-14)
    np.testing.assert_allclose(parts.residual, [1.0, 16.0], rtol=1e-14)
    np.testing.assert_allclose(parts.fixed, 0.0, atol=1e-20)


def test_a_correlation_of_all_pairs_is_that_of_the_random_intercept() -> None:
    data = bl.load_dataset("Orthodont")
    formula = "distance ~ age * Sex"
    effect, residual = bl.Model(f"{formula} + (1 | Subject)", data), bl.Model(formula, data, residual="cs(Subject)")
    np.testing.assert_allclose(residual.fit().icc(), effect.fit().icc(), rtol=1e-6)
    assert list(residual.fit().icc().index) == ["icc_Subject", "icc"]
    post = residual.sample(400, random_seed=1)
    np.testing.assert_allclose(posterior_icc(post)["icc_Subject"], post.draws("residual_rho"), rtol=1e-12)


def test_shares_beside_a_residual_covariance_are_those_of_its_matrix() -> None:
    data = bl.load_dataset("Orthodont").assign(half=lambda d: d.groupby("Subject", observed=True).cumcount() // 2)
    fit = bl.Model("distance ~ age + (1 | half)", data, residual="by(Sex) + cs(Subject)").fit()
    R = np.asarray(fit.design.residual.covariance(fit.optimum.lam).todense()) * fit.sigma**2
    first = fit.estimates()["sd_half[Intercept]"] ** 2
    rho = fit.estimates()["residual_rho"]
    total = first + np.diagonal(R).mean()
    np.testing.assert_allclose(R[0, 1] / np.sqrt(R[0, 0] * R[1, 1]), rho, rtol=1e-10)
    expected = {"icc_half": first / total, "icc_Subject": rho * np.diagonal(R).mean() / total}
    assert fit.icc().to_dict() == pytest.approx({**expected, "icc": sum(expected.values())}, rel=1e-9)


def test_other_correlations_are_said_to_be_left_out() -> None:
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days | Subject)").fit()
    assert fit.icc().name == "icc, of random effects, without the correlations by ar1(Days | Subject)"
    post = bl.Model("Reaction ~ Days + (1 | Subject)", data, residual="ar1(Days | Subject)").sample(200, random_seed=1)
    assert "without the correlations by ar1(Days" in repr(post.icc())
    alone = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    with pytest.raises(DesignError, match="no one intraclass correlation"):
        alone.icc()
