"""R: names, texts, expressions, and the lines that make the columns of a data frame what they are here."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bayeslmm.design.contrasts import Treatment
from bayeslmm.design.expressions import Call, Chain, Name, Node, Number
from bayeslmm.design.groups import level_name
from bayeslmm.design.names import literal, printable
from bayeslmm.design.recipe import NamedContrasts
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.dialects import Dialect, spaced, written
from bayeslmm.exporting.parts import FactorColumn, ModelParts, WrittenTerm, fixed_tokens

_SYNTACTIC = re.compile(r"[A-Za-z][A-Za-z0-9._]*")
_RESERVED = {
    *("if", "else", "repeat", "while", "function", "for", "next", "break", "in", "TRUE", "FALSE", "NULL", "Inf"),
    *("NaN", "NA", "NA_integer_", "NA_real_", "NA_character_", "NA_complex_"),
}
_SAME = (
    *("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sign", "floor", "ceiling", "trunc", "round"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "I", "pmin", "pmax", "ifelse", "mean"),
    *("sd", "var", "median", "min", "max", "sum", "scale", "poly", "factor", "as.factor", "ordered", "relevel", "c"),
)
_OTHER = {
    "ceil": "ceiling(",
    "where": "ifelse(",
    "arcsin": "asin(",
    "arccos": "acos(",
    "arctan": "atan(",
    "bs": "splines::bs(",
    "ns": "splines::ns(",
    "as.ordered": "ordered(",
    "C": "C(",
}
# More levels are left to R to sort, if they are in that order.
_LEVELS = 60
_PER_LINE = 78


def r_name(name: str) -> str:
    r"""A column in a formula or after ``df$``.

    Examples
    --------
    >>> print(r_name("x.1"), r_name("t [s]"), r_name("a\\b"))
    x.1 `t [s]` `a\\b`
    """
    plain = _SYNTACTIC.fullmatch(name) and name not in _RESERVED
    return name if plain else f"`{printable(name, also='`' + chr(92))}`"


def r_dialect(package: str) -> Dialect:
    """R's spelling of expressions."""
    constants: dict[object, str] = {True: "TRUE", False: "FALSE", None: "NULL", "pi": "pi", "np.pi": "pi"}
    # Codings of C(f, ...): formulae's words in R's.
    # As text: lme evaluates the formula where the functions themselves are no valid variables.
    constants |= {"Sum": literal("contr.sum"), "Treatment": literal("contr.treatment")}
    constants |= {name: literal(name) for name in ("contr.treatment", "contr.sum", "contr.helmert", "contr.poly")}
    signs = {"**": "^", "//": "%/%", "%": "%%", "not": "!", "and": "&", "or": "|"}
    functions = {name: f"{name}(" for name in _SAME} | _OTHER
    return Dialect(package, r_name, literal, functions, signs, constants, items="c({})")


def r_text(node: Node, package: str) -> str:
    """An operand of a formula."""
    if isinstance(node, Call) and node.function == "center" and len(node.arguments) == 1:
        node = Call("I", (Chain(node.arguments[0], (("-", Call("mean", node.arguments)),)),))
    if isinstance(node, Name | Call | Number):
        return written(node, r_dialect(package))
    return f"I({written(node, r_dialect(package))})"


def r_values(node: Node, data: str, package: str) -> str:
    """An expression of the columns of a data frame, outside of formulas."""
    if isinstance(node, Name):
        return f"{data}${r_name(node.name)}"
    return f"with({data}, {written(node, r_dialect(package))})"


def r_response(parts: ModelParts, package: str) -> str:
    """The left-hand side, where arithmetic means arithmetic."""
    return written(parts.response, r_dialect(package))


def r_sum(text: str, package: str) -> str:
    """A fixed part or left side; the rules of expansion are R's."""
    words = (piece if isinstance(piece, str) else r_text(piece, package) for piece in fixed_tokens(text))
    return spaced(("^" if word == "**" else word for word in words), "^")


def r_columns(parts: ModelParts, package: str) -> list[str]:
    """Lines that make rows, factors and contrasts what they are here."""
    data, lines = parts.data, list[str]()
    if parts.dropped:
        used = ", ".join(map(literal, parts.columns))
        lines.append(f"{data} <- {data}[complete.cases({data}[, c({used})]), ]")
    if parts.frequency:
        lines.append(f"{data} <- {data}[rep(seq_len(nrow({data})), {data}$frequency), ]")
    for name, factor in parts.factors.items():
        column = f"{data}${r_name(name)}"
        if factor.levels != (False, True):
            lines += _folded(f"{column} <- factor({column}, ", _levels(column, factor))
        coding = factor.coding
        if coding is not None:
            chosen, count = _contrasts(coding, factor, package)
            lines.append(f"contrasts({column}{count}) <- {chosen}")
    return lines


def split_columns(part: WrittenTerm, number: int, parts: ModelParts, package: str) -> tuple[list[str], list[str]]:
    """Lines that make a column of each effect of a term, and the left sides ``0 + column``."""
    matrix, data = f"Z{number}", parts.data
    lines = [f"{matrix} <- model.matrix(~ {r_sum(part.left, package)}, {data})"]
    names = [f"{matrix}_{k + 1}" for k in range(len(part.effects))]
    lines += [
        f"{data}${name} <- {matrix}[, {k + 1}]  # {printable(effect)}"
        for k, (name, effect) in enumerate(zip(names, part.effects, strict=True))
    ]
    return lines, [f"0 + {name}" for name in names]


def _levels(column: str, factor: FactorColumn) -> list[str]:
    names = [level_name(level) for level in factor.levels]
    ordered = ["ordered = TRUE"] if factor.ordered else []
    if len(names) > _LEVELS and names == sorted(names):
        return [f'levels = sort(unique(as.character({column})), method = "radix")', *ordered]
    return [f"levels = c({', '.join(map(literal, names))})", *ordered]


def _folded(start: str, arguments: list[str]) -> list[str]:
    text = f"{start}{', '.join(arguments)})"
    if len(text) <= _PER_LINE:
        return [text]
    return [start.rstrip(), *(f"  {argument}," for argument in arguments[:-1]), f"  {arguments[-1]}", ")"]


def _contrasts(coding: Any, factor: FactorColumn, package: str) -> tuple[str, str]:
    """R's words for contrasts, and the number of columns where it has to be said."""
    levels = [level_name(level) for level in factor.levels]
    if isinstance(coding, Treatment):
        base = levels.index(level_name(factor.reference)) + 1
        return f"contr.treatment(c({', '.join(map(literal, levels))}), base = {base})", ""
    known = {"treatment": "contr.treatment", "sum": "contr.sum", "helmert": "contr.helmert", "poly": "contr.poly"}
    if isinstance(coding, str):
        return f"MASS::contr.sdif({len(levels)})" if coding == "diff" else literal(known[coding]), ""
    if isinstance(coding, NamedContrasts):
        rows = [level_name(row) for row in coding.rows]
        named = set(rows) == set(levels)
        matrix = coding.matrix[[rows.index(level) for level in levels]] if named else coding.matrix
    else:
        matrix = np.asarray(coding, dtype=float)
    if matrix.ndim != 2:
        raise ArgumentError(f"These contrasts cannot be written for {package}. Make the columns in the data first.")
    values = ", ".join(repr(float(value)) for value in matrix.T.ravel())
    return f"matrix(c({values}), nrow = {matrix.shape[0]})", f", {matrix.shape[1]}"
