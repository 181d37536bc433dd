"""Compute the boundary report of a fit: sections, verdict, advice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag, shown
from bayeslmm.bayes.progress import Progress
from bayeslmm.design.same import same_design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.reml.status import FitStatus
from bayeslmm.results.advice import (
    Advice,
    Findings,
    for_near,
    for_no_residual,
    for_open_correlations,
    for_regular,
    for_singular,
    for_unidentified,
    for_unusable,
)
from bayeslmm.results.boundary_report import BoundaryReport, Section
from bayeslmm.results.boundary_sections import Material, no_residual, percent
from bayeslmm.results.intervals import check_level, near_end
from bayeslmm.results.negligible import check_delta
from bayeslmm.results.posterior import Posterior
from bayeslmm.results.sampling import Settings, generator, sample_posterior
from bayeslmm.results.summary import describe_direction, left_out, number
from bayeslmm.results.zero_tests import disagreement

if TYPE_CHECKING:
    from bayeslmm.results.reml_result import REMLResult

# Rise of the criterion at zero up to which a 95 % profile interval reaches zero.
_IN_REACH = 3.84
# Share of variance that the advice is given for.
_QUOTED = 0.1


_SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    Material.components,
    Material.edge,
    Material.limit_section,
    Material.test_section,
    Material.zero_section,
    Material.posterior_section,
    Material.penalty_section,
)


def build_report(
    fit: REMLResult,
    posterior: Posterior | str,
    *,
    level: float,
    delta: float | None,
    random_seed: int | np.random.Generator,
    progressbar: bool,
) -> BoundaryReport:
    """The report; see `REMLResult.boundary`."""
    if not check_level(level) > 0.5:
        raise DesignError(f"level={level:g}: a one-sided limit needs a level above 0.5, e.g. 0.95.")
    check_delta(delta)
    flag("progressbar", progressbar, DesignError)
    rng = generator(random_seed)
    post = _posterior(fit, posterior, rng)
    if not fit.status.ok:
        return _unusable(fit, level)
    material = Material(fit, post, level, delta, int(rng.integers(2**31)))
    if not material.sds:
        raise DesignError("The fit has no standard deviation that was estimated, so that none can be at its boundary.")
    made = []
    with Progress(progressbar) as progress:
        for k, section in enumerate(_SECTIONS):
            progress.report("boundary report", k, len(_SECTIONS))
            made.append(section(material))
    sections = tuple(found for found in made if found is not None)
    verdict, advice = _judge(material)
    left = tuple(left_out(fit.design))
    return BoundaryReport(fit.formula, fit.is_singular, verdict, _words(material), sections, advice, level, left)


def _unusable(fit: REMLResult, level: float) -> BoundaryReport:
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


def _posterior(fit: REMLResult, posterior: Posterior | str, rng: np.random.Generator) -> Posterior | None:
    if isinstance(posterior, Posterior):
        if not same_design(fit.design, posterior.design):
            raise DesignError(
                f"The posterior is one of another model: {posterior.formula!r} on {posterior.n} observations, the fit "
                f"{fit.formula!r} on {fit.n}. Sample the Model that was fitted."
            )
        return posterior
    if not isinstance(posterior, str) or posterior not in ("sample", "none"):
        raise DesignError(f"posterior={shown(posterior)} is neither a posterior of the model, nor 'sample' or 'none'.")
    # A posterior estimates what fix= holds: it would be one of another model.
    if posterior == "none" or fit.optimum.fixed or not fit.status.ok:
        return None
    settings = Settings(4000, "auto", 4, 1000, rng, False, False, ())
    return sample_posterior(fit.design, None, settings, lambda: (fit.cp, fit.optimum))


def _words(material: Material) -> tuple[str, ...]:
    """Which combinations of effects vanished, and which exact tests do not agree."""
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
    disagreement = _disagreement(material)
    return (*found, disagreement) if disagreement else tuple(found)


def _disagreement(material: Material) -> str:
    """Where an estimate is zero although the exact F test says that levels differ."""
    zero = [label for label in material.tests if material.estimates[label] == 0]
    return " ".join(f"{label}: {text}" for label in zero if (text := disagreement(material.tests[label])))


def _judge(material: Material) -> tuple[str, tuple[Advice, ...]]:
    """Verdict and advice."""
    if material.sigma_at_zero:
        return no_residual(material.fit), for_no_residual(f"sigma = {number(material.fit.sigma)}.")
    if material.fit.is_singular:
        zero = (material.estimates[[p.label for p in material.sds]] == 0).any()
        what = "the best value of a variance" if zero else "the best variance of some combination of effects"
        verdict = (
            f"The fit is singular: {what} is exactly zero. That is an estimate and not a failure; nor is it evidence "
            "that nothing varies. In that direction the levels differ less than chance alone would make them differ "
            "on average (levels with much data weigh more in this)."
        )
        return verdict, for_singular(_findings(material))
    rise = material.rises
    near = [label for label in rise.index if rise[label] < _IN_REACH]
    ends = _open_correlations(material)
    if near or ends:
        reach = [f"zero is in reach of the data for {', '.join(near)}"] if near else []
        reach += [f"the profile interval of {', '.join(ends)} ends at the edge"] if ends else []
        verdict = (
            f"The fit is not singular, but {' and '.join(reach)}: read the limits, and take the estimates for no more "
            "than they are."
        )
        return verdict, for_near(_findings(material, near)) if near else for_open_correlations(", ".join(ends))
    share = min(float(own.share[-1]) for own in material.principal)
    parts = f", and every combination of effects varies (the smallest has {percent(share)} of its term's variance)"
    verdict = (
        "The fit is not singular and there is nothing to worry about: at zero the criterion would be higher by "
        f"{number(float(rise.min()))} or more for every sd (a 95 % interval reaches zero below 3.84)"
        f"{parts if share < 1 else ''}."
    )
    return verdict, for_regular()


def _open_correlations(material: Material) -> list[str]:
    """Correlations whose interval ends at the end of their range."""
    labels = [p.label for p in material.correlations]
    if not labels or not material.small:
        return []
    ends = material.fit.confint(parameters=labels)
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


def _degrees(fit: REMLResult) -> str:
    """The coefficient whose degrees of freedom differ most."""
    if not fit.reml or fit.design.p == 0:
        return ""
    try:
        small, large = fit.coefficients(ddf="kenward-roger")["df"], fit.coefficients(ddf="satterthwaite")["df"]
    except (DesignError, FitError):
        return ""
    ratio: pd.Series = large / small
    label = str(ratio.abs().idxmax())
    return (
        f"{label} has {number(float(large[label]))} degrees of freedom by Satterthwaite and "
        f"{number(float(small[label]))} by Kenward-Roger."
    )
