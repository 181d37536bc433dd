"""The result of a calibration: ranks, the verdict for every quantity, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import whole
from bayeslmm.calibration.bands import band_ratio, chi_square, difference_band, ecdf_difference
from bayeslmm.calibration.replicate import Replicate, Task
from bayeslmm.design.readable import html_table, table_text
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import FitError
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.types import FloatArray, IntArray

# Probability that the chi-square tests of a correct sampler fail, all quantities together.
CHI_SQUARE_LEVEL = 0.001
# Probability that the ECDF of one quantity stays inside its band under a correct sampler.
BAND_LEVEL = 0.99
_ROUNDING = 1e-12
# Replicates below which the verdict comes with what it cannot see.
_FEW = 60


@by_value
@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of true values among posterior draws, over replicates simulated from the prior.

    Attributes
    ----------
    task : Task
        Design, priors, sampler and seed.
    method : str
    quantities : tuple of str
    replicates : tuple of Replicate
        Those that were run, in the order of their numbers.
    requested : int
        How many were asked for; more than were run if the run was interrupted.
    seconds : float
        Wall-clock time.
    """

    task: Task
    method: str
    quantities: tuple[str, ...]
    replicates: tuple[Replicate, ...]
    requested: int
    seconds: float

    @property
    def draws(self) -> int:
        """L, posterior draws per replicate."""
        return self.task.draws

    @property
    def n(self) -> int:
        """Replicates that gave ranks."""
        return int(self.ranks.shape[0])

    @cached_property
    def ranks(self) -> IntArray:
        """Draws below the true value, shape (N, Q); uniform on 0 .. L if the sampler is right."""
        kept = [r.ranks for r in self.replicates if r.ranks is not None]
        return np.array(kept, dtype=np.int64).reshape(len(kept), len(self.quantities))

    @property
    def failures(self) -> pd.DataFrame:
        """Replicates without ranks: number, seed and error."""
        return self._listed([(r, r.error) for r in self.replicates if r.ranks is None], "error")

    @property
    def warnings(self) -> pd.DataFrame:
        """Replicates of which the sampler warned (their ranks count): number, seed and warning."""
        return self._listed([(r, r.warning) for r in self.replicates if r.warning], "warning")

    def _listed(self, rows: Sequence[tuple[Replicate, str]], name: str) -> pd.DataFrame:
        listed = [(r.number, f"SeedSequence({self.task.entropy}, spawn_key=({r.number},))", text) for r, text in rows]
        return pd.DataFrame(listed, columns=["replicate", "seed", name]).set_index("replicate")

    @cached_property
    def band(self) -> tuple[FloatArray, FloatArray]:
        """Ends, each (L,), of the simultaneous 99% band of the ECDF difference of one quantity."""
        return difference_band(self.n, self.draws, BAND_LEVEL)

    @cached_property
    def table(self) -> pd.DataFrame:
        """For every quantity how uniform its ranks are.

        ``mean`` is the mean rank over L, 0.5 if right (larger: draws too low); ``spread`` the sd of the ranks over the
        one of the uniform distribution (larger than 1: draws too concentrated); ``p`` of the chi-square test;
        ``ecdf`` the largest ECDF difference in units of the band, inside up to 1; ``ok`` whether both tests pass.
        """
        statistic, p = chi_square(self.ranks, self.draws)
        ecdf = band_ratio(ecdf_difference(self.ranks, self.draws), self.band)
        uniform = np.sqrt(((self.draws + 1) ** 2 - 1) / 12.0)
        passed = (p > CHI_SQUARE_LEVEL / len(self.quantities)) & (ecdf <= 1.0 + _ROUNDING)
        columns = {
            "mean": self.ranks.mean(axis=0) / self.draws,
            "spread": self.ranks.std(axis=0) / uniform,
            "chi_square": statistic,
            "p": p,
            "ecdf": ecdf,
            "ok": passed,
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.quantities), dtype=str, name="quantity"))

    @property
    def ok(self) -> bool:
        """Whether every quantity passes and no replicate failed."""
        return bool(self.table["ok"].all()) and len(self.failures) == 0

    def simulate(self, number: int) -> tuple[pd.Series, FloatArray]:
        """The true parameters and the response (n,) of one replicate, to look into it.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
        >>> calibration = bl.calibrate(model, n=20, random_seed=1)
        >>> truth, y = calibration.simulate(3)
        >>> list(truth.index), y.shape
        (['sd_Batch[Intercept]', 'sigma', 'Intercept'], (30,))
        """
        drawn, y, _ = self.task.simulate(whole("number", number, 0, 2**32 - 1, FitError))
        known = parameters(self.task.design)

        def value(p: Parameter) -> float:
            if p.kind == "sd":
                return float(drawn.sds[p.position][0, p.effects[0]])
            if p.kind == "corr":
                return float(drawn.corrs[p.position][0, p.effects[0], p.effects[1]])
            return float(drawn.sigma[0] if p.kind == "sigma" else drawn.beta[0, p.position])

        return pd.Series([value(p) for p in known], index=[p.label for p in known], name=f"replicate {number}"), y

    def plot(self, ax: Any = None) -> Any:
        """Draw the ECDF differences of all quantities in the band; those that fail are named. Returns the axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        """
        from bayeslmm.calibration.plot import plot_calibration

        passed = dict(zip(self.quantities, self.table["ok"], strict=True))
        title = f"{self.task.design.formula}: {self.n} replicates"
        return plot_calibration(self.ranks, self.draws, self.band, passed, title, ax)

    def __repr__(self) -> str:
        lines = [table_text(self._shown), *map(fill, self._tail())]
        return "\n".join([*map(fill, self._head()), *lines])

    @property
    def _shown(self) -> pd.DataFrame:
        """The table with three digits."""
        return self.table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)

    def _repr_html_(self) -> str:
        import html

        def lines(texts: Sequence[str]) -> str:
            return "".join(f"<p>{html.escape(text)}</p>" for text in texts)

        return f"<div>{lines(self._head())}{html_table(self._shown)}{lines(self._tail())}</div>"

    def _head(self) -> list[str]:
        formula = self.task.design.formula
        head = f"Calibration of {formula} ({self.method}): {self.n} replicates x {self.draws} draws"
        wrong = list(self.table.index[~self.table["ok"]])
        limit = f"chi-square p > {CHI_SQUARE_LEVEL / len(self.quantities):.2g}, ECDF inside the 99% band"
        if wrong:
            verdict = f"FAILED for {', '.join(wrong)} (criterion: {limit})"
        else:
            verdict = f"All {len(self.quantities)} quantities pass: {limit}"
        return [head, verdict]

    def _tail(self) -> list[str]:
        done, lines = len(self.replicates), []
        if self.n < _FEW:
            width = float(np.max(self.band[1]))
            lines.append(
                f"{self.n} replicates reject little: ECDFs that are off by up to {width:.2f} pass, so that only gross "
                "errors are seen. n=1000 sees a quarter of that or less."
            )
        if done < self.requested:
            lines.append(f"Interrupted: {done} of {self.requested} replicates were run.")
        if len(self.failures):
            lines.append(f"{len(self.failures)} replicates FAILED and have no ranks: see .failures")
        if len(self.warnings):
            lines.append(f"{len(self.warnings)} replicates came with a warning of the sampler: see .warnings")
        lines.append(f"Seed {self.task.entropy}; {self.seconds:.1f} s")
        return lines
