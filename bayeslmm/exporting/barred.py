"""Calls of R's packages that have lme4's bars: lme4, glmmTMB, brms and rstanarm."""

from __future__ import annotations

from collections.abc import Sequence

from bayeslmm.design.script import Script
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.notes import GIVEN, SAMPLE_HERE, SAMPLED, method_note, missing, rows_notes, title, weights_notes
from bayeslmm.exporting.parts import ModelParts, WrittenTerm
from bayeslmm.exporting.r_language import r_columns, r_name, r_response, r_sum, r_text, split_columns
from bayeslmm.exporting.residuals import brms_pieces, glmmtmb_pieces
from bayeslmm.exporting.sheet import Sheet

_LIKELIHOOD_WEIGHTS = (
    "{0}'s weights multiply the log likelihood of a row, as if it had been observed so often; those of this model "
    "divide its residual variance."
)
_GLMMTMB = {
    **{"us": "", "diag": "diag", "id": "homdiag", "cs": "homcs", "csh": "cs"},
    **{"ar1": "ar1", "ar1h": "hetar1", "toep": "homtoep"},
}


def _split(part: WrittenTerm, parts: ModelParts, number: int, package: str) -> tuple[list[str], list[str]]:
    """Independent effects: as they stand where every column is a number, else by columns of their own."""
    if part.numeric and len(part.effects) == len(part.terms) + part.intercept:
        return [], [_plain(part, package, bar="||")]
    lines, lefts = split_columns(part, number, parts, package)
    return lines, [f"({left} | {_group(part.factors)})" for left in lefts]


def _plain(part: WrittenTerm, package: str, keyword: str = "", options: str = "", bar: str = "|") -> str:
    return f"{keyword}({r_sum(part.left, package)} {bar} {_group(part.factors)}{options})"


def _cells(part: WrittenTerm) -> str:
    """One variance for all levels of f: an intercept for every cell of f and the group."""
    return f"(1 | {_group((*part.factors, part.factor))})"


def _group(factors: Sequence[str]) -> str:
    return ":".join(map(r_name, factors))


def _formula(parts: ModelParts, bars: Sequence[str], package: str, given: str = "") -> str:
    """Response, with what is `given` of its rows, and terms."""
    terms = [r_sum(parts.fixed, package), *bars]
    terms += [f"offset({r_text(node, package)})" for node in parts.offsets]
    return f"{r_response(parts, package)}{given} ~ {' + '.join(terms)}"


def lme4(parts: ModelParts) -> Script:
    """``lmer``; structures other than ``us`` and ``diag`` need version 2."""
    data, bars, notes = r_columns(parts, "lme4"), list[str](), [method_note(parts, "lmer", "REML")]
    for k, part in enumerate(parts.random, 1):
        lines, own, words = _lme4_term(part, parts, k)
        data += lines
        bars += own
        notes += words
    weights = [] if parts.weights is None else [f"weights = {r_text(parts.weights, 'lme4')}"]
    notes += [*weights_notes(parts), *rows_notes(parts)]
    notes.append("summary() has no p values: library(lmerTest) in place of lme4 adds Satterthwaite's, as here.")
    notes.append("confint(fit) profiles the ML deviance; confint() here profiles the criterion of the fit.")
    if parts.aliased:
        notes.append(f"lmer leaves out columns that others span, as here ({', '.join(parts.aliased)}).")
    call = _call("lmer", _formula(parts, bars, "lme4"), parts, [f"REML = {_flag(parts.reml)}", *weights])
    return Sheet(notes, ["library(lme4)"], data, call).script(title(parts, "lme4"), "r", "# ")


def _lme4_term(part: WrittenTerm, parts: ModelParts, number: int) -> tuple[list[str], list[str], list[str]]:
    later = f"{part.label} needs lme4 2.0 or later: earlier ones have no {part.keyword}()."
    match part.keyword:
        case "us":
            return [], [_plain(part, "lme4")], []
        case "diag":
            lines, bars = _split(part, parts, number, "lme4")
            word = f"{part.label}: || would leave columns of one factor correlated, so each effect has a column."
            return lines, bars, [word] if lines else []
        case "id" if part.factor:
            return [], [_cells(part)], []
        case "id":
            return [], [_plain(part, "lme4", "diag", ", hom = TRUE")], [later.replace("id()", "structures")]
        case "cs":
            return [], [_plain(part, "lme4", "cs", ", hom = TRUE")], [later]
        case "csh":
            word = f"{part.label} needs lme4 2.0 or later, where it is called cs()."
            return [], [_plain(part, "lme4", "cs", ", hom = FALSE")], [word]
        case "ar1":
            return [], [_plain(part, "lme4", "ar1", ", hom = TRUE")], [later]
        case "ar1h":
            word = f"{part.label} needs lme4 2.0 or later, where it is called ar1()."
            return [], [_plain(part, "lme4", "ar1", ", hom = FALSE")], [word]
    raise missing(part, "lme4", "glmmTMB has homtoep(), SAS type=toep")


def glmmtmb(parts: ModelParts) -> Script:
    """``glmmTMB``, whose default is ML."""
    if parts.weights is not None:
        raise ArgumentError(
            f"{_LIKELIHOOD_WEIGHTS.format('glmmTMB')} Use lme4, nlme, sas, matlab or julia, which have such weights."
        )
    odd = [part for part in parts.random if part.keyword not in _GLMMTMB]
    if odd:
        raise missing(odd[0], "glmmTMB", "bayeslmm fits it")
    bars = [_plain(part, "glmmTMB", _GLMMTMB[part.keyword]) for part in parts.random]
    used = {_GLMMTMB[part.keyword] for part in parts.random}
    notes = [method_note(parts, "glmmTMB", "ML")]
    new = sorted(used & {"homdiag", "homcs", "homtoep"})
    if new:
        notes.append(f"{', '.join(new)} (one common variance) need a recent glmmTMB; the old ones have {_old(new)}.")
    for name in sorted(used & {"ar1", "hetar1"}):
        notes.append(f"{name} takes the levels of a factor in their order as equally spaced times, as here.")
    notes += ["hetar1 is right in versions later than 1.1.11."] * ("hetar1" in used)
    data, options = r_columns(parts, "glmmTMB"), [f"REML = {_flag(parts.reml)}"]
    if parts.residual is not None:
        pieces, terms = glmmtmb_pieces(parts.residual, parts.data)
        data += pieces.lines
        bars += terms
        options += pieces.options
        notes += pieces.notes
    notes += rows_notes(parts)
    notes.append("summary() has z tests: no degrees of freedom, where here Satterthwaite's are the default.")
    notes.append("A variance of zero is approached on the log scale: such fits warn of convergence there.")
    call = _call("glmmTMB", _formula(parts, bars, "glmmTMB"), parts, options)
    return Sheet(notes, ["library(glmmTMB)"], data, call).script(title(parts, "glmmTMB"), "r", "# ")


def _old(new: Sequence[str]) -> str:
    return ", ".join(name.removeprefix("hom") for name in new) + " with a variance for each effect"


def brms(parts: ModelParts) -> Script:
    """``brm``, with Stan."""
    bars = []
    for part in parts.random:
        if part.keyword == "id" and part.factor:
            bars.append(_cells(part))
        elif part.keyword not in ("us", "diag"):
            raise missing(part, "brms", SAMPLE_HERE)
        else:
            bars.append(_plain(part, "brms", bar="||" if part.keyword == "diag" else "|"))
    notes = [
        "Priors are brms's own: student_t(3, median(y), max(2.5, mad(y))) for the intercept at the means of the "
        "predictors, flat slopes, student_t(3, 0, max(2.5, mad(y))) for sds and sigma, lkj(1) for correlations. The "
        'same here: model.sample(priors="brms").',
        SAMPLED,
    ]
    if parts.residual is not None:
        terms, sigma = brms_pieces(parts.residual)
        bars += terms
    else:
        sigma = ""
    formula = _formula(parts, bars, "brms")
    if parts.known and parts.weights is not None:
        formula = _formula(parts, bars, "brms", f" | se({r_text(parts.weights, 'brms')})")
        notes += ["se() gives known standard errors, with sigma = 0 beside them: the same model."]
        notes += ["They were given as numbers: put them into a column called weights."] if parts.given_weights else []
    elif parts.weights is not None:
        weight = r_text(parts.weights, "brms")
        formula = f"bf({formula}, sigma ~ {sigma or '1'} + offset(-log({weight}) / 2))"
        notes += [_LIKELIHOOD_WEIGHTS.format("brms") + " So log(sigma) gets an offset, and its intercept a prior."]
        notes += [GIVEN] if parts.given_weights else []
    elif sigma:
        formula = f"bf({formula}, sigma ~ {sigma})"
        notes.append("sigma ~ ... is the log of the residual standard deviation, with priors of its own.")
    notes += rows_notes(parts)
    call = _call("brm", formula, parts, ["family = gaussian()", "chains = 4", "seed = 1"])
    return Sheet(notes, ["library(brms)"], r_columns(parts, "brms"), call).script(title(parts, "brms"), "r", "# ")


def rstanarm(parts: ModelParts) -> Script:
    """``stan_lmer``, whose formulas are lme4's."""
    if parts.weights is not None:
        raise ArgumentError(f"{_LIKELIHOOD_WEIGHTS.format('rstanarm')} brms can have them, and model.sample() here.")
    data, bars = r_columns(parts, "rstanarm"), list[str]()
    for k, part in enumerate(parts.random, 1):
        if part.keyword == "id" and part.factor:
            bars.append(_cells(part))
        elif part.keyword not in ("us", "diag"):
            raise missing(part, "rstanarm", SAMPLE_HERE)
        else:
            lines, own = _split(part, parts, k, "rstanarm") if part.keyword == "diag" else ([], [_plain(part, "lme4")])
            data += lines
            bars += own
    notes = [
        "Priors are rstanarm's own: normal(mean(y), 2.5 sd(y)) for the intercept at the means of the predictors, "
        "normal(0, 2.5 sd(y) / sd(x)) for slopes, exponential(1 / sd(y)) for sigma, decov() for covariances. The same "
        'here: model.sample(priors="rstanarm").',
        SAMPLED,
        *rows_notes(parts),
    ]
    call = _call("stan_lmer", _formula(parts, bars, "rstanarm"), parts, ["chains = 4", "seed = 1"])
    return Sheet(notes, ["library(rstanarm)"], data, call).script(title(parts, "rstanarm"), "r", "# ")


def _flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"


def _call(function: str, formula: str, parts: ModelParts, options: Sequence[str]) -> list[str]:
    return [
        f"fit <- {function}(",
        f"  {formula},",
        f"  {', '.join([f'data = {parts.data}', *options])}",
        ")",
        "summary(fit)",
    ]
