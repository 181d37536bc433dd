"""Tests of residual parameters and of variances beside them, and what else asks for fits of smaller models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, kstest

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.numerics.differences import jacobian

SLEEP = bl.load_dataset("sleepstudy").assign(late=lambda d: np.where(d["Days"] > 5, "yes", "no"))
# Two minima, each to about 1e-9.
MINIMA = 1e-7


def _fit(residual: str, random: str = "", reml: bool = True, data: pd.DataFrame = SLEEP) -> bl.REMLResult:
    return bl.Model(f"Reaction ~ Days{random}", data, residual=residual).fit(reml)


@pytest.fixture(scope="module")
def mixed() -> bl.REMLResult:
    return _fit("ar1(Days | Subject)", " + (1 | Subject)")


@pytest.mark.parametrize("weights", [None, "w"])
def test_independent_residuals_are_least_squares_in_closed_form(weights: str | None, tmp_path: Path) -> None:
    data = SLEEP.assign(w=np.random.default_rng(1).uniform(0.5, 2.0, len(SLEEP)))
    model = bl.Model("Reaction ~ Days", data, residual="independent", weights=weights)
    X, y = model.design.X, model.design.y
    w = np.ones(len(y)) if weights is None else data["w"].to_numpy()
    A, (n, p) = X.T @ (w[:, None] * X), X.shape
    beta = np.linalg.solve(A, X.T @ (w * y))
    rss = float(w @ (y - X @ beta) ** 2)
    reml, ml = model.fit(), model.fit(reml=False)
    logs = np.log(w).sum()
    assert ml.criterion == pytest.approx(n * (1 + np.log(2 * np.pi * rss / n)) - logs, rel=1e-12)
    expected = (n - p) * (1 + np.log(2 * np.pi * rss / (n - p))) - logs + np.linalg.slogdet(A)[1]
    assert reml.criterion == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(reml.fixef(), beta, rtol=1e-10)
    table = reml.coefficients()
    np.testing.assert_allclose(table["df"], n - p, rtol=1e-10)
    np.testing.assert_allclose(table["std_error"], np.sqrt(rss / (n - p) * np.diag(np.linalg.inv(A))), rtol=1e-10)
    reml.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    assert again.criterion == pytest.approx(reml.criterion, rel=1e-13)
    assert type(again) is type(reml) and bl.anova(again, reml).shape[0] == 2


def test_independent_residuals_refuse_what_they_have_not() -> None:
    model = bl.Model("Reaction ~ Days", SLEEP, residual="independent")
    for call in (
        lambda: model.fit(priors="default"),
        lambda: bl.power(model),
    ):
        with pytest.raises(DesignError, match="without random effects"):
            call()
    with pytest.raises(DesignError, match="no parameters, so that there is nothing to test"):
        model.fit().test_residual()
    with pytest.raises(DesignError, match="no variance left to estimate"):
        bl.Model("Reaction ~ Days", SLEEP, residual="independent", residual_sd="Reaction")
    # Beside random effects the word says what is so without it.
    one = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual="independent").fit()
    assert one.criterion == bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP).fit().criterion


def test_parts_of_a_sum_are_left_out_one_at_a_time() -> None:
    fit = _fit("by(late) + ar1(Days | Subject)")
    table = fit.test_residual()
    smaller = {
        "all of it": "independent",
        "by(late)": "ar1(Days | Subject)",
        "ar1(Days | Subject)": "by(late)",
    }
    assert table.index.tolist() == list(smaller)
    for name, residual in smaller.items():
        ratio, df = _fit(residual).criterion - fit.criterion, 2 if name == "all of it" else 1
        assert table.loc[name, "LRT"] == pytest.approx(ratio, abs=MINIMA)
        assert table.loc[name, "Pr(>LRT)"] == pytest.approx(chi2.sf(ratio, df), rel=1e-6)


def test_heterogeneous_correlations_have_two_halves() -> None:
    fit = _fit("csh(late | Subject)", data=SLEEP[SLEEP["Days"].isin([0, 9])], reml=False)
    table = fit.test_residual()
    data = SLEEP[SLEEP["Days"].isin([0, 9])]
    smaller = {"csh(late | Subject)": "independent", "correlations": "by(late)", "sds": "cs(late | Subject)"}
    for name, residual in smaller.items():
        own = next(label for label in table.index if label.startswith(name))
        ratio = _fit(residual, data=data, reml=False).criterion - fit.criterion
        assert table.loc[own, "LRT"] == pytest.approx(ratio, abs=MINIMA)


def test_an_end_of_the_range_has_a_mixture() -> None:
    fit = _fit("exp(Days | Subject, by=arm)", data=SLEEP.assign(arm=(SLEEP["Subject"].astype(int) % 2).astype(str)))
    table = fit.test_residual()
    # Two correlations of two arms, each on one side: binomial weights.
    ratio = table["LRT"].iloc[0]
    assert table["Pr(>LRT)"].iloc[0] == pytest.approx(0.5 * chi2.sf(ratio, 1) + 0.25 * chi2.sf(ratio, 2), rel=1e-12)
    small, large = _fit("independent", reml=False), _fit("car1(Days | Subject)", reml=False)
    compared = bl.anova(small, large)
    assert compared["Pr(>chi-bar)"].iloc[1] == pytest.approx(0.5 * compared["Pr(>Chisq)"].iloc[1], rel=1e-12)


def test_parameters_that_do_not_exist_are_simulated() -> None:
    data = SLEEP[SLEEP["Subject"].isin(SLEEP["Subject"].unique()[:4])]
    fit = _fit("arma(Days | Subject)", data=data)
    table = fit.test_residual(refits=20, random_seed=2)
    assert table["distribution"].iloc[0].endswith("refits") and 0 < table["Pr(>LRT)"].iloc[0] <= 1
    assert np.isnan(fit.test_residual(method="asymptotic")["Pr(>LRT)"].iloc[0])


def test_a_variance_is_tested_with_residual_parameters_estimated_again(mixed: bl.REMLResult) -> None:
    small = _fit("ar1(Days | Subject)")
    rise = small.criterion - mixed.criterion
    test = mixed.test_zero("Subject", refits=0)
    assert test.rise == pytest.approx(rise, abs=MINIMA)
    assert test.p_value == pytest.approx(0.5 * chi2.sf(rise, 1), rel=1e-6)
    table = bl.ranova(mixed, refits=0).table
    assert table["rise"].iloc[0] == pytest.approx(rise, abs=MINIMA)
    again = bl.anova(small, mixed, refit=False)
    assert again["Pr(>chi-bar)"].iloc[1] == pytest.approx(test.p_value, rel=1e-6)
    simulated = mixed.test_zero("Subject", method="bootstrap", refits=30, random_seed=1)
    # A share of 30 beside .04.
    assert simulated.p_value < 0.3
    with pytest.raises(DesignError, match="test_residual"):
        mixed.test_zero("residual_rho")


def test_the_boundary_report_and_the_page_are_there(mixed: bl.REMLResult, tmp_path: Path) -> None:
    report = mixed.boundary(leave_out="tests")
    small = _fit("ar1(Days | Subject)")
    assert report["edge"]["rise at 0"].iloc[0] == pytest.approx(small.criterion - mixed.criterion, abs=MINIMA)
    limits = mixed.confint(0.9, parameters="sd_Subject").iloc[0].to_numpy()
    np.testing.assert_allclose(report["limits"].loc["sd_Subject[Intercept]", ["REML low", "REML high"]], limits)
    assert "zero is in reach" in report.verdict
    page = bl.report(small, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ar1(Days | Subject)" in page


def test_a_term_of_lower_rank_is_the_edge_of_its_correlation() -> None:
    fit = _fit("by(late)", " + (Days | Subject)")
    from bayeslmm.inference.lower_rank import residual_rise_at_lower_rank

    ends = fit.profile("corr_Subject[Intercept.Days]", [-1.0, 1.0])["criterion"].min() - fit.criterion
    zero = fit.profile("sd_Subject[Intercept]", [0.0])
    lowest = min(ends, zero["criterion"].iloc[0] - fit.criterion)
    # The angle stops a little before the end.
    assert residual_rise_at_lower_rank(fit.optimum, 0) == pytest.approx(lowest, rel=1e-3)


def test_variances_have_the_errors_of_the_observed_information(mixed: bl.REMLResult) -> None:
    X, y, days = mixed.design.X, mixed.design.y, np.arange(10.0)
    lags = np.abs(days[:, None] - days)

    def criterion(v: np.ndarray) -> float:
        sd, sigma, rho = v
        half = np.linalg.cholesky(sigma**2 * rho**lags + sd**2)
        blocks = np.column_stack([X, y]).reshape(18, 10, 3).transpose(1, 0, 2).reshape(10, -1)
        white = np.linalg.solve(half, blocks).reshape(10, 18, 3).reshape(-1, 3)
        A = white[:, :2].T @ white[:, :2]
        r = white[:, 2] - white[:, :2] @ np.linalg.solve(A, white[:, :2].T @ white[:, 2])
        return 36 * np.log(np.diag(half)).sum() + np.linalg.slogdet(A)[1] + float(r @ r)

    at = mixed.estimates().to_numpy()[:3]
    step = 1e-3 * at

    def gradient(v: np.ndarray) -> np.ndarray:
        return np.array([(criterion(v + e) - criterion(v - e)) / (2 * e.sum()) for e in np.diag(step)])

    expected = 2.0 * np.linalg.inv(jacobian(gradient, at))
    # Differences of differences: relative errors of the squares of the steps.
    np.testing.assert_allclose(mixed.vcov_variances(), expected, rtol=5e-3)
    table = mixed.variances("variance")
    assert table["std_error"].iloc[1] == pytest.approx(2 * at[1] * np.sqrt(expected[1, 1]), rel=5e-3)
    assert table.index.tolist() == ["var_Subject[Intercept]", "sigma^2", "residual_rho"]


def test_bootstraps_are_those_of_other_fits() -> None:
    data = SLEEP[SLEEP["Days"] < 5]
    fit = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    boot = fit.bootstrap(12, random_seed=1, statistic="sigma", method="semiparametric")
    assert boot.draws.shape == (12, 1)
    ends = fit.confint(method="bootstrap", n=12, random_seed=1, kind="bca", parameters="residual_rho")
    assert ends["conf_low"].iloc[0] < ends["conf_high"].iloc[0]
    logs = bl.Model("log(Reaction) ~ Days", data, residual="ar1(Days | Subject)").fit()
    means = logs.means("Days", at={"Days": [4]}, type="response", bias_adjust=True)
    plain = logs.means("Days", at={"Days": [4]}, type="response")
    # exp(m) (1 + v / 2) by the second-order expansion, v that of a row.
    ratio = means.frame["estimate"].iloc[0] / plain.frame["estimate"].iloc[0]
    assert ratio == pytest.approx(1 + logs.sigma**2 / 2, rel=1e-6)


def test_terms_and_structures_are_exchanged(mixed: bl.REMLResult) -> None:
    found = mixed.step(alpha_random=0.05)
    assert found.fit.design.terms == () and found.fit.formula == "Reaction ~ Days"
    assert found.fit.criterion == pytest.approx(_fit("ar1(Days | Subject)").criterion, abs=MINIMA)
    other = mixed.update(residual="by(late)")
    assert other.design.residual.expression == "by(late)"
    without = mixed.update(residual=None)
    assert without.criterion == pytest.approx(bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP).fit().criterion)


@pytest.mark.calibration
@pytest.mark.parametrize("residual", ["ar1(Days | Subject)", "exp(Days | Subject)"])
def test_p_values_are_uniform_under_independence(residual: str) -> None:
    model = bl.Model("Reaction ~ Days", SLEEP, residual=residual)
    X, rng, found = model.design.X, np.random.default_rng(5), []
    for _ in range(400):
        data = SLEEP.assign(Reaction=X @ [250.0, 10.0] + 30 * rng.normal(size=len(SLEEP)))
        found.append(bl.Model("Reaction ~ Days", data, residual=residual).fit().test_residual()["Pr(>LRT)"].iloc[0])
    p = np.array(found)
    if residual.startswith("exp"):
        # Ones where the ratio is zero, about half of them: four standard errors of a share of 400.
        assert abs((p == 1).mean() - 0.5) < 0.1
        p = p[p < 1] / 0.5
    assert kstest(p, "uniform").pvalue > 1e-3
