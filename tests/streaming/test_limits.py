"""What chunks cannot do is said, and what is too much for memory is found otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.likelihood import cross_products, derivatives, evaluate, level_sums
from bayeslmm.likelihood.criteria import evaluated_with_slopes
from bayeslmm.streaming import state
from tests.streaming.chunked import chunked, parts, same_criterion
from tests.streaming.test_formulas import data


@pytest.mark.parametrize(
    ("formula", "arguments", "words"),
    [
        ("y ~ x + (1 | g)", {"weights": np.ones(400)}, "name that: weights='name'"),
        ("y ~ x + (1 | g)", {"weights": "w / mean(w)"}, "looks at all rows at once"),
        ("y ~ x + (1 | g)", {"residual": "ar1(day | g)"}, "read the rows into a data frame"),
        ("y ~ x + (1 | g)", {"na_action": "exclude"}, "Use 'drop'"),
        ("y ~ x + (1 | g)", {"weights": "10.0 ** (5 * (h == 0)) * w"}, "outweigh the others"),
        ("y ~ less(x) + (1 | g)", {"extra_namespace": {"less": lambda x: x - x.mean()}}, "among other rows|left out"),
        ("y ~ x + v + (1 | g)", {"extra_namespace": {"v": np.ones(400)}}, "one value for each row"),
        ("y ~ x + (1 | g)", {"memory": "much"}, "memory='2 GB'"),
    ],
)
def test_refused_with_what_to_do(formula: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(bl.DesignError, match=words):
        bl.Model(formula, parts(data(), 3), **arguments)


def test_arguments_of_chunks_are_refused_for_tables() -> None:
    with pytest.raises(bl.DesignError, match="a table in memory"):
        bl.Model("y ~ x + (1 | g)", data(), memory="2 GB")


@pytest.mark.parametrize("term", ["scale(x)", "center(x)", "bs(x, knots=[0, 2])", "I(x - mean(x))", "I(x > 1)"])
def test_columns_of_too_many_values_to_be_counted(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_DISTINCT", 50)
    formula = f"y ~ {term} + (1 | g)"
    one, other = cross_products(build_design(formula, data())), chunked(formula, parts(data(), 4), most=100)
    same_criterion(one, other)
    assert other.design.fixed_names == one.design.fixed_names


def test_a_distribution_of_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_DISTINCT", 50)
    with pytest.raises(bl.DesignError, match="knots= in place of df="):
        chunked("y ~ ns(x, df=3) + (1 | g)", parts(data(), 4))


def test_effects_that_take_too_much_memory_are_not_stored() -> None:
    model = bl.Model("y ~ x + (x | g)", parts(data(), 3), memory="10 kB")
    with pytest.warns(bl.BayesLMMWarning, match=r"keep=\['g'\] stores them"):
        posterior = model.sample(draws=100, random_seed=1, progressbar=False)
    assert "b_g" not in posterior.data["posterior"]
    kept = model.sample(draws=100, random_seed=1, progressbar=False, keep=["g"])
    assert kept.data["posterior"]["b_g"].shape[-2:] == (12, 2)


@pytest.mark.parametrize("formula", ["y ~ x + z + (x | g)", "y ~ x + (x + z | g)", "y ~ 1 + (0 + x | g)"])
def test_loops_over_levels_are_arrays_over_them(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    g = rng.integers(0, 900, 9_000)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=g.size), "z": rng.normal(size=g.size)})
    frame["y"] = frame["x"] + rng.normal(size=900)[g] + rng.normal(size=g.size)
    cp = cross_products(build_design(formula, frame))
    c = cp.blocks[0].size
    T = np.tril(rng.normal(size=(7, c, c)))
    at = evaluate(cp, [T], keep=True)
    first = derivatives(cp, [T], at)
    monkeypatch.setattr(level_sums, "_LONG", 1)
    cp = cross_products(build_design(formula, frame))
    looped, traces, squares = evaluated_with_slopes(cp, [T])
    assert looped.first is None
    for name in ("log_det", "log_det_fixed", "r2", "solution"):
        np.testing.assert_allclose(getattr(looped, name), getattr(at, name), rtol=1e-11)
    np.testing.assert_allclose(traces[0], first.traces[0], rtol=1e-11, atol=1e-11 * np.abs(first.traces[0]).max())
    np.testing.assert_allclose(squares[0], first.squares[0], rtol=1e-11, atol=1e-11 * np.abs(first.squares[0]).max())
