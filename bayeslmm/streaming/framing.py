"""The frame of a design whose rows are elsewhere: coordinates from measures of columns, the order of elimination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from scipy.linalg import block_diag

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.structure import DENSE, plan
from bayeslmm.streaming.coordinates import ColumnCoordinates, orthogonalised, rescaled
from bayeslmm.streaming.triangle import Triangle
from bayeslmm.types import IntArray


def needs_nesting(sizes: Sequence[int], store: str) -> bool:
    """Whether the order of elimination depends on which factors are nested, of which each has so many effects."""
    return len(sizes) > 1 and (store == "hierarchy" or (store == "auto" and sum(sizes) - max(sizes) > DENSE))


def frame_of(
    triangle: Triangle, design: Design, kept: IntArray, p: int, parents: Mapping[tuple[str, str], IntArray]
) -> tuple[Frame, ColumnCoordinates, tuple[tuple[ColumnCoordinates, ...], ...]]:
    """Choose the coordinates and the order of elimination.

    Parameters
    ----------
    triangle : Triangle
        Of the p columns of the fixed part, of those of the terms, and of the response.
    design : Design
        No rows of it are looked at.
    kept : IntArray
        Columns of the fixed part that are kept.
    p : int
    parents : dict
        Pairs of nested factors, where the order depends on them.

    Returns
    -------
    Frame
    ColumnCoordinates
        Of the columns kept.
    tuple of tuple of ColumnCoordinates
        Of the terms of each block.
    """
    fixed = orthogonalised(triangle, kept.tolist(), rotate=False)
    starts = list(accumulate((len(term.effects) for term in design.terms), initial=p))
    built: list[tuple[Block, tuple[ColumnCoordinates, ...]]] = []
    for grouping in design.groupings.values():
        members = [i for i, term in enumerate(design.terms) if term.group == grouping.name]
        own = tuple(
            (orthogonalised if design.terms[i].structure.basis_free else rescaled)(
                triangle, range(starts[i], starts[i + 1])
            )
            for i in members
        )
        ends = list(accumulate((len(one.centre) for one in own), initial=0))
        slices = tuple(slice(a, b) for a, b in pairwise(ends))
        built.append((Block(grouping, tuple(members), slices, block_diag(*(c.basis.transform for c in own))), own))

    def nested(inner: Grouping, outer: Grouping) -> IntArray | None:
        return parents.get((inner.name, outer.name))

    order = plan([block.grouping for block, _ in built], [block.q for block, _ in built], design.store, nested)
    chosen = [built[i] for i in order.order]
    structures = tuple(term.structure for term in design.terms)
    frame = Frame(tuple(block for block, _ in chosen), order, fixed.basis, structures)
    return frame, fixed, tuple(own for _, own in chosen)


def effects_of_groups(groups: Sequence[str], widths: Sequence[int], levels: Mapping[str, int]) -> list[int]:
    """Random effects of every grouping factor, of terms with so many effects for each level.

    Examples
    --------
    >>> effects_of_groups(["g", "h", "g"], [1, 1, 2], {"g": 10, "h": 4})
    [30, 4]
    """
    return [J * sum(c for group, c in zip(groups, widths, strict=True) if group == name) for name, J in levels.items()]
