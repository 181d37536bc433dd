"""What must not change, and what must change in a known way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayeslmm as bl
from bayeslmm.reml import FitStatus
from bayeslmm.teaching import dense_criterion

FORMULA = "y ~ x + (x | g)"


def frame(seed: int, n: int = 60, spread: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 8, n), rng.normal(size=n)
    y = 2 + x + spread * (rng.normal(size=8)[g] + 0.5 * x * rng.normal(size=8)[g]) + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g})


seeds = st.integers(0, 10_000)


@given(seeds)
def test_row_order_and_labels_do_not_matter(seed: int) -> None:
    data = frame(seed)
    fit = bl.Model(FORMULA, data).fit()
    order = np.random.default_rng(seed).permutation(len(data))
    moved = data.iloc[order].assign(g=lambda d: "level " + (97 - d["g"]).astype(str))
    again = bl.Model(FORMULA, moved).fit()
    assert again.criterion == pytest.approx(fit.criterion, rel=1e-10)
    np.testing.assert_allclose(again.varcorr()["vcov"], fit.varcorr()["vcov"], rtol=1e-4, atol=1e-7)


@given(seeds, st.floats(-1e4, 1e4), st.sampled_from([1e-8, 1e-3, 7.0, 1e8]))
def test_response_moves_and_scales(seed: int, shift: float, scale: float) -> None:
    data = frame(seed)
    fit = bl.Model(FORMULA, data).fit()
    moved = bl.Model(FORMULA, data.assign(y=scale * (shift + data["y"]))).fit()
    assert moved.sigma == pytest.approx(scale * fit.sigma, rel=1e-7)
    np.testing.assert_allclose(moved.theta, fit.theta, atol=1e-5)
    assert moved.is_singular == fit.is_singular
    expected = scale * (fit.fixef().to_numpy() + np.array([shift, 0.0]))
    np.testing.assert_allclose(moved.fixef(), expected, rtol=1e-6, atol=1e-6 * scale * (1 + abs(shift)))


@given(seeds, st.floats(-1e5, 1e5), st.sampled_from([1e-8, 0.1, 1e8]))
def test_predictor_moves_and_scales(seed: int, shift: float, scale: float) -> None:
    data = frame(seed)
    fit = bl.Model(FORMULA, data).fit()
    moved = bl.Model(FORMULA, data.assign(x=scale * (data["x"] + shift))).fit()
    # REML knows the unit of X: log |X'V^-1 X| changes by twice the log of the scale
    assert moved.criterion == pytest.approx(fit.criterion + 2 * np.log(scale), rel=1e-7)
    assert moved.sigma == pytest.approx(fit.sigma, rel=1e-4)
    assert moved.is_singular == fit.is_singular
    assert moved.fixef()["x"] == pytest.approx(fit.fixef()["x"] / scale, rel=1e-4, abs=1e-4 / scale)


def test_order_of_terms_does_not_matter() -> None:
    data = frame(3).assign(h=np.arange(60) % 5)
    one = bl.Model("y ~ x + (x | g) + (1 | h)", data).fit()
    two = bl.Model("y ~ x + (1 | h) + (x | g)", data).fit()
    assert one.criterion == pytest.approx(two.criterion, rel=1e-12)


def test_repeated_rows_of_a_weighted_fit() -> None:
    # rows that occur k times with the same random part are one row of weight k, up to the within-row constant
    data = frame(4)
    doubled = bl.Model(FORMULA, data, weights=np.full(60, 2.0)).fit()
    single = bl.Model(FORMULA, data).fit()
    assert doubled.sigma == pytest.approx(np.sqrt(2) * single.sigma, rel=1e-8)
    assert doubled.criterion == pytest.approx(single.criterion, rel=1e-10)


def test_offset_of_a_billion_in_the_response() -> None:
    data = frame(5)
    fit = bl.Model(FORMULA, data).fit()
    moved = bl.Model(FORMULA, data.assign(y=data["y"] + 2.0**30)).fit()
    # adding 2^30 rounds y to 2^-23, a relative change of 1e-7
    assert moved.sigma == pytest.approx(fit.sigma, rel=1e-6)


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.ConvergenceWarning")
def test_perfect_fit_is_a_finding() -> None:
    data = frame(6).assign(y=lambda d: 1.0 + 2.0 * d["x"])
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    assert fit.status is FitStatus.non_finite and "reproduces the response" in str(fit.status)


def test_perfect_fit_warns_or_raises() -> None:
    data = frame(6).assign(y=lambda d: 1.0 * d["g"])
    model = bl.Model("y ~ 1 + (1 | g)", data)
    assert model.fit(on_failure="ignore").status is FitStatus.non_finite
    with pytest.raises(bl.FitError, match="y ~ 1"):
        model.fit(on_failure="raise")


@given(seeds)
def test_boundary_is_a_minimum(seed: int) -> None:
    data = frame(seed, spread=0.0)
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    if fit.is_singular:
        assert fit.theta[0] == 0.0 and fit.optimum.vanished[0].slope >= 0
        assert fit.status is FitStatus.converged_at_boundary
    profile = fit.profile("sd_g", np.linspace(0, 2 * fit.sigma, 9))["criterion"]
    assert (profile >= fit.criterion - 1e-8).all()


def test_extreme_imbalance() -> None:
    rng = np.random.default_rng(0)
    g = np.r_[np.zeros(500, int), np.arange(1, 12)]
    data = pd.DataFrame({"g": g, "y": rng.normal(size=511) + rng.normal(size=12)[g]})
    fit = bl.Model("y ~ 1 + (1 | g)", data).fit()
    expected = dense_criterion(fit.matrices())
    assert fit.criterion == pytest.approx(expected, rel=1e-11)
