"""Formulas, coding, groups and rows."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import Diagonal, Unstructured, build_design, parse_formula
from bayeslmm.design.contrasts import contrast_matrix
from bayeslmm.design.groups import group_by, level_name
from bayeslmm.design.rank import independent_columns


@pytest.fixture
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=36),
            "x": rng.normal(size=36),
            "f": pd.Categorical(np.tile(list("abc"), 12), categories=list("cab")),
            "g": np.repeat(range(6), 6),
            "h": np.tile(np.repeat(range(3), 2), 6),
        }
    )
    return frame


@pytest.mark.parametrize(
    ("formula", "fixed", "labels"),
    [
        ("y ~ x + (1 | g)", "x", ["(1 | g)"]),
        ("y ~ (x | g)", "1", ["(x | g)"]),
        ("y~x+(x||g)+(0+x|h)", "x", ["(x || g)", "(0 + x | h)"]),
        ("y ~ 1 + (1 | a/b)", "1", ["(1 | a)", "(1 | a:b)"]),
        ("y ~ 1 + (x | a/b/c)", "1", ["(x | a)", "(x | a:b)", "(x | a:b:c)"]),
        ("y ~ 1 + (1 | a:b)", "1", ["(1 | a:b)"]),
        ("y ~ 1 | g", "1", ["(1 | g)"]),
        ("y ~ x - 1 + (1 | g)", "x - 1", ["(1 | g)"]),
        ("y ~ (1 | g) - 1 + x", "1 - 1 + x", ["(1 | g)"]),
        ("y ~ (x + z)^2 + (1 | g)", "(x + z)**2", ["(1 | g)"]),
    ],
)
def test_parse(formula: str, fixed: str, labels: list[str]) -> None:
    parsed = parse_formula(formula)
    assert parsed.fixed.replace(" ", "") == fixed.replace(" ", "")
    assert [bar.label for bar in parsed.bars] == labels


def test_offsets_leave_the_fixed_part() -> None:
    parsed = parse_formula("y ~ offset(10 * x) + z + offset(w) + (1 | g)")
    assert parsed.offsets == ("10 * x", "w") and parsed.fixed == "z"


def indicator(data: pd.DataFrame, levels: str) -> np.ndarray:
    return np.column_stack([(data["f"] == level).to_numpy(float) for level in levels])


def test_order_of_categories_is_respected(data: pd.DataFrame) -> None:
    design = build_design("y ~ f + (1 | g)", data)
    assert design.fixed_names == ("Intercept", "f[a]", "f[b]")
    np.testing.assert_array_equal(design.X[:, 1:], indicator(data, "ab"))


@pytest.mark.parametrize(
    ("left", "names", "levels"),
    [("f", ("Intercept", "f[a]", "f[b]"), "ab"), ("0 + f", ("f[c]", "f[a]", "f[b]"), "cab")],
)
def test_left_sides_are_coded_like_model_matrix(
    data: pd.DataFrame, left: str, names: tuple[str, ...], levels: str
) -> None:
    term = build_design(f"y ~ 1 + ({left} | g)", data).terms[0]
    assert term.effects == names
    np.testing.assert_array_equal(term.Z[:, -len(levels) :], indicator(data, levels))
    assert isinstance(term.structure, Unstructured)


def test_interaction_columns_in_rs_order(data: pd.DataFrame) -> None:
    data["k"] = np.repeat(list("uvw"), 12)
    names = build_design("y ~ f * k + x + (1 | g)", data).fixed_names
    # R: main effects first, and the first factor of an interaction varies fastest
    assert names == (
        "Intercept", "f[a]", "f[b]", "k[v]", "k[w]", "x",
        "f[a]:k[v]", "f[b]:k[v]", "f[a]:k[w]", "f[b]:k[w]",
    )  # fmt: skip


def test_double_bar_is_diagonal(data: pd.DataFrame) -> None:
    term = build_design("y ~ x + (x || g)", data).terms[0]
    assert isinstance(term.structure, Diagonal) and term.effects == ("Intercept", "x")


def test_groups_are_the_cells_that_occur(data: pd.DataFrame) -> None:
    some = data[(data["g"] != 2) | (data["h"] != 1)]
    grouping = build_design("y ~ 1 + (1 | g:h)", some).groupings["g:h"]
    assert grouping.n_levels == 17 and "2:1" not in grouping.levels
    assert grouping.levels[:4] == ("0:0", "0:1", "0:2", "1:0")
    for code, g, h in zip(grouping.codes, some["g"], some["h"], strict=True):
        assert grouping.levels[code] == f"{g}:{h}"


def test_float_levels_lose_their_point_zero(data: pd.DataFrame) -> None:
    data["g"] = data["g"] + 308.0
    assert build_design("y ~ 1 + (1 | g)", data).groupings["g"].levels[0] == "308"


def test_missing_rows_are_dropped_counted_and_listed(data: pd.DataFrame) -> None:
    data.index = [f"r{i}" for i in range(36)]
    data.loc["r3", "x"] = np.nan
    data.loc[["r3", "r8"], "y"] = np.nan
    before = data.copy()
    model = bl.Model("y ~ x + (1 | g)", data)
    assert model.n == 34 and len(model.dropped) == 2
    assert model.dropped.reasons == {"missing y": ("r3", "r8"), "missing x": ("r3",)}
    assert "2 rows dropped" in repr(model) and "r8" in repr(model)
    pd.testing.assert_frame_equal(data, before)
    clean = bl.Model("y ~ x + (1 | g)", data.dropna()).fit()
    assert model.fit().criterion == clean.criterion


def test_zero_weights_leave_rows_out(data: pd.DataFrame) -> None:
    weights = np.ones(36)
    weights[[0, 1]] = 0.0
    model = bl.Model("y ~ x + (1 | g)", data, weights=weights)
    assert model.n == 34 and model.dropped.reasons["weight 0"] == (0, 1)
    assert model.fit().criterion == bl.Model("y ~ x + (1 | g)", data.iloc[2:]).fit().criterion


def test_weights_as_expression(data: pd.DataFrame) -> None:
    text = bl.Model("y ~ x + (1 | g)", data, weights="1 / (1 + x**2)").fit()
    array = bl.Model("y ~ x + (1 | g)", data, weights=1 / (1 + data["x"] ** 2)).fit()
    assert text.criterion == array.criterion


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_other_tables(data: pd.DataFrame, kind: str) -> None:
    library = pytest.importorskip(kind)
    plain = data.drop(columns="f")
    table = library.from_pandas(plain) if kind == "polars" else library.Table.from_pandas(plain)
    formula = "y ~ x + (1 | g)"
    assert bl.Model(formula, table).fit().criterion == bl.Model(formula, plain).fit().criterion


@pytest.mark.parametrize("text", ["np.log(z)", "log(z)", "I(z**2)", "sqrt(z)", "x:z"])
def test_transformations(data: pd.DataFrame, text: str) -> None:
    data["z"] = np.exp(data["x"]) + 1.0
    expected = {
        "np.log(z)": np.log(data["z"]),
        "log(z)": np.log(data["z"]),
        "I(z**2)": data["z"] ** 2,
        "sqrt(z)": np.sqrt(data["z"]),
        "x:z": data["x"] * data["z"],
    }[text]
    np.testing.assert_allclose(build_design(f"y ~ {text} + (1 | g)", data).X[:, 1], expected)


def test_extra_namespace(data: pd.DataFrame) -> None:
    design = build_design("y ~ double(x) + (1 | g)", data, extra_namespace={"double": lambda v: 2 * v})
    np.testing.assert_array_equal(design.X[:, 1], 2 * data["x"])


def test_dependent_columns_are_named_and_left_out(data: pd.DataFrame) -> None:
    data["z"] = 1e8 + 1e-3 * data["x"]
    model = bl.Model("y ~ x + I(2 * x) + (1 | g)", data)
    assert model.design.aliased == ("I(2 * x)",) and "I(2 * x)" in repr(model)
    # far from zero and tiny, but not dependent
    assert bl.Model("y ~ z + (1 | g)", data).design.aliased == ()


def test_independent_columns_keep_their_order() -> None:
    x = np.arange(6.0)
    X = np.column_stack([np.ones(6), np.zeros(6), x, x + 1, x**2])
    assert independent_columns(X).tolist() == [0, 2, 4]


def test_contrasts_against_r() -> None:
    # contr.helmert(3), contr.sum(3), contr.poly(4) as R prints them
    np.testing.assert_array_equal(contrast_matrix("helmert", 3), [[-1, -1], [1, -1], [0, 2]])
    np.testing.assert_array_equal(contrast_matrix("sum", 3), [[1, 0], [0, 1], [-1, -1]])
    poly = [
        [-0.6708204, 0.5, -0.2236068],
        [-0.2236068, -0.5, 0.6708204],
        [0.2236068, -0.5, -0.6708204],
        [0.6708204, 0.5, 0.2236068],
    ]
    np.testing.assert_allclose(contrast_matrix("poly", 4), poly, atol=1e-7)


def test_designs_pickle(data: pd.DataFrame) -> None:
    design = build_design("y ~ x * f + (x | g)", data)
    again = pickle.loads(pickle.dumps(design))
    np.testing.assert_array_equal(again.X, design.X)
    assert again.fixed_names == design.fixed_names


@pytest.mark.parametrize(
    ("formula", "fixed", "labels"),
    [
        ("y ~ x + ((1 | g))", "x", ["(1 | g)"]),
        ("y ~ x + (1 | (a / b))", "x", ["(1 | a)", "(1 | a:b)"]),
        ("y ~ x || g", "1", ["(x || g)"]),
        ("y ~ -1 + x + (-1 + x | g)", "1 - 1 + x", ["(-1 + x | g)"]),
        ("y ~ x + z %in% f + (1 | g)", "x + z:f", ["(1 | g)"]),
        ("y ~ (1 | `the g`:h) + {x * 2}", "{x*2}", ["(1 | the g:h)"]),
    ],
)
def test_parse_further(formula: str, fixed: str, labels: list[str]) -> None:
    parsed = parse_formula(formula)
    assert parsed.fixed.replace(" ", "") == fixed.replace(" ", "")
    assert [bar.label for bar in parsed.bars] == labels


def test_offsets_are_added(data: pd.DataFrame) -> None:
    design = build_design("y ~ offset(2 * x) + offset(3) + (1 | g)", data)
    np.testing.assert_allclose(design.offset, 2 * data["x"] + 3)
    assert design.fixed_names == ("Intercept",)


def test_names_of_functions_may_be_columns(data: pd.DataFrame) -> None:
    data = data.assign(log=np.exp(data["x"]), np=1.0 + data["x"] ** 2)
    design = build_design("y ~ log + log(log) + np.sqrt(np) + (1 | g)", data)
    np.testing.assert_allclose(design.X[:, 1:], np.column_stack([data["log"], data["x"], np.sqrt(data["np"])]))
    assert design.fixed_names[1:] == ("log", "log(log)", "np.sqrt(np)")


def test_names_in_backquotes_within_calls_and_groups(data: pd.DataFrame) -> None:
    odd = data.assign(**{"a b": np.exp(data["x"])}).rename(columns={"g": "it's g"})
    design = build_design("log(`a b`) ~ exp(`a b`) + (log(`a b`) | `it's g`:h)", odd, saturated="allow")
    np.testing.assert_allclose(design.y, data["x"])
    assert design.fixed_names == ("Intercept", "exp(`a b`)")
    assert design.terms[0].effects == ("Intercept", "log(`a b`)") and design.terms[0].group == "it's g:h"


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (["10", "9", "10 ", "9"], ("10", "10 ", "9")),
        ([10, 9, 100, 9], ("9", "10", "100")),
        ([True, False, True, False], ("False", "True")),
        (pd.Categorical(["u", "w", "u", "w"], ["w", "v", "u"]), ("w", "u")),
        (pd.Categorical(["u", "w", "u", "w"], ["w", "v", "u"], ordered=True), ("w", "u")),
        (pd.Categorical([2.0, 1.0, 2.0, 1.0]), ("1", "2")),
        ([1, "a", 1, "a"], ("1", "a")),
    ],
)
def test_order_and_names_of_levels(values: object, levels: tuple[str, ...]) -> None:
    grouping = group_by({"g": pd.Series(values)}, ("g",))
    assert grouping.levels == levels
    expected = [level_name(value) for value in pd.Series(values).tolist()]
    assert [grouping.levels[code] for code in grouping.codes] == expected


def test_nullable_columns(data: pd.DataFrame) -> None:
    nullable = data.convert_dtypes()
    nullable.loc[3, "x"] = pd.NA
    design = build_design("y ~ x + (1 | g)", nullable)
    np.testing.assert_array_equal(design.X[:, 1], data["x"].drop(index=3))
    assert design.dropped.reasons == {"missing x": (3,)}


def test_repeated_index_labels(data: pd.DataFrame) -> None:
    data.loc[[3, 4], "x"] = np.nan
    design = build_design("y ~ x + (1 | g)", data.set_axis([7] * 36))
    assert design.n == 34 and design.dropped.labels == (7, 7)


def test_rank_far_from_zero_without_intercept(data: pd.DataFrame) -> None:
    z = 1e8 + 1e-3 * data["x"].to_numpy()
    f = indicator(data, "cab")
    assert independent_columns(np.column_stack([f, z])).tolist() == [0, 1, 2, 3]
    assert independent_columns(np.column_stack([f, z, z])).tolist() == [0, 1, 2, 3]
    assert independent_columns(np.column_stack([f, np.ones(36), z])).tolist() == [0, 1, 2, 4]


def test_rank_of_very_different_scales(data: pd.DataFrame) -> None:
    x, z = data["x"].to_numpy(), np.exp(data["x"].to_numpy())
    X = np.column_stack([np.ones(36), 1e-9 * x, 1e9 * z, x])
    assert independent_columns(X).tolist() == [0, 1, 2]


def test_a_million_labels_are_not_a_tuple(data: pd.DataFrame) -> None:
    assert isinstance(build_design("y ~ x + (1 | g)", data).index, np.ndarray)
