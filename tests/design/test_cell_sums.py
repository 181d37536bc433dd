"""Tables of sums over cells: what is read, what is refused, and rows that have the same sums."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import bayeslmm as bl
from bayeslmm.design.dropped import SummedCells
from bayeslmm.errors import DesignError

RNG = np.random.default_rng(5)
RAW = pd.DataFrame({"g": RNG.integers(0, 6, 90), "x": RNG.integers(0, 3, 90)})
RAW["y"] = 50 + RAW["x"] + RNG.normal(size=6)[RAW["g"]] + RNG.normal(size=90)


def table() -> pd.DataFrame:
    groups = RAW.groupby(["g", "x"])["y"]
    out = groups.agg(n="size", mean="mean", total="sum", var="var", sd="std").reset_index()
    out["ss"] = groups.apply(lambda y: float(((y - y.mean()) ** 2).sum())).to_numpy()
    out["sum_sq"] = groups.apply(lambda y: float((y**2).sum())).to_numpy()
    return out


CELLS = table()
FORMULA = "y ~ x + (1 | g)"


def sums_of(design: bl.Design) -> tuple[Any, Any, Any]:
    """Count, mean and sum of squares of every cell, from the rows of the design."""
    assert design.frequency is not None and design.cells is not None
    cell = design.cells.of(np.arange(design.n))
    n = np.bincount(cell, design.frequency)
    mean = np.bincount(cell, design.frequency * design.y) / n
    return n, mean, np.bincount(cell, design.frequency * (design.y - mean[cell]) ** 2)


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"total": "total"},
        {"variance": "var"},
        {"sd": "sd"},
        {"sum_sq": "sum_sq"},
        {"total": "total", "sum_sq": "sum_sq"},
        {"mean": "mean", "ss": "ss"},
    ],
)
def test_rows_have_the_sums_of_the_cells(names: dict[str, str]) -> None:
    design = bl.Model.from_sums(FORMULA, CELLS, **names).design
    n, mean, ss = sums_of(design)
    groups = RAW.groupby(["g", "x"])["y"]
    np.testing.assert_array_equal(n, groups.size())
    np.testing.assert_allclose(mean, groups.mean(), rtol=1e-14)
    np.testing.assert_allclose(ss, groups.var().fillna(0) * (groups.size() - 1), rtol=1e-10, atol=1e-12)
    assert design.n_observations == 90


def test_tables_of_other_libraries_and_keys_in_the_index() -> None:
    plain = bl.Model.from_sums(FORMULA, CELLS).fit()
    for other in (pl.from_pandas(CELLS), pa.Table.from_pandas(CELLS), CELLS.set_index(["g", "x"])):
        assert bl.Model.from_sums(FORMULA, other).fit().criterion == plain.criterion


def test_cells_that_are_split_or_in_another_order_are_the_same_model() -> None:
    odd = RAW.assign(part=np.arange(90) % 2).groupby(["part", "g", "x"])["y"]
    split = odd.agg(n="size", mean="mean", var="var").reset_index().sample(frac=1.0, random_state=1)
    model = bl.Model.from_sums(FORMULA, split, variance="var")
    assert len(model.design.cells) == len(split)
    whole = bl.Model(FORMULA, RAW).fit()
    assert abs(model.fit().criterion - whole.criterion) < 1e-10


def test_cells_without_observations_or_predictors_are_dropped_and_named() -> None:
    odd = CELLS.copy()
    odd["x"] = odd["x"].astype(float)
    odd.loc[2, "x"] = np.nan
    odd.loc[4, ["n", "mean", "ss"]] = [0, np.nan, np.nan]
    model = bl.Model.from_sums(FORMULA, odd)
    assert model.dropped.reasons == {"missing x": (2,), "n 0": (4,)}
    rest = RAW.merge(odd.drop([2, 4])[["g", "x"]], on=["g", "x"])
    assert model.n == len(rest)
    assert abs(model.fit().criterion - bl.Model(FORMULA, rest).fit().criterion) < 1e-10
    named = odd.set_axis([f"cell {i}" for i in range(len(odd))])
    again = bl.Model.from_sums(FORMULA, named)
    assert again.dropped.reasons == {"missing x": ("cell 2",), "n 0": ("cell 4",)}
    assert again.fit().fitted().index.tolist() == [f"cell {i}" for i in range(len(odd)) if i not in (2, 4)]


def test_excluded_cells_have_nan_in_results() -> None:
    odd = CELLS.copy()
    odd["x"] = odd["x"].astype(float)
    odd.loc[2, "x"] = np.nan
    fit = bl.Model.from_sums(FORMULA, odd, na_action="exclude").fit()
    assert fit.fitted().isna().to_numpy().nonzero()[0].tolist() == [2]
    assert fit.predict()["estimate"].isna().to_numpy().nonzero()[0].tolist() == [2]
    left_out = bl.Model.from_sums(FORMULA, odd).fit()
    np.testing.assert_array_equal(fit.fitted().dropna(), left_out.fitted())


def changed(**values: Any) -> pd.DataFrame:
    out = CELLS.astype({"n": float})
    for name, value in values.items():
        out.loc[1, name] = value
    return out


@pytest.mark.parametrize(
    ("cells", "names", "found"),
    [
        (changed(n=2.5), {}, r"no counts: n = 2.5 \(row\(s\) 1\)"),
        (changed(n=-1), {}, "n = -1"),
        (changed(n=np.nan), {}, "n = nan"),
        (changed(n=np.inf), {}, "n = inf"),
        (changed(mean=np.nan), {}, "'mean' is missing or infinite in 1 cell"),
        (changed(mean=np.inf), {}, "mean = inf"),
        (changed(total=np.nan), {"total": "total"}, "'total' is missing"),
        (changed(ss=-3.0), {}, r"ss = -3 .*sum_sq="),
        (changed(ss=np.nan), {}, "'ss' is missing or infinite"),
        (changed(ss=np.inf), {}, "ss = inf"),
        (changed(n=1, ss=0.25), {}, "n = 1, ss = 0.25"),
        (changed(var=-1.0), {"variance": "var"}, "A spread is not negative"),
        (changed(sd=-1.0), {"sd": "sd"}, "sd = -1"),
        (changed(sum_sq=3.0), {"sum_sq": "sum_sq"}, "no observations can have: .*sum_sq = 3"),
        (changed(sum_sq=np.inf), {"sum_sq": "sum_sq"}, "sum_sq = inf"),
        (changed(n=1), {"sum_sq": "sum_sq"}, "n = 1"),
        (CELLS.drop(columns="mean"), {}, "no column 'mean'.*It has"),
        (CELLS, {"mean": "mean", "total": "total"}, "mean='mean' and total='total'"),
        (CELLS, {"ss": "ss", "sd": "sd"}, "Give one of ss=, sum_sq=, variance=, sd="),
        (CELLS, {"n": CELLS["n"]}, "n= is a Series, not the name of a column"),
        (CELLS, {"frequency": "n"}, "n=, the name of its column"),
        (CELLS.assign(y=1.0), {}, 'a column "y", the response, and its mean is said to be in "mean"'),
        (CELLS.assign(n="many"), {}, "not numbers but text"),
    ],
)
def test_bad_sums_are_refused_with_their_values(cells: pd.DataFrame, names: dict[str, Any], found: str) -> None:
    with pytest.raises(DesignError, match=found):
        bl.Model.from_sums(FORMULA, cells, **names)


def test_a_response_that_is_an_expression_has_no_sums() -> None:
    with pytest.raises(DesignError, match="Sum that function itself"):
        bl.Model.from_sums("log(y) ~ x + (1 | g)", CELLS)
    assert bl.Model.from_sums("`log y` ~ x + (1 | g)", CELLS).design.response.strip("`") == "log y"


def test_the_mean_may_stand_in_the_column_of_the_response() -> None:
    named = CELLS.rename(columns={"mean": "y"})
    assert (
        bl.Model.from_sums(FORMULA, named, mean="y").fit().criterion
        == bl.Model.from_sums(FORMULA, CELLS).fit().criterion
    )


def test_raw_sums_of_squares_whose_digits_cancel_are_refused() -> None:
    far = RAW.assign(y=RAW["y"] + 1e7)
    groups = far.groupby(["g", "x"])["y"]
    cells = groups.agg(n="size", mean="mean").reset_index()
    cells["sum_sq"] = groups.apply(lambda y: float((y**2).sum())).to_numpy()
    with pytest.raises(DesignError, match="digits cancel where means are large beside the spread"):
        bl.Model.from_sums(FORMULA, cells, sum_sq="sum_sq")
    cells["ss"] = groups.var().fillna(0).to_numpy() * (cells["n"] - 1)
    fit = bl.Model.from_sums(FORMULA, cells).fit()
    assert abs(fit.sigma - bl.Model(FORMULA, RAW).fit().sigma) < 1e-7


def test_spreads_that_doubles_near_the_means_do_not_resolve_are_refused() -> None:
    with pytest.raises(DesignError, match="Subtract a constant such as"):
        bl.Model.from_sums(FORMULA, CELLS.assign(mean=CELLS["mean"] + 1e13))


def test_one_cell_per_level_is_no_obstacle_where_it_has_several_observations() -> None:
    cells = RAW.groupby("g")["y"].agg(n="size", mean="mean", var="var")
    fit = bl.Model.from_sums("y ~ 1 + (1 | g)", cells, variance="var").fit()
    assert abs(fit.criterion - bl.Model("y ~ 1 + (1 | g)", RAW).fit().criterion) < 1e-10
    with pytest.raises(DesignError, match="cannot be told apart"):
        bl.Model.from_sums("y ~ 1 + (1 | g)", cells.assign(n=1, var=np.nan), variance="var")


def test_equal_designs_and_copies() -> None:
    model = bl.Model.from_sums(FORMULA, CELLS)
    assert model.design == bl.Model.from_sums(FORMULA, CELLS).design
    assert pickle.loads(pickle.dumps(model.design)) == model.design
    assert "in 18 cells" in repr(model)


def test_cells_of_some_rows() -> None:
    cells = SummedCells(np.array([0, 2, 3, 5]))
    assert cells.of(np.arange(7)).tolist() == [0, 0, 1, 2, 2, 3, 3]
    assert cells.part(np.array([3, 4, 0, 1, 0, 1, 2, 2])).first.tolist() == [0, 2, 4, 6, 7]
    with pytest.raises(ValueError, match="do not have one or two"):
        cells.check(9)
