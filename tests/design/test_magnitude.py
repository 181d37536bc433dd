"""Responses and columns of any size: the same model in another unit, or a word about the unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.rank import independent_columns
from bayeslmm.errors import DesignError

SIZES = [1e-130, 1e-100, 1e-60, 1e60, 1e100, 1e130]


def frame() -> pd.DataFrame:
    return bl.load_dataset("sleepstudy").assign(one=1.0)


@pytest.mark.parametrize("size", [1e-200, 1e-165, 1e-80, 1e80, 1e155, 1e200])
def test_columns_of_any_size_are_independent_or_not_as_they_were(size: float) -> None:
    x = np.random.default_rng(1).normal(size=50)
    X = np.column_stack([np.ones(50), x * size, x**2 / size, 2 * x * size, x**3])
    assert independent_columns(X).tolist() == [0, 1, 2, 4]
    tall = np.tile(X, (200, 1))
    assert independent_columns(tall).tolist() == [0, 1, 2, 4]
    assert independent_columns(tall[:, [0, 1, 2, 4]]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("formula", ["y ~ x + (1 | Subject)", "y ~ x + (x | Subject)"])
def test_a_predictor_in_another_unit(formula: str, size: float) -> None:
    data = frame().assign(x=lambda d: d["Days"], y=lambda d: d["Reaction"])
    fit = bl.Model(formula, data).fit()
    other = bl.Model(formula, data.assign(x=data["x"] * size)).fit()
    assert other.status.ok
    np.testing.assert_allclose(other.fixef().to_numpy(), fit.fixef().to_numpy() / [1.0, size], rtol=1e-9)
    assert other.sigma == pytest.approx(fit.sigma, rel=1e-9)
    # REML: the determinant of X'V^-1X is in squares of the unit.
    assert other.criterion - 2 * np.log(size) == pytest.approx(fit.criterion, abs=1e-8)
    theirs, ours = other.optimum.terms[0], fit.optimum.terms[0]
    np.testing.assert_allclose(theirs[-1] * (size if len(theirs) > 1 else 1.0), ours[-1], rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("formula", ["y ~ Days + (Days | Subject)", "y ~ Days + (1 | Subject) + offset(o)"])
def test_a_response_in_another_unit(formula: str, size: float) -> None:
    data = frame().assign(y=lambda d: d["Reaction"], o=lambda d: 0.1 * d["Days"])
    fit = bl.Model(formula, data).fit()
    other = bl.Model(formula, data.assign(y=data["y"] * size, o=data["o"] * size)).fit()
    assert other.status.ok
    np.testing.assert_allclose(other.theta, fit.theta, rtol=1e-6)
    np.testing.assert_allclose(other.fixef().to_numpy(), size * fit.fixef().to_numpy(), rtol=1e-9)
    assert other.sigma == pytest.approx(size * fit.sigma, rel=1e-9)
    nu = len(data) - 2
    assert other.criterion - 2 * nu * np.log(size) == pytest.approx(fit.criterion, abs=1e-9 * abs(other.criterion))
    ours, theirs = (one.ranef()["Subject"].to_numpy() for one in (fit, other))
    np.testing.assert_allclose(theirs, size * ours, rtol=1e-6, atol=1e-9 * size)


@pytest.mark.parametrize("formula", ["Reaction ~ Days + (Days | Subject)", "Reaction ~ Days + (1 | Subject) + (1 | k)"])
def test_many_responses_each_in_a_unit_of_its_own(formula: str) -> None:
    data = frame().assign(k=np.arange(180) % 7)
    fit = bl.Model(formula, data).fit()
    sizes = np.array([1e-130, 1.0, 1e130, 1e-80, 1e5])
    many = fit.refit_many(data["Reaction"].to_numpy()[:, None] * sizes)
    assert many.ok.all()
    np.testing.assert_allclose(many.optima.sigma, fit.sigma * sizes, rtol=1e-7)
    np.testing.assert_allclose(many.optima.theta, np.tile(fit.theta, (5, 1)), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(many.optima.beta, np.outer(sizes, fit.fixef()), rtol=1e-7)
    nu = 178
    np.testing.assert_allclose(many.optima.criterion - 2 * nu * np.log(sizes), fit.criterion, rtol=1e-8)


@pytest.mark.parametrize("size", [1e-200, 1e160, 1e200])
@pytest.mark.parametrize(
    ("formula", "what"),
    [
        ("Reaction ~ x + (1 | Subject)", "The fixed-effects column x reaches"),
        ("Reaction ~ Days + (0 + x | Subject)", "The column x of "),
        ("x ~ one + (1 | Subject)", "The response x reaches"),
        ("Reaction ~ Days + offset(x) + (1 | Subject)", "The sum of the offsets reaches"),
    ],
)
def test_a_size_without_squares_is_said(formula: str, what: str, size: float) -> None:
    data = frame().assign(x=lambda d: size * (d["Days"] + 1.0))
    with pytest.raises(DesignError, match="divide it by") as error:
        bl.Model(formula, data)
    assert what in str(error.value)
    assert f"{10 * size:.3g}" in str(error.value)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_a_new_response_without_squares_is_said(size: float) -> None:
    data = frame()
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()
    y = size * data["Reaction"].to_numpy()
    with pytest.raises(DesignError, match="The new response"):
        fit.refit(y)
    with pytest.raises(DesignError, match="The new response in column 1"):
        fit.refit_many(np.column_stack([data["Reaction"], y]))


def test_zeros_are_no_size() -> None:
    data = frame().assign(zero=0.0)
    fit = bl.Model("Reaction ~ Days + zero + (1 | Subject)", data).fit()
    assert "zero" not in fit.fixef().index
