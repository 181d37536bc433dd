"""Numbers of results, their summaries, and what intervals refuse."""

from __future__ import annotations

import re

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(scope="module")
def zero() -> bl.Model:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))


def cells(html: str) -> list[str]:
    return re.findall(r"<t[dh][^>]*>([^<]+)</t[dh]>", html)


def test_varcorr_is_consistent(sleep: bl.REMLResult) -> None:
    table = sleep.varcorr().set_index(["group", "effect1", "effect2"])
    (var_i, var_d, cov, var_e), (sd_i, sd_d, rho, sigma) = table["vcov"], table["sdcor"]
    np.testing.assert_allclose([sd_i**2, sd_d**2, sigma**2], [var_i, var_d, var_e], rtol=1e-12)
    assert rho == pytest.approx(cov / (sd_i * sd_d), rel=1e-12)
    assert sigma == sleep.sigma


def test_information_criteria_count_as_lme4_does(sleep: bl.REMLResult) -> None:
    # p = 2 fixed effects, 3 covariance parameters, sigma; BIC takes n
    assert sleep.df == 6
    assert sleep.aic == pytest.approx(-2 * sleep.loglik + 12)
    assert sleep.bic == pytest.approx(-2 * sleep.loglik + 6 * np.log(180))


def test_wald_intervals_are_for_fixed_effects(sleep: bl.REMLResult) -> None:
    wald = sleep.confint(method="wald")
    assert list(wald.index) == ["Intercept", "Days"]
    half = (wald["conf_high"] - wald["conf_low"]) / 2
    np.testing.assert_allclose(half, 1.959963984540054 * sleep.std_error(), rtol=1e-12)
    with pytest.raises(DesignError, match="'profile'"):
        sleep.confint(method="boot")  # type: ignore[arg-type]


def test_one_parameter_by_name(sleep: bl.REMLResult) -> None:
    one = sleep.confint(parameters="sigma")
    assert list(one.index) == ["sigma"]
    with pytest.raises(DesignError, match=r"sd_Subject\[Intercept\]"):
        sleep.confint(parameters="sd_Subjct")
    with pytest.raises(DesignError, match="more than one"):
        sleep.confint(parameters="sd_Subject")


def test_posterior_variances_add_the_uncertainty_of_the_fixed_effects(sleep: bl.REMLResult) -> None:
    known, unknown = (sleep.ranef_variances(fixed_known=k)["Subject"] for k in (True, False))
    assert (np.linalg.eigvalsh(unknown - known) > -1e-9).all()


def test_summary_tells_all_in_text_and_html(sleep: bl.REMLResult) -> None:
    summary = sleep.summary()
    text, html = str(summary), summary._repr_html_()
    for words in ("restricted maximum likelihood", "1743.63", "180 observations", "Subject 18", "converged"):
        assert words in text
        assert words in html
    for value in ("24.740", "5.922", "25.592", "251.405", "10.467", "1.546"):
        assert value in text
        assert value in cells(html)
    assert "maximum likelihood (ML)" in str(bl.Model(sleep.formula, bl.load_dataset("sleepstudy")).fit(False).summary())
    assert "singular" not in text.lower()


def test_summary_of_a_singular_fit_names_what_vanished(zero: bl.Model) -> None:
    text = str(zero.fit().summary())
    assert "a variance is estimated as exactly 0 (a singular fit)" in text
    line = " ".join(text[text.index("Singular") :].split())
    assert "levels of Batch in Intercept;" in line
    # what is told of has to be there: the documentation is not installed
    assert "fit.boundary()" in line and "docs/" not in text
    assert zero.fit().optimum.vanished[0].slope > 0


def test_a_correlation_of_one_names_the_combination() -> None:
    data = bl.load_dataset("Machines")
    data["x"] = np.tile([-1.0, 0.0, 1.0], len(data) // 3)
    rng = np.random.default_rng(3)
    size = dict(zip(sorted(data["Worker"].unique(), key=str), rng.normal(size=6), strict=True))
    # every worker's line is a multiple of 10 + 5 x, so that -0.5 + x has no variance between workers
    data["z"] = data["Worker"].map(size).astype(float) * (10 + 5 * data["x"]) + rng.normal(size=len(data))
    fit = bl.Model("z ~ x + (x | Worker)", data).fit()
    assert fit.is_singular
    intercept, x, corr = fit.estimates().iloc[:3]
    assert corr == pytest.approx(1.0, abs=1e-9)
    (vanished,) = fit.optimum.vanished
    np.testing.assert_allclose(vanished.direction, [-x / intercept, 1.0], rtol=1e-6)
    text = str(fit.summary())
    line = " ".join(text[text.index("Singular") :].split())
    assert f"in {-x / intercept:.3g} Intercept + x;" in line
    assert "Intercept and x are estimated as perfectly correlated (1);" in line


def test_summary_of_a_posterior_says_upper_bound_and_the_priors(zero: bl.Model) -> None:
    post = zero.sample(2000, random_seed=1)
    text, html = str(post.summary()), post.summary()._repr_html_()
    for words in (
        "sd_Batch[Intercept] reaches 0",
        "upper bound",
        "half-t(3",
        "2,000 independent draws, exact to 1e-14",
        "post.certificate()",
    ):
        assert words in " ".join(text.split())
        assert words in html
    assert post.hdi().loc["sd_Batch[Intercept]", "conf_low"] == 0.0
    assert post.probability_below("sd_Batch", 1.0) == pytest.approx(np.mean(post.draws("sd_Batch") < 1.0))


@pytest.mark.parametrize("delta", [float("nan"), "a", None, [1, 2], True])
def test_a_probability_is_below_a_number(zero: bl.Model, delta: object) -> None:
    post = zero.sample(100, random_seed=1)
    with pytest.raises(bl.DesignError, match=r"no number that sigma could be below. Give one"):
        post.probability_below("sigma", delta)  # type: ignore[arg-type]
    assert post.probability_below("sigma", float("inf")) == 1.0
    assert post.probability_below("sigma", 0) == 0.0


def test_representations_are_short(zero: bl.Model) -> None:
    # A fit and a posterior show their summaries.
    assert len(repr(zero.fit()).splitlines()) < 25
    post = zero.sample(100, random_seed=1)
    assert repr(post) == post.summary().text()
    assert len(repr(post).splitlines()) < 25


@pytest.mark.parametrize("level", [95, 0, 1, float("nan")])
def test_levels_of_a_posterior_are_probabilities(zero: bl.Model, level: float) -> None:
    post = zero.sample(100, random_seed=1)
    for ask in (post.hdi, post.confint, post.tidy, post.table, post.ranef_interval):
        with pytest.raises(DesignError, match="between 0 and 1"):
            ask(level)


def test_a_percentage_is_understood_and_answered() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    with pytest.raises(DesignError, match=r"level=0\.95 for 95 %"):
        fit.confint(95)
    for level in ("a", None, True):
        with pytest.raises(DesignError, match=rf"level={level!r} is no number"):
            fit.confint(level=level)  # type: ignore[arg-type]


def test_exact_moments_of_quadrature_do_not_depend_on_the_seed(zero: bl.Model) -> None:
    one, two = (zero.sample(200, random_seed=seed).estimates() for seed in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_nan_is_what_an_undefined_correlation_is() -> None:
    data = bl.load_dataset("Dyestuff2").assign(x=np.tile([-2.0, -1.0, 0.0, 1.0, 2.0], 6))
    fit = bl.Model("Yield ~ x + (x | Batch)", data).fit()
    assert np.isnan(fit.estimates()["corr_Batch[Intercept.x]"])
    assert list(fit.confint(parameters="corr_Batch").iloc[0]) == [-1.0, 1.0]
    assert "nan" not in str(fit.summary()).lower()
