"""Verbs of a fit with na_action="exclude": the numbers of the fit without the rows, whatever takes values by row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

FORMULA = "Reaction ~ Days + (1 | Subject)"


@pytest.fixture(scope="module")
def fits() -> tuple[bl.REMLResult, bl.REMLResult]:
    """Of the same data: rows left out and kept as nan, rows dropped."""
    data = bl.load_dataset("sleepstudy").astype({"Reaction": float})
    data.loc[[3, 40], "Reaction"] = np.nan
    return bl.Model(FORMULA, data, na_action="exclude").fit(), bl.Model(FORMULA, data).fit()


def by_row(fit: bl.REMLResult) -> np.ndarray:
    """Numbers from 1 on, one for each row that the data of this fit's results have; equal on the rows in use."""
    rows = fit.fitted().index.to_numpy()
    return 1.0 + np.asarray(rows % 7, dtype=float)


CALLS: dict[str, Callable[[bl.REMLResult], pd.DataFrame | pd.Series]] = {
    "statistic": lambda fit: fit.bootstrap(5, 1, statistic="fixef").draws,
    "function": lambda fit: fit.bootstrap(5, 1, statistic=lambda one: float(one.residuals().max())).draws,
    "all": lambda fit: fit.bootstrap(5, 1, random="all").draws,
    "none": lambda fit: fit.bootstrap(5, 1, random=None).draws,
    "names": lambda fit: fit.bootstrap(5, 1, random="Subject").draws,
    "semiparametric": lambda fit: fit.bootstrap(5, 1, method="semiparametric").draws,
    "weights": lambda fit: fit.simulate(2, 1, weights=by_row(fit)).dropna(),
    "influence": lambda fit: fit.influence(by=by_row(fit)).cooks_d,
    "influence of a column": lambda fit: fit.influence(by=pd.Series(by_row(fit), fit.fitted().index)).cooks_d,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_numbers_are_those_without_the_rows(
    fits: tuple[bl.REMLResult, bl.REMLResult], call: Callable[[bl.REMLResult], pd.DataFrame | pd.Series]
) -> None:
    excluding, dropping = (call(fit) for fit in fits)
    assert excluding.equals(dropping)
    assert np.isfinite(excluding.to_numpy()).all()
