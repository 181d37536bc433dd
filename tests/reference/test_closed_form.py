"""Balanced layouts and NIST's one-way data sets, where the answer is known exactly."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bayeslmm as bl

HERE = Path(__file__).parent
# Both sides are binary64 sums of at most a few hundred terms.
EXACT = 1e-9


def read(name: str) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(gzip.decompress((HERE / name).read_bytes()))
    return out


ONEWAY = {name: case for name, case in read("oneway.json.gz").items() if "groups" in case}
NIST = read("nist_anova.json.gz")


def one_way(case: dict[str, Any]) -> bl.Model:
    rows = [(level, y) for level, ys in case["groups"].items() for y in ys]
    return bl.Model("y ~ 1 + (1 | g)", pd.DataFrame(rows, columns=["g", "y"]))


@pytest.mark.parametrize("name", ONEWAY)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_balanced_one_way(name: str, method: str) -> None:
    expected = ONEWAY[name][method]
    fit = one_way(ONEWAY[name]).fit(reml=method == "reml")
    assert fit.criterion == pytest.approx(expected["criterion"], rel=EXACT)
    assert fit.sigma**2 == pytest.approx(expected["sigma2"], rel=EXACT)
    # At F = 1 exactly, rounding decides on which side of zero the estimate falls: theta^2 is then noise.
    assert fit.theta[0] ** 2 * fit.sigma**2 == pytest.approx(expected["sigma2_b"], rel=EXACT, abs=1e-12 * fit.sigma**2)
    assert fit.std_error().iloc[0] == pytest.approx(expected["se_mean"], rel=EXACT)
    if expected["boundary"]:
        assert fit.theta[0] == 0.0
        assert fit.is_singular
    blup = fit.ranef()["g"]["Intercept"]
    for level, value in expected["blup"].items():
        assert blup[level] == pytest.approx(value, abs=1e-7 * fit.sigma)


@pytest.mark.parametrize("name", list(ONEWAY)[::9])
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_profile_intervals_of_balanced_one_way(name: str, method: str) -> None:
    expected = ONEWAY[name][method]["profile_intervals_sd"]
    fit = one_way(ONEWAY[name]).fit(reml=method == "reml")
    for k, level in enumerate(expected["levels"]):
        interval = fit.confint(level, parameters=["sd_g", "sigma"])
        for label, key in (("sd_g[Intercept]", "sd_b"), ("sigma", "sigma")):
            assert interval.loc[label, "conf_low"] == pytest.approx(expected[key]["lower"][k], rel=1e-6, abs=1e-9)
            assert interval.loc[label, "conf_high"] == pytest.approx(expected[key]["upper"][k], rel=1e-6)


@pytest.mark.parametrize("name", NIST)
@pytest.mark.parametrize("method", ["reml", "ml"])
def test_nist_keeps_every_digit_of_the_data(name: str, method: str) -> None:
    # The reference is exact for the binary64 numbers in the file, so that reading loses nothing here.
    expected = NIST[name]["exact_from_binary64_data"][method]
    data = pd.read_csv(HERE / "nist" / NIST[name]["file"])
    data.columns = ["treatment", "response"]
    fit = bl.Model("response ~ 1 + (1 | treatment)", data).fit(reml=method == "reml")
    assert fit.sigma**2 == pytest.approx(expected["sigma2"], rel=EXACT)
    assert fit.criterion == pytest.approx(expected["criterion"], rel=EXACT)
    assert fit.theta[0] ** 2 * fit.sigma**2 == pytest.approx(expected["sigma2_b"], rel=EXACT, abs=1e-12 * fit.sigma**2)
    assert fit.is_singular == expected["boundary"]
