"""Coverage studies: the same table whatever runs them, killed and resumed; arguments; what is shown."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import bayeslmm as bl
from bayeslmm.calibration import kept_tasks
from bayeslmm.calibration.atlas_criteria import band, criteria
from bayeslmm.errors import DesignError, FitError, StorageError
from studies.coverage.chunk import CellChunk, CellTask, run_chunk
from studies.coverage.table import exact_zero

CELLS = [bl.Cell("balanced", 5, 2, 0.3), bl.Cell("unbalanced", 3, 4, 0.1)]
SLOPES = bl.Cell("x || g", 4, 4, 0.5, 0.5)
REPLICATES = 520  # a whole chunk and a part of one


@pytest.fixture(scope="module")
def study() -> bl.CoverageStudy:
    return bl.coverage_study(CELLS, REPLICATES, random_seed=3)


def test_the_grid_of_the_atlas() -> None:
    cells = bl.coverage_grid()
    counts = {
        name: sum(cell.design == name for cell in cells) for name in ("balanced", "unbalanced", "x || g", "x | g")
    }
    assert counts == {"balanced": 75, "unbalanced": 30, "x || g": 9, "x | g": 15}
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.sizes.min() >= 1
        assert cell.sizes.mean() == pytest.approx(cell.size, rel=0.06)


def test_responses_have_the_variances_of_the_cell() -> None:
    cell = bl.Cell("x | g", 3, 4, 0.4, 0.5, 0.9)
    Y = cell.simulate(40_000, np.random.default_rng(1))
    Z = np.stack([np.ones(4), np.arange(4.0)], axis=1)
    s = np.sqrt(0.4) * np.array([1.0, 0.5])
    sigma = np.outer(s, s) * np.array([[1.0, 0.9], [0.9, 1.0]])
    expected = np.kron(np.eye(3), Z @ sigma @ Z.T) + 0.6 * np.eye(12)
    # Standard error of a covariance: sqrt((v_i v_j + c_ij^2) / n).
    variance = np.diagonal(expected)
    error = np.sqrt((np.outer(variance, variance) + expected**2) / 40_000)
    assert (np.abs(np.cov(Y) - expected) < 4.5 * error).all()


def test_shares_of_zero_are_the_closed_form() -> None:
    cells = [bl.Cell("balanced", 3, 5, 0.05), bl.Cell("balanced", 10, 2, 0.1)]
    # From the F distribution, boundary.md's table.
    assert [exact_zero(cell) for cell in cells] == pytest.approx([0.524611, 0.386486], abs=1e-6)
    table = bl.coverage_study(cells, 1000, random_seed=2).table.drop_duplicates(["groups"])
    error = np.sqrt(table["zero_exact"] * (1 - table["zero_exact"]) / 1000)
    assert (np.abs(table["zero_share"] - table["zero_exact"]) < 4 * error).all()


def test_the_table(study: bl.CoverageStudy) -> None:
    table = study.table
    assert len(table) == 9 + 9
    assert (table["replicates"] == REPLICATES).all()
    assert (table[["coverage", "below", "above"]].sum(axis=1) - 1.0).abs().max() < 1e-12
    assert (table.loc[table["method"] == "pivot", "width_ratio"] == 1.0).all()
    assert table.loc[~table["parameter"].str.startswith("sd"), "width_ratio"].isna().all()
    one = study.coverage("sd[Intercept]", "pivot")
    assert len(one) == 2
    # Exact: within 4.5 standard errors.
    assert (np.abs(one - 0.95) < 4.5 * np.sqrt(0.95 * 0.05 / REPLICATES)).all()


def test_cells_and_chunks_do_not_depend_on_each_other(study: bl.CoverageStudy) -> None:
    alone = bl.coverage_study(CELLS[1:], REPLICATES, random_seed=3).table
    assert_frame_equal(
        alone, study.table[study.table["design"] == "unbalanced"].reset_index(drop=True), check_exact=True
    )
    whole, part = (run_chunk(CellTask(CELLS[0], 1, n, 0.95, 3)) for n in (500, 20))
    assert np.array_equal(whole.outcome[:, :20], part.outcome)
    # The grid has as many nodes as the widest posterior of a chunk needs.
    assert np.allclose(whole.width[:, :20], part.width, rtol=1e-4, atol=0)


def test_processes_give_the_same_table(study: bl.CoverageStudy) -> None:
    parallel = bl.coverage_study(CELLS, REPLICATES, random_seed=3, n_jobs=2)
    assert_frame_equal(parallel.table, study.table, check_exact=True)


def test_a_dask_client_gives_the_same_table(study: bl.CoverageStudy) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        found = bl.coverage_study(CELLS, REPLICATES, random_seed=3, client=client)
    assert_frame_equal(found.table, study.table, check_exact=True)


def test_killed_and_restarted_it_gives_the_same_table(study: bl.CoverageStudy, tmp_path: Path) -> None:
    code = (
        "import bayeslmm as bl; cells = [bl.Cell('balanced', 5, 2, 0.3), bl.Cell('unbalanced', 3, 4, 0.1)];"
        f"bl.coverage_study(cells, {REPLICATES}, random_seed=3, store={str(tmp_path / 'store')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("store/*.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/*.npz")}
    assert 0 < len(kept) < 4, "killed in the middle"
    resumed = bl.coverage_study(CELLS, REPLICATES, random_seed=3, store=tmp_path / "store")
    assert_frame_equal(resumed.table, study.table, check_exact=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "not computed again"
    assert len(list(tmp_path.glob("store/*.npz"))) == 4


def test_a_store_belongs_to_one_study(tmp_path: Path) -> None:
    cells = [bl.Cell("balanced", 3, 2)]
    bl.coverage_study(cells, 20, random_seed=3, store=tmp_path)
    with pytest.raises(StorageError, match=r"seed: 3 there, 4 here"):
        bl.coverage_study(cells, 20, random_seed=4, store=tmp_path)
    with pytest.raises(StorageError, match=r"level: 0.95 there, 0.9 here"):
        bl.coverage_study(cells, 20, random_seed=3, level=0.9, store=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used as a folder"):
        bl.coverage_study(cells, 20, store=tmp_path / "file")


def test_interrupted_it_returns_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(
        function: object, tasks: list[CellTask], n_jobs: int, client: object
    ) -> Iterator[tuple[CellTask, CellChunk]]:
        yield tasks[0], run_chunk(tasks[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_tasks, "execute", interrupted)
    found = bl.coverage_study(CELLS, REPLICATES, random_seed=3)
    assert set(found.table["replicates"]) == {500}
    assert "Interrupted: 1 of 2 cells were not run, 1 have fewer replicates." in str(found)


def test_what_is_shown(study: bl.CoverageStudy, tmp_path: Path) -> None:
    assert "Coverage of 95% intervals: 2 cells, 520 replicates each (seed 3)" in str(study)
    assert "<table" in study._repr_html_()
    study.to_csv(tmp_path / "table.csv")
    back = pd.read_csv(tmp_path / "table.csv")
    assert_frame_equal(back, study.table, rtol=1e-5, check_dtype=False)
    assert len(study.worst(1)) == 1


def test_the_figure() -> None:
    study = bl.coverage_study([SLOPES], 30)
    assert len(study.table) == 18
    axes = study.plot("sd[x]", "x || g")
    assert [ax.get_title() for ax in axes][:2] == ["REML says zero", "REML profile"]
    shown = {text.get_text() for text in axes[3].texts}
    expected = study.coverage("sd[x]", "pivot").iloc[0]
    assert shown == {f"{100 * expected:.1f}"}
    plt.close("all")
    with pytest.raises(DesignError, match=r"no rows of parameter 'sd\[x\]' in design 'balanced'"):
        bl.plot_coverage(study, "sd[x]", "balanced")
    with pytest.raises(FitError, match=r"no parameter 'sd\[x\]' with method 'z'"):
        study.coverage("sd[x]", "z")


def test_bands_and_verdicts() -> None:
    # Bonferroni limits by the normal quantiles 3.40 (75 cells) and 3.82 at 1% are in boundary.md's section 5.
    assert band(0.95, 4000, 75) == pytest.approx((0.95 - 3.403 * 0.003446, 0.95 + 3.403 * 0.003446), abs=1e-5)
    row = {"design": "balanced", "parameter": "sd[Intercept]", "replicates": 4000, "width_ratio": 1.0}
    rows = [row | {"method": "pivot", "coverage": c} for c in (0.945, 0.955)]
    rows += [row | {"method": "hdi", "coverage": c} for c in (0.924, 0.99)]
    verdict = criteria(pd.DataFrame(rows)).set_index("method")["ok"]
    assert verdict["pivot"] and verdict["hdi"]
    rows[0]["coverage"], rows[2]["coverage"] = 0.93, 0.97
    rows[3]["coverage"] = 0.92
    verdict = criteria(pd.DataFrame(rows)).set_index("method")["ok"]
    assert not verdict["pivot"], "one cell is out"
    assert not verdict["hdi"], "the mean is below the level"


def test_arguments() -> None:
    with pytest.raises(FitError, match="no cell to study"):
        bl.coverage_study([])
    with pytest.raises(FitError, match=r"is no bl\.Cell"):
        bl.coverage_study([(3, 5)])  # type: ignore[list-item]
    with pytest.raises(FitError, match="replicates=0"):
        bl.coverage_study(CELLS, 0)
    with pytest.raises(FitError, match="n_jobs=0"):
        bl.coverage_study(CELLS, 10, n_jobs=0)
    with pytest.raises(FitError, match="smooth and even at zero"):
        bl.coverage_study(CELLS, 10, prior=bl.Exponential(1.0))
    with pytest.raises(DesignError, match=r"level=95"):
        bl.coverage_study(CELLS, 10, level=95)
    with pytest.raises(FitError, match="at least 3"):
        bl.Cell("balanced", 2, 5)
    with pytest.raises(FitError, match=r"rho=0\.5"):
        bl.Cell("balanced", 3, 5, 0.1, 0.0, 0.5)
    with pytest.raises(FitError, match="is not one of"):
        bl.Cell("nested", 3, 5)  # type: ignore[arg-type]
    for values in ({"groups": "a"}, {"groups": 5.5}, {"size": None}, {"icc": "a"}, {"rho": True}):
        with pytest.raises(FitError, match=f"{next(iter(values))}=.* is no "):
            bl.Cell(**values)  # type: ignore[arg-type]
    with pytest.raises(FitError, match="client=3 is no Dask client"):
        bl.coverage_study(CELLS, 10, client=3)
    for cells in (3, CELLS[0]):
        with pytest.raises(FitError, match="is no list of cells"):
            bl.coverage_study(cells)  # type: ignore[arg-type]
    with pytest.raises(FitError, match=r"is no bl\.Cell"):
        bl.coverage_study([[1]])  # type: ignore[list-item]
    with pytest.raises(DesignError, match="level='a' is no number"):
        bl.coverage_study(CELLS, 10, level="a")  # type: ignore[arg-type]
    with pytest.raises(FitError, match="store=3"):
        bl.coverage_study(CELLS, 10, store=3)  # type: ignore[arg-type]
    with pytest.raises(FitError, match="is no list of designs"):
        bl.coverage_grid("balanced")  # type: ignore[arg-type]


def test_a_prior_of_ones_own_changes_the_posterior_only() -> None:
    cells = [bl.Cell("balanced", 4, 3, 0.3)]
    default, wide = (bl.coverage_study(cells, 60, prior=prior).table for prior in (None, bl.HalfNormal(100.0)))
    changed = default["width_median"] != wide["width_median"]
    assert set(default.loc[changed, "method"]) == {"hdi", "equal_tailed", "posterior"}


@pytest.mark.parametrize("replicates", [1, 200])
def test_full_coverage_has_a_monte_carlo_error(replicates: int) -> None:
    table = bl.coverage_study([bl.Cell("balanced", 8, 4, 0.2)], replicates, random_seed=2, n_jobs=1).table
    shares = table["coverage"]
    assert (table["mc_error"] > 0).all()
    full = table[shares.isin([0.0, 1.0])]["mc_error"]
    assert len(full) == len(table) if replicates == 1 else len(full) < len(table)
    np.testing.assert_allclose(full, 0.5 / (replicates + 1))
    inner = table[~shares.isin([0.0, 1.0])]
    usual = np.sqrt(inner["coverage"] * (1 - inner["coverage"]) / replicates)
    np.testing.assert_allclose(inner["mc_error"], usual, atol=0.5 / replicates)
