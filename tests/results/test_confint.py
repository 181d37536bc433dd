"""Intervals by method: pivot, Wald, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f

import bayeslmm as bl
from bayeslmm.errors import DesignError

Z = 1.959963984540054


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(scope="module")
def zero() -> bl.REMLResult:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()


def test_pivot_of_a_balanced_layout() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    y = fit.design.y.reshape(6, 5)
    F = 5 * y.mean(1).var(ddof=1) / (y.var(axis=1, ddof=1).mean())
    ends = fit.confint(0.9, method="pivot")
    ratio = [(F / f.ppf(q, 5, 24) - 1) / 5 for q in (0.95, 0.05)]
    assert list(ends.index) == ["ratio_Batch[Intercept]", "icc_Batch[Intercept]"]
    np.testing.assert_allclose(ends.iloc[0], ratio, rtol=1e-9)
    np.testing.assert_allclose(ends.iloc[1], [r / (1 + r) for r in ratio], rtol=1e-9)


def test_pivot_is_for_ratios(sleep: bl.REMLResult) -> None:
    for label in ("sd_Subject[Days]", "sigma", "Days", "corr_Subject[Intercept.Days]"):
        with pytest.raises(DesignError, match="ratio_"):
            sleep.confint(method="pivot", parameters=label)


def test_wald_of_sigma_and_sd_of_a_balanced_layout() -> None:
    # REML estimates are functions of two independent mean squares: their information is diagonal, nu / (2 theta^2) for
    # each theta; here in log sigma and log sd_b by the chain rule.
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    s2, b2 = fit.sigma**2, float(fit.estimates()["sd_Batch[Intercept]"]) ** 2
    total = s2 + 5 * b2
    # d(theta_within, theta_between) / d(log sd_b, log sigma)
    J = np.array([[0.0, 2 * s2], [10 * b2, 2 * s2]])
    information = J.T @ np.diag([24 / (2 * s2**2), 5 / (2 * total**2)]) @ J
    errors = Z * np.sqrt(np.diagonal(np.linalg.inv(information)))
    ends = fit.confint(method="wald", parameters=["sd_Batch", "sigma"])
    for label, error in zip(ends.index, errors, strict=True):
        expected = fit.estimates()[label] * np.exp([-error, error])
        np.testing.assert_allclose(ends.loc[label], expected, rtol=1e-9)


def test_wald_of_a_correlation_against_differences(sleep: bl.REMLResult) -> None:
    # Curvature of the profile in atanh(rho), by differences of the stored likelihood's profile.
    label = "corr_Subject[Intercept.Days]"
    centre, h = np.arctanh(sleep.estimates()[label]), 0.02
    curve = sleep.profile(label, np.tanh(centre + h * np.arange(-2, 3)))["criterion"].to_numpy()
    bend = (-curve[0] + 16 * curve[1] - 30 * curve[2] + 16 * curve[3] - curve[4]) / (12 * h**2)
    expected = np.tanh(centre + Z * np.sqrt(2 / bend) * np.array([-1.0, 1.0]))
    np.testing.assert_allclose(sleep.confint(method="wald", parameters=label).loc[label], expected, rtol=1e-5)


@pytest.mark.parametrize("label", ["sd_Batch[Intercept]", "ratio_Batch[Intercept]", "icc_Batch[Intercept]"])
def test_wald_at_zero_is_refused_with_the_reason(zero: bl.REMLResult, label: str) -> None:
    with pytest.raises(DesignError, match=r"estimate is 0.*profile.*pivot"):
        zero.confint(method="wald", parameters=label)


def test_wald_of_a_correlation_at_its_end_or_undefined_is_refused() -> None:
    data = bl.load_dataset("Dyestuff2").assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    fit = bl.Model("Yield ~ x + (x | Batch)", data).fit()
    with pytest.raises(DesignError, match=r"end of its range|not defined"):
        fit.confint(method="wald", parameters="corr_Batch[Intercept.x]")


def test_wald_of_a_fixed_term_is_refused() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit(fix={"Batch": [0.5]})
    with pytest.raises(DesignError, match="fixed, not estimated"):
        fit.confint(method="wald", parameters="sd_Batch")
    ends = fit.confint(parameters=["sd_Batch", "ratio_Batch", "sigma"])
    np.testing.assert_allclose(ends.loc["sd_Batch[Intercept]"], 0.5 * ends.loc["sigma"], rtol=1e-12)
    np.testing.assert_allclose(ends.loc["ratio_Batch[Intercept]"], 0.25, rtol=1e-12)


def test_icc_profile_is_a_likelihood_profile_of_the_share(zero: bl.REMLResult) -> None:
    ratio, icc = (
        zero.profile(f"{kind}_Batch", [v])["criterion"].iloc[0] for kind, v in (("ratio", 0.25), ("icc", 0.2))
    )
    assert ratio == pytest.approx(icc, rel=1e-14)
    with pytest.raises(DesignError, match="below 1"):
        zero.profile("icc_Batch", [1.0])


def test_unknown_methods_and_labels_are_named(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="'profile', 'wald', 'pivot' or 'bootstrap'"):
        sleep.confint(method="hdi")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="no parameter"):
        sleep.confint(parameters="ratio_Subjct[Days]")
