"""The terms of the fixed part: which columns each has, what it is a product of, and what its coefficients stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bayeslmm.design.coding import product
from bayeslmm.design.design import Design
from bayeslmm.design.evaluate import TermPart
from bayeslmm.design.formula import parse_formula
from bayeslmm.design.recipe import training_evaluator
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray, IntArray

# Cells of an interaction beyond which what its coefficients stand for is not worked out.
MOST_CELLS = 3000
# What solutions leave of unit cells is rounding below this.
_SPANNED = 1e-8


@dataclass(frozen=True, eq=False)
class FixedTerm:
    """A term of the fixed part.

    Attributes
    ----------
    label : str
        ``"a:b"`` for an interaction.
    parts : tuple of TermPart
    columns : IntArray
        Its places among the columns of X.
    place : slice
        Its places among all columns, those included that were left out of X.
    """

    label: str
    parts: tuple[TermPart, ...]
    columns: IntArray
    place: slice

    @property
    def factors(self) -> frozenset[str]:
        """Labels of its factors."""
        return frozenset(part.label for part in self.parts if part.levels)

    @property
    def numeric(self) -> frozenset[str]:
        """Labels of its numeric variables."""
        return frozenset(part.label for part in self.parts if not part.levels)

    def contains(self, other: FixedTerm) -> bool:
        """Whether the other is marginal to this: the same numeric variables, and some of its factors."""
        return self.numeric == other.numeric and other.factors < self.factors


@dataclass(frozen=True, eq=False)
class FixedTerms:
    """The fixed part of a formula.

    Attributes
    ----------
    constant : FixedTerm or None
        The intercept.
    terms : tuple of FixedTerm
        In the order of their columns.
    full : FloatArray, shape (p, f)
        All f columns of the terms, those left out of X included, as combinations of the p columns of X.
    """

    constant: FixedTerm | None
    terms: tuple[FixedTerm, ...]
    full: FloatArray

    @property
    def all(self) -> tuple[FixedTerm, ...]:
        """The constant, if there is one, and the terms."""
        return self.terms if self.constant is None else (self.constant, *self.terms)

    def containing(self, term: FixedTerm) -> tuple[FixedTerm, ...]:
        """The terms to which one is marginal."""
        return tuple(other for other in self.terms if other.contains(term))


@dataclass(frozen=True, eq=False)
class CellCoding:
    """Coefficients seen from a model with one parameter for every cell of every term.

    Attributes
    ----------
    functions : FloatArray, shape (p, P)
        What the coefficients are of the P parameters: X times this are the columns of 0 and 1 (times numeric
        variables) of all cells. Its rows span what can be estimated.
    treatment : FloatArray, shape (P, f)
        All columns of the terms under treatment contrasts, in cells.
    places : tuple of slice
        Places of `FixedTerms.all` among the f columns.
    """

    functions: FloatArray
    treatment: FloatArray
    places: tuple[slice, ...]


def fixed_terms(design: Design) -> FixedTerms:
    """Read the terms of the fixed part from the formula and what the design has kept of its data.

    Raises
    ------
    DesignError
        The design has no recipe, or one that lacks the user's functions.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("yield ~ nitro * Variety + (1 | Block)", bl.load_dataset("Oats"))
    >>> [(term.label, term.columns.tolist()) for term in fixed_terms(model.design).terms]
    [('nitro', [1]), ('Variety', [2, 3]), ('nitro:Variety', [4, 5])]
    """
    recipe = design.recipe
    if recipe is None:
        raise DesignError(
            "This design was put together without a formula, so that its columns belong to no terms. Give combinations "
            "of coefficients to fit.test_fixed instead."
        )
    formula = parse_formula(design.formula)
    evaluator = training_evaluator(recipe, formula)
    names = evaluator.columns(formula.fixed)[1]
    intercept, parts = evaluator.term_parts(formula.fixed)
    kept = {name: k for k, name in enumerate(design.fixed_names)}

    def term(label: str, own: tuple[TermPart, ...], start: int) -> FixedTerm:
        place = slice(start, start + _width(own))
        columns = np.array([kept[name] for name in names[place] if name in kept], dtype=np.int64)
        return FixedTerm(label, own, columns, place)

    constant = term("Intercept", (), 0) if intercept else None
    start, terms = int(intercept), []
    for own in parts:
        terms.append(term(":".join(part.label for part in own), own, start))
        start = terms[-1].place.stop
    return FixedTerms(constant, tuple(terms), _all_columns(design, names, recipe.aliased))


def _all_columns(design: Design, names: Sequence[str], aliased: FloatArray) -> FloatArray:
    made = dict(zip(design.fixed_names, np.eye(design.p), strict=True))
    made |= dict(zip(design.aliased, aliased.T, strict=True)) if design.aliased else {}
    return np.array([made[name] for name in names]).reshape(len(names), design.p).T


def cell_coding(fixed: FixedTerms) -> CellCoding | None:
    """Express the columns of all cells in the columns of X.

    Returns
    -------
    CellCoding or None
        None without terms, where the columns do not span the cells (contrasts of fewer columns than levels), or where
        these are very many.
    """
    terms = fixed.all
    if not terms or any(_count(term.parts) > MOST_CELLS for term in terms):
        return None
    functions, treatment = [], []
    for term in terms:
        solution = _in_columns(term, terms, fixed.full.shape[1])
        if solution is None:
            return None
        functions.append(fixed.full @ solution)
        treatment.append(product_coding([treatment_coding(part) for part in term.parts]))
    widths = np.cumsum([0, *(block.shape[1] for block in treatment)]).tolist()
    places = tuple(slice(a, b) for a, b in pairwise(widths))
    cells = sum(block.shape[0] for block in treatment)
    columns, row = np.zeros((cells, widths[-1])), 0
    for block, place in zip(treatment, places, strict=True):
        columns[row : row + block.shape[0], place] = block
        row += block.shape[0]
    return CellCoding(np.hstack(functions), columns, places)


def _in_columns(term: FixedTerm, terms: Sequence[FixedTerm], width: int) -> FloatArray | None:
    """The unit columns of the cells of a term as combinations (width, cells) of the columns of the terms."""
    related = [other for other in terms if other.numeric == term.numeric]
    within = [other for other in related if other.factors <= term.factors]
    for candidates in (within, related):
        parts = {part.label: part for other in candidates for part in other.parts}
        sizes = [part.coding.shape[0] for part in parts.values()]
        if math.prod(sizes) > MOST_CELLS:
            return None
        grid = dict(zip(parts, np.indices(sizes).reshape(len(sizes), math.prod(sizes)), strict=True))
        columns = np.hstack([_on(grid, other.parts, [part.coding for part in other.parts]) for other in candidates])
        cells = _on(grid, term.parts, [np.eye(part.coding.shape[0]) for part in term.parts])
        found = np.linalg.lstsq(columns, cells)[0]
        if np.abs(columns @ found - cells).max(initial=0.0) < _SPANNED:
            solution = np.zeros((width, cells.shape[1]))
            solution[[k for other in candidates for k in range(other.place.start, other.place.stop)]] = found
            return solution
    return None


def _on(grid: dict[str, IntArray], parts: Sequence[TermPart], codings: Sequence[FloatArray]) -> FloatArray:
    """Columns of a product in the cells of a grid of levels."""
    constant = np.ones((next(iter(grid.values())).size if grid else 1, 1))
    columns = [coding[grid[part.label]] for part, coding in zip(parts, codings, strict=True)]
    return product([(matrix, ()) for matrix in (constant, *columns)])[0]


def product_coding(codings: Sequence[FloatArray]) -> FloatArray:
    """Columns of an interaction in its cells; the first part varies fastest."""
    product: FloatArray = np.ones((1, 1))
    for coding in codings:
        product = np.asarray(np.kron(coding, product), dtype=float)
    return product


def treatment_coding(part: TermPart) -> FloatArray:
    """The coding of a part with the first level as the reference; as it is where it has a column for every level."""
    levels, columns = part.coding.shape
    return np.eye(levels)[:, levels - columns :] if part.levels else np.eye(levels)


def _width(parts: Sequence[TermPart]) -> int:
    return math.prod(part.coding.shape[1] for part in parts)


def _count(parts: Sequence[TermPart]) -> int:
    return math.prod(part.coding.shape[0] for part in parts)
