"""The table of a comparison: one row per parameter, on the scale of sds or of variances."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.faces import Posterior
from bayeslmm.results.digits import in_digits
from bayeslmm.results.intervals import mode
from bayeslmm.results.labels import Parameter
from bayeslmm.results.negligible import negligible_sd

HEADINGS = {
    "ml": "ML",
    "reml": "REML",
    "reml_low": "REML low",
    "reml_high": "REML high",
    "penalised": "penalised",
    "mean": "mean",
    "median": "median",
    "mode": "mode",
    "hdi_low": "HDI low",
    "hdi_high": "HDI high",
    "p_below": "P(sd < delta)",
    "delta": "delta",
    "note": "",
}
_SQUARED = ("ml", "reml", "reml_low", "reml_high", "penalised", "median", "mode", "hdi_low", "hdi_high", "delta")
_VALUES = ("median", "mode", "hdi_low", "hdi_high")
FURTHER = ("mean", "hdi_low", "hdi_high")
# Columns that are about the first posterior, and those of them that have a Monte Carlo error.
_FIRST = ("mean", "median", "mode", "hdi_low", "hdi_high", "p_below")
_MEASURED = ("mean", "median", "mode", "hdi_low", "hdi_high")


def sd_table(both: Compared) -> pd.DataFrame:
    """One row per parameter, standard deviations as such; see `Comparison.table`."""
    known = both.parameters
    interval = both._intervals_of(both.reml)
    posterior = both.posterior.table(both.level)
    frame = pd.DataFrame(index=[p.label for p in known])
    frame["ml"], frame["reml"] = both.ml.estimates(), both.reml.estimates()
    frame["reml_low"], frame["reml_high"] = interval["conf_low"], interval["conf_high"]
    frame["penalised"] = np.nan if both.penalised is None else both.penalised.estimates()
    frame["mean"], frame["median"] = posterior["mean"], posterior["median"]
    frame["mode"] = [mode(both.posterior.draws(p.label), p.kind) for p in known]
    frame["hdi_low"], frame["hdi_high"] = posterior["hdi_low"], posterior["hdi_high"]
    frame["delta"] = [_delta(both, p) for p in known]
    frame["p_below"] = [_below(both.posterior, p, delta) for p, delta in zip(known, frame["delta"], strict=True)]
    frame["note"] = [_note(p, reml, low) for p, reml, low in zip(known, frame["reml"], frame["hdi_low"], strict=True)]
    more = [
        post.table(both.level)[list(FURTHER)].set_axis([of_posterior(column, name) for column in FURTHER], axis=1)
        for name, post in zip(both.names[1:], both.more, strict=True)
    ]
    return pd.concat([frame[list(HEADINGS)], *more], axis=1)


def error_table(both: Compared) -> pd.DataFrame:
    """Monte Carlo standard errors of the posterior columns of `Comparison.table`, rows and columns as there."""
    first, *more = both.by_name.items()
    parts = [row_errors(both, first[1])[list(_MEASURED)]]
    for name, post in more:
        own = row_errors(both, post)[list(FURTHER)]
        parts.append(own.rename(columns={column: of_posterior(column, name) for column in FURTHER}))
    return pd.concat(parts, axis=1)


def row_errors(both: Compared, post: Posterior) -> pd.DataFrame:
    """Monte Carlo standard errors of one posterior on the scale of the comparison, by labels on the sd scale."""
    errors = pd.DataFrame(post.monte_carlo_errors(both.level))
    if both.scale == "sd":
        return errors
    rows = [p.label for p in both.parameters if is_scale(p)]
    values = post.table(both.level)
    values["mode"] = [mode(post.draws(p.label), p.kind) for p in both.parameters]
    # A mean that is not finite has no error.
    mean, sd = ((2.0 * values[name] * errors[name]).fillna(0.0) for name in ("mean", "sd"))
    squared = 2.0 * values[list(_VALUES)].abs() * errors[list(_VALUES)]
    errors.loc[rows, list(_VALUES)] = squared.loc[rows]
    errors["mean"] = errors["mean"].where(~errors.index.isin(rows), np.hypot(mean, sd))
    return errors


def draws_below(both: Compared, sds: pd.DataFrame) -> list[float]:
    """How many independent draws the probabilities of being below delta are from."""
    size = both.posterior._size
    deltas = zip(both.parameters, sds["delta"], strict=True)
    return [size(both.posterior.draws(p.label) < delta) if p.kind == "sd" else np.nan for p, delta in deltas]


def variance_table(both: Compared, sds: pd.DataFrame) -> pd.DataFrame:
    """The same with variances in place of sds: all squared but the posterior means, which are those of variances."""
    frame = sds.copy()
    rows = [p.label for p in both.parameters if is_scale(p)]
    squared = [name for name in frame.columns if name.split(" (")[0] in _SQUARED]
    frame.loc[rows, squared] = frame.loc[rows, squared] ** 2
    columns = ("mean", *(of_posterior("mean", name) for name in both.names[1:]))
    for column, post in zip(columns, (both.posterior, *both.more), strict=True):
        frame.loc[rows, column] = mean_square(post.table(both.level).loc[rows])
    frame.index = pd.Index([shown_label(p, "variance") for p in both.parameters])
    return frame


def of_posterior(column: str, name: str) -> str:
    """A column, or its heading, of one of several posteriors: ``mean (brms)``."""
    return f"{column} ({name})"


def headings(both: Compared) -> dict[str, str]:
    """Column of the table to its heading in print; with several posteriors all theirs have a name."""
    if not (both.more or both.given):
        return HEADINGS
    first, *others = both.names
    own = {column: of_posterior(text, first) if column in _FIRST else text for column, text in HEADINGS.items()}
    further = {of_posterior(c, name): of_posterior(HEADINGS[c], name) for name in others for c in FURTHER}
    return own | further


def is_scale(p: Parameter) -> bool:
    """Whether a parameter is a standard deviation."""
    return p.kind in ("sd", "sigma")


def mean_square(moments: pd.DataFrame) -> pd.Series:
    """Means of squares from columns ``mean`` and ``sd``."""
    return moments["mean"] ** 2 + moments["sd"] ** 2


def shown_label(p: Parameter, scale: str) -> str:
    """Label on a scale: ``var_Subject[Days]``, ``sigma^2``."""
    if scale == "sd" or not is_scale(p):
        return p.label
    return "sigma^2" if p.kind == "sigma" else f"var_{p.label.removeprefix('sd_')}"


def _delta(both: Compared, p: Parameter) -> float:
    if p.kind != "sd":
        return float("nan")
    if both.delta is not None:
        return both.delta
    return negligible_sd(both.design, p)


def _below(post: Posterior, p: Parameter, delta: float) -> float:
    return post.probability_below(p.label, delta) if p.kind == "sd" else float("nan")


def _note(p: Parameter, reml: float, hdi_low: float) -> str:
    notes = []
    if p.kind == "sd" and reml == 0:
        notes.append("REML says 0")
    if p.kind == "sd" and hdi_low == 0:
        notes.append("upper bound")
    return "; ".join(notes)


def shown_table(both: Compared, frame: pd.DataFrame, sds: pd.DataFrame) -> pd.DataFrame:
    """The table as text, all of it numbers: shares, too, are rounded to their error."""
    share = frame["p_below"]
    error = np.sqrt(share * (1.0 - share) / draws_below(both, sds))
    return in_digits(frame, error_table(both).assign(p_below=error))
