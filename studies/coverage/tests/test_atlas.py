"""The shipped atlas: complete, equal to closed forms and to a study made without this package, and its verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from studies.coverage.chunk import columns
from studies.coverage.table import CELL_COLUMNS, COLUMNS

# One-way cells of 2,000 replicates by quadrature in another program, with 1 / sigma as the prior of sigma.
PILOT = pd.read_csv(Path(__file__).parent / "boundary_pilot.csv")
# Two-sided normal quantile that 225 comparisons stay inside with probability .99.
FAR = 4.2


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return bl.coverage_atlas().table


def test_it_has_every_cell(table: pd.DataFrame) -> None:
    assert list(table.columns) == COLUMNS
    expected = [
        (cell.design, cell.groups, cell.size, cell.icc, cell.slope_sd, cell.rho, *names)
        for cell in bl.coverage_grid()
        for names in columns(cell)
    ]
    assert list(table[[*CELL_COLUMNS, "parameter", "method"]].itertuples(index=False, name=None)) == expected
    assert (table["replicates"] == 4000).all()
    assert np.abs(table[["coverage", "below", "above"]].sum(axis=1) - 1.0).max() < 1e-6


def test_monte_carlo_errors_are_half_of_wilson_intervals(table: pd.DataFrame) -> None:
    held = (table["coverage"] * table["replicates"]).round().astype(int)
    assert (held == 0).any()
    level = 2.0 * stats.norm.cdf(1.0) - 1.0
    for row, count in zip(table.itertuples(), held, strict=True):
        interval = stats.binomtest(count, row.replicates).proportion_ci(level, "wilson")
        # SciPy cuts the interval off at 0 and 1, which it reaches there but for rounding.
        assert row.mc_error == pytest.approx((interval.high - interval.low) / 2, rel=1e-5)


def test_shares_of_zero_are_the_closed_form(table: pd.DataFrame) -> None:
    cells = table[table["design"] == "balanced"].drop_duplicates(CELL_COLUMNS)
    p = cells["zero_exact"]
    error = np.sqrt(np.maximum(p * (1 - p), 1e-4) / 4000)
    assert (np.abs(cells["zero_share"] - p) < FAR * error).all()


def test_it_agrees_with_the_pilot(table: pd.DataFrame) -> None:
    own = table[(table["design"] == "balanced") & (table["parameter"] == "sd[Intercept]")]
    both = own.merge(PILOT, on=["groups", "size", "icc", "method"], suffixes=("", "_pilot"), validate="1:1")
    assert len(both) == 375
    p = (2 * both["coverage"] + both["coverage_pilot"]) / 3
    error = np.sqrt(np.maximum(p * (1 - p), 1e-3) * (1 / 4000 + 1 / 2000))
    difference = both["coverage"] - both["coverage_pilot"]
    likelihood = ~both["method"].isin(["hdi", "equal_tailed"])
    assert (np.abs(difference) < FAR * error)[likelihood].all()
    # Another prior of sigma matters where three groups of two say next to nothing about it.
    few = (both["groups"] == 3) & (both["size"] == 2)
    assert (np.abs(difference) < FAR * error)[~few].all()
    assert (np.abs(difference) < 0.015)[few].all()


def test_the_pivot_is_exact_everywhere(table: pd.DataFrame) -> None:
    verdict = bl.coverage_atlas().criteria.query("method == 'pivot'")
    assert verdict["cells"].sum() == (table["method"] == "pivot").sum()
    assert verdict["ok"].all()


def test_honest_intervals_and_where_they_are_not(table: pd.DataFrame) -> None:
    """One-way cells reach .95 - 3.4 standard errors - .02; one cell of the HDI does not, and the page says so."""
    verdict = bl.coverage_atlas().criteria.set_index(["design", "parameter", "method"])
    for design in ("balanced", "unbalanced"):
        assert verdict.loc[(design, "sd[Intercept]", "reml_profile"), "ok"]
        assert verdict.loc[(design, "sd[Intercept]", "hdi"), "mean"] >= 0.95
    own = table[(table["method"] == "hdi") & table["design"].isin(["balanced", "unbalanced"])]
    short = own[own["coverage"] < 0.918]
    assert list(short[["groups", "size", "icc"]].itertuples(index=False, name=None)) == [(30, 20, 0.05)]
    assert short["coverage"].iloc[0] > 0.91


def test_wider_intervals_where_less_is_known(table: pd.DataFrame) -> None:
    own = table[(table["parameter"] == "Intercept") & (table["design"] == "balanced")]
    wide = own.pivot_table(index=CELL_COLUMNS, columns="method", values="width_median")
    # Satterthwaite's degrees of freedom are those of the noise at an estimate of zero, Kenward-Roger's of the groups.
    assert (wide["z"] <= wide["satterthwaite"]).all()
    assert (wide["satterthwaite"] <= wide["kenward_roger"] * (1 + 1e-6)).all()


@pytest.mark.calibration
@pytest.mark.parametrize("cell", [bl.Cell("balanced", 5, 5, 0.1), bl.Cell("x || g", 6, 10, 0.5, 0.1)], ids=str)
def test_it_is_what_the_code_computes(table: pd.DataFrame, cell: bl.Cell) -> None:
    stored = table[(table[CELL_COLUMNS] == [getattr(cell, name) for name in CELL_COLUMNS]).all(axis=1)]
    again = bl.coverage_study([cell], 4000, random_seed=1, n_jobs=2).table
    for column in ("coverage", "below", "above", "zero_share"):
        assert np.abs(stored[column].to_numpy() - again[column].to_numpy()).max() <= 1.01 / 4000, column
    assert np.allclose(stored["width_median"], again["width_median"], rtol=1e-4)
