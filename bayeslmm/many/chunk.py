"""Some responses of one design: fitted, their coefficients and variances tested, their posteriors summarised."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayeslmm.bayes.collapsed import CollapsedDraws, Diagnostics, sample_collapsed
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.boundary.zero_tests import resolve as resolve_removal
from bayeslmm.boundary.zero_tests import zero_test
from bayeslmm.calibration.coverage_run import design_key
from bayeslmm.calibration.interval_ends import errors_and_df
from bayeslmm.calibration.quantities import parameter_draws
from bayeslmm.calibration.structured_ends import StructuredFits, structured_fits
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, BayesLMMWarning
from bayeslmm.faces import REMLResult
from bayeslmm.inference.null_model import Removal
from bayeslmm.inference.rlrt import DRAWS, SEED
from bayeslmm.inference.zero_many import ManyZeroTests, many_zero_tests
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.residual_products import residual_products
from bayeslmm.many.batches import Batch
from bayeslmm.reml import optimise
from bayeslmm.reml.many import Optima, fitted_together, not_identified, optimise_many
from bayeslmm.reml.status import FitStatus
from bayeslmm.results.intervals import hdi
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.refits import Refits
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.types import BoolArray, FloatArray, IntArray

# To be raised whenever something changes what is computed.
VERSION = 1
# Responses of a task: where all are fitted together, one by one, and where posteriors are drawn.
_TOGETHER, _ALONE, _POSTERIORS = 500, 10, 20
# Numbers in the responses of a task.
_NUMBERS = 20_000_000
# Responses by which the null distribution of a test is found: the first that can be fitted.
_FIRST = 10
STATUSES = tuple(FitStatus)


@dataclass(frozen=True)
class ManySettings:
    """What is asked of every response.

    Attributes
    ----------
    reml : bool
    ddf : {"satterthwaite", "kenward-roger", "z"}
    zero : bool
        Whether the variances of random effects are tested.
    level : float
    draws : int
        Of every posterior; none if 0.
    priors : PriorSpec
    seed : int
    """

    reml: bool
    ddf: str
    zero: bool
    level: float
    draws: int
    priors: PriorSpec
    seed: int


@dataclass(frozen=True, eq=False)
class ManyPlan:
    """What the tasks of one design have in common.

    Attributes
    ----------
    design : Design
    settings : ManySettings
    first : FloatArray, shape (n, at most 10)
        The first responses of the design.
    """

    design: Design
    settings: ManySettings
    first: FloatArray

    @cached_property
    def key(self) -> str:
        """Checksum of the design, the settings and what null distributions may depend on."""
        ones = np.ones((self.design.n, 1))
        known = [] if self.design.residual.names else [of_array(self.design.whitened(ones)), str(self.design.sigma)]
        priors = repr(resolve_priors(self.design, self.settings.priors)) if self.settings.draws else ""
        asked = repr(replace(self.settings, priors=priors))
        return of_json([VERSION, design_key(self.design), *known, asked, of_array(self.first)])

    @cached_property
    def removals(self) -> tuple[tuple[Parameter, Removal], ...]:
        """The standard deviations that are tested."""
        if not self.settings.zero:
            return ()
        sds = [p for p in parameters(self.design) if p.kind == "sd"]
        return tuple((p, resolve_removal(self.design, p.label)) for p in sds)


@dataclass(frozen=True)
class ManyTask:
    """Some responses of one plan, known by its name and their checksum.

    Attributes
    ----------
    plan : ManyPlan
    start : int
        Place of the first among the responses of the plan.
    key : str
        Checksum of the plan and the responses.
    Y : FloatArray, shape (n, K)
    """

    plan: ManyPlan = field(compare=False)
    start: int
    key: str
    Y: FloatArray = field(compare=False)

    @property
    def name(self) -> str:
        """Of its file in a store."""
        return f"{self.key[:16]}-{self.start:07d}"

    @property
    def identity(self) -> list[object]:
        """What its result is of."""
        return [self.key, self.start]

    @property
    def replicates(self) -> int:
        """How many responses."""
        return int(self.Y.shape[1])


@dataclass(frozen=True)
class ManyChunk:
    """Results of K responses of a model with P parameters, p of them coefficients, and T variances that are tested.

    Attributes
    ----------
    estimates : FloatArray, shape (P, K)
    std_error, df : FloatArray, shape (p, K)
        Of the coefficients; nan where there are none, and of fits without a usable result.
    criterion : FloatArray, shape (K,)
    singular : BoolArray, shape (K,)
    status : IntArray, shape (K,)
        Place in `STATUSES`.
    p_zero : FloatArray, shape (T, K)
    posterior : FloatArray, shape (P, 4, K)
        Mean, sd and the ends of the highest-density interval; P is 0 where no posterior was asked for.
    reliable : BoolArray, shape (K,)
        Whether the checks of a posterior passed.
    """

    estimates: FloatArray
    std_error: FloatArray
    df: FloatArray
    criterion: FloatArray
    singular: BoolArray
    status: IntArray
    p_zero: FloatArray
    posterior: FloatArray
    reliable: BoolArray


def make_tasks(batch: Batch, settings: ManySettings) -> list[ManyTask]:
    """The tasks of a batch; what they give does not depend on how responses are split."""
    plan = ManyPlan(batch.design, settings, batch.Y[:, :_FIRST])
    together = not batch.design.residual.names and fitted_together(cross_products(batch.design))
    most = _POSTERIORS if settings.draws else _TOGETHER if together else _ALONE
    step = max(1, min(most, _NUMBERS // batch.design.n))
    pieces = [(k, np.ascontiguousarray(batch.Y[:, k : k + step])) for k in range(0, batch.Y.shape[1], step)]
    return [ManyTask(plan, k, of_json([plan.key, of_array(Y)]), Y) for k, Y in pieces]


def check_chunk(task: ManyTask, chunk: ManyChunk) -> None:
    """Refuse what no chunk of this task can be.

    Raises
    ------
    ValueError
    """
    K, p, P = task.replicates, task.plan.design.p, len(parameters(task.plan.design))
    posterior = (P if task.plan.settings.draws else 0, 4, K)
    shapes = [(P, K), (p, K), (p, K), (K,), (K,), (K,), (len(task.plan.removals), K), posterior, (K,)]
    if [array.shape for array in vars(chunk).values()] != shapes:
        raise ValueError(f"it has shapes {[array.shape for array in vars(chunk).values()]}, not {shapes}")
    if not ((chunk.status >= 0) & (chunk.status < len(STATUSES))).all():
        raise ValueError("it has a status that does not exist")


def run_task(task: ManyTask) -> ManyChunk:
    """Everything that is asked of the responses of a task."""
    plan, Y = task.plan, task.Y
    with warnings.catch_warnings():
        # What a single fit warns of is in its status.
        warnings.simplefilter("ignore", BayesLMMWarning)
        if plan.design.residual.names or not plan.design.terms:
            fits = structured_fits(plan.design, Y, plan.settings.reml)
            optima, own = fits.optima, _one_by_one(plan, fits)
        else:
            ready = _prepared(plan)
            optima = optimise_many(ready.cp, Y, plan.settings.reml)
            optima = not_identified(optima) if ready.ridge else optima
            own = _together(plan, ready.cp, Y, optima)
        posterior, reliable = _posteriors(task, optima)
    estimates = Refits(plan.design, plan.settings.reml, optima).estimates().to_numpy(dtype=float).T
    status = np.array([STATUSES.index(status) for status in optima.status], dtype=np.int64)
    usable = np.array([status.ok for status in optima.status])
    for array in own:
        array[:, ~usable] = np.nan
    return ManyChunk(
        np.ascontiguousarray(estimates),
        *own[:2],
        optima.criterion,
        optima.singular,
        status,
        own[2],
        posterior,
        reliable,
    )


@dataclass(frozen=True)
class _Prepared:
    """What the tasks of a plan share.

    Attributes
    ----------
    cp : SummedDesign
    tests : list of ManyZeroTests or None
        None for a variance whose test has no null distribution.
    ridge : bool
        Whether the design cannot tell the variances apart, whatever the response is.
    """

    cp: SummedDesign
    tests: list[ManyZeroTests | None]
    ridge: bool


# Of the plan that this process was last at work on.
_ready: dict[str, _Prepared] = {}


def _prepared(plan: ManyPlan) -> _Prepared:
    if plan.key not in _ready:
        _ready.clear()
        cp = cross_products(plan.design)
        tests = [_zero_test(plan, cp, removal) for _, removal in plan.removals]
        first = optimise(
            cross_products(replace(plan.design, y=np.ascontiguousarray(plan.first[:, 0]))), plan.settings.reml
        )
        _ready[plan.key] = _Prepared(cp, tests, bool(first.ridges))
    return _ready[plan.key]


def _zero_test(plan: ManyPlan, cp: SummedDesign, removal: Removal) -> ManyZeroTests | None:
    try:
        return many_zero_tests(cp, plan.first, removal, plan.settings.reml)
    except BayesLMMError:
        return None


def _together(
    plan: ManyPlan, cp: SummedDesign, Y: FloatArray, optima: Optima
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standard errors (p, K), degrees of freedom (p, K) and p values of zero variances (T, K)."""
    error, df = errors_and_df(plan.settings.ddf, cp, Y, optima, plan.settings.reml)
    none = np.full(Y.shape[1], np.nan)
    p_zero = [none if test is None else test.p_values(Y, optima) for test in _prepared(plan).tests]
    return error.T.copy(), df.T.copy(), np.array(p_zero).reshape(-1, Y.shape[1])


def _one_by_one(plan: ManyPlan, fits: StructuredFits) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The same where each response is fitted by itself."""
    p, K = plan.design.p, len(fits.fits)
    error, df = np.full((p, K), np.nan), np.full((p, K), np.nan)
    for k, fit in enumerate(fits.fits):
        if fit is not None:
            try:
                table = fit.coefficients(plan.settings.ddf)  # type: ignore[arg-type]
            except (BayesLMMError, np.linalg.LinAlgError):
                continue
            error[:, k], df[:, k] = table["std_error"], table["df"]

    def p_value(fit: REMLResult, removal: Removal) -> float:
        return zero_test(fit, removal, "chi-bar-square", DRAWS, SEED, 0).p_value

    p_zero = [fits.numbers(lambda fit, r=removal: p_value(fit, r)) for _, removal in plan.removals]  # type: ignore[misc]
    return error, df, np.array(p_zero).reshape(-1, K)


def _posteriors(task: ManyTask, optima: Optima) -> tuple[FloatArray, BoolArray]:
    """Summaries (P, 4, K) of posteriors, and whether their checks passed; nan for one that cannot be sampled."""
    plan, K = task.plan, task.replicates
    known = parameters(plan.design) if plan.settings.draws else ()
    out, reliable = np.full((len(known), 4, K), np.nan), np.zeros(K, dtype=bool)
    lams = np.empty((K, 0)) if optima.lam is None else optima.lam
    for k in range(K) if known else ():
        design = replace(plan.design, y=np.ascontiguousarray(task.Y[:, k]))
        rng = np.random.default_rng(np.random.SeedSequence(plan.settings.seed, spawn_key=(task.start + k,)))
        try:
            cp = residual_products(design, lams[k]) if design.residual.names else cross_products(design)
            priors, keep = resolve_priors(design, plan.settings.priors), [False] * len(cp.blocks)
            terms = [T[k] for T in optima.terms]
            drawn = sample_collapsed(cp, priors, terms, draws=plan.settings.draws, rng=rng, keep=keep)
        except (BayesLMMError, np.linalg.LinAlgError):
            continue
        reliable[k] = isinstance(drawn.diagnostics, Diagnostics) and drawn.diagnostics.reliable
        out[:, :, k] = [_summary(design, drawn, p, plan.settings.level) for p in known]
    return out, reliable


def _summary(design: Design, drawn: CollapsedDraws, p: Parameter, level: float) -> tuple[float, float, float, float]:
    """Mean and sd, without Monte Carlo error where there is a grid, and highest-density interval."""
    values = parameter_draws(design, drawn, p)
    exact = None if drawn.exact is None else drawn.exact.of(p.kind, p.position, p.effects)
    mean, sd = (float(values.mean()), float(values.std(ddof=1))) if exact is None else exact
    return mean, sd, *hdi(values, level, p.kind)
