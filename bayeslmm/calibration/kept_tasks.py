"""Tasks of a study: those that its store has are taken from there, the others run and are kept as they finish."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from bayeslmm.arguments import shown
from bayeslmm.bayes.progress import Progress
from bayeslmm.calibration.chunk_store import ChunkStore
from bayeslmm.calibration.workers import execute
from bayeslmm.errors import FitError


class StudyTask(Hashable, Protocol):
    """Some replicates; one that comes back from a worker equals the one that was sent."""

    @property
    def name(self) -> str:
        """Of its file in a store."""

    @property
    def identity(self) -> list[object]:
        """What its result is of."""

    @property
    def replicates(self) -> int:
        """How many."""


def open_store(path: Any, settings: Mapping[str, object]) -> ChunkStore | None:
    """The store of a study in a folder, if one is given.

    Raises
    ------
    FitError
        Not a path.
    StorageError
        The folder holds a study with other settings.
    """
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise FitError(f"store={shown(path)} is no path of a folder.")
    return ChunkStore(path, settings)


def run_tasks[T: StudyTask, C](
    function: Callable[[T], C],
    tasks: Sequence[T],
    kept: ChunkStore | None,
    check: tuple[type[C], Callable[[T, C], None]],
    *,
    n_jobs: int,
    client: Any,
    show: bool,
    stage: str = "Coverage",
) -> dict[T, C]:
    """Results by their tasks, in the order of these; of some tasks only if the run is interrupted after the first.

    Parameters
    ----------
    function : callable
        Of a module, so that workers find it.
    tasks : sequence
    kept : ChunkStore or None
    check : tuple
        The dataclass of a result, and what raises ValueError for one in the store that its task cannot have.
    n_jobs, client
        As in `execute`.
    show : bool
        Whether to show progress.
    stage : str
        What is then said to go on.

    Raises
    ------
    StorageError
        There is something to run, and the store cannot be written to.
    """
    done = {task: chunk for task in tasks if kept is not None and (chunk := _load(kept, task, *check)) is not None}
    waiting = [task for task in tasks if task not in done]
    if kept is not None and waiting:
        kept.check_writable()
    total = sum(task.replicates for task in tasks)
    count = total - sum(task.replicates for task in waiting)
    try:
        with Progress(show) as progress:
            for task, chunk in execute(function, waiting, n_jobs, client):
                done[task] = chunk
                if kept is not None:
                    kept.save(task.name, chunk, task.identity)
                count += task.replicates
                progress.report(stage, count, total)
    except KeyboardInterrupt:
        if not done:
            raise
    return {task: done[task] for task in tasks if task in done}


def _load[T: StudyTask, C](kept: ChunkStore, task: T, kind: type[C], check: Callable[[T, C], None]) -> C | None:
    """The result of a task, if it is in the store and undamaged."""
    return kept.load(task.name, kind, task.identity, lambda chunk: check(task, chunk))
