"""Some responses of one cell of a power study: simulated, fitted, tested."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from bayeslmm.boundary.zero_tests import zero_test
from bayeslmm.calibration.coverage_chunk import (
    CoverageChunk,
    CoveragePlan,
    CoverageTask,
    make_chunk,
    make_tasks,
    prepared,
)
from bayeslmm.calibration.structured_ends import structured_fits
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, BayesLMMWarning
from bayeslmm.inference.null_model import Removal
from bayeslmm.inference.rlrt import DRAWS, SEED
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.inference.zero_many import ManyZeroTests, many_zero_tests
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.planning.cells import PowerCell
from bayeslmm.reml import optimise
from bayeslmm.reml.many import optimise_many
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_coefficients import test_fixed as fixed_test
from bayeslmm.results.labels import parameters
from bayeslmm.results.linear import DDF
from bayeslmm.storage.checksum import of_json
from bayeslmm.types import FloatArray

# To be raised whenever something changes what is computed.
VERSION = 1
# Digits of the checksum of a cell that name its files and choose its seed.
_DIGITS = 12
# A block of responses that belongs to no task, and how many are in it.
_BESIDE, _FEW = 2**31, 10


@dataclass(frozen=True, eq=False)
class PowerPlan:
    """What all tasks of a cell have in common.

    Attributes
    ----------
    cell : PowerCell
    intervals : CoveragePlan
        The design and the truth of the cell, and the intervals whose place beside zero is the test.
    removals : tuple of Removal
        Variances that are tested.
    joint : tuple of tuple of int
        Coefficients of terms that are tested jointly.
    ddf : {"satterthwaite", "kenward-roger", "z"}
    study : dict
        What all cells share, as JSON can hold it.
    """

    cell: PowerCell
    intervals: CoveragePlan
    removals: tuple[Removal, ...]
    joint: tuple[tuple[int, ...], ...]
    ddf: DDF
    study: dict[str, object]

    @cached_property
    def key(self) -> str:
        """Checksum of the cell."""
        truth = self.intervals.truth
        kinds = [f"{p.label} {kind}" for p, kind in self.intervals.asked.rows]
        tests = [[r.term, *r.removed] for r in self.removals]
        values = {label: f"{value:.9g}" for label, value in {**truth.values, **self.cell.spread}.items()}
        content = [self.cell.groups, self.cell.replicates, values, sorted(self.cell.spread), kinds, tests]
        return of_json([*content, list(map(list, self.joint)), self.intervals.key])

    @cached_property
    def spread(self) -> FloatArray:
        """Sds (p,) of the distributions of the fixed effects."""
        return np.array([self.cell.spread.get(name, 0.0) for name in self.intervals.design.fixed_names])

    @cached_property
    def seed(self) -> tuple[int, ...]:
        """Of the sizes and true values alone: the same responses whatever is asked of them."""
        truth = {label: f"{value:.9g}" for label, value in self.intervals.truth.values.items()}
        text = of_json([self.cell.groups, self.cell.replicates, truth, self.cell.spread])
        return self.intervals.seed, int(text[:_DIGITS], 16)


@dataclass(frozen=True)
class PowerTask(CoverageTask):
    """Some responses of a cell; known by the key of the cell and its numbers."""

    power: PowerPlan = field(compare=False)
    key: str

    @property
    def name(self) -> str:
        return f"{self.key[:_DIGITS]}-{super().name}"

    @property
    def identity(self) -> list[object]:
        return [of_json(self.power.study), self.key, self.block, self.size, self.start, self.replicates]

    def responses(self) -> FloatArray:
        """Simulated responses (n, replicates)."""
        truth, design = self.plan.truth, self.plan.design
        seed, cell = self.power.seed
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(cell, self.block)))
        Y = simulate_responses(design, truth.terms, truth.sigma, truth.beta, self.size, rng, truth.lam)
        if self.power.spread.any():
            Y += design.X @ (self.power.spread[:, None] * rng.standard_normal((design.p, self.size)))
        return Y[:, self.start : self.start + self.replicates]


@dataclass(frozen=True)
class PowerChunk(CoverageChunk):
    """Intervals and estimates of K responses, and p values of T tests.

    Attributes
    ----------
    p_values : FloatArray, shape (T, K)
        Of the variances, then of the joint tests; nan where there is none.
    """

    p_values: FloatArray


def power_tasks(plan: PowerPlan, cp: SummedDesign, replicates: int) -> list[PowerTask]:
    """The tasks of a cell."""
    tasks = make_tasks(plan.intervals, cp, replicates)
    return [PowerTask(t.plan, t.block, t.size, t.start, t.replicates, plan, plan.key) for t in tasks]


def run_power(task: PowerTask) -> PowerChunk:
    """Simulate the responses of a task, fit them, and test what is to be tested."""
    plan, Y = task.power, task.responses()
    if task.plan.design.residual.names:
        return _run_structured(task, Y)
    cp, reml = prepared(task.plan), task.plan.reml
    with warnings.catch_warnings():
        # What a single fit warns of is counted here.
        warnings.simplefilter("ignore", BayesLMMWarning)
        optima = optimise_many(cp, Y, reml)
        found = make_chunk(task, Y, optima)
        tests = _tests(plan, cp)
        p_values = [np.full(Y.shape[1], np.nan) if test is None else test.p_values(Y, optima) for test in tests]
        p_values += list(_joint(cp, Y, plan.joint, plan.ddf, reml))
    return PowerChunk(**vars(found), p_values=np.array(p_values).reshape(-1, Y.shape[1]))


def _run_structured(task: PowerTask, Y: FloatArray) -> PowerChunk:
    """The same where residuals have parameters: response by response, by what a single fit has."""
    plan = task.power
    fits = structured_fits(task.plan.design, Y, task.plan.reml)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesLMMWarning)
        found = make_chunk(task, Y, fits.optima, fits)
        p_values = [fits.numbers(partial(_zero, removal=removal)) for removal in plan.removals]
        p_values += [fits.numbers(partial(_f_test, columns=columns, ddf=plan.ddf)) for columns in plan.joint]
    return PowerChunk(**vars(found), p_values=np.array(p_values).reshape(-1, Y.shape[1]))


def _zero(fit: Fit, removal: Removal) -> float:
    return zero_test(fit, removal, "chi-bar-square", DRAWS, SEED, 0).p_value


def _f_test(fit: Fit, columns: tuple[int, ...], ddf: DDF) -> float:
    return float(fixed_test(fit, np.eye(fit.design.p)[list(columns)], ddf)["p_value"])


# Of the cell that this process was last at work on.
_ready: dict[str, list[ManyZeroTests | None]] = {}


def _tests(plan: PowerPlan, cp: SummedDesign) -> list[ManyZeroTests | None]:
    """The tests of the variances of a cell; None for one that has no null distribution."""
    if plan.key not in _ready:
        _ready.clear()
        _ready[plan.key] = [_variance_test(plan, cp, removal) for removal in plan.removals]
    return _ready[plan.key]


def _variance_test(plan: PowerPlan, cp: SummedDesign, removal: Removal) -> ManyZeroTests | None:
    """One test; what it depends on comes from responses of its own, so that all tasks have the same."""
    truth, (seed, cell) = plan.intervals.truth, plan.seed
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(cell, _BESIDE)))
    Y = simulate_responses(plan.intervals.design, truth.terms, truth.sigma, truth.beta, _FEW, rng)
    try:
        return many_zero_tests(cp, Y, removal, plan.intervals.reml)
    except BayesLMMError:
        return None


def _joint(cp: SummedDesign, Y: FloatArray, joint: Sequence[tuple[int, ...]], ddf: DDF, reml: bool) -> FloatArray:
    """P values (T, K) of F tests, response by response."""
    out = np.full((len(joint), Y.shape[1]), np.nan)
    for k in range(Y.shape[1]) if joint else ():
        own = cross_products(replace(cp.design, y=Y[:, k]))
        fit = Fit(own.design, own, optimise(own, reml))
        for j, columns in enumerate(joint):
            try:
                out[j, k] = _f_test(fit, columns, ddf)
            except BayesLMMError:
                continue
    return out


def tested_sd(design: Design, removal: Removal) -> str | None:
    """The label of the standard deviation that is tested; None where it is a term with several."""
    own = [
        p.label
        for p in parameters(design)
        if p.kind == "sd" and p.position == removal.term and set(p.effects) & {*removal.removed}
    ]
    return own[0] if len(own) == 1 else None


def check_power(task: PowerTask, chunk: PowerChunk) -> None:
    """Refuse what no chunk of this task can be.

    Raises
    ------
    ValueError
    """
    K, plan = task.replicates, task.power
    rows, known = len(task.plan.asked.rows), len(parameters(task.plan.design))
    tests = len(plan.removals) + len(plan.joint)
    shapes = [(rows, K), (rows, K), (known, K), (K,), (K,), (tests, K)]
    if [array.shape for array in vars(chunk).values()] != shapes:
        raise ValueError(f"it has shapes {[array.shape for array in vars(chunk).values()]}, not {shapes}")
