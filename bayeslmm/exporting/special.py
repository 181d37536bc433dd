"""Calls of packages for one kind of model: mmrm, residual structures without random effects; metafor, known errors."""

from __future__ import annotations

from bayeslmm.design.names import literal
from bayeslmm.design.residual_translation import METAFOR_STRUCTS
from bayeslmm.design.script import Script
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.dialects import written
from bayeslmm.exporting.notes import GIVEN, NET, method_note, rows_notes, title, weights_notes
from bayeslmm.exporting.parts import ModelParts, WrittenTerm
from bayeslmm.exporting.r_language import r_columns, r_dialect, r_name, r_response, r_sum, r_text, r_values
from bayeslmm.exporting.residuals import mmrm_term, r_group, r_levels
from bayeslmm.exporting.sheet import Sheet

_STRUCTS = {here: there for there, here in METAFOR_STRUCTS.items()}


def mmrm(parts: ModelParts) -> Script:
    """``mmrm``."""
    residual = parts.residual
    if residual is None or parts.random:
        raise ArgumentError(
            "mmrm has covariances of the residuals and no random effects: residual='us(visit | patient)' without a "
            "(1 | g). lme4, nlme, SAS and glmmTMB have random effects."
        )
    # A factor of its own: the visits may be numbers in the fixed part.
    visit = f"{residual.place}_visit"
    term, data = mmrm_term(residual, visit), r_columns(parts, "mmrm")
    group = r_group(residual.group, parts.data, data)
    if len(residual.group) == 1:
        data.append(f"{parts.data}${group} <- factor({parts.data}${group})")
    if residual.arm and residual.arm not in parts.factors:
        data.append(f"{parts.data}${residual.arm} <- factor({parts.data}${residual.arm})")
    if visit in term:
        levels = f", levels = {r_levels(residual)}" if residual.visits else ""
        data.append(f"{parts.data}${visit} <- factor({parts.data}${residual.place}{levels})")
    notes = [method_note(parts, "mmrm", "REML"), *([NET] if parts.offsets else [])]
    notes += [*weights_notes(parts), *rows_notes(parts)]
    notes.append("Degrees of freedom are Satterthwaite's, as here.")
    weights = [] if parts.weights is None else [f"weights = {r_values(parts.weights, parts.data, 'mmrm')}"]
    formula = f"{written(parts.net_response, r_dialect('mmrm'))} ~ {r_sum(parts.fixed, 'mmrm')} + {term}"
    options = [f"data = {parts.data}", *weights, f"reml = {'TRUE' if parts.reml else 'FALSE'}"]
    call = ["fit <- mmrm(", f"  {formula},", f"  {', '.join(options)}", ")", "summary(fit)"]
    return Sheet(notes, ["library(mmrm)"], data, call).script(title(parts, "mmrm"), "r", "# ")


def metafor(parts: ModelParts) -> Script:
    """``rma``, or ``rma.mv`` for several levels."""
    if not parts.known or parts.weights is None:
        raise ArgumentError(
            "metafor fits models whose standard errors are known row by row: bl.Model('yi ~ 1 + (1 | study)', data, "
            "residual_sd='se'). Sigma of this model is estimated."
        )
    if parts.offsets:
        raise ArgumentError("metafor has no offsets. Take them off the response in the data first.")
    data, single = r_columns(parts, "metafor"), _single(parts)
    se = r_text(parts.weights, "metafor")
    mods = f"~ {r_sum(parts.fixed, 'metafor')}"
    method = literal("REML" if parts.reml else "ML")
    notes = [method_note(parts, "rma" if single else "rma.mv", "REML")]
    notes += [GIVEN.replace("weights", "standard errors", 1)] if parts.given_weights else []
    notes += rows_notes(parts)
    if parts.reml:
        notes.append("Its restricted log likelihood has half of log det X'X on top; estimates are the same.")
    notes.append('Tests are by z, as the summary here; test = "knha" is ddf="knapp-hartung" here.')
    if single:
        call = ["fit <- rma(", f"  yi = {r_response(parts, 'metafor')}, sei = {se},", f"  mods = {mods},"]
    else:
        variance = f"({se})^2"
        call = ["fit <- rma.mv(", f"  yi = {r_response(parts, 'metafor')}, V = {variance},", f"  mods = {mods},"]
        call += [f"  {option}," for option in _random(parts)]
    call += [f"  data = {parts.data}, method = {method}", ")", "summary(fit)"]
    return Sheet(notes, ["library(metafor)"], data, call).script(title(parts, "metafor"), "r", "# ")


def _single(parts: ModelParts) -> bool:
    """Whether there is one variance, of a factor with one row per level."""
    if len(parts.random) != 1 or parts.random[0].effects != ("Intercept",):
        return False
    codes = parts.codes[parts.random[0].group]
    return bool(codes.size == codes.max() + 1)


def _random(parts: ModelParts) -> list[str]:
    """Arguments ``random`` and ``struct``."""
    terms, structs = list[str](), list[str]()
    for part in parts.random:
        group = "/".join(r_name(name) for name in part.factors)
        if part.effects == ("Intercept",):
            terms.append(f"~ 1 | {_interaction(part)}")
            continue
        if not part.factor or part.keyword not in _STRUCTS:
            raise ArgumentError(
                f"metafor has no covariance like that of {part.label}; it has intercepts and one effect for every "
                "level of a factor, cs(0 + f | g), csh, us, ar1, id and diag."
            )
        terms.append(f"~ {r_name(part.factor)} | {group}")
        structs.append(_STRUCTS[part.keyword])
    struct = [f"struct = {literal(structs[0])}"] if len(structs) == 1 else []
    struct = struct or ([f"struct = c({', '.join(map(literal, structs))})"] if structs else [])
    return [f"random = list({', '.join(terms)})", *struct]


def _interaction(part: WrittenTerm) -> str:
    names = [r_name(name) for name in part.factors]
    return names[0] if len(names) == 1 else f"interaction({', '.join(names)})"
