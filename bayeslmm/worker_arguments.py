"""Who works: processes of this machine, or a cluster."""

from __future__ import annotations

from bayeslmm.arguments import MOST_WORKERS, Failure, shown, whole
from bayeslmm.errors import FitError


def check_workers(n_jobs: int, client: object, error: Failure = FitError) -> int:
    """A number of worker processes (-1 for one per core), and a client that can run tasks.

    Parameters
    ----------
    n_jobs : int
    client : object
    error : type

    Raises
    ------
    BayesLMMError
        Of the class `error`.

    Examples
    --------
    >>> check_workers(2, None)
    2
    """
    n_jobs = whole("n_jobs", n_jobs, -1, MOST_WORKERS, error)
    if n_jobs == 0:
        raise error("n_jobs=0 would run nothing. Use 1 for this process, -1 for one worker per core.")
    if client is not None and not (
        callable(getattr(client, "map", None)) and callable(getattr(client, "cancel", None))
    ):
        raise error(
            f"client={shown(client)} is no Dask client: it cannot run tasks. Pass a dask.distributed.Client, or use "
            "n_jobs= for processes on this machine."
        )
    return n_jobs
