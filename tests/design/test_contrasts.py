"""Contrasts against R's (contrasts.R wrote the file) and against what they are defined to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.design.contrasts import Treatment, contrast_matrix, contrast_names
from bayeslmm.errors import DesignError

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "contrasts.json").read_text())
LEVELS = ["lo", "mid", "hi", "top"]
OWN = pd.DataFrame(STORED["own"], index=LEVELS, columns=["late", "edge"])
KINDS: dict[str, Any] = {
    "diff": "diff",
    "treatment_hi": Treatment("hi"),
    "helmert": "helmert",
    "sum": "sum",
    "poly": "poly",
    "own": OWN,
}


@pytest.fixture
def data() -> pd.DataFrame:
    frame = pd.DataFrame(STORED["data"])
    frame["f"] = pd.Categorical(frame["f"], ["lo", "mid", "hi", "never", "top"])
    frame["y"] = np.random.default_rng(0).normal(size=len(frame))
    frame["g"] = np.repeat(range(4), 5)
    return frame


@pytest.mark.parametrize("levels", STORED["matrices"])
@pytest.mark.parametrize("kind", ["treatment", "sum", "helmert", "poly", "diff"])
def test_matrices_are_rs(kind, levels):
    expected = STORED["matrices"][levels][kind]
    matrix = contrast_matrix(kind, int(levels))
    np.testing.assert_allclose(matrix, np.array(expected["rows"], dtype=float), rtol=0, atol=4e-16 * int(levels))


@pytest.mark.parametrize("levels", STORED["matrices"])
@pytest.mark.parametrize("kind", ["treatment", "poly", "diff"])
def test_names_are_rs(kind, levels):
    names = contrast_names(kind, list("abcdefg")[: int(levels)])
    assert names == STORED["matrices"][levels][kind]["names"]


@pytest.mark.parametrize("reference", list("abcde"))
@pytest.mark.parametrize("spelling", [Treatment, lambda level: ("treatment", level)])
def test_every_reference_level(spelling, reference):
    expected = STORED["matrices"]["5"][f"treatment_{reference}"]
    kind = spelling(reference)
    np.testing.assert_array_equal(contrast_matrix(kind, list("abcde")), expected["rows"])
    assert contrast_names(kind, list("abcde")) == expected["names"]


@pytest.mark.parametrize("side", ["~ f", "~ f * x", "~ x + x:f", "~ 0 + f"])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_rs(data, kind, side):
    expected = STORED["columns"][kind][side]
    design = build_design(f"y {side} + (1 | g)", data, contrasts={"f": KINDS[kind]})
    np.testing.assert_allclose(design.X, np.array(expected["rows"], dtype=float), atol=1e-14)
    names = [name.replace("[", "").replace("]", "") for name in design.fixed_names]
    assert names == [name.replace("(Intercept)", "Intercept") for name in expected["names"]]


def test_coefficients_are_what_the_names_say(data):
    """A saturated model of cell means: the coefficients are contrasts of the means."""
    means = data.groupby("f", observed=True)["y"].mean()
    lo, mid, hi, top = (means[level] for level in LEVELS)
    expected = {
        "diff": {"f[mid-lo]": mid - lo, "f[hi-mid]": hi - mid, "f[top-hi]": top - hi},
        "treatment_hi": {"f[lo]": lo - hi, "f[mid]": mid - hi, "f[top]": top - hi},
        "sum": {"Intercept": means.mean(), "f[1]": lo - means.mean(), "f[3]": hi - means.mean()},
        "helmert": {"Intercept": means.mean(), "f[1]": (mid - lo) / 2, "f[2]": (hi - (lo + mid) / 2) / 3},
    }
    for kind, values in expected.items():
        design = build_design("y ~ f + (1 | g)", data, contrasts={"f": KINDS[kind]})
        beta = dict(zip(design.fixed_names, np.linalg.lstsq(design.X, data["y"], rcond=None)[0], strict=True))
        for name, value in values.items():
            assert beta[name] == pytest.approx(value, abs=1e-12)


def test_many_levels_stay_orthonormal():
    Q = np.column_stack([np.full(60, 60**-0.5), contrast_matrix("poly", 60)])
    np.testing.assert_allclose(Q.T @ Q, np.eye(60), atol=1e-13)
    assert (Q[-1, :30] > 0).all()


def test_references_of_other_types(data):
    data["m"] = pd.Categorical(np.tile([10.0, 9.0, 8.0, 7.0], 5), [10.0, 9.0, 8.0, 7.0])
    assert build_design("y ~ m + (1 | g)", data, contrasts={"m": Treatment(8)}).fixed_names[1:] == (
        "m[10]",
        "m[9]",
        "m[7]",
    )
    design = build_design("y ~ b + (1 | g)", data, contrasts={"b": Treatment(True)})
    assert design.fixed_names == ("Intercept", "b[False]")
    np.testing.assert_array_equal(design.X[:, 1], ~data["b"])


def test_rows_of_a_named_matrix_find_their_levels(data):
    shuffled = OWN.loc[["top", "lo", "hi", "mid"]]
    one, other = (build_design("y ~ f + (1 | g)", data, contrasts={"f": m}) for m in (OWN, shuffled))
    np.testing.assert_array_equal(one.X, other.X)
    assert one.fixed_names == ("Intercept", "f[late]", "f[edge]")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Treatment("never"), "'never' of f does not occur"),
        (("treatment", "x"), "lo, mid, hi, top"),
        (("sum", "lo"), "Unknown contrasts"),
        ("sdif", "'diff'"),
        (OWN.rename(index={"top": "tip"}), "tip"),
        (OWN.to_numpy()[:3], "shape (3, 2)"),
        (np.full((4, 1), np.nan), "missing"),
        (np.array([["a"]] * 4), "not hold numbers"),
    ],
)
def test_what_cannot_be_used(data, kind, words):
    with pytest.raises(DesignError) as error:
        build_design("y ~ f + (1 | g)", data, contrasts={"f": kind})
    assert words in str(error.value)


def test_public_name():
    assert bl.Treatment is Treatment
