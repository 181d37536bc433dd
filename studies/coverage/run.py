"""Run the coverage study: chunks in order, in worker processes or on a Dask cluster, kept as they finish."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from bayeslmm.arguments import MOST_REFITS, flag, shown, whole
from bayeslmm.bayes.prior_families import SdPrior, is_sd_prior
from bayeslmm.bayes.progress import Progress, interactive
from bayeslmm.calibration.atlas import CoverageStudy
from bayeslmm.calibration.atlas_cells import Cell, coverage_grid
from bayeslmm.calibration.chunk_store import ChunkStore
from bayeslmm.calibration.workers import check_workers, execute
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
    """How often intervals hold the true standard deviations and fixed effects, by simulation.

    Every replicate draws a response from a cell's true variances and computes all intervals: for standard deviations
    the profile of the REML and of the ML criterion, the exact F pivot of the ratio to sigma, and the highest density
    and equal-tailed intervals of the posterior; for fixed effects plug-in z, Satterthwaite, Kenward-Roger and the
    posterior. 4,000 replicates of a cell take some seconds.

    Parameters
    ----------
    cells : iterable of Cell, optional
        By default `coverage_grid`, the 129 cells of the shipped atlas.
    replicates : int
        Of every cell.
    level : float
        Of all intervals.
    prior : SdPrior, optional
        Prior of every standard deviation in units in which the total variance is 1, smooth and even at zero; by
        default half-t(3) with scale sd(y) / rms(column), at x = 0, with the sd of each response.
    random_seed : int
        Results depend on it, the cell and the number of the replicate only: neither on the other cells, nor on `n_jobs`
        or the cluster.
    n_jobs : int
        Worker processes (joblib); -1 for one per core.
    client : dask.distributed.Client, optional
        Run on its cluster instead.
    store : path, optional
        Folder in which finished chunks of 500 replicates are kept. A run that was killed continues from there, and
        gives the same table.
    progressbar : bool, optional
        By default in a terminal or a notebook.

    Returns
    -------
    CoverageStudy
        Interrupting the run (Ctrl-C) returns the cells that have replicates so far.

    Raises
    ------
    FitError
        An argument out of range; no cell; a prior with a kink or a zero at sd = 0.
    StorageError
        The store holds a study with other settings, or cannot be written to.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> study = bl.coverage_study([bl.Cell("balanced", groups=6, size=5, icc=0.1)], replicates=200, random_seed=1)
    >>> bool(study.coverage("sd[Intercept]", "hdi").iloc[0] > 0.9)
    True
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
    if store is not None and not isinstance(store, str | os.PathLike):
        raise FitError(f"store={shown(store)} is no path of a folder.")
    settings = {"version": VERSION, "level": level, "seed": random_seed, "prior": repr(prior)}
    kept = None if store is None else ChunkStore(store, settings)
    done = {task: chunk for task in tasks if kept is not None and (chunk := _load(kept, task)) is not None}
    waiting = [task for task in tasks if task not in done]
    if kept is not None and waiting:
        kept.check_writable()
    show = interactive() if progressbar is None else progressbar
    try:
        with Progress(show) as progress:
            for task, chunk in execute(run_chunk, waiting, n_jobs, client):
                done[task] = chunk
                if kept is not None:
                    kept.save(task.name, chunk, task.identity)
                progress.report("Coverage", len(done), len(tasks))
    except KeyboardInterrupt:
        if not done:
            raise
    table = make_table(cells, {task: done[task] for task in tasks if task in done})
    return CoverageStudy(table, level, replicates, len(cells), random_seed, time.perf_counter() - began)


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
            "that is "
            "smooth and even at zero, such as bl.HalfT, bl.HalfNormal or bl.HalfCauchy."
        )


def _load(kept: ChunkStore, task: CellTask) -> CellChunk | None:
    """The result of a task, if it is in a store and undamaged."""
    return kept.load(task.name, CellChunk, task.identity, lambda chunk: _check_chunk(task, chunk))


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
