"""Data frames of three libraries, labels made late, designs that are copied and sent, long data."""

from __future__ import annotations

import copy
import itertools
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest

import bayeslmm as bl
from bayeslmm.design import Design, DroppedRows, Grouping, build_design
from bayeslmm.design.groups import group_by
from bayeslmm.design.rank import independent_columns
from bayeslmm.design.tables import kept_table, labels_of, to_pandas
from bayeslmm.errors import DesignError

LIBRARIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "polars": polars.from_pandas,
    "pyarrow": lambda frame: pyarrow.Table.from_pandas(frame, preserve_index=False),
    "narwhals": nw.from_native,
}


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "y": rng.normal(size=60),
            "x": [np.nan, *rng.normal(size=59)],
            # In the order of appearance, the only one that polars keeps.
            "f": pd.Categorical(np.tile(["lo", "mid", "hi"], 20), categories=["lo", "mid", "hi"]),
            "g": np.repeat([f"s{i}" for i in range(6)], 10),
            "h": np.tile(np.arange(5), 12),
            "w": rng.uniform(1, 2, 60),
            "t": pd.date_range("2020", periods=60),
        }
    )


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_tables_give_the_design_of_pandas(library: str) -> None:
    data = frame()
    formula = "y ~ x + f + (x | g) + (1 | h:g)"
    expected = build_design(formula, data, weights="1 / w")
    design = build_design(formula, LIBRARIES[library](data), weights="1 / w")
    for a, b in itertools.chain(
        [(expected.y, design.y), (expected.X, design.X), (expected.weights, design.weights)],
        [(s.Z, t.Z) for s, t in zip(expected.terms, design.terms, strict=True)],
        [(expected.groupings[name].codes, design.groupings[name].codes) for name in expected.groupings],
    ):
        np.testing.assert_array_equal(a, b)
    assert design.fixed_names == ("Intercept", "x", "f[mid]", "f[hi]")
    assert [g.levels for g in design.groupings.values()] == [g.levels for g in expected.groupings.values()]
    assert design.dropped.reasons == {"missing x": (0,)}


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_columns_in_use_are_converted(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    original = nw.DataFrame.to_pandas

    def spy(self: Any) -> pd.DataFrame:
        seen.append(list(self.columns))
        return original(self)

    monkeypatch.setattr(nw.DataFrame, "to_pandas", spy)
    build_design("y ~ x + (1 | g)", LIBRARIES[library](frame()), weights="w")
    assert seen in ([["y", "x", "g", "w"]], [])
    # A narwhals frame around a pandas one is converted too, without a copy.
    assert seen


def test_a_column_that_cannot_be_converted_does_no_harm_if_unused() -> None:
    data = polars.from_pandas(frame()).with_columns(polars.Series("odd", [object()] * 60, dtype=polars.Object))
    assert build_design("y ~ 1 + (1 | g)", data).n == 60


@pytest.mark.parametrize("library", LIBRARIES)
def test_missing_columns_are_named_among_all(library: str) -> None:
    with pytest.raises(DesignError, match=r"'X', which is not a column.*Did you mean 'x'.*Columns are: y, x, f, g, h"):
        build_design("y ~ X + (1 | g)", LIBRARIES[library](frame()))
    with pytest.raises(DesignError, match=r"In weights='u \* 2': .*'u'"):
        build_design("y ~ x + (1 | g)", LIBRARIES[library](frame()), weights="u * 2")


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_tables_without_rows(library: str) -> None:
    with pytest.raises(DesignError, match=r"no rows \(7 columns\)"):
        build_design("y ~ x + (1 | g)", LIBRARIES[library](frame().iloc[:0]))


def test_pyarrow_with_a_name_twice() -> None:
    table = pyarrow.table([pyarrow.array([1.0, 2.0])] * 3, names=["y", "x", "x"])
    with pytest.raises(DesignError, match="several columns of one name"):
        build_design("y ~ x + (1 | g)", table)


def test_whole_tables_are_still_converted_on_request() -> None:
    assert list(to_pandas(polars.from_pandas(frame()))) == list(frame())


def test_later_changes_of_the_data_do_not_reach_the_design() -> None:
    data, weights = frame().drop(index=0), np.full(59, 2.0)
    design = build_design("y ~ x + (x | h)", data, weights=weights)
    before = pickle.dumps(design)
    data.iloc[:, [0, 1, 4]] = 7
    weights[:] = 9.0
    assert pickle.dumps(design) == before


def test_labels_of_dropped_rows_are_plain_values() -> None:
    data = frame().set_index(pd.MultiIndex.from_arrays([np.arange(60), pd.date_range("2020", periods=60)]))
    data.loc[data.index[5], "y"] = np.nan
    dropped = build_design("y ~ x + (1 | g)", data).dropped
    first, second = (0, pd.Timestamp("2020-01-01")), (5, pd.Timestamp("2020-01-06"))
    assert len(dropped) == 2
    assert str(dropped) == (
        f"2 rows dropped (missing y: {second}; missing x: {first})"  # reasons in the order of the formula
    )
    assert dropped == DroppedRows((first, second), {"missing y": (second,), "missing x": (first,)})
    assert dropped.labels == (first, second) and type(dropped.labels) is tuple
    assert dropped.reasons == {"missing y": (second,), "missing x": (first,)}
    assert repr(dropped) == repr(DroppedRows((first, second), {"missing y": (second,), "missing x": (first,)}))


def test_dropped_rows_given_by_hand() -> None:
    assert (DroppedRows().labels, DroppedRows().reasons, len(DroppedRows())) == ((), {}, 0)
    assert str(DroppedRows()) == "no rows dropped"
    by_name = DroppedRows(labels=(1, 2), reasons={"weight 0": (1, 2)})
    assert str(by_name) == "2 rows dropped (weight 0: 1, 2)"
    assert by_name == DroppedRows((1, 2), {"weight 0": (1, 2)}) != DroppedRows((1,), {"weight 0": (1,)})
    many = DroppedRows(tuple(range(20)), {"missing x": tuple(range(20))})
    assert str(many) == "20 rows dropped (missing x: 0, 1, 2, 3, 4, 5, 6, 7, ... (20 in all))"


LEVELS = {
    "int": np.array([5, -3, 5, 40]),
    "int8 over its whole range": np.array([127, -128, 127, 0], dtype=np.int8),
    "uint64 beyond int64": np.array([2**64 - 1, 0, 2**63, 5], dtype=np.uint64),
    "far apart": np.array([10**15, -(10**15), 3, 3]),
    "ends of int64": np.array([-(2**63), 2**63 - 1, 0, 0]),
    "bool": np.array([True, False, True, True]),
    "float": np.array([2.0, -0.5, 2.0, 1e22]),
    "string": pd.array(["b", "a", "\u00e9", "B"], dtype="str"),
    "object": np.array(["b", "a", "b", "B"], dtype=object),
    "nullable": pd.array([3, 1, 3, 2], dtype="Int64"),
    "time": pd.to_datetime(["2020-02-01", "2020-01-01", "2020-02-01", "2021-01-01"]),
}


@pytest.mark.parametrize("kind", LEVELS)
def test_codes_against_sorting_in_plain_python(kind: str) -> None:
    values = pd.Series(LEVELS[kind])
    plain = values.tolist()
    expected = sorted(set(plain))
    grouping = group_by({"g": values}, ["g"])
    assert grouping.codes.tolist() == [expected.index(v) for v in plain]
    assert grouping.codes.dtype == np.int64
    assert grouping.n_levels == len(expected)
    shown = {"float": lambda v: str(int(v)) if v in (2.0, 1e22) else str(v), "time": lambda v: str(v.date())}
    assert grouping.levels == tuple(map(shown.get(kind, str), expected))


def test_cells_of_two_factors_against_plain_python() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 900, 1000) * 10**7, rng.choice(list("xyz"), 1000)
    c = pd.Categorical(b, categories=["z", "unused", "y", "x"])
    cells = sorted(set(zip(a.tolist(), ("zyx".index(v) for v in b), strict=True)))
    grouping = group_by({"a": pd.Series(a), "c": pd.Series(c)}, ["a", "c"])
    assert grouping.levels == tuple(f"{i}:{'zyx'[j]}" for i, j in cells)
    assert [cells[k] for k in grouping.codes] == [(i, "zyx".index(v)) for i, v in zip(a.tolist(), b, strict=True)]


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"a": pd.Series(["p:q", "p", "r"]), "b": pd.Series(["r", "q:r", "s"])}, "p:q:r"),
        ({"a": pd.Series([1, "1", "2"], dtype=object)}, "1"),
        ({"a": pd.Series(pd.Categorical([1, "1", 2.0]))}, "1"),
    ],
    ids=["colons", "objects", "categories"],
)
def test_two_levels_of_one_name_are_refused(columns: dict[str, pd.Series], name: str) -> None:
    with pytest.raises(DesignError, match=f"both be called '{name}'"):
        group_by(columns, list(columns))


def test_names_of_levels_are_made_once_and_only_when_read() -> None:
    grouping = group_by({"g": pd.Series(np.arange(1000))}, ["g"])
    assert not isinstance(vars(grouping)["levels"], tuple)
    assert grouping.n_levels == 1000 and not isinstance(vars(grouping)["levels"], tuple)
    assert grouping.levels is grouping.levels
    with pytest.raises(AttributeError):
        grouping.levels = ()
    with pytest.raises(TypeError, match="levels"):
        Grouping("g", np.arange(3))


@pytest.mark.parametrize(
    "case", ["plain", "copy of a column", "sum of columns", "rare row", "wide", "no intercept", "tiny scale", "zero"]
)
def test_dependent_columns_of_long_data_against_the_singular_values(case: str) -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    X = np.column_stack([np.ones(n), rng.normal(size=n), 1e6 + rng.normal(size=n), rng.integers(0, 2, n)])
    if case == "copy of a column":
        X[:, 3] = 2 * X[:, 1] - 1
    elif case == "sum of columns":
        X[:, 2] = X[:, 1] + X[:, 3]
    elif case == "rare row":
        X[:, 3] = np.arange(n) == 12_345
    elif case == "wide":
        X = np.column_stack([X, np.eye(n, 6)])
    elif case == "no intercept":
        X = X[:, 1:]
    elif case == "tiny scale":
        X[:, 1] *= 1e-100
    elif case == "zero":
        X[:, 3] = 0
    scaled = X / np.where(np.abs(X).max(0) > 0, np.abs(X).max(0), 1)
    # NumPy 2.0 has no rank of no columns
    ranks = [0, *(np.linalg.matrix_rank(scaled[:, : j + 1]) for j in range(X.shape[1]))]
    keep = np.flatnonzero(np.diff(ranks)).tolist()
    assert independent_columns(X).tolist() == keep


def same(a: bl.REMLResult, b: bl.REMLResult) -> None:
    assert (a.criterion, a.sigma, a.status) == (b.criterion, b.sigma, b.status)
    np.testing.assert_array_equal(a.theta, b.theta)
    pd.testing.assert_series_equal(a.fixef(), b.fixef(), check_exact=True)
    pd.testing.assert_frame_equal(a.confint(), b.confint(), check_exact=True)
    assert str(a.summary()) == str(b.summary())
    assert a.design.dropped == b.design.dropped


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("before_use", [True, False])
def test_copies_of_models_and_results(duplicate: Callable[[Any], Any], before_use: bool) -> None:
    data = frame()
    data["g"] = pd.Categorical(data["g"])
    model = bl.Model("y ~ x + (x | g)", data)
    if before_use:
        same(duplicate(model).fit(), model.fit())
        return
    fit = model.fit()
    fit.summary()
    fit.confint()
    same(duplicate(model).fit(), fit)
    same(duplicate(fit), fit)
    design: Design = duplicate(fit.design)
    assert design.groupings["g"].levels == fit.design.groupings["g"].levels == tuple(f"s{i}" for i in range(6))
    assert design.dropped.reasons == {"missing x": (0,)}
    optimum = duplicate(fit.optimum)
    assert optimum.status is fit.optimum.status
    np.testing.assert_array_equal(optimum.hessian, fit.optimum.hessian)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("method", ["quadrature", "importance"])
def test_copies_of_posteriors(duplicate: Callable[[Any], Any], method: str) -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    post = model.sample(100, method=method, random_seed=1)
    again = duplicate(post)
    pd.testing.assert_frame_equal(again.table(), post.table(), check_exact=True)
    pd.testing.assert_frame_equal(again.ranef()["Batch"], post.ranef()["Batch"], check_exact=True)
    assert str(again.summary()) == str(post.summary())
    assert again.priors == post.priors


def criterion(model: bl.Model) -> bl.REMLResult:
    return model.fit()


def test_models_go_to_another_process_and_fits_come_back() -> None:
    models = [bl.Model(f"y ~ x + ({left} | g)", frame()) for left in ("1", "x")]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        fits = pool.map(criterion, models)
    for model, fit in zip(models, fits, strict=True):
        same(fit, model.fit())


def test_labels_of_an_index_are_its_own_whatever_was_asked_before() -> None:
    for k in range(12):
        index = pd.Index([f"a{k}", f"b{k}"], name=f"n{k}")
        assert list(labels_of(index)) == [f"a{k}", f"b{k}"]
        assert list(labels_of(index.view())) == index.tolist()
    assert list(labels_of(pd.Index([1, "x"], dtype=object))) == [1, "x"]
    assert list(labels_of(pd.RangeIndex(2))) == [0, 1]


def test_a_table_that_is_kept_has_the_columns_and_does_not_follow_the_user() -> None:
    data = frame()
    data.attrs["said"] = {"much": 1}
    data.columns.name = "variables"
    kept = kept_table(data)
    assert kept.columns.tolist() == data.columns.tolist()
    assert kept.columns.name == "variables"
    assert not kept.attrs
    before = data.copy()
    data.loc[3, "y"] = 1e6
    data["new"] = 0.0
    data.columns = [*"abcdefghijklmnop"[: data.shape[1]]]
    for name in before:
        assert kept[name].tolist()[1:] == before[name].tolist()[1:]
    assert data.attrs == {"said": {"much": 1}}
