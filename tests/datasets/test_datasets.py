"""The data sets are those that R's packages ship, complete, described, and never shared between calls."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.datasets import describe_dataset

FOLDER = Path(bl.__file__).parent / "datasets" / "data"
# Computed by R from the packages' own data (checksums.R).
CHECKSUMS: dict[str, Any] = json.loads((Path(__file__).parent / "checksums.json").read_text(encoding="utf-8"))
NAMES = list(json.loads((FOLDER / "sources.json").read_text(encoding="utf-8")))
COLUMNS = [(name, column) for name, entry in CHECKSUMS.items() for column in entry["columns"]]
# R adds in extended precision, fsum exactly: they differ by a rounding of the result.
SUM_RTOL = 1e-14


def numbers(column: pd.Series) -> list[float]:
    """Values, or R's integer codes of a factor."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [float(code) + 1.0 for code in column.cat.codes]
    return [float(value) for value in column]


@pytest.mark.parametrize("name", NAMES)
def test_described_as_it_is(name: str) -> None:
    entry = describe_dataset(name)
    frame = bl.load_dataset(name)
    assert len(frame) == entry["rows"]
    assert list(frame.columns) == list(entry["columns"])
    for key in ("description", "source", "licence", "formula"):
        assert entry[key].strip(), f"{name} has no {key}"
    assert all(info["description"].strip() for info in entry["columns"].values())


@pytest.mark.parametrize("name", NAMES)
def test_factors_have_their_levels(name: str) -> None:
    frame = bl.load_dataset(name)
    for column, info in describe_dataset(name)["columns"].items():
        factor = isinstance(frame[column].dtype, pd.CategoricalDtype)
        assert factor == ("levels" in info)
        if factor:
            assert not frame[column].isna().any(), "every value is one of the levels"
            assert set(frame[column].unique()) == set(frame[column].cat.categories), "every level occurs"
            assert frame[column].cat.ordered is info["ordered"]


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_equals_the_data_of_r(name: str, column: str) -> None:
    frame = bl.load_dataset(name)
    expected = CHECKSUMS[name]["columns"][column]
    assert len(frame) == CHECKSUMS[name]["rows"]
    assert list(frame.columns) == list(CHECKSUMS[name]["columns"])
    x = numbers(frame[column])
    assert math.fsum(x) == pytest.approx(expected["sum"], rel=SUM_RTOL)
    assert math.fsum(v * v for v in x) == pytest.approx(expected["squares"], rel=SUM_RTOL)
    assert math.fsum(v * i for i, v in enumerate(x, 1)) == pytest.approx(expected["weighted"], rel=SUM_RTOL)
    if "n_levels" in expected:
        levels = frame[column].cat.categories
        assert [len(levels), levels[0], levels[-1]] == [expected["n_levels"], *expected["ends"]]
        assert frame[column].cat.ordered is expected["ordered"]


def test_numbers_of_the_literature() -> None:
    dyestuff = bl.load_dataset("Dyestuff")
    assert dyestuff["Yield"].mean() == 1527.5
    assert list(dyestuff.groupby("Batch", observed=True)["Yield"].mean()) == [1505, 1528, 1564, 1498, 1600, 1470]
    machines = bl.load_dataset("Machines").groupby("Machine", observed=True)["score"].mean()
    assert list(machines.round(3)) == [52.356, 60.322, 66.272]
    rail = bl.load_dataset("Rail")
    assert rail["travel"].mean() == 66.5
    oats = bl.load_dataset("Oats").groupby("nitro")["yield"].mean()
    assert list(oats.round(2)) == [79.39, 98.89, 114.22, 123.39]
    stool = bl.load_dataset("ergoStool").groupby("Type", observed=True)["effort"].mean()
    assert list((stool - stool["T1"]).round(4)) == [0, 3.8889, 2.2222, 0.6667]


def test_published_regression_lines() -> None:
    sleep = bl.load_dataset("sleepstudy")
    slope, intercept = np.polyfit(sleep["Days"], sleep["Reaction"], 1)
    assert [round(intercept, 4), round(slope, 4)] == [251.4051, 10.4673]
    orthodont = bl.load_dataset("Orthodont")
    slope, intercept = np.polyfit(orthodont["age"], orthodont["distance"], 1)
    assert [round(intercept, 5), round(slope, 7)] == [16.76111, 0.6601852]


def test_tablets() -> None:
    tablets = bl.load_dataset("tablets").groupby("method", observed=True)["y"].mean()
    assert tablets["nir"] == pytest.approx(10.39)
    assert tablets["hplc"] - tablets["nir"] == pytest.approx(-0.05)
    missing = bl.load_dataset("tablets_missing")
    assert missing["y"].isna().sum() == 10
    paired = missing[missing["tablet"].astype(int) <= 10]
    pair = ["tablet", "method"]
    left = paired.sort_values(pair)["y"].to_numpy()
    assert np.array_equal(left, bl.load_dataset("tablets").sort_values(pair)["y"].to_numpy())


def test_ordered_factors_only_where_r_has_them() -> None:
    assert bl.load_dataset("cake")["temperature"].cat.ordered
    assert not bl.load_dataset("cake")["recipe"].cat.ordered
    assert list(bl.load_dataset("Oats")["Block"].cat.categories) == ["VI", "V", "III", "IV", "II", "I"]


def test_every_file_is_listed() -> None:
    listed = {describe_dataset(name)["file"] for name in bl.list_datasets().index}
    assert {path.name for path in FOLDER.iterdir()} == listed | {"sources.json"}
    table = bl.list_datasets()
    assert list(table.columns) == ["rows", "columns", "description", "formula", "source"]
    assert (table != "").all(axis=None)


def test_files_are_small() -> None:
    assert max(path.stat().st_size for path in FOLDER.iterdir()) < 400_000


@pytest.mark.parametrize("name", NAMES)
def test_suggested_formula_is_a_model(name: str) -> None:
    entry = describe_dataset(name)
    model = bl.Model(entry["formula"], bl.load_dataset(name), residual_sd=entry.get("residual_sd"))
    assert np.isfinite(model.design.X).all()


@pytest.mark.parametrize("name", ["SLEEPSTUDY", "Sleepstudy", "insteval", "Tablets_Missing"])
def test_case_does_not_matter(name: str) -> None:
    assert len(bl.load_dataset(name)) > 0


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(bl.DatasetError, match=r"'sleepstuddy'.*Did you mean 'sleepstudy'") as caught:
        bl.load_dataset("sleepstuddy")
    assert "Dyestuff2" in str(caught.value)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(bl.DatasetError, match=r"no data set named 'xyz'\. Shipped are"):
        bl.load_dataset("xyz")


def test_calls_share_nothing() -> None:
    first = bl.load_dataset("Rail")
    first.loc[0, "travel"] = -1.0
    first.attrs["columns"].clear()
    description = describe_dataset("Rail")
    description["columns"].clear()
    second = bl.load_dataset("Rail")
    assert second["travel"].min() > 0
    assert list(second.attrs["columns"]) == ["Rail", "travel"]
    assert isinstance(second["Rail"].dtype, pd.CategoricalDtype)
