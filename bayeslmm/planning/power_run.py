"""Power, precision and assurance of a study, by simulation."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from bayeslmm.arguments import MOST_REFITS, choice, flag, instance, labels, level, whole
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.progress import interactive
from bayeslmm.boundary.zero_tests import resolve as resolve_removal
from bayeslmm.calibration.coverage_chunk import CoveragePlan
from bayeslmm.calibration.coverage_kinds import Kinds, choose_rows
from bayeslmm.calibration.coverage_run import design_key, sums_of
from bayeslmm.calibration.kept_tasks import open_store, run_tasks
from bayeslmm.calibration.workers import check_workers
from bayeslmm.design.design import Design
from bayeslmm.design.lookup import positions, term_positions
from bayeslmm.design.observations import need_observations
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces.fit import REMLResult
from bayeslmm.habits import POWER_ARGUMENTS, no_argument
from bayeslmm.inference.null_model import Removal
from bayeslmm.inference.simulation import check_rows
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.model import Model
from bayeslmm.planning.cells import PowerCell, make_cells
from bayeslmm.planning.chunk import VERSION, PowerChunk, PowerPlan, check_power, power_tasks, run_power, tested_sd
from bayeslmm.planning.plan import Plan
from bayeslmm.planning.result import PowerStudy, summarise
from bayeslmm.residual import refuse_regression
from bayeslmm.results.labels import parameters as parameters_of
from bayeslmm.results.truth import Truth, truth_of_values
from bayeslmm.simulating import truth_for

type PowerDDF = Literal["satterthwaite", "kenward-roger", "z"]

_KINDS = {"satterthwaite": "satterthwaite", "kenward-roger": "kenward-roger", "z": "wald"}


def power(
    study: Model | REMLResult | Plan,
    effects: Mapping[str, Any] | None = None,
    sds: Mapping[str, Any] | None = None,
    *,
    corrs: Any = None,
    sigma: float | None = None,
    residual: Mapping[str, Any] | None = None,
    groups: Any = None,
    replicates: Any = None,
    total: Any = None,
    parameters: str | Sequence[str] | None = None,
    n: int = 1000,
    alpha: float = 0.05,
    ddf: PowerDDF = "satterthwaite",
    reml: bool | None = None,
    sd_widths: bool = False,
    hdi: int = 0,
    priors: PriorSpec = None,
    random_seed: int = 1,
    n_jobs: int = 1,
    client: Any = None,
    store: str | os.PathLike[str] | None = None,
    progressbar: bool | None = None,
    **unknown: Any,
) -> PowerStudy:
    """How often a study would find its effects and its variances, by simulation.

    For every combination of the values given in lists, responses are simulated, the model is fitted to each, and fixed
    effects and variances are tested. Singular fits and fits that did not converge count like all others.

    Parameters
    ----------
    study : Model, REMLResult or Plan
        A pilot study, or (`Plan`) the rows of one that has no responses yet.
    effects : mapping, optional
        Fixed effects by name: a number; a list of numbers that are tried in turn; or a distribution,
        ``bl.Normal(3, 1)`` or ``(3, 1)`` for mean and sd, from which every response has its own effect: the power
        averaged over it is the assurance (O'Hagan, Stevens & Campbell 2005). What is not named is as estimated.
    sds : mapping, optional
        Standard deviations of random effects, with or without ``sd_``: a number, or a list that is tried in turn. The
        name of a grouping factor with several takes all of them, ``{"Subject": [25, 6]}``.
    corrs : mapping or number, optional
        Correlations; 0 for a `Plan`.
    sigma : float, optional
        Residual standard deviation.
    residual : mapping, optional
        Parameters of the residual structure, with or without ``residual_``: a number, or a list that is tried in turn,
        ``{"rho": [0.3, 0.6]}``.
    groups : int, list of int, or mapping of grouping factor to these, optional
        Numbers of levels. Levels are copied with all their rows; treatments keep their shares, nested factors are
        copied with the one that they lie in, crossed factors stay.
    replicates : int or list of int, optional
        Rows for every combination of levels of all grouping factors, evenly spaced over those there are, or these
        several times.
    total : int or list of int, optional
        Rows of the whole study in place of `replicates`: how to split a given number among groups and replicates.
    parameters : str or sequence of str, optional
        What is tested: fixed effects; terms of several coefficients (``"Machine"``, by a joint F test, which takes
        longer); standard deviations. By default all fixed effects but the intercept, and all standard deviations.
    n : int
        Responses for each combination.
    alpha : float
        Level of the tests, two-sided for coefficients; intervals have level ``1 - alpha``.
    ddf : {"satterthwaite", "kenward-roger", "z"}
        Degrees of freedom of the tests and intervals of fixed effects, as in `REMLResult.coefficients`.
    reml : bool, optional
        Criterion of the fits; by default that of a fit that was given, else REML.
    sd_widths : bool
        Whether to find the widths of the profile intervals of standard deviations, too, which takes longer.
    hdi : int
        Of how many responses for each combination the posterior is sampled: the share of highest-density intervals that
        exclude zero. Some take 50 milliseconds each, so the default is none.
    priors : None, str, Priors or mapping
        Of these posteriors, as in `Model.sample`.
    random_seed : int
        Results depend on it, the combination and the number of the response only.
    n_jobs : int
        Worker processes (joblib); -1 for one per core.
    client : dask.distributed.Client, optional
        Run on its cluster instead.
    store : path, optional
        Folder in which finished tasks are kept. A run that was killed continues from there to the same table, and more
        responses or further combinations can be added.
    progressbar : bool, optional
        By default in a terminal or a notebook.

    Returns
    -------
    PowerStudy
        ``.table`` has one row for each combination and test; ``.plot()`` draws the power curve. Interrupting the run
        (Ctrl-C) returns what was done so far.

    Raises
    ------
    DesignError
        An unknown label, values that are no covariance, a study too small for its fixed effects, a test that the design
        does not have.
    FitError
        An argument out of range.
    StorageError
        The store holds another study, or cannot be written to.

    Notes
    -----
    Variances are tested by the restricted likelihood ratio: one variance in its exact null distribution (Crainiceanu &
    Ruppert 2004), beside others as if these were known (Greven et al. 2008), correlated effects in the mixture of
    chi-square distributions of large samples (Stram & Lee 1994). In a study of variances this is what R's pamm
    tabulates (Martin, Nussey, Wilson & Reale 2011): numbers of groups and replicates (``groups=``, ``replicates=``),
    sizes of the variances (lists in ``sds=``), and splits of a total (``total=``).

    Where residuals have parameters, these are estimated with every response, one after the other, about 20 to 100
    milliseconds each, and a variance is tested in the mixture of chi-square distributions of large samples.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> pilot = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    >>> found = bl.power(pilot, {"Days": 5}, groups=[10, 20], parameters="Days", n=200, progressbar=False)
    >>> found.table[["groups", "rows", "power", "singular"]].round(2)
       groups  rows  power  singular
    0      10   100   0.53      0.10
    1      20   200   0.90      0.02
    """
    no_argument("bl.power", power, unknown, POWER_ARGUMENTS, FitError)
    began = time.perf_counter()
    design, reml = _subject(study, reml)
    n, seed = whole("n", n, 1, MOST_REFITS, FitError), whole("random_seed", random_seed, 0, error=FitError)
    posteriors = whole("hdi", hdi, 0, n, FitError)
    alpha, n_jobs = level("alpha", alpha, FitError), check_workers(n_jobs, client)
    show = interactive() if progressbar is None else flag("progressbar", progressbar, FitError)
    widths = flag("sd_widths", sd_widths, FitError)
    choice("ddf", ddf, tuple(_KINDS), DesignError)
    resolved = resolve_priors(design, priors)
    cells = make_cells(design, groups, replicates, total, effects, sds, corrs, sigma, residual)
    tested = _tested(design, parameters)
    shared = {
        "version": VERSION, "study": "power of a design", "formula": design.formula, "data": design_key(design)[:16],
        "alpha": alpha, "ddf": ddf, "criterion": "REML" if reml else "ML", "seed": seed,
        "priors": repr(resolved) if posteriors else None,
    }  # fmt: skip
    kept = open_store(store, {**shared, "priors": None})
    plans, tasks = [], []
    for cell in cells:
        own = _Cell(study, design, cell, tested, 1.0 - alpha, ddf, reml, seed, priors, shared)
        pair = [(own.likelihood(widths), n), *([(own.posterior(), posteriors)] if posteriors else [])]
        plans += [plan for plan, _ in pair]
        tasks += [task for plan, count in pair for task in power_tasks(plan, own.cp, count)]
    done = run_tasks(
        run_power, tasks, kept, (PowerChunk, check_power), n_jobs=n_jobs, client=client, show=show, stage="Power"
    )
    return summarise(plans, done, n, alpha, time.perf_counter() - began)


class _Cell:
    """The plans of one cell."""

    def __init__(
        self,
        study: Any,
        design: Design,
        cell: PowerCell,
        tested: tuple[list[str], list[tuple[int, ...]], list[Removal]],
        interval: float,
        ddf: PowerDDF,
        reml: bool,
        seed: int,
        priors: PriorSpec,
        shared: dict[str, object],
    ) -> None:
        self.cell, self.tested, self.ddf, self.shared = cell, tested, ddf, shared
        self.truth = _truth(study, design, cell)
        self.design = cell.design(design)
        self.cp: SummedDesign = sums_of(self.design, lambda: cross_products(self.design))
        empty = Kinds((), ())
        self.intervals = CoveragePlan(
            self.design, self.truth, empty, interval, reml, seed, priors, design_key(self.design)
        )

    def likelihood(self, widths: bool) -> PowerPlan:
        fixed, joint, removals = self.tested
        rows: tuple[Any, ...] = ()
        if fixed:
            rows = choose_rows(self.cp, self.truth, (_KINDS[self.ddf],), fixed, self.intervals.reml).rows
        sds = [label for removal in removals if (label := tested_sd(self.design, removal)) is not None]
        if widths and sds:
            rows += choose_rows(self.cp, self.truth, ("profile",), sds, self.intervals.reml).rows
        intervals = replace(self.intervals, asked=Kinds(rows, ()))
        return PowerPlan(self.cell, intervals, tuple(removals), tuple(joint), self.ddf, self.shared)

    def posterior(self) -> PowerPlan:
        fixed, _, _ = self.tested
        if not fixed:
            raise DesignError("hdi= is about fixed effects, and parameters= names none.")
        kinds = choose_rows(self.cp, self.truth, ("hdi",), fixed, self.intervals.reml)
        return PowerPlan(self.cell, replace(self.intervals, asked=kinds), (), (), self.ddf, self.shared)


def _subject(study: Any, reml: Any) -> tuple[Design, bool]:
    """The design and the criterion.

    Raises
    ------
    DesignError, FitError
    """
    instance("study", study, (Model, REMLResult, Plan), "a bl.Model, a fit or a bl.Plan", FitError)
    if reml is not None:
        flag("reml", reml, FitError)
    check_rows(study.design)
    need_observations(study.design, "bl.power simulates responses")
    refuse_regression(study.design.residual, "bl.power")
    if isinstance(study, REMLResult) and (study.restraint is not None or study.optimum.fixed):
        raise DesignError(
            "study is a fit with a penalty or with covariance parameters that were held, and simulated responses would "
            "be fitted without. Give the model, and the values to simulate from in effects= and sds=."
        )
    own = study.reml if isinstance(study, REMLResult) else True
    return study.design, own if reml is None else reml


def _truth(study: Any, design: Design, cell: PowerCell) -> Truth:
    if isinstance(study, REMLResult):
        return truth_of_values(design, cell.stated, lambda _: study.estimates(), lambda: study.optimum.lam)
    return truth_for(study, cell.stated)


def _tested(design: Design, asked: Any) -> tuple[list[str], list[tuple[int, ...]], list[Removal]]:
    """Coefficients, coefficients of terms, and variances.

    Raises
    ------
    DesignError
    """
    names = list(design.fixed_names)
    sds = [p.label for p in parameters_of(design) if p.kind == "sd"]
    if asked is None:
        fixed = [name for name in names if name != "Intercept"] or names
        return fixed, [], [resolve_removal(design, label) for label in sds]
    fixed, joint, removals = list[str](), list[tuple[int, ...]](), list[Removal]()
    for name in labels("parameters", asked, error=DesignError):
        own = positions(name, names) or term_positions(name, names)
        if len(own) == 1:
            fixed.append(names[own[0]])
        elif own:
            joint.append(tuple(own))
        else:
            removals.append(resolve_removal(design, _with_prefix(name, sds)))
    if not (fixed or joint or removals):
        raise DesignError("parameters=[] names nothing to test.")
    return list(dict.fromkeys(fixed)), list(dict.fromkeys(joint)), list(dict.fromkeys(removals))


def _with_prefix(name: str, sds: Sequence[str]) -> str:
    return f"sd_{name}" if f"sd_{name}" in sds else name
