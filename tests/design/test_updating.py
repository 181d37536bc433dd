"""Formulas changed in R's manner, and models and fits made from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.updating import updated_formula
from bayeslmm.errors import DesignError, FitError, FormulaError

# R's update gives the same terms; what is to be taken away and is not there it passes over, which is refused here.
CASES = [
    ("y ~ x * z + (x | g)", "log(.) ~ . - x:z + w", "log(y) ~ x + z + w + (x | g)"),
    ("y ~ x + (1 | g)", ". ~ . - x", "y ~ 1 + (1 | g)"),
    ("y ~ x + (1 | g)", "~ . + z", "y ~ x + z + (1 | g)"),
    ("y ~ x + (1 | g)", "z ~ x", "z ~ x"),
    ("y ~ x + (1 | g)", "z ~ w + (1 | h)", "z ~ w + (1 | h)"),
    ("y ~ a * b * c + (1 | g)", "~ . - a:b:c - b:c", "y ~ a + b + c + a:b + a:c + (1 | g)"),
    ("y ~ a + b + (1 | g)", "~ (.)^2", "y ~ (a + b)**2 + (1 | g)"),
    ("y ~ a + b + (1 | g)", "~ . - (a + b)", "y ~ 1 + (1 | g)"),
    ("y ~ 0 + a + b + (1 | g)", "~ . - a", "y ~ 0 + b + (1 | g)"),
    ("y ~ a + (1 | g)", "~ . - a - 1", "y ~ 0 + (1 | g)"),
    ("y ~ x + (x | g) + (1 | h)", "~ . - (x|g) + (1 | g)", "y ~ x + (1 | h) + (1 | g)"),
    ("y ~ x + (1 | a/b)", "~ . - (1 | a:b)", "y ~ x + (1 | a)"),
    ("y ~ x + cs(0 + f | g) + (x || h)", "~ . - (x || h)", "y ~ x + cs(0 + f | g)"),
    ("y ~ `t [s]` + x + offset(o) + (1 | `g 1`)", ". ~ . - x", "y ~ `t [s]` + offset(o) + (1 | `g 1`)"),
    ("y ~ `t [s]` + x + offset(o) + (1 | g)", ". ~ . - offset(o) - `t [s]`", "y ~ x + (1 | g)"),
    ("y ~ x | g", "~ . + (1 | h)", "y ~ 1 + (x | g) + (1 | h)"),
    ("y ~ x + (1 | g)", "~ . - z", "refused"),
    ("y ~ x + (1 | g)", "~ . - (1 | h)", "refused"),
    ("y ~ x + (1 | g)", "~ . - (1 | g)", "y ~ x"),
    ("y ~ x + (1 | g)", "~ . - offset(o)", "refused"),
    ("y ~ x + (1 | g)", "~ . + (. | h)", "refused"),
    ("y ~ x + (1 | g)", "~ log(.)", "refused"),
    ("y ~ x + (1 | g)", ". + z", "refused"),
    ("y ~ x + (1 | g)", "~ . -", "refused"),
]


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_changed_formulas(old: str, new: str, expected: str) -> None:
    if expected == "refused":
        with pytest.raises(FormulaError):
            updated_formula(old, new)
    else:
        assert updated_formula(old, new) == expected
        assert updated_formula(expected, ". ~ .") == expected


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(8), 5)
    frame = pd.DataFrame({"x": rng.normal(size=40), "z": rng.normal(size=40), "g": g, "w": rng.uniform(1, 2, 40)})
    return frame.assign(y=np.exp(0.2 * frame["x"] + rng.normal(size=8)[g] + rng.normal(size=40)))


def same(a: bl.REMLResult, b: bl.REMLResult) -> None:
    assert a.reml == b.reml and a.criterion == b.criterion and a.fixef().equals(b.fixef())


def test_updates_are_the_models_written_out(data: pd.DataFrame) -> None:
    model = bl.Model("y ~ x * z + (1 | g)", data, weights="w")
    fit = model.fit(reml=False)
    smaller = bl.Model("log(y) ~ x + z + (1 | g)", data, weights="w")
    same(fit.update("log(.) ~ . - x:z"), smaller.fit(reml=False))
    same(fit.update("log(.) ~ . - x:z", reml=True), smaller.fit())
    same(model.update("log(.) ~ . - x:z").fit(), smaller.fit())
    same(fit.update(weights=None), bl.Model("y ~ x * z + (1 | g)", data).fit(reml=False))
    half = data.iloc[:30]
    same(fit.update(data=half), bl.Model("y ~ x * z + (1 | g)", half, weights="w").fit(reml=False))
    same(fit.update("~ . - x:z").update("log(.) ~ ."), smaller.fit(reml=False))
    penalised = model.fit(penalty="gamma").update("~ . - x:z")
    same(penalised, bl.Model("y ~ x + z + (1 | g)", data, weights="w").fit(penalty="gamma"))
    assert model.formula == "y ~ x * z + (1 | g)" and fit == model.fit(reml=False)


def test_what_has_no_data_says_so(data: pd.DataFrame, tmp_path: Path) -> None:
    model = bl.Model("y ~ x + (1 | g)", data, extra_namespace={"twice": lambda x: 2 * x})
    fit = model.fit()
    fit.save(tmp_path / "fit.npz")
    with pytest.raises(FitError, match=r"read from a file.*bl.Model\('y ~ x"):
        bl.load(tmp_path / "fit.npz").update("~ . - x")
    for sent in (pickle.loads(pickle.dumps(fit)), pickle.loads(pickle.dumps(model))):
        with pytest.raises(DesignError, match="another process"):
            sent.update("~ . - x")
    for held in (model.fit(fix={"g": [0.5]}), model.fit(priors="weak")):
        with pytest.raises(FitError, match=r"model.update\(...\).fit\("):
            held.update("~ . - x")
    with pytest.raises(DesignError, match="family"):
        model.update(family="poisson")
    with pytest.raises(FormulaError, match="int"):
        model.update(3)  # type: ignore[arg-type]


def test_random_effects_go_where_a_residual_structure_comes(data: pd.DataFrame) -> None:
    model = bl.Model("y ~ x + (1 | g)", data)
    with pytest.raises(FormulaError, match="no random-effects term"):
        model.update("~ . - (1 | g)")
    known = model.update(residual_sd="w")
    assert known.design.sigma == 1.0 and known.update(residual_sd=None).design.sigma is None
    changed = model.update("~ . - (1 | g)", residual="cs(g)")
    assert changed.formula == "y ~ x"
    assert changed.fit().loglik == pytest.approx(model.fit().loglik, abs=1e-6)
