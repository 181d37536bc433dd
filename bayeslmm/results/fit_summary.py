"""The summary of a REML or ML fit: what a terminal shows of it, in the layout of lme4 and lmerTest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag, whole
from bayeslmm.design.design import Design
from bayeslmm.design.distinct import crowded
from bayeslmm.design.known import known_text
from bayeslmm.design.variances import SdLabel, variance_labels
from bayeslmm.errors import DesignError, FitError
from bayeslmm.reml import FitStatus
from bayeslmm.results import residual_tables
from bayeslmm.results.accessors import correlation as correlation_of
from bayeslmm.results.figures import df_text, estimate_places, figures, p_text, to_places
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import Parameter
from bayeslmm.results.linear import DDF, TESTS, Combinations, check_ddf, combinations, default_ddf
from bayeslmm.results.outliers import outlier_notes
from bayeslmm.results.profiles import on_a_ridge
from bayeslmm.results.summary import Summary, correlation_texts, crowded_note, describe_vanished, design_notes
from bayeslmm.types import FloatArray

# A residual sd below this share of what the fixed effects leave is zero.
_NO_RESIDUAL = 1e-4
_DEFAULT_ENDS = "by t with Satterthwaite's degrees of freedom"
_INTERVALS = "low, high: 95 % intervals; of fixed effects {}, {}"
_PROFILE = (
    "of standard deviations and correlations from the profile likelihood, two-sided. fit.boundary() "
    "(bayeslmm boundary) has one-sided limits of standard deviations."
)
_WALD = "of the others by Wald's method: standard deviations and ratios as logarithms, correlations by atanh."


def fit_summary(
    fit: Fit,
    ddf: DDF | None = None,
    digits: int = 4,
    correlation: bool = False,
    tidy: pd.DataFrame | None = None,
) -> Summary:
    """Summary of a REML or ML fit; see `bayeslmm.REMLResult.summary`.

    Parameters
    ----------
    fit : Fit
    ddf : str, optional
    digits : int
    correlation : bool
    tidy : DataFrame, optional
        The tidy table, whose 95 % intervals are then a table of their own.
    """
    digits = whole("digits", digits, 1, 15, DesignError)
    own, terms = has_structure(fit), bool(fit.design.terms)
    tables = [("Scaled residuals", scaled_residuals(fit))] if fit.design.facts is None else []
    tables += [("Random effects", variance_table(fit, digits + 1))] if terms or not own else []
    tables += [(f"Residuals: {residual_tables.expression(fit)}", residual_tables.residual_lines(fit))] if own else []
    if tidy is not None:
        whose = "the random effects' parameters" if not own else "the variance parameters"
        tables.append((f"95 % intervals of {whose}", _intervals(fit, tidy)))
    remarks: list[str] = []
    if fit.design.p:
        heading, fixed, remarks = _fixed(fit, ddf, digits)
        fixed = fixed if tidy is None else fixed.join(_fixed_intervals(fit, tidy, digits))
        tables.append((f"Fixed effects ({heading})" if heading else "Fixed effects", fixed))
    if flag("correlation", correlation, DesignError) and fit.design.p > 1:
        tables.append(("Correlation of fixed effects", correlation_texts(correlation_of(fit))))
    if tidy is not None:
        method = default_ddf(fit)[0] if ddf is None else ddf
        of_fixed = _DEFAULT_ENDS if ddf is None and method == "satterthwaite" else f"from {TESTS[method]}"
        remarks.append(_INTERVALS.format(of_fixed, _WALD if own else _PROFILE))
    name = "restricted maximum likelihood (REML)" if fit.reml else "maximum likelihood (ML)"
    correlated = ", correlated residuals" if fit.design.residual.clusters is not None else ""
    kind = "mixed model" if terms or not own else f"model{correlated}"
    return Summary(f"Linear {kind} fitted by {name}", tuple(_notes(fit)), tuple(tables), tuple(remarks))


def has_structure(fit: Fit) -> bool:
    """Whether residuals have parameters, or are all that there is."""
    return bool(fit.design.residual.names) or not fit.design.terms


_CONFIRMED = " (confirmed by a second computation from the sums; the rows are not in memory)"


def _notes(fit: Fit) -> list[str]:
    criterion = "REML criterion" if fit.reml else "deviance"
    notes = [
        *outlier_notes(fit),
        *design_notes(fit.design),
        f"{criterion} {fit.criterion:.2f}; log likelihood {fit.loglik:.2f}; AIC {fit.aic:.2f}; BIC {fit.bic:.2f}",
        f"Status: {_status(fit.status)}{_CONFIRMED if fit.design.facts is not None and fit.status.ok else ''}",
    ]
    if fit.design.sigma is not None:
        notes.append(f"Residual: {known_text(fit.design)}, not estimated")
    notes += [f"Fixed, not estimated: theta of {fit.design.terms[i].label}" for i in fit.optimum.fixed]
    notes += [f"Not identified: {ridge}." for ridge in fit.optimum.ridges]
    if not fit.optimum.ridges:
        notes += crowded_note(fit.design)
    if (
        fit.design.sigma is None
        and fit.status.ok
        and crowded(fit.design)
        and fit.sigma <= _NO_RESIDUAL * fit.cp.response.spread
    ):
        notes.append(
            f"Note: the residual standard deviation is estimated at zero ({fit.sigma:.2g}): the random effects "
            "reproduce the response."
        )
    return notes + [describe_vanished(fit.design, v) for v in fit.optimum.vanished]


def _status(status: FitStatus) -> str:
    """In plain words; what a numerical analyst would ask for is in ``fit.status``."""
    if status is FitStatus.converged:
        return "converged"
    if status is FitStatus.converged_at_boundary:
        return "converged; a variance is estimated as exactly 0 (a singular fit)"
    return str(status)


def scaled_residuals(fit: Fit) -> pd.DataFrame:
    """Quartiles of the residuals over their standard deviation given the random effects."""
    values = fit.design.y - fit._fitted
    variance = fit.design.residual.variance(fit.optimum.lam)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = values / (fit.sigma * np.sqrt(variance))
    if fit.design.frequency is not None:
        scaled = np.repeat(scaled, fit.design.frequency)
    ends = np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0]) if np.isfinite(scaled).all() else np.full(5, np.nan)
    texts = [to_places(float(v), 4 if abs(v) < 1e4 else None) for v in ends]
    return pd.DataFrame([texts], columns=["Min", "1Q", "Median", "3Q", "Max"], index=[""], dtype=object)


def variance_table(fit: Fit, digits: int = 5) -> pd.DataFrame:
    """Groups, Name, Variance, Std.Dev. and correlations with the effects above, as text."""
    rows: list[tuple[str, str, float, dict[int, str]]] = []
    design, sigma = fit.design, fit.sigma
    for labels, sds in variance_labels(design):
        for term in labels.terms:
            covariance = sigma**2 * fit.optimum.terms[term] @ fit.optimum.terms[term].T
            own = [sd for sd in sds if sd.term == term]
            pairs = [(a, b, name) for t, a, b, name in labels.pairs if t == term]
            rows += _term_rows(design, labels.group, term, covariance, own, pairs)
    if design.sigma is None:
        rows.append(("Residual", "", sigma**2, {}))
    width = max([0, *(max(cells) + 1 for *_, cells in rows if cells)])
    variances = [variance for _, _, variance, _ in rows]
    columns: dict[str, list[str]] = {
        "Name": [name for _, name, _, _ in rows],
        "Variance": figures(variances, digits),
        "Std.Dev.": figures([float(np.sqrt(v)) if v >= 0 else np.nan for v in variances], digits),
    }
    for k in range(width):
        columns["Corr" if k == 0 else " " * k] = [cells.get(k, "") for *_, cells in rows]
    groups = [group for group, *_ in rows]
    first = [group if k == 0 or group != groups[k - 1] else "" for k, group in enumerate(groups)]
    return pd.DataFrame(columns, index=pd.Index(first, name="Groups", dtype=object), dtype=object)


def _term_rows(
    design: Design,
    group: str,
    term: int,
    covariance: FloatArray,
    own: Sequence[SdLabel],
    pairs: Sequence[tuple[int, int, str]],
) -> list[tuple[str, str, float, dict[int, str]]]:
    structure = design.terms[term].structure
    place = {effect: k for k, label in enumerate(own) for effect in label.effects}
    cells: list[dict[int, str]] = [{} for _ in own]
    more = []
    for a, b, name in pairs:
        value = to_places(float(structure.correlation_of(covariance, a, b)), 3)
        first, second = sorted((place[a], place[b]))
        if first != second and structure.entries:
            cells[second][first] = value
        else:
            # A correlation that all effects share.
            more.append((group, f"{name} (correlation)", np.nan, {0: value}))
    rows = []
    for label, correlations in zip(own, cells, strict=True):
        k = label.effects[0]
        rows.append((group, label.name, float(covariance[k, k]), correlations))
    return [*rows, *more]


def _fixed(fit: Fit, ddf: DDF | None, digits: int) -> tuple[str, pd.DataFrame, list[str]]:
    """How the fixed effects were tested, their table as text, and what has to be said of it."""
    method, why = (ddf, "") if ddf is not None else default_ddf(fit)
    try:
        found = combinations(fit, np.eye(fit.design.p), method)
    except (DesignError, FitError) as error:
        if ddf is not None:
            raise
        method, why = "z", f"No degrees of freedom: {error}"
        try:
            check_ddf(fit, "z")
            found = combinations(fit, np.eye(fit.design.p), "z")
        except (DesignError, FitError):
            return "", _estimates(fit, digits), [f"No tests: {error}"]
    remarks = [why] if why else []
    if ddf is None and method == "satterthwaite" and fit.is_singular:
        remarks.append(
            "Degrees of freedom: a variance estimated as 0 counts as known to be 0; summary(ddf='kenward-roger') "
            "counts it as uncertain."
        )
    return TESTS[method], _tests(fit, found, method, digits), remarks


def _tests(fit: Fit, found: Combinations, method: DDF, digits: int) -> pd.DataFrame:
    from scipy.special import ndtr, stdtr

    error = found.std_error
    with np.errstate(divide="ignore", invalid="ignore"):
        t = found.estimate / error
    is_z = method == "z"
    p = 2.0 * (ndtr(-np.abs(t)) if is_z else stdtr(found.df, -np.abs(t)))
    columns = _with_errors(found.estimate, error, digits)
    if not is_z:
        columns["df"] = [df_text(v) for v in found.df]
    letter = "z" if is_z else "t"
    columns[f"{letter} value"] = [to_places(float(v), 3 if abs(v) < 1e5 else None) for v in t]
    columns[f"Pr(>|{letter}|)"] = [p_text(float(v)) for v in p]
    return pd.DataFrame(columns, index=pd.Index(list(fit.design.fixed_names), dtype=object), dtype=object)


def _estimates(fit: Fit, digits: int) -> pd.DataFrame:
    columns = _with_errors(fit.fixef().to_numpy(), fit.std_error().to_numpy(), digits)
    return pd.DataFrame(columns, index=pd.Index(list(fit.design.fixed_names), dtype=object), dtype=object)


def _with_errors(estimate: FloatArray, error: FloatArray, digits: int) -> dict[str, list[str]]:
    places = estimate_places(error.tolist(), float(np.abs(estimate).max()), digits)
    return {
        "Estimate": [to_places(float(v), places, digits + 2) for v in estimate],
        "Std. Error": [to_places(float(v), places, digits) for v in error],
    }


def _fixed_intervals(fit: Fit, tidy: pd.DataFrame, digits: int) -> pd.DataFrame:
    ends = tidy.loc[tidy["effect"] == "fixed", ["conf_low", "conf_high"]].to_numpy(dtype=float)
    places = estimate_places(fit.std_error().tolist(), float(np.abs(fit.fixef()).max()), digits)
    texts = [[to_places(float(end), places, digits + 1) for end in row] for row in ends]
    return pd.DataFrame(texts, index=pd.Index(list(fit.design.fixed_names), dtype=object), columns=["low", "high"])


def _intervals(fit: Fit, tidy: pd.DataFrame) -> pd.DataFrame:
    known = [p for p in fit._parameters if p.kind != "fixed"]
    ends = tidy.loc[tidy["effect"] != "fixed", ["conf_low", "conf_high"]].to_numpy(dtype=float)
    notes = [_reach(fit, p, float(low), float(high)) for p, (low, high) in zip(known, ends, strict=True)]
    frame = pd.DataFrame(ends, index=[p.label for p in known], columns=["low", "high"])
    return frame.assign(note=notes) if any(notes) else frame


def _reach(fit: Fit, p: Parameter, low: float, high: float) -> str:
    if on_a_ridge(fit.optimum, p):
        return "not identified"
    if p.kind == "sd" and low == 0:
        return "reaches 0: high is an upper bound"
    if p.kind == "corr" and (low == -1.0 or high == 1.0):
        return "says nothing" if low == -1.0 and high == 1.0 else f"reaches {-1 if low == -1.0 else 1}"
    return ""
