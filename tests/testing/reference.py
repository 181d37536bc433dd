"""What R's lmerTest, car, pbkrtest and nlme say of these fits (``anova_r.json.gz`` holds the calls and versions)."""

from __future__ import annotations

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import bayeslmm as bl

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "reference"))
import test_lme4 as stored  # noqa: E402

R: dict[str, Any] = json.loads(gzip.decompress((HERE / "anova_r.json.gz").read_bytes()))


@cache
def clinic() -> pd.DataFrame:
    """A made-up trial in several centres, unbalanced."""
    frame = pd.DataFrame(R["clinic"]["rows"])
    for column, info in R["clinic"]["columns"].items():
        if info.get("levels"):
            frame[column] = pd.Categorical(frame[column].astype(str), [str(v) for v in info["levels"]])
    return frame


def data_of(case: str) -> pd.DataFrame:
    if case.startswith("clinic"):
        return clinic()
    data = stored.load(R["inference"][case]["dataset"])
    return data[~((data["V"] == "Victory") & (data["N"] == "0.6cwt"))] if case == "oats_emptycell" else data


@cache
def fitted(case: str, reml: bool = True, smaller: bool = False) -> bl.REMLResult:
    formula = R["inference"][case]["smaller_model" if smaller else "formula"]
    return bl.Model(formula, data_of(case)).fit(reml=reml)
