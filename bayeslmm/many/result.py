"""What many fits found: one table with a row for each fit, one with a row for each parameter of each fit."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from bayeslmm.arguments import choice, shown
from bayeslmm.design.design import Design
from bayeslmm.design.readable import html_table, readable, table_text
from bayeslmm.design.screen import enumerated, fill
from bayeslmm.errors import FitError, UnknownNameError
from bayeslmm.faces import REMLResult
from bayeslmm.inference.zero_many import zero_method
from bayeslmm.many.chunk import STATUSES, ManyChunk, ManyPlan, ManySettings, ManyTask
from bayeslmm.results.labels import parameters
from bayeslmm.types import FloatArray

type Adjustment = Literal["bh", "by"]

# Rows of a table and refused fits on the first screen.
_SHOWN, _NAMED = 8, 3
_USABLE = [status.name for status in STATUSES if status.ok]


@dataclass(frozen=True)
class FittedBatch:
    """The results of the responses of one design, joined.

    Attributes
    ----------
    plan : ManyPlan
    names : tuple of str
        Those that were done.
    found : ManyChunk
    """

    plan: ManyPlan
    names: tuple[str, ...]
    found: ManyChunk

    @property
    def design(self) -> Design:
        """The design, with the first of the responses."""
        return self.plan.design


def join_chunks(
    names: Sequence[str], tasks: Sequence[ManyTask], done: Mapping[ManyTask, ManyChunk]
) -> FittedBatch | None:
    """The results of the tasks of one plan, of those that were done; None if none was."""
    own = [task for task in tasks if task in done]
    if not own:
        return None
    columns = np.concatenate([np.arange(task.start, task.start + task.replicates) for task in own])
    each = zip(*(vars(done[task]).values() for task in own), strict=True)
    found = ManyChunk(*(np.concatenate(arrays, axis=-1) for arrays in each))
    return FittedBatch(own[0].plan, tuple(names[k] for k in columns), found)


@dataclass(frozen=True, eq=False)
class ManyFits:
    """Fits of many responses or of many formulas.

    Attributes
    ----------
    names : tuple of str
        All fits that were asked for, in their order.
    refused : dict of str to str
        Those that could not be tried, and why.
    settings : ManySettings
    seconds : float
        Wall-clock time.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> pastes = bl.load_dataset("Pastes")
    >>> fits = bl.fit_many({"casks": "strength ~ 1 + (1 | sample)", "batches": "strength ~ 1 + (1 | batch)"}, pastes)
    >>> fits.table[["status", "criterion", "sigma"]].round(3)
                status  criterion  sigma
    casks    converged    247.648  0.823
    batches  converged    301.595  2.725
    """

    names: tuple[str, ...]
    refused: dict[str, str]
    settings: ManySettings
    seconds: float
    _batches: tuple[FittedBatch, ...] = field(repr=False)
    _model: Callable[[str], Any] = field(repr=False)
    _formula: str | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return str(name) in self.names

    def __getitem__(self, name: str | int) -> REMLResult:
        """One fit with all that can be asked of it; it is fitted anew, by itself.

        Parameters
        ----------
        name : str or int
            Columns without names are called by their numbers.

        Raises
        ------
        UnknownNameError
        FitError
            It was refused.
        """
        name = str(name)
        if name in self.refused:
            raise FitError(f"{name!r} was not fitted: {self.refused[name]}.")
        if name not in self.names:
            some = enumerated([repr(known) for known in self.names[:_NAMED]])
            raise UnknownNameError(f"There is no fit {shown(name)}. There are {len(self)}, such as {some}.")
        fit: REMLResult = self._model(name).fit(self.settings.reml)
        return fit

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per fit.

        ``n`` rows used, ``dropped`` rows left out; ``status`` (``refused`` where no fit was tried), ``singular``
        (a variance of zero), the ``criterion``, the estimates of all parameters under their labels (nan where a model
        does not have one), and ``note``, why a fit was refused.
        """
        frames = [self._rows(batch) for batch in self._batches]
        frame = pd.concat(frames) if frames else pd.DataFrame(columns=["n", "dropped", "status", "singular"])
        frame = frame.reindex([name for name in self.names if name in frame.index or name in self.refused])
        frame["status"] = frame["status"].astype(object).fillna("refused")
        frame["singular"] = frame["singular"].astype("boolean")
        frame[["n", "dropped"]] = frame[["n", "dropped"]].astype("Int64")
        frame["note"] = [self.refused.get(str(name), "") for name in frame.index]
        return readable(frame)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of fits without a usable result: refused, or not converged."""
        return tuple(str(name) for name in self.table.index[~self.table["status"].isin(_USABLE)])

    def tidy(self, adjust: Adjustment | Literal["none"] = "bh") -> pd.DataFrame:
        """One row per fit and parameter.

        Parameters
        ----------
        adjust : {"bh", "by", "none"}
            Of p values over the fits, parameter by parameter, by their false discovery rate (``q_value``): Benjamini &
            Hochberg (1995), Benjamini & Yekutieli (2001) for fits of any dependence. Only fits with a usable result
            count.

        Returns
        -------
        pandas.DataFrame
            ``name``, ``parameter``, ``estimate``. Coefficients: ``std_error``, ``df``, ``statistic`` (t),
            ``p_value`` (two-sided), ``conf_low``, ``conf_high``. Standard deviations of random effects: the p value of
            the likelihood-ratio test that the variance is zero, with its ``test``. With posteriors ``mean``, ``sd``,
            ``hdi_low``, ``hdi_high``, and ``reliable``, whether their checks passed. Fits without a usable result
            (``failed``) have no tests.

        Raises
        ------
        FitError
            `adjust` is none of these.

        Examples
        --------
        >>> import bayeslmm as bl, numpy as np
        >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
        >>> new = fit.simulate(100, random_seed=1)
        >>> fits = bl.fit_many("~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"), new)
        >>> found = fits.tidy().query("parameter == 'sd_Batch[Intercept]'")
        >>> int((found["p_value"] < 0.05).sum())
        75
        """
        choice("adjust", adjust, ("bh", "by", "none"), FitError)
        frames = [self._long(batch) for batch in self._batches]
        if not frames:
            return readable(pd.DataFrame(columns=["name", "parameter", "estimate"]))
        frame = pd.concat(frames, ignore_index=True)
        place = {name: k for k, name in enumerate(self.names)}
        order = np.lexsort((np.arange(len(frame)), frame["name"].map(place).to_numpy()))
        frame = frame.iloc[order].reset_index(drop=True)
        if adjust != "none":
            usable = ~frame["name"].isin(self.failed)
            frame.insert(list(frame).index("p_value") + 1, "q_value", _q_values(frame, usable, adjust))
        return readable(frame)

    def _rows(self, batch: FittedBatch) -> pd.DataFrame:
        found, labels = batch.found, [p.label for p in parameters(batch.design)]
        columns = {
            "n": batch.design.n_observations,
            "dropped": len(batch.design.dropped),
            "status": [STATUSES[k].name for k in found.status],
            "singular": found.singular,
            "criterion": found.criterion,
            **dict(zip(labels, found.estimates, strict=True)),
        }
        return pd.DataFrame(columns, index=pd.Index(batch.names, dtype=object))

    def _long(self, batch: FittedBatch) -> pd.DataFrame:
        known, found, plan = parameters(batch.design), batch.found, batch.plan
        tested = {p.label: k for k, (p, _) in enumerate(plan.removals)}
        frames = []
        for i, p in enumerate(known):
            columns: dict[str, Any] = {"name": batch.names, "parameter": p.label, "estimate": found.estimates[i]}
            if p.kind == "fixed":
                error, df = found.std_error[p.position], found.df[p.position]
                columns |= _tests(found.estimates[i], error, df, self.settings.level) | {"test": self.settings.ddf}
            elif p.label in tested:
                k = tested[p.label]
                columns |= {
                    "p_value": found.p_zero[k],
                    "test": zero_method(batch.design, plan.removals[k][1], plan.settings.reml),
                }
            if self.settings.draws:
                columns |= dict(zip(("mean", "sd", "hdi_low", "hdi_high"), found.posterior[i], strict=True))
                columns |= {"reliable": found.reliable}
            frames.append(pd.DataFrame(columns))
        order = [
            "name",
            "parameter",
            "estimate",
            "std_error",
            "df",
            "statistic",
            "p_value",
            "conf_low",
            "conf_high",
            "test",
        ]
        frame = pd.concat(frames, ignore_index=True)
        return frame.reindex(columns=[*order, *(name for name in frame.columns if name not in order)])

    def __repr__(self) -> str:
        lines = [fill(line) for line in self._lines()]
        return "\n".join([*lines, "", table_text(self._first()), "", fill(self._more())])

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self._lines())
        return f"<div>{lines}{html_table(self._first())}<p>{html.escape(self._more())}</p></div>"

    def _first(self) -> pd.DataFrame:
        return readable(self.table.drop(columns=["note", "dropped"]).iloc[:_SHOWN])

    def _more(self) -> str:
        rest = f"{len(self.table) - _SHOWN:,} more in .table; " if len(self.table) > _SHOWN else ""
        return f"{rest}.tidy() has tests and intervals of every parameter, fits[name] is one fit with all its methods."

    def _lines(self) -> list[str]:
        status = self.table["status"].value_counts()
        good = self.table["status"].isin(_USABLE)
        criterion = "REML" if self.settings.reml else "ML"
        of = f" of {self._formula}" if self._formula else ""
        singular = int((self.table["singular"].fillna(False) & good).sum())
        fits = "fit" if len(self) == 1 else "fits"
        lines = [
            f"{len(self):,} {criterion} {fits}{of}: {int(good.sum()):,} converged, {singular:,} of them with a "
            "variance of zero (singular)"
        ]
        for kind, count in status.items():
            if kind == "refused":
                why = [
                    f"{name}: {self.refused[name].partition('. ')[0]}" for name in self.names if name in self.refused
                ][:_NAMED]
                lines.append(f"{count:,} not fitted ({'; '.join(why)}{'; ...' if count > _NAMED else ''})")
            elif kind not in _USABLE:
                lines.append(f"{count:,} {kind}")
        if len(self.table) < len(self):
            lines.append(f"The run was interrupted: {len(self) - len(self.table):,} fits were not reached.")
        return lines


def _tests(estimate: FloatArray, error: FloatArray, df: FloatArray, level: float) -> dict[str, FloatArray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = estimate / error
    half = stdtrit(df, 0.5 * (1.0 + level)) * error
    return {
        "std_error": error,
        "df": df,
        "statistic": t,
        "p_value": 2.0 * stdtr(df, -np.abs(t)),
        "conf_low": estimate - half,
        "conf_high": estimate + half,
    }


def _q_values(frame: pd.DataFrame, usable: pd.Series, method: Adjustment) -> FloatArray:
    """Adjusted p values, parameter by parameter; nan for those that do not count."""
    from scipy.stats import false_discovery_control

    p, q = frame["p_value"].to_numpy(dtype=float), np.full(len(frame), np.nan)
    counted = (usable & frame["p_value"].notna()).to_numpy()
    for rows in frame.groupby("parameter", sort=False).indices.values():
        own = np.asarray(rows)[counted[rows]]
        if own.size:
            q[own] = false_discovery_control(p[own], method=method)
    return q
