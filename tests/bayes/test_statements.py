"""Statements: what is printed is what is run, for single expressions and for whole PyMC models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bayeslmm as bl
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.presets import default_priors
from bayeslmm.bayes.priors import (
    Chi,
    Flat,
    Gamma,
    HalfNormal,
    InverseGammaVariance,
    Power,
    Relative,
    Uniform,
)
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.bayes.pymc_source import write_pymc_source
from bayeslmm.bayes.pymc_statements import arrays_of
from bayeslmm.bayes.statements import Binary, Statement, Symbol, printed, run
from bayeslmm.design.design import Design
from bayeslmm.likelihood import NormalPrior

pytest.importorskip("pymc")

Make = Callable[..., Design]


def expressions() -> st.SearchStrategy[Any]:
    leaves = st.one_of(st.sampled_from([Symbol("a"), Symbol("b")]), st.integers(1, 9).map(float))
    return st.recursive(
        leaves, lambda inner: st.builds(Binary, st.sampled_from(["+", "-", "*", "/"]), inner, inner), max_leaves=8
    )


@given(expressions())
def test_python_reads_what_is_printed_as_it_is_run(expression: Any) -> None:
    names: dict[str, Any] = {"a": 1.7, "b": 0.3}
    run([Statement("found", expression)], names)
    assert names["found"] == eval(printed(expression), {}, {"a": 1.7, "b": 0.3}) or names["found"] != names["found"]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ((Symbol("a") ** 2) ** Symbol("b"), "(a ** 2) ** b"),
        ((Symbol("a") + Symbol("b")).T, "(a + b).T"),
        ((Symbol("a") - (Symbol("b") - 1.0)) * 2, "(a - (b - 1.0)) * 2"),
        (Symbol("a")[:, None] @ Symbol("b")[1:3, 0], "a[:, None] @ b[1:3, 0]"),
        (Symbol("a").f('x\n"', [1.5], k=np.array([2.0]), n=None), 'a.f("x\\n\\"", [1.5], k=[2.0])'),
        (np.array([2.0]) * Symbol("a"), "np.array([2.0]) * a"),
        (Symbol("a").f(("g",), [Symbol("b"), Symbol("c")[[0, 1]]]), 'a.f(("g",), [b, c[[0, 1]]])'),
    ],
)
def test_texts(expression: Any, text: str) -> None:
    assert printed(expression) == text


def test_dunder_names_are_no_expressions() -> None:
    with pytest.raises(AttributeError):
        Symbol("a").__wrapped__  # noqa: B018


def assert_same_model(built: Any, source: str, names: dict[str, Any]) -> None:
    space = dict(names)
    exec(source, space)
    found = space["model"]
    assert [v.name for v in found.free_RVs] == [v.name for v in built.free_RVs]
    assert list(found.named_vars) == list(built.named_vars)
    assert [p.name for p in found.potentials] == [p.name for p in built.potentials]
    assert found.named_vars_to_dims == built.named_vars_to_dims
    assert {k: list(v) for k, v in found.coords.items()} == {k: list(v) for k, v in built.coords.items()}
    log_found, log_built = (m.compile_logp(mode="FAST_COMPILE") for m in (found, built))
    rng, start = np.random.default_rng(4), built.initial_point()
    assert {k: v.tolist() for k, v in found.initial_point().items()} == {k: v.tolist() for k, v in start.items()}
    for _ in range(2):
        point = {name: np.asarray(v + 0.4 * rng.normal(size=np.shape(v))) for name, v in start.items()}
        assert float(log_found(point)) == pytest.approx(float(log_built(point)), rel=1e-13)


def given_arrays(design: Design) -> dict[str, Any]:
    """What a source asks for; a frame with the columns that it reads off."""
    columns = {name: design.X[:, k] for k, name in enumerate(design.fixed_names) if name != "Intercept"}
    for term in design.terms:
        columns |= {name: term.Z[:, k] for k, name in enumerate(term.effects) if name != "Intercept"}
    for name, grouping in design.groupings.items():
        columns |= {
            part: [grouping.levels[c].split(":")[i] for c in grouping.codes] for i, part in enumerate(name.split(":"))
        }
    return arrays_of(design, make_layout(design)) | {"df": pd.DataFrame({**columns, design.response: design.y})}


CASES: dict[str, tuple[str, Any]] = {
    "crossed": ("crossed", {"g": "centered", "h": "noncentered"}),
    "nested": ("nested", "noncentered"),
    "two terms of a factor": ("repeated effect", "noncentered"),
    "uncorrelated, centred": ("uncorrelated", "centered"),
    "structures": ("all structures", {"g": "centered", "h": "noncentered"}),
}


@pytest.mark.parametrize("name", CASES)
def test_printed_models_are_the_built_ones(name: str, design: Make) -> None:
    kind, form = CASES[name]
    data = design(kind, weights=True, offset=True, fixed=() if kind == "nested" else ("Intercept", "x"))
    priors = default_priors(data)
    assert_same_model(build_pymc_model(data, priors, form), write_pymc_source(data, priors, form), given_arrays(data))


FAMILIES = [
    ((InverseGammaVariance(0.5, 0.2), InverseGammaVariance(2.0, 1.0)), InverseGammaVariance(1.0, 1.0)),
    ((Power(1.0), Power(0.5)), Power(-1.0)),
    ((Flat(), Gamma(2.0, 0.0)), Gamma(2.0, 0.0)),
    ((Relative(Chi(3.0, 1.0)), HalfNormal(2.0)), Uniform(50.0)),
]


@pytest.mark.parametrize(("sds", "sigma"), FAMILIES, ids=str)
def test_printed_families_are_the_built_ones(sds: Any, sigma: Any, design: Make) -> None:
    data = design("slopes")
    beta = NormalPrior(np.array([0.0, 0.5]), np.array([np.inf, 0.7] if isinstance(sigma, Power) else [2.0, 0.7]))
    priors = replace(default_priors(data), sds=(sds,), sigma=sigma, beta=beta, lkj=(1.7,))
    assert_same_model(build_pymc_model(data, priors), write_pymc_source(data, priors), given_arrays(data))


def test_rows_that_count_several_times_and_labels_that_are_kept() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame(
        {"y": rng.normal(size=30), "x": rng.normal(size=30), "g": np.arange(30) % 5, "n": 1 + np.arange(30) % 3}
    )
    data.index = pd.Index(np.arange(30) + 100)
    data.loc[[104, 117], "x"] = np.nan
    model = bl.Model("y ~ x + (x || g)", data, frequency="n")
    source = model.pymc_source()
    assert '"obs": df.index' in source and '"g": ["0", "1", "2", "3", "4"]' in source
    assert_same_model(model.to_pymc(), source, {"df": data, "frequency": model.design.frequency})


def test_many_levels_are_numbered() -> None:
    data = pd.DataFrame({"y": np.random.default_rng(3).normal(size=404), "g": np.arange(404) // 4})
    model = bl.Model("y ~ 1 + (1 | g)", data)
    space: dict[str, Any] = {"df": data}
    assert '"g": range(codes_g.max() + 1)' in model.pymc_source()
    exec(model.pymc_source(), space)
    assert len(space["model"].coords["g"]) == len(model.to_pymc().coords["g"]) == 101


def test_a_structure_without_a_counterpart_is_refused_by_both(design: Make) -> None:
    class Other(type(design("slopes").terms[0].structure)):  # type: ignore[misc]
        keyword = "other"

    data = design("slopes")
    data = replace(data, terms=(replace(data.terms[0], structure=Other(2)),))
    for make in (build_pymc_model, write_pymc_source):
        with pytest.raises(bl.PriorError, match="covariance structure other has no counterpart in PyMC yet"):
            make(data, default_priors(data))
