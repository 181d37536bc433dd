"""Parametric bootstrap of a fit: draws by label, intervals, and when not to trust them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import pandas as pd

from bayeslmm.arguments import labels
from bayeslmm.design.design import Design
from bayeslmm.design.readable import readable
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import BayesLMMWarning, DesignError
from bayeslmm.results.bootstrap_kinds import acceleration_of, check_kind, interval
from bayeslmm.results.intervals import check_level, near_end
from bayeslmm.results.labels import Parameter
from bayeslmm.results.profiles import choose_parameters, share
from bayeslmm.types import FloatArray

_RANGES = {"sd": (0.0, np.inf), "sigma": (0.0, np.inf), "ratio": (0.0, np.inf), "icc": (0.0, 1.0), "corr": (-1.0, 1.0)}


@by_value
@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates of a model from responses that were simulated from a fit of it.

    Attributes
    ----------
    design : Design
    estimates : pandas.Series
        What was simulated from, by label.
    all_draws : pandas.DataFrame
        Estimates of every simulated response, by label; also of those that failed.
    outcome : tuple of str
        How each refit ended.
    ok : pandas.Series
        Which refits can be used.
    singular : pandas.Series
        Which of them have some combination of effects without variance.
    statistic : str
        What draws are of, where it is not the parameters of the model.
    without : callable or None
        Gives the same numbers without each group in turn, (levels, numbers): for the acceleration of BCa.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> boot = fit.bootstrap(200, random_seed=1)
    >>> boot
    <200 bootstrap refits of 'Yield ~ 1 + (1 | Batch)': 14 singular>
    """

    design: Design
    estimates: pd.Series
    all_draws: pd.DataFrame
    outcome: tuple[str, ...]
    ok: pd.Series
    singular: pd.Series
    statistic: str = ""
    without: Callable[[], pd.DataFrame] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.all_draws)

    @property
    def draws(self) -> pd.DataFrame:
        """Estimates of the refits that can be used: refits x parameters; nan for correlations with an sd of zero."""
        return self.all_draws.loc[self.ok]

    @property
    def failed(self) -> dict[str, int]:
        """Refits that cannot be used, counted by how they ended."""
        return dict(Counter(name for name, ok in zip(self.outcome, self.ok, strict=True) if not ok))

    @property
    def share_singular(self) -> float:
        """Share of singular fits among those that can be used."""
        return float(self.singular[self.ok].mean())

    def confint(
        self, level: float = 0.95, kind: str = "percentile", parameters: str | Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Bootstrap intervals.

        Parameters
        ----------
        level : float
        kind : {"percentile", "basic", "norm", "bca", "shortest"}
            Quantiles of the draws; twice the estimate less these; the estimate less the bias of the draws +- normal
            quantiles of their standard deviation; quantiles corrected for bias and skewness (BCa, with the acceleration
            from refits without each level of the outermost grouping factor); the shortest interval with that share of
            the draws. All are cut off at the ends of the parameter's range. R's names (``"perc"``, ``"normal"``,
            ``"BCa"``) will do.
        parameters : str or sequence of str, optional
            Labels, or names of the statistic; all by default. ``ratio_g[x]`` and ``icc_g[x]`` can be asked for.

        Returns
        -------
        pandas.DataFrame
            Columns ``conf_low``, ``conf_high``; ``attrs["notes"]`` says by label why an interval is not to be trusted.

        Raises
        ------
        DesignError
            Unknown kind or label, no probability, no refit that can be used.

        Warns
        -----
        BayesLMMWarning
            Some interval is unreliable: an estimate is zero, or so many of the draws are zero that the lower end is
            zero by the resampling alone; or a correlation is not defined in some of the draws.

        References
        ----------
        Davison & Hinkley (1997), Bootstrap Methods and their Application, ch. 5.
        """
        check_level(level)
        kind = check_kind(kind)
        if not self.ok.any():
            raise DesignError(f"None of the {len(self)} refits can be used: {self.failed}.")
        chosen = self._chosen(parameters)
        ends, notes = {}, {}
        for p in chosen:
            values, estimate = self._values(p)
            finite, acceleration = values[np.isfinite(values)], partial(self._acceleration, p)
            ends[p.label] = interval(finite, estimate, level, kind, _RANGES.get(p.kind), acceleration)
            note = _note(p, values, estimate, level) or _of_ends(ends[p.label], kind)
            if note:
                notes[p.label] = note
        frame = pd.DataFrame.from_dict(ends, orient="index", columns=["conf_low", "conf_high"], dtype=float)
        frame.attrs.update(method="bootstrap", kind=kind, refits=int(self.ok.sum()), failed=self.failed, notes=notes)
        if notes:
            text = "\n".join(f"{label}: {note}" for label, note in notes.items())
            warnings.warn(f"Bootstrap intervals that should not be relied on:\n{text}", BayesLMMWarning, stacklevel=2)
        return readable(frame)

    def _chosen(self, names: str | Sequence[str] | None) -> list[Parameter]:
        if not self.statistic:
            return choose_parameters(self.design, names)
        known = list(self.estimates.index)
        asked = known if names is None else labels("parameters", names, known, DesignError)
        return [Parameter(name, "statistic", None, name, -1, (), k) for k, name in enumerate(asked)]

    def _values(self, p: Parameter) -> tuple[FloatArray, float]:
        estimate = value_of(self.estimates.to_frame().T, p, self.design.sigma)[0]
        return value_of(self.draws, p, self.design.sigma), float(estimate)

    @cached_property
    def _without(self) -> pd.DataFrame:
        if self.without is None:
            raise DesignError("kind='bca' needs the fit that was simulated from, which these draws do not have.")
        return self.without()

    def _acceleration(self, p: Parameter) -> float:
        return acceleration_of(value_of(self._without, p, self.design.sigma))

    def __repr__(self) -> str:
        what = f", {self.statistic}" if self.statistic else ""
        text = f"<{len(self)} bootstrap refits of {self.design.formula!r}{what}: {int(self.singular.sum())} singular"
        failed = ", ".join(f"{count} {name}" for name, count in self.failed.items())
        return fill(text + (f", not usable: {failed}>" if failed else ">"), indent="  ")


def value_of(table: pd.DataFrame, p: Parameter, known_sigma: float | None = None) -> FloatArray:
    """Values of a parameter in a table of estimates, ratios and intraclass correlations made from others."""
    if p.kind not in ("ratio", "icc"):
        return table[p.label].to_numpy(dtype=float)
    sd = f"sd_{p.label.partition('_')[2]}"
    sigma = table["sigma"] if known_sigma is None else known_sigma
    values = (table[sd] / sigma).to_numpy(dtype=float) ** 2
    return share(values) if p.kind == "icc" else values


def _of_ends(ends: tuple[float, float], kind: str) -> str:
    if kind == "bca" and np.isnan(ends).any():
        return "all draws lie on one side of the estimate, so that BCa has no interval. Use another kind."
    return ""


def _note(p: Parameter, values: FloatArray, estimate: float, level: float) -> str:
    """Why an interval is not to be relied on; empty if there is no reason."""
    instead = f"Use method='profile'{'' if p.kind == 'corr' else ', or the pivot of the ratio'}, or the posterior."
    undefined = float(np.mean(~np.isfinite(values)))
    if p.kind == "corr" and (undefined > 0 or not np.isfinite(estimate)):
        what = f"not defined in {undefined:.1%} of the draws (an sd is zero there), which were left out"
        return f"the correlation is {what}. {instead}"
    if p.kind == "corr" and abs(estimate) > 1.0 - 1e-9:
        what = (
            "all draws are from a model without one of its components"
            if abs(estimate) == 1.0
            else "centring the predictor of the effects, whose values are far from zero, gives one that can be read"
        )
        return f"the estimate is {near_end(estimate)}: {what}. {instead}"
    if p.kind not in ("sd", "ratio", "icc"):
        return ""
    if estimate == 0:
        return (
            "the estimate is 0, and so is the variance that responses were simulated from: the upper end says how "
            f"large an estimate can be when nothing varies, not how large the variance can be. {instead}"
        )
    zero = float(np.mean(values <= 1e-9 * estimate))
    if zero > 0.5 - level / 2.0:
        return f"{zero:.1%} of the draws are zero, so that the lower end is 0 whatever the data say. {instead}"
    return ""
