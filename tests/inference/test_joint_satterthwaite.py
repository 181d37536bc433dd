"""The joint Satterthwaite test is a property of model and hypothesis: no coding, reference level, unit or row order."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from scipy import linalg, stats

import bayeslmm as bl
from bayeslmm.results.linear import DDF

Array = Any
CODINGS = [bl.Treatment("A"), bl.Treatment("B"), bl.Treatment("C"), "sum", "helmert"]
# Degrees of freedom come from differences of nothing: what is left is where each optimisation stopped.
SAME = 1e-6


@cache
def unbalanced() -> pd.DataFrame:
    return bl.load_dataset("Machines").iloc[:-7].assign(w=lambda d: 1.0 + np.arange(len(d)) % 3)


def by_definition(fit: bl.REMLResult, L: Array) -> tuple[float, float, float]:
    """F, df2 and p from the textbook's matrices in the user's columns."""
    L, X = np.asarray(L, dtype=float), fit.design.X
    w = np.ones(fit.design.n) if fit.design.row_weights is None else fit.design.row_weights
    inverse = np.linalg.inv(X.T @ (X * w[:, None]))
    variance = L @ fit.vcov().to_numpy() @ L.T
    _, vectors = linalg.eigh(variance, L @ inverse @ L.T)
    estimate = L @ fit.fixef().to_numpy()
    F = float(estimate @ np.linalg.solve(variance, estimate) / len(L))
    each = np.array([fit.test_fixed(row)["df2"] for row in vectors.T @ L])
    mean = (each / (each - 2)).sum()
    df = float(2 * mean / (mean - len(L)))
    return F, df, float(stats.f.sf(F, len(L), df))


FORMULAS = {
    "slopes": ("score ~ Machine + (Machine | Worker)", None),
    "weighted": ("score ~ Machine + (Machine | Worker)", "w"),
    "nested": ("score ~ Machine + (1 | Worker/Machine)", None),
    "independent": ("score ~ Machine + (0 + Machine || Worker)", None),
}


@pytest.mark.parametrize("name", list(FORMULAS))
def test_neither_reference_level_nor_coding_matters(name: str) -> None:
    formula, weights = FORMULAS[name]
    fits = [bl.Model(formula, unbalanced(), weights=weights, contrasts={"Machine": c}).fit() for c in CODINGS]
    for ddf in (name for name in get_args(DDF) if name != "knapp-hartung"):
        found = np.array([fit.test_fixed("Machine", ddf) for fit in fits])
        np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=SAME)
    expected = by_definition(fits[0], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(fits[0].test_fixed("Machine")[["F", "df2", "p_value"]], expected, rtol=1e-7)


def test_order_of_levels_and_names_do_not_matter() -> None:
    data, found = unbalanced(), []
    for order in (["A", "B", "C"], ["C", "A", "B"], ["B", "C", "A"]):
        own = data.assign(Machine=pd.Categorical(data["Machine"].astype(str), order))
        found.append(bl.Model("score ~ Machine + (Machine | Worker)", own).fit().test_fixed("Machine").to_numpy())
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=SAME)


def test_any_rows_of_one_space_are_one_test() -> None:
    rng = np.random.default_rng(4)
    data = unbalanced().assign(x=rng.normal(size=47))
    fit = bl.Model("score ~ Machine * x + (Machine | Worker)", data).fit()
    for rank in (1, 2, 3, 5):
        L = rng.normal(size=(rank, 6))
        for ddf in (name for name in get_args(DDF) if name != "knapp-hartung"):
            expected = fit.test_fixed(L, ddf)
            others = [L[::-1], L * np.geomspace(1e-8, 1e8, rank)[:, None], rng.normal(size=(rank, rank)) @ L]
            others += [np.vstack([L, L.sum(0), 3 * L[0]])]
            for other in others:
                np.testing.assert_allclose(fit.test_fixed(other, ddf), expected, rtol=1e-7)
        assert fit.test_fixed(L)["df1"] == rank
        if rank > 1:
            np.testing.assert_allclose(fit.test_fixed(L)[["F", "df2", "p_value"]], by_definition(fit, L), rtol=1e-6)


@pytest.mark.parametrize(("shift", "unit"), [(0.0, 1e3), (100.0, 1.0), (-2000.0, 1e-4)])
def test_zero_and_unit_of_predictors_do_not_matter(shift: float, unit: float) -> None:
    rng = np.random.default_rng(8)
    data = unbalanced().assign(x=rng.normal(size=47), z=rng.uniform(size=47))
    formula = "score ~ Machine + x + z + (x | Worker)"
    near, far = (
        bl.Model(formula, data.assign(x=shift + scale * data["x"])).fit() for shift, scale in ((0, 1), (shift, unit))
    )
    for terms in (["x", "z"], ["Machine", "x"], ["Machine", "z"]):
        np.testing.assert_allclose(far.test_fixed(terms), near.test_fixed(terms), rtol=SAME)


def test_type_three_of_an_interaction_in_every_coding() -> None:
    """The name of a term is one hypothesis in all codings: its average over the cells of terms that contain it."""
    data = bl.load_dataset("Oats").iloc[3:]
    data = data.assign(nitro=data["nitro"].astype(str), Variety=data["Variety"].astype(str))
    tests = {}
    for kind in ("sum", "helmert", "treatment"):
        contrasts = {"nitro": kind, "Variety": kind}
        fit = bl.Model("yield ~ nitro * Variety + (1 | Block/Variety)", data, contrasts=contrasts).fit()
        tests[kind] = np.array([fit.test_fixed(term) for term in ("nitro", "Variety", "nitro:Variety")])
    np.testing.assert_allclose(tests["helmert"], tests["sum"], rtol=SAME)
    np.testing.assert_allclose(tests["treatment"], tests["sum"], rtol=SAME)


def test_strata_of_a_balanced_design_have_their_anova_df() -> None:
    """Any test within one stratum has its degrees of freedom: 2 x 5 between whole plots, 45 within (Oats)."""
    fit = bl.Model("yield ~ factor(nitro) * Variety + (1 | Block/Variety)", bl.load_dataset("Oats")).fit()
    within = [k for k, name in enumerate(fit.design.fixed_names) if "nitro" in name and ":" in name]
    rows = np.random.default_rng(2).normal(size=(4, len(within))) @ np.eye(fit.design.p)[within]
    assert fit.test_fixed(rows)["df2"] == pytest.approx(45, rel=1e-7)
    # Both strata at once: sums of squares with 10 and 45 degrees of freedom.
    means = fit.design.X.reshape(72, -1)
    plots = fit.design.groupings["Block:Variety"].codes
    between = np.unique(np.round([means[plots == j].mean(0) for j in range(18)], 12), axis=0)
    L = np.vstack([between[1:] - between[0], rows])
    expected = (10 / 8) * 2 + (45 / 43) * 4
    assert fit.test_fixed(L)["df1"] == 6
    assert fit.test_fixed(L)["df2"] == pytest.approx(2 * expected / (expected - 6), rel=1e-7)
