"""Residuals by kind, leverages and Cook's distances: lme4's numbers, and least squares in the limit of no variance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError

LME4: dict[str, Any] = json.loads((Path(__file__).parent / "influence_lme4.json").read_text())
# At lme4's own theta only the rounding of the twelve printed digits is between us.
SAME_THETA = 1e-9


def models() -> dict[str, bl.Model]:
    sleep, w = bl.load_dataset("sleepstudy"), np.resize([0.5, 1.0, 2.0, 1.5], 180)
    return {
        "sleepstudy": bl.Model("Reaction ~ Days + (Days | Subject)", sleep),
        "crossed": bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")),
        "weighted": bl.Model("Reaction ~ Days + (1 | Subject)", sleep, weights=w),
    }


@pytest.mark.parametrize("case", ["sleepstudy", "crossed", "weighted"])
def test_lme4_has_the_same_numbers(case: str) -> None:
    reference = LME4[case]
    fit = models()[case].fit(fix={"theta": reference["theta"]})
    ours = {
        "hat": fit.leverage(),
        "pearson": fit.residuals("pearson"),
        "scaled": fit.residuals("pearson", scaled=True),
        "rstudent": fit.residuals("standardised"),
        "cooks": fit.cooks_distance(),
    }
    for name, values in ours.items():
        expected = np.array(reference[name], dtype=float)
        np.testing.assert_allclose(values, expected, rtol=SAME_THETA, atol=SAME_THETA * np.abs(expected).max())
        assert list(values.index) == list(fit.design.index)


def test_without_a_variance_they_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=20)
    frame = pd.DataFrame({"y": 1 + x + rng.normal(size=20), "x": x, "g": np.tile(list("abcd"), 5)})
    fit = bl.Model("y ~ x + (1 | g)", frame).fit(fix={"g": [0.0]})
    X = np.column_stack([np.ones(20), x])
    h = np.diagonal(X @ np.linalg.solve(X.T @ X, X.T))
    e = frame["y"] - X @ np.linalg.lstsq(X, frame["y"])[0]
    s = np.sqrt(e @ e / 18)
    np.testing.assert_allclose(fit.leverage(), h, rtol=1e-12)
    np.testing.assert_allclose(fit.leverage("fixed"), h, rtol=1e-12)
    np.testing.assert_allclose(fit.residuals("standardised"), e / (s * np.sqrt(1 - h)), rtol=1e-10)
    np.testing.assert_allclose(fit.residuals("marginal", scaled=True), e / s, rtol=1e-10)
    np.testing.assert_allclose(fit.cooks_distance(), e**2 * h / (2 * s**2 * (1 - h) ** 2), rtol=1e-9)
    # The closed form of least squares is deletion itself.
    influence = fit.influence(theta="fixed")
    np.testing.assert_allclose(influence.cooks_d, fit.cooks_distance(), rtol=1e-9)


def test_kinds_differ_by_what_they_are_measured_by() -> None:
    fit = models()["weighted"].fit()
    w = np.resize([0.5, 1.0, 2.0, 1.5], 180)
    raw = fit.residuals()
    np.testing.assert_allclose(raw + fit.fitted(), fit.design.y)
    np.testing.assert_allclose(fit.residuals("pearson"), np.sqrt(w) * raw)
    np.testing.assert_allclose(fit.residuals("raw", scaled=True), raw / fit.sigma)
    np.testing.assert_allclose(fit.residuals("marginal"), fit.design.y - fit.design.X @ fit.fixef())
    V = np.asarray(fit.matrices().V)
    scaled = fit.residuals("marginal") / np.sqrt(np.diagonal(V))
    np.testing.assert_allclose(fit.residuals("marginal", scaled=True), scaled, rtol=1e-10)


def test_rows_written_out_have_the_leverage_of_the_row_that_stands_for_them() -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"y": rng.normal(size=30), "x": rng.normal(size=30), "g": np.tile(list("abcde"), 6)})
    frame["f"] = rng.integers(1, 4, 30)
    copies = frame.loc[frame.index.repeat(frame["f"])].reset_index(drop=True)
    short = bl.Model("y ~ x + (1 | g)", frame, frequency="f").fit()
    long = bl.Model("y ~ x + (1 | g)", copies).fit()
    for ours, theirs in (
        (short.leverage(), long.leverage()),
        (short.residuals("standardised"), long.residuals("standardised")),
    ):
        np.testing.assert_allclose(np.repeat(ours, frame["f"]), theirs, rtol=1e-8)


def test_wrong_calls_say_what_there_is() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    with pytest.raises(
        DesignError, match=r"'raw', 'pearson', 'standardised', 'marginal' or 'normalized'. Did you mean 'standard"
    ):
        fit.residuals("standardized")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="neither True nor False"):
        fit.residuals(scaled="yes")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="'all' or 'fixed'"):
        fit.leverage("random")  # type: ignore[arg-type]


def test_without_residual_there_is_no_scale() -> None:
    frame = pd.DataFrame({"y": [1.0, 1.0, 2.0, 2.0, 5.0, 5.0], "g": list("aabbcc")})
    fit = bl.Model("y ~ 1 + (1 | g)", frame).fit(on_failure="ignore")
    assert np.abs(fit.residuals()).max() < 1e-6
    if fit.sigma == 0:
        with pytest.raises(FitError, match="no scale"):
            fit.residuals("standardised")


def test_those_of_a_posterior_are_those_of_the_fit_where_data_are_many() -> None:
    rng = np.random.default_rng(9)
    frame = pd.DataFrame({"g": np.repeat(np.arange(60), 20), "x": rng.normal(size=1200)})
    frame["y"] = frame["x"] + rng.normal(size=60)[frame["g"]] + rng.normal(size=1200)
    w = np.resize([0.5, 1.0, 2.0], 1200)
    model = bl.Model("y ~ x + (1 | g)", frame, weights=w)
    fit, post = model.fit(), model.sample(2000, random_seed=1)
    for kind in ("raw", "pearson", "standardised", "marginal"):
        for scaled in (False, True):
            one, two = fit.residuals(kind, scaled=scaled), post.residuals(kind, scaled=scaled)
            # Posterior sd of sigma is 2 % of it, of what is fitted some hundredths.
            np.testing.assert_allclose(two, one, atol=0.05, rtol=0.05)
            assert (one.name, list(one.index)) == (two.name, list(two.index))
    np.testing.assert_allclose(post.residuals("pearson"), np.sqrt(w) * post.residuals())
