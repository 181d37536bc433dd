"""The formula on new rows: a row has the columns that it has among the rows of the model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from bayeslmm import Model, load
from bayeslmm.design import Design, build_design
from bayeslmm.design.design import expanded
from bayeslmm.design.newdata import Rows, new_rows, own_rows
from bayeslmm.errors import DesignError

N = 48


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.normal(3.0, 2.0, N),
            "z": rng.uniform(0.5, 4.0, N),
            "k": rng.integers(1, 4, N),
            "f": rng.permutation(np.repeat(["a", "b", "c"], N // 3)),
            "o": pd.Categorical(
                rng.permutation(np.repeat(["lo", "mid", "hi"], N // 3)), ["lo", "mid", "hi"], ordered=True
            ),
            "t": rng.permutation(np.repeat([True, False], N // 2)),
            "my col": rng.normal(size=N),
            "g": rng.permutation(np.repeat(np.arange(8), N // 8)),
            "h": np.tile(["u", "v", "w", "x"], N // 4),
            "w": rng.uniform(1.0, 3.0, N),
        },
        index=[f"row {i}" for i in range(N)],
    )


FORMULAS = [
    "y ~ x + z",
    "y ~ 1",
    "y ~ 0 + f",
    "y ~ f * x + t",
    "y ~ o * t",
    "y ~ scale(x) + center(z)",
    "y ~ scale(x) * scale(z)",
    "y ~ poly(x, 3)",
    "y ~ poly(x, 2):f",
    "y ~ bs(x, df=5) + z",
    "y ~ log(z) + I(x**2) + np.exp(-z)",
    "y ~ C(k) + factor(k):x",
    "y ~ ordered(k)",
    "y ~ scale(log(z)) + `my col`",
    "y ~ x + offset(scale(z)) + offset(2 * x)",
    "y ~ I(f == 'a') + z",
    "y ~ f:o",
]


@pytest.mark.parametrize("fixed", FORMULAS)
@pytest.mark.parametrize("chosen", [slice(0, 1), slice(5, None, 7)], ids=["one row", "some rows"])
def test_rows_of_the_model_come_out_as_they_were(frame: pd.DataFrame, fixed: str, chosen: slice) -> None:
    design = build_design(f"{fixed} + (scale(z) + f | g) + (0 + x || h)", frame)
    rows = new_rows(design, frame.iloc[chosen].drop(columns="y"), ["g", "h"])
    _same(design, rows, np.arange(N)[chosen])


def _same(design: Design, rows: Rows, chosen: np.ndarray) -> None:
    own = own_rows(design, ["g", "h"])
    np.testing.assert_allclose(rows.X, own.X[chosen], rtol=1e-12, atol=1e-13)
    for k, Z in own.Z.items():
        np.testing.assert_allclose(rows.Z[k], Z[chosen], rtol=1e-12, atol=1e-13)
    for name, levels in own.levels.items():
        assert np.array_equal(rows.levels[name].codes, levels.codes[chosen])
        assert rows.levels[name].new == ()
    if own.offset is None:
        assert rows.offset is None
    else:
        np.testing.assert_allclose(rows.offset, own.offset[chosen], rtol=1e-12)
    assert rows.index.tolist() == list(design.index[chosen])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("f", "sum"),
        ("f", "helmert"),
        ("k2", "poly"),
        ("f", ("treatment", "b")),
        ("f", pd.DataFrame([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]], index=["a", "b", "c"], columns=["p", "q"])),
        ("f", np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])),
    ],
)
def test_contrasts_are_kept(frame: pd.DataFrame, column: str, kind: Any) -> None:
    data = frame.assign(k2=frame["k"].astype("category"))
    design = build_design(f"y ~ {column} * x + (1 | g) + (1 | h)", data, contrasts={column: kind})
    _same(design, new_rows(design, data.iloc[4:5], ["g", "h"]), np.array([4]))


def test_state_is_that_of_the_rows_with_their_frequencies(frame: pd.DataFrame) -> None:
    data = frame.assign(n=np.arange(N) % 3)
    design = build_design("y ~ scale(x) + poly(z, 2) + (1 | g) + (1 | h)", data, frequency="n")
    long = data.loc[data.index.repeat(data["n"])]
    at = pd.DataFrame({"x": [1.0], "z": [2.0], "g": [0], "h": ["u"]})
    mean, sd = long["x"].mean(), long["x"].std()
    assert new_rows(design, at, ["g"]).X[0, 1] == pytest.approx((1.0 - mean) / sd, rel=1e-12)
    one = new_rows(build_design("y ~ scale(x) + poly(z, 2) + (1 | g) + (1 | h)", long.reset_index()), at, ["g"])
    np.testing.assert_allclose(new_rows(design, at, ["g"]).X, one.X, rtol=1e-10)
    np.testing.assert_allclose(new_rows(expanded(design), at, ["g"]).X, one.X, rtol=1e-10)


def test_only_the_groups_asked_for_are_needed(frame: pd.DataFrame) -> None:
    design = build_design("y ~ x + (z | g) + (1 | h)", frame)
    rows = new_rows(design, pd.DataFrame({"x": [1.0]}), [])
    assert rows.X.tolist() == [[1.0, 1.0]]
    with pytest.raises(DesignError, match=r"no column 'g'.*random=None"):
        new_rows(design, pd.DataFrame({"x": [1.0], "z": [1.0]}), ["g"])
    with pytest.raises(DesignError, match=r"no column 'x', 'z', 'g'.*Columns are: q"):
        new_rows(design, pd.DataFrame({"q": [1.0]}), ["g"])


def test_new_levels_are_told_apart(frame: pd.DataFrame) -> None:
    design = build_design("y ~ 1 + (1 | g/h)", frame)
    new = pd.DataFrame({"g": [0.0, 9.0, 9.0, 8.0], "h": ["u", "u", "u", "v"]})
    known = set(design.groupings["g:h"].levels)
    rows = new_rows(design, new, ["g", "g:h"])
    assert rows.levels["g"].codes.tolist() == [0, 9, 9, 8]
    assert rows.levels["g"].new == ("8", "9")
    assert ("0:u" in known) == (rows.levels["g:h"].codes[0] < design.groupings["g:h"].n_levels)
    assert set(rows.levels["g:h"].new) == {"9:u", "8:v"} | ({"0:u"} - known)


def test_missing_values_are_set_aside_and_named(frame: pd.DataFrame) -> None:
    design = build_design("y ~ scale(x) + f + (1 | g)", frame)
    new = frame.iloc[:4].copy()
    new.loc["row 1", "x"] = np.nan
    new.loc["row 3", "f"] = None
    rows = new_rows(design, new, ["g"])
    assert rows.complete.tolist() == [True, False, True, False]
    assert rows.skipped.reasons == {"missing x": ("row 1",), "missing f": ("row 3",)}
    np.testing.assert_allclose(rows.X, design.X[[0, 2]], rtol=1e-12)
    nothing = new_rows(design, new.assign(x=np.nan), ["g"])
    assert nothing.X.shape == (0, design.p)


def test_an_unknown_level_of_a_fixed_factor_is_refused(frame: pd.DataFrame) -> None:
    design = build_design("y ~ f + (1 | g)", frame)
    with pytest.raises(DesignError, match=r"'f' has 1 level\(s\).*'d'.*a, b, c"):
        new_rows(design, pd.DataFrame({"f": ["a", "d"], "g": [1, 1]}), ["g"])


@pytest.mark.parametrize(
    ("formula", "column", "message"),
    [("y ~ x", {"x": ["1"]}, "'x' held numbers"), ("y ~ t", {"t": ["yes"]}, "'t' held true and false")],
)
def test_a_column_of_another_kind_is_refused(frame: pd.DataFrame, formula: str, column: Any, message: str) -> None:
    design = build_design(f"{formula} + (1 | g)", frame)
    with pytest.raises(DesignError, match=message):
        new_rows(design, pd.DataFrame(column), [])


def test_levels_are_matched_by_name(frame: pd.DataFrame) -> None:
    design = build_design("y ~ C(k) + (1 | g)", frame.assign(k=frame["k"].astype(float)))
    whole = build_design("y ~ k + (1 | g)", frame.assign(k=frame["k"].astype("category")))
    assert new_rows(whole, pd.DataFrame({"k": ["3", "1"]}), []).X.tolist() == [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    assert new_rows(design, pd.DataFrame({"k": [3, 1]}), []).X.tolist() == [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("text", ["cumsum(x)", "rank(x)", "I(x - rank(x))"])
def test_functions_that_look_at_all_rows_and_forget_are_refused(frame: pd.DataFrame, text: str) -> None:
    own = {"rank": lambda x: x.rank(), "cumsum": np.cumsum}
    design = build_design(f"y ~ {text} + (1 | g)", frame, extra_namespace=own)
    with pytest.raises(DesignError, match="another value when other rows are left out"):
        new_rows(design, frame.iloc[:3], [])


def test_own_functions_of_one_row_are_fine(frame: pd.DataFrame) -> None:
    design = build_design(
        "y ~ half(x) + shift(z) + (1 | g)", frame, extra_namespace={"half": _half, "shift": _plus_one}
    )
    np.testing.assert_allclose(new_rows(design, frame.iloc[3:5], []).X, design.X[3:5])


def _half(x: Any) -> Any:
    return x / 2


def _plus_one(x: Any) -> Any:
    return x + 1


def test_rows_that_the_fixed_effects_cannot_reach_are_refused(frame: pd.DataFrame) -> None:
    data = frame[~((frame["f"] == "c") & frame["t"])]
    design = build_design("y ~ f * t + (1 | g)", data)
    assert design.aliased
    seen = new_rows(design, data.iloc[:6], [])
    np.testing.assert_allclose(seen.X, design.X[:6])
    with pytest.raises(DesignError, match=r"cannot predict 1 row\(s\) \(1\)"):
        new_rows(design, pd.DataFrame({"f": ["c", "c"], "t": [False, True]}), [])


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_other_tables_are_read(frame: pd.DataFrame, convert: Any) -> None:
    design = build_design("y ~ scale(x) + o + (1 | g)", frame)
    rows = new_rows(design, convert(frame.iloc[2:5].reset_index(drop=True)), ["g"])
    np.testing.assert_allclose(rows.X, design.X[2:5])
    assert rows.index.tolist() == [0, 1, 2]


def test_weights_of_new_rows(frame: pd.DataFrame) -> None:
    design = build_design("y ~ x + (1 | g)", frame, weights="1 / w")
    new = frame.iloc[:3]
    rows = new_rows(design, new, [], weighted=True)
    np.testing.assert_allclose(rows.weights, 1 / new["w"])
    assert new_rows(design, new, []).weights is None
    np.testing.assert_allclose(new_rows(design, new, [], weights=[1.0, 2.0, 3.0], weighted=True).weights, [1, 2, 3])
    with pytest.raises(DesignError, match="'w'"):
        new_rows(design, new.drop(columns="w"), [], weighted=True)
    plain = build_design("y ~ x + (1 | g)", frame, weights=frame["w"].to_numpy())
    with pytest.raises(DesignError, match="Pass weights="):
        new_rows(plain, new, [], weighted=True)
    assert new_rows(build_design("y ~ x + (1 | g)", frame), new, [], weighted=True).weights is None
    relative = build_design("y ~ x + (1 | g)", frame, weights="w / np.mean(w)")
    with pytest.raises(DesignError, match="more than one row at a time"):
        new_rows(relative, new, [], weighted=True)
    scaled = build_design("y ~ x + (1 | g)", frame.drop(columns="k"), weights="k * w", extra_namespace={"k": 3.0})
    np.testing.assert_allclose(new_rows(scaled, new.drop(columns="k"), [], weighted=True).weights, 3 * new["w"])
    with pytest.raises(DesignError, match="2 columns 'x'"):
        new_rows(scaled, pd.concat([new, new[["x"]]], axis=1), [])


def test_a_pickled_design_still_evaluates_new_rows(frame: pd.DataFrame) -> None:
    design = pickle.loads(pickle.dumps(build_design("y ~ scale(x) * o + (1 | g) + (1 | h)", frame)))
    _same(design, new_rows(design, frame.iloc[7:9], ["g", "h"]), np.array([7, 8]))
    lost = pickle.loads(
        pickle.dumps(build_design("y ~ own(x) + (1 | g)", frame, extra_namespace={"own": lambda x: -x}))
    )
    with pytest.raises(DesignError, match="'own' from extra_namespace"):
        new_rows(lost, frame.iloc[:2], [])


@pytest.mark.parametrize(
    ("formula", "contrasts"),
    [
        ("y ~ scale(x) * o + poly(z, 2) + t", {}),
        ("y ~ log(z) + f", {"f": pd.DataFrame([[1.0], [0.0], [-1.0]], index=["a", "b", "c"], columns=["p"])}),
        ("y ~ factor(k) + offset(z) + I(twice * x)", {}),
    ],
)
def test_a_saved_model_still_evaluates_new_rows(
    frame: pd.DataFrame, tmp_path: Path, formula: str, contrasts: Any
) -> None:
    model = Model(f"{formula} + (1 | g) + (x | h)", frame, contrasts=contrasts, extra_namespace={"twice": 2.0})
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").design
    _same(model.design, new_rows(again, frame.iloc[7:9], ["g", "h"]), np.array([7, 8]))


def test_a_saved_model_says_which_function_it_has_lost(frame: pd.DataFrame, tmp_path: Path) -> None:
    model = Model("y ~ half(x) + (1 | g)", frame, extra_namespace={"half": _half})
    model.save(tmp_path / "model")
    with pytest.raises(DesignError, match="'half' from extra_namespace, which could not be written"):
        new_rows(load(tmp_path / "model").design, frame.iloc[:2], [])


def test_changes_to_the_data_do_not_change_the_design(frame: pd.DataFrame) -> None:
    data = frame.copy()
    design = build_design("y ~ scale(x) + (1 | g)", data)
    before = new_rows(build_design("y ~ scale(x) + (1 | g)", frame), frame.iloc[:2], []).X
    data["x"] *= 100.0
    data.loc["row 0", "x"] = 1e6
    np.testing.assert_array_equal(new_rows(design, frame.iloc[:2], []).X, before)
