"""The way to the coverage study, which lies beside the package in its repository and is not installed with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.calibration.atlas import CoverageStudy
from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.errors import FitError

# By name, when it is asked for: nothing in the package depends on a study.
_WHERE = "studies.coverage"


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
    """How often intervals hold the true standard deviations and fixed effects in the designs of the atlas.

    For a design of your own use `bayeslmm.coverage`. This study needs a copy of the repository: it lies in
    ``studies/coverage`` there and is not installed with the package.

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
        An argument out of range; no cell; a prior with a kink or a zero at sd = 0; the study is not there.
    StorageError
        The store holds a study with other settings, or cannot be written to.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> study = bl.coverage_study([bl.Cell("balanced", groups=6, size=5, icc=0.1)], replicates=200, random_seed=1)
    >>> bool(study.coverage("sd[Intercept]", "hdi").iloc[0] > 0.9)
    True
    """
    found: CoverageStudy = _study().coverage_study(
        cells,
        replicates,
        level=level,
        prior=prior,
        random_seed=random_seed,
        n_jobs=n_jobs,
        client=client,
        store=store,
        progressbar=progressbar,
    )
    return found


def _study() -> Any:
    """The study of this copy of the repository.

    Raises
    ------
    FitError
    """
    root = __name__.partition(".")[0]
    parts = [find_spec(name) for name in (root, _WHERE.partition(".")[0])]
    places = [os.path.dirname(spec.origin) for spec in parts if spec is not None and spec.origin]
    # Another package may have the name, or the study be one of another version.
    if len(places) < 2 or os.path.dirname(places[0]) != os.path.dirname(places[1]):
        raise FitError(
            "The coverage study is not installed with the package. It lies in the folder studies/coverage of the "
            "repository: run it in a copy of that. Its results are bl.coverage_atlas(); for a design of your own use "
            "bl.coverage(model)."
        )
    return import_module(_WHERE)
