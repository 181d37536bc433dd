"""Passes whose pieces are summed by several processes of this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bayeslmm.errors import DesignError, FitError
from bayeslmm.parent import watch
from bayeslmm.sources.checking import Checked
from bayeslmm.sources.native_tables import frame_of
from bayeslmm.sources.piecewise import PieceTask, Record, SourcePieces
from bayeslmm.sources.progress import RowsBar
from bayeslmm.streaming.passes import PassPlan, reduce_piece
from bayeslmm.streaming.piece_store import PieceStore
from bayeslmm.streaming.tree import MergeTree
from bayeslmm.worker_arguments import check_workers

# Seconds.
_IDLE = 10.0
# How often workers may die before there is no point in going on.
_DEATHS = 3
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Done:
    """The sums of a piece or of some, and what was seen of each by its number."""

    partial: Any
    records: dict[int, Record]


def sum_piece(task: PieceTask, plan: PassPlan[Any]) -> Done:
    """Sums of a piece."""
    record = Record()
    return Done(reduce_piece(task.chunks(record), plan), {task.number: record})


def both(one: Done, other: Done) -> Done:
    """Sums of two parts, the earlier one first."""
    return Done(one.partial.merge(other.partial), one.records | other.records)


def in_this_process(tasks: list[PieceTask], plan: PassPlan[Any]) -> Iterator[Done]:
    """Sums of pieces, one after the other."""
    for task in tasks:
        yield sum_piece(task, plan)


def in_processes(tasks: list[PieceTask], plan: PassPlan[Any], n_jobs: int) -> Iterator[Done]:
    """Sums of pieces as they are done; those of a worker that died are summed once more.

    Parameters
    ----------
    tasks : list of PieceTask
    plan : PassPlan
    n_jobs : int
        Processes; -1 for one per core.

    Raises
    ------
    FitError
        Workers died again and again.
    """
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    from joblib import cpu_count
    from joblib.executor import get_memmapping_executor

    workers = min(len(tasks), cpu_count() if n_jobs == -1 else n_jobs)
    waiting, running, deaths = list(reversed(tasks)), dict[Any, PieceTask](), 0
    pool: Any = None
    try:
        while waiting or running:
            if pool is None:
                # Loky's own would be handed to joblib afterwards, which takes it for one of its kind.
                env = dict.fromkeys(_ONE_THREAD, "1")
                pool = get_memmapping_executor(workers, timeout=_IDLE, env=env, max_nbytes=None)
            try:
                # No more than one piece each beside those at work: sums of pieces that wait take memory.
                while waiting and len(running) <= workers:
                    task = waiting.pop()
                    try:
                        running[pool.submit(_in_worker, task, plan, os.getpid())] = task
                    except BaseException:
                        waiting.append(task)
                        raise
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(finished, key=lambda future: running[future].number):
                    result = future.result()
                    del running[future]
                    yield result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > _DEATHS:
                    raise FitError(
                        f"Worker processes died {deaths} times while they summed rows. Most often there is not enough "
                        "memory: use fewer, n_jobs=1, or smaller row groups in the files."
                    ) from error
                waiting += sorted(running.values(), key=lambda task: -task.number)
                running, pool = {}, None
    finally:
        for future in running:
            future.cancel()
        if running and pool is not None:
            pool.shutdown(wait=True, kill_workers=True)


def _in_worker(task: PieceTask, plan: PassPlan[Any], parent: int) -> Done:
    watch(parent)
    return sum_piece(task, plan)


def on_cluster(tasks: list[PieceTask], plan: PassPlan[Any], client: Any, told: Callable[[], None], frames: Any) -> Done:
    """Sums of all pieces, added up and merged by the workers of a cluster.

    Parameters
    ----------
    tasks : list of PieceTask
    plan : PassPlan
    client : dask.distributed.Client
    told : callable
        Called when a piece is done.
    frames : sequence of callable, or None
        Have partitions computed by the cluster, in place of what pieces read.

    Raises
    ------
    FitError
        Workers died again and again.
    """
    from distributed.scheduler import KilledWorker

    # Computed by a worker, so that it is made again where a worker that has it dies.
    shared = client.submit(_itself, plan, pure=False)
    tree: MergeTree[Any] = MergeTree(lambda one, other: client.submit(both, one, other, pure=False))
    for task in tasks:
        if frames is None:
            future = client.submit(sum_piece, task, shared, pure=False)
        else:
            future = client.submit(_sum_frame, frames[task.number](), task, shared, pure=False)
        # The cluster forgets sums as they are merged: no future of a piece is kept here.
        future.add_done_callback(lambda _: told())
        tree.add(task.number, future)
        del future
    total = tree.result()
    del tree
    try:
        done: Done = total.result()
    except KilledWorker as error:
        raise FitError(
            f"Workers of the cluster died again and again while they summed rows ({error}). Most often there was not "
            "enough memory: give them more, or rows in smaller partitions."
        ) from error
    finally:
        client.cancel([total])
    return done


def _itself(plan: PassPlan[Any]) -> PassPlan[Any]:
    return plan


def _sum_frame(frame: Any, task: PieceTask, plan: PassPlan[Any]) -> Done:
    return sum_piece(replace(task, piece=Given(frame, task)), plan)


@dataclass(frozen=True)
class Given:
    """A partition that is in memory, as a piece."""

    frame: Any
    task: PieceTask

    def __call__(self) -> Iterator[pd.DataFrame]:
        """Its only chunk."""
        yield frame_of(self.frame, self.task.columns, f"Partition {self.task.number} of the {self.task.source}")


@dataclass(frozen=True)
class Crew:
    """Who sums the pieces of a source.

    Attributes
    ----------
    n_jobs : int
    client : dask.distributed.Client or None
    kept : PieceStore or None
        Where the sums of finished pieces stay.
    """

    n_jobs: int = 1
    client: Any = None
    kept: PieceStore | None = None

    @property
    def alone(self) -> bool:
        """Whether rows may be read in one stream."""
        return self.n_jobs == 1 and self.client is None and self.kept is None

    def run(self, source: Checked, pieces: SourcePieces, plan: PassPlan[Any], stage: str, progress: bool) -> Any:
        """Sums over all pieces."""
        tasks = pieces.tasks()
        with RowsBar(stage, source.n, progress) as bar:
            if self.client is not None and self.kept is None:
                each = (source.n or 0) / len(tasks)
                frames = getattr(source.source, "futures", None)
                given = None if frames is None else frames(source.columns)
                done = on_cluster(tasks, plan, self.client, lambda: bar.advance(int(each)), given)
                pieces.finish(done.records)
                return done.partial
            tree: MergeTree[Done] = MergeTree(both)
            for one in self._each(tasks, plan):
                (number,) = one.records
                bar.advance(one.records[number].rows)
                tree.add(number, one)
            done = tree.result()
        try:
            pieces.finish(done.records)
        except DesignError as error:
            raise (error if self.kept is None else self.kept.with_hint(error)) from None
        return done.partial

    def _each(self, tasks: list[PieceTask], plan: PassPlan[Any]) -> Iterator[Done]:
        if self.kept is None:
            yield from self._summed(tasks, plan)
            return
        names = self.kept.names(tasks, plan)
        for task in tasks:
            found = self.kept.load(names[task.number])
            if found is not None:
                yield found
                names.pop(task.number)
        for one in self._summed([task for task in tasks if task.number in names], plan):
            (number,) = one.records
            # Before it is merged: sums are merged in place.
            self.kept.save(names[number], one)
            yield one

    def _summed(self, tasks: list[PieceTask], plan: PassPlan[Any]) -> Iterator[Done]:
        if self.client is not None:
            return by_cluster(tasks, plan, self.client)
        if self.n_jobs == 1 or len(tasks) < 2:
            return in_this_process(tasks, plan)
        return in_processes(tasks, plan, self.n_jobs)


def crew_of(source: Any, n_jobs: Any, client: Any, checkpoint: Any) -> Crew:
    """Who sums the rows of a source, as arguments of a model say it.

    Parameters
    ----------
    source : Source
    n_jobs : int or None
    client : dask.distributed.Client or None
        Partitions of Dask are summed by the client that is there, if none is given.
    checkpoint : path or None

    Raises
    ------
    DesignError, StorageError
    """
    jobs = check_workers(1 if n_jobs is None else n_jobs, client, DesignError)
    if hasattr(source, "futures"):
        source.client = client = client or (source.client if n_jobs is None else None)
    return Crew(jobs, client, None if checkpoint is None else PieceStore(checkpoint))


def by_cluster(tasks: list[PieceTask], plan: PassPlan[Any], client: Any) -> Iterator[Done]:
    """Sums of pieces as the cluster has done them, each brought here."""
    from distributed import as_completed

    shared = client.submit(_itself, plan, pure=False)
    futures = [client.submit(sum_piece, task, shared, pure=False) for task in tasks]
    try:
        for future in as_completed(futures, loop=client.loop):
            yield future.result()
            future.release()
    finally:
        client.cancel(futures)
