"""All estimates and intervals of a comparison, one row per parameter and method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.comparison.tables import is_scale, mean_square, row_errors, shown_label
from bayeslmm.design.readable import readable
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.inference.ratio import pivot_interval
from bayeslmm.inference.spectral import spectrum
from bayeslmm.results.digits import in_digits
from bayeslmm.results.explained import posterior_icc, posterior_r2
from bayeslmm.results.intervals import hdi
from bayeslmm.results.monte_carlo import standard_errors

COLUMNS = ("parameter", "method", "estimate", "conf_low", "conf_high", "interval", "note")
_NAN = float("nan")


@dataclass(frozen=True)
class _Row:
    """One line of the table; on the sd scale."""

    parameter: str
    method: str
    estimate: float
    conf_low: float = _NAN
    conf_high: float = _NAN
    interval: str = "none"
    note: str = ""
    errors: tuple[float, float, float] = (0.0, 0.0, 0.0)


def long_table(both: Compared) -> pd.DataFrame:
    """See `Comparison.long`."""
    rows = _rows(both)
    frame = pd.DataFrame([vars(row) for row in rows], columns=list(COLUMNS))
    if both.scale == "variance":
        shown = {p.label: shown_label(p, both.scale) for p in both.parameters}
        frame["parameter"] = [shown.get(label, label) for label in frame["parameter"]]
    return readable(frame, lambda: in_digits(frame, _errors(rows)))


def long_errors(both: Compared) -> pd.DataFrame:
    """Monte Carlo standard errors of the numbers in it; 0 for what does not come from draws of a posterior."""
    return _errors(_rows(both))


def _errors(rows: Sequence[_Row]) -> pd.DataFrame:
    return pd.DataFrame([row.errors for row in rows], columns=["estimate", "conf_low", "conf_high"])


def _rows(both: Compared) -> list[_Row]:
    """Rows by parameter."""
    fits = {"ML": both.ml, "REML": both.reml}
    if both.penalised is not None:
        fits["REML + penalty"] = both.penalised
    rows = [row for name, fit in fits.items() for row in _fit_rows(both, name, fit)]
    rows += [row for name, post in both.posteriors.items() for row in _posterior_rows(both, name, post)]
    for name, fit in fits.items():
        rows += _share_rows(both, name, fit)
    rows += [row for name, post in both.posteriors.items() for row in _posterior_shares(both, name, post)]
    order = {label: k for k, label in enumerate(dict.fromkeys(row.parameter for row in rows))}
    return sorted(rows, key=lambda row: order[row.parameter])


def _fit_rows(both: Compared, name: str, fit: REMLResult) -> list[_Row]:
    """Parameters of a fit: profile intervals, or Wald for the fixed effects of a penalised one."""
    values, penalised = fit.estimates().to_dict(), fit.restraint is not None
    ends = both._intervals_of(fit).T.to_dict("list")
    rows = []
    for p in both.parameters:
        power = 2 if both.scale == "variance" and is_scale(p) else 1
        value = float(values[p.label])
        low, high = ends.get(p.label, (_NAN, _NAN))
        kind = "profile" if not penalised else "Wald z" if p.kind == "fixed" else "none"
        note = "estimate at zero" if p.kind == "sd" and value == 0 else ""
        note = "point estimate, off zero by construction" if penalised and p.kind == "sd" else note
        note = "not defined: a variance of zero" if np.isnan(value) else note
        rows.append(_Row(p.label, name, value**power, float(low) ** power, float(high) ** power, kind, note))
    return rows


def _posterior_rows(both: Compared, name: str, post: Posterior) -> list[_Row]:
    table, rows = post.table(both.level), []
    values, squares = table.T.to_dict(), mean_square(table).to_dict()
    errors = row_errors(both, post)
    for p in both.parameters:
        square = both.scale == "variance" and is_scale(p)
        power = 2 if square else 1
        estimate, notes = float(squares[p.label] if square else values[p.label]["mean"]), list[str]()
        if not np.isfinite(estimate):
            estimate = float(values[p.label]["median"]) ** power
            notes.append("median: the mean is infinite")
        low, high = (float(values[p.label][end]) ** power for end in ("hdi_low", "hdi_high"))
        if p.kind == "sd" and low == 0:
            notes.append("upper bound")
        if square:
            notes.append("HDI of the sd, squared")
        middle = "mean" if np.isfinite(values[p.label]["mean"]) else "median"
        own = [float(errors[column].loc[p.label]) for column in (middle, "hdi_low", "hdi_high")]
        rows.append(_Row(p.label, name, estimate, low, high, "HDI", "; ".join(notes), (own[0], own[1], own[2])))
    return rows


def _shares(frame: pd.DataFrame | pd.Series) -> list[str]:
    """Names of the shares; with one grouping factor the total repeats its own."""
    names = [str(name) for name in (frame.index if isinstance(frame, pd.Series) else frame.columns)]
    own = [name for name in names if name.startswith("icc_")]
    return [name for name in names if name != "icc" or len(own) > 1]


def _share_rows(both: Compared, name: str, fit: REMLResult) -> list[_Row]:
    values = pd.concat([fit.icc(), fit.r2()])
    return [
        _Row(label, name, float(values[label]), *(_share_interval(both, label) if name == "REML" else ()))
        for label in _shares(values)
    ]


def _share_interval(both: Compared, label: str) -> tuple[float, float, str, str]:
    if label.startswith("icc_") and _is_one_way(both):
        try:
            low, high = pivot_interval(spectrum(both.reml.cp, 0, (0,)), both.level)
        except DesignError:
            pass
        else:
            lower, upper = float(low[0]), float(high[0])
            high_share = 1.0 if np.isinf(upper) else upper / (1.0 + upper)
            return lower / (1.0 + lower) if np.isfinite(lower) else 1.0, high_share, "pivot", "exact"
    try:
        boot = both.bootstrap()
    except DesignError as error:
        return _NAN, _NAN, "none", str(error).split(":")[0]
    draws = boot.explained[label].dropna().to_numpy()
    if not draws.size:
        return _NAN, _NAN, "none", "no replicate could be fitted"
    low, high = np.quantile(draws, [0.5 - both.level / 2, 0.5 + both.level / 2])
    note = f"percentiles of {len(draws)} replicates"
    if boot.failed:
        note += f" ({boot.failed} did not converge)"
    if both.reml.is_singular:
        note += "; unreliable: simulated with a variance of zero"
    return float(low), float(high), "bootstrap", note


def _is_one_way(both: Compared) -> bool:
    """Whether the share of the group is sd^2 / (sd^2 + sigma^2), so that its exact interval is that of the ratio."""
    design = both.design
    one = len(design.terms) == 1 and design.terms[0].Z.shape[1] == 1 and design.residual.identity
    if one and design.facts is not None:
        own = design.facts.Z(0)
        return bool(design.facts.low[own] == 1.0 == design.facts.high[own])
    return one and bool((design.terms[0].Z == 1).all())


def _posterior_shares(both: Compared, name: str, post: Posterior) -> list[_Row]:
    draws = pd.concat([posterior_icc(post), posterior_r2(post)], axis=1)
    rows = []
    for label in _shares(draws):
        values = draws[label].to_numpy()
        low, high = hdi(values, both.level, "sd")
        own = standard_errors(values, both.level, "sd", post._dependent, post._inflation)
        errors = own["mean"], own["hdi_low"], own["hdi_high"]
        rows.append(_Row(label, name, float(values.mean()), low, min(high, 1.0), "HDI", "", errors))
    return rows
