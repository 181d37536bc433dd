"""A model of another response is that of the data frame with this response, and refuses what is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

RNG = np.random.default_rng(20)
SLEEP = pd.DataFrame(bl.load_dataset("sleepstudy"))
SLEEP = SLEEP.assign(w=RNG.uniform(0.5, 2.0, 180), k=RNG.integers(1, 4, 180), o=RNG.normal(size=180))
PENICILLIN = pd.DataFrame(bl.load_dataset("Penicillin"))
HOLES = SLEEP.assign(Days=SLEEP["Days"].where(RNG.random(180) > 0.1))

CASES: list[tuple[str, pd.DataFrame, dict[str, Any]]] = [
    ("Reaction ~ Days + (Days | Subject)", SLEEP, {}),
    ("Reaction ~ Days + (1 | Subject)", SLEEP, {}),
    ("Reaction ~ Days + cs(Days | Subject)", SLEEP, {}),
    ("Reaction ~ Days + offset(o) + (Days || Subject)", SLEEP, {"weights": "w"}),
    ("Reaction ~ Days + (Days | Subject)", SLEEP, {"frequency": "k"}),
    ("Reaction ~ Days + (1 | Subject)", SLEEP.assign(w=np.where(np.arange(180) == 7, 1e9, 1.0)), {"weights": "w"}),
    ("Reaction ~ Days + (Days | Subject)", HOLES, {}),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN, {}),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", PENICILLIN, {"store": "hierarchy"}),
    ("Reaction ~ Days + (1 | Subject)", SLEEP, {"residual": "ar1(Days | Subject)"}),
    ("Reaction ~ Days", SLEEP, {"residual": "by(Subject)"}),
]


@pytest.mark.parametrize(("formula", "data", "options"), CASES)
@pytest.mark.parametrize("fitted", [False, True])
def test_is_the_model_of_the_changed_frame(
    formula: str, data: pd.DataFrame, options: dict[str, Any], fitted: bool
) -> None:
    model, name = bl.Model(formula, data, **options), formula.split()[0]
    before = model.fit() if fitted else None
    y = data[name] + 20 * np.random.default_rng(1).normal(size=len(data)) * data[name].std()
    one, other = model.with_response(y), bl.Model(formula, data.assign(**{name: y}), **options)
    assert one.design == other.design
    for reml in (True, False):
        fit, expected = one.fit(reml), other.fit(reml)
        assert fit.criterion == pytest.approx(expected.criterion, rel=1e-12)
        assert fit.theta == pytest.approx(expected.theta, rel=1e-8, abs=1e-10)
        pd.testing.assert_frame_equal(fit.coefficients(), expected.coefficients(), rtol=1e-8)
    # The model that it was asked of stays as it was.
    assert model.formula == one.formula
    if before is not None:
        assert model.fit().criterion == before.criterion
    assert model.design.y.tolist() == data.loc[list(model.design.index), name].tolist()


def test_of_values_on_the_scale_of_the_left_side() -> None:
    model = bl.Model("log(Reaction) ~ Days + (1 | Subject)", SLEEP)
    y = SLEEP["Reaction"] ** 1.5
    expected = bl.Model("log(Reaction) ~ Days + (1 | Subject)", SLEEP.assign(Reaction=y)).fit()
    assert model.with_response(np.log(y)).fit().criterion == pytest.approx(expected.criterion, rel=1e-12)


def test_rows_are_found_by_the_index_or_by_their_order() -> None:
    model = bl.Model("Reaction ~ Days + (1 | Subject)", HOLES)
    y = pd.Series(np.random.default_rng(2).normal(size=180))
    expected = bl.Model("Reaction ~ Days + (1 | Subject)", HOLES.assign(Reaction=y)).fit()
    kept = HOLES["Days"].notna().to_numpy()
    shuffled = y.sample(frac=1.0, random_state=1)
    for given in (y, shuffled, y.to_numpy()[kept], y[kept].tolist()):
        assert model.with_response(given).fit().criterion == pytest.approx(expected.criterion, rel=1e-12)
    every = bl.Model("Reaction ~ Days + (1 | Subject)", HOLES, na_action="exclude").with_response(y.to_numpy())
    assert every.fit().criterion == pytest.approx(expected.criterion, rel=1e-12)
    assert every.fit().fitted().isna().to_numpy().tolist() == (~kept).tolist()


def test_posteriors_are_those_of_the_response() -> None:
    data = pd.DataFrame(bl.load_dataset("Dyestuff"))
    y = data["Yield"] ** 2
    one = bl.Model("Yield ~ 1 + (1 | Batch)", data).with_response(y).sample(200, random_seed=1)
    other = bl.Model("Yield ~ 1 + (1 | Batch)", data.assign(Yield=y)).sample(200, random_seed=1)
    assert np.asarray(one.draws("sigma")) == pytest.approx(np.asarray(other.draws("sigma")), rel=1e-9)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(179), r"shape \(179,\); the fit needs \(180,\)"),
        (np.where(np.arange(180) == 3, np.nan, 1.0), "1 missing or infinite"),
        (np.where(np.arange(180) == 3, np.inf, 1.0), "1 missing or infinite"),
        (np.full(180, 3.0), "constant"),
        (["a"] * 180, "not numeric"),
        (np.arange(180) > 3, "true and false"),
        (np.arange(180) * 1e150, "1e\\+140"),
        (pd.Series(np.arange(180.0), index=np.arange(180) + 9), "another index"),
    ],
)
def test_refusals(y: Any, message: str) -> None:
    model = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP)
    with pytest.raises(DesignError, match=message):
        model.with_response(y)


def test_update_needs_a_frame_with_the_response() -> None:
    model = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, weights="w")
    other = model.with_response(SLEEP["Reaction"] ** 2)
    with pytest.raises(DesignError, match="with_response"):
        other.update("~ . + I(Days**2)")
    changed = SLEEP.assign(Reaction=SLEEP["Reaction"] ** 2)
    updated = other.update("~ . + I(Days**2)", data=changed)
    assert updated.design.weights is not None
    assert updated.fit().criterion == pytest.approx(
        bl.Model("Reaction ~ Days + I(Days**2) + (1 | Subject)", changed, weights="w").fit().criterion
    )


def test_notes_that_ask_the_response_ask_the_new_one() -> None:
    rng = np.random.default_rng(7)
    batch, cask = np.repeat(np.arange(12), 12), np.tile(np.repeat(np.arange(4), 3), 12)
    effects = rng.normal(size=(12, 4))
    nested = effects[batch, cask] + 0.1 * rng.normal(size=144)
    crossed = effects[0, cask] + effects[batch, 0] + 0.1 * rng.normal(size=144)
    data, formula = pd.DataFrame({"y": nested, "batch": batch, "cask": cask}), "y ~ 1 + (1 | batch) + (1 | cask)"
    asked = {
        name: bl.Model(formula, data.assign(y=y)).design.notes.lines for name, y in (("n", nested), ("c", crossed))
    }
    assert asked["n"] != asked["c"]
    assert bl.Model(formula, data).with_response(crossed).design.notes.lines == asked["c"]
    assert bl.Model(formula, data.assign(y=crossed)).with_response(nested).design.notes.lines == asked["n"]
