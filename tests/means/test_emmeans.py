"""Means, contrasts, slopes and joint tests beside emmeans 1.8.4, of fits that R polished to a gradient of 1e-10.

emmeans.json.gz holds every call as R text with its answer to twelve digits, and the data. ``inf_daysingular`` has a
variance of zero, where lmerTest's degrees of freedom are its own; pbkrtest ignores weights. Where means cannot be
estimated emmeans rounds the others' degrees of freedom before Tukey's p values (to 40 from 40.06), which are then held
against SciPy's distribution in test_families.py.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

STORED: dict[str, Any] = json.loads(gzip.decompress((Path(__file__).parent / "emmeans.json.gz").read_bytes()))
CASES = STORED["cases"]
DDF = {"asymptotic": "z", "satterthwaite": "satterthwaite", "kenward-roger": "kenward-roger"}
CUSTOM: dict[str, dict[str, Any]] = {
    "AB_vs_GH": {"AB_vs_GH": [0.5, 0.5, 0, 0, 0, 0, -0.5, -0.5]},
    "zero_vs_rest": {"zero_vs_rest": [-1, 1 / 3, 1 / 3, 1 / 3], "linear": [-3, -1, 1, 3]},
}
SIDES = {"noninferiority": ("noninferiority", 1.0), "equivalence": ("equivalence", 2.5), "greater": ("greater", 0.0)}
# lmerTest differentiates numerically; estimates, errors and p values hold to what the fits do.
ESTIMATE, ERROR, DF, P = 1e-8, 1e-6, 1e-4, 1e-6
# Of mvtnorm's p values, by its help page and by repeated seeds.
MVTNORM = 2e-3


def load(name: str) -> pd.DataFrame:
    entry = STORED["data"][name]
    columns = entry["index"]["columns"]
    kinds = {column: str for column, info in columns.items() if info.get("levels")}
    frame = pd.read_csv(io.StringIO(entry["csv"]), dtype=kinds)
    for column, info in columns.items():
        if info.get("levels"):
            levels = [str(value) for value in info["levels"]]
            frame[column] = pd.Categorical(frame[column], levels, ordered=info["type"] == "ordered")
    return frame


@cache
def fitted(case: str) -> bl.REMLResult:
    info = CASES[case]
    data = load(info["dataset"])
    if info["preparation"]:
        data = data[~((data["V"] == "Victory") & (data["N"] == "0.6cwt"))].reset_index(drop=True)
    return bl.Model(info["formula"], data, weights=info["weights"]).fit()


def asked(fit: bl.REMLResult, call: str, ddf: str) -> Any:
    """The call in our words: the table that holds what R printed."""
    of, _, by = re.search(r"em(?:means|trends)\(M, ~\s*([^,)]+)", call)[1].partition("|")  # type: ignore[index]
    names, groups = ([word.strip() for word in part.split("*") if word.strip() not in ("", "1")] for part in (of, by))
    options: dict[str, Any] = {"ddf": ddf}
    if found := re.search(r'weights = "(\w+)"', call):
        options["weights"] = found[1]
    if found := re.search(r"at = list\((\w+) = (c\([^)]*\)|[\d.]+)\)", call):
        options["at"] = {found[1]: [float(x) for x in re.findall(r"[\d.]+", found[2])]}
    if found := re.search(r"by = c\(([^)]*)\)", call):
        groups = re.findall(r'"(\w+)"', found[1])
    if found := re.search(r"level = ([\d.]+)", call):
        options["level"] = float(found[1])
    if "cov.reduce = median" in call:
        options["centre"] = "median"
    if variable := re.search(r'var = "(\w+)"', call):
        means = fit.trends(variable[1], names, by=groups, **options)
    else:
        scale = "response" if 'type = "response"' in call else "link"
        sigma = fit.sigma if "sigma = sigma(M)" in call else None
        means = fit.means(names, by=groups, type=scale, bias_adjust="bias.adjust" in call, sigma=sigma, **options)
    return compared(means.regrid() if "regrid(" in call else means, call)


def compared(means: Any, call: str) -> Any:
    found = re.search(r'adjust = "(\w+)"', call)
    adjust = found[1] if found else None
    if "interaction" in call:
        return means.contrast(interaction=["consecutive", "poly"])
    if "pairs(" in call:
        return means.pairs(adjust or "tukey", reverse="reverse = TRUE" in call)
    for name, coefficients in CUSTOM.items():
        if name in call:
            return means.contrast(coefficients, adjust)
    if "contrast(" in call:
        return means.contrast(re.search(r'\), "([\w.]+)"', call)[1], adjust)  # type: ignore[index]
    return means


def numbers(values: Any) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def blocks(word: str = "") -> list[tuple[str, str]]:
    found = [
        (case, name) for case, info in CASES.items() for name in info["blocks"] if word in info["blocks"][name]["call"]
    ]
    return [(case, name) for case, name in found if not ("kenward" in name and CASES[case]["weights"])]


def method(call: str) -> str:
    return DDF[re.search(r'lmer.df = "([a-z-]+)"', call)[1]]  # type: ignore[index]


@pytest.mark.parametrize("case", CASES)
def test_tables(case: str) -> None:
    """Estimates, standard errors, degrees of freedom, adjusted intervals and p values."""
    fit = fitted(case)
    for _, name in [pair for pair in blocks() if pair[0] == case]:
        call, result = (CASES[case]["blocks"][name][key] for key in ("call", "result"))
        if any(word in call for word in ("joint_tests", "cld", "side =")):
            continue
        ddf = method(call)
        table = asked(fit, call, ddf).frame
        column = next(key for key in result if key in ("emmean", "estimate", "response", "ratio") or ".trend" in key)
        error = numbers(result["SE"])
        np.testing.assert_allclose(
            table["estimate"], numbers(result[column]), rtol=ESTIMATE, atol=ESTIMATE * np.nanmax(error), err_msg=name
        )
        np.testing.assert_allclose(table["std_error"], error, rtol=ERROR, err_msg=name)
        if ddf == "z":
            assert np.isinf(table["df"].dropna()).all()
        elif CASES[case]["singular"]:
            continue
        else:
            np.testing.assert_allclose(table["df"], numbers(result["df"]), rtol=DF, err_msg=name)
        if any(word in call for word in ("mvt", "mean_chg", "unnett", "trt.vs.ctrl")):
            continue
        if not (case == "inf_oats_emptycell" and "pairs" in name):
            inferred(table, result, name)


def inferred(table: pd.DataFrame, result: dict[str, Any], name: str) -> None:
    room = 1e-5 * np.nanmax(table["std_error"])
    for ours, theirs in (("conf_low", ("lower.CL", "asymp.LCL")), ("conf_high", ("upper.CL", "asymp.UCL"))):
        key = next((key for key in theirs if key in result), None)
        if key:
            np.testing.assert_allclose(table[ours], numbers(result[key]), rtol=1e-6, atol=room, err_msg=name)
    if "p.value" in result and "p_value" in table:
        np.testing.assert_allclose(table["p_value"], numbers(result["p.value"]), rtol=P, atol=P, err_msg=name)


@pytest.mark.parametrize(("case", "name"), [pair for pair in blocks("mvt") if pair[0] != "inf_daysingular"])
def test_multivariate_t_is_within_the_error_of_mvtnorm(case: str, name: str) -> None:
    call, result = (CASES[case]["blocks"][name][key] for key in ("call", "result"))
    table = asked(fitted(case), call, method(call)).frame
    np.testing.assert_allclose(table["p_value"], numbers(result["p.value"]), atol=MVTNORM)


@pytest.mark.parametrize("case", [case for case, info in CASES.items() if info["dunnett_mvt_exact"]])
def test_dunnett_is_exact(case: str) -> None:
    """Against quadrature that the reference made with real degrees of freedom, to 1e-7."""
    for ddf, block in CASES[case]["dunnett_mvt_exact"].items():
        factor = re.search(r"M, ~\s*(\w+)", block["call"])[1]  # type: ignore[index]
        found = fitted(case).means(factor, ddf=ddf).contrast("dunnett")
        np.testing.assert_allclose(found.frame["p_value"], block["result"]["p_mvt"], rtol=1e-5, atol=2e-7)
        half = (found.frame["conf_high"] - found.frame["estimate"]) / found.frame["std_error"]
        expected = np.atleast_1d(block["result"]["critical_value_95"])
        np.testing.assert_allclose(half, np.broadcast_to(expected, half.shape), rtol=1e-6)


@pytest.mark.parametrize(("case", "name"), blocks("cld"))
def test_letters(case: str, name: str) -> None:
    call, result = (CASES[case]["blocks"][name][key] for key in ("call", "result"))
    if CASES[case]["singular"] and "asymptotic" not in name:
        return
    alpha = re.search(r"alpha = ([\d.]+)", call)
    means = asked(fitted(case), call.split(", adjust")[0], method(call))
    table = means.letters("none" if '"none"' in call else "tukey", level=1 - float(alpha[1]) if alpha else None)
    assert table["letters"].tolist() == [text.strip() for text in result[".group"]]


@pytest.mark.parametrize(("case", "name"), blocks("joint_tests"))
def test_joint_tests(case: str, name: str) -> None:
    call, result = (CASES[case]["blocks"][name][key] for key in ("call", "result"))
    if CASES[case]["singular"] and "asymptotic" not in name:
        return
    by = re.search(r'by = "(\w+)"', call)
    table = fitted(case).joint_tests(by[1] if by else None, ddf=method(call))
    kept = [i for i, term in enumerate(result["model term"]) if term != "(confounded)"]
    expected = pd.DataFrame({key: np.array(result[key])[kept] for key in ("model term", "df1", "F.ratio", "p.value")})
    if not by:
        table = table.set_index("term").loc[expected["model term"]].reset_index()
    np.testing.assert_allclose(table["df1"], expected["df1"].astype(float))
    # Rounded to three decimals there.
    np.testing.assert_allclose(table["F"], expected["F.ratio"].astype(float), atol=5.1e-4)
    np.testing.assert_allclose(table["p_value"], expected["p.value"].astype(float), rtol=P)


@pytest.mark.parametrize("name", [name for name in CASES["inf_clinic"]["blocks"] if name.split("__")[0] in SIDES])
def test_sides_and_margins(name: str) -> None:
    block = CASES["inf_clinic"]["blocks"][name]
    side, delta = SIDES[name.split("__")[0]]
    means = fitted("inf_clinic").means("arm", ddf=method(block["call"])).contrast("dunnett", "none")
    table = means.test(side=side, delta=delta)
    key = "t.ratio" if "t.ratio" in block["result"] else "z.ratio"
    np.testing.assert_allclose(table["t"], block["result"][key], rtol=1e-6)
    np.testing.assert_allclose(table["p_value"], block["result"]["p.value"], rtol=P)
