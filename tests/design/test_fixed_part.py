"""Algebra of terms in the fixed part against R's model.matrix (fixed_part.R wrote the file)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import parse_formula
from bayeslmm.design.evaluate import Evaluator
from bayeslmm.errors import FormulaError

STORED: dict[str, Any] = json.loads(gzip.decompress((Path(__file__).parent / "fixed_part.json.gz").read_bytes()))
MATRICES: dict[str, Any] = STORED["matrices"]
# In R a power of a single term is the term and a term taken from nothing is nothing. Both are mistakes.
REFUSED = {"x^2", "x**2", "I(x)^2", "x+x^2", "a*b^2", "-x"}


def columns(side: str) -> tuple[np.ndarray, tuple[str, ...]]:
    frame = pd.DataFrame(STORED["data"])
    fixed = parse_formula(f"y ~ {side} + (1 | g)").fixed
    return Evaluator({name: frame[name] for name in frame}, {}, {}).columns(fixed)


@pytest.mark.parametrize("side", [side for side in MATRICES if side not in REFUSED])
def test_columns_and_names_are_rs(side):
    matrix, names = columns(side)
    expected = np.array(MATRICES[side]["rows"], dtype=float).reshape(len(matrix), -1)
    np.testing.assert_allclose(matrix, expected, atol=1e-13)
    bare = [name.replace("[", "").replace("]", "") for name in names]
    assert [name.replace("Intercept", "(Intercept)") for name in bare] == MATRICES[side]["names"]


@pytest.mark.parametrize("side", sorted(REFUSED))
def test_refused_because_r_ignores_it(side):
    """R's answer has no column for what was asked."""
    assert not any("^" in name or "-" in name for name in MATRICES[side]["names"])
    with pytest.raises(FormulaError, match=r"I\("):
        parse_formula(f"y ~ {side} + (1 | g)")


@pytest.mark.parametrize("side", ["2*x", "x*2", "x+2", "2:x", "x/2", "3*a"])
def test_refused_as_in_r(side):
    assert "invalid" in STORED["refused"][side]
    with pytest.raises(FormulaError, match="number"):
        parse_formula(f"y ~ {side} + (1 | g)")


@pytest.mark.parametrize("side", ["(x + log(z + 5)):a", "{x * 2}:a - x", "a * poly(x, 2) - a", "(`x` + scale(x)):b"])
def test_calls_keep_their_place(side):
    """Variables of an interaction stand in the order of the text."""
    names = [name for name in columns(side)[1] if ":" in name]
    swapped = side.startswith("a")
    assert names
    assert all(name.startswith("a[") == swapped for name in names)
