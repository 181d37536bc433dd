"""Tests that combinations of the fixed effects have given values: equations and right sides, against lmerTest."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def sleep() -> bl.REMLResult:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()


# R 4.2.2, lmerTest 3.1-3, lme4 1.1-31 with bobyqa, rhoend = 1e-11: contest(f, L, rhs = c, joint = TRUE, ddf = ...).
@pytest.mark.parametrize(
    ("L", "rhs", "ddf", "expected"),
    [
        ([0, 1], 8, "satterthwaite", [2.54764310106, 1, 17.0, 0.128879536839]),
        ("Days = 8", None, "satterthwaite", [2.54764310106, 1, 17.0, 0.128879536839]),
        ("8 == Days", None, "satterthwaite", [2.54764310106, 1, 17.0, 0.128879536839]),
        ("Days", 8, "satterthwaite", [2.54764310106, 1, 17.0, 0.128879536839]),
        ("2 * Days - 10 = 6", None, "satterthwaite", [2.54764310106, 1, 17.0, 0.128879536839]),
        (np.eye(2), [245, 8], "satterthwaite", [1.95734258769, 2, 17.0, 0.171782731433]),
        (["Intercept = 245", "Days = 8"], None, "satterthwaite", [1.95734258769, 2, 17.0, 0.171782731433]),
        (np.eye(2), [245, 8], "kenward-roger", [1.84220478841, 2, 16.0, 0.190537612075]),
        ("Days = 8", None, "z", [2.54764310106, 1, np.inf, float(chi2.sf(2.54764310106, 1))]),
    ],
)
def test_values_other_than_zero(sleep: bl.REMLResult, L: Any, rhs: Any, ddf: Any, expected: list[float]) -> None:
    found = sleep.test_fixed(L, ddf, rhs=rhs)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_contrasts_of_levels_with_values() -> None:
    # contest(m, rbind(c(0, 1, 0), c(0, -1, 1)), rhs = c(7, 6), joint = TRUE), m of Machines with (1 | Worker).
    fit = bl.Model("score ~ Machine + (1 | Worker)", bl.load_dataset("Machines")).fit()
    expected = [0.533379245466, 2, 46.0, 0.590203085067]
    equations = ["Machine[B] = 7", "Machine[C] - Machine[B] = 6"]
    for found in (
        fit.test_fixed([[0, 1, 0], [0, -1, 1]], rhs=[7, 6]),
        fit.test_fixed(equations),
        fit.test_fixed([*equations, "Machine[C] = 13"]),
        fit.test_fixed(equations, "kenward-roger"),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_estimates_are_the_hypothesis_that_cannot_be_refuted(sleep: bl.REMLResult) -> None:
    for shift in (0.0, 1e6):
        data = bl.load_dataset("sleepstudy").assign(Days=lambda d, s=shift: d["Days"] + s)
        fit = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit() if shift else sleep
        at = fit.fixef().to_numpy()
        assert fit.test_fixed(np.eye(2), rhs=at)["F"] < 1e-12
        error = fit.coefficients().loc["Days", "std_error"]
        np.testing.assert_allclose(fit.test_fixed("Days", rhs=at[1] + 2 * error)["F"], 4.0, rtol=1e-6)


def test_values_beyond_all_numbers(sleep: bl.REMLResult) -> None:
    for ddf in ("satterthwaite", "kenward-roger", "z"):
        for rhs in (1e300, -1e200):
            assert sleep.test_fixed("Days", ddf, rhs=rhs)[["F", "p_value"]].tolist() == [np.inf, 0.0]  # type: ignore[arg-type]


def test_zero_is_the_value_by_default(sleep: bl.REMLResult) -> None:
    for other in (sleep.test_fixed("Days = 0"), sleep.test_fixed("Days", rhs=0), sleep.test_fixed([0, 1], rhs=[0.0])):
        np.testing.assert_allclose(other, sleep.test_fixed("Days"), rtol=1e-13)


def test_labels_with_signs_and_equations_within() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"x": rng.normal(size=40), "f": np.tile(["a-1", "b=2"], 20), "g": np.repeat(np.arange(8), 5)})
    frame["y"] = rng.normal(size=40) + 0.5 * frame["g"]
    fit = bl.Model("y ~ I(x - 2) + f + I(x > 1) + (1 | g)", frame).fit()
    names = list(fit.fixef().index)
    assert names == ["Intercept", "I(x - 2)", "f[b=2]", "I(x > 1)[True]"]
    for k, name in enumerate(names):
        row = np.eye(4)[k]
        np.testing.assert_allclose(fit.test_fixed(f"{name} = 1.5e-1"), fit.test_fixed(row, rhs=0.15), rtol=1e-12)
    for first, second in pairwise(names):
        row = np.eye(4)[names.index(first)] * 3 - np.eye(4)[names.index(second)] / 2
        found = fit.test_fixed(f"3 * {first} - {second}/2 = -1")
        np.testing.assert_allclose(found, fit.test_fixed(row, rhs=-1.0), rtol=1e-12)


@pytest.mark.parametrize(
    ("L", "rhs", "message"),
    [
        ("Dayz = 3", None, "'Dayz'"),
        ("Days =", None, "is empty"),
        ("= 3", None, "is empty"),
        ("Days = 3 = 4", None, "2 equality signs"),
        ("3 = 4", None, "nothing about a coefficient"),
        ("Days = Days", None, "nothing about a coefficient"),
        ("Days < 3", None, "called 'Days < 3'"),
        ("Days = 3", 2, "right sides of their own"),
        ([[0, 1], [0, 2]], [1, 3], "contradict each other"),
        (["Days = 1", "2 * Days = 3"], None, "contradict each other"),
        ([0, 1], [1, 2], r"rhs has shape \(2,\)"),
        ([0, 1], np.nan, "finite"),
        ([0, 1], "x", "rhs"),
    ],
)
def test_other_hypotheses_are_refused(sleep: bl.REMLResult, L: Any, rhs: Any, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        sleep.test_fixed(L, rhs=rhs)
