"""A column called ``a:b`` beside the cells of a and b: two factors, told apart everywhere."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.formula import parse_formula


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": np.repeat(list("pqrs"), 45), "b": np.tile(list("xyz"), 60)})
    frame["a:b"] = rng.permutation(np.repeat(list("0123456789"), 18))
    frame["plain"] = frame["a:b"]
    cells = frame.a.astype(str) + frame.b
    effects = pd.Series(rng.normal(size=12), index=sorted(cells.unique()))
    other = pd.Series(2.0 * rng.normal(size=10), index=list("0123456789"))
    frame["y"] = effects[cells].to_numpy() + other[frame["a:b"]].to_numpy() + 0.5 * rng.normal(size=180)
    return frame


@pytest.fixture(scope="module")
def fits(data):
    return (
        bl.Model("y ~ 1 + (1 | `a:b`) + (1 | a:b)", data).fit(),
        bl.Model("y ~ 1 + (1 | plain) + (1 | a:b)", data).fit(),
    )


def test_fits_are_those_of_a_column_with_another_name(fits):
    own, other = fits
    assert list(own.design.groupings) == ["`a:b`", "a:b"]
    assert [g.n_levels for g in own.design.groupings.values()] == [10, 12]
    assert own.criterion == other.criterion
    assert own.estimates().tolist() == other.estimates().tolist()
    assert own.estimates().index.tolist()[:2] == ["sd_`a:b`[Intercept]", "sd_a:b[Intercept]"]
    assert len(own.varcorr()) == len(other.varcorr())


def test_effects_predictions_and_files(fits, data, tmp_path):
    own, other = fits
    assert own.ranef()["`a:b`"].equals(other.ranef()["plain"])
    assert own.ranef()["a:b"].equals(other.ranef()["a:b"])
    new = data.sample(20, random_state=1)
    assert own.predict(new).equals(other.predict(new))
    assert own.predict(new, random=["`a:b`"]).equals(other.predict(new, random=["plain"]))
    assert own.confint(parameters="sd_`a:b`[Intercept]").to_numpy().tolist() == (
        other.confint(parameters="sd_plain[Intercept]").to_numpy().tolist()
    )
    own.save(tmp_path / "own.npz")
    again = bl.load(tmp_path / "own.npz")
    assert again.estimates().equals(own.estimates())
    assert again.predict(new).equals(own.predict(new))


def test_posteriors_and_pymc(fits, data, tmp_path):
    models = [bl.Model(f"y ~ 1 + (1 | {name}) + (1 | a:b)", data) for name in ("`a:b`", "plain")]
    own, other = (model.sample(100, random_seed=1, progressbar=False) for model in models)
    assert own.table().to_numpy().tolist() == other.table().to_numpy().tolist()
    own.save(tmp_path / "own.zarr")
    assert bl.load(tmp_path / "own.zarr").table().equals(own.table())
    names = [{v.name for v in model.to_pymc().free_RVs} for model in models]
    assert len(names[0]) == len(names[1])
    assert {name.replace("plain", "`a:b`") for name in names[1]} == names[0]
    compile(models[0].pymc_source(), "source", "exec")


def test_names_change_only_where_they_would_be_one():
    groups = [
        [bar.group for bar in parse_formula(f"y ~ 1 + {text}").bars]
        for text in (
            "(1 | `a:b`) + (x | `a:b`)",
            "(1 | a:b) + (x | a:b)",
            "(1 | `a:b`:c) + (1 | a:`b:c`) + (1 | a:b:c)",
            "(1 | `a:b`/c)",
        )
    ]
    assert groups == [["a:b", "a:b"], ["a:b", "a:b"], ["`a:b`:c", "a:`b:c`", "a:b:c"], ["a:b", "a:b:c"]]
