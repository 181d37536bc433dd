"""Names and levels from the data never become code in the generated source: same code as for a harmless model."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.names import identifiers, literal, printable
from bayeslmm.design.script import Script

CODE = '__import__("os").system("touch injected")'
HOSTILE = {
    "line break": f"v\n{CODE}\n#",
    "carriage return": f"v\r{CODE}\r#",
    "line separator": f"v\u2028{CODE}\u2029#",
    "next line": f"v\x85{CODE}\x85",
    "form feed": f"v\x0c{CODE}\x0b",
    "file separators": f"v\x1c{CODE}\x1d\x1e",
    "double quote": f'v", {CODE}, "',
    "single quote": f"v', {CODE}, '",
    "triple quote": f'v""", {CODE}, """',
    "backslash": 'v\\", ',
    "last backslash": "v\\",
    "braces": "{v.__class__} {} %s",
    "direction": f"v\u202e{CODE}\u2066#",
    "surrogate": "v\ud800\udc00",
    "escape": "\x1b[2J",
    "null": "v\x00w",
    "coding": "-*- coding: utf-7 -*-",
    "keyword": "class",
    "module": "np",
    "helper": "correlation_factor pt. pd.",
    "fence": "```\n<script>",
    "ligature": "\ufb01",
}


def harmless(text: str) -> str:
    """A text that a source treats in the same way: a column is read off a data frame if its name is an identifier."""
    return "vw" if text.isidentifier() else "v w"


def frame(roles: dict[str, str], levels: tuple[str, str]) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 48
    columns: dict[str, Any] = {
        "response": rng.normal(size=n),
        "predictor": rng.normal(size=n),
        "factor": np.array(levels)[rng.integers(0, 2, n)],
        "group": np.arange(n) % 6,
        "other": np.arange(n) // 8,
        "offset": rng.normal(size=n),
        "weights": rng.uniform(1, 2, n),
    }
    return pd.DataFrame({roles[role]: values for role, values in columns.items()})


def built(text: str) -> bl.Model:
    """A model in which the text stands in every place where a name or level can stand."""
    roles = {
        role: f"{text}{k}"
        for k, role in enumerate(("response", "predictor", "factor", "group", "other", "offset", "weights"))
    }
    q = {role: f"`{name.replace('`', '')}`" for role, name in roles.items()}
    data = frame({role: name.replace("`", "") for role, name in roles.items()}, (f"a{text}", f"b{text}"))
    formula = (
        f"{q['response']} ~ {q['predictor']} * {q['factor']} + offset({q['offset']}) + I({q['predictor']}**2)"
        f" + ({q['predictor']} | {q['group']}) + (0 + {q['factor']} || {q['other']})"
        f" + cs(0 + {q['factor']} | {q['other']})"
    )
    return bl.Model(formula, data, weights=q["weights"])


def shape(source: str) -> str:
    """The code without its constants, names numbered in the order in which they appear."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
        elif isinstance(node, ast.Name):
            node.id = known.setdefault(node.id, f"n{len(known)}")
        elif isinstance(node, ast.JoinedStr):
            raise AssertionError("a string that is evaluated")
    return ast.dump(tree)


@pytest.mark.parametrize("form", ["centered", "noncentered"])
@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "surrogate"])  # pandas refuses it
def test_same_code_as_a_harmless_model(name: str, form: Any) -> None:
    source = built(HOSTILE[name]).pymc_source(form=form)
    assert shape(source) == shape(built(harmless(HOSTILE[name])).pymc_source(form=form))
    # what is read as another line by an editor, or written in another direction, is not there
    assert all(sign.isprintable() for sign in source.replace("\n", ""))
    assert source.splitlines() == source.split("\n")[:-1]
    assert source.encode() and all(line.isprintable() for line in source.splitlines())


@pytest.mark.parametrize("priors", ["weak", "rstanarm", {"sd": bl.Relative(bl.HalfNormal(2.0))}, {"sd": bl.Power(1.0)}])
def test_same_code_with_other_priors(priors: Any) -> None:
    sources = [built(text).pymc_source(priors=priors) for text in (HOSTILE["line break"], "v w")]
    assert shape(sources[0]) == shape(sources[1])


def test_levels_in_a_comment() -> None:
    data = pd.DataFrame(
        {
            "y": np.random.default_rng(1).normal(size=40),
            "f": np.where(np.arange(40) % 2 == 0, f'v\n{CODE}\n#"', "a"),
            "g": np.arange(40) // 4,
        }
    )
    source = bl.Model("y ~ f + (1 | g)", data).pymc_source()
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert "system" not in called
    assert f"f[v\\n{CODE}" in source


def test_same_log_density() -> None:
    pm = pytest.importorskip("pymc")
    data = pd.DataFrame(
        {
            'y"\n': np.random.default_rng(1).normal(size=40),
            "x'": np.random.default_rng(2).normal(size=40),
            "a_b": np.arange(40) // 4,
            "a-b": np.arange(40) % 4,
            "a:b": np.arange(40) % 7,
        }
    )
    model = bl.Model("`y\"\n` ~ `x'` + (`x'` | `a_b`) + (1 | `a-b`) + (1 | `a:b`)", data)
    design = model.design
    names = identifiers(list(design.groupings))
    given = {f"Z_{names[g]}": np.column_stack([t.Z for t in design.terms if t.group == g]) for g in design.groupings}
    given |= {f"codes_{names[g]}": design.groupings[g].codes for g in design.groupings}
    space: dict[str, Any] = {"df": data, "y": design.y, "X": design.X, **given}
    exec(model.pymc_source(), space)
    expected, found = model.to_pymc(), space["model"]
    assert isinstance(found, pm.Model)
    point = expected.initial_point()
    assert {rv.name for rv in found.free_RVs} == {rv.name for rv in expected.free_RVs}
    values = [float(m.compile_logp(mode="FAST_COMPILE")(point)) for m in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-8)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_literals_are_the_text(text: str) -> None:
    assert ast.literal_eval(literal(text)) == text
    assert ast.literal_eval(literal([text, "b"])) == [text, "b"]
    assert len(literal(text).splitlines()) == len(printable(text).splitlines()) == 1


def test_every_sign_is_a_literal_and_a_comment_of_one_line() -> None:
    signs = [chr(code) for code in range(0x3000)] + ["\ud800", "\udfff", "\U000e0001", "\U0001f600", "\ufeff", "\uffff"]
    for sign in signs:
        assert ast.literal_eval(literal(f"a{sign}b")) == f"a{sign}b"
        tree = ast.parse(f"# a{printable(sign)}b\nx = 1")
        assert len(tree.body) == 1


def test_identifiers_are_valid_and_differ() -> None:
    names = [*HOSTILE.values(), "fi", "a b", "a_b", "a:b", "", "1", "\u00b2", "é", "e\u0301", "\U0001d535", "x"]
    found = identifiers(names)
    assert len(set(found.values())) == len(set(names))
    import unicodedata

    assert all(f"sd_{end}".isidentifier() and unicodedata.is_normalized("NFKC", end) for end in found.values())


def test_no_row_of_backquotes_ends_the_code_in_a_notebook() -> None:
    text = Script("a = '''\n```\n````\n'''\n", "python")._repr_markdown_()
    fence = re.match("`+", text)[0]
    assert len(fence) == 5 and text.endswith(fence) and text.count(fence) == 2
