"""Models in memory and the same from chunks: what is compared, and how data are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm.likelihood import CrossProducts, SummedDesign, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.sources import open_source
from bayeslmm.streaming.build import summed

# The same sums in another order: relative to the criterion's size.
EXACT = 1e-12


def parts(data: pd.DataFrame, count: int, seed: int = 0) -> list[pd.DataFrame]:
    """Random parts of the rows: levels go across them, and one of them may be empty."""
    part = np.random.default_rng(seed).integers(0, count, len(data))
    return [data[part == k] for k in range(count)]


def chunked(formula: str, chunks: list[pd.DataFrame], most: int | None = None, **arguments: Any) -> SummedDesign:
    """Sums of chunks, each read by itself however small it is."""
    return summed(formula, open_source(chunks), most=most, progress=False, **arguments)


def one_by_one(formula: str, data: pd.DataFrame, **arguments: Any) -> SummedDesign:
    """Sums of chunks of a single row each."""
    return chunked(formula, [data], most=1, **arguments)


def same_criterion(one: SummedDesign, other: CrossProducts, rel: float = EXACT) -> None:
    """REML and ML at points in the whole plane agree."""
    assert (one.n, one.p, one.frame.n_theta) == (other.n, other.p, other.frame.n_theta)
    rng = np.random.default_rng(2)
    for scale in (0.0, 0.3, 1.0, 30.0):
        factors = par.internal_factors(one, scale * rng.normal(size=one.frame.n_theta))
        # The coordinates need not be the same: the user's are.
        theirs = par.block_factors(other, par.term_factors(one, factors))
        at, there = evaluate(one, factors), evaluate(other, theirs)
        for reml in (True, False):
            assert float(profiled(other, there, reml)[0]) == pytest.approx(float(profiled(one, at, reml)[0]), rel=rel)
