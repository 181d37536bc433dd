"""A design taken apart for writers of other packages' calls: trees of expressions, terms, factors with their levels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from bayeslmm.arguments import shown
from bayeslmm.design.algebra import expanded, operand_node, operand_places
from bayeslmm.design.contrasts import Treatment
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.expressions import Call, Chain, Name, Node, parse_expression, walk
from bayeslmm.design.formula import Bar, parse_formula
from bayeslmm.design.functions import VALUES, is_value
from bayeslmm.design.recipe import Recipe, columns_in
from bayeslmm.design.tokens import tokenize
from bayeslmm.errors import ArgumentError
from bayeslmm.exporting.residuals import WrittenResidual, written_residual
from bayeslmm.types import IntArray

type TermNodes = tuple[Node, ...]
# Functions that make a factor, or code one.
FACTOR_CALLS = ("factor", "as.factor", "ordered", "as.ordered", "C", "S", "T", "relevel", "binary", "B")
# Functions of several columns.
WIDE_CALLS = ("poly", "bs", "ns")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class FactorColumn:
    """A categorical column of the fixed part or of the left side of a bar.

    Attributes
    ----------
    levels : tuple
        In their order.
    ordered : bool
    coding : object
        Contrasts as given (``("treatment", "b")`` as `Treatment`); None for the ordinary ones.
    """

    levels: tuple[Any, ...]
    ordered: bool
    coding: Any

    @property
    def reference(self) -> Any:
        """The level that has no column of its own: that of treatment contrasts which name one, else the first."""
        named = self.coding.reference if isinstance(self.coding, Treatment) else None
        return self.levels[0] if named is None else named


@dataclass(frozen=True)
class WrittenTerm:
    """A random term.

    Attributes
    ----------
    label, left : str
        The term and its left side as written.
    factors : tuple of str
        Columns of its grouping factor.
    group : str
    keyword : str
        Of its covariance structure; ``"us"`` for a single effect.
    terms : tuple of tuple of Node
        Of the left side, without the intercept.
    intercept : bool
    effects : tuple of str
    numeric : bool
        Whether every term of the left side is one column of numbers.
    """

    label: str
    left: str
    factors: tuple[str, ...]
    group: str
    keyword: str
    terms: tuple[TermNodes, ...]
    intercept: bool
    effects: tuple[str, ...]
    numeric: bool

    @property
    def factor(self) -> str:
        """The column f of a left side ``0 + f`` whose effects are one for every level; empty if it is another."""
        lone = len(self.terms) == 1 and len(self.terms[0]) == 1 and isinstance(self.terms[0][0], Name)
        node = self.terms[0][0] if lone else None
        return node.name if isinstance(node, Name) and not self.intercept and not self.numeric else ""


@dataclass(frozen=True)
class ModelParts:
    """What writers need of a model.

    Attributes
    ----------
    formula, fixed : str
    response : Node
    terms : tuple of tuple of Node
        Of the fixed part, without the intercept.
    intercept : bool
    offsets : tuple of Node
    random : tuple of WrittenTerm
    factors : dict
        Column to `FactorColumn`; a column of answers (bool) has the levels False and True.
    weights : Node or None
        ``Name("weights")`` where they were given as numbers.
    given_weights : bool
        Whether they were.
    known : bool
        Whether `weights` are known standard deviations of the residuals.
    frequency, dropped : bool
        Whether rows have frequencies; whether some were left out.
    aliased : tuple of str
    codes : dict
        Grouping factor to the level of each row.
    reml : bool
    data : str
        Name of the data frame.
    residual : WrittenResidual or None
        The residual structure, if it has parameters.
    """

    formula: str
    fixed: str
    response: Node
    terms: tuple[TermNodes, ...]
    intercept: bool
    offsets: tuple[Node, ...]
    random: tuple[WrittenTerm, ...]
    factors: dict[str, FactorColumn]
    weights: Node | None
    given_weights: bool
    known: bool
    frequency: bool
    dropped: bool
    aliased: tuple[str, ...]
    codes: dict[str, IntArray]
    reml: bool
    data: str
    residual: WrittenResidual | None = None

    @property
    def net_response(self) -> Node:
        """The response, offsets taken off."""
        if not self.offsets:
            return self.response
        return Chain(self.response, tuple(("-", node) for node in self.offsets))

    @property
    def operands(self) -> tuple[Node, ...]:
        """What the terms of the fixed part and of the left sides are products of."""
        terms = [*self.terms, *(term for part in self.random for term in part.terms)]
        return tuple(node for term in terms for node in term)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that the model uses."""
        weights = () if self.weights is None else (self.weights,)
        nodes = [n for root in (self.response, *self.operands, *self.offsets, *weights) for n in walk(root)]
        found = [node.name for node in nodes if isinstance(node, Name) and not is_value(node.name, {})]
        found += [name for part in self.random for name in part.factors]
        return tuple(dict.fromkeys([*found, *(self.residual.columns if self.residual else ())]))

    def nested(self, inner: str, outer: str) -> bool:
        """Whether every level of one grouping factor lies in a single level of another."""
        a, b = self.codes[inner], self.codes[outer]
        return len(np.unique(np.column_stack([a, b]), axis=0)) == len(np.unique(a))


def model_parts(design: Design, package: str, reml: bool, data: str) -> ModelParts:
    """Take a design apart.

    Raises
    ------
    ArgumentError
        The design was put together by hand, or its formula uses values or functions of the user's own.
    """
    recipe = design.recipe
    if recipe is None:
        raise ArgumentError(
            "This design was put together by hand: without a formula and the columns of a data frame there is no call "
            f"of {package} to write. Use bl.Model(formula, data).to({package!r})."
        )
    if recipe.namespace or recipe.lost:
        own = ", ".join(sorted({*recipe.namespace, *recipe.lost}))
        raise ArgumentError(
            f"The formula uses {own} of extra_namespace, which {package} does not know. Make the columns in the data "
            "first, and write their names in the formula."
        )
    formula = parse_formula(design.formula)
    terms, intercept = term_nodes(formula.fixed)
    random = tuple(_random(bar, term, recipe) for bar, term in zip(formula.bars, design.terms, strict=True))
    given = recipe.weighted and recipe.weights is None
    weights = Name("weights") if given else None if recipe.weights is None else parse_expression(recipe.weights)
    return ModelParts(
        formula=design.formula,
        fixed=formula.fixed,
        response=parse_expression(formula.response),
        terms=terms,
        intercept=intercept,
        offsets=tuple(map(parse_expression, formula.offsets)),
        random=random,
        factors=_factors(recipe, columns_in(formula.evaluated, recipe.columns)),
        weights=weights,
        given_weights=given,
        known=design.sigma is not None,
        frequency=design.frequency is not None,
        dropped=len(design.dropped) > 0,
        aliased=design.aliased,
        codes={name: grouping.codes for name, grouping in design.groupings.items()},
        reml=reml,
        data=data,
        residual=written_residual(design, package),
    )


def renamed(parts: ModelParts, names: Mapping[str, str]) -> ModelParts:
    """The same model on columns of other names."""
    if not names:
        return parts
    random = tuple(
        replace(
            part,
            left=_respelled(part.left, names),
            factors=tuple(names.get(name, name) for name in part.factors),
            terms=_mapped(part.terms, names),
        )
        for part in parts.random
    )
    return replace(
        parts,
        fixed=_respelled(parts.fixed, names),
        response=_mapped(parts.response, names),
        terms=_mapped(parts.terms, names),
        offsets=_mapped(parts.offsets, names),
        random=random,
        factors={names.get(name, name): factor for name, factor in parts.factors.items()},
        weights=_mapped(parts.weights, names),
    )


def _mapped(value: Any, names: Mapping[str, str]) -> Any:
    """A tree, or a tuple of trees, with other names in it."""
    if isinstance(value, Name):
        return Name(names.get(value.name, value.name))
    if isinstance(value, tuple):
        return tuple(_mapped(part, names) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), names) for f in fields(value)})
    return value


def _respelled(text: str, names: Mapping[str, str]) -> str:
    words = ((token.text, token.text.strip("`")) for token in tokenize(text))
    return " ".join(names[name] if word.startswith("`") and name in names else word for word, name in words)


def check_data_name(data: Any) -> str:
    """A name that means the same data frame in R, Python, SAS, MATLAB and Julia.

    Raises
    ------
    ArgumentError
    """
    if not isinstance(data, str) or not _PLAIN.fullmatch(data) or len(data) > 32:
        raise ArgumentError(
            f"data={shown(data)} is no name of a data frame. Give letters, digits and underscores, e.g. data='df'."
        )
    return data


def term_nodes(text: str) -> tuple[tuple[TermNodes, ...], bool]:
    """Terms of a fixed part or left side as trees, and whether there is an intercept."""
    terms, intercept, operands = expanded(text)
    ordered = sorted(dict.fromkeys(terms), key=len)
    return tuple(tuple(operands[name] for name in term) for term in ordered), intercept


def fixed_tokens(text: str) -> Iterator[Node | str]:
    """A fixed part in pieces: its operands as trees, all between them as text."""
    tokens = tokenize(text)
    position = 0
    for start, end in operand_places(tokens):
        yield from (token.text for token in tokens[position:start])
        yield operand_node(tokens[start:end])
        position = end
    yield from (token.text for token in tokens[position:])


def _random(bar: Bar, term: RandomTerm, recipe: Recipe) -> WrittenTerm:
    terms, intercept = term_nodes(bar.left)
    keyword = term.structure.keyword if len(term.effects) > 1 else "us"
    numeric = all(_is_number(node, recipe) for nodes in terms for node in nodes)
    return WrittenTerm(bar.label, bar.left, bar.factors, bar.group, keyword, terms, intercept, term.effects, numeric)


def _is_number(node: Node, recipe: Recipe) -> bool:
    """Whether an operand is one column of numbers."""
    if isinstance(node, Name):
        return node.name in VALUES or recipe.columns[node.name].kind == "number"
    return not any(isinstance(part, Call) and part.function in (*FACTOR_CALLS, *WIDE_CALLS) for part in walk(node))


def _factors(recipe: Recipe, names: Sequence[str]) -> dict[str, FactorColumn]:
    found = {}
    for name in names:
        column = recipe.columns[name]
        if column.kind == "factor":
            found[name] = FactorColumn(column.levels, column.ordered, _coding(recipe, name))
        elif column.kind == "boolean":
            found[name] = FactorColumn((False, True), False, _coding(recipe, name))
    return found


def _coding(recipe: Recipe, name: str) -> Any:
    """Contrasts of a column as given; None for treatment contrasts with the first level as the reference."""
    given, ordered = recipe.contrasts.get(name), recipe.columns[name].ordered
    if isinstance(given, tuple):
        return Treatment(given[1])
    plain = isinstance(given, str) and given == "treatment"
    if plain and ordered:
        return Treatment()
    return None if plain else given
