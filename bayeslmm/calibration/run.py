"""Run a calibration: replicates in order or in worker processes, progress, interruption."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Literal

import numpy as np

from bayeslmm.arguments import MOST_REFITS, MOST_WORKERS, choice, flag, instance, whole
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.prior_draws import check_proper
from bayeslmm.bayes.progress import Progress
from bayeslmm.calibration.quantities import quantity_names
from bayeslmm.calibration.replicate import Replicate, Task, products, replicates
from bayeslmm.calibration.result import Calibration
from bayeslmm.calibration.samplers import make_sampler
from bayeslmm.design.observations import need_observations
from bayeslmm.errors import ConvergenceWarning, DesignError, FitError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.parent import watch
from bayeslmm.results.sampling import generator

if TYPE_CHECKING:
    from bayeslmm.bayes.default_priors import PriorSpec
    from bayeslmm.model import Model

# Replicates whose REML fits are computed together; fixed, so that results do not depend on the workers.
_CHUNK = 20
_FEWEST_DRAWS = 30


def calibrate(
    model: Model,
    n: int = 1000,
    *,
    priors: PriorSpec = "weak",
    method: Literal["auto", "quadrature", "importance", "nuts"] = "auto",
    random_seed: int | np.random.Generator | None = None,
    draws: int = 255,
    progressbar: bool | None = None,
    n_jobs: int = 1,
) -> Calibration:
    """Check the posterior of a model by simulation from its prior (simulation-based calibration).

    Each replicate draws all parameters from the prior, simulates a response for the rows of the model, samples its
    posterior, and counts the draws below the true value. Over replicates that rank is uniform if, and in practice
    only if, prior, likelihood and sampler agree. A run of 1,000 replicates takes a minute or so; with NUTS take 50.

    Parameters
    ----------
    model : Model
        Its design is used; its response only fixes the scale of default priors, once for all replicates.
    n : int
        Replicates; a few dozen see gross errors only.
    priors : "weak", Priors or mapping
        As in `Model.sample`; proper, since there must be something to draw from.
    method : {"auto", "quadrature", "importance", "nuts"}
        As in `Model.sample`.
    random_seed : int or numpy.random.Generator, optional
        Results do not depend on `n_jobs`; replicate k is the same for every n.
    draws : int
        L, posterior draws per replicate. 255 makes the 256 possible ranks fill 16 bins evenly.
    progressbar : bool, optional
        Shown in a terminal or a notebook unless False.
    n_jobs : int
        Worker processes. A script that uses more than one needs ``if __name__ == "__main__":``.

    Returns
    -------
    Calibration
        Interrupting the run (Ctrl-C) returns what was done so far.

    Raises
    ------
    PriorError
        The prior is improper.
    DesignError
        Rows with frequencies, which are not independent observations when simulated.
    FitError
        An argument out of range; a worker process that died.

    Warns
    -----
    ConvergenceWarning
        Some replicates failed; they are listed in ``failures``.

    References
    ----------
    Talts, Betancourt, Simpson, Vehtari & Gelman (2018), arXiv:1804.06788; Modrak et al. (2025), Bayesian Analysis 20,
    461-488, for the quantities; Sailynoja, Burkner & Vehtari (2022), Statistics and Computing 32, 32, for the band.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> calibration = bl.calibrate(model, n=40, random_seed=1)
    >>> calibration.ok, calibration.n
    (True, 40)
    """
    _check(model, n, method, draws, n_jobs)
    if progressbar is not None:
        flag("progressbar", progressbar, FitError)
    resolved = resolve_priors(model.design, priors)
    check_proper(model.design, resolved)
    task = Task(model.design, resolved, make_sampler(resolved, draws, method), _entropy(random_seed), draws)
    return run(task, n, method=method, progressbar=progressbar, n_jobs=n_jobs)


def run(task: Task, n: int, *, method: str, progressbar: bool | None = False, n_jobs: int = 1) -> Calibration:
    """Run a task, which may have a sampler of its own.

    Parameters
    ----------
    task : Task
    n : int
    method : str
        Name of the sampler, for printing.
    progressbar, n_jobs
        As in `calibrate`.
    """
    began = time.perf_counter()
    chunks = [range(k, min(k + _CHUNK, n)) for k in range(0, n, _CHUNK)]
    done: list[Replicate] = []
    try:
        with Progress(progressbar is not False) as progress:
            for replicate in _parallel(task, chunks, n_jobs) if n_jobs > 1 else _serial(task, chunks):
                done.append(replicate)
                progress.report("Calibrating", len(done), n)
    except KeyboardInterrupt:
        if not done:
            raise
    done.sort(key=lambda replicate: replicate.number)
    seconds = time.perf_counter() - began
    result = Calibration(task, method, quantity_names(task.design), tuple(done), n, seconds)
    _report_failures(result)
    return result


def _check(model: Model, n: int, method: str, draws: int, n_jobs: int) -> None:
    from bayeslmm.model import Model

    instance("model", model, Model, "a bl.Model", FitError)
    whole("n", n, 1, MOST_REFITS, FitError)
    whole("draws", draws, _FEWEST_DRAWS, MOST_REFITS, FitError)
    whole("n_jobs", n_jobs, 1, MOST_WORKERS, FitError)
    choice("method", method, ("auto", "quadrature", "importance", "nuts"), FitError)
    need_observations(model.design, "bl.calibrate simulates responses")
    if model.design.frequency is not None:
        raise DesignError(
            "The rows of this model have frequencies: one simulated response per row would stand for several equal "
            "observations, which the model takes for independent ones. Write the rows out, then calibrate."
        )


def _entropy(random_seed: int | np.random.Generator | None) -> int:
    rng = generator(random_seed)
    if rng is random_seed:
        return int(rng.integers(2**63))
    entropy = rng.bit_generator.seed_seq.entropy if isinstance(random_seed, int | np.integer | None) else None  # type: ignore[attr-defined]
    return int(rng.integers(2**63)) if entropy is None else int(entropy)


def _serial(task: Task, chunks: Sequence[range]) -> Iterator[Replicate]:
    cp = products(task.design)
    for numbers in chunks:
        yield from replicates(task, cp, numbers)


def _parallel(task: Task, chunks: Sequence[range], n_jobs: int) -> Iterator[Replicate]:
    import multiprocessing

    # Not fork: threads of libraries that are loaded already would be copied in the middle of what they do.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(n_jobs, len(chunks)), context, initializer=_prepare, initargs=(task, os.getpid()))
    try:
        waiting = {pool.submit(_run_chunk, numbers): numbers for numbers in chunks}
        for future in as_completed(waiting):
            yield from _collect(future, waiting[future])
    except BaseException:
        # Stopped: what the workers are at, which may take minutes, is not waited for.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collect(future: Future[list[Replicate]], numbers: range) -> list[Replicate]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise FitError(
            f"A worker process died while replicates such as {numbers[0]} to {numbers[-1]} were running: it was killed "
            "(memory?), or the script that called calibrate has no 'if __name__ == \"__main__\":'. Use n_jobs=1 to see "
            "where."
        ) from error


# The task of a worker process and the cross-products of its design.
_worker: tuple[Task, SummedDesign | None] | None = None


def _prepare(task: Task, parent: int) -> None:
    """Set a worker process up; Ctrl-C is the business of the parent."""
    global _worker
    watch(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker = (task, products(task.design))


def _run_chunk(numbers: range) -> list[Replicate]:
    if _worker is None:
        raise RuntimeError("the worker process was not set up")
    return list(replicates(*_worker, numbers))


def _report_failures(result: Calibration) -> None:
    failures = result.failures
    if len(failures):
        shown = ", ".join(str(number) for number in failures.index[:5]) + (", ..." if len(failures) > 5 else "")
        warnings.warn(
            f"{len(failures)} of {len(result.replicates)} replicates failed ({shown}) and have no ranks. The first: "
            f"{failures['error'].iloc[0]} [seed {failures['seed'].iloc[0]}]. See calibration.failures; "
            "calibration.simulate(number) gives the response.",
            ConvergenceWarning,
            stacklevel=4,
        )
