"""Compute the boundary report of a fit: sections, verdict, advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, flag, labels, shown
from bayeslmm.bayes.progress import Progress
from bayeslmm.boundary import DETAIL, OPTIONAL
from bayeslmm.boundary.advice import (
    Advice,
    Findings,
    for_brief,
    for_near,
    for_no_residual,
    for_open_correlations,
    for_open_terms,
    for_outlier,
    for_regular,
    for_singular,
    for_unidentified,
    for_unusable,
)
from bayeslmm.boundary.report import BoundaryReport, Section
from bayeslmm.boundary.residual_sections import ResidualMaterial
from bayeslmm.boundary.sections import Material, no_residual, percent
from bayeslmm.boundary.zero_test import disagreement
from bayeslmm.design.same import same_design
from bayeslmm.design.screen import number
from bayeslmm.errors import DesignError, FitError
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.reml.status import FitStatus
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_coefficients import coefficients
from bayeslmm.results.fit_intervals import confint
from bayeslmm.results.intervals import check_level, near_end
from bayeslmm.results.negligible import check_delta
from bayeslmm.results.outliers import deciding, outlier_notes
from bayeslmm.results.sampling import Settings, generator, sample_posterior
from bayeslmm.results.summary import describe_direction, left_out

# Rise of the criterion at zero up to which a 95 % profile interval reaches zero.
_IN_REACH = 3.84
# Share of variance that the advice is given for.
_QUOTED = 0.1


# Sections in their order; of those that may take long what is said meanwhile.
_BRIEF: dict[str, Callable[[Material], Section | None]] = {"components": Material.components, "edge": Material.edge}
_REST: dict[str, Callable[[Material], Section | None]] = {
    "limits": Material.limit_section,
    "tests": Material.test_section,
    "zero_rate": Material.zero_section,
    "posterior": Material.posterior_section,
    "penalised": Material.penalty_section,
}
_MEANWHILE = {
    "limits": "one-sided limits",
    "tests": "tests of zero (simulated, some 5 s; leave_out='tests' does without)",
    "zero_rate": "how often the estimate would be zero (simulated, some 5 s; leave_out='zero_rate' does without)",
    "posterior": "posterior and Bayes factors (seconds to a minute; posterior='none' does without)",
}


def build_report(
    fit: Fit,
    posterior: Draws | str,
    *,
    level: float,
    delta: float | None,
    random_seed: int | np.random.Generator,
    progressbar: bool,
    detail: str = "auto",
    leave_out: str | Sequence[str] = (),
) -> BoundaryReport:
    """The report; see `REMLResult.boundary`."""
    if not check_level(level) > 0.5:
        raise DesignError(f"level={level:g}: a one-sided limit needs a level above 0.5, e.g. 0.95.")
    check_delta(delta)
    choice("detail", detail, DETAIL, DesignError)
    out = _not_wanted(leave_out)
    flag("progressbar", progressbar, DesignError)
    rng = generator(random_seed)
    _check_posterior(fit, posterior)
    if not fit.status.ok:
        return _unusable(fit, level)

    def draw() -> tuple[Draws | None, int]:
        post = None if "posterior" in out else _posterior(fit, posterior, rng)
        return post, int(rng.integers(2**31))

    kind = ResidualMaterial if isinstance(fit.optimum, ResidualOptimum) else Material
    material = kind(fit, draw, level, delta, out)
    if not material.sds:
        raise DesignError("The fit has no standard deviation that was estimated, so that none can be at its boundary.")
    with Progress(progressbar) as progress:
        progress.announce("boundary report: the criterion at zero")
        judgement = _judge(material)
        brief = detail == "brief" or (detail == "auto" and judgement.regular)
        made = _sections(material, _BRIEF if brief else {**_BRIEF, **_REST}, progress)
        progress.announce("boundary report: what can be done")
        advice = for_brief() if brief and not judgement.regular else judgement.advise()
        words = _words(material, brief)
    left = tuple(left_out(fit.design))
    omitted = tuple(name for name in _REST if name not in out) if brief else ()
    first = deciding(fit)
    if first is not None:
        advice = (for_outlier(first.who, first.changes, first.several), *advice)
    verdict, outliers = judgement.verdict, tuple(outlier_notes(fit))
    return BoundaryReport(fit.formula, fit.is_singular, verdict, words, made, advice, level, left, omitted, outliers)


def boundary(
    fit: Fit,
    posterior: Draws | Literal["sample", "none"] = "sample",
    *,
    level: float = 0.95,
    delta: float | None = None,
    random_seed: int | np.random.Generator = 1,
    progressbar: bool = True,
    detail: Literal["auto", "full", "brief"] = "auto",
    leave_out: str | Sequence[str] = (),
) -> BoundaryReport:
    """Say what a variance of zero, or one near it, means for this fit, and what can be done.

    Parameters
    ----------
    posterior : Posterior or {"sample", "none"}
        Posterior of the same model; by default one under the default priors is drawn, except where residuals have
        parameters: give one, ``model.sample()``. ``"none"`` leaves it out.
    level : float
        Level of the one-sided limits.
    delta : float, optional
        Standard deviations below it are called negligible; by default 5 % of sd(y) / sd(column).
    random_seed : int or numpy.random.Generator
        For simulations and draws.
    progressbar : bool
        Whether to show, in a terminal or a notebook, the progress of what takes longer than a second.
    detail : {"auto", "full", "brief"}
        ``"auto"``: where nothing is near the boundary, the verdict with the components and the criterion at zero,
        in a fraction of a second; else everything. ``"full"``: everything in any case. ``"brief"``: never more than
        the verdict and these two. The verdict is the same in all.
    leave_out : str or sequence of str
        Sections that are not computed: ``"tests"``, ``"zero_rate"``, ``"posterior"``, ``"penalised"``.

    Returns
    -------
    BoundaryReport
        Prints as text, shows as tables in a notebook; ``report["tests"]`` is one table, ``report.to_dict()`` all.

    Raises
    ------
    DesignError
        The level is not strictly between 0.5 and 1; an unknown `detail` or section; the posterior is one of another
        model; there is no standard deviation that was estimated.

    Notes
    -----
    "Nothing to worry about" is said where the criterion rises by 3.84 or more at zero of every sd, and, for
    correlated effects, at every covariance of the term that has no variance in some direction (correlations of 1
    are such).

    Designs with more than 2,000 random effects do without exact tests and simulations. Simulations take about 10
    seconds at most (the posterior comes on top); `test_zero` with ``refits=`` runs more of them.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    >>> report = fit.boundary()
    >>> report.singular
    True
    >>> round(float(report["limits"].loc["sd_Batch[Intercept]", "REML high"]), 3)
    2.008
    """
    return build_report(
        fit,
        posterior,
        level=level,
        delta=delta,
        random_seed=random_seed,
        progressbar=progressbar,
        detail=detail,
        leave_out=leave_out,
    )


def _sections(
    material: Material, wanted: dict[str, Callable[[Material], Section | None]], progress: Progress
) -> tuple[Section, ...]:
    made = []
    for k, (name, section) in enumerate(wanted.items()):
        progress.report("boundary report", k, len(wanted))
        progress.announce(f"boundary report: {_MEANWHILE.get(name, name)}")
        made.append(section(material))
    return tuple(found for found in made if found is not None)


def _not_wanted(leave_out: str | Sequence[str]) -> tuple[str, ...]:
    """Names of sections that are left out."""
    names = labels("leave_out", leave_out, error=DesignError)
    return tuple(choice("leave_out", name, OPTIONAL, DesignError) for name in names)


def _unusable(fit: Fit, level: float) -> BoundaryReport:
    """The report of a fit that has no minimum, or not one."""
    if fit.status is FitStatus.not_identified:
        verdict = f"The variances cannot be told apart. The fit is {fit.status}."
        advice = for_unidentified("; ".join(map(str, fit.optimum.ridges)) + ".")
    elif fit.status is FitStatus.non_finite:
        verdict = "The model reproduces the response exactly, so that nothing can be said of its variances."
        advice = for_unusable(f"the fit {fit.status}.")
    else:
        verdict = "The fit did not converge, so that nothing can be said of its variances."
        advice = for_unusable(f"the fit {fit.status}.")
    return BoundaryReport(fit.formula, fit.is_singular, verdict, (), (), advice, level, tuple(left_out(fit.design)))


def _check_posterior(fit: Fit, posterior: Draws | str) -> None:
    if isinstance(posterior, Draws):
        if not same_design(fit.design, posterior.design):
            raise DesignError(
                f"The posterior is one of another model: {posterior.formula!r} on {posterior.n} observations, the fit "
                f"{fit.formula!r} on {fit.n}. Sample the Model that was fitted."
            )
    elif not isinstance(posterior, str) or posterior not in ("sample", "none"):
        raise DesignError(f"posterior={shown(posterior)} is neither a posterior of the model, nor 'sample' or 'none'.")


def _posterior(fit: Fit, posterior: Draws | str, rng: np.random.Generator) -> Draws | None:
    if isinstance(posterior, Draws):
        return posterior
    # A posterior estimates what fix= holds: it would be one of another model.
    # One with residual parameters may take longer than the rest of the report, and is not drawn unasked.
    if posterior == "none" or fit.optimum.fixed or not fit.status.ok or isinstance(fit.optimum, ResidualOptimum):
        return None
    settings = Settings(4000, "auto", 4, 1000, rng, False, False, ())
    return sample_posterior(fit.design, None, settings, lambda: (fit.cp, fit.optimum))


def _words(material: Material, brief: bool) -> tuple[str, ...]:
    """Which combinations of effects vanished, and which exact tests do not agree (unless in brief)."""
    fit, found = material.fit, list[str]()
    for v in fit.optimum.vanished:
        term = fit.design.terms[v.term]
        units = " (effects in their own units)" if np.count_nonzero(v.direction) > 1 else ""
        found.append(
            f"No variance between levels of {term.group} in {describe_direction(fit.design, v)}{units}; the "
            f"criterion rises by {max(v.slope, 0.0):.4g} per unit of (sd / sigma)^2 of it."
        )
    for p in material.correlations:
        value = material.estimates[p.label]
        if np.isfinite(value) and abs(value) > 1.0 - 1e-6:
            exact = abs(value) == 1.0 or p.position in {v.term for v in fit.optimum.vanished}
            why = "one effect determines the other" if exact else "far from the data one effect hides the other; centre"
            found.append(f"The correlation {p.label} is {f'{value:+.0f}' if exact else near_end(value)}: {why}.")
    disagreement = "" if brief else _disagreement(material)
    return (*found, disagreement) if disagreement else tuple(found)


def _disagreement(material: Material) -> str:
    """Where an estimate is zero although the exact F test says that levels differ."""
    zero = [label for label in material.tests if material.estimates[label] == 0]
    return " ".join(f"{label}: {text}" for label in zero if (text := disagreement(material.tests[label])))


@dataclass(frozen=True)
class Judgement:
    """The verdict, whether there is nothing to worry about, and the advice when it is asked for."""

    verdict: str
    advise: Callable[[], tuple[Advice, ...]]
    regular: bool = False


def _judge(material: Material) -> Judgement:
    """Verdict and advice; the same whether the rest of the report is wanted or not."""
    if material.sigma_at_zero:
        sigma = f"sigma = {number(material.fit.sigma)}."
        return Judgement(no_residual(material.fit), lambda: for_no_residual(sigma))
    if material.fit.is_singular:
        zero = (material.estimates[[p.label for p in material.sds]] == 0).any()
        what = "the best value of a variance" if zero else "the best variance of some combination of effects"
        verdict = (
            f"The fit is singular: {what} is exactly zero. That is an estimate and not a failure; nor is it evidence "
            "that nothing varies. In that direction the levels differ less than chance alone would make them differ "
            "on average (levels with much data weigh more in this)."
        )
        return Judgement(verdict, lambda: for_singular(_findings(material)))
    return _judge_regular(material)


def _judge_regular(material: Material) -> Judgement:
    """The same of a fit that is not singular: what is in reach of the data."""
    rise = material.rises
    near = [label for label in rise.index if not rise[label] >= _IN_REACH]
    ends = _open_correlations(material)
    terms = _open_terms(material, {*near, *ends})
    if near or ends or terms:
        reach = [f"zero is in reach of the data for {', '.join(near)}"] if near else []
        reach += [f"the profile interval of {', '.join(ends)} ends at the edge"] if ends else []
        reach += [f"no variance in some combination of effects of {', '.join(terms)} is in reach of the data"] * bool(
            terms
        )
        verdict = (
            f"The fit is not singular, but {' and '.join(reach)}: read the limits, and take the estimates for no more "
            "than they are."
        )
        if near:
            return Judgement(verdict, lambda: for_near(_findings(material, near)))
        if ends:
            return Judgement(verdict, lambda: for_open_correlations(", ".join(ends)))
        return Judgement(verdict, lambda: for_open_terms(", ".join(terms)))
    share = min(float(own.share[-1]) for own in material.principal)
    parts = f", and every combination of effects varies (the smallest has {percent(share)} of its term's variance)"
    verdict = (
        "The fit is not singular and there is nothing to worry about: at zero the criterion would be higher by "
        f"{number(float(rise.min()))} or more for every sd (a 95 % interval reaches zero below 3.84)"
        f"{parts if share < 1 else ''}."
    )
    return Judgement(verdict, for_regular, True)


def _open_terms(material: Material, named: set[str]) -> list[str]:
    """Terms that may have no variance in some direction, as far as the data say, though nothing named shows it."""
    shown = {p.position for p in (*material.sds, *material.correlations) if p.label in named}
    low = [i for i, rise in material.ranks.items() if rise < _IN_REACH and i not in shown]
    return [material.fit.design.terms[i].label for i in low]


def _open_correlations(material: Material) -> list[str]:
    """Correlations whose interval ends at the end of their range."""
    # An end of a correlation is a covariance of lower rank: where all of them are out of reach, so are these.
    open_terms = {p.position for p in material.correlations} - {
        i for i, rise in material.ranks.items() if rise >= _IN_REACH
    }
    labels = [p.label for p in material.correlations if p.position in open_terms]
    if not labels or not material.small:
        return []
    ends = confint(material.fit, parameters=labels)
    return [label for label in labels if (np.abs(ends.loc[label].to_numpy()) == 1).any()]


def _findings(material: Material, near: list[str] | None = None) -> Findings:
    """What the advice says of the vanished, or of those near zero."""
    fit, estimates = material.fit, material.estimates
    zero = near if near else [p.label for p in material.sds if estimates[p.label] == 0]
    terms = {v.term for v in fit.optimum.vanished}
    several = any(len(fit.design.terms[i].effects) > 1 for i in terms)
    own = [p.label for p in material.sds if p.position in terms]
    shown = zero or [label for label in own if material.rises[label] < _IN_REACH] or own
    return Findings(
        vanished=", ".join(zero) if zero else "each sd of the term",
        correlated=several,
        disagreement=_disagreement(material),
        rank=_rank(material),
        often_zero=_often_zero(material, zero, own),
        upper=_upper(material, shown),
        penalised=_penalised(material, shown),
        posterior=_said_by_posterior(material, shown),
        degrees=_degrees(fit),
    )


def _rank(material: Material) -> str:
    parts = [
        f"{material.fit.design.terms[own.term].label} has {own.rank} of {own.sd.size} components with variance"
        for own in material.principal
        if own.rank < own.sd.size > 1
    ]
    return f"{'; '.join(parts)}." if parts else ""


def _often_zero(material: Material, zero: list[str], own: list[str]) -> str:
    section = material.zero_section()
    if section is None:
        return ""
    if zero:
        rates = {label: float(section.table[label].loc[_QUOTED]) for label in zero}
        parts = [f"{100 * rate:.0f} of 100 such experiments ({label})" for label, rate in rates.items()]
        return f"at a true share of variance of {_QUOTED:g} the estimate would be singular in {', '.join(parts)}."
    largest = section.table.index[-1]
    rates = section.table.loc[largest, own].astype(float)
    span = f"{100 * rates.min():.0f}" if rates.size == 1 else f"{100 * rates.min():.0f} to {100 * rates.max():.0f}"
    return (
        f"with a true share of variance of {largest:g} for one of its effects, {span} of 100 such experiments would "
        "give a singular term."
    )


def _upper(material: Material, labels: list[str]) -> str:
    limits, percent = material.limits, f"{100 * material.level:g} %"
    parts = []
    for label in labels:
        text = f"{label} below {number(_at(limits, label, 'REML high'))} (one-sided profile limit, approximate)"
        if "ICC high" in limits and _at(limits, label, "ICC high") > 0:
            text += f", ICC below {number(_at(limits, label, 'ICC high'))} (one-sided, exact)"
        parts.append(text)
    return f"{'; '.join(parts)}, at a level of {percent}."


def _at(table: pd.DataFrame, row: str, column: str) -> float:
    return float(table[column].loc[row])


def _penalised(material: Material, labels: list[str]) -> str:
    values = material.penalised
    if values is None:
        return ""
    return ", ".join(f"{label} = {number(float(values[label]))}" for label in labels) + "."


def _said_by_posterior(material: Material, labels: list[str]) -> str:
    section = material.posterior_section()
    if section is None:
        return ""
    parts = []
    for label in labels:
        columns = ("HDI low", "HDI high", "delta", "P(sd < delta)")
        low, high, delta, below = (str(section.shown[name].loc[label]) for name in columns)
        span = f"below {high}" if low == "0" else f"from {low} to {high}"
        below = below if below[0] in "<>" else f"= {below}"
        parts.append(f"{label} {span}, P({label} < {delta}) {below}")
    return "; ".join(parts) + "."


def _degrees(fit: Fit) -> str:
    """The coefficient whose degrees of freedom differ most."""
    if not fit.reml or fit.design.p == 0:
        return ""
    try:
        small, large = coefficients(fit, ddf="kenward-roger")["df"], coefficients(fit, ddf="satterthwaite")["df"]
    except (DesignError, FitError):
        return ""
    ratio: pd.Series = large / small
    label = str(ratio.abs().idxmax())
    return (
        f"{label} has {number(float(large[label]))} degrees of freedom by Satterthwaite and "
        f"{number(float(small[label]))} by Kenward-Roger."
    )
