"""Calls of Julia's MixedModels.jl."""

from __future__ import annotations

from typing import Any

from bayeslmm.design.groups import level_name
from bayeslmm.design.names import printable
from bayeslmm.design.script import Script
from bayeslmm.exporting.dialects import Dialect, written
from bayeslmm.exporting.named import NamedColumns, coding_name, named_columns, recoded
from bayeslmm.exporting.notes import FREQUENCY, NET, method_note, missing, title, weights_notes
from bayeslmm.exporting.parts import FactorColumn, ModelParts, WrittenTerm
from bayeslmm.exporting.sheet import Sheet

_SAME = ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "cbrt", "abs", "sign", "floor", "ceil", "trunc")
_FUNCTIONS = {
    **{name: f"{name}.({{0}})" for name in (*_SAME, "sin", "cos", "tan", "asin", "acos", "atan")},
    "ceiling": "ceil.({0})",
    "square": "({0}) .^ 2",
    "pmin": "min.({0}, {1})",
    "pmax": "max.({0}, {1})",
    "ifelse": "ifelse.({0}, {1}, {2})",
    "where": "ifelse.({0}, {1}, {2})",
    "I": "({0})",
    "mean": "mean({0})",
    "median": "median({0})",
    "sd": "std({0})",
    "var": "var({0})",
    "scale": "({0} .- mean({0})) ./ std({0})",
    "center": "({0} .- mean({0}))",
}
_SIGNS = {
    **{sign: f".{sign}" for sign in ("+", "-", "*", "/", "<", ">", "<=", ">=", "==", "!=", "&", "|")},
    **{"**": " .^ ", "!": ".!", "not": ".!", "and": ".&", "or": ".|", "%": "", "//": "", "%%": "", "%/%": ""},
}
_CODINGS = {"sum": "EffectsCoding", "helmert": "HelmertCoding", "diff": "SeqDiffCoding"}
_KNOWN = ("treatment", "reference", *_CODINGS)
_RESERVED = (
    *("baremodule", "begin", "break", "catch", "const", "continue", "do", "else", "elseif", "end", "export", "false"),
    *("finally", "for", "function", "global", "if", "import", "let", "local", "macro", "module", "quote", "return"),
    *("struct", "true", "try", "using", "while", "in", "isa", "where"),
)


def julia(parts: ModelParts) -> Script:
    """``fit(MixedModel, ...)``."""
    columns = named_columns(parts, _RESERVED)
    bars = [_bar(part, columns) for part in parts.random]
    formula = f"@formula({columns.response} ~ {' + '.join([columns.sum(parts, ' & '), *bars])})"
    notes = [method_note(parts, "MixedModels", "ML"), *recoded(parts, "julia", _KNOWN)]
    notes += [*([NET] if parts.offsets else []), *([FREQUENCY] if parts.frequency else [])]
    notes += weights_notes(parts)
    notes += ["Rows with missing values are left out first."] * parts.dropped
    notes.append("The table has z tests: no degrees of freedom, where here Satterthwaite's are the default.")
    options = [f"REML={'true' if parts.reml else 'false'}", "contrasts=contrasts"]
    options += [f"wts={parts.data}.{columns.weights}"] if columns.weights else []
    call = [
        "model = fit(",
        "    MixedModel,",
        f"    {formula},",
        f"    {parts.data};",
        f"    {', '.join(options)},",
        ")",
    ]
    data = [*_columns(parts, columns), *_contrasts(parts, columns)]
    sheet = Sheet(notes, ["using DataFrames, MixedModels, Statistics"], data, call)
    return sheet.script(title(parts, "julia"), "julia", "# ")


def julia_text(text: str) -> str:
    r"""A string without interpolation.

    Examples
    --------
    >>> print(julia_text('a"b $(c)'))
    "a\"b \$(c)"
    """
    return f'"{printable(text, also=chr(92) + chr(34) + "$")}"'


def _columns(parts: ModelParts, columns: NamedColumns) -> list[str]:
    data = parts.data
    counts = ["frequency"] if parts.frequency else []
    lines = [f"{data} = {data}[:, [{', '.join(map(julia_text, [*columns.renamed, *counts]))}]]"]
    pairs = [f"{julia_text(old)} => {julia_text(new)}" for old, new in columns.renamed.items() if old != new]
    lines += [f"rename!({data}, {', '.join(pairs)})"] if pairs else []
    lines += [f"dropmissing!({data})"] if parts.dropped else []
    if parts.frequency:
        lines.append(f"{data} = {data}[reduce(vcat, fill.(1:nrow({data}), {data}.frequency)), :]")
    answers: dict[object, str] = {True: "true", False: "false"}
    own = Dialect("julia", lambda n: f"{data}.{columns.renamed[n]}", julia_text, _FUNCTIONS, _SIGNS, answers)
    return [*lines, *(f"{data}.{name} = {written(node, own)}" for name, node in columns.made.items())]


def _contrasts(parts: ModelParts, columns: NamedColumns) -> list[str]:
    found = [f"    :{columns.renamed[name]} => {_coding(factor)}," for name, factor in parts.factors.items()]
    groups = dict.fromkeys(n for part in parts.random for n in part.factors if n not in parts.factors)
    found += [f"    :{columns.renamed[name]} => Grouping()," for name in groups]
    return ["contrasts = Dict{Symbol,Any}(", *found, ")"]


def _coding(factor: FactorColumn) -> str:
    kind, levels = coding_name(factor), [_level(level) for level in factor.levels]
    base = levels[-1] if kind == "sum" else _level(factor.reference)
    if kind in ("helmert", "diff"):
        return f"{_CODINGS[kind]}(levels=[{', '.join(levels)}])"
    return f"{_CODINGS.get(kind, 'DummyCoding')}(base={base}, levels=[{', '.join(levels)}])"


def _level(level: Any) -> str:
    if isinstance(level, bool):
        return str(level).lower()
    return repr(level) if isinstance(level, int | float) else julia_text(level_name(level))


def _bar(part: WrittenTerm, columns: NamedColumns) -> str:
    group = columns.group(part, " & ")
    if part.keyword == "id" and part.factor:
        return f"(1 | {group} & {columns.renamed[part.factor]})"
    if part.keyword not in ("us", "diag"):
        raise missing(part, "julia", "its covariances are free, or of independent effects (zerocorr)")
    left = columns.sum(part, " & ")
    return f"zerocorr({left} | {group})" if part.keyword == "diag" else f"({left} | {group})"
