"""Which standard deviations and correlations a design has, and their names."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels, group_labels
from bayeslmm.errors import DesignError

# Names whose labels were found to be distinct: coefficients, and of the terms all that labels are made from.
_DISTINCT: set[Hashable] = set()
_REMEMBERED = 256


@dataclass(frozen=True)
class SdLabel:
    """One standard deviation of a grouping factor.

    Attributes
    ----------
    term : int
        Position in ``design.terms``.
    effects : tuple of int
        Effects within the term that have it.
    name : str
        The effect's name, or the structure's keyword where effects share it.
    """

    term: int
    effects: tuple[int, ...]
    name: str


def variance_labels(design: Design) -> tuple[tuple[GroupLabels, tuple[SdLabel, ...]], ...]:
    """For every grouping factor its labels, with the pairs of all correlations, and its standard deviations.

    What effects of a structure share, an sd or a correlation, is named after its keyword.
    """
    return tuple(_labels(design, group) for group in group_labels(design))


def check_labels(design: Design) -> None:
    """Refuse a model in which two parameters have the same label.

    Raises
    ------
    DesignError
        A coefficient is called like the residual sd or like an sd or correlation of the model, or two of these share
        their label.
    """
    terms = tuple((term.group, term.effects, term.structure) for term in design.terms)
    key = design.fixed_names, design.aliased, terms, tuple(design.groupings)
    if key in _DISTINCT:
        return
    whose = {"sigma": "the residual standard deviation"}
    for group, sds in variance_labels(design):
        own = [(f"sd_{group.group}[{sd.name}]", "a standard deviation") for sd in sds]
        own += [(f"corr_{group.group}[{name}]", "a correlation") for *_, name in group.pairs]
        for label, kind in own:
            _refuse_label(label, f"{kind} of the effects of {group.group!r}", whose)
            whose[label] = f"{kind} of the effects of {group.group!r}"
    for name in (*design.fixed_names, *design.aliased):
        _refuse_label(name, "a coefficient", whose)
    if len(_DISTINCT) >= _REMEMBERED:
        _DISTINCT.clear()
    _DISTINCT.add(key)


def _refuse_label(label: str, kind: str, whose: dict[str, str]) -> None:
    if label in whose:
        raise DesignError(
            f"{label!r} is the label of {kind} and of {whose[label]}: no table or accessor could tell the two apart. "
            f"Rename the column that it comes from; for a numeric predictor I(...) around its name does as well, which "
            f"changes the label."
        )


def _labels(design: Design, group: GroupLabels) -> tuple[GroupLabels, tuple[SdLabel, ...]]:
    sds: list[SdLabel] = []
    pairs: list[tuple[int, int, int, str]] = []
    taken = list(group.effects)
    for term in group.terms:
        structure, names = design.terms[term].structure, group.term_effects(term)
        keyword = structure.keyword
        if not structure.plain:
            keyword = _unique(keyword, taken)
            taken.append(keyword)
        sds += [SdLabel(term, own, keyword if len(own) > 1 else names[own[0]]) for own in structure.sd_effects]
        named = zip(structure.pairs, structure.pair_names(names, keyword), strict=True)
        pairs += [(term, a, b, name) for (a, b), name in named]
    return group if tuple(pairs) == group.pairs else replace(group, pairs=tuple(pairs)), tuple(sds)


def _unique(name: str, taken: list[str]) -> str:
    k, candidate = 0, name
    while candidate in taken:
        k += 1
        candidate = f"{name}.{k}"
    return candidate
