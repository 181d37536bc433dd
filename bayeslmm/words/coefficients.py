"""What every fixed effect is, in words: an average, a slope, a difference between levels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.evaluate import TermPart
from bayeslmm.design.fixed_terms import FixedTerm, FixedTerms, fixed_terms
from bayeslmm.design.screen import enumerated
from bayeslmm.errors import DesignError, FormulaError
from bayeslmm.words.numbers import Measured

# Conditions that are written out.
_MOST_CONDITIONS = 4


@dataclass(frozen=True)
class Meaning:
    """What a coefficient stands for.

    Attributes
    ----------
    kind : {"average", "slope", "difference", "other"}
    of : str
        The variable of a slope or the level of a difference; the name of another coefficient.
    base : str
        The level that a difference is from.
    where : str
        Under which conditions, ``"at Days = 0"``; empty if there are none.
    """

    kind: str
    of: str
    base: str = ""
    where: str = ""

    def sentence(self, response: str, number: Measured, brackets: str) -> str:
        """The coefficient with its number, in a sentence."""
        at = f" {self.where}" if self.where else ""
        match self.kind:
            case "average":
                lead = (
                    f"{at.strip()[:1].upper()}{at.strip()[1:]}, the average {response}"
                    if at
                    else "The average " + response
                )
                return f"{lead} is {number.text}{brackets}."
            case "slope":
                more = "more" if number.value >= 0 else "less"
                return f"One more unit of {self.of} goes with {number.size} {more} {response}{at}{brackets}."
            case "difference":
                more = "higher" if number.value >= 0 else "lower"
                return f"{response} is {number.size} {more} with {self.of} than with {self.base}{at}{brackets}."
        return f"The coefficient {self.of} is {number.text}{brackets}."


def meanings(design: Design) -> tuple[Meaning, ...]:
    """What each of the p fixed effects stands for.

    A coefficient whose meaning depends on a coding other than treatment contrasts, on a function of a variable that has
    other terms too, or on several variables is ``"other"``.
    """
    names = design.fixed_names
    out = {name: Meaning("other", name) for name in names}
    try:
        fixed = fixed_terms(design)
    except (DesignError, FormulaError):
        return tuple(out.values())
    base = {part.label: _base(part) for term in fixed.terms for part in term.parts}
    if fixed.constant is not None and "Intercept" in out and None not in base.values() and not design.aliased:
        out["Intercept"] = Meaning("average", "Intercept", where=_where(base))
    for term in fixed.terms:
        if len(term.parts) == 1 and not design.aliased:
            out |= _main(fixed, term, base, names)
    return tuple(out[name] for name in names)


def _base(part: TermPart) -> str | None:
    """The condition under which the columns of a part are zero; None if that is no single level."""
    if not part.levels:
        return f"{part.label} = 0"
    reference = _reference(part)
    return None if reference is None else f"{part.label} = {part.levels[reference]}"


def _reference(part: TermPart) -> int | None:
    """The level that treatment contrasts leave out; None for another coding."""
    coding = np.asarray(part.coding)
    empty = np.flatnonzero(~coding.any(axis=1))
    if empty.size != 1 or not np.array_equal(np.delete(coding, empty[0], axis=0), np.eye(coding.shape[1])):
        return None
    return int(empty[0])


def _where(base: Mapping[str, str | None]) -> str:
    conditions = [text for text in base.values() if text is not None]
    if not conditions:
        return ""
    if len(conditions) > _MOST_CONDITIONS:
        return "at zero of the predictors and the first levels of the factors"
    return f"at {enumerated(conditions)}"


def _main(
    fixed: FixedTerms, term: FixedTerm, base: Mapping[str, str | None], names: Sequence[str]
) -> dict[str, Meaning]:
    """Meanings of the coefficients of a term of one variable."""
    part = term.parts[0]
    within = [other for other in fixed.terms if other is not term and part.label in {p.label for p in other.parts}]
    others = {p.label: base[p.label] for other in within for p in other.parts if p.label != part.label}
    if None in others.values() or _elsewhere(fixed, part.label):
        return {}
    where, own = _where(others), [names[k] for k in term.columns]
    if not part.levels:
        return {own[0]: Meaning("slope", part.label, where=where)} if len(own) == 1 else {}
    reference = _reference(part)
    if reference is None or fixed.constant is None:
        return {}
    levels = [level for k, level in enumerate(part.levels) if k != reference]
    if len(levels) != len(own):
        return {}
    lowest = f"{part.label} = {part.levels[reference]}"
    return {
        name: Meaning("difference", f"{part.label} = {level}", lowest, where)
        for name, level in zip(own, levels, strict=True)
    }


def _elsewhere(fixed: FixedTerms, label: str) -> bool:
    """Whether another part is a function of a variable of this one: then no coefficient of it stands for itself."""
    words = set(re.findall(r"[^\W\d]\w*(?!\w*\()", label))
    labels = {part.label for term in fixed.terms for part in term.parts} - {label}
    return any(words & set(re.findall(r"[^\W\d]\w*", other)) for other in labels)
