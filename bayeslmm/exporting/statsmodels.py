"""Calls of statsmodels' MixedLM: one factor whose levels are independent, variance components within them."""

from __future__ import annotations

from dataclasses import dataclass, field

from bayeslmm.design.names import literal
from bayeslmm.design.script import Script
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.named import NamedColumns, coding_name, named_columns, recoded
from bayeslmm.exporting.notes import INDICATORS, NET, method_note, missing, refuse_weights, rows_notes, title
from bayeslmm.exporting.parts import ModelParts, WrittenTerm
from bayeslmm.exporting.python_language import RESERVED, python_columns, python_group, python_sum, python_value
from bayeslmm.exporting.sheet import Sheet

_HEAD = ("import numpy as np", "import pandas as pd", "import statsmodels.formula.api as smf")
_CODINGS = {"sum": "Sum", "helmert": "Helmert", "poly": "Poly", "diff": "Diff"}
_KNOWN = ("treatment", "reference", *_CODINGS)


@dataclass(frozen=True)
class _Components:
    """Arguments of a MixedLM and lines that make columns for them, filled term by term; one `re_formula` or none."""

    groups: str
    re_formula: list[str] = field(default_factory=list)
    components: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def statsmodels(parts: ModelParts) -> Script:
    """``smf.mixedlm``."""
    refuse_weights(parts, "statsmodels")
    if parts.aliased:
        raise ArgumentError(
            f"mixedlm stops at columns that others span: {', '.join(parts.aliased)} would have to be left out of the "
            "formula."
        )
    columns = named_columns(parts, RESERVED)
    data = python_columns(parts, columns, "statsmodels", ordered=False)
    found = _components(parts, columns)
    notes = [method_note(parts, "fit()", "REML"), *found.notes, *recoded(parts, "statsmodels", _KNOWN)]
    notes += [NET] if parts.offsets else []
    notes += rows_notes(parts, "mixedlm leaves out no rows itself: those with missing values are left out first.")
    notes.append("summary() shows variances (Var, Cov) and z tests; here sds, and degrees of freedom by Satterthwaite.")
    notes.append("A variance of zero is approached, with a warning of convergence; here it is an ordinary estimate.")
    fixed = python_sum(parts.fixed, columns, _codings(parts, columns))
    options = [f"groups={literal(found.groups)}"]
    options += [f"re_formula={literal(text)}" for text in found.re_formula]
    if found.components:
        pairs = ", ".join(f"{literal(name)}: {literal(text)}" for name, text in found.components.items())
        options.append(f"vc_formula={{{pairs}}}")
    call = [
        "model = smf.mixedlm(",
        f"    {literal(f'{columns.response} ~ {fixed}')},",
        f"    {parts.data},",
        *(f"    {option}," for option in options),
        ")",
        f"fit = model.fit(reml={parts.reml})",
        "print(fit.summary())",
    ]
    sheet = Sheet(notes, _HEAD, [*data, *found.lines], call)
    return sheet.script(title(parts, "statsmodels"), "python", "# ")


def _codings(parts: ModelParts, columns: NamedColumns) -> dict[str, str]:
    """Factors whose contrasts are not those of the first level against the others."""
    found = {}
    for name, factor in parts.factors.items():
        kind, own = coding_name(factor), columns.renamed[name]
        if kind in _CODINGS:
            found[name] = f"C({own}, {_CODINGS[kind]})"
        elif kind == "reference":
            found[name] = f"C({own}, Treatment(reference={python_value(factor.reference)}))"
    return found


def _components(parts: ModelParts, columns: NamedColumns) -> _Components:
    names = list(dict.fromkeys(part.group for part in parts.random))
    top = next((a for a in names if all(parts.nested(b, a) for b in names)), None)
    if top is None:
        found = _Components("everything")
        found.lines.append(f'{parts.data}["everything"] = 1')
        found.notes.append("Grouping factors that cross are variance components of a single group: slow for many rows.")
    else:
        own = next(part for part in parts.random if part.group == top)
        found = _Components(python_group(own, columns))
    for part in parts.random:
        _add(part, part.group == top, found, parts, columns)
    return found


def _add(part: WrittenTerm, on_top: bool, found: _Components, parts: ModelParts, columns: NamedColumns) -> None:
    """One random term: the free covariance of the groups if it can be that, or variance components."""
    group = python_group(part, columns)
    within = "" if on_top else f"C({group})"
    if part.keyword == "id" and part.factor:
        own = f"C({columns.renamed[part.factor]})"
        found.components[f"{group}_{columns.renamed[part.factor]}"] = f"0 + {f'{within}:' if within else ''}{own}"
        return
    if part.keyword not in ("us", "diag"):
        raise missing(part, "statsmodels", "its covariances are free, or one variance each")
    if on_top and not found.re_formula and part.keyword == "us":
        found.re_formula.append(columns.sum(part, ":"))
        return
    if part.keyword == "us" and len(part.effects) > 1:
        raise ArgumentError(
            f"statsmodels has correlated effects of one grouping factor only, that of groups=; {part.label} would be a "
            "second term with correlations. lme4 has it."
        )
    for name, column in _single(part, found, parts, columns):
        if on_top and not found.re_formula:
            found.re_formula.append("1" if column == "1" else f"0 + {column}")
        elif column == "1":
            found.components[f"{group}_{name}"] = f"0 + {within}" if within else "1"
        else:
            found.components[f"{group}_{name}"] = f"0 + {f'{within}:' if within else ''}{column}"


def _single(part: WrittenTerm, found: _Components, parts: ModelParts, columns: NamedColumns) -> list[tuple[str, str]]:
    """Independent columns of a term, each with a name."""
    if part.factor:
        own, names = columns.renamed[part.factor], []
        for k, level in enumerate(parts.factors[part.factor].levels, 1):
            name = f"{own}_{k}"
            column = f"{parts.data}[{literal(own)}]"
            value = f"({column} == {python_value(level)}).astype(float)"
            found.lines.append(f"{parts.data}[{literal(name)}] = {value}")
            names.append((name, name))
        return names
    if not part.numeric:
        raise missing(part, "statsmodels", INDICATORS)
    slopes = [columns.term(term, ":") for term in part.terms]
    return [
        *([("Intercept", "1")] if part.intercept else []),
        *((slope.replace(":", "_"), slope) for slope in slopes),
    ]
