"""How often intervals hold the truth in a design of one's own: simulate, refit, count."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bayeslmm.arguments import MOST_REFITS, flag, instance, whole
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.progress import interactive
from bayeslmm.calibration.coverage_chunk import CoverageChunk, CoveragePlan, CoverageTask, make_tasks, run_chunk
from bayeslmm.calibration.coverage_kinds import choose_rows, read_kinds
from bayeslmm.calibration.coverage_result import Coverage, summarise
from bayeslmm.calibration.kept_tasks import open_store, run_tasks
from bayeslmm.calibration.workers import check_workers
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces.fit import REMLResult
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.whitened import rows_to_whiten
from bayeslmm.model import Model
from bayeslmm.residual import estimable, refuse_regression
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.results.intervals import check_level
from bayeslmm.results.labels import parameters as parameters_of
from bayeslmm.results.truth import resolve_truth
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.types import AnyArray


def coverage(
    model: Model | REMLResult,
    truth: REMLResult | Mapping[str, Any] | None = None,
    replicates: int = 1000,
    *,
    intervals: str | Sequence[str] | None = None,
    level: float = 0.95,
    parameters: str | Sequence[str] | None = None,
    reml: bool | None = None,
    priors: PriorSpec = None,
    random_seed: int = 1,
    n_jobs: int = 1,
    client: Any = None,
    store: str | os.PathLike[str] | None = None,
    progressbar: bool | None = None,
) -> Coverage:
    """How often each kind of interval holds the true parameters of a design, by simulation.

    Responses for the rows of the model are simulated from the truth, the model is fitted to each, and every interval
    is held against the value that its response came from. Singular fits and fits that did not converge count like all
    others, and a response for which a method has no interval is a miss.

    Parameters
    ----------
    model : Model or REMLResult
        Its design is what is studied.
    truth : REMLResult or mapping, optional
        What is simulated from: by default the estimates of the model; a mapping (or Series) of labels to values, such
        as ``{"sd_g[Intercept]": 0.5, "sigma": 1.0}``, with ``"beta"`` and ``"theta"`` for arrays of all coefficients
        and of all relative covariance parameters. What it leaves out is estimated.
    replicates : int
    intervals : sequence of str, optional
        Some of ``"wald"``, ``"profile"``, ``"pivot"`` (as `REMLResult.confint` makes them; the pivot is for
        ``ratio_g[x]`` and ``icc_g[x]``), ``"satterthwaite"``, ``"kenward-roger"`` (as `REMLResult.coefficients`, for
        fixed effects), ``"hdi"``, ``"equal-tailed"`` (of posteriors, which take longest). By default all but those
        of posteriors that the design has.
    level : float
    parameters : str or sequence of str, optional
        Labels, as in `REMLResult.confint`; by default all.
    reml : bool, optional
        Criterion of the fits; by default that of a fit that was given, else REML.
    priors : None, str, Priors or mapping
        Of posteriors, as in `Model.sample`; default scales are those of each response.
    random_seed : int
        Results depend on it, the design and the number of the replicate only: neither on `n_jobs` nor the cluster.
    n_jobs : int
        Worker processes (joblib); -1 for one per core. Worth it where a run takes longer than some seconds.
    client : dask.distributed.Client, optional
        Run on its cluster instead.
    store : path, optional
        Folder in which finished chunks are kept. A run that was killed continues from there, to the same table; more
        replicates can be added. A folder of another model, truth or setting is refused.
    progressbar : bool, optional
        By default in a terminal or a notebook.

    Returns
    -------
    Coverage
        ``.table`` has one row for every parameter and method; ``.plot()`` draws it. Interrupting the run (Ctrl-C)
        returns what was done so far.

    Raises
    ------
    DesignError
        An unknown label, level or kind of interval; a kind that has none for these parameters; a truth that is no
        covariance; rows with frequencies; a fit with a penalty or with parameters held.
    FitError
        An argument out of range.
    StorageError
        The store holds a study with other settings, or cannot be written to.

    Notes
    -----
    Where residuals have parameters, responses are fitted one after the other, about 20 to 100 milliseconds each, and
    profile intervals take some seconds for each: name others in `intervals`, or use `n_jobs`.

    An exact interval of a ratio that is empty (`confint` shows 0 to 0: the data vary less between groups than noise
    would) is none, and a miss, also of a true zero; only so its coverage is the level.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> found = bl.coverage(model, {"sd_Batch": 20.0}, 200, intervals=["wald", "kenward-roger"], parameters="Intercept")
    >>> found.table[["method", "truth", "coverage"]].round(3)
              method   truth  coverage
    0           wald  1527.5     0.905
    1  kenward-roger  1527.5     0.950
    """
    began = time.perf_counter()
    design, cp, reml = _subject(model, reml)
    replicates = whole("replicates", replicates, 1, MOST_REFITS, FitError)
    seed = whole("random_seed", random_seed, 0, error=FitError)
    n_jobs, level = check_workers(n_jobs, client), float(check_level(level))
    show = interactive() if progressbar is None else flag("progressbar", progressbar, FitError)
    kinds = read_kinds(intervals)
    resolve_priors(design, priors)
    true = resolve_truth(design, truth, lambda: _fit(model, reml))
    plan = CoveragePlan(
        design, true, choose_rows(cp, true, kinds, parameters, reml), level, reml, seed, priors, design_key(design)
    )
    kept = open_store(store, plan.settings)
    tasks = make_tasks(plan, cp, replicates)
    done = run_tasks(run_chunk, tasks, kept, (CoverageChunk, _check_chunk), n_jobs=n_jobs, client=client, show=show)
    return summarise(plan, list(done.values()), replicates, time.perf_counter() - began)


def _subject(model: Any, reml: Any) -> tuple[Design, SummedDesign, bool]:
    """The design, its sums, and the criterion.

    Raises
    ------
    DesignError, FitError
    """
    instance("model", model, (Model, REMLResult), "a bl.Model or a fit", FitError)
    if reml is not None:
        flag("reml", reml, FitError)
    design: Design = model.design
    refuse_regression(design.residual, "bl.coverage")
    if design.frequency is not None and design.cells is None:
        raise DesignError(
            "The rows of this model have frequencies: one simulated response per row would stand for several equal "
            "observations, which the model takes for independent ones. Write the rows out."
        )
    if isinstance(model, Model):
        return design, sums_of(design, lambda: model.cross_products), reml is not False
    if model.restraint is not None or model.optimum.fixed:
        what = model.restraint or "covariance parameters that were held"
        raise DesignError(
            f"model is a fit with {what}, and the responses would be fitted without. Give the model, and this fit as "
            "truth= if its estimates are to be simulated from."
        )
    cp = sums_of(design, lambda: model.cp)
    return design, cp, model.optimum.reml if reml is None else reml


def _fit(model: Model | REMLResult, reml: bool) -> REMLResult:
    """The fit whose estimates are the truth, where none is given."""
    if isinstance(model, REMLResult):
        return model
    return model.fit(reml)


def sums_of(design: Design, plain: Callable[[], SummedDesign]) -> SummedDesign:
    """What kinds of intervals are chosen by: where residuals have parameters, of rows that no fit has whitened."""
    return rows_to_whiten(design) if design.residual.names else plain()


def design_key(design: Design) -> str:
    """Checksum of the rows of a design, but for its response."""
    arrays: list[AnyArray] = [design.X, *(term.Z for term in design.terms)]
    arrays += [grouping.codes for grouping in design.groupings.values()]
    arrays += [a for a in (design.weights, design.offset) if a is not None]
    structures = [repr(term.structure) for term in design.terms]
    residual = design.residual
    if residual.names:
        structures.append(estimable(residual).expression)
        arrays += [residual.data()[name] for name in sorted(residual.data())]
    if isinstance(residual, CorrelatedRows):
        arrays += [residual.clusters, residual.at]
    return of_json([design.formula, *structures, *map(of_array, arrays)])


def _check_chunk(task: CoverageTask, chunk: CoverageChunk) -> None:
    """Refuse what no chunk of this task can be.

    Raises
    ------
    ValueError
    """
    K = task.replicates
    rows, known = len(task.plan.asked.rows), len(parameters_of(task.plan.design))
    shapes = [(rows, K), (rows, K), (known, K), (K,), (K,)]
    if [array.shape for array in vars(chunk).values()] != shapes:
        raise ValueError(f"it has shapes {[array.shape for array in vars(chunk).values()]}, not {shapes}")
