"""Many responses at once against the same model fitted to a data frame with each of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

FORMULAS = {
    "intercepts": "y ~ x + (1 | g)",
    "slopes": "y ~ x + (x | g)",
    "diagonal": "y ~ 1 + (x || g)",
    "crossed": "y ~ x + (x | g) + (1 | h)",
    "nested": "y ~ offset(x) + (1 | h/g)",
    "shared": "y ~ x + id(x | g)",
}
# Responses are fitted apart to the same optimum; theta is determined to the root of the criterion's rounding where
# the criterion is flat.
CRITERION, THETA = 1e-11, 1e-5


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "g": rng.integers(0, 8, n),
            "h": rng.integers(0, 4, n),
            "w": rng.uniform(0.5, 2.0, n),
            "y": rng.normal(size=n),
        }
    )


def responses(data: pd.DataFrame, K: int = 24) -> np.ndarray:
    """From no variance between groups to much, so that some fits are singular, and on several scales."""
    rng = np.random.default_rng(4)
    columns = []
    for k in range(K):
        sd = 0.4 * (k % 6)
        b = rng.normal(size=(8, 2)) @ np.array([[sd, 0.0], [0.5 * sd, 0.3 * sd]]).T
        y = b[data["g"], 0] + b[data["g"], 1] * data["x"] + 0.5 * sd * rng.normal(size=4)[data["h"]]
        columns.append(10.0 ** (k % 5 - 2) * (3.0 + data["x"] + y + rng.normal(size=len(data))))
    return np.column_stack(columns)


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", list(FORMULAS))
def test_each_is_the_fit_of_its_own_data_frame(name: str, reml: bool, weights: str | None) -> None:
    data = frame()
    fit = bl.Model(FORMULAS[name], data, weights=weights).fit(reml)
    Y = responses(data)
    many = fit.refit_many(Y)
    estimates = many.estimates()
    singular = 0
    for k in range(Y.shape[1]):
        alone = bl.Model(FORMULAS[name], data.assign(y=Y[:, k]), weights=weights).fit(reml)
        assert many.criterion[k] == pytest.approx(alone.criterion, rel=CRITERION)
        np.testing.assert_allclose(many.theta[k], alone.theta, atol=THETA * (1 + np.abs(alone.theta).max()))
        assert many.sigma[k] == pytest.approx(alone.sigma, rel=THETA)
        np.testing.assert_allclose(many.fixef().loc[k], alone.fixef(), rtol=THETA, atol=THETA * alone.sigma)
        assert many.is_singular[k] == alone.is_singular
        expected = alone.estimates()
        np.testing.assert_allclose(estimates.loc[k, expected.index], expected, rtol=1e-3, atol=1e-4 * alone.sigma)
        singular += alone.is_singular
    assert 0 < singular < Y.shape[1]


def test_results_do_not_depend_on_company_or_workers() -> None:
    data = frame()
    fit = bl.Model(FORMULAS["slopes"], data).fit()
    Y = responses(data)
    together = fit.refit_many(Y)
    for other in (fit.refit_many(Y, workers=2), fit.refit_many(Y)):
        np.testing.assert_array_equal(together.theta, other.theta)
    some = fit.refit_many(Y[:, 5:9])
    np.testing.assert_allclose(some.theta, together.theta[5:9], atol=1e-9)


def test_large_designs_one_after_the_other() -> None:
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"a": rng.integers(0, 150, 600), "b": rng.integers(0, 140, 600), "y": rng.normal(size=600)})
    fit = bl.Model("y ~ 1 + (1 | a) + (1 | b)", data).fit()
    Y = rng.normal(size=(600, 3)) + rng.normal(size=(150, 3))[data["a"]]
    one, two = fit.refit_many(Y), fit.refit_many(Y, workers=2)
    np.testing.assert_array_equal(one.theta, two.theta)
    for k in range(3):
        alone = bl.Model("y ~ 1 + (1 | a) + (1 | b)", data.assign(y=Y[:, k])).fit()
        assert one.criterion[k] == alone.criterion


def test_a_perfect_fit_among_others_is_named() -> None:
    data = frame()
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    Y = responses(data, 4)
    Y[:, 2] = 1.0 + 2.0 * data["x"] + data["g"]
    many = fit.refit_many(Y)
    assert many.ok.tolist() == [True, True, False, True]
    assert "1 not converged" in repr(many)


def test_a_refit_that_fails_warns() -> None:
    data = frame()
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    with pytest.warns(bl.ConvergenceWarning, match="reproduces the response"):
        fit.refit(1.0 + 2.0 * data["x"].to_numpy() + data["g"].to_numpy())


def test_parameters_held_fixed_stay_so() -> None:
    data = frame()
    fit = bl.Model("y ~ x + (1 | g)", data).fit(fix={"g": [0.7]})
    Y = responses(data, 3)
    assert fit.refit(Y[:, 1]).theta.tolist() == [0.7]
    assert fit.refit_many(Y).theta.ravel().tolist() == [0.7] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Y: Y[:-1], r"shape \(59, 24\)"),
        (lambda Y: Y[:, 0], r"shape \(60,\)"),
        (lambda Y: np.where(Y[3, 3] == Y, np.nan, Y), "1 missing or infinite"),
        (lambda Y: Y.astype(str).astype(object) + "a", "not numeric"),
        (lambda Y: pd.DataFrame(Y, index=range(1, 61)), "another index"),
        (lambda Y: Y[:, :0], "no column"),
        (lambda Y: np.where(np.arange(24) == 5, 1.0, Y), "Column 5 of the new responses is constant"),
    ],
)
def test_bad_responses(change, message: str) -> None:  # type: ignore[no-untyped-def]
    data = frame()
    fit = bl.Model("y ~ x + (1 | g)", data).fit()
    with pytest.raises(DesignError, match=message):
        fit.refit_many(change(responses(data)))
