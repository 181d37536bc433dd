"""Calls of MATLAB: fitlme."""

from __future__ import annotations

from bayeslmm.design.groups import level_name
from bayeslmm.design.script import Script
from bayeslmm.exporting.dialects import Dialect, single_quoted, written
from bayeslmm.exporting.named import NamedColumns, coding_name, named_columns, recoded
from bayeslmm.exporting.notes import NET, method_note, missing, rows_notes, title, weights_notes
from bayeslmm.exporting.parts import FactorColumn, ModelParts, WrittenTerm
from bayeslmm.exporting.sheet import Sheet

_SAME = ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sign", "floor", "ceil", "round")
_FUNCTIONS = {
    **{name: f"{name}({{0}})" for name in (*_SAME, "sin", "cos", "tan", "asin", "acos", "atan")},
    "ceiling": "ceil({0})",
    "trunc": "fix({0})",
    "square": "({0}).^2",
    "pmin": "min({0}, {1})",
    "pmax": "max({0}, {1})",
    "I": "({0})",
    "mean": "mean({0}, 'omitnan')",
    "median": "median({0}, 'omitnan')",
    "sd": "std({0}, 'omitnan')",
    "scale": "({0} - mean({0}, 'omitnan')) ./ std({0}, 'omitnan')",
    "center": "({0} - mean({0}, 'omitnan'))",
}
_SIGNS = {"*": ".*", "/": "./", "**": ".^", "!=": "~=", "!": "~", "not": "~", "%": "", "//": "", "%%": "", "%/%": ""}
_PATTERNS = {"us": "FullCholesky", "diag": "Diagonal", "id": "Isotropic", "cs": "CompSymm"}
_RESERVED = (
    *("break", "case", "catch", "classdef", "continue", "else", "elseif", "end", "for", "function", "global", "if"),
    *("otherwise", "parfor", "persistent", "return", "spmd", "switch", "try", "while", "properties", "row"),
)


def matlab(parts: ModelParts) -> Script:
    """``fitlme``."""
    columns = named_columns(parts, _RESERVED)
    bars = [_bar(part, columns) for part in parts.random]
    patterns = [_pattern(part) for part in parts.random]
    formula = f"{columns.response} ~ {' + '.join([columns.sum(parts, ':', '-1'), *bars])}"
    summed = bool(parts.factors) and all(coding_name(f) == "sum" for f in parts.factors.values())
    known = ("treatment", "reference", "sum") if summed else ("treatment", "reference")
    notes = [method_note(parts, "fitlme", "ML"), *recoded(parts, "matlab", known), *_notes(parts)]
    options = [f"'FitMethod', '{'REML' if parts.reml else 'ML'}'"]
    if any(pattern != "FullCholesky" for pattern in patterns):
        options.append(f"'CovariancePattern', {{{', '.join(map(single_quoted, patterns))}}}")
    options += ["'DummyVarCoding', 'effects'"] if summed else []
    options += [f"'Weights', {parts.data}.{columns.weights}"] if columns.weights else []
    arguments = [parts.data, single_quoted(formula), *options]
    lines = [f"    {argument}, ..." for argument in arguments[:-1]]
    call = ["fit = fitlme( ...", *lines, f"    {arguments[-1]});", "disp(fit)"]
    call.append("anova(fit, 'DFMethod', 'satterthwaite')")
    return Sheet(notes, [], _columns(parts, columns), call).script(title(parts, "matlab"), "matlab", "% ")


def _columns(parts: ModelParts, columns: NamedColumns) -> list[str]:
    data = parts.data
    lines = []
    if parts.frequency:
        lines.append(f"{data} = {data}(repelem((1:height({data}))', {data}.frequency), :);")
    lines += [f"{data}.{new} = {data}.({single_quoted(old)});" for old, new in columns.renamed.items() if old != new]
    answers: dict[object, str] = {True: "true", False: "false"}
    own = Dialect("matlab", lambda n: f"{data}.{columns.renamed[n]}", single_quoted, _FUNCTIONS, _SIGNS, answers)
    lines += [f"{data}.{name} = {written(node, own)};" for name, node in columns.made.items()]
    for name, factor in parts.factors.items():
        column = f"{data}.{columns.renamed[name]}"
        lines.append(f"{column} = categorical({column}, {_levels(factor)});")
    for name in dict.fromkeys(n for part in parts.random for n in part.factors if n not in parts.factors):
        column = f"{data}.{columns.renamed[name]}"
        lines.append(f"{column} = categorical({column});")
    return lines


def _levels(factor: FactorColumn) -> str:
    """Levels in their order, the reference first."""
    levels = list(factor.levels)
    levels.sort(key=lambda level: level_name(level) != level_name(factor.reference))
    if all(isinstance(level, bool) for level in levels):
        return f"[{' '.join(str(level).lower() for level in levels)}]"
    if all(isinstance(level, int | float) for level in levels):
        return f"[{' '.join(map(repr, levels))}]"
    return f"{{{', '.join(single_quoted(level_name(level)) for level in levels)}}}"


def _bar(part: WrittenTerm, columns: NamedColumns) -> str:
    return f"({columns.sum(part, ':', '-1')} | {columns.group(part, ':')})"


def _pattern(part: WrittenTerm) -> str:
    if part.keyword not in _PATTERNS:
        raise missing(part, "matlab", "SAS has it, and bayeslmm")
    return _PATTERNS[part.keyword]


def _notes(parts: ModelParts) -> list[str]:
    notes = [NET] if parts.offsets else []
    notes += [*weights_notes(parts), *rows_notes(parts)]
    notes.append(
        "The table of coefficients has t tests with n - p degrees of freedom (residual), whatever the design; the last "
        "line asks for Satterthwaite's, which are the default here."
    )
    return notes
