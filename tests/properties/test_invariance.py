"""What must not change in a fit, and what must change in a known way, over random designs and formulas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayeslmm as bl

FORMULAS = (
    "y ~ x + (1 | g)",
    "y ~ x + (x | g)",
    "y ~ x + f + (x || g)",
    "y ~ x + (1 | g) + (1 | h)",
    "y ~ x + (1 | a / g)",
    "y ~ x + (1 | a / g / s)",
    "y ~ x + (x | g) + (1 | h)",
    "y ~ x + (1 | g) + (0 + z | h)",
    "y ~ x + (1 | a) + (x | a:g) + (1 | h)",
    "y ~ f + x + (0 + f | h)",
)
# Sums of n terms in another order, and the flat bottom of a criterion: relative to n + |criterion|.
CRITERION = 1e-10
# The optimiser's own: theta at its best, where the criterion is quadratic, is good to the root of the rounding.
ESTIMATE = 2e-5


@dataclass(frozen=True)
class Case:
    """A random design."""

    formula: str
    seed: int
    n: int
    spread: float
    weighted: bool
    reml: bool


cases = st.builds(
    Case,
    st.sampled_from(FORMULAS),
    st.integers(0, 10_000),
    st.integers(24, 70),
    st.sampled_from([0.0, 0.3, 1.0, 10.0]),
    st.booleans(),
    st.booleans(),
)
few = settings(max_examples=12, derandomize=True, deadline=None)


@cache
def frame(case: Case) -> pd.DataFrame:
    """Unbalanced groups with singletons; g lies in a, s is numbered anew within every g."""
    rng, n = np.random.default_rng(case.seed), case.n
    g = np.r_[[0], rng.integers(1, 9, n - 1)]
    h, a = rng.integers(0, 4, n), g % 3
    # every level of f within two levels of h, or the variance of its effects would not be identified
    h[:6], x, f = [0, 0, 0, 1, 1, 1], rng.normal(size=n), np.r_[[0, 1, 2, 0, 1, 2], rng.integers(0, 3, n - 6)]
    effects = rng.normal(size=9)[g] + 0.5 * x * rng.normal(size=9)[g] + 0.7 * rng.normal(size=4)[h]
    y = 2 + x + 0.3 * f + case.spread * (effects + rng.normal(size=3)[a]) + rng.normal(size=n)
    text = {name: [name + str(v) for v in values] for name, values in (("g", g), ("h", h), ("a", a), ("f", f))}
    s = ["s" + str(v) for v in rng.integers(0, 2, n)]
    return pd.DataFrame({"y": y, "x": x, "z": rng.normal(size=n), **text, "s": s, "w": rng.uniform(0.3, 3.0, n)})


def fit(case: Case, data: object, formula: str = "") -> bl.REMLResult:
    weights = "w" if case.weighted else None
    return bl.Model(formula or case.formula, data, weights=weights, saturated="allow").fit(case.reml)


@cache
def original(case: Case) -> bl.REMLResult:
    return fit(case, frame(case))


def nu(fit: bl.REMLResult) -> int:
    return fit.n - fit.design.p if fit.reml else fit.n


def same(again: bl.REMLResult, first: bl.REMLResult, more: float = 0.0, c: float = 1.0, names: bool = True) -> None:
    """Criterion higher by `more`, standard deviations times c, relative ones unchanged."""
    assert again.status is first.status
    tolerance = CRITERION * (first.n + abs(first.criterion) + abs(more))
    assert again.criterion == pytest.approx(first.criterion + more, abs=tolerance)
    assert again.sigma == pytest.approx(c * first.sigma, rel=ESTIMATE)
    if names:
        np.testing.assert_allclose(again.theta, first.theta, rtol=ESTIMATE, atol=ESTIMATE)


def betas(again: bl.REMLResult, expected: pd.Series, unit: float) -> None:
    np.testing.assert_allclose(again.fixef()[expected.index], expected, rtol=ESTIMATE, atol=ESTIMATE * unit)


@given(cases)
@few
def test_order_of_rows(case: Case) -> None:
    data, first = frame(case), original(case)
    again = fit(case, data.sample(frac=1.0, random_state=case.seed))
    same(again, first)
    betas(again, first.fixef(), 1.0)
    for group, table in first.ranef().items():
        np.testing.assert_allclose(again.ranef()[group].loc[table.index], table, atol=ESTIMATE * (1 + case.spread))
    np.testing.assert_allclose(again.fitted()[data.index], first.fitted(), atol=ESTIMATE * (1 + case.spread))


@given(cases)
@few
def test_labels_of_levels(case: Case) -> None:
    """Other names, in another order; text, categories with levels that do not occur, and numbers."""
    data, first = frame(case), original(case)
    rng = np.random.default_rng(case.seed)
    names = {f"g{v}": f"{k} «{v}»" for v, k in enumerate(rng.permutation(9))}
    moved = data.assign(
        g=data["g"].map(names),
        h=pd.Categorical(data["h"], ["h3", "never", "h1", "h0", "h2"]),
        a=data["a"].str[1:].astype(int) * 10**12,
    )
    again = fit(case, moved)
    same(again, first)
    betas(again, first.fixef(), 1.0)
    if "g" in first.ranef():
        table = first.ranef()["g"]
        table.index = table.index.map(names)
        np.testing.assert_allclose(again.ranef()["g"].loc[table.index], table, atol=ESTIMATE * (1 + case.spread))


@given(cases)
@few
def test_polars_and_categories(case: Case) -> None:
    data, first = frame(case), original(case)
    for table in (pl.from_pandas(data), data.astype({"g": "category", "h": "category", "f": "category"})):
        again = fit(case, table)
        assert again.criterion == pytest.approx(first.criterion, rel=1e-13)
        np.testing.assert_allclose(again.theta, first.theta, rtol=1e-9, atol=1e-12)
        assert list(again.fixef().index) == list(first.fixef().index)


@given(cases, st.randoms(use_true_random=False))
@few
def test_order_of_terms(case: Case, random: object) -> None:
    first = original(case)
    right = case.formula.split("~")[1]
    parts = [part.strip() for part in right.split(" + ")] if "(0 +" not in right else _split(right)
    random.shuffle(parts)  # type: ignore[attr-defined]
    again = fit(case, frame(case), "y ~ " + " + ".join(parts))
    same(again, first, names=False)
    betas(again, first.fixef(), 1.0)
    one, two = (
        table.varcorr().set_index(["group", "effect1", "effect2"])["vcov"].sort_index() for table in (first, again)
    )
    assert set(one.index) == set(two.index)
    np.testing.assert_allclose(two[one.index], one, rtol=1e-3, atol=1e-4 * first.sigma**2)


def _split(right: str) -> list[str]:
    marked = right.replace("(0 + ", "(0 § ")
    return [part.strip().replace("§", "+") for part in marked.split(" + ")]


@given(cases, st.sampled_from([-3.0, 1e-6, 17.0, 1e6]), st.sampled_from([0.0, -40.0, 3e4]))
@few
def test_units_of_the_response(case: Case, c: float, shift: float) -> None:
    data, first = frame(case), original(case)
    again = fit(case, data.assign(y=c * (data["y"] + shift)))
    same(again, first, nu(first) * np.log(c**2), abs(c))
    expected = c * first.fixef()
    expected["Intercept"] += c * shift
    betas(again, expected, abs(c) * (1 + abs(shift)))


@given(cases, st.sampled_from([-3.0, 1e-6, 17.0, 1e6]))
@few
def test_units_of_a_predictor(case: Case, c: float) -> None:
    data, first = frame(case), original(case)
    again = fit(case, data.assign(x=c * data["x"]))
    same(again, first, np.log(c**2) * case.reml, names=False)
    expected = first.fixef()
    expected["x"] /= c
    assert again.fixef()["x"] == pytest.approx(expected["x"], rel=1e-4, abs=ESTIMATE / abs(c))
    betas(again, expected.drop("x"), 1.0)
    one, two = first.varcorr(), again.varcorr()
    times = np.prod([np.where(one[e] == "x", 1 / c, 1.0) for e in ("effect1", "effect2")], axis=0)
    times = np.where((one["effect1"] == "x") & one["effect2"].isna(), 1 / c**2, times)
    atol = 1e-4 * first.sigma**2
    np.testing.assert_allclose(two["vcov"].to_numpy() / times, one["vcov"], rtol=1e-3, atol=atol)


@given(cases.filter(lambda case: "||" not in case.formula), st.sampled_from([-2.0, 300.0, 1e5]))
@few
def test_origin_of_a_predictor(case: Case, shift: float) -> None:
    """Not for ||: a model without correlation depends on where zero is."""
    data, first = frame(case), original(case)
    again = fit(case, data.assign(x=data["x"] + shift))
    more = 1e-16 * shift**2 * first.n  # x itself is rounded
    assert again.criterion == pytest.approx(first.criterion, abs=CRITERION * (first.n + abs(first.criterion)) + more)
    assert again.sigma == pytest.approx(first.sigma, rel=ESTIMATE)
    assert again.fixef()["x"] == pytest.approx(first.fixef()["x"], abs=ESTIMATE * (1 + case.spread))
    b = again.ranef()
    for group, table in first.ranef().items():
        moved = b[group]["Intercept"] + shift * b[group]["x"] if "x" in table else None
        if moved is not None:
            np.testing.assert_allclose(moved, table["Intercept"], atol=1e-4 * (1 + case.spread))


@given(cases, st.sampled_from([0.01, 2.0, 1e4]))
@few
def test_unit_of_the_weights(case: Case, k: float) -> None:
    """Precision weights have a unit: sigma^2 is the variance at weight 1."""
    data = frame(case)
    formula = case.formula
    first = bl.Model(formula, data, weights="w", saturated="allow").fit(case.reml)
    again = bl.Model(formula, data.assign(w=k * data["w"]), weights="w", saturated="allow").fit(case.reml)
    tolerance = CRITERION * (first.n + abs(first.criterion))
    assert again.criterion == pytest.approx(first.criterion, abs=tolerance)
    assert again.sigma == pytest.approx(np.sqrt(k) * first.sigma, rel=ESTIMATE)
    np.testing.assert_allclose(again.theta * np.sqrt(k), first.theta, rtol=ESTIMATE, atol=ESTIMATE)
    betas(again, first.fixef(), 1.0)


@given(cases)
@few
def test_equal_weights_are_none(case: Case) -> None:
    data = frame(case)
    first = bl.Model(case.formula, data, saturated="allow").fit(case.reml)
    again = bl.Model(case.formula, data, weights=np.ones(case.n), saturated="allow").fit(case.reml)
    assert again.criterion == pytest.approx(first.criterion, rel=1e-12)


@given(cases)
@few
def test_repeated_rows_are_no_weights(case: Case) -> None:
    """At the same theta two copies of a row and one of weight 2 agree on the effects, not on sigma.

    The differences within the pairs are n zeros that also count as data: nu grows by n, the residual sum does not.
    """
    data = frame(case).assign(w=2.0)
    once = bl.Model(case.formula, data, weights="w", saturated="allow").fit(case.reml)
    twice = bl.Model(case.formula, pd.concat([data, data])).fit(case.reml, fix={"theta": once.theta})
    small, large = nu(once), nu(once) + once.n
    r2 = small * once.sigma**2
    assert twice.sigma == pytest.approx(np.sqrt(r2 / large), rel=1e-8)
    constant = [m * (1 + np.log(2 * np.pi * r2 / m)) for m in (small, large)]
    expected = once.criterion + once.n * np.log(2.0) + constant[1] - constant[0]
    assert twice.criterion == pytest.approx(expected, abs=1e-9 * (once.n + abs(expected)))
    np.testing.assert_allclose(twice.fixef(), once.fixef(), atol=1e-8 * (1 + case.spread))
    for group, table in once.ranef().items():
        np.testing.assert_allclose(twice.ranef()[group], table, atol=1e-7 * (1 + case.spread))


@given(cases)
@few
def test_what_fixed_effects_can_say_is_theirs(case: Case) -> None:
    """Adding X d to y, constant within levels or not, changes beta by d and nothing else; so does an offset."""
    data, first = frame(case), original(case)
    u = data["g"].str[1:].astype(float) ** 2
    plain = fit(case, data.assign(u=u), case.formula + " + u")
    moved = fit(case, data.assign(u=u, y=data["y"] + 7 * u - 2 * data["x"]), case.formula + " + u")
    same(moved, plain)
    expected = plain.fixef()
    expected["u"], expected["x"] = expected["u"] + 7, expected["x"] - 2
    betas(moved, expected, 10.0)
    offset = fit(case, data.assign(u=u, y=data["y"] + 7 * u), case.formula + " + offset(7 * u)")
    same(offset, first)
    betas(offset, first.fixef(), 10.0)
