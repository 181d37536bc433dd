"""Adjusted p values and intervals of families, against their definitions and R's p.adjust."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.means.adjust import _ADJUSTED, Family, critical_values, p_values

P = np.array([0.001, 0.04, 0.02, 0.3, 0.022, 0.0401, 0.9])
# p.adjust(c(.001, .04, .02, .3, .022, .0401, .9), method) of R 4.2.
R = {
    "hommel": [0.0070, 0.1200, 0.0800, 0.6000, 0.0802, 0.1203, 0.9000],
    "hochberg": [0.0070, 0.1203, 0.1100, 0.6000, 0.1100, 0.1203, 0.9000],
    "holm": [0.007, 0.160, 0.120, 0.600, 0.120, 0.160, 0.900],
    "fdr": [0.007, 0.05614, 0.0513333333333333, 0.35, 0.0513333333333333, 0.05614, 0.9],
    "bonferroni": [0.007, 0.28, 0.14, 1.0, 0.154, 0.2807, 1.0],
}


@pytest.mark.parametrize("method", R)
def test_stepwise_methods_are_those_of_r(method: str) -> None:
    np.testing.assert_allclose(_ADJUSTED[method](P), R[method], rtol=1e-12)


def closed(p: np.ndarray, local: object) -> np.ndarray:
    """The closed test: the largest local p value of all sets that hold a hypothesis."""
    m = len(p)
    sets = chain.from_iterable(combinations(range(m), size) for size in range(1, m + 1))
    found = np.zeros(m)
    for own in map(list, sets):
        found[own] = np.maximum(found[own], local(np.sort(p[own])))  # type: ignore[operator]
    return np.minimum(found, 1.0)


def test_holm_and_hommel_are_closed_tests() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        p = rng.uniform(size=6) ** 3
        np.testing.assert_allclose(_ADJUSTED["holm"](p), closed(p, lambda q: len(q) * q[0]), rtol=1e-12)
        simes = closed(p, lambda q: np.min(len(q) * q / np.arange(1, len(q) + 1)))
        np.testing.assert_allclose(_ADJUSTED["hommel"](p), simes, rtol=1e-12)


@pytest.mark.parametrize("adjust", ["tukey", "mvt", "scheffe", "sidak", "bonferroni", "none"])
def test_intervals_exclude_zero_where_p_is_below_one_minus_the_level(adjust: str) -> None:
    """At the critical value the adjusted p value is one minus the level."""
    C = np.array([[1.0, -1, 0], [1, 0, -1], [0, 1, -1]]) / np.sqrt(2)
    family = Family(np.zeros(3), np.ones(3), np.array([7.3, 7.3, 12.0]), C @ C.T, 3, 2)
    t = critical_values(family, 0.9, adjust)
    found = np.array([p_values(family, np.full(3, t[i]), adjust)[i] for i in range(3)])
    np.testing.assert_allclose(found, 0.1, rtol=1e-8)


@pytest.fixture(scope="module")
def oats() -> bl.REMLResult:
    data = bl.load_dataset("Oats")
    data["nitro"] = data["nitro"].astype("category")
    return bl.Model("`yield` ~ nitro + Variety + (1 | Block/Variety)", data).fit()


def test_tukey_is_for_all_pairs_of_means_only(oats: bl.REMLResult) -> None:
    means = oats.means("nitro")
    pairs = means.pairs()
    t, df = pairs.frame["t"], pairs.frame["df"]
    np.testing.assert_allclose(
        pairs.frame["p_value"], stats.studentized_range.sf(np.abs(t) * np.sqrt(2), 4, df), atol=1e-9
    )
    found = means.contrast("dunnett", "tukey")
    plain = means.contrast("dunnett", "none").frame["p_value"]
    np.testing.assert_allclose(found.frame["p_value"], 1 - (1 - plain) ** 3, rtol=1e-9, atol=1e-15)
    assert "Tukey's is for all pairs" in repr(found)


def test_two_means_need_no_adjustment() -> None:
    fit = bl.Model("y ~ method + (1 | tablet)", bl.load_dataset("tablets")).fit()
    found = fit.means("method").pairs()
    assert found.frame["p_value"][0] == pytest.approx(fit.coefficients()["p_value"].iloc[1], rel=1e-9)
    assert "Adjusted" not in repr(found)


def test_groups_are_families_of_their_own() -> None:
    data = bl.load_dataset("Oats")
    data["nitro"] = data["nitro"].astype("category")
    fit = bl.Model("`yield` ~ nitro * Variety + (1 | Block/Variety)", data).fit()
    inside = fit.means("nitro", by="Variety").pairs("bonferroni").frame
    plain = fit.means("nitro", by="Variety").pairs("none").frame
    np.testing.assert_allclose(inside["p_value"], np.minimum(6 * plain["p_value"], 1), rtol=1e-12)
    together = fit.means(["nitro", "Variety"]).pairs("bonferroni").frame
    assert len(together) == 66


def test_mvt_states_its_error_where_it_has_one() -> None:
    fit = bl.Model("diameter ~ sample + (1 | plate)", bl.load_dataset("Penicillin")).fit()
    found = fit.means("sample").pairs("mvt")
    assert "standard error" in repr(found)
    np.testing.assert_allclose(found.frame["p_value"], fit.means("sample").pairs().frame["p_value"], atol=1e-4)
