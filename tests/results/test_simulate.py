"""Simulated responses against the dense covariance, exact arithmetic and explicit predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

SLEEP = "Reaction ~ Days + (Days | Subject)"
AT = {"beta": {"Intercept": 100, "Days": 7}, "sd": {"Subject": [20, 5]}, "corr": 0.3, "sigma": 12}


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model(SLEEP, bl.load_dataset("sleepstudy")).fit()


def dense_moments(frame: pd.DataFrame, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the responses at AT, written down from the model."""
    Z = np.column_stack([np.ones(len(frame)), frame["Days"]])
    G = np.array([[400.0, 0.3 * 100], [0.3 * 100, 25.0]])
    same = frame["Subject"].to_numpy()[:, None] == frame["Subject"].to_numpy()
    return Z @ [100.0, 7.0], same * (Z @ G @ Z.T) + np.diag(
        144.0 / (np.ones(len(frame)) if weights is None else weights)
    )


def assert_moments(Y: np.ndarray, mean: np.ndarray, V: np.ndarray) -> None:
    """Whitened responses have mean 0 and covariance I, within Monte Carlo bands of a normal sample."""
    K = Y.shape[1]
    W = np.linalg.solve(np.linalg.cholesky(V), Y - mean[:, None])
    assert np.abs(W.mean(1)).max() < 5.0 / np.sqrt(K)
    S = W @ W.T / K
    assert np.abs(np.diag(S) - 1).max() < 5.0 * np.sqrt(2.0 / K)
    assert np.abs(S - np.diag(np.diag(S))).max() < 5.5 / np.sqrt(K)


def test_moments_at_given_parameters(sleep: bl.REMLResult) -> None:
    frame = bl.load_dataset("sleepstudy").iloc[:40]
    Y = sleep.simulate(4000, 1, **AT).to_numpy()[:40]
    assert_moments(Y, *dense_moments(frame))


def test_moments_on_new_rows_with_weights_and_offset(sleep: bl.REMLResult) -> None:
    new = pd.DataFrame(
        {"Days": [0, 3, 12, 1, 1], "Subject": ["308", "308", "new", "new", "other"], "w": [1, 4, 2, 0.5, 1]}
    )
    Y = sleep.simulate(6000, 2, newdata=new, weights="w", offset=[1, 2, 3, 4, 5], **AT).to_numpy()
    mean, V = dense_moments(new, new["w"].to_numpy())
    assert_moments(Y, mean + np.arange(1.0, 6.0), V)


def test_one_seed_one_law(sleep: bl.REMLResult) -> None:
    """The estimates, stated in full, are what is simulated from by default."""
    e = sleep.estimates()
    Y = sleep.simulate(50, 3)
    stated = sleep.simulate(
        50, 3, beta=e[["Intercept", "Days"]], sd=e[[k for k in e.index if k.startswith("sd_")]],
        corr=e["corr_Subject[Intercept.Days]"], sigma=e["sigma"],
    )  # fmt: skip
    np.testing.assert_allclose(stated, Y, rtol=1e-10)
    np.testing.assert_allclose(sleep.simulate(50, 3, theta=sleep.theta), Y, rtol=1e-10)
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    pd.testing.assert_frame_equal(model.simulate(50, 3), Y)


def test_sigma_alone_leaves_standard_deviations(sleep: bl.REMLResult) -> None:
    quiet = sleep.simulate(3, 4, sigma=1e-9).to_numpy()
    noise = np.random.default_rng(4)
    noise.standard_normal((180, 3))
    T, Z = sleep.optimum.terms[0] * sleep.sigma, sleep.design.terms[0].Z
    # The factor of a covariance is made again from sds and the correlation: lower triangular, as theta's.
    b = [noise.standard_normal((18, 3))[sleep.design.groupings["Subject"].codes] for _ in range(2)]
    expected = sleep.design.X @ sleep.fixef().to_numpy()
    np.testing.assert_allclose(quiet, expected[:, None] + sum((Z @ T)[:, a, None] * b[a] for a in (0, 1)), rtol=1e-7)


def test_given_effects_leave_residuals_only(sleep: bl.REMLResult) -> None:
    Y = sleep.simulate(3000, 5, random="all").to_numpy()
    W = (Y - sleep.fitted().to_numpy()[:, None]) / sleep.sigma
    assert_moments(W[:30], np.zeros(30), np.eye(30))
    at = pd.DataFrame({"Days": [2.0], "Subject": ["310"]})
    exact = sleep.simulate(1, 6, newdata=at, random="Subject", sigma=1e-9).iloc[0, 0]
    assert exact == pytest.approx(sleep.predict(at)["estimate"].iloc[0], abs=1e-6)
    typical = sleep.simulate(1, 6, newdata=at[["Days"]], random=None, sigma=1e-9).iloc[0, 0]
    assert typical == pytest.approx(sleep.predict(at, random=None)["estimate"].iloc[0], abs=1e-6)


def test_effects_of_one_factor_given_and_of_the_other_drawn() -> None:
    fit = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    Y = fit.simulate(4000, 7, random="sample", sigma=1e-6).to_numpy()
    known = fit.predict(random="sample")["estimate"].to_numpy()
    drawn = Y - known[:, None]
    plates = fit.design.groupings["plate"].codes
    np.testing.assert_allclose(drawn, drawn[np.unique(plates, return_index=True)[1]][plates], atol=1e-4)
    sd = fit.estimates()["sd_plate[Intercept]"]
    assert drawn[0].std() == pytest.approx(sd, rel=5 / np.sqrt(2 * 4000))


def test_new_levels_of_given_effects(sleep: bl.REMLResult) -> None:
    at = pd.DataFrame({"Days": [2.0, 2.0], "Subject": ["310", "x"]})
    with pytest.raises(bl.DesignError, match="'x'"):
        sleep.simulate(newdata=at, random="all")
    Y = sleep.simulate(2, 1, newdata=at, random="all", new_levels="zero", sigma=1e-9).to_numpy()
    np.testing.assert_allclose(Y[1], sleep.fixef().to_numpy() @ [1.0, 2.0], atol=1e-6)
    Y = sleep.simulate(4000, 1, newdata=at, random="all", new_levels="sample", **AT).to_numpy()
    z = np.array([1.0, 2.0])
    G = np.array([[400.0, 30.0], [30.0, 25.0]])
    assert Y[1].var() == pytest.approx(z @ G @ z + 144.0, rel=5 * np.sqrt(2 / 4000))
    assert Y[0].var() == pytest.approx(144.0, rel=5 * np.sqrt(2 / 4000))


def test_missing_values_in_new_rows(sleep: bl.REMLResult) -> None:
    at = pd.DataFrame({"Days": [2.0, np.nan], "Subject": ["310", "310"]}, index=["a", "b"])
    with pytest.warns(bl.BayesLMMWarning, match="without responses"):
        Y = sleep.simulate(2, 1, newdata=at)
    assert list(Y.index) == ["a", "b"]
    assert Y.loc["b"].isna().all()
    assert Y.loc["a"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sd": {"Subjekt": 1}}, "Did you mean"),
        ({"beta": {"Dayz": 1}}, "'Days'"),
        ({"sd": [1]}, "the model has 2"),
        ({"sd": {"Subject": [1, 2, 3]}}, "'Subject' has 2"),
        ({"sd": {"Subject[Days]": -1}}, "0 or more"),
        ({"corr": 1.5}, "-1 to 1"),
        ({"sigma": 0}, "positive"),
        ({"sigma": 1, "sd": {"Residual": 2}}, "sigma is given twice"),
        ({"theta": [1, 0, 1], "sd": [1, 2]}, "not both"),
        ({"theta": [1, 0]}, "^theta has the shape"),
        ({"offset": [1, 2]}, "180 rows"),
        ({"weights": [0] + [1] * 179}, "positive numbers"),
        ({"random": "Item"}, "no grouping factor"),
    ],
)  # fmt: skip
def test_refusals(sleep: bl.REMLResult, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(bl.DesignError, match=says):
        sleep.simulate(**arguments)


def test_correlations_that_no_covariance_has() -> None:
    fit = bl.Model("score ~ Machine + (Machine | Worker)", bl.load_dataset("Machines")).fit()
    with pytest.raises(bl.DesignError, match="No covariance has the correlations"):
        fit.simulate(corr=[0.9, 0.9, -0.9])


def test_a_label_with_and_without_prefix_and_by_group(sleep: bl.REMLResult) -> None:
    given = [{"sd_Subject[Days]": 3}, {"Subject[Days]": 3}, {"Subject": {"Days": 3}}]
    first, *others = (sleep.simulate(1, 1, sd=sd) for sd in given)
    for other in others:
        pd.testing.assert_frame_equal(first, other)
