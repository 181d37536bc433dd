"""Fits of medium designs by every way of storing the cross-products: they are the same fit."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.design import Store
from bayeslmm.likelihood import kernels
from bayeslmm.likelihood.levels import Levels

# Both minimise the same function; what is left is the rounding of sums and the last step of the optimiser, which
# a hierarchy takes with an approximate Hessian.
CRITERION = 1e-11
THETA = 3e-6
FORMULAS = {
    "nested": "y ~ x + (1 | a) + (1 | a:b) + (1 | a:b:c)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "nested and crossed": "y ~ x + (1 | a) + (1 | a:b) + (1 | h)",
    "vectors nested": "y ~ x + (x | a) + (x | a:b)",
    "vectors crossed": "y ~ x + (x | g) + (f || h)",
    "vectors nested and crossed": "y ~ x + (z | a) + (x | a:b) + (x || h)",
    "several terms of a factor": "y ~ x + (1 | a) + (0 + x | a) + (z | g) + (1 | h)",
    "factor slopes": "y ~ f + (0 + f | a) + (1 | a:b) + (1 | g)",
    "three crossed": "y ~ x + (1 | g) + (1 | h) + (1 | k)",
    "shared": "y ~ x + cs(0 + f | g) + id(1 + x | h)",
}
SPREADS = {"regular": (1.0, 0.6, 0.4), "singular": (0.7, 0.0, 0.0)}
CASES = [
    (name, spread, weighted, reml)
    for i, name in enumerate(FORMULAS)
    for j, spread in enumerate(SPREADS)
    for weighted, reml in ([(False, True), (True, False)] if (i + j) % 2 else [(True, True), (False, False)])
]


@cache
def frame(spread: str) -> pd.DataFrame:
    """Unbalanced: 40 levels of a, 160 of a:b, 640 of a:b:c, crossed factors of 150 and 130, and a small one."""
    rng, n = np.random.default_rng(5), 1300
    one, two, three = SPREADS[spread]
    c = np.r_[np.arange(640), rng.integers(0, 640, n - 640)]
    b, a = c // 4, c // 16
    g, h, k = rng.integers(0, 150, n), rng.integers(0, 130, n), rng.integers(0, 7, n)
    x, z, f = rng.normal(size=n), rng.normal(size=n), rng.integers(0, 3, n)
    y = 4 + x + rng.normal(size=n) + one * rng.normal(size=40)[a] + two * rng.normal(size=160)[b]
    y += three * rng.normal(size=640)[c] + one * rng.normal(size=150)[g] + two * rng.normal(size=130)[h]
    y += x * (three * rng.normal(size=150)[g] + two * rng.normal(size=160)[b]) + two * rng.normal(size=(130, 3))[h, f]
    kinds = pd.Series(f).map({0: "p", 1: "q", 2: "r"})
    data = {"y": y, "x": x, "z": z, "f": kinds, "a": a, "b": b % 4, "c": c % 4, "g": g, "h": h, "k": k}
    return pd.DataFrame({**data, "w": rng.uniform(0.3, 3.0, n)})


def fit(
    monkeypatch: pytest.MonkeyPatch, store: Store, case: tuple[str, str, bool, bool], compiled: bool = True
) -> bl.REMLResult:
    name, spread, weighted, reml = case
    with monkeypatch.context() as patch:
        if not compiled:
            patch.setattr(kernels, "_compiled", lambda: None)
        result = bl.Model(FORMULAS[name], frame(spread), weights="w" if weighted else None, store=store).fit(reml)
        assert isinstance(result.cp.sums, Levels) == (store == "levels")
        # what is computed on demand belongs to the same way
        result.ranef_variances()
        return result


def same(one: bl.REMLResult, two: bl.REMLResult) -> None:
    assert one.status is two.status and one.is_singular == two.is_singular
    assert one.criterion == pytest.approx(two.criterion, rel=CRITERION)
    np.testing.assert_allclose(one.theta, two.theta, atol=THETA)
    assert [v.term for v in one.optimum.vanished] == [v.term for v in two.optimum.vanished]
    assert one.sigma == pytest.approx(two.sigma, rel=THETA)
    np.testing.assert_allclose(one.fixef(), two.fixef(), atol=THETA)
    np.testing.assert_allclose(one.vcov(), two.vcov(), rtol=10 * THETA, atol=1e-9)
    for fixed_known in (True, False):
        variances = two.ranef_variances(fixed_known=fixed_known)
        for group, values in one.ranef_variances(fixed_known=fixed_known).items():
            np.testing.assert_allclose(values, variances[group], atol=2 * THETA)
    for group, table in one.ranef().items():
        pd.testing.assert_index_equal(table.index, two.ranef()[group].index)
        np.testing.assert_allclose(table, two.ranef()[group], atol=2 * THETA)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_levels_and_hierarchy(case: tuple[str, str, bool, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    same(fit(monkeypatch, "levels", case), fit(monkeypatch, "hierarchy", case))


@pytest.mark.parametrize("case", CASES[1::3], ids=lambda case: "-".join(map(str, case)))
def test_without_compiled_kernels(case: tuple[str, str, bool, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    same(fit(monkeypatch, "hierarchy", case), fit(monkeypatch, "hierarchy", case, compiled=False))
