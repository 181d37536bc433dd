"""Run the coverage study: chunks in order, in worker processes or on a Dask cluster, kept as they finish."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bayeslmm.arguments import MOST_REFITS, flag, shown, whole
from bayeslmm.bayes.prior_families import SdPrior, is_sd_prior
from bayeslmm.bayes.progress import interactive
from bayeslmm.calibration.atlas import CoverageStudy
from bayeslmm.calibration.atlas_cells import Cell, coverage_grid
from bayeslmm.calibration.kept_tasks import open_store, run_tasks
from bayeslmm.calibration.workers import check_workers
from bayeslmm.errors import FitError
from bayeslmm.results.intervals import check_level
from studies.coverage.chunk import CHUNK, CellChunk, CellTask, columns, run_chunk
from studies.coverage.table import make_table

# To be raised whenever a kernel changes what is computed.
VERSION = 2


def coverage_study(
    cells: Iterable[Cell] | None = None,
    replicates: int = 4000,
    *,
    level: float = 0.95,
    prior: SdPrior | None = None,
    random_seed: int = 1,
    n_jobs: int = 1,
    client: Any = None,
    store: str | os.PathLike[str] | None = None,
    progressbar: bool | None = None,
) -> CoverageStudy:
    """As `bayeslmm.coverage_study`, which describes the arguments.

    Raises
    ------
    FitError
        An argument out of range; no cell; a prior with a kink or a zero at sd = 0.
    StorageError
        The store holds a study with other settings, or cannot be written to.
    """
    cells = _unique(coverage_grid() if cells is None else cells)
    check_workers(n_jobs, client)
    _check(replicates, random_seed, prior)
    began = time.perf_counter()
    level = float(check_level(level))
    if progressbar is not None:
        flag("progressbar", progressbar, FitError)
    tasks = [
        CellTask(cell, k // CHUNK, min(CHUNK, replicates - k), level, random_seed, prior)
        for cell in cells
        for k in range(0, replicates, CHUNK)
    ]
    settings = {"version": VERSION, "level": level, "seed": random_seed, "prior": repr(prior)}
    done = run_tasks(
        run_chunk,
        tasks,
        open_store(store, settings),
        (CellChunk, _check_chunk),
        n_jobs=n_jobs,
        client=client,
        show=interactive() if progressbar is None else progressbar,
    )
    return CoverageStudy(
        make_table(cells, done), level, replicates, len(cells), random_seed, time.perf_counter() - began
    )


def _unique(cells: Iterable[Cell]) -> list[Cell]:
    """The different cells, in order."""
    if not isinstance(cells, Iterable):
        raise FitError(f"cells={shown(cells)} is no list of cells. Write for example [bl.Cell('balanced', 6, 5)].")
    found = list(cells)
    if not found:
        raise FitError("There is no cell to study: cells is empty. Use bl.coverage_grid() for those of the atlas.")
    wrong = [cell for cell in found if not isinstance(cell, Cell)]
    if wrong:
        raise FitError(
            f"cells has {shown(wrong[0])}, which is no bl.Cell. Write for example bl.Cell('balanced', groups=6, "
            "size=5)."
        )
    return list(dict.fromkeys(found))


def _check(replicates: int, seed: int, prior: SdPrior | None) -> None:
    whole("replicates", replicates, 1, MOST_REFITS, FitError)
    whole("random_seed", seed, 0, error=FitError)
    if prior is not None and not (is_sd_prior(prior) and prior.even and not prior.relative):
        raise FitError(
            f"prior={shown(prior)} cannot be used here: the grid needs a prior of an absolute standard deviation "
            "that is smooth and even at zero, such as bl.HalfT, bl.HalfNormal or bl.HalfCauchy."
        )


def _check_chunk(task: CellTask, chunk: CellChunk) -> None:
    """Refuse outcomes that no chunk of this task can have.

    Raises
    ------
    ValueError
    """
    shape = len(columns(task.cell)), task.replicates
    if not (chunk.outcome.shape == chunk.width.shape == shape and chunk.singular.shape == shape[1:]):
        raise ValueError(f"it has shapes {chunk.outcome.shape}, {chunk.width.shape}, {chunk.singular.shape}")
    if not (np.isin(chunk.outcome, (-1, 0, 1)).all() and (chunk.width >= 0).all()):
        raise ValueError("some outcome is none of -1, 0, 1, or some width is negative or no number")
