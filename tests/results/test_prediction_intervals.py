"""Intervals of predictions: those of the same coefficients, and Satterthwaite's formula in balanced layouts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl


def df_of(table: pd.DataFrame) -> np.ndarray:
    """Degrees of freedom behind 95 % intervals."""
    ratio = (table["conf_high"] - table["estimate"]) / table["std_error"]
    grid = [stats.t.ppf(0.975, df) for df in (1e-1, 1e9)]
    assert ((ratio <= grid[0]) & (ratio >= grid[1] * (1 - 1e-9))).all()
    from scipy.optimize import brentq

    return np.array([brentq(lambda d, r=r: stats.t.ppf(0.975, d) - r, 0.5, 1e7, xtol=1e-12) for r in ratio])


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "residual", "z"])
def test_a_mean_has_the_interval_of_its_coefficients(ddf: str) -> None:
    data = bl.load_dataset("sleepstudy").iloc[:-7]
    cell = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit()
    at = pd.DataFrame({"Days": [0.0]})
    found = cell.predict(at, random=None, ddf=ddf, level=0.9).iloc[0]
    expected = cell.coefficients(ddf, level=0.9).loc["Intercept"]
    for name in ("estimate", "std_error", "conf_low", "conf_high"):
        assert found[name] == pytest.approx(expected[name], rel=1e-12)
    for first in (0, 1):
        f = bl.Model("score ~ 0 + Machine + (1 | Worker)", bl.load_dataset("Machines").iloc[first:]).fit()
        table = f.predict(pd.DataFrame({"Machine": ["A", "B", "C"]}), random=None, ddf=ddf)
        np.testing.assert_allclose(table, f.coefficients(ddf)[list(table.columns)], rtol=1e-10)


def test_many_rows_agree_with_few() -> None:
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy").iloc[:-7]).fit()
    days = np.linspace(-3, 20, 400)
    many = fit.predict(pd.DataFrame({"Days": days}), random=None)
    few = fit.predict(pd.DataFrame({"Days": days[::40]}), random=None)
    np.testing.assert_allclose(many.iloc[::40], few, rtol=1e-8)


@pytest.fixture(scope="module")
def dyestuff() -> tuple[bl.REMLResult, float, float]:
    """A balanced one-way layout of 6 x 5, and its mean squares."""
    data = bl.load_dataset("Dyestuff")
    means = data.groupby("Batch")["Yield"].mean()
    between = 5 * ((means - means.mean()) ** 2).sum() / 5
    within = ((data["Yield"] - data["Batch"].map(means).astype(float)) ** 2).sum() / 24
    return bl.Model("Yield ~ 1 + (1 | Batch)", data).fit(), float(between), float(within)


def classical(a: float, between: float, b: float, within: float) -> tuple[float, float]:
    """Variance ``a MSB + b MSW`` and Satterthwaite's (1946) degrees of freedom of its estimate."""
    total = a * between + b * within
    return total, total**2 / ((a * between) ** 2 / 5 + (b * within) ** 2 / 24)


@pytest.mark.parametrize(
    ("arguments", "a", "b"),
    [
        # The mean of a new batch: s^2 (1 + 1/J) + sigma^2 / (J m).
        ({"random": "new"}, (1 + 1 / 6) / 5, -1 / 5),
        # An observation in a new batch.
        ({"random": "new", "kind": "observation"}, (1 + 1 / 6) / 5, 1 - 1 / 5),
        # An observation in the typical batch.
        ({"random": None, "kind": "observation"}, 1 / 30, 1.0),
    ],
)
def test_variances_of_new_batches(
    dyestuff: tuple[bl.REMLResult, float, float], arguments: dict[str, object], a: float, b: float
) -> None:
    fit, between, within = dyestuff
    table = fit.predict(pd.DataFrame({"one": [1.0]}), **arguments)
    variance, df = classical(a, between, b, within)
    assert table["std_error"].iloc[0] == pytest.approx(np.sqrt(variance), rel=1e-8)
    assert df_of(table)[0] == pytest.approx(df, rel=1e-6)


def test_predicted_batch(dyestuff: tuple[bl.REMLResult, float, float]) -> None:
    """A batch of the data: the variance of its predicted mean is no linear function of mean squares."""
    fit, between, within = dyestuff

    def variance(B: float, W: float) -> float:
        s2, m, J = (B - W) / 5, 5, 6
        shrink = m * s2 / (m * s2 + W)
        return W / m * shrink + (1 - shrink) ** 2 * (m * s2 + W) / (m * J)

    f, step = variance(between, within), 1e-5
    slopes = [
        (variance(between * (1 + step), within) - variance(between * (1 - step), within)) / (2 * step),
        (variance(between, within * (1 + step)) - variance(between, within * (1 - step))) / (2 * step),
    ]
    table = fit.predict(pd.DataFrame({"Batch": ["A"]}))
    assert table["std_error"].iloc[0] == pytest.approx(np.sqrt(f), rel=1e-8)
    assert df_of(table)[0] == pytest.approx(f**2 / (slopes[0] ** 2 / 5 + slopes[1] ** 2 / 24), rel=1e-5)


def test_new_groups_need_no_column() -> None:
    fit = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    without = fit.predict(pd.DataFrame({"x": [0, 1]}), random="new")
    given = fit.predict(pd.DataFrame({"plate": ["a", "b"], "sample": ["A", "B"]}), random="new")
    pd.testing.assert_frame_equal(without, given)
    slopes = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    with pytest.raises(bl.DesignError, match="no column 'Days'"):
        slopes.predict(pd.DataFrame({"x": [0]}), random="new")
    with pytest.raises(bl.DesignError, match="no column 'Subject'"):
        slopes.predict(pd.DataFrame({"Days": [0]}))


def test_a_singular_fit_counts_its_zero_as_known() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    table = fit.predict(pd.DataFrame({"Batch": ["A", "new"]}), new_levels="sample")
    assert df_of(table) == pytest.approx([29.0, 29.0], rel=1e-6)


def test_refusals() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    with pytest.raises(bl.DesignError, match="ddf="):
        fit.predict(ddf="exact")
    for arguments in ({}, {"random": None, "kind": "observation"}):
        with pytest.raises(bl.DesignError, match="satterthwaite"):
            fit.predict(ddf="kenward-roger", **arguments)
