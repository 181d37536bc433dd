"""Degrees of freedom and adjusted covariances of the fixed effects: lmerTest, pbkrtest, closed forms, dense algebra."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError
from bayeslmm.inference import kenward_roger as kr_module
from bayeslmm.inference.kenward_roger import kenward_roger, kenward_roger_many, linear_directions
from bayeslmm.inference.satterthwaite import combined_df, satterthwaite_df, satterthwaite_many
from bayeslmm.reml.many import optimise_many

HERE = Path(__file__).parent
STORED = HERE.parent / "reference"
# By lmerTest 3.1-3 and pbkrtest 0.5.2 from the fits of lme4_cases.json.gz; tests of terms are of type III.
TESTS: dict[str, Any] = json.loads(gzip.decompress((HERE / "fixed_effects_lme4.json.gz").read_bytes()))
CASES: dict[str, Any] = json.loads(gzip.decompress((STORED / "lme4_cases.json.gz").read_bytes()))
COLUMNS: dict[str, Any] = json.loads((STORED / "data" / "index.json").read_text())
CONTRASTS = {"contr.sum": "sum", "contr.helmert": "helmert"}
# lme4 splits no factor by ||; we do, as documented.
PLAIN = [case for case in TESTS if case != "machines_dblbar"]
# lmerTest differentiates numerically: 1e-8, but 2e-7 where its Hessian is worse conditioned.
SATTERTHWAITE = {"grouseticks_log": 1e-6, "oxboys": 3e-7}

# The names are others.
OTHER_ROWS = {"cake", "sleepstudy_rankdef", "cbpp_weights"}
# Unbalanced factors, whose combined df in lmerTest depend on the reference level; they are tested further down.
BY_REFERENCE = {("arabidopsis_log", "status"), ("grouseticks_log", "YEAR")}

Array = Any


def load(name: str) -> pd.DataFrame:
    entry = COLUMNS[name]
    kinds = {c: str for c, info in entry["columns"].items() if info.get("levels")}
    frame = pd.read_csv(STORED / "data" / entry["file"], dtype=kinds)
    for column, info in entry["columns"].items():
        if info.get("levels"):
            levels = [str(v) for v in info["levels"]]
            frame[column] = pd.Categorical(frame[column], levels, ordered=info["type"] == "ordered")
    return frame


@cache
def fitted(case: str, reml: bool = True) -> bl.REMLResult:
    info = CASES[case]
    data = load(info["dataset"])
    if case == "coop_S1":
        data = data[data["Spc"] == "S1"]
    if case == "sleepstudy_from_day2":
        data = data[data["Days"] >= 2]
    contrasts = {column: CONTRASTS[kind] for column, kind in (info["contrasts"] or {}).items()}
    return bl.Model(info["formula"], data, weights=info["weights"], contrasts=contrasts).fit(reml=reml)


def numbers(block: Any) -> Array:
    return np.atleast_1d(np.asarray(block, dtype=float))


@pytest.mark.parametrize("case", PLAIN)
def test_satterthwaite_of_coefficients(case: str) -> None:
    reference = TESTS[case]["satterthwaite"]
    table = fitted(case).coefficients()
    error = numbers(reference["se"])
    np.testing.assert_allclose(table["estimate"], numbers(reference["estimate"]), atol=1e-6 * error.max())
    np.testing.assert_allclose(table["std_error"], error, rtol=1e-6)
    if not TESTS[case]["singular"]:
        rtol = SATTERTHWAITE.get(case, 1e-7)
        np.testing.assert_allclose(table["df"], numbers(reference["df"]), rtol=rtol)
        np.testing.assert_allclose(table["p_value"], numbers(reference["p"]), rtol=3e-5, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in PLAIN if "kenward_roger" in TESTS[case]])
def test_kenward_roger_of_coefficients(case: str) -> None:
    reference, fit = TESTS[case]["kenward_roger"], fitted(case)
    table = fit.coefficients(ddf="kenward-roger")
    error = numbers(reference["se"])
    np.testing.assert_allclose(table["df"], numbers(reference["df"]), rtol=1e-8)
    np.testing.assert_allclose(table["std_error"], error, rtol=1e-8)
    np.testing.assert_allclose(table["p_value"], numbers(reference["p"]), rtol=3e-5, atol=1e-12)
    adjusted = np.reshape(numbers(TESTS[case]["vcovAdj"]), (error.size, -1))
    np.testing.assert_allclose(
        fit.vcov_kenward_roger() / np.outer(error, error), adjusted / np.outer(error, error), atol=2e-8
    )


def highest_terms() -> list[tuple[str, str, str]]:
    """Terms that no other contains, so that their hypothesis does not depend on the coding."""
    found = []
    for case in PLAIN:
        for method, table in TESTS[case]["anova"].items():
            rows = np.atleast_1d(table["rows"]).tolist()
            for term in rows:
                contained = any(set(term.split(":")) < set(other.split(":")) for other in rows)
                if not contained and case not in OTHER_ROWS and "(" not in term:
                    found.append((case, method, term))
    return found


def test_terms_are_covered() -> None:
    several = [
        (case, method)
        for case, method, term in highest_terms()
        if np.atleast_1d(TESTS[case]["anova"][method]["df1"])[TESTS[case]["anova"][method]["rows"].index(term)] > 1
    ]
    assert len(several) >= 15
    assert {method for _, method in several} == {"satterthwaite", "kenward_roger"}


@pytest.mark.parametrize(("case", "method", "term"), highest_terms())
def test_f_of_terms(case: str, method: str, term: str) -> None:
    table = TESTS[case]["anova"][method]
    place = np.atleast_1d(table["rows"]).tolist().index(term)
    found = fitted(case).test_fixed(term, method.replace("_", "-"))  # type: ignore[arg-type]
    assert found["df1"] == numbers(table["df1"])[place]
    assert found["F"] == pytest.approx(numbers(table["F"])[place], rel=1e-6)
    if method == "kenward_roger" or not (TESTS[case]["singular"] or (case, term) in BY_REFERENCE):
        rel = 1e-7 if method == "kenward_roger" else SATTERTHWAITE.get(case, 1e-7)
        assert found["df2"] == pytest.approx(numbers(table["df2"])[place], rel=rel)


def df_of_own_components(fit: bl.REMLResult, L: Array) -> float:
    """Fai and Cornelius's combination over the principal components of the rows as they are, as lmerTest has it."""
    L = np.asarray(L, dtype=float)
    _, vectors = np.linalg.eigh(L @ fit.vcov().to_numpy() @ L.T)
    each = np.array([fit.test_fixed(row)["df2"] for row in vectors.T @ L])
    mean = (each / (each - 2)).sum()
    return float(2 * mean / (mean - each.size))


@pytest.mark.parametrize(
    ("case", "term", "rows"),
    [
        # lmerTest::show_tests
        ("cbpp_weights", "period", [[0, 1, -1 / 3, -13 / 42], [0, 0, 1, -13 / 28], [0, 0, 0, 1]]),
        ("arabidopsis_log", "status", [[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]]),
        ("grouseticks_log", "YEAR", [[0, 1, 0, 0], [0, 0, 1, 0]]),
    ],
)
def test_combined_df_of_lmertest_are_those_of_its_rows(case: str, term: str, rows: Array) -> None:
    fit, table = fitted(case), TESTS[case]["anova"]["satterthwaite"]
    place = np.atleast_1d(table["rows"]).tolist().index(term)
    theirs = numbers(table["df2"])[place]
    assert df_of_own_components(fit, rows) == pytest.approx(theirs, rel=SATTERTHWAITE.get(case, 1e-7))
    found = fit.test_fixed(rows)
    assert found["F"] == pytest.approx(numbers(table["F"])[place], rel=1e-6)
    assert found["df2"] == pytest.approx(fit.test_fixed(term)["df2"], rel=1e-9)
    # As far as the reference level moves theirs.
    assert found["df2"] == pytest.approx(theirs, rel=5e-3)


@pytest.mark.parametrize(("groups", "size"), [(4, 3), (6, 5), (9, 2)])
@pytest.mark.parametrize("ratio", [0.0, 3.0])
def test_balanced_one_way(groups: int, size: int, ratio: float) -> None:
    rng = np.random.default_rng(groups)
    means = rng.standard_normal(groups)
    noise = rng.standard_normal((groups, size))
    noise -= noise.mean(1, keepdims=True)
    frame = pd.DataFrame(
        {"y": (100 + ratio * means[:, None] + noise).ravel(), "g": np.repeat([f"g{i}" for i in range(groups)], size)}
    )
    fit = bl.Model("y ~ 1 + (1 | g)", frame).fit()
    assert fit.is_singular == (ratio == 0)
    # The mean square between groups has J - 1 degrees of freedom; where it is below that within, they are pooled.
    expected = groups * size - 1 if ratio == 0 else groups - 1
    assert fit.coefficients()["df"].item() == pytest.approx(expected, rel=1e-9)
    assert fit.coefficients(ddf="kenward-roger")["df"].item() == pytest.approx(groups - 1, rel=1e-9)
    if ratio:
        table = frame.groupby("g")["y"].mean()
        low, high = stats.t.interval(0.9, groups - 1, table.mean(), table.std() / np.sqrt(groups))
        got = fit.coefficients(level=0.9).loc["Intercept"]
        np.testing.assert_allclose([got["conf_low"], got["conf_high"]], [low, high], rtol=1e-9)


def test_dyestuff2_and_its_neighbours() -> None:
    fit = fitted("dyestuff2")
    assert fit.coefficients()["df"].item() == pytest.approx(29, rel=1e-12)
    assert fit.coefficients(ddf="kenward-roger")["df"].item() == pytest.approx(5, rel=1e-12)
    assert fit.coefficients(ddf="residual")["df"].item() == 29
    z = fit.coefficients(ddf="z", level=0.9).loc["Intercept"]
    assert z["df"] == np.inf
    assert z["conf_high"] - z["estimate"] == pytest.approx(stats.norm.ppf(0.95) * z["std_error"], rel=1e-12)


def test_paired_t() -> None:
    frame = load(CASES["sleep_paired"]["dataset"])
    wide = frame.pivot_table(index="ID", columns="group", values="extra", observed=True)
    test = stats.ttest_rel(wide.iloc[:, 1], wide.iloc[:, 0])
    low, high = test.confidence_interval(0.95)
    for ddf in ("satterthwaite", "kenward-roger"):
        row = fitted("sleep_paired").coefficients(ddf=ddf).iloc[1]  # type: ignore[arg-type]
        got = [row["df"], row["t"], row["p_value"], row["conf_low"], row["conf_high"]]
        np.testing.assert_allclose(got, [9, test.statistic, test.pvalue, low, high], rtol=1e-8)


def test_split_plot_strata() -> None:
    fit = fitted("oats_split_additive")
    for ddf in ("satterthwaite", "kenward-roger"):
        assert fit.test_fixed("V", ddf)["df2"] == pytest.approx(10, rel=1e-7)  # type: ignore[arg-type]
        assert fit.test_fixed("N", ddf)["df2"] == pytest.approx(51, rel=1e-7)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("case", ["sleepstudy", "cake_slope_centred", "pastes"])
def test_shift_and_scale_of_y(case: str, scale: float) -> None:
    fit = fitted(case)
    other = fit.refit(scale * (1e4 + fit.design.y))
    for ddf in ("satterthwaite", "kenward-roger"):
        one, two = fit.coefficients(ddf=ddf), other.coefficients(ddf=ddf)  # type: ignore[arg-type]
        np.testing.assert_allclose(two["df"], one["df"], rtol=1e-6)
        np.testing.assert_allclose(two["std_error"], scale * one["std_error"], rtol=1e-6)


def crossed(rng: np.random.Generator, a: int, b: int, n: int) -> pd.DataFrame:
    g, h, x = rng.integers(a, size=n), rng.integers(b, size=n), rng.standard_normal(n)
    slopes = 0.5 * rng.standard_normal((a, 2))
    y = 3 + x + slopes[g, 0] + slopes[g, 1] * x + 0.7 * rng.standard_normal(b)[h] + rng.standard_normal(n)
    w = rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": [f"g{i:03d}" for i in g], "h": [f"h{i:03d}" for i in h]})


def test_many_responses_are_single_ones() -> None:
    fit = fitted("sleepstudy")
    rng = np.random.default_rng(8)
    # Without slopes in the truth, a part of the fits is singular.
    Y = fit.design.X @ [250.0, 10.0] + 30 * rng.standard_normal(18)[fit.design.groupings["Subject"].codes]
    Y = Y[:, None] + 25 * rng.standard_normal((180, 12))
    optima = optimise_many(fit.cp, Y)
    assert 0 < optima.singular.sum() < 12
    L = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 5.0]])
    plain, adjusted = satterthwaite_many(fit.cp, optima, Y, L), kenward_roger_many(fit.cp, optima.terms)
    for k in range(12):
        one = fit.refit(Y[:, k])
        np.testing.assert_allclose(plain[k], satterthwaite_df(one.cp, one.optimum, L), rtol=1e-5)
        own = kenward_roger(one.cp, one.optimum)
        np.testing.assert_allclose(adjusted.df(L)[k], own.df(L)[0], rtol=1e-5)
        np.testing.assert_allclose(adjusted.std_error(L)[k], own.std_error(L)[0], rtol=1e-5)


def test_many_responses_of_one_way_designs_are_exact() -> None:
    fit = fitted("dyestuff")
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((30, 50)) + 0.4 * rng.standard_normal((6, 50)).repeat(5, 0)
    optima = optimise_many(fit.cp, Y)
    df = satterthwaite_many(fit.cp, optima, Y, np.eye(1))[:, 0]
    np.testing.assert_allclose(df, np.where(optima.singular, 29.0, 5.0), rtol=1e-7)
    assert 0 < optima.singular.sum() < 50
    np.testing.assert_allclose(kenward_roger_many(fit.cp, optima.terms).df(np.eye(1)), 5.0, rtol=1e-7)


def test_many_responses_by_ml() -> None:
    fit = fitted("dyestuff", False)
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((30, 20)) + 2 * rng.standard_normal((6, 20)).repeat(5, 0)
    df = satterthwaite_many(fit.cp, optimise_many(fit.cp, Y, False), Y, np.eye(1), False)
    np.testing.assert_allclose(df, 6.0, rtol=1e-7)


def test_many_responses_with_a_shared_variance() -> None:
    fit = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", load("Machines")).fit()
    Y = fit.design.y[:, None] + np.random.default_rng(1).standard_normal((54, 3))
    optima = optimise_many(fit.cp, Y)
    df, adjusted = satterthwaite_many(fit.cp, optima, Y, np.eye(3)), kenward_roger_many(fit.cp, optima.terms)
    for k in range(3):
        table, other = (fit.refit(Y[:, k]).coefficients(ddf=ddf) for ddf in ("satterthwaite", "kenward-roger"))
        np.testing.assert_allclose(df[k], table["df"], rtol=1e-6)
        np.testing.assert_allclose(adjusted.df(np.eye(3))[k], other["df"], rtol=1e-6)


def test_one_row_is_the_case_of_several() -> None:
    result = kenward_roger(fitted("sleepstudy_poly").cp, fitted("sleepstudy_poly").optimum)
    L = np.array([[0.3, 1.0, -2.0]])
    scale, df = result.f_scale(L @ result.transform)
    assert scale == pytest.approx(1.0, rel=1e-9)
    assert df == pytest.approx(result.df(L)[0, 0], rel=1e-9)


def test_rows_that_depend_on_others_do_not_count() -> None:
    fit = fitted("machines_nested")
    L = np.array([[0.0, 1, 0], [0, 0, 1], [0, 1, -1], [0, 0, 0]])
    for ddf in ("satterthwaite", "kenward-roger", "residual", "z"):
        one, other = fit.test_fixed("Machine", ddf), fit.test_fixed(L, ddf)  # type: ignore[arg-type]
        np.testing.assert_allclose(other, one, rtol=1e-8)
    table = fit.coefficients()
    single = fit.test_fixed("Machine[B]")
    assert single["F"] == pytest.approx(table.loc["Machine[B]", "t"] ** 2, rel=1e-9)
    assert single["p_value"] == pytest.approx(table.loc["Machine[B]", "p_value"], rel=1e-8)


def test_combination_of_degrees_of_freedom() -> None:
    # The F distribution with these df has the mean of the average of the two squared t.
    df = combined_df(np.array([5.0, 12.0]))
    assert df / (df - 2) == pytest.approx(0.5 * (5 / 3 + 12 / 10), rel=1e-12)
    assert combined_df(np.array([1.5, 8.0])) == 2.0
    assert combined_df(np.array([7.0, 7.0])) == 7.0


@pytest.mark.parametrize(
    ("term", "rank"), [("us(x | g)", 3), ("diag(x | g)", 2), ("cs(0 + f | g)", 2), ("id(x | g)", 1)]
)
def test_linear_structures(term: str, rank: int) -> None:
    frame = crossed(np.random.default_rng(1), 6, 3, 60).assign(f=lambda d: d["h"])
    structure = bl.Model(f"y ~ 1 + {term}", frame).design.terms[0].structure
    basis = linear_directions(structure)
    assert basis is not None
    assert basis.shape[0] == rank
    np.testing.assert_allclose(basis, basis.transpose(0, 2, 1), atol=1e-14)


def test_kenward_roger_refuses() -> None:
    with pytest.raises(DesignError, match=r"maximum likelihood.*reml=True"):
        fitted("dyestuff", False).coefficients(ddf="kenward-roger")
    frame = crossed(np.random.default_rng(1), 8, 4, 120)
    fit = bl.Model("y ~ x + ar1(0 + h | g)", frame).fit()
    with pytest.raises(DesignError, match=r"ar1\(\.\.\.\).*satterthwaite"):
        fit.coefficients(ddf="kenward-roger")
    assert (fit.coefficients()["df"] > 1).all()


def test_kenward_roger_refuses_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kr_module, "_TRAILING", 100)
    fit = bl.Model("y ~ x + (1 | g) + (1 | h)", crossed(np.random.default_rng(2), 135, 125, 600)).fit()
    with pytest.raises(DesignError, match=r"at most 100.*satterthwaite"):
        fit.coefficients(ddf="kenward-roger")


def test_satterthwaite_of_ml() -> None:
    # Balanced one way by ML: var(mean) = B / (n J), B the mean square between about the mean with divisor J.
    assert fitted("dyestuff", False).coefficients()["df"].item() == pytest.approx(6, rel=1e-9)


def test_requests_that_make_no_sense() -> None:
    fit = fitted("sleepstudy")
    with pytest.raises(DesignError, match="ddf='kr' is unknown"):
        fit.coefficients(ddf="kr")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="No coefficient or term is called 'Hours'"):
        fit.test_fixed("Hours")
    with pytest.raises(DesignError, match="one column for each of the 2"):
        fit.test_fixed([1.0, 2.0, 3.0])
    with pytest.raises(DesignError, match="tests nothing"):
        fit.test_fixed([0.0, 0.0])
    with pytest.raises(DesignError, match="probability"):
        fit.coefficients(level=95)


def test_no_residual_variance() -> None:
    frame = pd.DataFrame({"y": np.repeat([1.0, 2.5, 4.0], 4), "g": np.repeat(["a", "b", "c"], 4)})
    with pytest.warns(bl.errors.ConvergenceWarning):
        fit = bl.Model("y ~ 1 + (1 | g)", frame).fit()
    for ddf in ("satterthwaite", "kenward-roger", "z"):
        with pytest.raises(FitError, match="no error to compare"):
            fit.coefficients(ddf=ddf)  # type: ignore[arg-type]


def test_no_fixed_effects() -> None:
    frame = crossed(np.random.default_rng(5), 12, 9, 160)
    frame["y"] -= 3
    fit = bl.Model("y ~ 0 + (1 | g)", frame).fit()
    for ddf in ("satterthwaite", "kenward-roger", "z"):
        assert fit.coefficients(ddf=ddf).shape == (0, 7)  # type: ignore[arg-type]
