"""Tests of zero variances of models that are not identified: a well-defined statistic, and a warning for the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning


@pytest.fixture(scope="module")
def consumers() -> pd.DataFrame:
    """Factors that do not vary within consumers, as in lmerTest's data on ham and carrots."""
    rng = np.random.default_rng(0)
    consumer = np.repeat(np.arange(20), 10)
    data = pd.DataFrame({"Consumer": consumer, "Gender": np.where(consumer % 2, "m", "f")})
    data["Homesize"] = np.where((consumer // 2) % 2, "a", "b")
    data["y"] = rng.normal(size=20)[consumer] + rng.normal(size=200)
    return data


def least_squares(y: np.ndarray) -> float:
    """REML criterion of a mean and independent errors."""
    nu = y.size - 1
    return float(nu * (1.0 + np.log(2.0 * np.pi * np.var(y, ddof=1))) + np.log(y.size))


def unidentified(formula: str, data: pd.DataFrame) -> bl.REMLResult:
    fit = bl.Model(formula, data).fit(on_failure="ignore")
    assert fit.status.name == "not_identified"
    return fit


def test_the_statistic_is_that_of_an_identified_form_of_the_model(consumers: pd.DataFrame) -> None:
    fit = unidentified("y ~ 1 + (0 + Gender | Consumer)", consumers)
    with pytest.warns(BayesLMMWarning, match=r"cannot all be told apart .*covariance of Gender\[f\] and Gender\[m\]"):
        tests = bl.ranova(fit, refits=50)
    # The covariance of the two cannot be seen, so that the criterion is the one of independent effects.
    free = bl.Model("y ~ 1 + (0 + Gender || Consumer)", consumers).fit()
    expected = [least_squares(consumers["y"].to_numpy()) - free.criterion]
    for level in ("m", "f"):
        one = consumers.assign(z=(consumers["Gender"] == level).astype(float))
        expected.append(bl.Model("y ~ 1 + (0 + z | Consumer)", one).fit().criterion - free.criterion)
    np.testing.assert_allclose(tests.table["rise"], expected, rtol=1e-6)
    assert tests.table["p_value"].between(0, 1).all()
    assert np.isnan(tests.table["p_chi_bar"][0])


def test_one_test_of_a_ridge(consumers: pd.DataFrame) -> None:
    fit = unidentified("y ~ 1 + (Gender + Homesize | Consumer)", consumers)
    with pytest.warns(BayesLMMWarning, match="degrees of freedom are in doubt"):
        test = fit.test_zero("sd_Consumer[Homesize[b]]", refits=50)
    smaller = bl.Model("y ~ 1 + (Gender | Consumer)", consumers).fit(on_failure="ignore")
    assert test.rise == pytest.approx(smaller.criterion - fit.criterion, rel=1e-6)
    assert test.table["note"]["chi-bar-square"] and "degrees of freedom are in doubt" in str(test)
    with pytest.warns(BayesLMMWarning, match="told apart"):
        whole = fit.test_zero("Consumer", method="bootstrap", refits=50)
    assert whole.rise == pytest.approx(least_squares(consumers["y"].to_numpy()) - fit.criterion, rel=1e-9)
    assert "do not tell the removed variances and covariances apart" in whole.table["note"]["chi-bar-square"]


def test_a_fit_that_is_no_minimum_is_still_refused(consumers: pd.DataFrame) -> None:
    # Balanced rows have a closed form, which one evaluation confirms.
    fit = bl.Model("y ~ 1 + (1 | Consumer)", consumers.iloc[1:]).fit(max_evaluations=1, on_failure="ignore")
    with pytest.raises(bl.FitError, match="have both converged"):
        bl.ranova(fit)
