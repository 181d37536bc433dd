"""The source text builds the model that it describes: same variables, dims and coords, same log density at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes.presets import PRESETS, default_priors
from bayeslmm.bayes.priors import Chi, Exponential, Gamma, HalfNormal, InverseGammaVariance, Power, Relative, Uniform
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.bayes.pymc_source import write_pymc_source
from bayeslmm.design.design import Design
from bayeslmm.design.names import identifiers
from bayeslmm.likelihood import NormalPrior

pm = pytest.importorskip("pymc")

Make = Callable[..., Design]
FORMULAS = {
    "slopes": "y ~ x + (x | g)",
    "nested": "y ~ x + (1 | g/k)",
    "crossed": "y ~ x * z + (1 | g) + (1 | h)",
    "terms of a factor": "y ~ x + (1 | g) + (0 + x | g) + (z || h)",
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 40
    data = pd.DataFrame({"x": rng.normal(2.0, 1.0, n), "z": rng.normal(size=n), "g": np.arange(n) % 5})
    data["h"] = pd.Categorical(rng.choice(list("cab"), n), categories=["c", "a", "b"])
    data["k"] = rng.choice(["one", "two"], n)
    data["y"] = 3 + data["x"] + rng.normal(size=5)[data["g"]] + rng.normal(size=n)
    return data


def run(source: str, names: dict[str, Any]) -> Any:
    space = dict(names)
    exec(source, space)
    return space["model"]


def assert_same_density(one: Any, two: Any) -> None:
    assert [rv.name for rv in one.free_RVs] == [rv.name for rv in two.free_RVs]
    assert list(one.named_vars) == list(two.named_vars)
    assert one.named_vars_to_dims == two.named_vars_to_dims
    assert {dim: list(labels) for dim, labels in one.coords.items()} == {
        dim: list(labels) for dim, labels in two.coords.items()
    }
    log_one, log_two = (m.compile_logp(mode="FAST_COMPILE") for m in (one, two))
    rng = np.random.default_rng(4)
    for _ in range(2):
        start = one.initial_point()
        point = {name: np.asarray(v + 0.4 * rng.normal(size=np.shape(v))) for name, v in start.items()}
        assert float(log_two(point)) == pytest.approx(float(log_one(point)), rel=1e-12)


def arrays(design: Design) -> dict[str, Any]:
    """What a source may ask for where it cannot read columns off a data frame."""
    names: dict[str, Any] = {"df": frame_of(design), "X": design.X, "y": design.y}
    for name in ("weights", "offset", "frequency"):
        names[name] = getattr(design, name)
    return names


def frame_of(design: Design) -> pd.DataFrame:
    columns = {name: design.X[:, k] for k, name in enumerate(design.fixed_names) if name != "Intercept"}
    for term in design.terms:
        columns |= {name: term.Z[:, k] for k, name in enumerate(term.effects) if name != "Intercept"}
    for name, grouping in design.groupings.items():
        for part, values in zip(name.split(":"), _parts(design, name, grouping), strict=True):
            columns[part] = values
    return pd.DataFrame({**columns, design.response: design.y})


def _parts(design: Design, name: str, grouping: Any) -> list[Any]:
    if ":" not in name:
        return [grouping.codes]
    return [np.array([grouping.levels[c].split(":")[i] for c in grouping.codes]) for i in range(2)]


@pytest.mark.parametrize("form", ["noncentered", "centered"])
@pytest.mark.parametrize("name", FORMULAS)
def test_from_the_data_frame_alone(name: str, form: Any) -> None:
    data = frame()
    model = bl.Model(FORMULAS[name], data)
    source = model.pymc_source(form=form)
    assert "have to exist" not in source
    assert_same_density(model.to_pymc(form=form), run(source, {"df": data}))


def test_arrays_that_have_to_be_given_are_listed() -> None:
    data = frame()
    model = bl.Model("y ~ np.log(x + 10) + h + (0 + h | g)", data)
    source, design = model.pymc_source(), model.design
    assert "#   X: columns" in source
    assert "#   Z_g: columns" in source
    names = {"df": data, "X": design.X, "Z_g": design.terms[0].Z}
    assert_same_density(model.to_pymc(), run(source, names))


def test_rows_with_missing_values_are_left_out() -> None:
    data = frame()
    data.loc[[3, 17], "x"] = np.nan
    model = bl.Model("y ~ x + (1 | g)", data)
    assert_same_density(model.to_pymc(), run(model.pymc_source(), {"df": data}))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset: str, design: Make) -> None:
    data = design("blocks and crossed", weights=True, offset=True)
    priors = PRESETS[preset](data)
    assert_same_density(build_pymc_model(data, priors), run(write_pymc_source(data, priors), arrays(data)))


@pytest.mark.parametrize(
    "family",
    [
        (Gamma(2.0, 0.3), Gamma(2.0, 0.0)),
        (Chi(3.0, 2.0), Chi(1.0, 0.5)),
        (InverseGammaVariance(0.5, 0.2), InverseGammaVariance(2.0, 1.0)),
        (Power(1.0), Power(0.5)),
        (Uniform(9.0), Uniform(7.0)),
        (Relative(Exponential(2.0)), Relative(Exponential(1.0))),
        (Relative(Exponential(2.0)), HalfNormal(2.0)),
    ],
    ids=str,
)
def test_families(family: Any, design: Make) -> None:
    data = design("slopes")
    beta = NormalPrior(np.array([0.0, 0.5]), np.array([np.inf, 0.7]))
    priors = replace(default_priors(data), sds=(family,), beta=beta, lkj=(1.7,))
    assert_same_density(build_pymc_model(data, priors), run(write_pymc_source(data, priors), arrays(data)))


@pytest.mark.parametrize("form", ["noncentered", "centered", {"g": "centered", "h": "noncentered"}])
def test_structures(form: Any, design: Make) -> None:
    data = design("all structures")
    priors = default_priors(data)
    assert_same_density(build_pymc_model(data, priors, form), run(write_pymc_source(data, priors, form), arrays(data)))


def test_identifiers() -> None:
    assert identifiers(["batch:cask"]) == {"batch:cask": "batch_cask"}


def test_shown_as_code_in_notebooks() -> None:
    source = bl.Model("y ~ x + (1 | g)", frame()).pymc_source()
    assert source._repr_markdown_().startswith("```python\nimport numpy")  # type: ignore[attr-defined]
