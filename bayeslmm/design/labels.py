"""Names of parameters, shared by both engines.

Terms of one grouping factor are taken together in the order of the formula: their effects are the coordinates of
one dimension. An effect that occurs twice gets a suffix (``Intercept.1``).
"""

from __future__ import annotations

from dataclasses import dataclass

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping


@dataclass(frozen=True)
class GroupLabels:
    """Names within one grouping factor.

    Attributes
    ----------
    grouping : Grouping
    terms : tuple of int
        Positions of its terms in ``design.terms``.
    effects : tuple of str
        Unique labels of all effects, term after term.
    slices : tuple of slice
        Effects of each term.
    pairs : tuple of tuple
        (term position, row, column, label) of every free correlation, e.g. ``(0, 0, 1, "Intercept.Days")``.
    """

    grouping: Grouping
    terms: tuple[int, ...]
    effects: tuple[str, ...]
    slices: tuple[slice, ...]
    pairs: tuple[tuple[int, int, int, str], ...]

    @property
    def group(self) -> str:
        """Name of the factor."""
        return self.grouping.name

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of its levels."""
        return self.grouping.levels

    def term_effects(self, position: int) -> tuple[str, ...]:
        """Unique labels of one term's effects."""
        return self.effects[self.slices[self.terms.index(position)]]


def group_labels(design: Design) -> tuple[GroupLabels, ...]:
    """Labels of every grouping factor, in the order of the formula."""
    return tuple(_labels(design, name) for name in design.groupings)


def _labels(design: Design, name: str) -> GroupLabels:
    members = tuple(i for i, term in enumerate(design.terms) if term.group == name)
    effects: list[str] = []
    slices: list[slice] = []
    pairs: list[tuple[int, int, int, str]] = []
    for i in members:
        term = design.terms[i]
        start = len(effects)
        for effect in term.effects:
            effects.append(_unique(effect, effects))
        slices.append(slice(start, len(effects)))
        if term.structure.basis_free:
            own = effects[start:]
            pairs += [(i, a, b, f"{own[a]}.{own[b]}") for a in range(len(own)) for b in range(a + 1, len(own))]
    return GroupLabels(design.groupings[name], members, tuple(effects), tuple(slices), tuple(pairs))


def _unique(effect: str, taken: list[str]) -> str:
    if effect not in taken:
        return effect
    k = 1
    while f"{effect}.{k}" in taken:
        k += 1
    return f"{effect}.{k}"


def parameter_labels(design: Design) -> tuple[str, ...]:
    """``sd_<group>[<effect>]``, ``corr_<group>[a.b]``, ``sigma``, then the fixed effects."""
    groups = group_labels(design)
    sds = [f"sd_{g.group}[{effect}]" for g in groups for effect in g.effects]
    corrs = [f"corr_{g.group}[{label}]" for g in groups for *_, label in g.pairs]
    return (*sds, *corrs, "sigma", *design.fixed_names)
