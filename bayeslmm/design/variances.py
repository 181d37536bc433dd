"""Which standard deviations and correlations a design has, and their names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels, group_labels
from bayeslmm.design.shared import Shared


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

    A structure whose effects share one sd and one correlation has one name for each: its keyword.
    """
    return tuple(_labels(design, group) for group in group_labels(design))


def _labels(design: Design, group: GroupLabels) -> tuple[GroupLabels, tuple[SdLabel, ...]]:
    sds: list[SdLabel] = []
    pairs: list[tuple[int, int, int, str]] = []
    taken = list(group.effects)
    for term in group.terms:
        structure, names = design.terms[term].structure, group.term_effects(term)
        if not structure.shared:
            sds += [SdLabel(term, (k,), name) for k, name in enumerate(names)]
            pairs += [pair for pair in group.pairs if pair[0] == term]
            continue
        name = _unique(structure.keyword, taken)
        taken.append(name)
        sds.append(SdLabel(term, tuple(range(len(names))), name))
        if isinstance(structure, Shared) and structure.correlated:
            pairs.append((term, 0, 1, name))
    return replace(group, pairs=tuple(pairs)), tuple(sds)


def _unique(name: str, taken: list[str]) -> str:
    k, candidate = 0, name
    while candidate in taken:
        k += 1
        candidate = f"{name}.{k}"
    return candidate
