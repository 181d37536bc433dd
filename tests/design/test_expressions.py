"""Arithmetic in formulas against Python's own evaluation, R's answers (expressions.R) and its own labels."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.expressions import Call, parse_expression
from bayeslmm.design.newdata import new_rows
from bayeslmm.design.tokens import respelled

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "expressions.json").read_text())
COLUMNS = pd.DataFrame({"x": [-1.5, 0.25, 2.0, 3.75], "z": [1.0, 2.5, 4.75, 0.5], "k": [0.0, 1.0, 2.0, 3.0]})
NAMES = {name: COLUMNS[name].to_numpy() for name in COLUMNS}
BATCH = 20


@pytest.fixture(scope="module")
def sleepstudy() -> pd.DataFrame:
    return bl.load_dataset("sleepstudy")


def expressions() -> st.SearchStrategy[str]:
    """Text of random expressions, with and without brackets and spaces."""
    atoms = st.sampled_from(["x", "z", "k", "1", "2", "3", "0.5", "1e-3", "5.", ".25", "2e1"])
    space = st.sampled_from(["", " "])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        operators = st.sampled_from(["+", "-", "*", "/", "**", "**", "//", "%"])
        return st.one_of(
            st.tuples(inner, space, operators, space, inner).map("".join),
            st.tuples(st.sampled_from(["-", "+"]), inner).map("".join),
            inner.map("({})".format),
            st.tuples(st.sampled_from(["np.exp", "np.sin", "np.abs", "np.sqrt", "np.log1p"]), inner).map(
                lambda part: f"{part[0]}({part[1]})"
            ),
            st.tuples(inner, inner).map(lambda part: f"np.minimum({part[0]}, {part[1]})"),
        )

    arithmetic = st.recursive(atoms, larger, max_leaves=7)
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    comparison = st.tuples(arithmetic, st.just(" "), signs, st.just(" "), arithmetic).map("".join)
    return st.one_of(arithmetic, arithmetic, arithmetic, comparison)


def by_python(text: str) -> Any:
    """Python's value, None where it has none: division of plain numbers by zero, complex results."""
    try:
        value = eval(compile(text, "text", "eval"), {"np": np}, dict(NAMES))
    except (ArithmeticError, ValueError):
        return None
    return None if np.iscomplexobj(value) else np.broadcast_to(value, (4,))


def by_formula(text: str) -> Any:
    evaluator = Evaluator({name: COLUMNS[name] for name in COLUMNS}, {}, {})
    with np.errstate(all="ignore"):
        value = evaluator._value(text)
    return np.broadcast_to(np.asarray(value), (4,))


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(expressions(), min_size=BATCH, max_size=BATCH))
def test_ten_thousand_expressions_have_pythons_value(texts: list[str]) -> None:
    for text in texts:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            expected = by_python(text)
        if expected is None:
            continue
        found = by_formula(text)
        assert found.dtype == bool or expected.dtype != bool, text
        # Libraries differ in the last digits of powers and functions.
        np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-12, err_msg=text)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(expressions(), min_size=BATCH, max_size=BATCH))
def test_labels_parse_back_to_the_same_tree(texts: list[str]) -> None:
    for text in texts:
        node = parse_expression(f"I({text})")
        assert isinstance(node, Call) and parse_expression(node.text) == node, text
        assert respelled(node.text) == node.text


@pytest.mark.parametrize("text", list(STORED["answers"]))
def test_values_are_those_of_r(text: str) -> None:
    data = pd.DataFrame(STORED["data"])
    answer = STORED["answers"][text]
    evaluator = Evaluator({name: data[name] for name in data}, {}, {})
    found = np.asarray(evaluator._value(text))
    assert (found.dtype == bool) == answer["logical"]
    expected = np.array(answer["values"], dtype=float)
    np.testing.assert_allclose(found.astype(float).reshape(expected.shape), expected, rtol=1e-13, atol=1e-14)


def test_powers_before_signs_in_every_place(sleepstudy: pd.DataFrame) -> None:
    days, reaction = sleepstudy["Days"].to_numpy(dtype=float), sleepstudy["Reaction"].to_numpy()
    design = build_design("I(-Reaction^2) ~ 0 + I(-Days**2) + offset(-Days^2) + (0 + I(-Days^2) | Subject)", sleepstudy)
    np.testing.assert_array_equal(design.y, -(reaction**2))
    np.testing.assert_array_equal(design.X[:, 0], -(days**2))
    np.testing.assert_array_equal(design.offset, -(days**2))
    np.testing.assert_array_equal(design.terms[0].Z[:, 0], -(days**2))
    weighted = build_design("-Reaction ~ Days + (1 | Subject)", sleepstudy, weights="100 + -Days**2")
    np.testing.assert_array_equal(weighted.weights, 100 - days**2)
    np.testing.assert_array_equal(weighted.y, -reaction)


def test_a_bump_is_a_bump(sleepstudy: pd.DataFrame) -> None:
    # R: exp(-Days^2/50) in lmer, REML
    fit = bl.Model("Reaction ~ exp(-Days^2/50) + (1 | Subject)", sleepstudy).fit()
    assert fit.fixef().iloc[1] == pytest.approx(-106.8, abs=0.05) and fit.criterion == pytest.approx(1781.8, abs=0.05)


def test_different_columns_have_different_labels(sleepstudy: pd.DataFrame) -> None:
    fit = bl.Model("Reaction ~ I((Days - 5)^2) + I(Days - 5^2) + (1 | Subject)", sleepstudy).fit()
    assert list(fit.fixef().index) == ["Intercept", "I((Days - 5) ** 2)", "I(Days - 5 ** 2)"]
    assert fit.criterion == pytest.approx(1785.8, abs=0.05)


@pytest.mark.parametrize("typed", ["I((Days - 5)^2)", "I((Days-5)**2)", "I( (Days - 5) ** 2 )"])
def test_a_term_is_found_as_it_was_typed(sleepstudy: pd.DataFrame, typed: str) -> None:
    fit = bl.Model(f"Reaction ~ {typed} + (1 | Subject)", sleepstudy).fit()
    assert fit.test_fixed(typed)["df1"] == 1
    assert len(fit.confint(parameters=typed, method="wald")) == 1


def test_a_column_that_looks_like_a_term(sleepstudy: pd.DataFrame) -> None:
    data = sleepstudy.assign(**{"Days:w": np.cos(np.arange(180.0)), "w": np.sin(np.arange(180.0)), "log(w)": 1.0})
    data["log(w)"] = np.arange(180.0) % 7
    names = build_design("Reaction ~ Days:w + `Days:w` + log(w + 2) + `log(w)` + (1 | Subject)", data).fixed_names
    assert set(names) == {"Intercept", "Days:w", "`Days:w`", "log(w + 2)", "`log(w)`"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I(k > 1)", ["I(k > 1)[True]"]),
        ("0 + I(k > 1)", ["I(k > 1)[False]", "I(k > 1)[True]"]),
        ("x:I(k > 1)", ["x:I(k > 1)[False]", "x:I(k > 1)[True]"]),
        ("I(k > 1 & x > 0)", ["I(k > 1 & x > 0)[True]"]),
        ("{k > 1}:x", ["I(k > 1)[False]:x", "I(k > 1)[True]:x"]),
        ("np.isfinite(x):x + x", ["x"]),
    ],
)
def test_conditions_are_factors(text: str, names: list[str]) -> None:
    frame = pd.DataFrame(
        {"k": np.tile([0.0, 1.0, 2.0, 3.0], 6), "x": np.sin(np.arange(24.0)), "g": np.repeat(list("abcdef"), 4)}
    )
    found = build_design(f"x + k ~ {text} + (1 | g)", frame).fixed_names
    assert [name for name in found if name != "Intercept"] == names


def test_conditions_keep_their_levels_on_new_rows() -> None:
    frame = pd.DataFrame({"k": np.arange(100.0), "y": np.cos(np.arange(100.0)), "g": np.repeat(list("abcde"), 20)})
    design = build_design("y ~ I(k > 80) + (1 | g)", frame)
    assert new_rows(design, pd.DataFrame({"k": [3.0, 90.0]}), []).X.tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert new_rows(design, pd.DataFrame({"k": [90.0]}), []).X.tolist() == [[1.0, 1.0]]


def test_summaries_are_those_of_the_models_own_rows() -> None:
    frame = pd.DataFrame({"x": np.arange(24.0) ** 2, "y": np.cos(np.arange(24.0)), "g": np.repeat(list("abcdef"), 4)})
    design = build_design("y ~ I(x - mean(x)) + I(x / np.std(x)) + ns(x, knots=[9, 100]) + (1 | g)", frame)
    np.testing.assert_allclose(new_rows(design, frame.iloc[4:7], []).X, design.X[4:7], rtol=1e-12)
    beyond = new_rows(design, pd.DataFrame({"x": [-50.0, 1000.0]}), [])
    np.testing.assert_allclose(beyond.X[:, 1], np.array([-50.0, 1000.0]) - frame["x"].mean(), rtol=1e-13)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("I(x = 1)", "written =="),
        ("I(x > 1 || k > 2)", r"write '\|'"),
        ("I(x[1])", "no value per row"),
        ("I(x +)", "ends|missing"),
        ("I(x, 2)", "1 value"),
        ("poly(x, degre=2)", "degree, raw"),
        ("poly(x, 2.5)", "whole number"),
        ("poly(x, 0)", "from 1"),
        ("bs(x, df=2)", "df of bs"),
        ("bs(x, df=600, degree=500)", "degree of bs"),
        ("bs(x, df=1000000)", "df of bs"),
        ("bs(x, knots=[100])", "within the range"),
        ("poly(x, 100000)", "from 1 to 30"),
        ("I(f > 'a')", "no order|an order"),
        ("I(f == 'q')", "'q' is no level"),
        ("I(f + 1)", "a factor"),
        ("log(f)", "a factor"),
        ("I(x & k)", "conditions"),
        ("np.add(x, k, x)", "2 value"),
        ("np.log(x, out=k)", "no argument 'out'"),
        ("I(" + "(" * 200 + "x" + ")" * 200 + ")", "within each other"),
        ("I(x + 9**99999999)", "infinite"),
        ("factor(k, levels=[0, 1])", "leaves out"),
    ],
)
def test_mistakes_are_named(text: str, part: str) -> None:
    frame = pd.DataFrame({"k": np.tile([0.0, 1, 2, 3], 6), "x": np.sin(np.arange(24)), "f": np.tile(list("abc"), 8)})
    frame["g"] = np.repeat(list("abcdef"), 4)
    with pytest.raises(bl.BayesLMMError, match=part):
        build_design(f"k ~ {text} + (1 | g)", frame)


def test_columns_are_never_written_to() -> None:
    frame = pd.DataFrame({"x": np.arange(1.0, 25), "k": np.ones(24), "g": np.repeat(list("abcdef"), 4)})
    before = frame.copy()
    build_design("x ~ log(x) + I(-k * x) + scale(x) + np.minimum(x, 3) + (1 | g)", frame)
    pd.testing.assert_frame_equal(frame, before)


def test_offset_left_of_a_bar_is_refused(sleepstudy: pd.DataFrame) -> None:
    with pytest.raises(bl.FormulaError, match="known part of the mean"):
        bl.Model("Reaction ~ Days + (Days + offset(Days) | Subject)", sleepstudy)


@pytest.mark.parametrize("formula", ["Reaction ~ +Days + (+Days | Subject)", "Reaction ~ + (Days | Subject) + +Days"])
def test_leading_plus(sleepstudy: pd.DataFrame, formula: str) -> None:
    assert build_design(formula, sleepstudy).fixed_names == ("Intercept", "Days")


@pytest.fixture
def rows() -> pd.DataFrame:
    frame = pd.DataFrame(
        {"x": np.sin(np.arange(1.0, 25)) + 2, "k": np.tile([1.0, 2, 3, 4], 6), "f": np.tile(list("abc"), 8)}
    )
    frame["g"], frame["h"] = np.repeat(list("pqrstu"), 4), np.tile(list("uv"), 12)
    return frame.assign(o=pd.Categorical(np.tile(["lo", "mid", "hi"], 8), ["lo", "mid", "hi"], ordered=True))


# What R's terms() makes of these: 0 and 1 switch the intercept wherever they stand.
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(1 + x)^2", ["Intercept", "x"]),
        ("(0 + x):k", ["x:k"]),
        ("(x - 1) * k", ["x", "k", "x:k"]),
        ("(x + 1) - 1", ["x"]),
        ("0 + x - 0", ["Intercept", "x"]),
        ("(x + k)^1", ["Intercept", "x", "k"]),
        ("(x)^2", ["Intercept", "x"]),
        ("(x + k) / log(k)", ["Intercept", "x", "k", "x:k:log(k)"]),
        ("x + -1", ["x"]),
    ],
)
def test_intercepts_in_brackets(rows: pd.DataFrame, text: str, names: list[str]) -> None:
    values, found = Evaluator({name: rows[name] for name in rows}, {}, {}).columns(text)
    assert list(found) == names and values.shape == (24, len(names))
    for formula in (f"x ~ {text.replace('x', 'k')} + (1 | g)", f"x ~ 1 + ({text.replace('x', 'k')} | g)"):
        with contextlib.suppress(bl.BayesLMMError):
            bl.lint(formula, rows)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("relevel(o, 'mid')", "unordered"),
        ("I(f == h)", "different levels"),
        ("round(x, 1.5)", "whole number"),
        ("np.interp(x, [3, 2, 1], [0, 1, 5])", "ascending"),
        ("I(k > 'a')", "compares"),
        ("(" * 150 + "x" + ")" * 150, "within each other"),
    ],
)
def test_more_mistakes_are_named(rows: pd.DataFrame, text: str, part: str) -> None:
    with pytest.raises(bl.BayesLMMError, match=part):
        build_design(f"k ~ {text} + (1 | g)", rows)


def test_values_of_mixed_kinds(rows: pd.DataFrame) -> None:
    evaluator = Evaluator({name: rows[name] for name in rows}, {}, {})
    # R: 1 %in% c(2, 3) comes first and is FALSE
    np.testing.assert_array_equal(evaluator.columns("0 + I(k + 1 %in% c(2, 3))")[0][:, 0], rows["k"])
    assert evaluator.columns("factor(o)")[1] == ("Intercept", "factor(o).L", "factor(o).Q")


def test_contrasts_that_change_nothing_are_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(bl.DesignError, match="stands in calls"):
        build_design("x ~ factor(f) + (1 | g)", rows, contrasts={"f": "sum"})
    assert (
        build_design("x ~ 1 + (f | g)", rows, contrasts={"f": "sum"}, saturated="allow").terms[0].effects[1] == "f[1]"
    )


@pytest.mark.parametrize(
    "text", ["log(k - 2)", "bs(x, degree=30, df=31)", "I(x + 0*(((9**64)**64)**64)**64)", "x - 0", "(x)^2"]
)
def test_lint_survives(rows: pd.DataFrame, text: str) -> None:
    bl.lint(f"k ~ {text} + (1 | g)", rows)
    bl.lint("k %% 2 ~ x + (1 | g)", rows)


@pytest.mark.parametrize("text", ["I(x %% 2)", "I(k in [1, 3])", "I(not (x > 1))", "I(x > 1 & k > 2)", "I(1e-3*x)"])
def test_lint_says_what_others_do_not_read(rows: pd.DataFrame, text: str) -> None:
    found = bl.lint(f"k ~ {text} + (1 | g)", rows).findings
    assert any("formulae" in finding.elsewhere and finding.severity == "error there" for finding in found)


def test_lint_says_what_is_refused_here(rows: pd.DataFrame) -> None:
    severities = [finding.severity for finding in bl.lint("k ~ cut(x, 3) + (1 | g)", rows).findings]
    assert "error here" in severities
