"""Columns and their names against R's model.matrix (model_matrix.R wrote the file)."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import build_design

STORED: dict[str, Any] = json.loads(gzip.decompress((Path(__file__).parent / "model_matrix.json.gz").read_bytes()))
MATRICES: dict[str, Any] = STORED["matrices"]
# R's values are stored with 15 digits; poly() goes through another QR.
ROUNDING = 1e-10


@pytest.fixture
def data() -> pd.DataFrame:
    frame = pd.DataFrame(STORED["data"])
    frame["f"] = pd.Categorical(frame["f"], ["c", "a", "b", "never"])
    frame["k"] = pd.Categorical(frame["k"], ["u", "v", "w", "t"])
    frame["o"] = pd.Categorical(frame["o"], ["lo", "mid", "hi", "top"], ordered=True)
    frame["y"] = np.random.default_rng(0).normal(size=len(frame))
    frame["g"] = np.repeat(range(6), 4)
    return frame


def expected(side: str) -> np.ndarray:
    stored = MATRICES[side]
    return np.array(stored["rows"], dtype=float).reshape(24, len(stored["names"]))


@pytest.mark.parametrize("side", MATRICES)
def test_left_side_of_a_bar(data: pd.DataFrame, side: str) -> None:
    term = build_design(f"y ~ 1 + ({side} | g)", data, saturated="allow").terms[0]
    np.testing.assert_allclose(term.Z, expected(side), atol=ROUNDING)
    assert len(set(term.effects)) == term.Z.shape[1]


@pytest.mark.parametrize("side", [side for side in MATRICES if len(MATRICES[side]["names"]) < 12])
def test_fixed_part(data: pd.DataFrame, side: str) -> None:
    design = build_design(f"y ~ {side} + (1 | g)", data)
    X = expected(side)
    assert design.p == np.linalg.matrix_rank(X)
    if not design.aliased:
        np.testing.assert_allclose(design.X, X, atol=ROUNDING)


@pytest.mark.parametrize("side", [side for side in MATRICES if not re.search(r"\(|b", side)])
def test_names_are_rs_with_the_level_in_brackets(data: pd.DataFrame, side: str) -> None:
    effects = build_design(f"y ~ 1 + ({side} | g)", data, saturated="allow").terms[0].effects
    bare = [re.sub(r"[\[\]]", "", name).replace("Intercept", "(Intercept)") for name in effects]
    assert bare == MATRICES[side]["names"]


@pytest.mark.parametrize(
    ("side", "names"),
    [
        ("b", ("Intercept", "b[True]")),
        ("0 + b:x", ("b[False]:x", "b[True]:x")),
        ("poly(x, 2)", ("Intercept", "poly(x, 2)[1]", "poly(x, 2)[2]")),
        ("scale(x)", ("Intercept", "scale(x)")),
        ("o", ("Intercept", "o.L", "o.Q", "o.C")),
    ],
)
def test_names_of_our_own(data: pd.DataFrame, side: str, names: tuple[str, ...]) -> None:
    assert build_design(f"y ~ 1 + ({side} | g)", data, saturated="allow").terms[0].effects == names


@pytest.mark.parametrize("kind", ["bool", "boolean", "category"])
def test_every_kind_of_boolean_is_a_factor(data: pd.DataFrame, kind: str) -> None:
    data["b"] = data["b"].astype(kind)
    design = build_design("y ~ b + (1 | g)", data)
    assert design.fixed_names == ("Intercept", "b[True]")
    np.testing.assert_array_equal(design.X[:, 1], data["b"].to_numpy(dtype=float))


@pytest.mark.parametrize("kind", ["object", "category", "str"])
def test_every_kind_of_text_is_a_factor(data: pd.DataFrame, kind: str) -> None:
    data["s"] = data["s"].astype(kind)
    assert build_design("y ~ s + (1 | g)", data).fixed_names == ("Intercept", "s[q]", "s[r]")


def test_contrasts_of_both_parts(data: pd.DataFrame) -> None:
    design = build_design("y ~ f + (f | g)", data, contrasts={"f": "sum"})
    codes = pd.Categorical(data["f"], ["c", "a", "b"]).codes
    rows = np.array([[1, 1, 0], [1, 0, 1], [1, -1, -1]])[codes]
    np.testing.assert_array_equal(design.X, rows)
    np.testing.assert_array_equal(design.terms[0].Z, rows)
    assert design.fixed_names == ("Intercept", "f[1]", "f[2]")


def test_own_contrast_matrix(data: pd.DataFrame) -> None:
    matrix = np.array([[0.0, -1.0], [0.5, 0.0], [-0.5, 1.0]])
    design = build_design("y ~ f + (1 | g)", data, contrasts={"f": matrix})
    np.testing.assert_array_equal(design.X[:, 1:], matrix[pd.Categorical(data["f"], ["c", "a", "b"]).codes])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("C(f, Treatment('a'))", ["[c]", "[b]"]),
        ("T(f, 'a')", ["[c]", "[b]"]),
        ("C(f, Sum)", ["[c]", "[a]"]),
    ],
)
def test_codings_of_formulae(data: pd.DataFrame, text: str, names: list[str]) -> None:
    design = build_design(f"y ~ {text} + (1 | g)", data)
    assert [name.removeprefix(text) for name in design.fixed_names[1:]] == names
    full = build_design(f"y ~ 0 + {text} + (1 | g)", data)
    order = [list("cab").index(name.removeprefix(text)[1]) for name in full.fixed_names]
    np.testing.assert_allclose(
        full.X, np.eye(3)[:, order][pd.Categorical(data["f"], ["c", "a", "b"]).codes], atol=1e-15
    )


@pytest.mark.parametrize("kind", ["int8", "uint8", "int64", "float32", "Int16"])
def test_integers_do_not_wrap_around(data: pd.DataFrame, kind: str) -> None:
    whole = np.arange(24)
    data["m"] = pd.Series(whole).astype(kind)
    design = build_design("y ~ I(m**2) + I(m - 20) + (1 | g)", data)
    np.testing.assert_array_equal(design.X[:, 1], whole**2)
    np.testing.assert_array_equal(design.X[:, 2], whole - 20)


@pytest.mark.parametrize("text", ["factor(m)", "C(m)"])
def test_levels_of_whole_numbers(data: pd.DataFrame, text: str) -> None:
    assert build_design(f"y ~ {text} + (1 | g)", data).fixed_names[1:3] == (f"{text}[2]", f"{text}[3]")
    assert build_design(f"y ~ 0 + {text} + (1 | g)", data).fixed_names[:2] == (f"{text}[1]", f"{text}[2]")
