"""Some replicates of a user's design: responses from the truth, refits, and the intervals of each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.calibration.coverage_kinds import DERIVED, POSTERIOR, Kinds
from bayeslmm.calibration.interval_ends import Ends, coefficient_ends, pivot_many
from bayeslmm.calibration.quantities import parameter_draws
from bayeslmm.calibration.structured_ends import StructuredFits, structured_fits
from bayeslmm.design.design import Design
from bayeslmm.errors import BayesLMMError, BayesLMMWarning
from bayeslmm.inference.profile import profile_ends_many
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.inference.spectral import spectrum
from bayeslmm.inference.wald import wald_ends_many
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.residual_products import residual_products
from bayeslmm.reml.many import Optima, fitted_together, optimise_many
from bayeslmm.results.intervals import hdi
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.profiles import share, target_of
from bayeslmm.results.refits import Refits
from bayeslmm.results.truth import Truth
from bayeslmm.storage.checksum import of_json
from bayeslmm.types import BoolArray, FloatArray

# To be raised whenever something changes what is computed.
VERSION = 1
# Responses of a block, which are drawn together: where all are fitted together, and one by one. Fixed for a design, so
# that results depend neither on the workers nor on how many replicates follow.
_TOGETHER, _ALONE = 200, 10
# Numbers in the responses of a block.
_NUMBERS = 20_000_000
# Replicates of a task with posteriors, which take long.
_POSTERIORS = 20
# Draws of a posterior from which an interval is read.
DRAWS = 2000


@dataclass(frozen=True, eq=False)
class CoveragePlan:
    """What all chunks have in common.

    Attributes
    ----------
    design : Design
    truth : Truth
    asked : Kinds
    level : float
    reml : bool
    seed : int
    priors : PriorSpec
    key : str
        Checksum of the design.
    """

    design: Design
    truth: Truth
    asked: Kinds
    level: float
    reml: bool
    seed: int
    priors: PriorSpec
    key: str

    @cached_property
    def settings(self) -> dict[str, object]:
        """What all chunks of a store share, as JSON can hold it."""
        posterior = any(kind in POSTERIOR for _, kind in self.asked.rows)
        return {
            "version": VERSION,
            "study": "coverage of a design",
            "formula": self.design.formula,
            "data": self.key[:16],
            # The last digits of estimates are those of a processor.
            **{f"true {p.label}": f"{self.truth.values[p.label]:.9g}" for p in parameters(self.design)},
            "intervals": [f"{p.label} {kind}" for p, kind in self.asked.rows],
            "level": self.level,
            "criterion": "REML" if self.reml else "ML",
            "seed": self.seed,
            "priors": f"{resolve_priors(self.design, self.priors)!r}, {DRAWS} draws" if posterior else None,
        }


@dataclass(frozen=True)
class CoverageTask:
    """Some replicates of one block of responses; of one plan, it is known by its numbers.

    Attributes
    ----------
    plan : CoveragePlan
    block : int
    size : int
        Responses of the block.
    start : int
        The first of these that is used.
    replicates : int
        How many are used.
    """

    plan: CoveragePlan = field(compare=False)
    block: int
    size: int
    start: int
    replicates: int

    @property
    def name(self) -> str:
        """Of its file in a store."""
        return f"{self.block:06d}-{self.start:03d}-{self.replicates}"

    @property
    def identity(self) -> list[object]:
        """What its result is of."""
        return [of_json(self.plan.settings), self.block, self.size, self.start, self.replicates]

    def responses(self) -> FloatArray:
        """Simulated responses (n, replicates)."""
        truth = self.plan.truth
        rng = np.random.default_rng(np.random.SeedSequence(self.plan.seed, spawn_key=(self.block,)))
        Y = simulate_responses(self.plan.design, truth.terms, truth.sigma, truth.beta, self.size, rng, truth.lam)
        return Y[:, self.start : self.start + self.replicates]


@dataclass(frozen=True)
class CoverageChunk:
    """Intervals of K replicates, M of each, and estimates of all P parameters.

    Attributes
    ----------
    low, high : FloatArray, shape (M, K)
        nan where there is no interval.
    estimates : FloatArray, shape (P, K)
    singular, ok : BoolArray, shape (K,)
        Whether the fit is on the boundary, and whether it converged.
    """

    low: FloatArray
    high: FloatArray
    estimates: FloatArray
    singular: BoolArray
    ok: BoolArray


def make_tasks(plan: CoveragePlan, cp: SummedDesign, replicates: int) -> list[CoverageTask]:
    """The tasks of a run, in order."""
    together = not plan.design.residual.names and fitted_together(cp)
    block = max(1, min(_TOGETHER if together else _ALONE, _NUMBERS // cp.design.n))
    step = min(block, _POSTERIORS) if any(kind in POSTERIOR for _, kind in plan.asked.rows) else block
    return [
        CoverageTask(plan, k // block, block, first - k, min(step, k + block - first, replicates - first))
        for k in range(0, replicates, block)
        for first in range(k, min(k + block, replicates), step)
    ]


def run_chunk(task: CoverageTask) -> CoverageChunk:
    """Simulate the responses of a task and make all intervals."""
    Y, plan = task.responses(), task.plan
    if plan.design.residual.names:
        fits = structured_fits(plan.design, Y, plan.reml)
        return make_chunk(task, Y, fits.optima, fits)
    return make_chunk(task, Y, optimise_many(prepared(plan), Y, plan.reml))


def make_chunk(task: CoverageTask, Y: FloatArray, optima: Optima, fits: StructuredFits | None = None) -> CoverageChunk:
    """All intervals of responses (n, K) and of their fits; `fits` where residuals have parameters."""
    plan = task.plan
    with warnings.catch_warnings():
        # What a single fit warns of is counted here.
        warnings.simplefilter("ignore", BayesLMMWarning)
        refits = Refits(plan.design, plan.reml, optima)
        estimates = refits.estimates().to_numpy(dtype=float).T
        if fits is None:
            found = _likelihood_ends(plan, prepared(plan), Y, optima, estimates)
        else:
            found = fits.intervals(plan.asked, plan.level)
        found |= _posterior_ends(task, Y, optima)
    ends = [found[p.label, kind] for p, kind in plan.asked.rows]
    low, high = (np.array([end[side] for end in ends]).reshape(-1, Y.shape[1]) for side in (0, 1))
    return CoverageChunk(low, high, np.ascontiguousarray(estimates), optima.singular, refits.ok)


# Of the design that this process was last at work on.
_prepared: dict[str, SummedDesign] = {}


def prepared(plan: CoveragePlan) -> SummedDesign:
    """The sums of the design of a plan, kept for the next task."""
    if plan.key not in _prepared:
        _prepared.clear()
        _prepared[plan.key] = cross_products(plan.design)
    return _prepared[plan.key]


def _likelihood_ends(
    plan: CoveragePlan, cp: SummedDesign, Y: FloatArray, optima: Optima, estimates: FloatArray
) -> dict[tuple[str, str], Ends]:
    found = {(p.label, "profile"): _profile(plan, cp, Y, optima, p, estimates) for p in plan.asked.of_kind("profile")}
    for p in plan.asked.of_kind("wald"):
        if p.kind != "fixed":
            found[p.label, "wald"] = _wald_variance(plan, cp, Y, optima, p, estimates)
    for p in plan.asked.of_kind("pivot"):
        ends = pivot_many(spectrum(cp, p.position, p.effects, Y), plan.level)
        found[p.label, "pivot"] = _as_asked(p, ends)
    for kind in ("wald", "satterthwaite", "kenward-roger"):
        fixed = [p for p in plan.asked.of_kind(kind) if p.kind == "fixed"]
        if fixed:
            ddf = "z" if kind == "wald" else kind
            low, high = coefficient_ends(ddf, cp, Y, optima, plan.level, plan.reml)
            found |= {(p.label, kind): (low[:, p.position], high[:, p.position]) for p in fixed}
    return found


def _profile(
    plan: CoveragePlan, cp: SummedDesign, Y: FloatArray, optima: Optima, p: Parameter, estimates: FloatArray
) -> Ends:
    low, high = profile_ends_many(cp, Y, optima, target_of(p), plan.level, plan.reml)
    if p.kind == "corr":
        # As for a single fit: an undefined correlation can be any.
        undefined = np.isnan(_estimates_of(plan, p, estimates)) & (optima.sigma > 0)
        least, most = plan.design.terms[p.position].structure.correlation_range
        low, high = np.where(undefined, least, low), np.where(undefined, most, high)
    return _as_asked(p, (low, high))


def _wald_variance(
    plan: CoveragePlan, cp: SummedDesign, Y: FloatArray, optima: Optima, p: Parameter, estimates: FloatArray
) -> Ends:
    """None at the end of a parameter's range, where `confint` refuses."""
    low, high = wald_ends_many(cp, Y, optima, target_of(p), plan.level, plan.reml)
    value = _estimates_of(plan, p, estimates)
    ends = ~(np.abs(value) <= 1.0 - 1e-9) if p.kind == "corr" else ~(value > 0.0)
    return _as_asked(p, (np.where(ends, np.nan, low), np.where(ends, np.nan, high)))


def _estimates_of(plan: CoveragePlan, p: Parameter, estimates: FloatArray) -> FloatArray:
    """Estimates (K,) of a parameter; of the sd for what is derived from it."""
    label = f"sd_{p.label.partition('_')[2]}" if p.kind in DERIVED else p.label
    return np.asarray(estimates[[own.label for own in parameters(plan.design)].index(label)])


def _as_asked(p: Parameter, ends: Ends) -> Ends:
    """Of the intraclass correlation in place of the ratio."""
    return (share(ends[0]), share(ends[1])) if p.kind == "icc" else ends


def _posterior_ends(task: CoverageTask, Y: FloatArray, optima: Optima) -> dict[tuple[str, str], Ends]:
    """Intervals of posteriors, one response after the other; nan for one that cannot be sampled."""
    plan = task.plan
    rows = [(p, kind) for p, kind in plan.asked.rows if kind in POSTERIOR]
    if not rows:
        return {}
    ends = np.full((len(rows), 2, Y.shape[1]), np.nan)
    lams = np.empty((Y.shape[1], 0)) if optima.lam is None else optima.lam
    for k in range(Y.shape[1]):
        seed = np.random.SeedSequence(plan.seed, spawn_key=(task.block, task.start + k))
        try:
            drawn = _draws(plan, Y[:, k], [T[k] for T in optima.terms], lams[k], np.random.default_rng(seed))
        except BayesLMMError:
            continue
        ends[:, :, k] = [_ends_of(parameter_draws(plan.design, drawn, p), p.kind, kind, plan.level) for p, kind in rows]
    return {(p.label, kind): (own[0], own[1]) for (p, kind), own in zip(rows, ends, strict=True)}


def _draws(
    plan: CoveragePlan, y: FloatArray, terms: Sequence[FloatArray], lam: FloatArray, rng: np.random.Generator
) -> CollapsedDraws:
    design = replace(plan.design, y=y)
    cp = residual_products(design, lam) if design.residual.names else cross_products(design)
    priors = resolve_priors(design, plan.priors)
    return sample_collapsed(cp, priors, terms, draws=DRAWS, rng=rng, keep=[False] * len(cp.blocks))


def _ends_of(values: FloatArray, of: str, kind: str, level: float) -> tuple[float, float]:
    if kind == "hdi":
        return hdi(values, level, of)
    low, high = np.quantile(values, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return float(low), float(high)
