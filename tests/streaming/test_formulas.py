"""All that formulas can do, from chunks: the same columns, coefficients, predictions as in memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.likelihood import cross_products, kernels
from tests.streaming.chunked import chunked, one_by_one, parts, same_criterion


@cache
def data(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    c = np.r_[np.arange(40), rng.integers(0, 40, n - 40)]
    frame = pd.DataFrame({"x": rng.normal(1, 2, n), "a": c // 5, "b": c % 5, "h": rng.integers(0, 6, n)})
    frame["z"] = np.round(rng.gamma(2.0, 3.0, n), 1)
    frame["g"] = np.r_[np.arange(12), rng.integers(0, 12, n - 12)]
    frame["day"] = rng.integers(0, 4, n)
    frame["f"] = rng.choice(["low", "high", "mid"], n)
    frame["o"] = pd.Categorical(rng.choice(["s", "m", "l"], n), ["s", "m", "l"], ordered=True)
    frame["name"] = np.array([f"s{k:02d}" for k in range(12)], dtype=object)[frame["g"]]
    frame["true"] = rng.random(n) < 0.4
    frame["k"], frame["w"] = (frame["g"] % 3).astype(float), rng.uniform(0.2, 4.0, n)
    frame["count"], frame["se"] = rng.integers(0, 4, n), rng.uniform(0.5, 1.5, n)
    effect = rng.normal(size=12)[frame["g"]] + rng.normal(size=6)[frame["h"]] + rng.normal(size=40)[c]
    frame["y"] = 20 + frame["x"] + 0.2 * frame["z"] + effect + (frame["f"] == "mid") + rng.normal(size=n)
    frame["year"] = 2000 + frame["day"] + 1e6
    return frame


FORMULAS: dict[str, tuple[str, dict[str, Any]]] = {
    "slopes": ("y ~ x + (x | g)", {}),
    "text groups": ("y ~ x + (x | name)", {}),
    "no intercept": ("y ~ 0 + x + (0 + x | g)", {}),
    "two terms": ("y ~ x + (1 | g) + (0 + x | g)", {}),
    "uncorrelated": ("y ~ x + (x || g)", {}),
    "factor": ("y ~ f * x + (1 | g)", {}),
    "ordered factor": ("y ~ o + (1 | g)", {}),
    "true or false": ("y ~ true * x + (1 | g)", {}),
    "factor left of the bar": ("y ~ f + (0 + f | g)", {}),
    "compound symmetry": ("y ~ f + cs(0 + f | g)", {}),
    "autoregressive": ("y ~ day + ar1(0 + factor(day) | g)", {}),
    "structure as argument": ("y ~ o + (0 + o | g)", {"cov": {"g": bl.HeterogeneousCompoundSymmetry()}}),
    "contrasts": ("y ~ f + (1 | g)", {"contrasts": {"f": "sum"}}),
    "interaction of factors": ("y ~ f:o + (1 | g)", {}),
    "nested": ("y ~ x + (1 | a/b)", {}),
    "combination": ("y ~ x + (1 | a:b)", {}),
    "three factors": ("y ~ x + (1 | a:b:h)", {}),
    "crossed": ("y ~ x + (x | g) + (1 | h)", {}),
    "nested and crossed": ("y ~ x + (x | a/b) + (1 | h)", {"store": "hierarchy"}),
    "a chain of three": ("y ~ x + (1 | a) + (1 | a:b) + (1 | a:b:h)", {"store": "hierarchy"}),
    "crossed as a hierarchy": ("y ~ x + (x | g) + (1 | h)", {"store": "hierarchy"}),
    "elementwise functions": ("log(y + 100) ~ log(z + 1) + I(x**2) + (1 | g)", {}),
    "scale": ("y ~ scale(x) + (scale(x) | g)", {}),
    "center": ("y ~ center(x) * f + (1 | g)", {}),
    "scaled response": ("scale(y) ~ x + (1 | g)", {}),
    "mean inside": ("y ~ I(x - mean(x)) + I(z > median(z)) + (1 | g)", {}),
    "polynomial": ("y ~ poly(z, 3) + (1 | g)", {}),
    "splines": ("y ~ ns(z, df=3) + bs(x, df=5) + (1 | g)", {}),
    "knots": ("y ~ bs(x, knots=[0, 2]) + (1 | g)", {}),
    "factor of a number": ("y ~ factor(day) + C(h, Sum) + (1 | g)", {}),
    "own function": ("y ~ twice(x) + (1 | g)", {"extra_namespace": {"twice": lambda x: 2.0 * x}}),
    "offset": ("y ~ x + offset(0.1 * z) + offset(x) + (1 | g)", {}),
    "rank deficient": ("y ~ x + I(2 * x) + f + I(f == 'mid') + (1 | g)", {}),
    "constant columns": ("y ~ x + I(0 * x + 3) + (1 | g)", {}),
    "constant within levels": ("y ~ x + k + (1 + k | g)", {}),
    "far from zero": ("I(y + 1e9) ~ year + (year | g)", {}),
    "weights": ("y ~ x + (x | g)", {"weights": "w"}),
    "weights of an expression": ("y ~ x + (x | g)", {"weights": "1 / (1 + z)"}),
    "weights and a hierarchy": ("y ~ x + (x | a/b) + (1 | h)", {"weights": "w", "store": "hierarchy"}),
    "frequency": ("y ~ scale(x) + (x | g)", {"frequency": "count"}),
    "frequency and weights": ("y ~ x + (1 | g) + (1 | h)", {"frequency": "count", "weights": "w"}),
    "known standard errors": ("y ~ x + (1 | g)", {"residual_sd": "se"}),
    "a dot": ("y ~ . - f - o - name - true + (1 | g)", {}),
    "no fixed effects": ("y ~ 0 + (1 | g) + (1 | h)", {}),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_criterion_names_and_estimates(name: str) -> None:
    formula, arguments = FORMULAS[name]
    one = cross_products(build_design(formula, data(), **arguments))
    other = chunked(formula, parts(data(), 4), most=110, **arguments)
    same_criterion(one, other)
    design, streamed = one.design, other.design
    assert (streamed.fixed_names, streamed.aliased) == (design.fixed_names, design.aliased)
    assert [term.effects for term in streamed.terms] == [term.effects for term in design.terms]
    assert [term.structure for term in streamed.terms] == [term.structure for term in design.terms]
    for factor, grouping in design.groupings.items():
        assert streamed.groupings[factor].levels == grouping.levels
    assert (streamed.n, streamed.n_observations) == (design.n, design.n_observations)
    assert streamed.formula == design.formula


@pytest.mark.parametrize("name", ["slopes", "factor", "nested and crossed", "polynomial", "frequency", "far from zero"])
def test_a_row_at_a_time(name: str) -> None:
    formula, arguments = FORMULAS[name]
    same_criterion(cross_products(build_design(formula, data(), **arguments)), one_by_one(formula, data(), **arguments))


@pytest.mark.parametrize(
    "name",
    ["slopes", "factor", "scale", "splines", "polynomial", "factor of a number", "own function", "rank deficient"],
)
def test_predictions_for_new_rows_without_the_old_ones(name: str) -> None:
    formula, arguments = FORMULAS[name]
    new = data().iloc[:30].assign(x=lambda d: d["x"] + 0.1)
    one = bl.Model(formula, data(), **arguments).fit()
    other = bl.Model(formula, parts(data(), 4), memory=0, **arguments).fit()
    np.testing.assert_allclose(other.predict(new), one.predict(new), rtol=1e-7)
    np.testing.assert_allclose(other.fixef(), one.fixef(), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(other.theta, one.theta, rtol=1e-5, atol=1e-7)


def test_rows_with_missing_values_are_counted_and_numbered() -> None:
    frame = data().reset_index(drop=True).copy()
    frame.loc[[3, 5, 390], "x"] = np.nan
    frame.loc[[5, 7], "f"] = None
    frame.loc[11, "w"] = 0.0
    one = bl.Model("y ~ x + f + (1 | g)", frame, weights="w")
    chunks = [frame.iloc[:100], frame.iloc[100:380], frame.iloc[380:]]
    other = bl.Model("y ~ x + f + (1 | g)", chunks, weights="w")
    assert str(other.dropped) == str(one.dropped)
    assert other.dropped.labels == one.dropped.labels
    assert other.dropped.reasons == one.dropped.reasons
    same_criterion(one.cross_products, other.cross_products)


def test_a_level_that_comes_in_the_last_chunk_only() -> None:
    frame = data().sort_values(["g", "f"])
    chunks = [frame.iloc[:100], frame.iloc[100:250], frame.iloc[250:]]
    same_criterion(
        bl.Model("y ~ f * x + (x | g)", frame).cross_products, chunked("y ~ f * x + (x | g)", chunks, most=90)
    )


def test_many_levels_without_compiled_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_compiled", lambda: None)
    for name in ("slopes", "crossed", "constant within levels", "weights"):
        formula, arguments = FORMULAS[name]
        one = cross_products(build_design(formula, data(), **arguments))
        same_criterion(one, chunked(formula, parts(data(), 4), most=110, **arguments))


# Rounding of the sums, magnified by the polynomials that draws are made from; that of two grouping factors has more
# coefficients. Rows in another order in memory are further off (whole draws change places).
@pytest.mark.parametrize(("name", "share"), [("slopes", 1e-5), ("crossed", 1e-3)])
def test_draws_are_those_of_rows_in_memory(name: str, share: float) -> None:
    formula, arguments = FORMULAS[name]
    settings = {"draws": 200, "random_seed": 3, "progressbar": False}
    one = bl.Model(formula, data(), **arguments).sample(**settings)
    other = bl.Model(formula, parts(data(), 4), **arguments).sample(**settings)
    for variable, values in one.data["posterior"].data_vars.items():
        drawn = other.data["posterior"][variable].to_numpy()
        np.testing.assert_allclose(drawn, values, atol=share * float(np.abs(values).max()))
