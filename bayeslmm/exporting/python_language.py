"""Python: lines that make the columns of a pandas data frame what they are here, and formulas of plain names."""

from __future__ import annotations

import keyword
from typing import Any

from bayeslmm.design.expressions import Name, Node
from bayeslmm.design.groups import level_name
from bayeslmm.design.names import literal
from bayeslmm.exporting.dialects import Dialect, spaced, written
from bayeslmm.exporting.named import NamedColumns
from bayeslmm.exporting.parts import FactorColumn, ModelParts, WrittenTerm, fixed_tokens

# Words of Python, and what formulas call.
RESERVED = (*(word.lower() for word in keyword.kwlist), *("c", "q", "i", "np", "pd", "sum", "treatment", "everything"))
_NUMPY = (
    *("log2", "log10", "log1p", "exp", "expm1", "sqrt", "cbrt", "square", "abs", "sign", "floor", "ceil", "trunc"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
)
_FUNCTIONS = {
    **{name: f"np.{name}({{0}})" for name in _NUMPY},
    "log": "np.log({0})",
    "ceiling": "np.ceil({0})",
    "asin": "np.arcsin({0})",
    "acos": "np.arccos({0})",
    "atan": "np.arctan({0})",
    "pmin": "np.minimum({0}, {1})",
    "pmax": "np.maximum({0}, {1})",
    "ifelse": "np.where({0}, {1}, {2})",
    "where": "np.where({0}, {1}, {2})",
    "I": "({0})",
    "mean": "np.mean({0})",
    "median": "np.median({0})",
    "min": "np.min({0})",
    "max": "np.max({0})",
    "sum": "np.sum({0})",
    "sd": "np.std({0}, ddof=1)",
    "var": "np.var({0}, ddof=1)",
    "scale": "({0} - np.mean({0})) / np.std({0}, ddof=1)",
    "center": "({0} - np.mean({0}))",
    "standardize": "({0} - np.mean({0})) / np.std({0}, ddof=0)",
}
_SIGNS = {"not": "~", "!": "~", "and": "&", "or": "|", "^": "**", "%%": "%", "%/%": "//"}


def python_dialect(package: str, columns: NamedColumns, data: str) -> Dialect:
    """NumPy's spelling of expressions of columns."""
    constants: dict[object, str] = {True: "True", False: "False", None: "None", "pi": "np.pi", "np.pi": "np.pi"}
    return Dialect(
        package, lambda name: f"{data}[{literal(columns.renamed[name])}]", literal, _FUNCTIONS, _SIGNS, constants
    )


def python_columns(parts: ModelParts, columns: NamedColumns, package: str, *, ordered: bool) -> list[str]:
    """Lines that make rows, names, new columns, factors and combined grouping factors.

    Parameters
    ----------
    ordered : bool
        Whether factors are marked as ordered, where that is what keeps the order of their levels.
    """
    data = parts.data
    counts = ["frequency"] if parts.frequency else []
    lines = [f"{data} = {data}[{literal([*columns.renamed, *counts])}]"]
    changed = {old: new for old, new in columns.renamed.items() if old != new}
    if changed:
        pairs = ", ".join(f"{literal(old)}: {literal(new)}" for old, new in changed.items())
        lines.append(f"{data} = {data}.rename(columns={{{pairs}}})")
    if parts.dropped:
        lines.append(f"{data} = {data}.dropna()")
    if parts.frequency:
        lines.append(f'{data} = {data}.loc[{data}.index.repeat({data}["frequency"])].reset_index(drop=True)')
    dialect = python_dialect(package, columns, data)
    for name, node in columns.made.items():
        lines.append(f"{data}[{literal(name)}] = {written(node, dialect)}")
    for column, factor in parts.factors.items():
        lines.append(_categorical(f"{data}[{literal(columns.renamed[column])}]", factor, ordered))
    for part in parts.random:
        if len(part.factors) > 1:
            lines.append(combined(part, columns, data))
    return list(dict.fromkeys(lines))


def python_group(part: WrittenTerm, columns: NamedColumns) -> str:
    """Name of a grouping column."""
    return columns.group(part, "_by_")


def combined(part: WrittenTerm, columns: NamedColumns, data: str) -> str:
    """The line that makes a column of the combinations of several factors."""
    cells = ' + ":" + '.join(f"{data}[{literal(columns.renamed[name])}].astype(str)" for name in part.factors)
    return f"{data}[{literal(python_group(part, columns))}] = {cells}"


def python_sum(text: str, columns: NamedColumns, codings: dict[str, str]) -> str:
    """A fixed part of plain names; the rules of expansion are those of patsy and formulae, which are R's."""

    def word(piece: Node | str) -> str:
        if isinstance(piece, str):
            return {"^": "**", "%in%": ":"}.get(piece, piece)
        coding = codings.get(piece.name) if isinstance(piece, Name) else None
        return columns.of[piece] if coding is None else coding

    return spaced(map(word, fixed_tokens(text)), "**")


def python_value(value: Any) -> str:
    """A level as a literal."""
    return repr(value) if isinstance(value, bool | int | float) else literal(value)


def _categorical(column: str, factor: FactorColumn, ordered: bool) -> str:
    plain = all(isinstance(level, str | bool | int | float) for level in factor.levels)
    levels = [level if plain else level_name(level) for level in factor.levels]
    source = column if plain else f"{column}.astype(str)"
    listed = ", ".join(map(python_value, levels))
    keyword = ", ordered=True" if ordered else ""
    return f"{column} = pd.Categorical({source}, categories=[{listed}]{keyword})"
