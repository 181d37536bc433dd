"""Estimates of balanced designs in closed form, against searches on the dense criterion and what is no such design."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayeslmm as bl
from bayeslmm.likelihood import parameters as par
from bayeslmm.teaching.criterion import dense_criterion


def one_factor(rng: np.random.Generator, levels: int, rows: int, sds: tuple[float, float]) -> pd.DataFrame:
    """Intercepts and slopes of levels with the same x, and a covariate that differs within levels alone."""
    g, x = np.repeat(np.arange(levels), rows), np.tile(np.linspace(0, 3, rows), levels)
    z = np.tile(rng.normal(size=rows), levels)
    b = rng.normal(size=(levels, 2)) * sds
    return pd.DataFrame({"y": b[g, 0] + b[g, 1] * x + 0.3 * z + rng.normal(size=g.size), "x": x, "z": z, "g": g})


def crossed(rng: np.random.Generator, sds: tuple[float, float]) -> pd.DataFrame:
    """Two crossed factors with two rows in every cell."""
    a, b, _ = (axis.ravel() for axis in np.meshgrid(np.arange(6), np.arange(4), np.arange(2), indexing="ij"))
    y = sds[0] * rng.normal(size=6)[a] + sds[1] * rng.normal(size=4)[b] + rng.normal(size=a.size)
    return pd.DataFrame({"y": y, "a": a, "b": b, "z": np.tile([0.0, 1.0], 24)})


def nested(rng: np.random.Generator, sds: tuple[float, float]) -> pd.DataFrame:
    """Pupils in classes in schools: 5 x 3 x 2 levels with three rows each."""
    school, cl, pupil, _ = (
        axis.ravel() for axis in np.meshgrid(np.arange(5), np.arange(3), np.arange(2), np.arange(3), indexing="ij")
    )
    cl, pupil = school * 3 + cl, (school * 3 + cl) * 2 + pupil
    y = sds[1] * rng.normal(size=5)[school] + sds[0] * rng.normal(size=15)[cl] + rng.normal(size=school.size)
    return pd.DataFrame({"y": y, "s": school, "c": cl, "p": pupil, "z": np.tile([0.0, 1.0, 3.0], 30)})


MAKERS = {"one": lambda rng, sds: one_factor(rng, 9, 6, sds), "crossed": crossed, "nested": nested}


def lowest(model: bl.Model, reml: bool, seeds: int) -> float:
    """The lowest dense criterion that searches without derivatives reach from random points."""
    k = model.design.n_theta
    rng = np.random.default_rng(1)

    def value(theta: np.ndarray) -> float:
        return dense_criterion(model.matrices(theta=theta, sigma=1.0), reml)

    options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 3000, "maxfev": 3000}
    found = [minimize(value, rng.normal(size=k), method="Nelder-Mead", options=options) for _ in range(seeds)]
    return min(result.fun for result in found)


CASES = [
    ("y ~ x + (x | g)", "one", (2.0, 1.0), True),
    ("y ~ x + (x | g)", "one", (2.0, 1.0), False),
    ("y ~ x + z + (x | g)", "one", (1.0, 0.5), True),
    ("y ~ x + (x | g)", "one", (1.5, 0.0), True),
    ("y ~ x + (x | g)", "one", (0.0, 0.0), True),
    ("y ~ x + z + (1 | g)", "one", (1.0, 0.0), True),
    ("y ~ 1 + (1 | a) + (1 | b)", "crossed", (1.0, 2.0), True),
    ("y ~ z + (1 | a) + (1 | b)", "crossed", (1.0, 0.0), True),
    ("y ~ 1 + (1 | a) + (1 | b)", "crossed", (0.0, 0.0), True),
    ("y ~ 1 + (1 | c) + (1 | s)", "nested", (1.0, 2.0), True),
    ("y ~ z + (1 | s/c)", "nested", (0.0, 1.0), True),
    ("y ~ 1 + (1 | p) + (1 | c) + (1 | s)", "nested", (1.0, 0.0), True),
    ("y ~ 1 + (1 | p) + (1 | c) + (1 | s)", "nested", (0.0, 0.0), True),
]


@pytest.mark.parametrize(("formula", "kind", "sds", "reml"), CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_is_the_minimum_of_the_dense_criterion(
    formula: str, kind: str, sds: tuple[float, float], reml: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    model = bl.Model(formula, MAKERS[kind](rng, sds))
    assert par.only_minimum(model.cross_products, reml) is not None
    fit = model.fit(reml)
    assert fit.criterion <= lowest(model, reml, 1) + 1e-7
    assert fit.criterion == pytest.approx(dense_criterion(model.matrices(theta=fit.theta, sigma=1.0), reml), abs=1e-8)


def test_mean_squares_of_the_analysis_of_variance() -> None:
    """Variances of a balanced crossed design above zero are differences of mean squares (Henderson's method I)."""
    data = crossed(np.random.default_rng(4), (2.0, 3.0))
    y, cells = data["y"], data.groupby(["a", "b"])["y"]
    a, b, mean = data.groupby("a")["y"].mean(), data.groupby("b")["y"].mean(), y.mean()
    squares_a, squares_b = 8 * ((a - mean) ** 2).sum(), 12 * ((b - mean) ** 2).sum()
    residual = (((y - mean) ** 2).sum() - squares_a - squares_b) / (48 - 1 - 5 - 3)
    fit = bl.Model("y ~ 1 + (1 | a) + (1 | b)", data).fit()
    assert cells.size().eq(2).all()
    assert fit.sigma**2 == pytest.approx(residual, rel=1e-10)
    expected = [(squares_a / 5 - residual) / 8, (squares_b / 3 - residual) / 12]
    assert list((fit.theta * fit.sigma) ** 2) == pytest.approx(expected, rel=1e-9)


def unbalanced() -> list[tuple[str, pd.DataFrame]]:
    rng = np.random.default_rng(5)
    one, two, three = one_factor(rng, 9, 6, (1.0, 1.0)), crossed(rng, (1.0, 1.0)), nested(rng, (1.0, 1.0))
    return [
        ("y ~ x + (x | g)", one.iloc[1:]),
        ("y ~ 1 + (x | g)", one),
        ("y ~ x + w + (x | g)", one.assign(w=one["g"] % 2)),
        ("y ~ x + (x || g)", one),
        ("y ~ 1 + (1 | a) + (1 | b)", two.iloc[1:]),
        ("y ~ a + (1 | a) + (1 | b)", two),
        ("y ~ 1 + (z | a) + (1 | b)", two),
        ("y ~ 1 + (1 | c) + (1 | s)", three.iloc[1:]),
        ("y ~ 1 + (1 | c) + (1 | s)", three[three["c"] > 0]),
        ("y ~ w + (1 | c) + (1 | s)", three.assign(w=three["c"] % 2)),
        ("y ~ 1 + (1 | c) + (1 | s) + (1 | z)", three),
    ]


@pytest.mark.parametrize(("formula", "data"), unbalanced())
def test_other_designs_have_none(formula: str, data: pd.DataFrame) -> None:
    cp = bl.Model(formula, data).cross_products
    assert par.only_minimum(cp, True) is None


def test_weights_offsets_and_known_sigma() -> None:
    data = one_factor(np.random.default_rng(6), 9, 6, (1.0, 1.0))
    alike = bl.Model("y ~ x + (x | g)", data, weights=np.tile([1.0, 2.0, 1.0, 4.0, 1.0, 1.0], 9))
    assert par.only_minimum(alike.cross_products, True) is not None
    assert alike.fit().criterion <= lowest(alike, True, 2) + 1e-7
    unlike = bl.Model("y ~ x + (x | g)", data, weights=1.0 + np.arange(54.0))
    assert par.only_minimum(unlike.cross_products, True) is None
    known = bl.Model("y ~ x + (x | g)", data)._with_sigma(1.0)
    assert par.only_minimum(known.cross_products, True) is None
