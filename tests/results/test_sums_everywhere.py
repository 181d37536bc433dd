"""Every public member of models, fits and posteriors of sums: the number that the observations have, or a refusal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError
from bayeslmm.results.outliers import deciding

mpl.use("Agg")
RNG = np.random.default_rng(1)
DATA = pd.DataFrame(
    {"g": RNG.integers(0, 8, 160), "x": RNG.integers(0, 4, 160) * 1.0, "f": RNG.choice(list("abc"), 160)}
)
DATA["y"] = RNG.normal(size=8)[DATA["g"]] + 0.5 * DATA["x"] + (DATA["f"] == "b") + RNG.normal(size=160) + 30
DATA["g"] = DATA["g"].map("g{}".format)
KEYS = ["g", "x", "f"]
CELLS = DATA.groupby(KEYS)["y"].agg(n="size", mean="mean", var="var").reset_index()
FORMULA = "y ~ x + f + (x | g)"
_SAMPLE = {"draws": 100, "chains": 2, "random_seed": 1, "progressbar": False}


@cache
def pair(kind: str) -> tuple[Any, Any]:
    """The model, fit or posterior of the sums, and that of the observations."""
    models = bl.Model.from_sums(FORMULA, CELLS, variance="var"), bl.Model(FORMULA, DATA)
    if kind == "Model":
        return models
    return tuple(model.fit() if kind == "REMLResult" else model.sample(**_SAMPLE) for model in models)


def by_row() -> np.ndarray:
    return DATA["y"].to_numpy()


# Arguments of members that need some; several sets where these ask for different things.
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "Model.criterion_at": [{"theta": [0.5, 0.1, 0.3]}],
    "Model.with_response": [{"y": by_row()}],
    "Model.to": [{"package": "lme4"}],
    "Model.simulate": [{}, {"n_groups": 20}, {"newdata": DATA.head(3), "random_seed": 1}],
    "Model.sample": [{**_SAMPLE, "log_likelihood": True}, {**_SAMPLE, "priors": "brms"}],
    "REMLResult.criterion_at": [{"theta": [0.5, 0.1, 0.3]}],
    "REMLResult.cv": [{}, {"groups": "g"}],
    "REMLResult.estimable": [{"L": {"x": 1.0}}],
    "REMLResult.influence": [{}, {"by": "g"}],
    "REMLResult.bootstrap": [{"n": 3, "method": "semiparametric"}],
    "REMLResult.confint": [{"method": "wald"}, {"method": "profile"}],
    "REMLResult.means": [{"of": "f"}, {"of": "f", "weights": "proportional"}],
    "REMLResult.predict": [{"newdata": DATA.head(4)}],
    "REMLResult.profile": [{"label": "sd_g[Intercept]"}],
    "REMLResult.refit": [{"y": by_row()}],
    "REMLResult.refit_many": [{"Y": by_row()[:, None]}],
    "REMLResult.simulate": [{}, {"random": "all"}, {"newdata": DATA.head(3), "random_seed": 1}],
    "REMLResult.test_fixed": [{"L": "x"}],
    "REMLResult.test_zero": [{"what": "(x | g)", "refits": 0, "random_seed": 1}],
    "REMLResult.trends": [{"variable": "x"}],
    "REMLResult.update": [{"formula": ". ~ . - f"}],
    "REMLResult.boundary": [{"posterior": "none", "random_seed": 1, "progressbar": False}],
    "Posterior.add_groups": [
        {"names": ("log_likelihood",)},
        {"names": ("posterior_predictive",)},
        {"names": ("prior",)},
    ],
    "Posterior.bayes_factor": [{"label": "sd_g[Intercept]"}],
    "Posterior.draws": [{"label": "sigma"}],
    "Posterior.estimable": [{"L": {"x": 1.0}}],
    "Posterior.influence": [{}, {"by": "g"}],
    "Posterior.loo": [{}, {"kind": "group"}],
    "Posterior.means": [{"of": "f"}],
    "Posterior.predict": [{"newdata": DATA.head(4)}],
    "Posterior.predict_draws": [{"newdata": DATA.head(4)}],
    "Posterior.prior_sweep": [{"scales": (1.0, 2.0)}],
    "Posterior.probability_below": [{"label": "sigma", "delta": 1.0}],
    "Posterior.trends": [{"variable": "x"}],
}
# One number per cell in place of one per observation: `test_results_by_cell`.
BY_CELL = {"fitted", "leverage", "weights"}
# Files, objects of PyMC and the design itself; tested elsewhere.
OTHERS = {"save", "to_pymc", "pymc_source", "from_sums", "design", "cross_products", "cp", "dropped", "data", "fit"}
# The same model on other rows: their numbers are tested by the members of what they return.
OBJECTS = {"origin", "update", "add_groups"}
# Other random numbers, and tables that sums do not have (`test_reports_of_sums`).
SIMULATED = {"test_zero", "boundary", "summary"}
# Evaluations and the path of the optimiser may differ by one step of rounding.
PATHS = {"trace", "evaluations"}


def members() -> list[tuple[str, str, int]]:
    kinds = {"Model": bl.Model, "REMLResult": bl.REMLResult, "Posterior": bl.Posterior}
    return [
        (kind, name, k)
        for kind, owner in kinds.items()
        for name in dir(owner)
        if not name.startswith("_") and name not in BY_CELL | OTHERS
        for k in range(len(ARGUMENTS.get(f"{kind}.{name}", [{}])))
    ]


def outcome(thing: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    value = getattr(thing, name)
    if not callable(value) or isinstance(value, pd.DataFrame | pd.Series):
        return value
    options = dict(arguments)
    return value(*options.pop("names", ()), **options)


def numbers(value: Any) -> np.ndarray | None:
    """All numbers of a result in a row; None where it is no array or table."""
    if isinstance(value, pd.DataFrame):
        return np.concatenate([np.empty(0), *(part for k in value if (part := numbers(value[k])) is not None)])
    if isinstance(value, pd.Series):
        return value.to_numpy(float) if value.dtype.kind in "fiub" else np.empty(0)
    if isinstance(value, Mapping):
        return np.concatenate([np.empty(0), *(part for v in value.values() if (part := numbers(v)) is not None)])
    if isinstance(value, float | int | np.number | np.ndarray) or hasattr(value, "dims"):
        return np.asarray(value, dtype=float).ravel()
    frame = getattr(value, "frame", None)
    return numbers(frame() if isinstance(frame, Callable) else frame) if frame is not None else None  # type: ignore[arg-type]


def text(value: Any) -> str:
    lines = str(value).splitlines()
    found = [line for line in lines if not line.startswith("160 observations") and "largest difference" not in line]
    return "\n".join(found)


@pytest.mark.parametrize(("kind", "name", "k"), members())
def test_members_have_the_numbers_of_the_observations_or_say_that_they_need_these(kind: str, name: str, k: int) -> None:
    sums, raw = pair(kind)
    arguments = ARGUMENTS.get(f"{kind}.{name}", [{}])[k]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = outcome(sums, name, arguments)
        except (BayesLMMError, TypeError) as error:
            try:
                outcome(raw, name, arguments)
            except Exception:
                return  # asked of no model
            assert "from_sums" in str(error), error
            return
        expected = outcome(raw, name, arguments)
    if name in OBJECTS | PATHS:
        return
    a, b = numbers(found), numbers(expected)
    if a is None or b is None:
        if kind != "Posterior" and name not in SIMULATED:
            assert text(found) == text(expected)
        return
    assert a.shape == b.shape, (a.shape, b.shape)
    # Of draws, whose proposal starts from a mode that is found to about 1e-8, ends of intervals differ most.
    tolerance = 1e-3 if kind == "Posterior" else 1e-5
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 0.1)


@pytest.mark.parametrize("name", ["fitted", "leverage", "weights"])
def test_results_by_cell(name: str) -> None:
    sums, raw = pair("REMLResult")
    own, theirs = getattr(sums, name)(), getattr(raw, name)()
    per_cell = DATA.assign(value=theirs.to_numpy()).groupby(KEYS)["value"].first()
    np.testing.assert_allclose(own, per_cell, rtol=1e-7)


def test_predictions_by_cell() -> None:
    for kind in ("REMLResult", "Posterior"):
        sums, raw = pair(kind)
        theirs = raw.predict().assign(**{key: DATA[key] for key in KEYS}).groupby(KEYS).first()
        np.testing.assert_allclose(sums.predict(), theirs, rtol=1e-3)


def test_functions_of_models_of_sums() -> None:
    (sums, raw), (post, _) = pair("REMLResult"), pair("Posterior")
    both, other = bl.compare(sums, post), bl.compare(raw, pair("Posterior")[1])
    np.testing.assert_allclose(
        both.groups.select_dtypes("number"), other.groups.select_dtypes("number"), rtol=1e-3, atol=1e-3
    )
    for draw in (bl.plot_shrinkage, bl.plot_ranef, bl.plot_variance):
        draw(both)
    axes = bl.plot_groups(both, x="x", group="g")
    assert any("means of cells" in str(line.get_label()) for line in np.ravel(axes)[0].lines)
    models = bl.compare(pair("Model")[0], pair("Model")[0].update(". ~ . - f"), draws=100, random_seed=1)
    assert "from_sums" in " ".join(models.notes)
    for refused in (bl.error_contrasts, bl.power, bl.calibrate):
        with pytest.raises(BayesLMMError, match="from_sums"):
            refused(pair("Model")[0])


def test_reports_of_sums(tmp_path: Any) -> None:
    bl.report(pair("REMLResult")[0], tmp_path / "sums.html")
    assert "cells" in (tmp_path / "sums.html").read_text()


def test_coverage_by_simulated_sums() -> None:
    table = bl.coverage(pair("Model")[0], replicates=40, random_seed=1, progressbar=False).table.set_index(
        ["parameter", "method"]
    )
    # 40 intervals of 95 %: fewer than 33 that hold the truth has probability 2e-3.
    for parameter in ("sigma", "Intercept", "x"):
        assert table.loc[(parameter, "profile"), "coverage"] >= 33 / 40


def test_a_cell_with_an_outlying_mean_is_no_row_to_be_named() -> None:
    cells, rows = CELLS.copy(), DATA.copy()
    alone = CELLS.index[CELLS["n"] == 1][0]
    cells.loc[alone, "mean"] += 40.0
    rows.loc[(DATA[KEYS] == CELLS.loc[alone, KEYS]).all(axis=1), "y"] += 40.0
    assert "Row " in str(deciding(bl.Model(FORMULA, rows).fit()))
    assert deciding(bl.Model.from_sums(FORMULA, cells, variance="var").fit()) is None
