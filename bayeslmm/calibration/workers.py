"""Tasks of a simulation in order, in worker processes or on a Dask cluster; results come as they are done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bayeslmm.parent import watch
from bayeslmm.worker_arguments import check_workers

__all__ = ["check_workers", "execute"]

# Seconds.
_IDLE = 10.0


def execute[T, R](
    function: Callable[[T], R], tasks: Sequence[T], n_jobs: int = 1, client: Any = None
) -> Iterator[tuple[T, R]]:
    """Every task with its result.

    Parameters
    ----------
    function : callable
        Of a module, so that workers find it.
    tasks : sequence
    n_jobs : int
        Worker processes; 1 for this process, -1 for one per core.
    client : dask.distributed.Client, optional
        Run on its cluster instead.
    """
    if client is not None:
        yield from _on_cluster(function, tasks, client)
    elif n_jobs == 1 or len(tasks) < 2:
        for task in tasks:
            yield task, function(task)
    else:
        from joblib import Parallel, cpu_count, delayed, parallel_config

        # More workers than tasks would be started for nothing.
        workers = min(len(tasks), cpu_count() if n_jobs == -1 else n_jobs)
        # Workers that wait for a task do not see that this process is gone.
        with parallel_config("loky", idle_worker_timeout=_IDLE):
            pool = Parallel(n_jobs=workers, return_as="generator_unordered")
        yield from pool(delayed(_in_worker)(function, task, os.getpid()) for task in tasks)


def _in_worker[T, R](function: Callable[[T], R], task: T, parent: int) -> tuple[T, R]:
    watch(parent)
    return task, function(task)


def _on_cluster[T, R](function: Callable[[T], R], tasks: Sequence[T], client: Any) -> Iterator[tuple[T, R]]:
    from distributed import as_completed

    futures = client.map(_with_task, [function] * len(tasks), tasks, pure=False)
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        client.cancel(futures)


def _with_task[T, R](function: Callable[[T], R], task: T) -> tuple[T, R]:
    return task, function(task)
