"""Calls for other packages: what they printed when they were run, what each can say, and what it cannot."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.exporting import TARGETS

sys.path.insert(0, str(Path(__file__).parent))
from exported import CASES, HOSTILE, MEASURED, model

RUN = json.loads(MEASURED.read_text())
# Optimisers of other packages stop at relative changes of 1e-8 of the criterion, statsmodels at gradients.
SAME = {"lme4": 1e-7, "nlme": 1e-6, "glmmTMB": 1e-6, "statsmodels": 1e-5}


@pytest.mark.parametrize("case", RUN)
def test_what_is_written_was_run_and_gave_this_fit(case: str) -> None:
    fitted = model(case)
    criterion = fitted.fit().criterion
    for target, run in RUN[case].items():
        assert fitted.to(target) == run["call"], target
        assert run["printed"] == pytest.approx(criterion, rel=SAME[target]), target


def test_every_case_was_run_somewhere() -> None:
    assert set(RUN) == set(CASES)
    assert {target for runs in RUN.values() for target in runs} == set(SAME)


@pytest.mark.parametrize("target", TARGETS)
def test_every_package_writes_the_ordinary_model(target: str) -> None:
    text = model("free").to(target, reml=False, data="study")
    assert "study" in text
    assert "Reaction" in text
    assert text.endswith("\n")
    assert max(map(len, text.splitlines())) <= 120
    if target in ("bambi", "statsmodels"):
        ast.parse(text)


def test_the_criterion_is_said_where_it_is_not_the_default() -> None:
    wanted = {"lme4": "REML = FALSE", "nlme": 'method = "ML"', "glmmTMB": "REML = FALSE", "statsmodels": "reml=False"}
    wanted |= {"sas": "method=ml", "matlab": "'FitMethod', 'ML'", "julia": "REML=false"}
    for target, words in wanted.items():
        assert words in model("free").to(target, reml=False), target


REFUSED = [
    ("y ~ x + toep(0 + f | g)", {}, ("lme4", "nlme", "brms", "rstanarm", "bambi", "statsmodels", "matlab", "julia")),
    ("y ~ x + ar1(0 + f | g)", {}, ("nlme", "brms", "rstanarm", "bambi", "statsmodels", "matlab", "julia")),
    ("y ~ x + csh(0 + f | g)", {}, ("nlme", "brms", "rstanarm", "bambi", "statsmodels", "matlab", "julia")),
    ("y ~ x + (1 | g)", {"weights": "w"}, ("rstanarm", "glmmTMB", "bambi", "statsmodels")),
    ("y ~ poly(x, 2) + (1 | g)", {}, ("bambi", "statsmodels", "sas", "matlab", "julia")),
    ("y ~ x + I(2 * x) + (1 | g)", {}, ("nlme", "statsmodels")),
    ("y ~ x + (x | g) + (x | h)", {}, ("nlme", "statsmodels")),
]


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 120
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.normal(size=n),
            "w": rng.uniform(1, 2, n),
            "f": np.tile(list("abcd"), n // 4),
            "g": np.repeat(np.arange(10), 12),
            "h": np.tile(np.arange(6), 20),
        }
    )


@pytest.mark.parametrize(("formula", "options", "without"), REFUSED)
def test_what_a_package_cannot_say_is_refused_with_the_reason(
    formula: str, options: dict[str, str], without: tuple[str, ...]
) -> None:
    fitted = bl.Model(formula, frame(), **options)
    for target in TARGETS:
        if target in without:
            with pytest.raises(bl.ArgumentError, match=r"has no|cannot|stops|only|multiply"):
                fitted.to(target)
        else:
            assert fitted.to(target)


def test_differences_of_bambi_are_said() -> None:
    assert "no correlations" in model("free").to("bambi")
    assert "no correlations" not in model("independent").to("bambi")
    assert "(1 | Subject) + (0 + Days | Subject)" in model("independent").to("bambi")


def test_structures_have_their_names() -> None:
    words = {
        "csh": {"sas": "type=csh", "glmmTMB": " cs(", "lme4": "hom = FALSE"},
        "cs": {"sas": "type=cs;", "matlab": "'CompSymm'", "nlme": "pdCompSymm", "glmmTMB": "homcs("},
        "ar1": {"sas": "type=ar(1)", "glmmTMB": " ar1(", "lme4": "ar1("},
        "ar1h": {"sas": "type=arh(1)", "glmmTMB": "hetar1(", "lme4": "ar1("},
        "toep": {"sas": "type=toep", "glmmTMB": "homtoep("},
        "diag": {"sas": "type=un(1)", "matlab": "'Diagonal'", "nlme": "pdDiag", "julia": "zerocorr(", "brms": "||"},
        "id": {"sas": "type=vc", "matlab": "'Isotropic'", "nlme": "pdIdent", "lme4": "(1 | g:f)"},
    }
    for keyword, targets in words.items():
        fitted = bl.Model(f"y ~ x + {keyword}(0 + f | g)", frame())
        for target, word in targets.items():
            assert word in fitted.to(target), (keyword, target)


def test_names_are_text_everywhere() -> None:
    """A column called like code stands in quotes and in comments of one line, and nowhere else."""
    for target in TARGETS:
        text = model("names").to(target)
        code = [line for line in text.splitlines() if not line.startswith(("#", "%", "/*"))]
        joined = "\n".join(code)
        quoted = re.compile(
            r"'(?:[^']|'')*'" if target in ("sas", "matlab") else r'"(?:\\.|[^"\\])*"|`(?:\\.|[^`\\])*`'
        )
        assert "system(" not in quoted.sub("", joined), target
        if target in ("bambi", "statsmodels"):
            called = {
                node.func.id
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert called <= {"print"}


@pytest.mark.parametrize("name", ["a\nstop()", "a */ run; x", "a'b", "$(rm)", "a\\", "über", "a\u2028b", HOSTILE])
def test_hostile_columns_and_levels(name: str) -> None:
    data = frame().rename(columns={"x": name})
    data["f"] = pd.Categorical(data["f"].map({"a": name, "b": "b", "c": "c", "d": "d"}), categories=[name, *"bcd"])
    fitted = bl.Model(f"y ~ `{name}` + f + (1 | g)", data)
    opening = {"sas": "/* ", "matlab": "% "}
    for target in TARGETS:
        text = fitted.to(target)
        lines = text.split("\n")
        assert "stop()" not in lines
        title = lines[0]
        assert title.startswith(opening.get(target, "# "))
        assert target != "sas" or title.count("*/") == 1
        if target in ("bambi", "statsmodels"):
            values = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            assert name in values
            assert "stop" not in {
                node.func.id
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }


def test_errors_of_arguments() -> None:
    with pytest.raises(bl.ArgumentError, match=r"Did you mean 'statsmodels'"):
        model("free").to("statsmodel")
    with pytest.raises(bl.ArgumentError, match="no name of a data frame"):
        model("free").to("lme4", data="df; quit()")
    fitted = bl.Model("y ~ twice(x) + (1 | g)", frame(), extra_namespace={"twice": lambda x: 2 * x})
    with pytest.raises(bl.ArgumentError, match="twice of extra_namespace"):
        fitted.to("lme4")


def test_a_script_survives_copies_and_is_shown_as_code() -> None:
    script = model("free").to("lme4")
    for again in (copy.deepcopy(script), pickle.loads(pickle.dumps(script))):
        assert again == script
        assert again.language == "r"
    assert script._repr_markdown_().startswith("```r\n")
