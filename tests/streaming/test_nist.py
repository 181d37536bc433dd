"""NIST's one-way analyses from chunks in any order: all digits that the data leave."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

REFERENCE = Path(__file__).parent.parent / "reference"
CASES = json.loads(gzip.decompress((REFERENCE / "nist_anova.json.gz").read_bytes()))


@pytest.mark.parametrize("case", CASES)
def test_estimates_by_exact_arithmetic(case: str) -> None:
    data = pd.read_csv(REFERENCE / "nist" / CASES[case]["file"])
    exact = CASES[case]["exact_from_binary64_data"]["reml"]
    group, response = data.columns[:2]
    data[group] = data[group].astype(str)
    order = np.random.default_rng(1).permutation(len(data))
    chunks = [data.iloc[order[start::5]] for start in range(5)]
    fit = bl.Model(f"{response} ~ 1 + (1 | {group})", chunks, progress=False).fit()
    assert fit.sigma == pytest.approx(exact["sigma"], rel=1e-12)
    assert float(fit.varcorr()["sdcor"].iloc[0]) == pytest.approx(exact["sd_b"], rel=1e-10)
    assert fit.criterion == pytest.approx(exact["criterion"], rel=1e-12)
