"""Codings by name, indicator columns, a dot for all other columns, several grouping factors in one bar."""

from __future__ import annotations

from typing import Any

import formulae
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.design.dot import without_dot
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.newdata import new_rows
from bayeslmm.errors import DesignError, FormulaError

LEVELS = ("a", "b", "c", "d")
# The numbers that R prints for the four levels: R 4.2.2, lme4 1.1-31,
# d <- data.frame(f = factor(c("a", "b", "c", "d")), x = c(1, 2, 4, 8)); model.matrix(~ ..., d).
L, Q, C = 0.670820393249937, 0.5, 0.223606797749979
OF_R: dict[str, tuple[list[str], list[list[float]]]] = {
    "C(f, sum)": (["[1]", "[2]", "[3]"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]]),
    "C(f, contr.sum)": (["[1]", "[2]", "[3]"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]]),
    "C(f, 'contr.sum')": (["[1]", "[2]", "[3]"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]]),
    "C(f, Sum)": (["[a]", "[b]", "[c]"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]]),
    "C(f, helmert)": (["[1]", "[2]", "[3]"], [[-1, -1, -1], [1, -1, -1], [0, 2, -1], [0, 0, 3]]),
    "C(f, Helmert)": (["[1]", "[2]", "[3]"], [[-1, -1, -1], [1, -1, -1], [0, 2, -1], [0, 0, 3]]),
    "C(f, poly)": ([".L", ".Q", ".C"], [[-L, Q, -C], [-C, -Q, L], [C, -Q, -L], [L, Q, C]]),
    "C(f, Poly)": ([".L", ".Q", ".C"], [[-L, Q, -C], [-C, -Q, L], [C, -Q, -L], [L, Q, C]]),
    "C(f, Poly())": ([".L", ".Q", ".C"], [[-L, Q, -C], [-C, -Q, L], [C, -Q, -L], [L, Q, C]]),
    "C(f, SAS)": (["[a]", "[b]", "[c]"], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
    "dummy(f)": (["[b]", "[c]", "[d]"], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "dummy(f, ['c', 'a'])": (["[c]", "[a]"], [[0, 1], [0, 0], [1, 0], [0, 0]]),
    "dummy(f, 'b')": ([""], [[0], [1], [0], [0]]),
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "y": rng.normal(size=48),
            "f": np.tile(LEVELS, 12),
            "x": [1.0, 2.0, 4.0, 8.0, *rng.integers(1, 99, 44).astype(float)],
            "k": np.tile([10, 30, 20], 16),
            "g": np.repeat(np.arange(6), 8),
            "h": np.tile(np.arange(8), 6),
        }
    )


@pytest.mark.parametrize("call", OF_R)
def test_columns_are_those_of_r(frame: pd.DataFrame, call: str) -> None:
    names, rows = OF_R[call]
    design = build_design(f"y ~ {call} + (1 | g)", frame)
    label = design.fixed_names[1].removesuffix(names[0])
    assert design.fixed_names == ("Intercept", *(f"{label}{name}" for name in names))
    np.testing.assert_allclose(design.X[:4, 1:], rows, atol=1e-14)


def test_indicators_are_numbers_that_no_missing_intercept_recodes(frame: pd.DataFrame) -> None:
    # R: colnames(model.matrix(~ 0 + dummy(f) * x, d)) has dummy(f)b, c, d, x and their products.
    design = build_design("y ~ 0 + dummy(f) * x + (1 | g)", frame)
    expected = [[0, 0, 0, 1, 0, 0, 0], [1, 0, 0, 2, 2, 0, 0], [0, 1, 0, 4, 0, 4, 0], [0, 0, 1, 8, 0, 0, 8]]
    assert design.X[:4].tolist() == expected
    assert design.fixed_names[4] == "dummy(f)[b]:x"


@pytest.mark.parametrize(
    "call",
    [
        "C(f)",
        "C(f, levels=lvls)",
        "C(f, Treatment('c'))",
        "C(f, Sum)",
        "C(f, Sum('b'))",
        "C(f, Sum('b'), levels=lvls)",
        "T(f, 'd')",
        "S(f)",
        "S(f, 'a')",
        "S(k)",
        "C(k, Treatment(20))",
        "binary(f)",
        "binary(f, 'b')",
        "B(k, 20)",
        "standardize(x)",
        "center(x)",
    ],
)
def test_columns_are_those_of_formulae_also_on_new_rows(frame: pd.DataFrame, call: str) -> None:
    lvls = ["d", "b", "a", "c"]
    design = build_design(f"y ~ {call} + (1 | g)", frame, extra_namespace={"lvls": lvls})
    theirs = formulae.design_matrices(f"y ~ {call}", frame)
    np.testing.assert_allclose(design.X, np.asarray(theirs.common), atol=1e-13)
    new = frame.iloc[[5, 2, 0, 7, 1]].assign(x=[3.0, -1.0, 0.0, 5.5, 2.0])
    expected = np.asarray(theirs.common.evaluate_new_data(new))
    np.testing.assert_allclose(new_rows(design, new, []).X, expected, atol=1e-13)


def test_one_new_row_gets_the_columns_it_would_have_had(frame: pd.DataFrame) -> None:
    design = build_design("y ~ dummy(f) + C(f, Poly):x + (1 + fulldummy(f) || g)", frame, saturated="allow")
    for level, place in zip(LEVELS, range(4), strict=True):
        row = new_rows(design, pd.DataFrame({"f": [level], "x": [2.0**place], "g": [3]}), ["g"])
        np.testing.assert_allclose(row.X[0], design.X[place], atol=1e-14)
        assert row.Z[0][0].tolist() == [1.0, *(float(level == other) for other in LEVELS)]


def test_all_indicators_beside_an_intercept(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    effects = rng.normal(size=(6, 4)) * [0.5, 1.0, 2.0, 1.0] + rng.normal(size=(6, 1))
    data = frame.assign(y=effects[frame["g"], np.tile(range(4), 12)] + 0.3 * frame["y"])
    model = bl.Model("y ~ x + (1 + fulldummy(f) || g)", data)
    assert model.design.terms[0].effects == ("Intercept", *(f"fulldummy(f)[{level}]" for level in LEVELS))
    fit = model.fit()
    Z = np.column_stack([np.ones(48), *((data["f"] == level).astype(float) for level in LEVELS)])
    same = (data["g"].to_numpy()[:, None] == data["g"].to_numpy()).astype(float)

    def criterion(variances: np.ndarray, residual: float) -> float:
        V = residual * np.eye(48) + same * (Z * variances @ Z.T)
        X = np.column_stack([np.ones(48), data["x"]])
        W = np.linalg.inv(V)
        r = data["y"].to_numpy() - X @ np.linalg.solve(X.T @ W @ X, X.T @ W @ data["y"])
        constant = 46 * np.log(2 * np.pi)
        return float(np.linalg.slogdet(V)[1] + np.linalg.slogdet(X.T @ W @ X)[1] + r @ W @ r + constant)

    variances = (fit.theta * fit.sigma) ** 2
    np.testing.assert_allclose(fit.criterion, criterion(variances, fit.sigma**2), rtol=1e-10)
    for k in range(5):
        higher = variances.copy()
        higher[k] += 0.02
        assert criterion(higher, fit.sigma**2) > fit.criterion


def test_indicators_in_the_fixed_part_leave_one_out(frame: pd.DataFrame) -> None:
    design = build_design("y ~ fulldummy(f) + (1 | g)", frame)
    assert design.aliased == ("fulldummy(f)[d]",)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("C(f, 'b')", r"'b' is a level.*C\(f, Treatment\('b'\)\)"),
        ("C(f, Sum('z'))", "'z' is no level"),
        ("C(f, 'summ')", "Unknown contrasts 'summ'"),
        ("C(f, levels=['a', 'b', 'c'])", "leaves out 'd'"),
        ("C(f, levels=k)", "not a column"),
        ("C(f, x)", "not a column"),
        ("dummy(f, 'z')", "'z' is no level"),
        ("dummy(f, ['a', 'a'])", "each named once"),
        ("dummy(f, x)", "not a column"),
        ("fulldummy(f, 'a')", r"takes 1 value"),
        ("I(2 * dummy(f))", "columns of the levels b, c, d"),
        ("dummy()", "needs its column|takes 1 to 2"),
        ("pmin(x, sum)", "needs numbers"),
        ("Poly(f)", "takes 0 value"),
    ],
)
def test_what_is_no_coding_is_said(frame: pd.DataFrame, call: str, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        build_design(f"y ~ {call} + (1 | g)", frame)


def test_columns_called_like_codings_are_columns(frame: pd.DataFrame) -> None:
    data = frame.assign(sum=frame["x"], poly=frame["k"] * 1.0)
    assert build_design("y ~ sum + poly + (1 | g)", data).fixed_names == ("Intercept", "sum", "poly")
    with pytest.raises(DesignError, match="'treatment', which is not a column"):
        build_design("y ~ treatment + (1 | g)", frame)
    with pytest.raises(DesignError, match="'sum', which is not a column"):
        build_design("y ~ I(2 * sum) + (1 | g)", frame)


# --- all other columns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("y ~ . + (1 | g)", ("x", "k", "h", "f[b]")),
        ("y ~ . - f - h + (1 | g)", ("x", "k")),
        ("y ~ . + (1 | g) + (1 | h)", ("x", "k", "f[b]")),
        ("y ~ x:(. - f) + (1 | g/h)", ("x", "x:k")),
        ("log(y + 9) ~ . - f + (1 | g:h)", ("x", "k")),
        ("y ~ . - f + offset(k) + (1 | g)", ("x", "h")),
        ("y ~ (. - f)^2 + (1 | g)", ("x", "k", "h", "x:k", "x:h", "k:h")),
    ],
)
def test_a_dot_is_all_other_columns(frame: pd.DataFrame, formula: str, names: tuple[str, ...]) -> None:
    found = build_design(formula, frame, saturated="allow").fixed_names
    assert sorted(name for name in found[1:] if name not in ("f[c]", "f[d]")) == sorted(names)


def test_weights_are_no_predictors(frame: pd.DataFrame) -> None:
    data = frame[["y", "x", "g"]].assign(w=1.5, n=2)
    design = build_design("y ~ . + (1 | g)", data, weights="w", frequency="n")
    assert design.fixed_names == ("Intercept", "x")


def test_the_formula_says_what_the_dot_was(frame: pd.DataFrame) -> None:
    data = frame[["y", "x", "f", "g"]].rename(columns={"x": "reaction time"})
    model = bl.Model("y ~ . + (1 | g)", data)
    assert model.formula == "y ~ (`reaction time` + f) + (1 | g)"
    written = bl.Model("y ~ `reaction time` + f + (1 | g)", data)
    assert model.fit().criterion == written.fit().criterion
    new = data.iloc[:3].assign(other=1.0)
    assert pd.DataFrame(model.fit().predict(new)).equals(pd.DataFrame(written.fit().predict(new)))


@pytest.mark.parametrize(
    ("formula", "place"),
    [("y ~ log(.) + (1 | g)", 8), (". ~ x + (1 | g)", 0), ("y ~ x + (1 | .)", 13), ("y ~ x + offset(.) + (1 | g)", 15)],
)
def test_a_dot_where_one_column_is_needed(frame: pd.DataFrame, formula: str, place: int) -> None:
    with pytest.raises(FormulaError, match="a single column is needed") as raised:
        build_design(formula, frame)
    assert raised.value.position == place


def test_other_errors_beside_a_dot_stand_at_their_place(frame: pd.DataFrame) -> None:
    with pytest.raises(FormulaError, match="second ~") as raised:
        build_design("y ~ . ~ (1 | g)", frame)
    assert raised.value.position == 6
    with pytest.raises(FormulaError, match="no random-effects term"):
        build_design("y ~ .", frame)
    with pytest.raises(FormulaError, match="the data have none"):
        build_design("y ~ . + (1 | g)", frame[["y", "g"]])
    with pytest.raises(FormulaError, match="known where the data are given"):
        parse_formula("y ~ . + (1 | g)")


def test_dots_in_names_numbers_and_text_are_none(frame: pd.DataFrame) -> None:
    for text in ("y ~ a.b + I(.5 * x) + `.` + (1 | g)", "y ~ T(f, '.') + (1 | g)", "y ~ 1. + (1 | g)"):
        assert without_dot(text, list(frame)) == text


# --- several grouping factors in one bar -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("(x | g + h)", "(x | g) + (x | h)"),
        ("(0 + x || g + h)", "(0 + x || g) + (0 + x || h)"),
        ("(1 | g/k + h)", "(1 | g) + (1 | g:k) + (1 | h)"),
        ("(1 | (g + h) + g)", "(1 | g) + (1 | h)"),
        ("cs(0 + f | g + h)", "cs(0 + f | g) + cs(0 + f | h)"),
    ],
)
def test_a_sum_of_grouping_factors_is_a_sum_of_terms(short: str, long: str) -> None:
    def content(text: str) -> list[Any]:
        return [(bar.label, bar.factors) for bar in parse_formula(f"y ~ x + {text}").bars]

    assert content(short) == content(long)


def test_the_fit_of_a_sum_of_grouping_factors(frame: pd.DataFrame) -> None:
    short, long = (bl.Model(f"y ~ x + {term}", frame).fit() for term in ("(1 | g + h)", "(1 | g) + (1 | h)"))
    assert short.criterion == long.criterion
    assert list(short.ranef()) == ["g", "h"]


@pytest.mark.parametrize("text", ["(1 | g - h)", "(1 | g +)", "(1 | g * h)", "(1 | (g + h):k)", "(1 | g + log(h))"])
def test_other_signs_join_no_grouping_factors(text: str) -> None:
    with pytest.raises(FormulaError, match=r"cannot be part of a grouping factor|missing after the last sign"):
        parse_formula(f"y ~ x + {text}")


# --- what the linter says --------------------------------------------------------------------------------------------


def test_the_linter_knows_them(frame: pd.DataFrame) -> None:
    report = bl.lint("y ~ . + (1 | g)", frame[["y", "x", "g"]].assign(x=frame["y"] ** 2))
    assert [(f.rule, f.text) for f in report.findings] == [("dot", "(x)")]
    assert "grouping factors" in report.findings[0].elsewhere["lme4"]
    assert bl.lint("y ~ . + (1 | g)").findings[0].rule == "not read by bayeslmm"
    several = bl.lint("y ~ x + (1 | g + h)").findings
    assert [(f.rule, f.severity, f.remedy) for f in several] == [
        ("several grouping factors", "error there", "(1 | g) + (1 | h)")
    ]
    calls = bl.lint("y ~ C(f, sum) + C(f, Poly) + dummy(f, 'b') + fulldummy(f) + (1 | g)").findings
    assert [sorted(f.elsewhere) for f in calls if f.rule == "function"] == [
        ["bambi", "formulae"],
        ["bambi", "brms", "formulae", "lme4"],
        ["bambi", "brms", "formulae"],
        ["bambi", "brms", "formulae", "lme4"],
    ]
