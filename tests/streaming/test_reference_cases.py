"""Every reference case from chunks: the criterion in memory, and what other programs have found."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bayeslmm.design import build_design
from bayeslmm.likelihood import SummedDesign, cross_products
from tests.reference.test_lme4 import CASES, CONTRASTS, load
from tests.streaming.chunked import chunked, one_by_one, parts, same_criterion

REFERENCE = Path(__file__).parent.parent / "reference"
META = json.loads(gzip.decompress((REFERENCE / "meta_cases.json.gz").read_bytes()))
SMALL = 1_000


@cache
def asked(case: str) -> tuple[str, pd.DataFrame, dict[str, Any]]:
    info = CASES[case]
    data = load(info["dataset"])
    if case == "coop_S1":
        data = data[data["Spc"] == "S1"]
    if case == "sleepstudy_from_day2":
        data = data[data["Days"] >= 2]
    contrasts = {column: CONTRASTS[kind] for column, kind in (info["contrasts"] or {}).items()}
    return info["formula"], data, {"weights": info["weights"], "contrasts": contrasts}


@cache
def in_memory(case: str) -> SummedDesign:
    formula, data, arguments = asked(case)
    return cross_products(build_design(formula, data, **arguments))


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("case", CASES)
def test_random_chunks(case: str, count: int) -> None:
    formula, data, arguments = asked(case)
    # A quarter of them at most, else small chunks are joined.
    most = max(1, len(data) // count)
    same_criterion(in_memory(case), chunked(formula, parts(data, count), most=most, **arguments))


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["dataset"] != "InstEval"])
def test_a_row_at_a_time(case: str) -> None:
    formula, data, arguments = asked(case)
    if len(data) > SMALL:
        data = data.iloc[:: len(data) // SMALL + 1]
    one = cross_products(build_design(formula, data, saturated="allow", **arguments))
    same_criterion(one, one_by_one(formula, data, saturated="allow", **arguments))
