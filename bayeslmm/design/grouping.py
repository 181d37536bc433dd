"""A grouping factor: the level of every row and the names of the levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from bayeslmm.design.lazy import Lazy
from bayeslmm.equality import by_value
from bayeslmm.types import IntArray


@by_value
@dataclass(frozen=True, eq=False)
class Grouping:
    """One grouping factor, coded over the cells that occur.

    Attributes
    ----------
    name : str
        ``"Subject"``, or ``"batch:cask"`` for an interaction.
    codes : IntArray, shape (n,)
        Level of each row, 0 .. n_levels - 1; every level occurs.
    levels : tuple of str
        Level names; parts of an interaction are joined with ``":"``.
    outer : dict or None
        Factors that this one is nested in, with the level of each that every level lies in: where the codes are not in
        memory.
    """

    name: str
    codes: IntArray
    levels: Lazy[tuple[str, ...]] = Lazy()  # noqa: RUF009
    outer: dict[str, IntArray] | None = field(default=None, repr=False)

    @cached_property
    def n_levels(self) -> int:
        return len(vars(self)["levels"])


def parents(inner: Grouping, outer: Grouping) -> IntArray | None:
    """Level of `outer` that every level of `inner` lies in; None if it is not nested."""
    if inner.outer is not None:
        return inner.outer.get(outer.name)
    parent = np.zeros(inner.n_levels, dtype=np.int64)
    parent[inner.codes] = outer.codes
    return parent if np.array_equal(parent[inner.codes], outer.codes) else None


def rows_of_groups(codes: IntArray, groups: int) -> list[IntArray]:
    """Positions of the rows of each of some groups, in their order.

    Parameters
    ----------
    codes : IntArray, shape (n,)
        Group of each row, 0 .. groups - 1; rows with -1 belong to none.
    groups : int

    Examples
    --------
    >>> import numpy as np
    >>> [rows.tolist() for rows in rows_of_groups(np.array([1, 0, -1, 1]), 3)]
    [[1], [0, 3], []]
    """
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(groups + 1))
    return [order[a:b] for a, b in pairwise(ends)]
