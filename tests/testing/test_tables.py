"""Analysis of variance tables against lmerTest, car and nlme, and against their definition by dense algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.errors import BayesLMMError, DesignError

from . import reference as ref

# lmerTest 3.1-3 differentiates numerically: degrees of freedom carry 1e-8 or so.
LIMITS = {"Sum Sq": 1e-6, "Mean Sq": 1e-6, "NumDF": 0.0, "DenDF": 1e-4, "F value": 1e-6, "Pr(>F)": 1e-6}
# Its type I with Satterthwaite has another F for the interaction than with Kenward-Roger, or than its types II and III:
# the last term's hypothesis is one and the same in all of these.
OFF = {("oats_split", "typeI_satterthwaite"), ("oats_block_only", "typeI_satterthwaite")}


def compare(found: pd.DataFrame, block: dict[str, Any], limits: dict[str, float]) -> None:
    names = ["Intercept" if row == "(Intercept)" else row.replace("^", " ** ") for row in block["rows"]]
    assert set(names) == set(found.index)
    for column, limit in limits.items():
        expected = np.array(block[column], dtype=float)
        numbers = found[column].loc[names].to_numpy(dtype=float)
        if column == "NumDF":
            expected = np.nan_to_num(expected)
        np.testing.assert_allclose(numbers, expected, rtol=limit, atol=1e-14, err_msg=column)


@pytest.mark.parametrize("case", ref.R["lmerTest"])
def test_tables_of_lmer_test(case: str) -> None:
    fit = ref.stored.fitted(case, "reml")
    blocks = ref.R["lmerTest"][case]
    # Kenward-Roger of many rows takes its time: once.
    for name in [name for name in blocks if fit.n < 500 or name in ("typeII_satterthwaite", "typeIII_kenward_roger")]:
        block = blocks[name]
        kind, ddf = name.removeprefix("type").split("_", 1)
        found = fit.anova(kind, ddf.replace("_", "-"))  # type: ignore[arg-type]
        if (case, name) in OFF:
            found, block = found.iloc[:-1], {k: v[:-1] for k, v in block.items()}
        compare(found, block, LIMITS)


@pytest.mark.parametrize("case", ref.R["inference"])
def test_tables_of_unbalanced_and_incomplete_data(case: str) -> None:
    fit, count = ref.fitted(case), 0
    for name, block in ref.R["inference"][case]["blocks"].items():
        result = block["result"]
        if name.startswith("anova_I"):
            kind, ddf = name.removeprefix("anova_").split("_", 1)
            compare(fit.anova(kind, ddf.replace("_", "-")), result, LIMITS)  # type: ignore[arg-type]
        elif name == "car_Anova_II":
            found = fit.anova(2, test="chisq")
            compare(found, result, {"Chisq": 1e-6, "Df": 0.0, "Pr(>Chisq)": 1e-6})
        else:
            continue
        count += 1
    assert count == 7


def test_type_iii_of_car_under_sum_contrasts() -> None:
    """``car::Anova(M, type = 3)`` tests the coefficients as coded: with contr.sum these are type III hypotheses."""
    for case, names in (("clinic", ["arm", "sex"]), ("oats_split", ["V", "N"])):
        data, formula = ref.data_of(case), ref.R["inference"][case]["formula"]
        summed = bl.Model(formula, data, contrasts=dict.fromkeys(names, "sum")).fit()
        found = ref.fitted(case).anova(test="chisq", intercept=True)
        for term in found.index:
            parts = term.split(":")
            own = [
                k
                for k, name in enumerate(summed.design.fixed_names)
                if [p.split("[")[0] for p in name.split(":")] == parts
            ]
            block = np.linalg.solve(summed.vcov().to_numpy()[np.ix_(own, own)], summed.fixef().to_numpy()[own])
            assert found.loc[term, "Chisq"] == pytest.approx(block @ summed.fixef().to_numpy()[own], rel=1e-8)
            assert found.loc[term, "Df"] == len(own)


@pytest.mark.parametrize("coding", ["treatment", "sum", "helmert", "poly", "diff", bl.Treatment("0.4cwt")])
def test_codings_do_not_matter(coding: Any) -> None:
    data = ref.data_of("oats_emptycell")
    other = bl.Model("Y ~ V * N + (1 | B/V)", data, contrasts={"N": coding, "V": "helmert"}).fit()
    for kind in (1, 2, 3):
        expected, found = ref.fitted("oats_emptycell").anova(kind, "kenward-roger"), other.anova(kind, "kenward-roger")
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_allclose(
            other.anova(kind, test="chisq"), ref.fitted("oats_emptycell").anova(kind, test="chisq"), rtol=1e-6
        )


def test_an_average_over_cells_by_hand() -> None:
    """Means of a 2 x 3 layout without the additive structure: rows of equal weights, by generalized least squares."""
    fit, data = ref.fitted("clinic"), ref.clinic()
    arms, sexes = data["arm"].cat.categories, data["sex"].cat.categories
    V, X = np.asarray(fit.matrices().V), fit.design.X
    cells = np.column_stack([((data["arm"] == a) & (data["sex"] == s)).to_numpy(float) for a in arms for s in sexes])
    W = np.column_stack([cells, data["age"]])
    assert np.linalg.matrix_rank(np.column_stack([W, X])) == W.shape[1]
    C = np.linalg.inv(W.T @ np.linalg.solve(V, W))
    means = C @ W.T @ np.linalg.solve(V, fit.design.y)
    for name, L in (("arm", [[1, 1, -1, -1, 0, 0, 0], [1, 1, 0, 0, -1, -1, 0]]), ("sex", [[1, -1] * 3 + [0]])):
        rows = np.array(L, dtype=float)
        chisq = rows @ means @ np.linalg.solve(rows @ C @ rows.T, rows @ means)
        assert fit.anova(test="chisq").loc[name, "Chisq"] == pytest.approx(chisq, rel=1e-8)
        found = fit.test_fixed(name, "z")
        assert found["F"] * found["df1"] == pytest.approx(chisq, rel=1e-8)
        assert name in str(found.name) and "average over" in str(found.name)


def test_the_name_of_a_term_in_an_interaction_is_its_average() -> None:
    """F 37.69 of nitrogen in a split plot (Oats) in every coding; its coefficients alone say 13.02 (Golden Rain)."""
    data = bl.load_dataset("Oats").assign(nitro=lambda d: d["nitro"].astype(str))
    for coding in ("treatment", "sum", "helmert"):
        fit = bl.Model("yield ~ nitro * Variety + (1 | Block/Variety)", data, contrasts={"Variety": coding}).fit()
        assert fit.test_fixed("nitro")["F"] == pytest.approx(37.6856, abs=1e-4)
    treatment = bl.Model("yield ~ nitro * Variety + (1 | Block/Variety)", data).fit()
    assert treatment.test_fixed(["nitro[0.2]", "nitro[0.4]", "nitro[0.6]"])["F"] == pytest.approx(13.0228, abs=1e-4)


def test_a_slope_in_a_product_with_a_factor_is_the_average_slope() -> None:
    fit = bl.Model("distance ~ age * Sex + (age | Subject)", ref.stored.load("Orthodont")).fit()
    beta, C = fit.fixef().to_numpy(), fit.vcov().to_numpy()
    names = list(fit.design.fixed_names)
    L = np.zeros(4)
    L[names.index("age")], L[next(k for k, n in enumerate(names) if ":" in n)] = 1.0, 0.5
    assert fit.test_fixed("age", "z")["F"] == pytest.approx((L @ beta) ** 2 / (L @ C @ L), rel=1e-8)


@pytest.mark.parametrize("case", ref.R["nlme"])
def test_containment_of_nlme(case: str) -> None:
    """``lme(...)``: degrees of freedom of ``summary`` and ``anova``; F of its sequential table."""
    block = ref.R["nlme"][case]
    fit = ref.stored.fitted(block["case"], "reml")
    df = np.array(block["tTable"]["values"])[:, 2]
    assert fit.coefficients("containment")["df"].tolist() == df.tolist()
    found = fit.anova(1, "containment", intercept=True)
    expected = block["anova_sequential"]
    assert found["NumDF"].tolist() == expected["numDF"]
    assert found["DenDF"].tolist() == expected["denDF"]
    # nlme's default optimiser stops early: numbers agree to some 1e-5 (its estimates, not its rule).
    np.testing.assert_allclose(found["F value"], expected["F-value"], rtol=1e-4)


def test_containment_in_unbalanced_data() -> None:
    block = ref.R["inference"]["clinic"]["nlme"]
    found = ref.fitted("clinic").anova(1, "containment", intercept=True)
    expected = block["anova_sequential"]
    assert found["DenDF"].loc[["Intercept", "arm", "sex", "age", "arm:sex"]].tolist() == expected["denDF"]
    np.testing.assert_allclose(found["F value"], expected["F-value"], rtol=1e-6)


def test_containment_needs_nested_factors() -> None:
    fit = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    with pytest.raises(DesignError, match="plate, sample are not nested"):
        fit.coefficients("containment")


def test_containment_of_a_combination_is_the_least_of_its_parts() -> None:
    fit = ref.fitted("oats_split")
    whole = fit.test_fixed([0, 1, 0, 0, 0, 0] + [0] * 6, "containment")
    both = fit.test_fixed([0, 1, 0, 1, 0, 0] + [0] * 6, "containment")
    split = fit.test_fixed([0, 0, 0, 1, -1, 0] + [0] * 6, "containment")
    assert (whole["df2"], both["df2"], split["df2"]) == (10.0, 10.0, 45.0)


def test_frequencies_are_rows_written_out() -> None:
    rng = np.random.default_rng(7)
    data = ref.data_of("oats_split").assign(k=rng.integers(1, 4, 72))
    formula = "Y ~ V * N + (1 | B)"
    short = bl.Model(formula, data, frequency="k").fit()
    long = bl.Model(formula, data.loc[data.index.repeat(data["k"])].reset_index(drop=True)).fit()
    for kind in (1, 2, 3):
        for ddf in ("satterthwaite", "containment"):
            np.testing.assert_allclose(short.anova(kind, ddf), long.anova(kind, ddf), rtol=1e-6)  # type: ignore[arg-type]


def test_what_is_printed() -> None:
    text = repr(ref.fitted("oats_split").anova())
    assert text.splitlines()[0] == "Type III analysis of variance with Satterthwaite's method"
    assert max(map(len, text.splitlines())) <= 80
    for part in ("20020.5", "37.686", "2.46e-12", "0.2724"):
        assert part in text
    assert "Sum Sq" in (ref.fitted("oats_split").anova()._repr_html_() or "")
    empty = repr(ref.fitted("oats_emptycell").anova())
    assert "cells have no observations" in " ".join(empty.split()) and "(V:N)" in empty


def test_a_large_interaction_and_few_columns_are_said() -> None:
    data = ref.data_of("oats_split").assign(N=lambda d: d["N"].astype(str))
    fit = bl.Model("Y ~ V * N + (1 | B)", data, contrasts={"N": np.array([[0.0], [1], [2], [3]])}).fit()
    found = fit.anova()
    assert "do not tell all its levels apart" in " ".join(repr(found).split())
    rows = [0, 3]  # of one column for N, its slope where V is the first level
    assert found.loc["N", "NumDF"] == 1 and len(rows) == 2
    assert found.loc["N", "F value"] == pytest.approx(fit.coefficients()["t"]["N[1]"] ** 2, rel=1e-8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"type": 4}, "type=4 is not known. Use 3, 2 or 1"),
        ({"type": True}, "type=True"),
        ({"type": [3]}, r"type=\[3\]"),
        ({"ddf": "kr"}, "'kenward-roger', 'kenward-roger-linear', 'containment'"),
        ({"test": "LRT"}, "test"),
        ({"adjusted_by": "wls"}, "adjusted_by"),
        ({"intercept": "yes"}, "intercept"),
    ],
)
def test_wrong_calls_are_told(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BayesLMMError, match=words):
        ref.fitted("oats_split").anova(**arguments)


def test_nothing_to_test() -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    with pytest.raises(DesignError, match=r"no terms to test but the constant; fit.coefficients\(\)"):
        fit.anova()
    found = fit.anova(intercept=True)
    t = float(fit.coefficients()["t"].iloc[0])
    assert found.loc["Intercept", "F value"] == pytest.approx(t**2)
    assert found.loc["Intercept", "Pr(>F)"] == pytest.approx(2 * stats.t.sf(t, 5))


def test_one_factor_kept_as_a_hierarchy_has_the_same_tests() -> None:
    """No random effects are left outside of the chain, whose traces are then of no columns."""
    data = ref.data_of("ergostool")
    fits = [bl.Model("effort ~ Type + (1 | Subject)", data, store=store).fit() for store in ("levels", "hierarchy")]
    np.testing.assert_allclose(fits[0].anova(), fits[1].anova(), rtol=1e-7)
