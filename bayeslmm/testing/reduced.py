"""Fits of models with a term less, made from the design of the larger one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.evaluate import TermPart
from bayeslmm.design.fixed_terms import FixedTerm, fixed_terms
from bayeslmm.design.formula import Bar, parse_formula
from bayeslmm.design.recipe import training_evaluator
from bayeslmm.design.row_arrays import chosen_columns
from bayeslmm.design.tokens import quoted
from bayeslmm.errors import DesignError
from bayeslmm.inference.null_model import Removal, without
from bayeslmm.likelihood.part_sums import KeptColumns, kept_columns, smaller_products
from bayeslmm.reml import optimise
from bayeslmm.reml.residual_optimum import ResidualOptimum, optimum_of
from bayeslmm.results.fit import Fit
from bayeslmm.types import FloatArray

# Shares of other columns in one that was left out are rounding below this.
_ROUNDING = 1e-8


@dataclass(frozen=True)
class RandomUnit:
    """What can be taken out of the random part: a term, or one of several variables on its left side.

    Attributes
    ----------
    label : str
        ``"(1 | g)"``, or ``"x in (x | g)"``.
    removal : Removal
    rest : str
        What is written in its place; empty for a whole term.
    """

    label: str
    removal: Removal
    rest: str


def random_units(design: Design) -> list[RandomUnit]:
    """Everything that can be taken out of the random part by itself."""
    formula, recipe = parse_formula(design.formula), design.recipe
    if recipe is None:
        raise DesignError("This design was put together without a formula, so that it has no terms to leave out.")
    evaluator = training_evaluator(recipe, formula)
    units = []
    for k, (bar, term) in enumerate(zip(formula.bars, design.terms, strict=True)):
        intercept, parts = evaluator.term_parts(bar.left)
        labels = [":".join(part.label for part in own) for own in parts]
        written = [_written(own, recipe.columns) for own in parts]
        everything = tuple(range(len(term.effects)))
        if len(labels) + intercept <= 1:
            units.append(RandomUnit(bar.label, Removal(k, everything), ""))
            continue
        start = int(intercept)
        for j, own in enumerate(parts):
            width = int(np.prod([part.coding.shape[1] for part in own]))
            removed = tuple(range(start, start + width))
            start += width
            kept = tuple(e for e in everything if e not in removed)
            left = _sum(intercept, [text for i, text in enumerate(written) if i != j])
            rest = _bar(replace(bar, left=left))
            units.append(RandomUnit(f"{labels[j]} in {bar.label}", Removal(k, removed, kept), rest))
    return units


def without_random[F: Fit](fit: F, unit: RandomUnit) -> F | None:
    """The fit without it; None if no random term would be left and residuals have no parameters."""
    design = without(fit.design, unit.removal)
    if not design.terms and not isinstance(fit.optimum, ResidualOptimum):
        return None
    formula = parse_formula(fit.formula)
    bars = [_bar(bar) for bar in formula.bars]
    bars[unit.removal.term : unit.removal.term + 1] = [unit.rest] if unit.rest else []
    text = _text(formula.response, [formula.fixed], formula.offsets, bars)
    return _fitted(
        fit, replace(design, formula=text), {}, kept_columns(fit.design, unit.removal.term, unit.removal.kept)
    )


def without_fixed[F: Fit](fit: F, term: FixedTerm) -> F:
    """The fit without a term of its fixed part.

    Raises
    ------
    DesignError
        Columns that the term's columns spanned would have to come back.
    """
    design, fixed, formula = fit.design, fixed_terms(fit.design), parse_formula(fit.formula)
    kept = [k for k in range(design.p) if k not in set(term.columns.tolist())]
    recipe = design.recipe
    columns = recipe.columns if recipe is not None else ()
    left = [other for other in fixed.terms if other is not term and other.label != term.label]
    aliased = _aliased_left(design, term, fixed.full)
    if recipe is not None:
        made = recipe.aliased[kept][:, [design.aliased.index(name) for name in aliased]] if aliased else None
        recipe = replace(recipe, aliased=np.empty((len(kept), 0)) if made is None else made)
    whole = KeptColumns(tuple(kept), tuple((k, tuple(range(len(t.effects)))) for k, t in enumerate(design.terms)))
    smaller = replace(
        design,
        formula=_text(
            formula.response,
            [_sum(fixed.constant is not None, [_written(other.parts, columns) for other in left])],
            formula.offsets,
            [_bar(bar) for bar in formula.bars],
        ),
        X=chosen_columns(design.X, kept),
        facts=None if design.facts is None else design.facts.selected(kept, whole.terms),
        fixed_names=tuple(design.fixed_names[k] for k in kept),
        aliased=tuple(aliased),
        recipe=recipe,
    )
    return _fitted(fit, smaller, fit._fixed, whole)


def _aliased_left(design: Design, term: FixedTerm, full: FloatArray) -> list[str]:
    """Columns that stay left out of X without the term."""
    if not design.aliased or design.recipe is None:
        return []
    own = design.recipe.aliased
    left = [k for k in range(len(design.aliased)) if np.abs(own[term.columns, k]).max(initial=0.0) < _ROUNDING]
    if len(left) + (term.place.stop - term.place.start - term.columns.size) < len(design.aliased):
        raise DesignError(
            f"Without {term.label} columns come back that it spanned ({', '.join(design.aliased)}). Fit the smaller "
            "model from its formula."
        )
    return [design.aliased[k] for k in left]


def _fitted[F: Fit](fit: F, design: Design, known: Mapping[int, FloatArray], kept: KeptColumns) -> F:
    if isinstance(fit.optimum, ResidualOptimum):
        optimum = optimum_of(design, fit.reml)
        return type(fit)(design, optimum.cp, optimum)
    cp = smaller_products(fit.cp, design, kept)
    return type(fit)(design, cp, optimise(cp, fit.reml, fixed=known))


def _written(parts: Sequence[TermPart], columns: Collection[str]) -> str:
    """A term as a formula has it: names of columns in backquotes where they need them, which labels lack."""
    return ":".join(quoted(part.label) if part.label in columns else part.label for part in parts)


def _bar(bar: Bar) -> str:
    """A random term as a formula has it."""
    signs = "|" if bar.correlated else "||"
    return f"{bar.keyword}({bar.left} {signs} {':'.join(map(quoted, bar.factors))})"


def _sum(intercept: bool, labels: Sequence[str]) -> str:
    return " + ".join(["1" if intercept else "0", *labels])


def _text(response: str, fixed: Sequence[str], offsets: Sequence[str], bars: Sequence[str]) -> str:
    right = [*fixed, *(f"offset({offset})" for offset in offsets), *bars]
    return f"{response} ~ {' + '.join(right)}"
