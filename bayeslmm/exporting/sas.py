"""Calls of SAS: PROC MIXED."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bayeslmm.design.expressions import Name, walk
from bayeslmm.design.groups import level_name
from bayeslmm.design.script import Script
from bayeslmm.exporting.dialects import Dialect, single_quoted, written
from bayeslmm.exporting.named import NamedColumns, named_columns
from bayeslmm.exporting.notes import INDICATORS, NET, method_note, missing, rows_notes, title, weights_notes
from bayeslmm.exporting.parts import ModelParts, WrittenTerm
from bayeslmm.exporting.residuals import WrittenResidual, sas_repeated
from bayeslmm.exporting.sheet import Sheet

_FUNCTIONS = {
    **{name: f"{name}({{0}})" for name in ("log", "log2", "log10", "exp", "sqrt", "abs", "sign", "floor")},
    **{name: f"{name}({{0}})" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "ceil": "ceil({0})",
    "ceiling": "ceil({0})",
    "trunc": "int({0})",
    "log1p": "log(1 + {0})",
    "expm1": "(exp({0}) - 1)",
    "square": "({0})**2",
    "asin": "arsin({0})",
    "arcsin": "arsin({0})",
    "acos": "arcos({0})",
    "arccos": "arcos({0})",
    "atan": "atan({0})",
    "arctan": "atan({0})",
    "pmin": "min({0}, {1})",
    "pmax": "max({0}, {1})",
    "I": "({0})",
    "ifelse": "ifn({0}, {1}, {2})",
    "where": "ifn({0}, {1}, {2})",
}
# Division and remainder of whole numbers have no signs there.
_SIGNS = {"==": "=", "!=": "ne", "!": "not ", "%": "", "//": "", "%%": "", "%/%": ""}
_RESERVED = ("intercept", "int", "residual", "all", "numeric", "character", "frequency", "weights")
_TYPES = {"us": "un", "cs": "cs", "csh": "csh", "ar1": "ar(1)", "ar1h": "arh(1)", "toep": "toep"}


def sas(parts: ModelParts) -> Script:
    """``proc mixed``."""
    columns = named_columns(parts, _RESERVED)
    random, notes = [], [method_note(parts, "proc mixed", "REML")]
    for part in parts.random:
        text, words = _random(part, columns)
        random.append(text)
        notes += words
    notes += _notes(parts)
    copies = dict[str, str]()
    repeated = "" if parts.residual is None else _repeated(parts.residual, parts, columns, copies)
    terms = [columns.term(term, "*") for term in parts.terms]
    options = ["solution", "ddfm=satterthwaite", *([] if parts.intercept else ["noint"])]
    call = [
        f"proc mixed data=work.for_mixed method={'reml' if parts.reml else 'ml'} covtest;",
        *([f"  class {text};"] if (text := " ".join(_classes(parts, columns, list(copies)))) else []),
        f"  model {' '.join([columns.response, '=', *terms])} / {' '.join(options)};",
        *(f"  {line}" for line in random),
        *([f"  {repeated}"] if repeated else []),
        *([f"  weight {columns.weights};"] if columns.weights else []),
        "run;",
    ]
    return Sheet(notes, [], _data_step(parts, columns, copies), call).script(title(parts, "sas"), "sas", "/* ", " */")


def _repeated(residual: WrittenResidual, parts: ModelParts, columns: NamedColumns, copies: dict[str, str]) -> str:
    """The statement of the residuals; `copies` gets the class columns and what they are copies of, if of numbers."""
    numbers = {n.name for root in parts.operands for n in walk(root) if isinstance(n, Name)} - set(parts.factors)

    def as_class(name: str) -> str:
        if name in parts.factors:
            return columns.renamed[name]
        own = f"{columns.renamed[name]}_c" if name in numbers else columns.renamed[name]
        copies[own] = columns.renamed[name] if name in numbers else ""
        return own

    return sas_repeated(residual, as_class, lambda name: columns.renamed[name])


def _data_step(parts: ModelParts, columns: NamedColumns, classes: Mapping[str, str]) -> list[str]:
    dialect = Dialect(
        "sas", lambda name: columns.renamed[name], single_quoted, _FUNCTIONS, _SIGNS, {True: "1", False: "0"}
    )
    changed = [f"  {new} = {single_quoted(old)}n;" for old, new in columns.renamed.items() if old != new]
    made = [f"  {name} = {written(node, dialect)};" for name, node in columns.made.items()]
    made += [f"  {own} = {number};" for own, number in classes.items() if number]
    copies = ["  do copy_ = 1 to frequency;", "    output;", "  end;"] if parts.frequency else []
    odd = ["options validvarname=any;"] if changed else []
    return [*odd, "data work.for_mixed;", f"  set {parts.data};", *changed, *made, *copies, "run;"]


def _classes(parts: ModelParts, columns: NamedColumns, others: Sequence[str]) -> list[str]:
    found = [
        f"{columns.renamed[name]}(ref={single_quoted(level_name(factor.reference))})"
        for name, factor in parts.factors.items()
    ]
    groups = [columns.renamed[name] for part in parts.random for name in part.factors if name not in parts.factors]
    return [*found, *dict.fromkeys([*groups, *others])]


def _random(part: WrittenTerm, columns: NamedColumns) -> tuple[str, list[str]]:
    effects = [*(["intercept"] if part.intercept else []), *(columns.term(term, "*") for term in part.terms)]
    notes = []
    if part.keyword == "id" and part.factor:
        kind = "vc"
    elif part.keyword == "id":
        raise missing(part, "sas", "type=vc has a variance for each effect that is no factor; nlme has pdIdent")
    elif part.keyword == "diag" and (part.numeric or part.factor):
        kind = "vc" if part.numeric else "un(1)"
    elif part.keyword == "diag":
        raise missing(part, "sas", INDICATORS)
    elif part.keyword not in _TYPES:
        raise missing(part, "sas", "bayeslmm fits it")
    else:
        kind = _TYPES[part.keyword]
        if not part.numeric and not part.factor:
            effects = _without_intercept(part, columns)
            notes.append(f"{part.label}: one effect for every level there, the same model in other coordinates.")
    subject = columns.group(part, "*")
    return f"random {' '.join(effects)} / subject={subject} type={kind};", notes


def _without_intercept(part: WrittenTerm, columns: NamedColumns) -> list[str]:
    lone = part.keyword == "us" and len(part.terms) == 1 and len(part.terms[0]) == 1 and part.intercept
    if not lone:
        raise missing(part, "sas", "a class effect has one effect for every level there; make the columns first")
    return [columns.term(part.terms[0], "*")]


def _notes(parts: ModelParts) -> list[str]:
    notes = []
    if parts.factors:
        notes.append(
            "Class effects have a column for every level there; the one in (ref=...) gets the coefficient 0, as the "
            "reference level here. Contrasts are a matter of estimate statements; the type 3 tests do not depend on "
            "them."
        )
    notes += [NET] if parts.offsets else []
    notes += [*weights_notes(parts), *rows_notes(parts)]
    notes.append("ddfm=satterthwaite has to be said: the default there is containment. ddfm=kr is Kenward-Roger.")
    notes.append("The tests of variances by covtest (z) are rough: they treat zero as an inner point.")
    return notes
