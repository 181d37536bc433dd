"""The linter against what formulae does now and what lme4 did (lint_lme4.R wrote the file)."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from formulae import design_matrices, model_description
from formulae.parser import ParseError

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import DesignError, FormulaError
from bayeslmm.linting import of_formula as lint_formula
from bayeslmm.linting.check import LintReport, lint
from bayeslmm.linting.refused import unparsable

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "lint_lme4.json").read_text())
FACTS: dict[str, Any] = STORED["facts"]


@pytest.fixture
def data() -> pd.DataFrame:
    frame = pd.DataFrame(STORED["data"])
    frame["f"] = pd.Categorical(frame["f"], ["c", "a", "b"])
    frame["o"] = pd.Categorical(frame["o"], ["lo", "mid", "hi"], ordered=True)
    return frame


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """formulae logs advice about powers."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# The stored facts are those of lme4 with its checks of sizes off (lint_lme4.R).
UNCHECKED = ("as many effects as rows",)


def found(formula: str, data: pd.DataFrame | None = None) -> dict[str, Any]:
    return {finding.rule: finding for finding in lint(formula, data).findings}


def said(formula: str, package: str, data: pd.DataFrame | None = None) -> str:
    """The worst that is said about one package."""
    order = ["error there", "error here", "different model", "different parametrisation", "note"]
    severities = [f.severity for f in lint(formula, data).about(package).findings if f.rule not in UNCHECKED]
    return min(severities, key=order.index, default="")


def fixed_terms(formula: str) -> list[str]:
    return [term.name for term in model_description(formula).common_terms]


def group_terms(formula: str) -> list[str]:
    return [term.name for term in model_description(formula).group_terms]


# What formulae does, asked at the time of the test.


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + (1 + x | g)", "y ~ 1 + (x * z | g)"])
def test_formulae_splits_correlated_terms(formula):
    assert len(group_terms(formula)) > 1
    assert found(formula)["independent effects"].severity == "different model"


@pytest.mark.parametrize(
    "formula", ["y ~ x + (1 | g)", "y ~ x + (0 + x | g)", "y ~ x + (1 | g) + (0 + x | g)", "y ~ x + (-1 + x | g)"]
)
def test_no_findings_where_all_agree(formula, data):
    assert len(group_terms(formula)) == len(bl.parse_formula(formula).bars)
    for report in (lint(formula), lint(formula, data)):
        assert not report.findings
        assert "No findings" in str(report)


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (x || g)",
        "y ~ x + (x - 1 | g)",
        "y ~ x + (x + 0 | g)",
        "y ~ (x + z)^2 + (1 | g)",
        "y ~ I(x^2) + (1 | g)",
        "y ~ x^2 + (1 | g)",
        "z/2 ~ x + (1 | g)",
        "z*2 ~ x + (1 | g)",
        "y ~ . + (1 | g)",
        "y ~ 1 + (x %in% f | g)",
        "y ~ log(z) + (1 | g)",
        "y ~ sqrt(z) + (1 | g)",
        "y ~ factor(m) + (1 | g)",
        "y ~ ordered(m) + (1 | g)",
        "y ~ scale(x, center = False) + (1 | g)",
        "y ~ poly(x, 2, raw = TRUE) + (1 | g)",
        "y ~ 1 + (1 | gr(g))",
        "y ~ 2*z + (1 | g)",
        "y ~ -x + (1 | g)",
    ],
)
def test_errors_in_formulae_are_announced(formula, data):
    with pytest.raises(Exception):  # noqa: B017 - formulae raises errors of many classes
        design_matrices(formula, data)
    assert said(formula, "formulae") in ("error there", "error here")


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ (x + z)**2 + (1 | g)",
        "y ~ I(x**2) + (1 | g)",
        "y ~ np.log(z) + (1 | g)",
        "y ~ center(x) + (1 | g)",
        "y ~ C(m) + (1 | g)",
        "y ~ T(f, 'a') + (1 | g)",
        "y ~ poly(x, 2, raw = True) + (1 | g)",
        "y ~ {x**2} + (1 | g)",
        "I(z/2) ~ x + (1 | g)",
    ],
)
def test_no_error_is_announced_where_formulae_has_none(formula, data):
    design_matrices(formula, data)
    assert "error" not in said(formula, "formulae")


def test_bars_without_brackets_are_lost():
    assert group_terms("y ~ x | g") == []
    assert fixed_terms("y ~ x | g") == ["Intercept", "x"]
    finding = found("y ~ x | g")["random term without brackets"]
    assert finding.severity == "different model"
    assert finding.elsewhere["bambi"].endswith("x becomes the fixed part.")
    assert lint(f"y ~ {finding.remedy}").about("brms").findings == ()


@pytest.mark.parametrize(
    ("left", "there"),
    [("x + z - 1", ["1", "x", "z"]), ("x + z + 0", ["1", "x", "z"]), ("0 + x + 1", ["x"])],
)
def test_intercepts_that_formulae_keeps_or_loses(left, there):
    formula = f"y ~ 1 + ({left} | g)"
    assert group_terms(formula) == [f"{name}|g" for name in there]
    finding = found(formula)["left side of a bar"]
    assert finding.severity == "different model"
    assert ", ".join(there) in finding.elsewhere["formulae"]
    assert "left side of a bar" not in found(f"y ~ 1 + {finding.remedy}")


def test_what_stands_after_in_is_dropped():
    assert fixed_terms("y ~ x %in% f + z + (1 | g)") == ["Intercept", "x"]
    finding = found("y ~ x %in% f + z + (1 | g)")["%in%"]
    assert (finding.position, finding.severity) == (6, "different model")


@pytest.mark.parametrize("response", ["y - z", "y**2"])
def test_arithmetic_in_the_response_is_dropped(response):
    assert model_description(f"{response} ~ x").response.term.name == "y"
    finding = found(f"{response} ~ x + (1 | g)")["arithmetic in the response"]
    assert finding.severity == "different model"
    assert model_description(f"{finding.remedy} ~ x").response.term.name != "y"


def test_labels_between_bars_are_dropped():
    assert group_terms("y ~ 1 + (x | ID | g)") == ["1|g"]
    finding = found("y ~ 1 + (x | ID | g)")["not read by bayeslmm"]
    assert "ID" in finding.elsewhere["formulae"]
    assert "label" in finding.elsewhere["brms"]


def test_products_of_groups():
    formula = "y ~ 1 + (1 | a * d)"
    assert group_terms(formula) == ["1|a", "1|d", "1|a:d"]
    finding = found(formula)["not read by bayeslmm"]
    assert finding.severity == "error here"
    assert "combinations" in finding.elsewhere["bambi"]
    assert FACTS[formula.replace(" * ", "*")]["error"].startswith("Invalid grouping")


def test_sums_of_groups():
    formula = "y ~ 1 + (1 | a + d)"
    assert group_terms(formula) == ["1|a", "1|d"]
    finding = found(formula)["several grouping factors"]
    assert finding.severity == "error there"
    assert set(finding.elsewhere) == {"lme4"}
    assert FACTS[formula]["error"].startswith("Invalid grouping")
    assert finding.remedy == "(1 | a) + (1 | d)"


@pytest.mark.parametrize("formula", ["y ~ x + (1 | g) + (x | g)", "y ~ 1 + (1 | g) + (1 | g)"])
def test_repeated_effects(formula):
    assert len(group_terms(formula)) == len(set(group_terms(formula)))
    assert FACTS[formula]["groups"] == ["g", "g"]
    assert found(formula)["effect given twice"].severity == "different model"
    assert "effect given twice" not in found("y ~ x + (1 | a/d) + (0 + x | a)")
    assert "effect given twice" in found("y ~ 1 + (1 | a) + (1 | a/d)")


def test_empty_cells_are_counted(data):
    shape = design_matrices("y ~ 1 + (1 | a:d)", data).group.terms["1|a:d"].data.shape
    assert f"{shape[1]} instead of 6" in found("y ~ 1 + (1 | a:d)", data)["combined grouping factor"].elsewhere["bambi"]
    assert found("y ~ 1 + (1 | a/d)")["combined grouping factor"].severity == "note"
    assert "combined grouping factor" not in found("y ~ 1 + (1 | a:h)", data)


def test_order_of_levels(data):
    assert design_matrices("y ~ f", data).common.terms["f"].labels == ["f[b]", "f[c]"]
    assert FACTS["y ~ f + (f || g)"]["fixed"] == ["(Intercept)", "fa", "fb"]
    finding = found("y ~ f + (1 | g)", data)["order of levels"]
    assert (finding.position, finding.severity) == (4, "different parametrisation")
    assert "'c'" in finding.here
    assert "'a'" in finding.elsewhere["bambi"]
    assert "order of levels" not in found("y ~ 0 + f + (1 | g)", data)
    data["f"] = data["f"].cat.reorder_categories(["a", "b", "c"])
    assert not found("y ~ f + (1 | g)", data)


def test_ordered_factors(data):
    assert design_matrices("y ~ o", data).common.terms["o"].labels == ["o[mid]", "o[hi]"]
    assert FACTS["y ~ o + (1 | g)"]["fixed"] == ["(Intercept)", "o.L", "o.Q"]
    assert found("y ~ o + (1 | g)", data)["ordered factor"].severity == "different parametrisation"
    data["o"] = data["o"].cat.add_categories("top")
    assert not design_matrices("y ~ o", data).common.design_matrix[:, 3].any()
    assert "zeros" in found("y ~ o + (1 | g)", data)["ordered factor"].elsewhere["formulae"]


def test_booleans(data):
    assert design_matrices("y ~ 0 + b", data).common.design_matrix.shape == (24, 1)
    assert FACTS["y ~ 0 + b + (1 | g)"]["fixed"] == ["bFALSE", "bTRUE"]
    assert found("y ~ 0 + b + (1 | g)", data)["boolean"].severity == "different model"
    assert not found("y ~ b + (1 | g)", data)
    assert "boolean" not in found("y ~ 0 + b + (1 | g)")


@pytest.mark.parametrize(("left", "columns"), [("f:x", 3), ("f/x", 5), ("0 + f*x", 7)])
def test_factors_within_bars(data, left, columns):
    data["one"] = "a"
    matrix = design_matrices(f"y ~ 1 + ({left} | one)", data).group.design_matrix
    assert matrix.shape[1] == columns
    finding = found(f"y ~ x + ({left} | g)", data)["columns within bars"]
    assert f"{columns} columns" in finding.elsewhere["formulae"]
    assert finding.severity == "different model"


@pytest.mark.parametrize("left", ["f", "f*x", "x + f:x", "poly(x, 2)", "0 + f", "log(z)"])
def test_factors_within_bars_that_agree(data, left):
    assert "columns within bars" not in found(f"y ~ x + ({left} | g)", data)


def test_indicators_after_an_intercept(data):
    formula = "y ~ f + (1 | g) + (0 + f | g)"
    assert design_matrices(formula, data).group.terms["f|g"].data.shape == (24, 12)
    assert FACTS[formula]["blocks"][1] == ["fc", "fa", "fb"]
    assert found(formula, data)["columns within bars"].position == formula.index("(0")


def test_scale_divides_by_another_number(data):
    column = np.asarray(design_matrices("y ~ scale(x)", data).common.terms["scale(x)"].data).ravel()
    ours = build_design("y ~ scale(x) + (1 | g)", data).X[:, 1]
    np.testing.assert_allclose(ours, FACTS["y ~ scale(x) + (1 | g)"]["column2"], atol=1e-12)
    np.testing.assert_allclose(ours, column * np.sqrt(23 / 24), atol=1e-12)
    assert found("y ~ scale(x) + (1 | g)")["function"].severity == "different parametrisation"


def test_polynomials_agree(data):
    column = np.asarray(design_matrices("y ~ poly(x, 2)", data).common.terms["poly(x, 2)"].data)[:, 0]
    np.testing.assert_allclose(column, FACTS["y ~ poly(x, 2) + (1 | g)"]["column2"], atol=1e-12)
    assert not lint("y ~ poly(x, 2) + (1 | g)", data).findings


# What lme4 did, stored.


def test_factors_left_of_a_double_bar(data):
    for formula, names in {"y ~ f + (f || g)": 3, "y ~ b + (b || g)": 2, "y ~ x + (poly(x, 2) || g)": 2}.items():
        assert max(len(block) for block in FACTS[formula]["blocks"]) == names
        finding = found(formula, data)["factor left of a double bar"]
        assert finding.severity == "different model"
        assert "lme4" in finding.elsewhere
        assert found(formula)["factor left of a double bar"].elsewhere["lme4"].startswith("If it is a factor")
    assert FACTS["y ~ x + (x || g)"]["parameters"] == 2
    assert "factor left of a double bar" not in found("y ~ x + (x || g)", data)


@pytest.mark.parametrize("formula", FACTS)
def test_errors_of_lme4(formula, data):
    announced = said(formula, "lme4", data)
    if "error" in FACTS[formula] and not any(word in formula for word in ("us(", "diag(", "cs(", "ar1(")):
        assert announced in ("error there", "error here")
    elif "error" not in FACTS[formula] and found(formula).get("not read by bayeslmm") is None:
        assert "error" not in announced


@pytest.mark.parametrize("formula", [f for f in FACTS if "error" not in FACTS[f]])
def test_lme4_agrees_unless_the_linter_says_otherwise(formula, data):
    """Fixed columns and covariance parameters of bayeslmm and lme4, where nothing is reported."""
    if any(finding.rule not in UNCHECKED for finding in lint(formula, data).about("lme4").findings):
        return
    design = build_design(formula, data, saturated="allow")
    assert len(design.aliased) + design.p == len(FACTS[formula]["fixed"])
    assert sum(term.structure.rows.size for term in design.terms) == FACTS[formula]["parameters"]
    assert (design.offset is not None) == FACTS[formula]["offset"]


@pytest.mark.parametrize("formula", ["y ~ x^2 + (1 | g)", "y ~ x**2 + (1 | g)"])
def test_powers_of_a_column(formula):
    assert FACTS[formula]["fixed"] == ["(Intercept)", "x"]
    finding = found(formula)["not read by bayeslmm"]
    assert finding.severity == "error here"
    assert finding.elsewhere["lme4"].startswith("The column itself")
    assert "caret" not in found(formula)


# Other rules and the report.


def test_missing_values(data):
    data["x"] = data["x"].where(np.arange(24) != 3)
    with pytest.raises(ValueError, match="incomplete"):
        design_matrices("y ~ x", data, na_action="error")
    finding = found("y ~ x + (1 | g)", data)["missing values"]
    assert (finding.position, list(finding.elsewhere)) == (4, ["bambi"])


def test_numbers_as_labels_and_labels_as_numbers(data):
    data["w"] = np.repeat([1.5, 2, 3, 4, 5, 6], 4)
    assert "6 levels" in found("y ~ x + (1 | w)", data)["grouping factor with decimals"].here
    assert "4 distinct" in found("y ~ m + (1 | g)", data)["few whole numbers"].here
    assert "few whole numbers" not in found("y ~ C(m) + x + (1 | g)", data)
    data["w"] = np.repeat([1, 2, 3, 4, 5, 6], 4)
    assert not found("y ~ x + (1 | w)", data)


def test_text_sorted_by_language(data):
    data["s"] = np.tile(["a", "B"], 12)
    assert build_design("y ~ s + (1 | g)", data).fixed_names == ("Intercept", "s[a]")
    assert found("y ~ s + (1 | g)", data)["order of text"].severity == "different parametrisation"
    data["s"] = np.tile(["a", "b"], 12)
    assert not found("y ~ s + (1 | g)", data)


def test_offsets_are_columns_of_formulae(data):
    assert "offset(z)" in design_matrices("y ~ offset(z)", data).common.terms
    assert FACTS["y ~ x + offset(z) + (1 | g)"]["offset"]
    assert list(found("y ~ x + offset(z) + (1 | g)")["offset"].elsewhere) == ["formulae"]


def test_carets_stand_under_the_text():
    lines = str(lint("y ~ x +\n  (x || g)")).splitlines()
    place = next(i for i, line in enumerate(lines) if "^" in line)
    start, stop = lines[place].index("^"), lines[place].rindex("^") + 1
    assert lines[place - 1][start:stop] == "(x || g)"


def test_report(data):
    report = lint("y ~ f + (f || g) + (1 | `h<i>`)", data.rename(columns={"h": "h<i>"}))
    assert isinstance(report, LintReport)
    assert [f.position for f in report.findings] == sorted(f.position for f in report.findings)
    frame = report.to_frame()
    assert len(frame) == len(report) == 3
    assert list(frame.columns[5:9]) == ["lme4", "brms", "bambi", "formulae"]
    assert (frame["lme4"] != "").sum() == len(report.about("lme4")) == 1
    page = report._repr_html_()
    assert "h&lt;i&gt;" in page
    assert page.count("<table>") == 3
    assert "without data" not in str(report).lower()
    assert "Without data" in str(lint("y ~ x + (1 | g)"))
    with pytest.raises(ValueError, match="'nlme'"):
        report.about("nlme")


def test_empty_report():
    report = lint("y ~ x + (1 | g)")
    assert (len(report), report.to_frame().shape[0]) == (0, 0)
    assert "No findings" in report._repr_html_()


def test_refused_formulas_are_reported_and_bad_input_is_raised(data):
    assert found("y ~ x")["not read by bayeslmm"].elsewhere["bambi"] == "An ordinary regression."
    assert FACTS["y ~ x"]["error"].startswith("No random effects")
    assert found("y ~ (1 | g")["not read by bayeslmm"].elsewhere == {}
    assert lint("", data).findings
    with pytest.raises(FormulaError, match="list"):
        lint([])
    with pytest.raises(DesignError, match="'nobody'"):
        lint("y ~ nobody + (1 | g)", data)


def test_names_are_not_taken_for_functions(data):
    data = data.rename(columns={"x": "log", "g": "T"})
    assert not lint("y ~ log + (1 | T)", data).findings


def test_command_line():
    from typer.testing import CliRunner

    from bayeslmm.cli import app

    result = CliRunner().invoke(app, ["lint", "Reaction ~ Days + (Days | Subject)", "--data", "sleepstudy"])
    assert result.exit_code == 0
    assert "1 finding." in result.output
    assert "no correlations" in result.output


# Where R stops reading: asked of parse(text = ) in R 4.
STOPS = {
    "y ~ x +": "an incomplete expression",
    "y ~ x * ": "an incomplete expression",
    "y ~ x + (1 | g) -": "an incomplete expression",
    "y ~": "an incomplete expression",
    "y ~ +": "an incomplete expression",
    "y ~ x z": "an unexpected z",
    "y ~ -1 x": "an unexpected x",
    "y ~ 2x": "an unexpected x",
    "y ~ f(a b)": "an unexpected b",
    "y ~ x * * z": "an unexpected *",
    "y ~ x: :z": "an unexpected :",
    "y ~ (x +)": "an unexpected )",
    "y ~ ()": "an unexpected )",
    "y ~ (x | )": "an unexpected )",
    "y ~ ( | g)": "an unexpected |",
    "y ~ x | | g": "an unexpected |",
    "y ~ x, z": "an unexpected ,",
    "y ~ (a, b)": "an unexpected ,",
    "y ~ []": "an unexpected [",
    "= y ~ x": "an unexpected =",
    "y ~ f(=1)": "an unexpected =",
}
READS = [
    "y + ~ x",
    "y ~ log(x,)",
    "y ~ x + log()",
    "y ~ f(a=)",
    "y ~ x[1]",
    "y ~ x[]",
    "y ~ {x}",
    "y ~ {}",
    "y ~ x (z)",
]
READS += [
    "y ~ a = b",
    "y ~ x ** 2",
    "y ~ f(x)[1]",
    "y ~ (x)(y)",
    "`y` ~ x",
    "y ~ x || g",
    "y ~ x + + z",
    "y ~ -x",
    "~ x",
]


@pytest.mark.parametrize("formula", [*STOPS, *READS])
def test_where_the_parser_of_r_stops(formula):
    assert unparsable(tokenize(formula)) == STOPS.get(formula, "")


@pytest.mark.parametrize("formula", ["y ~ x +", "y ~ x * ", "y ~ x:", "y ~", "y ~ * x", "y ~ (x +) + (1 | g)"])
def test_incomplete_formulas_are_no_ordinary_regressions(formula):
    with pytest.raises(ParseError):
        model_description(formula)
    text = str(lint(formula))
    assert "ordinary regression" not in text
    (finding,) = lint(formula).findings
    assert finding.severity == "error here"
    if formula != "y ~ x +(":
        assert all(
            finding.elsewhere[package].startswith("Error: ") for package in ("lme4", "brms", "bambi", "formulae")
        )


def test_what_formulae_drops_of_what_nobody_else_reads():
    assert fixed_terms("y ~ x z") == ["Intercept", "x"]
    elsewhere = found("y ~ x z")["not read by bayeslmm"].elsewhere
    assert elsewhere["formulae"] == "Read as y ~ 1 + x; the rest is dropped without a word."
    assert elsewhere["lme4"] == "Error: R finds an unexpected z."


@pytest.mark.parametrize("formula", ["y ~ x", "y ~ x + + z", "y ~ -x", "y ~ x^2", "y ~ x ~ z"])
def test_formulas_without_bars_are_regressions_where_they_can_be_read(formula):
    elsewhere = found(formula)["not read by bayeslmm"].elsewhere
    try:
        model_description(formula)
    except Exception as error:
        assert elsewhere["formulae"] == elsewhere["bambi"] == f"Error: {error}."
    else:
        assert elsewhere["formulae"] == elsewhere["bambi"] == "An ordinary regression."
    # lm(y ~ x ~ z) fails in R, the others do not
    assert elsewhere["brms"] == ("Error." if formula == "y ~ x ~ z" else "An ordinary regression.")


@pytest.mark.parametrize(
    ("formula", "remedy"),
    [
        ("y ~ 1 + (`t [s]` || `Klasse id`)", "(1 | `Klasse id`) + (0 + `t [s]` | `Klasse id`) for numeric columns;"),
        ("y ~ 1 + (`t [s]` | g)", "(1 | g) + (0 + `t [s]` | g) if"),
        ("y ~ 1 + (q0_ + `t [s]` || g)", "(1 | g) + (0 + q0_ | g) + (0 + `t [s]` | g) for"),
        ("y ~ 1 + (log(`t [s]`):`a:b` || g)", "(1 | g) + (0 + log(`t [s]`):`a:b` | g) for"),
        ("y ~ 1 + (x + `x` || g)", "(1 | g) + (0 + x | g) for"),
    ],
)
def test_proposed_terms_keep_backquotes_and_can_be_read(formula, remedy):
    proposals = [finding.remedy for finding in lint(formula).findings]
    (proposal,) = [text for text in proposals if remedy in text]
    terms = proposal.removeprefix("Correlations cannot be written in bambi. Without them: ").split(" for ")[0]
    assert len(bl.parse_formula(f"y ~ 1 + {terms.split(' if ')[0]}").bars) == terms.count("|")


def test_columns_in_backquotes_are_looked_up(data):
    frame = data.rename(columns={"f": "a factor", "x": "t [s]"})
    for plain, quoted in [
        ("y ~ x + (f || g)", "y ~ `t [s]` + (`a factor` || g)"),
        ("y ~ x + (x || g)", "y ~ `t [s]` + (`t [s]` || g)"),
        ("y ~ x + (0 + f | g)", "y ~ `t [s]` + (0 + `a factor` | g)"),
        ("y ~ x + (f*x | g)", "y ~ `t [s]` + (`a factor`*`t [s]` | g)"),
    ]:
        ours = lint(plain, data).findings
        theirs = lint(quoted, frame).findings
        assert [(f.rule, f.severity) for f in ours] == [(f.rule, f.severity) for f in theirs]


def test_whole_numbers_under_names_with_colons():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"y": rng.normal(size=40), "a:b": rng.normal(size=40), "a": np.tile([1, 2, 3, 4], 10)})
    frame["g"] = np.repeat(list("abcdefgh"), 5)
    rules = found("y ~ `a:b` + log(a) + (1 | g)", frame)
    assert "few whole numbers" not in rules
    assert "few whole numbers" in found("y ~ `a:b` + a + (1 | g)", frame)
    assert "data['a']" in found("y ~ C(`a`) + (1 | g)", frame)["function"].remedy


@pytest.mark.parametrize(("name", "lme4"), [("us", "2.x knows it"), ("ar1", "2.x knows it"), ("id", "does not know")])
def test_covariance_keywords(name, lme4):
    """A formula whose bar stands in a call, whether or not the parser takes it already."""
    text = f"y ~ 1 + {name}(x | g)"
    plain = bl.parse_formula("y ~ 1 + (x | g)")
    bars = tuple(replace(bar, position=text.index("|")) for bar in plain.bars)
    (finding,) = lint_formula.random_terms(lint_formula.read(text, replace(plain, text=text, bars=bars), None))
    assert (finding.text, finding.severity) == (f"{name}(x | g)", "error there")
    assert lme4 in finding.elsewhere["lme4"]
    with pytest.raises(Exception, match="PIPE"):
        model_description(text)
    if name != "id":
        assert "error" in FACTS[f"y ~ 1 + {name}(x | g)"]
