"""The first screen of a fit: what R users expect to see, in digits that are known, within 80 columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError, DesignError
from bayeslmm.results.figures import df_text, estimate_places, figures, p_text

SLEEP = bl.load_dataset("sleepstudy")


def fitted(formula: str = "Reaction ~ Days + (Days | Subject)", data: pd.DataFrame = SLEEP) -> bl.REMLResult:
    return bl.Model(formula, data).fit()


def row(text: str, name: str) -> list[str]:
    """Numbers of the line that begins with a name."""
    line = next(line for line in text.splitlines() if line.strip().startswith(name + " "))
    return re.findall(r"< [\d.e-]+|-?\d[\d.e+-]*", line.strip()[len(name) :])


def test_what_a_terminal_shows_is_the_table() -> None:
    """lmerTest's summary of this fit: 251.405 (6.825), 10.467 (1.546), df 17, t 36.84 and 6.77, p 3.26e-06."""
    fit = fitted()
    text = repr(fit)
    assert text == fit.summary().text() == str(fit.summary())
    assert row(text, "Intercept") == ["251.405", "6.825", "17", "36.838", "< 2.2e-16"]
    assert row(text.split("Fixed effects")[1], "Days") == ["10.467", "1.546", "17", "6.771", "3.26e-06"]
    # lme4: 612.10, 35.07 and .07 (default optimiser), 612.0949 at the optimum; residual 654.94.
    assert row(text, "Subject   Intercept") == ["612.09", "24.740"]
    assert row(text.split("Fixed effects")[0], "Days") == ["35.07", "5.922", "0.066"]
    assert row(text, "Residual") == ["654.94", "25.592"]
    assert "-3.9536  -0.4634  0.0231  0.4634  5.1793" in text
    assert "180 observations; groups: Subject 18" in text
    assert "REML criterion 1743.63; log likelihood -871.81; AIC 1755.63; BIC 1774.79" in text
    assert "Status: converged\n" in text


def test_numbers_are_those_of_the_methods() -> None:
    fit = fitted("score ~ Machine + (1 | Worker/Machine)", bl.load_dataset("Machines"))
    for ddf in ("satterthwaite", "kenward-roger", "containment", "residual"):
        text, table = fit.summary(ddf).text(), fit.coefficients(ddf)  # type: ignore[arg-type]
        for name, numbers in table.iterrows():
            shown = row(text.split("Fixed effects")[1], str(name))
            assert float(shown[0]) == pytest.approx(numbers["estimate"], abs=5.1e-4)
            assert float(shown[1]) == pytest.approx(numbers["std_error"], abs=5.1e-4)
            assert shown[2] == df_text(numbers["df"])
            assert float(shown[3]) == pytest.approx(numbers["t"], abs=5.1e-4)
            assert shown[4] == p_text(numbers["p_value"])
    z = fit.summary("z").text()
    assert "z value" in z and "z tests" in z and " df " not in z.split("Fixed effects")[1]


def test_digits_are_chosen() -> None:
    text = fitted().summary(digits=2).text()
    assert row(text, "Intercept")[:2] == ["251.4", "6.8"]
    assert row(fitted().summary(digits=7).text(), "Intercept")[0] == "251.405105"
    for digits in (0, "many", 3.5):
        with pytest.raises(BayesLMMError, match="digits"):
            fitted().summary(digits=digits)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="ddf='df'"):
        fitted().summary("df")  # type: ignore[arg-type]


def test_correlation_of_the_fixed_effects_on_request() -> None:
    fit = fitted("Reaction ~ Days + I(Days**2) + (1 | Subject)")
    assert "Correlation of fixed effects" not in repr(fit)
    text = fit.summary(correlation=True).text().split("Correlation of fixed effects")[1]
    expected = fit.correlation().to_numpy()
    assert np.diagonal(expected) == pytest.approx(1.0)
    X = fit.vcov().to_numpy()
    assert expected[1, 0] == pytest.approx(X[1, 0] / np.sqrt(X[0, 0] * X[1, 1]))
    assert row(text, "Days") == [f"{expected[1, 0]:.3f}"]
    assert row(text, "I(Days ** 2)") == [f"{expected[2, 0]:.3f}", f"{expected[2, 1]:.3f}"]


def test_correlations_stand_beside_the_effects() -> None:
    """lme4's triangle for three effects."""
    text = repr(fitted("score ~ Machine + (Machine | Worker)", bl.load_dataset("Machines")))
    assert row(text, "Machine[C]")[2:] == ["-0.365", "0.297"]
    shared = repr(fitted("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines")))
    assert "(correlation)" in shared


def test_scaled_residuals_are_quartiles_of_pearson_residuals() -> None:
    data = SLEEP.assign(w=1.0 + np.arange(180) % 3)
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data, weights="w").fit()
    pearson = fit.residuals() * np.sqrt(data["w"]) / fit.sigma
    ends = np.quantile(pearson, [0, 0.25, 0.5, 0.75, 1])
    line = fit.summary().text().split("Scaled residuals")[1].splitlines()[2]
    assert [float(v) for v in line.split()] == pytest.approx(ends, abs=5.1e-5)


def test_a_singular_fit_in_plain_words() -> None:
    text = " ".join(repr(fitted("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))).split())
    assert "Status: converged; a variance is estimated as exactly 0 (a singular fit)" in text
    assert "curvature" not in text and "gradient" not in text
    assert "counts as known to be 0; summary(ddf='kenward-roger') counts it as uncertain" in text


def test_what_has_no_degrees_of_freedom_says_so() -> None:
    """An interrupted fit is no minimum: z tests, and the reason."""
    model = bl.Model("Reaction ~ Days + (Days | Subject)", SLEEP)
    fit = model.fit(max_evaluations=1, on_failure="ignore")
    text = " ".join(repr(fit).split())
    if "z value" in text:
        assert "No degrees of freedom:" in text
    else:
        assert "t value" in text
    exact = SLEEP.assign(Reaction=SLEEP["Subject"].astype(int) * 2.0)
    perfect = bl.Model("Reaction ~ Days + (1 | Subject)", exact).fit(on_failure="ignore")
    shown = " ".join(repr(perfect).split())
    assert "Estimate" in shown


@pytest.mark.parametrize(
    "formula",
    [
        "Reaction ~ Days + (Days | Subject)",
        "Reaction ~ poly(Days, 4) + (poly(Days, 2) | Subject)",
        "Reaction ~ a_predictor_with_a_very_long_name_indeed_that_fills_the_line + (1 | Subject)",
    ],
)
def test_eighty_columns(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    data = SLEEP.assign(a_predictor_with_a_very_long_name_indeed_that_fills_the_line=SLEEP["Days"])
    text = repr(bl.Model(formula, data).fit())
    assert max(map(len, text.splitlines())) <= 80
    for piece in ("Estimate", "Std. Error", "Pr(>|t|)", "Variance", "Std.Dev."):
        assert piece in text


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e8])
def test_units_show_no_noise_and_no_zeros(unit: float) -> None:
    text = repr(fitted(data=SLEEP.assign(Reaction=SLEEP["Reaction"] * unit)))
    shown = row(text, "Intercept")
    assert float(shown[0]) == pytest.approx(251.405 * unit, rel=1e-3)
    assert float(shown[1]) == pytest.approx(6.825 * unit, rel=2e-2)
    assert all(len(number) <= 12 for number in shown)


def test_a_notebook_shows_the_same_numbers() -> None:
    page = fitted()._repr_html_()
    for number in ("251.405", "6.825", "612.09", "0.066", "3.26e-06", "Std.Dev."):
        assert number in page


def test_the_interval_of_a_fixed_effect_is_one_in_all_tables() -> None:
    """The t interval with Satterthwaite's degrees of freedom: estimate +- t(0.975, 17) se."""
    fit = fitted()
    expected = fit.coefficients()[["conf_low", "conf_high"]].to_numpy()
    tidy = fit.tidy()
    np.testing.assert_allclose(tidy.loc[tidy["effect"] == "fixed", ["conf_low", "conf_high"]], expected, rtol=1e-12)
    variances = tidy[tidy["effect"] == "ran_pars"][["conf_low", "conf_high"]].to_numpy()
    np.testing.assert_allclose(variances, fit.confint().iloc[: len(variances)], rtol=1e-12)
    penalised = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP).fit(penalty="gamma")
    own = penalised.tidy()
    np.testing.assert_allclose(
        own.loc[own["effect"] == "fixed", ["conf_low", "conf_high"]],
        penalised.coefficients()[["conf_low", "conf_high"]],
        rtol=1e-12,
    )


def test_places_after_the_point() -> None:
    assert figures([0.0, 1e-12, 5.0]) == ["0", "1e-12", "5"]
    assert figures([float("nan"), 2.0]) == ["", "2.0000"]
    assert estimate_places([0.0, float("nan")], 1.0, 4) is None
    assert (p_text(1e-300), p_text(1.0), p_text(0.05)) == ("< 2.2e-16", "1", "0.05")
