"""One chunk of replicates of one cell: responses, all intervals, and which of them hold the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.calibration import coverage_oneway as oneway
from bayeslmm.calibration import coverage_slopes as slopes
from bayeslmm.calibration.coverage_cells import Cell
from bayeslmm.calibration.coverage_fixed import design, fixed_ends
from bayeslmm.calibration.coverage_marginals import Ends
from bayeslmm.calibration.coverage_oneway_posterior import posterior
from bayeslmm.calibration.coverage_slopes_posterior import posterior as slopes_posterior
from bayeslmm.reml.many import optimise_many
from bayeslmm.types import BoolArray, FloatArray, IntArray

# Replicates of a chunk; fixed, so that results depend neither on the workers nor on how many replicates follow.
CHUNK = 500
SD_METHODS = ("reml_profile", "ml_profile", "pivot", "hdi", "equal_tailed")
FIXED_METHODS = ("z", "satterthwaite", "kenward_roger", "posterior")

type Intervals = dict[tuple[str, str], Ends]


@dataclass(frozen=True)
class Task:
    """What a worker has to do; also the name under which its result is stored.

    Attributes
    ----------
    cell : Cell
    chunk : int
        Number of the chunk in its cell.
    replicates : int
        At most `CHUNK`.
    level : float
    seed : int
    prior : SdPrior or None
        Of every sd; None for the package's default, whose scales come from each response.
    """

    cell: Cell
    chunk: int
    replicates: int
    level: float
    seed: int
    prior: SdPrior | None = None


@dataclass(frozen=True)
class Chunk:
    """Intervals of one chunk, M of them for each of K replicates.

    Attributes
    ----------
    outcome : IntArray, shape (M, K)
        0 where the interval holds the truth, -1 where the truth is below it, 1 where it is above or there is none.
    width : FloatArray, shape (M, K)
        Total sd at x = 0 is 1. The pivot's ends are those of the ratio to sigma, times the true sigma.
    singular : BoolArray, shape (K,)
        Whether the REML estimate is on the boundary.
    """

    outcome: IntArray
    width: FloatArray
    singular: BoolArray


def columns(cell: Cell) -> list[tuple[str, str]]:
    """(parameter, method) of the M intervals of a cell."""
    sds, fixed = (
        (("sd[Intercept]", "sd[x]"), ("Intercept", "x")) if cell.slopes else (("sd[Intercept]",), ("Intercept",))
    )
    return [(sd, method) for sd in sds for method in SD_METHODS] + [
        (coef, method) for coef in fixed for method in FIXED_METHODS
    ]


def truth(cell: Cell, parameter: str) -> float:
    """True value of a parameter."""
    values = {"sd[Intercept]": cell.sd, "sd[x]": cell.slope_sd * cell.sd}
    return values.get(parameter, 0.0)


def run_chunk(task: Task) -> Chunk:
    """Simulate the responses of a task and judge every interval."""
    cell = task.cell
    rng = cell.rng(task.seed, task.chunk)
    Y = cell.simulate(CHUNK, rng)[:, : task.replicates]
    shifts = rng.random((CHUNK, 4))[: task.replicates]
    intervals, singular = _slopes(task, Y, shifts) if cell.slopes else _oneway(task, Y)
    outcomes, widths = [], []
    for parameter, method in columns(cell):
        outcome, width = judge(cell, parameter, method, intervals[parameter, method])
        outcomes.append(outcome)
        widths.append(width)
    return Chunk(np.array(outcomes, dtype=np.int8), np.array(widths), singular)


def judge(cell: Cell, parameter: str, method: str, ends: Ends) -> tuple[IntArray, FloatArray]:
    """Outcomes (K,) and widths (K,) of one kind of interval."""
    lower, upper = ends
    unit = cell.sigma if method == "pivot" else 1.0
    value = truth(cell, parameter) / unit
    empty = np.isnan(upper)
    outcome = np.where(empty | (value > upper), 1, np.where(value < lower, -1, 0))
    return outcome, np.where(empty, 0.0, (upper - lower) * unit)


def _oneway(task: Task, Y: FloatArray) -> tuple[Intervals, BoolArray]:
    data, level = oneway.reduce(task.cell, Y), task.level
    best = oneway.estimate(data, reml=True)
    post = posterior(data, level, task.prior)
    sd: dict[str, Ends] = {
        "reml_profile": oneway.profile_ends(data, True, level),
        "ml_profile": oneway.profile_ends(data, False, level),
        "pivot": oneway.pivot_ends(data, level),
        "hdi": post.sd.hdi(level),
        "equal_tailed": post.sd.equal_tailed(level),
    }
    cp = design(task.cell)
    fixed = fixed_ends(cp, Y, optimise_many(cp, Y), level)
    found: Intervals = {("sd[Intercept]", method): ends for method, ends in sd.items()}
    found |= {("Intercept", method): both["Intercept"] for method, both in fixed.items()}
    found["Intercept", "posterior"] = post.mean
    return found, best.w == 0.0


def _slopes(task: Task, Y: FloatArray, shifts: FloatArray) -> tuple[Intervals, BoolArray]:
    data, level, cp = slopes.reduce(task.cell, Y), task.level, design(task.cell)
    rms = np.sqrt((slopes.design_x(task.cell) ** 2).mean(axis=0))
    post = slopes_posterior(data, level, rms, shifts, task.prior)
    optima = {reml: optimise_many(cp, Y, reml) for reml in (True, False)}
    found = {
        (coef, method): ends
        for method, both in fixed_ends(cp, Y, optima[True], level).items()
        for coef, ends in both.items()
    }
    for i, effect in enumerate(("Intercept", "x")):
        sd = f"sd[{effect}]"
        ordered = data if i == 0 else data.swapped()
        for reml, name in ((True, "reml_profile"), (False, "ml_profile")):
            T = optima[reml].terms[0][:, :: 1 if i == 0 else -1]
            found[sd, name] = slopes.profile_ends(ordered, T, optima[reml].sigma, reml, level)
        found[sd, "pivot"] = slopes.pivot_ends(data, i, level)
        found[sd, "hdi"] = post.sds[i].hdi(level)
        found[sd, "equal_tailed"] = post.sds[i].equal_tailed(level)
        found[effect, "posterior"] = post.fixed[i]
    return found, optima[True].singular
