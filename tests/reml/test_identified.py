"""Models whose variances cannot be told apart are named; those that merely have a zero are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.design import Store
from bayeslmm.errors import ConvergenceWarning


def frame(n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=n), "g": rng.integers(0, 20, n), "k": rng.integers(0, 5, n)})
    data["h"] = [f"l{v}" for v in data["g"]]
    data["f"] = rng.choice(list("abc"), n)
    data["level"] = rng.normal(size=20)[data["g"]]
    data["row"] = np.arange(n)
    data["y"] = data["x"] + rng.normal(size=20)[data["g"]] + rng.normal(size=n)
    return data


RIDGES = {
    "y ~ x + (1 | g) + (x | g)": ["variance of Intercept in (1 | g)", "variance of Intercept in (x | g)"],
    "y ~ x + (1 | g) + (1 | h)": ["variance of Intercept in (1 | g)", "variance of Intercept in (1 | h)"],
    "y ~ x + (1 | g) + (1 | g)": ["variance of Intercept in (1 | g)", "variance of Intercept in (1 | g)"],
    "y ~ x + (1 | row)": ["variance of Intercept in (1 | row)", "residual variance"],
    "y ~ x + (1 | row) + (1 | g)": ["variance of Intercept in (1 | row)", "residual variance"],
    "y ~ x + (1 | g) + diag(0 + f | g) + id(0 + f | g)": [
        "variance of f[a] in diag(0 + f | g)",
        "variance of f[b] in diag(0 + f | g)",
        "variance of f[c] in diag(0 + f | g)",
        "parameter sd in id(0 + f | g)",
    ],
}
REGULAR = [
    "y ~ x + (1 | g)",
    "y ~ x + (x | g)",
    "y ~ x + (x || g) + (1 | k)",
    "y ~ x + (level | g)",
    "y ~ x + (f || g)",
    "y ~ x + (0 + f | g)",
    "y ~ x + (1 | g) + id(0 + f | g)",
    "y ~ x + ar1(0 + f | g)",
    "y ~ x + cs(0 + f | g)",
]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize("formula", list(RIDGES))
def test_a_ridge_is_named(formula: str, store: Store, reml: bool) -> None:
    model = bl.Model(formula, frame(), saturated="allow", store=store)
    with pytest.warns(ConvergenceWarning, match="only a combination is determined"):
        fit = model.fit(reml)
    assert fit.status.name == "not_identified"
    assert not fit.status.ok
    (ridge,) = fit.optimum.ridges
    assert list(ridge.parts) == RIDGES[formula]
    assert str(ridge) in " ".join(str(fit.summary()).split())


def test_the_minimum_on_a_ridge_is_that_of_the_identified_model() -> None:
    data = frame()
    with pytest.warns(ConvergenceWarning):
        both = bl.Model("y ~ x + (1 | g) + (1 | h)", data).fit()
    one = bl.Model("y ~ x + (1 | g)", data).fit()
    assert both.criterion == pytest.approx(one.criterion, rel=1e-12)
    assert (both.theta**2).sum() == pytest.approx(one.theta[0] ** 2, rel=1e-6)


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize("formula", REGULAR)
def test_an_identified_model_has_none(formula: str, store: Store) -> None:
    fit = bl.Model(formula, frame(), store=store).fit()
    assert fit.optimum.ridges == ()
    assert fit.status.name in ("converged", "converged_at_boundary")


@pytest.mark.parametrize("data", ["Dyestuff2", "Dyestuff"])
def test_a_zero_is_no_ridge(data: str) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset(data)).fit()
    assert fit.optimum.ridges == ()


def test_structure_of_nested_and_crossed_factors() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"pupil": np.arange(900) % 300, "teacher": rng.integers(0, 130, 900), "y": rng.normal(size=900)}
    )
    data["school"] = data["pupil"] // 30
    fit = bl.Model("y ~ 1 + (1 | school) + (1 | pupil) + (1 | teacher)", data).fit()
    found = fit.structure
    assert [(b.group, b.role) for b in found.blocks] == [
        ("pupil", "level by level"),
        ("school", "nested"),
        ("teacher", "dense"),
    ]
    assert (found.store, found.dense) == ("hierarchy", 131)
    assert found.cells == len(data[["pupil", "teacher"]].drop_duplicates())
    assert found.fill == found.cells / (300 * 130)
    assert "131 x 131" in str(found)
