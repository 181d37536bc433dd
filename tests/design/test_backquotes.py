"""Names that need backquotes and have none: said wherever they stand, and what is said works."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError, FormulaError

RNG = np.random.default_rng(1)
DATA = pd.DataFrame({"y": RNG.normal(size=40), "x": RNG.uniform(1, 2, size=40), "g": np.repeat(list("abcdefgh"), 5)})
NAMES = [
    "Reaktionszeit [ms]",
    "Vp Nr.",
    "x-1x",
    ".x",
    "a:b",
    "2nd",
    "t (s)",
    "größe in %",
    "x|z",
    "price ($)",
    "a~b",
    "x+",
]
NAMES += ["it's", "a,b", "#", "x y z", "f/h", "x=1", "T^2", "m²", "in", "True"]
FORMULAS = [
    "{y} ~ 1 + (1 | g)",
    "y ~ {x} + (1 | g)",
    "y ~ 1 + ({x} | g)",
    "y ~ 1 + (1 | {g})",
    "y ~ log({x}) + (1 | g)",
]
FORMULAS += ["y ~ x * {x} + (1 | g)", "y ~ 1 + (1 | {g}/h)", "y ~ offset({x}) + (1 | g)", "y~{x}+(1|g)"]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("name", NAMES)
def test_unquoted_names_are_said_to_need_backquotes(name: str, formula: str) -> None:
    role = re.search(r"\{(\w)\}", formula)[1]  # type: ignore[index]
    data = DATA.assign(h=np.tile(list("pqrst"), 8), **{name: DATA[role]})
    typed = formula.replace(f"{{{role}}}", name)
    quoted = formula.replace(f"{{{role}}}", f"`{name}`")
    right = bl.Model(quoted, data, saturated="allow")
    try:
        model = bl.Model(typed, data, saturated="allow")
    except (DesignError, FormulaError) as error:
        if (name, role) in (("x=1", "x"), ("True", "x")) and "log" in formula:
            return  # An argument of a name, and a constant: read as such.
        said = re.findall(r"`([^`]*)`", str(error).split("\n\n")[0])
        assert name in said
    else:
        # Read as an expression of other columns, or as the name itself.
        assert name in ("in", "True", "#", "x+") or (model.formula == typed and right.n == model.n)


def test_the_formula_that_is_proposed_can_be_used() -> None:
    data = DATA.set_axis(["Reaktionszeit [ms]", "Woche", "Vp Nr."], axis=1)
    for table in (data, pl.from_pandas(data)):
        with pytest.raises(FormulaError) as caught:
            bl.Model("Reaktionszeit [ms] ~ Woche + (Woche | Vp Nr.)", table)
        proposed = caught.value.problem.split(": ", 1)[1]
        assert proposed == "`Reaktionszeit [ms]` ~ Woche + (Woche | `Vp Nr.`)"
        assert bl.Model(proposed, table).n == 40
        (finding,) = [f for f in bl.lint("y ~ 1 + (1 | Vp Nr.)", table).findings if f.severity == "error here"]
        assert "`Vp Nr.`" in finding.here


def test_the_caret_is_under_the_name() -> None:
    data = DATA.rename(columns={"g": "Vp Nr."})
    with pytest.raises(FormulaError) as caught:
        bl.Model("y ~ 1 + (1 | Vp Nr.)", data)
    lines = str(caught.value).split("\n")
    assert lines[-1].index("^") == lines[-2].index("Vp Nr.") and lines[-1].count("^") == 6


def test_without_such_columns_the_error_is_the_one_of_the_formula() -> None:
    for formula, words in [("y ~ 1 + (1 | Vp Nr.)", "in backquotes, e.g."), ("y ~ . + (1 | .x)", "A dot alone")]:
        with pytest.raises(FormulaError, match=words):
            bl.Model(formula, DATA)
    with pytest.raises(FormulaError, match="never closed"):
        bl.Model("y ~ a:b + (1 | g", DATA.assign(**{"a:b": 1.0, "a": 1.0, "b": 2.0}))


def test_a_part_of_a_name_that_is_no_column_names_the_whole() -> None:
    data = DATA.rename(columns={"x": "Vp-Nr"})
    with pytest.raises(DesignError, match="Did you mean the column `Vp-Nr`"):
        bl.Model("y ~ Vp-Nr + (1 | g)", data)


@pytest.mark.parametrize(
    ("typed", "column", "meant"),
    [
        ("`Reaktionszeit ms`", "Reaktionszeit [ms]", "`Reaktionszeit [ms]`"),
        ("Nr", "Vp Nr.", "`Vp Nr.`"),
        ("`vp nr.`", "Vp Nr.", "`Vp Nr.`"),
        ("Rection", "Reaction", "'Reaction'"),
        ("REACTION", "Reaction", "'Reaction'"),
    ],
)
def test_did_you_mean_is_written_as_a_formula_has_it(typed: str, column: str, meant: str) -> None:
    with pytest.raises(DesignError) as caught:
        bl.Model(f"y ~ {typed} + (1 | g)", DATA.rename(columns={"x": column}))
    assert f"Did you mean {meant}?" in str(caught.value)


@pytest.mark.parametrize("call", ["Q('a b')", 'Q("a b")', "log(Q('a b'))"])
@pytest.mark.parametrize("place", ["{} ~ 1 + (1 | g)", "y ~ {} + (1 | g)", "y ~ 1 + ({} | g)", "y ~ 1 + (1 | {})"])
def test_q_of_other_packages_is_backquotes_here(call: str, place: str) -> None:
    if call.startswith("log") and place.endswith("| {})"):
        return  # No call can be a grouping factor.
    with pytest.raises((DesignError, FormulaError), match=r"backquotes: .*`a b`"):
        bl.Model(place.format(call), DATA.assign(**{"a b": DATA["x"]}))


def test_a_function_called_q_is_the_users_own() -> None:
    model = bl.Model("y ~ Q(x) + (1 | g)", DATA, extra_namespace={"Q": lambda x: x**2})
    np.testing.assert_array_equal(model.design.X[:, 1], DATA["x"] ** 2)
