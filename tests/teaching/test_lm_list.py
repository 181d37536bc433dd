"""Least squares by group against NumPy on every group, R's printed numbers and exact arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress, t

import bayeslmm as bl
from bayeslmm.errors import DesignError, FormulaError


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return bl.load_dataset("sleepstudy")


@pytest.fixture(scope="module")
def ragged() -> pd.DataFrame:
    """Groups of 1 to 9 rows: too few, constant x, a factor with a level missing."""
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    data = pd.DataFrame({"g": g, "x": rng.normal(size=g.size), "w": rng.uniform(0.2, 4.0, g.size)})
    data.loc[data["g"] == 3, "x"] = 0.5
    data["f"] = np.array(list("abc"))[np.arange(g.size) % 3]
    data.loc[(data["g"] == 9) & (data["f"] == "c"), "f"] = "a"
    data["y"] = 2 + rng.normal(size=10)[g] + data["x"] * rng.normal(size=10)[g] + rng.normal(size=g.size)
    return data


def test_sleepstudy_as_in_r(sleep: pd.DataFrame) -> None:
    lines = bl.lm_list("Reaction ~ Days | Subject", sleep)
    # lmList of lme4
    printed = {"308": (244.1927, 21.764702), "309": (205.0549, 2.261785), "310": (203.4842, 6.114899)}
    for subject, (intercept, slope) in printed.items():
        assert lines.coef().loc[subject, "Intercept"] == pytest.approx(intercept, abs=5.1e-5)
        assert lines.coef().loc[subject, "Days"] == pytest.approx(slope, abs=5.1e-7)
    assert lines.sigma == pytest.approx(25.59182, abs=5e-6)
    assert lines.df == 144
    assert (lines.groups()["note"] == "").all()
    # balanced: the mean of the lines is the line of the mixed model
    fixef = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).fit().fixef()
    np.testing.assert_allclose(lines.coef().mean(), fixef, rtol=1e-8)


def test_every_group_as_linregress_has_it(sleep: pd.DataFrame) -> None:
    lines = bl.lm_list("Reaction ~ Days | Subject", sleep.iloc[:157])
    own, pooled = lines.confint(0.9, pool=False), lines.confint(0.9)
    rss = 0.0
    for subject, rows in sleep.iloc[:157].groupby("Subject", observed=True):
        ref = linregress(rows["Days"], rows["Reaction"])
        rss += ((rows["Reaction"] - ref.intercept - ref.slope * rows["Days"]) ** 2).sum()
        half = t.ppf(0.95, len(rows) - 2) * ref.stderr
        expected = [ref.slope, ref.stderr, ref.slope - half, ref.slope + half]
        np.testing.assert_allclose(own.loc[(subject, "Days")], expected, rtol=1e-9)
        assert lines.groups().loc[subject, "n"] == len(rows)
    assert lines.sigma == pytest.approx(np.sqrt(rss / (157 - 32)), rel=1e-10)
    # x is 0 .. 9: sum of squares about the mean 82.5
    half = t.ppf(0.95, 125) * np.sqrt(rss / 125 / 82.5)
    ends = pooled.loc[("308", "Days"), ["conf_low", "conf_high"]]
    np.testing.assert_allclose(ends, lines.coef().loc["308", "Days"] + np.array([-half, half]), rtol=1e-9)
    with pytest.raises(DesignError, match=r"1\.5"):
        lines.confint(1.5)


@pytest.mark.parametrize("left", ["1", "x", "0 + x", "f", "x + f", "0 + f"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ragged_groups(ragged: pd.DataFrame, left: str, weighted: bool) -> None:
    fits = bl.lm_list(f"y ~ {left} | g", ragged, weights="w" if weighted else None)
    Z = fits.design.terms[0].Z
    root = np.sqrt(ragged["w"].to_numpy()) if weighted else np.ones(len(ragged))
    rss, df = 0.0, 0
    for j in range(10):
        rows = (ragged["g"] == j).to_numpy()
        A, y = Z[rows] * root[rows, None], ragged["y"].to_numpy()[rows] * root[rows]
        b, _, rank, _ = np.linalg.lstsq(A, y, rcond=1e-10)
        rss += ((y - A @ b) ** 2).sum()
        df += rows.sum() - rank
        # a coefficient is determined if its unit vector lies in the row space
        known = np.isclose(np.diagonal(np.linalg.pinv(A, rcond=1e-10) @ A), 1.0, rtol=0.0, atol=1e-10)
        coef = fits.coef().iloc[j].to_numpy()
        assert (np.isnan(coef) == ~known).all()
        np.testing.assert_allclose(coef[known], b[known], rtol=1e-8, atol=1e-10)
        variance = np.diagonal(np.linalg.pinv(A.T @ A, rcond=1e-10))
        error = fits.std_error().iloc[j].to_numpy()
        np.testing.assert_allclose(error[known], fits.sigma * np.sqrt(variance[known]), rtol=1e-7)
        fitted = A @ b / root[rows]
        np.testing.assert_allclose(fits.residuals()[rows], ragged["y"][rows] - fitted, atol=1e-10)
        assert (fits.groups()["note"].iloc[j] == "") == (rank == Z.shape[1])
    assert fits.df == df
    assert fits.sigma == pytest.approx(np.sqrt(rss / df), rel=1e-10)


def test_notes_say_what_is_wrong(ragged: pd.DataFrame) -> None:
    lines = bl.lm_list("y ~ x | g", ragged)
    notes = lines.groups()["note"]
    assert notes["0"] == "1 row for 2 coefficients"
    assert lines.groups().loc["0", "n"] == 1
    assert "rank 1 of 2" in notes["3"]
    assert "2 without all coefficients (0: 1 row for" in repr(lines)
    assert np.isnan(lines.groups()["sigma"]["1"])
    assert lines.groups()["df"]["1"] == 0
    with np.errstate(all="raise"):
        assert lines.confint(pool=False).loc[("1", "x"), ["conf_low", "conf_high"]].isna().all()


def test_no_residual_degrees_of_freedom(ragged: pd.DataFrame) -> None:
    lines = bl.lm_list("y ~ x | g", ragged.iloc[:3])
    assert lines.df == 0
    assert np.isnan(lines.sigma)
    np.testing.assert_allclose(lines.residuals(), 0.0, atol=1e-12)


def test_far_from_zero_is_as_accurate_as_near_it() -> None:
    # y = i + j t exactly, t = 0 .. 7 at x = 2^31 + t: every number is an integer, so the truth is exact
    j, step = np.repeat(np.arange(50.0), 8), np.tile(np.arange(8.0), 50)
    data = pd.DataFrame({"g": j, "x": 2.0**31 + step, "y": j + j * step})
    slopes = bl.lm_list("y ~ x | g", data).coef()["x"]
    np.testing.assert_allclose(slopes, np.arange(50.0), rtol=1e-13, atol=1e-13)


def test_offset_missing_rows_and_combinations(ragged: pd.DataFrame) -> None:
    data = ragged.assign(o=3.0 * ragged["x"], y3=ragged["y"] + 3.0 * ragged["x"])
    plain = bl.lm_list("y ~ x | g", data)
    shifted = bl.lm_list("y3 ~ (x | g) + offset(o)", data)
    np.testing.assert_allclose(shifted.coef(), plain.coef(), atol=1e-10)
    data.loc[12, "x"] = np.nan
    holes = bl.lm_list("y ~ x | g", data)
    assert holes.design.dropped.labels == (12,)
    assert holes.groups()["n"].sum() == len(data) - 1
    cells = bl.lm_list("y ~ 1 | g:f", ragged)
    means = ragged.groupby(["g", "f"])["y"].mean()
    np.testing.assert_allclose(cells.coef()["Intercept"], means, rtol=1e-12)
    assert cells.coef().index[1] == "1:b"


@pytest.mark.parametrize(
    ("formula", "error", "found"),
    [
        ("y ~ x", FormulaError, "no bar"),
        ("y ~ x | g/f", DesignError, "2 grouping terms"),
        ("y ~ x + (1 | g)", DesignError, "Intercept, x"),
        ("y ~ 0 + (1 | g)", DesignError, "not even a 1"),
        ("y ~ x | nobody", DesignError, "nobody"),
    ],
)
def test_refused(ragged: pd.DataFrame, formula: str, error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        bl.lm_list(formula, ragged)
