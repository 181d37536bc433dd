"""Predictions from some of the random effects, from the random part only, and at levels that the data did not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

ROWS = [0, 4, 99]
DAYS_ONLY = "(0 + Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


@pytest.fixture(scope="module")
def penicillin() -> bl.REMLResult:
    return bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()


@pytest.fixture(scope="module")
def posterior() -> bl.Posterior:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).sample(200, random_seed=1)


@pytest.fixture(scope="module")
def crossed() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"f": np.tile(list("abc"), 20), "x": rng.normal(size=60), "g": np.repeat(np.arange(6), 10)})
    return frame.assign(y=frame["f"].map({"a": 0.0, "b": 2.0, "c": 5.0}) + rng.normal(size=60) + 0.3 * frame["g"])


# R 4.2.2, lme4 1.1-31: f <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = lmerControl("bobyqa",
# optCtrl = list(rhoend = 1e-11, maxfun = 1e5))), three times updated from getME(f, "theta");
# predict(f, ...)[c(1, 5, 100)]
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"fixed": False}, [2.25856539767, 39.05445289543, 112.54490525911]),
        ({"random": DAYS_ONLY}, [251.405104848, 330.070136185, 423.265231407]),
        ({"random": "~(0+Days|Subject)"}, [251.405104848, 330.070136185, 423.265231407]),
        ({"random": {"Subject": "Days"}}, [251.405104848, 330.070136185, 423.265231407]),
        ({"random": "(1 | Subject)"}, [253.663670246, 295.532814085, 380.501030822]),
        ({"random": {"Subject": ["Intercept"]}}, [253.663670246, 295.532814085, 380.501030822]),
        ({"random": ["(1 | Subject)"], "fixed": False}, [2.25856539767, 2.25856539767, 34.89035233728]),
    ],
)
def test_parts_are_those_of_lme4(sleep: bl.REMLResult, arguments: dict[str, Any], expected: list[float]) -> None:
    estimate = sleep.predict(**arguments)["estimate"].iloc[ROWS]
    np.testing.assert_allclose(estimate, expected, rtol=1e-6)
    new = bl.load_dataset("sleepstudy").iloc[ROWS]
    np.testing.assert_allclose(sleep.predict(new, **arguments)["estimate"], expected, rtol=1e-6)


def test_crossed_factors_as_in_lme4(penicillin: bl.REMLResult) -> None:
    # predict(p, re.form = ~ (1 | sample))[1:3], the same with random.only = TRUE.
    by_sample = [25.1592801890, 21.9617460730, 24.9101216865]
    np.testing.assert_allclose(penicillin.predict(random="(1 | sample)")["estimate"][:3], by_sample, rtol=1e-7)
    np.testing.assert_allclose(penicillin.predict(random=["sample"])["estimate"][:3], by_sample, rtol=1e-7)
    only = penicillin.predict(random="sample", fixed=False)["estimate"][:3]
    np.testing.assert_allclose(only, [2.18705796677, -1.01047614921, 1.93789946423], rtol=1e-6)


def test_parts_add_up(sleep: bl.REMLResult) -> None:
    whole = sleep.predict()["estimate"]
    fixed = sleep.predict(random=None)["estimate"]
    parts = [sleep.predict(random=term, fixed=False)["estimate"] for term in ("(1 | Subject)", DAYS_ONLY)]
    np.testing.assert_allclose(fixed + parts[0] + parts[1], whole, rtol=1e-12)
    everything = pd.DataFrame(sleep.predict(random="(Days | Subject)"))
    assert everything.equals(pd.DataFrame(sleep.predict()))
    assert everything.equals(pd.DataFrame(sleep.predict(random=["(1 | Subject)", {"x": DAYS_ONLY}["x"]])))


@pytest.mark.parametrize(("random", "fixed"), [(DAYS_ONLY, True), ("(1 | Subject)", True), ("all", False)])
def test_errors_are_those_of_the_mixed_model_equations(sleep: bl.REMLResult, random: str, fixed: bool) -> None:
    data = bl.load_dataset("sleepstudy")
    days, subject = data["Days"].to_numpy(float), pd.factorize(data["Subject"], sort=True)[0]
    T = np.array([[sleep.theta[0], 0.0], [sleep.theta[1], sleep.theta[2]]])
    Z = np.zeros((180, 36))
    Z[np.arange(180), 2 * subject], Z[np.arange(180), 2 * subject + 1] = 1.0, days
    W = np.column_stack([np.ones(180), days, Z])
    penalty = np.zeros((38, 38))
    penalty[2:, 2:] = np.kron(np.eye(18), np.linalg.inv(T @ T.T))
    covariance = np.linalg.inv(W.T @ W + penalty) * sleep.sigma**2
    kept = {DAYS_ONLY: [0.0, 1.0], "(1 | Subject)": [1.0, 0.0], "all": [1.0, 1.0]}[random]
    row = (W * [fixed, fixed, *np.tile(kept, 18)])[ROWS]
    expected = np.sqrt(np.einsum("ij,jk,ik->i", row, covariance, row))
    found = sleep.predict(random=random, fixed=fixed)["std_error"].iloc[ROWS]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_draws_have_the_same_parts(posterior: bl.Posterior) -> None:
    data = posterior.data["posterior"]
    beta, b = np.asarray(data["beta"]), np.asarray(data["b_Subject"])
    subject = posterior.design.groupings["Subject"].codes
    days = posterior.design.X[:, 1]
    draws = posterior.predict_draws(random=DAYS_ONLY).to_numpy()
    expected = beta @ posterior.design.X.T + days * b[..., subject, 1]
    np.testing.assert_allclose(draws, expected, rtol=1e-12)
    only = posterior.predict_draws(random=DAYS_ONLY, fixed=False).to_numpy()
    np.testing.assert_allclose(only, days * b[..., subject, 1], rtol=1e-12, atol=1e-12)
    table = posterior.predict(random={"Subject": ["Days"]})
    np.testing.assert_allclose(table["estimate"], expected.mean((0, 1)), rtol=1e-12)


def test_new_levels_have_only_the_effects_asked_for(sleep: bl.REMLResult) -> None:
    at = pd.DataFrame({"Days": [7.0], "Subject": ["new"]})
    error = sleep.predict(at, random=DAYS_ONLY, new_levels="sample")["std_error"][0]
    fixed = sleep.predict(at, random=None)["std_error"][0]
    sd = sleep.varcorr().set_index("effect1")["sdcor"].iloc[1]
    np.testing.assert_allclose(error, np.hypot(fixed, 7.0 * sd), rtol=1e-10)


def test_the_random_part_needs_no_columns_of_the_fixed_part(crossed: pd.DataFrame) -> None:
    fit = bl.Model("y ~ f + log(x + 9) + offset(0.1 * x) + (1 | g)", crossed).fit()
    found = fit.predict(pd.DataFrame({"g": [3, 5, 0]}), fixed=False)["estimate"]
    np.testing.assert_allclose(found, fit.ranef()["g"]["Intercept"].iloc[[3, 5, 0]], rtol=1e-12)
    with pytest.raises(DesignError, match="no column 'f', 'x'"):
        fit.predict(pd.DataFrame({"g": [3]}))


def test_effects_of_factors_are_named_by_their_terms(crossed: pd.DataFrame) -> None:
    fit = bl.Model("y ~ f + (f | g)", crossed).fit(on_failure="ignore")
    b = fit.ranef()["g"]
    rows = crossed.iloc[[1, 12, 2]]
    found = fit.predict(rows, random="(1 | g)", fixed=False)["estimate"]
    np.testing.assert_allclose(found, b["Intercept"].iloc[rows["g"]], rtol=1e-12)
    contrasts = [b.loc[str(g), f"f[{f}]"] if f != "a" else 0.0 for g, f in zip(rows["g"], rows["f"], strict=True)]
    found = fit.predict(rows, random={"g": ["f[b]", "f[c]"]}, fixed=False)["estimate"]
    np.testing.assert_allclose(found, contrasts, rtol=1e-12)
    with pytest.raises(DesignError, match=r"does not have: 'f\[a\]'"):
        fit.predict(rows, random="(0 + f | g)")


@pytest.mark.parametrize(
    ("random", "message"),
    [
        ("(0 + Dayz | Subject)", "Dayz"),
        ("(1 | Person)", "'Person', which is no grouping factor"),
        ("(1 | Subject", "cannot be read as random terms"),
        ("Days | Subject) + x", "cannot be read as random terms"),
        ({"Subject": ["Day"]}, "does not have: 'Day'"),
        ({"Person": ["Days"]}, "'Person', which is no grouping factor"),
        ({"Subject": 3}, "names of its effects"),
        ({"Subject": [1]}, "names of its effects"),
        ({3: ["Days"]}, "no grouping factor"),
        (["Subject", 3], "random"),
        (3, "random"),
    ],
)
def test_other_parts_are_refused(sleep: bl.REMLResult, random: Any, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        sleep.predict(random=random)


def test_an_observation_has_a_fixed_part(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="kind='mean'"):
        sleep.predict(kind="observation", fixed=False)
    with pytest.raises(DesignError, match="neither True nor False"):
        sleep.predict(fixed="no")  # type: ignore[arg-type]


# --- levels that the data did not have -------------------------------------------------------------------------------


def test_new_levels_of_a_grouping_factor(penicillin: bl.REMLResult) -> None:
    at = pd.DataFrame({"plate": ["a", "new", "b"], "sample": ["A", "A", "Z"]}, index=["p", "q", "r"])
    missing = penicillin.predict(at, new_levels="missing")
    assert missing.isna().all(axis=1).tolist() == [False, True, True]
    assert missing.index.tolist() == ["p", "q", "r"]
    known = pd.DataFrame(penicillin.predict(at.iloc[:1]))
    assert pd.DataFrame(missing).iloc[:1].equals(known)
    population = pd.DataFrame(penicillin.predict(at, new_levels="population"))
    assert population.equals(pd.DataFrame(penicillin.predict(at, new_levels="zero")))
    b = penicillin.ranef()
    expected = penicillin.fixef()["Intercept"] + [
        b["plate"].loc["a"].iloc[0] + b["sample"].loc["A"].iloc[0],
        b["sample"].loc["A"].iloc[0],
        b["plate"].loc["b"].iloc[0],
    ]
    np.testing.assert_allclose(population["estimate"], expected, rtol=1e-12)
    # Only factors that are part of the prediction have to be known.
    assert penicillin.predict(at, new_levels="missing", random="sample").isna().all(axis=1).tolist() == [
        False,
        False,
        True,
    ]
    assert not penicillin.predict(at, new_levels="missing", random=None).isna().to_numpy().any()
    observed = penicillin.predict(at, kind="observation", new_levels="missing")
    assert observed.isna().all(axis=1).tolist() == [False, True, True]


def test_new_levels_beside_missing_values(penicillin: bl.REMLResult) -> None:
    at = pd.DataFrame({"plate": ["new", None, "a"], "sample": ["A", "A", "B"]})
    with pytest.warns(bl.BayesLMMWarning, match="missing plate: 1"):
        found = penicillin.predict(at, new_levels="missing")
    assert found.isna().all(axis=1).tolist() == [True, True, False]


def test_draws_at_new_levels_can_be_missing(posterior: bl.Posterior) -> None:
    at = pd.DataFrame({"Days": [1.0, 2.0], "Subject": ["308", "new"]})
    draws = posterior.predict_draws(at, new_levels="missing").to_numpy()
    assert np.isnan(draws[..., 1]).all() and not np.isnan(draws[..., 0]).any()
    assert posterior.predict(at, new_levels="missing").isna().all(axis=1).tolist() == [False, True]


@pytest.mark.parametrize("contrasts", ["treatment", "sum", "helmert"])
def test_unknown_levels_of_a_fixed_factor_as_zeros(crossed: pd.DataFrame, contrasts: str) -> None:
    fit = bl.Model("y ~ f * x + (1 | g)", crossed, contrasts={"f": contrasts}).fit()
    at = pd.DataFrame({"f": ["z", "b"], "x": [2.0, 2.0], "g": [1, 1]})
    with pytest.raises(DesignError, match="new_fixed_levels='zero'"):
        fit.predict(at)
    found = fit.predict(at, new_fixed_levels="zero")
    beta = fit.fixef()
    expected = beta["Intercept"] + 2.0 * beta["x"] + fit.ranef()["g"].iloc[1, 0]
    np.testing.assert_allclose(found["estimate"][0], expected, rtol=1e-12)
    known = pd.DataFrame(fit.predict(at.iloc[1:]))
    np.testing.assert_allclose(pd.DataFrame(found).iloc[1:], known, rtol=1e-12)


@pytest.mark.parametrize(
    "term", ["C(f, Sum)", "factor(f)", "relevel(f, 'b')", "dummy(f)", "S(f, 'a')", "ordered(f)", "f"]
)
def test_unknown_levels_in_calls_as_zeros(crossed: pd.DataFrame, term: str) -> None:
    fit = bl.Model(f"y ~ x + {term} + (1 | g)", crossed).fit()
    at = pd.DataFrame({"f": ["z", "a", "c"], "x": [0.5, 0.0, 0.0], "g": [2, 2, 2]})
    found = fit.predict(at, random=None, new_fixed_levels="zero")["estimate"]
    beta = fit.fixef()
    np.testing.assert_allclose(found[0], beta["Intercept"] + 0.5 * beta["x"], rtol=1e-12)
    np.testing.assert_allclose(found[1:], fit.predict(at.iloc[1:], random=None)["estimate"], rtol=1e-12)


def test_unknown_numbers_as_levels(crossed: pd.DataFrame) -> None:
    data = crossed.assign(k=np.tile([10, 20, 30, 40], 15))
    fit = bl.Model("y ~ C(k) + (1 | g)", data).fit()
    at = pd.DataFrame({"k": [20, 25], "g": [0, 0]})
    with pytest.raises(DesignError, match="25"):
        fit.predict(at)
    found = fit.predict(at, random=None, new_fixed_levels="zero")["estimate"]
    beta = fit.fixef()
    np.testing.assert_allclose(found, [beta["Intercept"] + beta["C(k)[20]"], beta["Intercept"]], rtol=1e-12)


def test_unknown_levels_without_intercept_and_left_of_a_bar(crossed: pd.DataFrame) -> None:
    fit = bl.Model("y ~ 0 + f + (0 + f || g)", crossed).fit(on_failure="ignore")
    found = fit.predict(pd.DataFrame({"f": ["z"], "g": [3]}), new_fixed_levels="zero")
    assert found["estimate"].tolist() == [0.0]
    post = bl.Model("y ~ f + (1 | g)", crossed).sample(100, random_seed=1)
    at = pd.DataFrame({"f": ["z", "a"], "g": [3, 3]})
    table = post.predict(at, new_fixed_levels="zero")
    assert table["estimate"][0] == table["estimate"][1]


def test_choices_are_named(sleep: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match="'error', 'sample', 'zero', 'population' or 'missing'"):
        sleep.predict(new_levels="nan")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="'error' or 'zero'"):
        sleep.predict(new_fixed_levels="missing")  # type: ignore[arg-type]
