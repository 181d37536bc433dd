"""Tests of zero variances of fits: stored p values, known mixtures, the bootstrap, what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.boundary import zero_methods
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference import spectral
from bayeslmm.inference.mixture import Mixture, adding, orthant, positive_semidefinite
from bayeslmm.inference.null_model import Removal, bootstrap, null_model
from bayeslmm.inference.zero_rate import singular_rate

REFERENCE = Path(__file__).parents[1] / "reference"
STORED: dict[str, Any] = json.loads((Path(__file__).parent / "exact_rlrt.json").read_text())
CASES: dict[str, Any] = json.loads(gzip.decompress((REFERENCE / "lme4_cases.json.gz").read_bytes()))
LABELS = {
    "machines_nested": {"1 | Machine:Worker": "Worker:Machine", "1 | Worker": "Worker"},
    "pastes": {"1 | cask:batch": "batch:cask", "1 | batch": "batch"},
    "penicillin": {"1 | plate": "plate", "1 | sample": "sample"},
    "sleepstudy_zerocorr": {"1 | Subject": "sd_Subject[Intercept]", "0 + Days | Subject": "sd_Subject[Days]"},
}
SINGLE = {
    "dyestuff": "Batch",
    "dyestuff2": "Batch",
    "ergostool": "Subject",
    "sleep_paired": "ID",
    "tablets": "tablet",
    "tablets_missing": "tablet",
    "rail": "Rail",
    "machines_worker": "Worker",
    "penicillin_sample_fixed": "plate",
    "sleepstudy_slope_only": "Subject",
}


def fitted(case: str, reml: bool = True) -> bl.REMLResult:
    info = CASES[case]
    if info["dataset"] == "sleep":
        data = pd.read_csv(REFERENCE / "data" / "sleep.csv", dtype={"group": str, "ID": str})
    else:
        data = bl.load_dataset(info["dataset"])
    return bl.Model(info["formula"], data).fit(reml=reml)


def close(test: bl.ZeroTest, expected: dict[str, Any]) -> None:
    assert test.statistic == pytest.approx(expected["statistic"], rel=1e-6, abs=1e-8)
    # a stored p value of 0 means that none of its draws reached the statistic
    theirs = max(expected["p_value_mc_se"], 1.0 / expected["nsim"])
    assert abs(test.p_value - expected["p_value"]) < 4 * np.hypot(theirs, test.mc_error)


@pytest.mark.parametrize("case", SINGLE)
def test_one_variance(case: str) -> None:
    test = fitted(case).test_zero(SINGLE[case])
    close(test, STORED[case])
    assert test.method == "exact RLRT"
    assert test.p_zero == pytest.approx(STORED[case]["null_prob_zero_grid"], abs=0.006)


@pytest.mark.parametrize("case", LABELS)
def test_one_variance_of_several(case: str) -> None:
    fit = fitted(case)
    for key, label in LABELS[case].items():
        test = fit.test_zero(label)
        close(test, STORED[case][key])
        assert test.method == "approximate RLRT"


def test_ml_fit_has_both_ratios() -> None:
    test = fitted("dyestuff", reml=False).test_zero("Batch")
    assert (test.method, test.criterion) == ("exact LRT", "ML")
    np.testing.assert_allclose(test.table.loc[["exact LRT", "exact RLRT", "F (Wald)"], "p_value"], 0.0043975312683061)
    assert test.table.loc["exact RLRT", "statistic"] == pytest.approx(6.368955313621, rel=1e-10)


def test_zero_estimate_is_no_evidence() -> None:
    test = fitted("dyestuff2").test_zero("Batch")
    assert (test.statistic, test.p_value, test.mc_error) == (0.0, 1.0, 0.0)
    assert "not evidence that the variance is zero" in str(test)
    assert "not evidence that the variance is zero" in test._repr_html_()


def test_wald_is_exact_with_other_terms_and_says_where_it_cannot_be() -> None:
    plate = fitted("penicillin").test_zero("plate", method="F")
    # the same as an analysis of variance with the samples as fixed effects
    fixed = (
        bl.Model("diameter ~ sample + (1 | plate)", bl.load_dataset("Penicillin")).fit().test_zero("plate", method="F")
    )
    assert plate.p_value == pytest.approx(fixed.p_value, rel=1e-9)
    nested = fitted("pastes").test_zero("batch")
    assert np.isnan(nested.table.loc["F (Wald)", "p_value"])
    assert "span" in nested.table.loc["F (Wald)", "note"]
    with pytest.raises(DesignError, match="does not apply"):
        fitted("pastes").test_zero("batch", method="F")


def test_slope_of_a_correlated_term() -> None:
    fit = fitted("sleepstudy")
    test = fit.test_zero("sd_Subject[Days]", refits=200)
    assert test.rise == pytest.approx(42.8368, abs=1e-3)  # 1786.465 - 1743.628, anova(refit = FALSE) by lme4
    assert test.method == "bootstrap"
    bar = test.table.loc["chi-bar-square"]
    assert bar["p_value"] == pytest.approx((stats.chi2.sf(test.rise, 1) + stats.chi2.sf(test.rise, 2)) / 2, rel=1e-12)
    # regressions per subject: the mean square of slopes over the residual mean square
    assert test.table.loc["F (Wald)", "distribution"] == "F(17, 144)"
    assert "no refit of 200 was as large" in test.table.loc["bootstrap", "note"]


def test_bootstrap_agrees_with_the_exact_test() -> None:
    fit = fitted("dyestuff")
    model = null_model(fit.optimum, Removal(0, (0,)))
    found = bootstrap(model, 3000, 7)
    assert found.failed == 0
    assert stats.binomtest(int((found.statistics == 0).sum()), 3000, 0.5610892301448389).pvalue > 1e-3
    for cut, size in ((stats.chi2.isf(0.05, 1), 0.0165), (stats.chi2.isf(0.1, 1), 0.0343)):
        assert stats.binomtest(int((found.statistics > cut).sum()), 3000, size).pvalue > 1e-3


def test_a_budget_takes_the_first_of_the_same_refits() -> None:
    model = null_model(fitted("dyestuff").optimum, Removal(0, (0,)))
    few, none = bootstrap(model, 3000, 7, budget=50.0, least=30), bootstrap(model, 3000, 7, budget=0.0, least=30)
    assert 30 < few.statistics.size < 3000
    assert none.statistics.size == 30
    np.testing.assert_array_equal(few.statistics[:20], bootstrap(model, 20, 7).statistics)
    np.testing.assert_array_equal(few.statistics, bootstrap(model, 3000, 7, budget=50.0, least=30).statistics)


def test_rates_of_zero_keep_a_budget() -> None:
    fit = fitted("dyestuff")

    def rates(**limits: float) -> np.ndarray:
        rng = np.random.default_rng(3)
        terms = fit.optimum.terms
        return singular_rate(fit.cp, terms, 0, 0, (0.0, 0.1), replicates=300, rng=rng, **limits)[0]

    few = rates(budget=0.0) * 40
    np.testing.assert_array_equal(few, np.rint(few))
    exact = np.array([0.5610892301448389, stats.f.cdf(1.0 / (1.0 + 5.0 / 9.0), 5, 24)])
    for found, B in ((few / 40, 40), (rates(budget=1e9), 300)):
        assert (np.abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / B)).all()


def test_bootstrap_with_another_term_agrees_with_projection() -> None:
    # crossed and balanced: with large other variances the ratio depends on F alone
    fit = fitted("penicillin")
    model = null_model(fit.optimum, Removal(0, (0,)))
    found = bootstrap(model, 1000, 8)
    assert stats.binomtest(int((found.statistics == 0).sum()), 1000, stats.f.cdf(1.0, 23, 115)).pvalue > 1e-3


def test_same_seed_same_answer() -> None:
    fit = fitted("tablets_missing")
    one, two = fit.test_zero("tablet", draws=5000), fit.test_zero("tablet", draws=5000)
    other = fit.test_zero("tablet", draws=5000, random_seed=1)
    assert one.p_value == two.p_value
    assert abs(one.p_value - other.p_value) < 5 * np.hypot(one.mc_error, other.mc_error)
    assert one.mc_error > 0


def test_equivariance() -> None:
    data = bl.load_dataset("tablets_missing")
    plain = bl.Model("y ~ method + (1 | tablet)", data).fit().test_zero("tablet", draws=2000)
    moved = bl.Model("y ~ method + (1 | tablet)", data.assign(y=1e6 + 1e6 * data["y"])).fit()
    again = moved.test_zero("tablet", draws=2000)
    assert again.p_value == plain.p_value
    assert again.statistic == pytest.approx(plain.statistic, rel=1e-7)


def test_frequency_rows_count_as_rows_written_out() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 6), "k": rng.integers(1, 4, 48)})
    frame["y"] = rng.integers(0, 5, 48) + rng.integers(0, 4, 8)[frame["g"]]
    short = bl.Model("y ~ 1 + (1 | g)", frame, frequency="k").fit().test_zero("g", draws=2000)
    written = frame.loc[frame.index.repeat(frame["k"])].reset_index(drop=True)
    long = bl.Model("y ~ 1 + (1 | g)", written).fit().test_zero("g", draws=2000)
    assert short.p_value == long.p_value
    np.testing.assert_allclose(short.table["p_value"], long.table["p_value"], rtol=1e-9)
    with pytest.raises(DesignError, match="Write the rows out"):
        bl.Model("y ~ 1 + (1 | g)", frame, frequency="k").fit().test_zero("g", method="bootstrap")


def test_ranova() -> None:
    found = bl.ranova(fitted("sleepstudy"), refits=100)
    assert found.table["removed"].tolist() == ["Intercept, Days", "Intercept", "Days"]
    assert len(found.tests) == 3
    several = bl.ranova(fitted("pastes"))
    np.testing.assert_allclose(several.table["rise"], [0.657655926873417, 54.604664877497], rtol=1e-6)
    expected = [stats.chi2.sf(rise, 1) / 2 for rise in several.table["rise"]]
    np.testing.assert_allclose(several.table["p_chi_bar"], expected, rtol=1e-10)
    assert "(1 | batch:cask)" in str(several)
    assert "<table" in several._repr_html_()


def test_known_mixtures() -> None:
    assert adding(3).p_value(4.0)[0] == pytest.approx((stats.chi2.sf(4, 2) + stats.chi2.sf(4, 3)) / 2)
    assert adding(1).p_value(0.0) == (1.0, 0.0)
    correlation = -0.6
    covariance = np.array([[2.0, correlation * np.sqrt(6)], [correlation * np.sqrt(6), 3.0]])
    quadrant = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf([0, 0])
    np.testing.assert_allclose(
        orthant(np.linalg.inv(covariance), 0, 0).weights, (0.5 - quadrant, 0.5, quadrant), atol=1e-6
    )
    np.testing.assert_allclose(orthant(np.eye(3), 0, 0).weights, np.array([1, 3, 3, 1]) / 8)
    four = orthant(np.eye(4), 20_000, 1)
    np.testing.assert_allclose(four.weights, np.array([1, 4, 6, 4, 1]) / 16, atol=4 * max(four.errors))


def project(information: np.ndarray, z: np.ndarray, cuts: int = 400) -> float:
    """Squared length of the projection on the cone of 2 x 2 covariances: best of its rays and of its pieces."""
    angles = np.linspace(0, np.pi, cuts, endpoint=False)
    rays = np.stack([np.cos(angles) ** 2, np.cos(angles) * np.sin(angles), np.sin(angles) ** 2], axis=1)
    if z[0] > 0 and z[0] * z[2] > z[1] ** 2:
        return float(z @ information @ z)
    along = rays @ information @ z
    return float((np.maximum(along, 0) ** 2 / np.einsum("ai,ij,aj->a", rays, information, rays)).max())


def test_cone_of_two_effects_by_brute_force() -> None:
    information = np.array([[3.0, 0.4, 0.2], [0.4, 1.5, -0.3], [0.2, -0.3, 0.5]])
    weights = positive_semidefinite(information, 0, 1)
    upper = np.linalg.cholesky(information).T
    draws = np.linalg.solve(upper, np.random.default_rng(5).standard_normal((3, 4000))).T
    lengths = np.array([project(information, z) for z in draws])
    for cut in (0.3, 1.5, 4.0):
        assert stats.binomtest(int((lengths > cut).sum()), 4000, weights.p_value(cut)[0]).pvalue > 1e-3


def test_cone_of_covariances_in_a_balanced_design() -> None:
    # with the Frobenius metric the projection keeps the positive eigenvalues
    rows, cols = np.tril_indices(3)
    metric = np.diag(np.where(rows == cols, 1.0, 2.0))
    found = positive_semidefinite(metric, 4000, 2)
    assert isinstance(found, Mixture)
    rng = np.random.default_rng(3)
    G = rng.standard_normal((20_000, 3, 3))
    G = (G + G.mT) / 2
    expected = (np.maximum(np.linalg.eigvalsh(G), 0) ** 2).sum(axis=1)
    assert found.draws is not None
    assert stats.ks_2samp(found.draws, expected).pvalue > 1e-3


def test_mixture_of_a_whole_block_holds_in_large_samples() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"g": np.repeat(np.arange(100), 4), "x": np.tile([-1.5, -0.5, 0.5, 1.5], 100)})
    frame["y"] = rng.normal(size=400)
    for formula in ("y ~ x + (x | g)", "y ~ x + (x || g)"):
        fit = bl.Model(formula, frame).fit()
        test = fit.test_zero("g", refits=0)
        assert test.method == "chi-bar-square"
        found = bootstrap(null_model(fit.optimum, Removal(0, (0, 1))), 600, 9)
        law = test.table.loc["chi-bar-square", "distribution"]
        parts = [part.split(" chi2(") for part in law.split(" + ")]
        for cut in (0.5, 2.0):
            p = sum(float(w) * stats.chi2.sf(cut, int(d[:-1])) for w, d in parts if d != "0)")
            assert stats.binomtest(int((found.statistics > cut).sum()), 600, p).pvalue > 1e-3


def test_shared_structures() -> None:
    machines = bl.load_dataset("Machines")
    identity = bl.Model("score ~ Machine + id(0 + Machine | Worker)", machines).fit()
    nested = bl.Model("score ~ Machine + (1 | Worker:Machine)", machines).fit()
    assert identity.test_zero("Worker").p_value == pytest.approx(nested.test_zero("Worker:Machine").p_value, rel=1e-7)
    compound = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", machines).fit()
    test = compound.test_zero("Worker", refits=50)
    assert test.method == "bootstrap"
    assert "no weights are known" in test.table.loc["chi-bar-square", "note"]


def test_levels_too_many_for_dense_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "LARGEST", 50)
    monkeypatch.setattr(zero_methods, "LARGEST", 50)
    rng = np.random.default_rng(10)
    frame = pd.DataFrame({"g": rng.integers(0, 60, 300), "h": rng.integers(0, 55, 300), "x": rng.normal(size=300)})
    frame["y"] = rng.normal(size=300) + 0.7 * rng.normal(size=60)[frame["g"]]
    test = bl.Model("y ~ 1 + id(0 + C(k) | g)", frame.assign(k=frame["h"] % 2)).fit().test_zero("g", refits=0)
    assert test.method == "chi-bar-square"
    assert "dense matrix" in test.table.loc["exact RLRT", "note"]
    crossed = bl.Model("y ~ 1 + (1 | g) + (1 | h)", frame).fit().test_zero("g", draws=1000)
    assert crossed.method == "approximate RLRT"
    assert "dense columns" in crossed.table.loc["F (Wald)", "note"]
    assert bl.Model("y ~ x + (x | g)", frame).fit().test_zero("g").method == "chi-bar-square"


def test_weights_and_offset_in_the_bootstrap() -> None:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(8), 5), "w": rng.uniform(0.3, 3.0, 40), "o": rng.normal(1e3, 50.0, 40)}
    )
    frame["y"] = frame["o"] + rng.normal(size=40) / np.sqrt(frame["w"])
    fit = bl.Model("y ~ offset(o) + (1 | g)", frame, weights="w").fit()
    found = bootstrap(null_model(fit.optimum, Removal(0, (0,))), 2000, 12)
    exact = fit.test_zero("g", draws=20_000)
    assert stats.binomtest(int((found.statistics == 0).sum()), 2000, exact.p_zero).pvalue > 1e-3


def test_refusals() -> None:
    fit = fitted("sleepstudy")
    for what, message in (
        ("sigma", "residual standard deviation"),
        ("Days", "a fixed effect"),
        ("corr_Subject[Intercept.Days]", "a correlation"),
        ("Dog", "no parameter"),
    ):
        with pytest.raises(DesignError, match=message):
            fit.test_zero(what)
    with pytest.raises(DesignError, match="needs a name"):
        fit.test_zero(3)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="unknown"):
        fit.test_zero("Subject", method="wald")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="correlated effects"):
        fit.test_zero("Subject", method="exact")
    known = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit(fix={"Batch": [0.5]})
    with pytest.raises(FitError, match="fixed"):
        known.test_zero("Batch")
