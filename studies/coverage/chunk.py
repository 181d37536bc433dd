"""One chunk of replicates of one cell: responses, all intervals, and which of them hold the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayeslmm.bayes.prior_families import SdPrior
from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.calibration.interval_ends import Ends
from bayeslmm.calibration.shares import where_truth_is
from bayeslmm.reml.many import optimise_many
from bayeslmm.types import BoolArray, FloatArray, IntArray
from studies.coverage import oneway, slopes
from studies.coverage.intervals import design, fixed_ends, sd_ends
from studies.coverage.oneway_posterior import posterior
from studies.coverage.slopes_posterior import posterior as slopes_posterior

# Replicates of a chunk; fixed, so that results depend neither on the workers nor on how many replicates follow.
CHUNK = 500
SD_METHODS = ("reml_profile", "ml_profile", "pivot", "hdi", "equal_tailed")
FIXED_METHODS = ("z", "satterthwaite", "kenward_roger", "posterior")

type Intervals = dict[tuple[str, str], Ends]


@dataclass(frozen=True)
class CellTask:
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

    @property
    def name(self) -> str:
        """Of its file in a store."""
        return f"{self.cell.key:08x}-{self.chunk:04d}-{self.replicates}"

    @property
    def identity(self) -> list[object]:
        """What its result is of."""
        return [self.cell.key, self.chunk, self.replicates, self.seed, self.level, repr(self.prior)]


@dataclass(frozen=True)
class CellChunk:
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


def run_chunk(task: CellTask) -> CellChunk:
    """Simulate the responses of a task and judge every interval."""
    cell, cp, level = task.cell, design(task.cell), task.level
    rng = cell.rng(task.seed, task.chunk)
    Y = cell.simulate(CHUNK, rng)[:, : task.replicates]
    shifts = rng.random((CHUNK, 4))[: task.replicates]
    reml, ml = optimise_many(cp, Y), optimise_many(cp, Y, False)
    intervals = fixed_ends(cp, Y, reml, level) | sd_ends(cp, Y, reml, ml, level)
    intervals |= _slope_posteriors(task, Y, shifts) if cell.slopes else _oneway_posteriors(task, Y)
    outcomes, widths = [], []
    for parameter, method in columns(cell):
        outcome, width = judge(cell, parameter, method, intervals[parameter, method])
        outcomes.append(outcome)
        widths.append(width)
    return CellChunk(np.array(outcomes, dtype=np.int8), np.array(widths), reml.singular)


def judge(cell: Cell, parameter: str, method: str, ends: Ends) -> tuple[IntArray, FloatArray]:
    """Outcomes (K,) and widths (K,) of one kind of interval."""
    lower, upper = ends
    unit = cell.sigma if method == "pivot" else 1.0
    outcome = where_truth_is(lower, upper, truth(cell, parameter) / unit)
    return outcome, np.where(np.isnan(upper), 0.0, (upper - lower) * unit)


def _oneway_posteriors(task: CellTask, Y: FloatArray) -> Intervals:
    found = posterior(oneway.reduce(task.cell, Y), task.level, task.prior)
    return {
        ("sd[Intercept]", "hdi"): found.sd.hdi(task.level),
        ("sd[Intercept]", "equal_tailed"): found.sd.equal_tailed(task.level),
        ("Intercept", "posterior"): found.mean,
    }


def _slope_posteriors(task: CellTask, Y: FloatArray, shifts: FloatArray) -> Intervals:
    rms = np.sqrt((slopes.design_x(task.cell) ** 2).mean(axis=0))
    post = slopes_posterior(slopes.reduce(task.cell, Y), task.level, rms, shifts, task.prior)
    found: Intervals = {}
    for i, effect in enumerate(("Intercept", "x")):
        found[f"sd[{effect}]", "hdi"] = post.sds[i].hdi(task.level)
        found[f"sd[{effect}]", "equal_tailed"] = post.sds[i].equal_tailed(task.level)
        found[effect, "posterior"] = post.fixed[i]
    return found
