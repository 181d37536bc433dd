"""Linear functions of fixed and random effects: lecture notes, predictions, and a dense formula of the error."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


def test_least_squares_means_of_the_lecture_notes() -> None:
    """Tablets with missing values: ``estimable(fit, c(1, 1))`` in the notes; digits that lme's tolerance leaves."""
    fit = bl.Model("y ~ method + (1 | tablet)", bl.load_dataset("tablets_missing")).fit()
    found = fit.estimable({"hplc": {"Intercept": 1, "method[hplc]": 1}}, ddf="z").frame
    assert found["estimate"][0] == pytest.approx(10.2117459, abs=2e-8)
    assert found["std_error"][0] == pytest.approx(0.09259174, abs=3e-8)
    means = fit.means("method", ddf="z").frame
    assert found["estimate"][0] == pytest.approx(means["estimate"][1], rel=1e-12)
    assert found["std_error"][0] == pytest.approx(means["std_error"][1], rel=1e-12)


def test_rows_and_names_are_the_same(sleep: bl.REMLResult) -> None:
    rows = sleep.estimable([[1, 5], [0, 1]]).frame.drop(columns="function")
    names = sleep.estimable({"five": {"Intercept": 1, "Days": 5}, "slope": {"Days": 1}}).frame.drop(columns="function")
    pd.testing.assert_frame_equal(pd.DataFrame(rows), pd.DataFrame(names))
    table = sleep.coefficients().loc["Days"]
    for ours, theirs in (("estimate", "estimate"), ("std_error", "std_error"), ("df", "df"), ("p_value", "p_value")):
        assert names[ours][1] == pytest.approx(table[theirs], rel=1e-9)


def test_random_effects_have_the_error_of_a_prediction(sleep: bl.REMLResult) -> None:
    weights = {"Intercept": 1, "Days": 5, "Subject[308, Intercept]": 1, ("Subject", "308", "Days"): 5}
    found = sleep.estimable(weights).frame.iloc[0]
    expected = sleep.predict(pd.DataFrame({"Days": [5], "Subject": ["308"]})).iloc[0]
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        assert found[name] == pytest.approx(expected[name], rel=1e-9)


def test_differences_of_levels_beside_dense_algebra(sleep: bl.REMLResult) -> None:
    """Var(x'(b^ - b)) from V, G, X: the levels' errors are correlated through the fixed effects."""
    design = sleep.design
    n, levels = design.n, 18
    codes = design.groupings["Subject"].codes
    Z = np.zeros((n, 2 * levels))
    Z[np.arange(n), 2 * codes], Z[np.arange(n), 2 * codes + 1] = 1.0, design.terms[0].Z[:, 1]
    root = sleep.optimum.terms[0]
    G = np.kron(np.eye(levels), root @ root.T) * sleep.sigma**2
    inverse = np.linalg.inv(Z @ G @ Z.T + sleep.sigma**2 * np.eye(n))
    x, z = np.array([0.0, 0.5]), np.zeros(2 * levels)
    z[1], z[3] = 1.0, -2.0
    d = x - design.X.T @ inverse @ Z @ G @ z
    beta = np.linalg.inv(design.X.T @ inverse @ design.X)
    variance = z @ G @ z - z @ G @ Z.T @ inverse @ Z @ G @ z + d @ beta @ d
    names = design.groupings["Subject"].levels
    weights = {"Days": 0.5, f"Subject[{names[0]}, Days]": 1, f"Subject[{names[1]}, Days]": -2}
    found = sleep.estimable(weights).frame.iloc[0]
    assert found["std_error"] == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_a_variance_of_zero_is_an_ordinary_one() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    found = fit.estimable({"mean": {"Intercept": 1}, "A": {"Intercept": 1, "Batch[A]": 1}}).frame
    assert found["estimate"][0] == pytest.approx(found["estimate"][1], rel=1e-12)
    assert found["std_error"][0] == pytest.approx(found["std_error"][1], rel=1e-10)


def test_functions_can_be_compared(sleep: bl.REMLResult) -> None:
    found = sleep.estimable({"a": {"Subject[308, Days]": 1}, "b": {"Subject[309, Days]": 1}}).pairs("none").frame
    direct = sleep.estimable({"Subject[308, Days]": 1, "Subject[309, Days]": -1}).frame
    assert found["std_error"][0] == pytest.approx(direct["std_error"][0], rel=1e-10)


def test_posteriors_have_draws_of_them() -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(500, random_seed=1)
    found = post.estimable({"A": {"Intercept": 1, "Batch[A]": 1}, "A - B": {"Batch[A]": 1, "Batch[B]": -1}})
    b = post.data["posterior"]["b_Batch"].to_numpy().reshape(500, 6, -1)[..., 0]
    np.testing.assert_allclose(found.draws["A"], post.draws("Intercept") + b[:, 0], rtol=1e-12)
    assert found.frame["p_positive"][1] == np.mean(b[:, 0] > b[:, 1])


@pytest.mark.parametrize(
    ("L", "words"),
    [
        ({}, "empty"),
        ({"Dayz": 1}, "no coefficient"),
        ({"Subject[999, Days]": 1}, "no level '999'"),
        ({"Subject[308]": 1}, "Say which one"),
        ({"Subject[308, Hours]": 1}, "has the effects Intercept, Days"),
        ({"Days": "much"}, "weight"),
        ({"a": {"Days": 1}, "Days": 1}, "mixes"),
        ([[1, 2, 3]], "2 coefficients"),
        ({("Subject",): 1}, "no coefficient"),
        (None, "L"),
    ],
)
def test_wrong_calls(sleep: bl.REMLResult, L: object, words: str) -> None:
    with pytest.raises(DesignError, match=words):
        sleep.estimable(L)
