"""Numbers printed in lecture notes on mixed models, through the calls that a reader of these would make.

``tests/reference/seed_expectations.json.gz`` names for each number the lecture, what was printed, and the answer at a
tight optimum; where the two differ the printed one carries the default tolerance of the software that made it.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache

import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl

from . import reference as ref

PRINTED = json.loads(gzip.decompress((ref.HERE.parent / "reference" / "seed_expectations.json.gz").read_bytes()))
NAMES = {"Intercept": "(Intercept)"}


@cache
def quantities(note: str) -> dict[str, float]:
    if note.startswith("lecture 10"):
        return tablets("tablets_missing" if "missing" in note else "tablets")
    return chapter_7()


def tablets(name: str) -> dict[str, float]:
    """A paired comparison of two methods; the notes' reference level is nir, the first."""
    fit = bl.Model("y ~ method + (1 | tablet)", ref.stored.load(name)).fit()
    table, df = fit.coefficients(), fit.coefficients("containment")["df"]
    names = {"(Intercept)": "Intercept", "methodhplc": "method[hplc]"}
    sequential = fit.anova(1, "containment", intercept=True)
    sds = fit.varcorr().set_index("group")["sdcor"]
    mean = fit.estimable({"hplc": {"Intercept": 1, "method[hplc]": 1}}).frame.iloc[0]
    return {
        "variance tablet": sds["tablet"] ** 2,
        "variance residual": sds["Residual"] ** 2,
        "sd tablet": sds["tablet"],
        "sd residual": sds["Residual"],
        **{theirs: table.loc[own, "estimate"] for theirs, own in names.items()},
        **{f"se {theirs}": table.loc[own, "std_error"] for theirs, own in names.items()},
        **{f"t {theirs}": table.loc[own, "t"] for theirs, own in names.items()},
        "correlation of fixed effects": fit.correlation().iloc[0, 1],
        "correlation": fit.correlation().iloc[0, 1],
        "lme anova F (Intercept)": sequential.loc["Intercept", "F value"],
        "lme anova F method": sequential.loc["method", "F value"],
        "lme anova p method": sequential.loc["method", "Pr(>F)"],
        "lme df (Intercept)": df["Intercept"],
        "lme df method": df["method[hplc]"],
        "lme p method": fit.coefficients("containment").loc["method[hplc]", "p_value"],
        "LS mean hplc": mean["estimate"],
        "se LS mean hplc": mean["std_error"],
    }


def chapter_7() -> dict[str, float]:
    dyestuff = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    penicillin = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin")).fit()
    fixed = bl.Model("diameter ~ sample + (1 | plate)", bl.load_dataset("Penicillin")).fit()
    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    sds = dyestuff.varcorr().set_index("group")["sdcor"]
    table = fixed.anova()
    return {
        "Dyestuff REML criterion": dyestuff.criterion,
        "Dyestuff variance Batch": sds["Batch"] ** 2,
        "Dyestuff variance residual": sds["Residual"] ** 2,
        "Dyestuff sd Batch": sds["Batch"],
        "Dyestuff sd residual": sds["Residual"],
        "Dyestuff intercept": dyestuff.fixef()["Intercept"],
        "Dyestuff se": dyestuff.std_error()["Intercept"],
        "Penicillin intercept": penicillin.fixef()["Intercept"],
        "Penicillin anova Sum Sq sample": table.loc["sample", "Sum Sq"],
        "Penicillin anova F sample": table.loc["sample", "F value"],
        "Penicillin type II Wald chi-square sample": fixed.anova(2, test="chisq").loc["sample", "Chisq"],
        "sleepstudy (Intercept)": sleep.fixef()["Intercept"],
        "sleepstudy Days": sleep.fixef()["Days"],
        **effects("Penicillin", penicillin, "plate", ["plate"]),
        **effects("Penicillin", penicillin, "sample", ["sample"]),
        **effects("sleepstudy", sleep, "Subject", []),
    }


def effects(data: str, fit: bl.REMLResult, group: str, named: list[str]) -> dict[str, float]:
    """The rows of ``ranef()``: ``Penicillin ranef plate a``, ``sleepstudy ranef 308 Days``."""
    table = fit.ranef()[group]
    alone = list(table.columns) == ["Intercept"]
    return {
        " ".join([data, "ranef", *named, str(level), *([] if alone else [NAMES.get(effect, effect)])]): value
        for effect in table
        for level, value in table[effect].items()
    }


@pytest.mark.parametrize("row", PRINTED, ids=[f"{row['note']}: {row['quantity']}" for row in PRINTED])
def test_number_of_the_notes(row: dict[str, float]) -> None:
    found = quantities(str(row["note"]))[str(row["quantity"])]
    assert found == pytest.approx(row["reference"], rel=1e-6)
    if row["agrees_to_printed_digits"]:
        assert abs(found - row["printed"]) <= 0.51 * 10.0 ** -row["printed_digits_after_point"] + 1e-9
    else:  # the tolerance of the software of then
        assert found == pytest.approx(row["printed"], rel=5e-6)


def test_none_of_the_numbers_is_left_out() -> None:
    """All 107: 14 and 14 of lecture 10, 79 of chapter 7, of which 66 are random effects; none twice."""
    assert len({(row["note"], row["quantity"]) for row in PRINTED}) == len(PRINTED) == 107
    notes = Counter(row["note"] for row in PRINTED)
    assert notes == {"lecture 10 (tablets)": 14, "lecture 10 (tablets, missing values)": 14, "chapter 7": 79}
    assert sum("ranef" in row["quantity"] for row in PRINTED) == 66


def test_ls_means_of_the_notes_by_either_call() -> None:
    """Lecture 10: the mean of hplc is 10.2117 (0.0926), as a linear function and as a mean of the factor."""
    fit = bl.Model("y ~ method + (1 | tablet)", bl.load_dataset("tablets_missing")).fit()
    means = fit.means("method").frame.set_index("method")
    own = quantities("lecture 10 (tablets, missing values)")
    assert means.loc["hplc", "estimate"] == pytest.approx(own["LS mean hplc"], rel=1e-12)
    assert means.loc["hplc", "std_error"] == pytest.approx(own["se LS mean hplc"], rel=1e-9)


def test_effects_on_top_of_the_fixed_part_are_the_lines_of_the_drivers() -> None:
    """Chapter 7: effects, coefficients of a level, and predictions of its line are one set of numbers."""
    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    own = quantities("chapter 7")
    start = own["sleepstudy (Intercept)"] + own["sleepstudy ranef 308 (Intercept)"]
    slope = own["sleepstudy Days"] + own["sleepstudy ranef 308 Days"]
    assert sleep.coef()["Subject"].loc["308"].to_numpy() == pytest.approx([start, slope], rel=1e-12)
    line = sleep.predict(pd.DataFrame({"Days": [0, 3], "Subject": ["308", "308"]}))["estimate"]
    assert line.to_numpy() == pytest.approx([start, start + 3 * slope], rel=1e-10)


def test_paired_t_test_is_the_anova_of_the_tablets() -> None:
    """Lecture 10: t = -0.5354 on 9 degrees of freedom, p = .6054, by either call."""
    data = ref.stored.load("tablets")
    wide = data.pivot(index="tablet", columns="method", values="y")
    t = stats.ttest_rel(wide["hplc"], wide["nir"])
    fit = bl.Model("y ~ method + (1 | tablet)", data).fit()
    for ddf in ("satterthwaite", "kenward-roger", "containment"):
        row = fit.anova(ddf=ddf).loc["method"]  # type: ignore[arg-type]
        assert row["DenDF"] == pytest.approx(9, rel=1e-6)
        assert row["F value"] == pytest.approx(t.statistic**2, rel=1e-7)
        assert row["Pr(>F)"] == pytest.approx(t.pvalue, rel=1e-6)


def test_what_the_notes_show_of_dyestuff_stands_on_the_screen() -> None:
    """Chapter 7: variances 1764 and 2451, sds 42.00 and 49.51, mean 1527.50 (19.38), criterion 319.7."""
    text = repr(bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit())
    for number in ("1764.0", "2451.2", "42.00", "49.51", "1527.50", "19.38", "319.65"):
        assert number in text
