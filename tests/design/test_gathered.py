"""Sums over the cells of a formula by one GROUP BY: DuckDB, polars, files and chunks against pandas in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import BayesLMMWarning, DesignError

duckdb = pytest.importorskip("duckdb")
pl = pytest.importorskip("polars")
pytest.importorskip("pyarrow")

FORMULA = "y ~ x + t + (x | g)"


def make_data(level: float = 20.0) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 3000
    frame = pd.DataFrame({"g": rng.integers(0, 20, n), "x": rng.integers(0, 3, n)})
    frame["t"] = pd.Series(rng.choice(["low", "mid", "high"], n), dtype=object)
    frame["w"] = 1.0 + frame["x"]
    frame["y"] = level + rng.normal(size=20)[frame["g"]] + 0.5 * frame["x"] + rng.normal(size=n)
    frame.loc[::61, "y"] = np.nan
    frame.loc[::97, "t"] = None
    return frame


DATA = make_data()


def in_file(frame: pd.DataFrame, folder: Path) -> str:
    path = folder / "rows.parquet"
    frame.to_parquet(path, row_group_size=700, index=False)
    return str(path)


SOURCES: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "pandas": lambda frame, _: frame,
    "polars": lambda frame, _: pl.from_pandas(frame),
    "LazyFrame": lambda frame, _: pl.from_pandas(frame).lazy(),
    "DuckDB": lambda frame, folder: duckdb.connect().read_parquet(in_file(frame, folder)),
    "parquet": in_file,
    "chunks": lambda frame, _: [frame.iloc[:1], frame.iloc[1:2000], frame.iloc[2000:2000], frame.iloc[2000:]],
    "iterator": lambda frame, _: iter([frame.iloc[:1200], frame.iloc[1200:]]),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_cells_are_those_of_pandas(kind: str, tmp_path: Path) -> None:
    cells = bl.cell_sums(FORMULA, SOURCES[kind](DATA, tmp_path))
    groups = DATA.groupby(["x", "t", "g"], dropna=False)["y"]
    expected = groups.agg(n="count", rows="size", mean="mean", var="var").reset_index()
    expected = expected.sort_values(["x", "t", "g"], ignore_index=True)
    assert cells.columns.tolist() == ["x", "t", "g", "n", "n_missing", "mean", "ss"]
    np.testing.assert_array_equal(cells[["x", "g"]], expected[["x", "g"]])
    assert cells["t"].fillna("missing").tolist() == expected["t"].fillna("missing").tolist()
    np.testing.assert_array_equal(cells["n"], expected["n"])
    np.testing.assert_array_equal(cells["n_missing"], expected["rows"] - expected["n"])
    np.testing.assert_allclose(cells["mean"], expected["mean"], rtol=1e-13)
    ss = (expected["var"] * (expected["n"] - 1)).fillna(0)
    np.testing.assert_allclose(cells["ss"], ss, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", SOURCES)
def test_models_are_those_of_the_rows(kind: str, tmp_path: Path) -> None:
    model, raw = bl.Model(FORMULA, SOURCES[kind](DATA, tmp_path), cells=True), bl.Model(FORMULA, DATA)
    assert model.n == raw.n and len(model.dropped) == len(raw.dropped)
    missing = {reason: len(rows) for reason, rows in raw.dropped.reasons.items()}
    assert model.dropped.counts == missing
    a, b = model.fit(), raw.fit()
    assert abs(a.criterion - b.criterion) < 1e-10 * abs(b.criterion)
    np.testing.assert_allclose(a.fixef(), b.fixef(), rtol=1e-9)
    assert list(a.fixef().index) == list(b.fixef().index)
    assert a.design.groupings["g"].levels == b.design.groupings["g"].levels


@pytest.mark.parametrize("kind", SOURCES)
def test_large_means_with_a_small_spread(kind: str, tmp_path: Path) -> None:
    """At 1e9 a double resolves 1e-7, and sums of squares that were not centred would have no digit left."""
    far = make_data(1e9)
    cells = bl.cell_sums(FORMULA, SOURCES[kind](far, tmp_path))
    exact = far.assign(y=far["y"] - 1e9).groupby(["x", "t", "g"], dropna=False)["y"]
    expected = exact.agg(n="count", var="var").reset_index().sort_values(["x", "t", "g"], ignore_index=True)
    ss = (expected["var"] * (expected["n"] - 1)).fillna(0)
    np.testing.assert_allclose(cells["ss"], ss, rtol=1e-10, atol=1e-10)
    fit, raw = bl.Model.from_sums(FORMULA, cells).fit(), bl.Model(FORMULA, far).fit()
    # Means of cells are doubles, too: off by 1e-7 of a standard deviation.
    np.testing.assert_allclose(fit.sigma, raw.sigma, rtol=1e-7)
    np.testing.assert_allclose(fit.fixef()[1:], raw.fixef()[1:], atol=1e-7)


def test_weights_and_residual_structures_are_keys(tmp_path: Path) -> None:
    path = in_file(DATA, tmp_path)
    for options in ({"weights": "w"}, {"weights": "1 / w"}, {"residual": "by(x)"}, {"residual_sd": "w"}):
        model = bl.Model("y ~ t + (1 | g)", path, cells=True, **options)
        raw = bl.Model("y ~ t + (1 | g)", DATA, **options)
        assert abs(model.fit().criterion - raw.fit().criterion) < 1e-8


def test_new_formulas_group_again(tmp_path: Path) -> None:
    model = bl.Model("y ~ 1 + (1 | g)", in_file(DATA, tmp_path), cells=True)
    assert len(model.design.cells) == 20
    wider = model.update(". ~ . + x")
    assert len(wider.design.cells) == 60
    assert abs(wider.fit().criterion - bl.Model("y ~ x + (1 | g)", DATA).fit().criterion) < 1e-8


def test_sums_can_be_kept_and_taken_up_again(tmp_path: Path) -> None:
    cells = bl.cell_sums(FORMULA, DATA)
    cells.to_parquet(tmp_path / "cells.parquet", index=False)
    direct = bl.Model(FORMULA, DATA, cells=True)
    for kept in (str(tmp_path / "cells.parquet"), duckdb.connect().read_parquet(str(tmp_path / "cells.parquet"))):
        again = bl.Model.from_sums(FORMULA, kept, n_missing="n_missing")
        assert again.fit().criterion == direct.fit().criterion
        assert str(again.dropped) == str(direct.dropped)
    raw = bl.Model(FORMULA, DATA).dropped
    assert str(direct.dropped).startswith(
        f"{len(raw)} observation(s) dropped (missing t: {len(raw.reasons['missing t'])} in "
    )


def test_missing_responses_may_be_an_error() -> None:
    with pytest.raises(DesignError, match=r"50 row\(s\) have no y, which na_action='fail' does not allow"):
        bl.Model("y ~ x + (1 | g)", DATA, cells=True, na_action="fail")


@pytest.mark.parametrize(
    ("formula", "options", "found"),
    [
        ("log(y) ~ x + (1 | g)", {}, "Sum that function itself"),
        ("y ~ x + (1 | nobody)", {}, "nobody"),
        ("y ~ x + (1 | g)", {"weights": np.ones(3000)}, "told apart by columns"),
        ("y ~ x + (1 | g)", {"frequency": "x"}, "Sum the counts yourself"),
        ("y ~ x + (1 | g)", {"memory": "1 GB"}, "Leave one of the two out"),
        ("y ~ x + (1 | g)", {"cells": "auto"}, "cells"),
        ("t ~ x + (1 | g)", {}, "not numeric"),
    ],
)
@pytest.mark.parametrize("kind", ["pandas", "parquet", "DuckDB"])
def test_what_cannot_be_summed(kind: str, formula: str, options: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises((DesignError, bl.FormulaError), match=found):
        bl.Model(formula, SOURCES[kind](DATA, tmp_path), **{"cells": True, **options})


def test_infinite_responses_are_found(tmp_path: Path) -> None:
    odd = DATA.assign(y=DATA["y"].where(DATA.index != 5, np.inf))
    for kind in ("pandas", "DuckDB", "LazyFrame"):
        with pytest.raises(DesignError, match="missing or infinite"):
            bl.Model(FORMULA, SOURCES[kind](odd, tmp_path), cells=True)


def test_a_column_named_as_a_sum_is_refused() -> None:
    with pytest.raises(DesignError, match="Rename it"):
        bl.cell_sums("y ~ n + (1 | g)", DATA.assign(n=1.0))


def test_cells_that_save_nothing_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayeslmm.design.gathered._FEW", 100)
    frame = DATA.assign(x=np.arange(3000.0))
    with pytest.warns(BayesLMMWarning, match="saves little"):
        bl.Model("y ~ x + (1 | g)", frame, cells=True)
