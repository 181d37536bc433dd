"""In which order the grouping factors are eliminated, and what stays sparse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from bayeslmm.design.design import Store
from bayeslmm.design.grouping import Grouping, parents
from bayeslmm.types import IntArray

# Up to this many effects outside the first factor the trailing block is formed densely in one piece, which has
# the exact Hessian and runs over many points at once.
DENSE = 120
# Up to this many effects outside the chain a hierarchy keeps their square block, of which an evaluation with its
# gradient holds four (800 MB). Up to this many outside the first factor a packed triangle (0.6 GB, a minute of a
# processor) makes an estimated log determinant exact; beyond that the estimate, with its error, has to do.
SQUARE, PACKED = 5_000, 12_000

type Kept = Literal["levels", "hierarchy", "packed", "anchored", "stochastic"]
# Stores in which nothing is filled in.
OPERATORS = ("packed", "anchored", "stochastic")


@dataclass(frozen=True)
class Elimination:
    """Order of the grouping factors.

    Attributes
    ----------
    order : tuple of int
        Positions of the factors: the chain first, then those that are left to the dense block.
    chain : int
        How many are eliminated level by level: each is nested in the next one.
    up : tuple of tuple of IntArray
        ``up[k][m]`` (J_k,) is the level of chain member m > k that each level of member k lies in.
    store : {"levels", "hierarchy", "packed", "anchored", "stochastic"}
        Whether all that is not the first factor is kept densely in one piece, or nested factors one after the other
        and crossed ones in cells; or nothing is filled in, see `crossed`.
    """

    order: tuple[int, ...]
    chain: int
    up: tuple[tuple[IntArray, ...], ...]
    store: Kept

    @property
    def operator(self) -> bool:
        """Whether all factors but the first are an operator."""
        return self.store in OPERATORS

    @property
    def estimated(self) -> bool:
        """Whether log determinants are estimated."""
        return self.operator and self.store != "packed"


def plan(
    groupings: Sequence[Grouping],
    sizes: Sequence[int],
    store: Store = "auto",
    nested: Callable[[Grouping, Grouping], IntArray | None] = parents,
) -> Elimination:
    """Choose the order of elimination.

    Parameters
    ----------
    groupings : sequence of Grouping
    sizes : sequence of int
        Random effects of each.
    store : {"auto", "levels", "hierarchy", "packed", "anchored", "stochastic"}
        ``"auto"``: by the number of effects outside the largest factor, and outside of the chain.
    nested : callable
        The level of its second factor that every level of the first lies in, or None.

    Returns
    -------
    Elimination
        A single factor is eliminated by itself, and everything else densely, if the rest is small.
    """
    by_size = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    few = sum(sizes) - sizes[by_size[0]] <= DENSE
    if store == "levels" or (store == "auto" and few):
        return Elimination(tuple(by_size), 1, ((),), "levels")
    if len(sizes) > 1 and store in OPERATORS:
        return _operator(by_size, cast(Kept, store))
    chain = [by_size[0]]
    for i in by_size[1:]:
        if nested(groupings[chain[-1]], groupings[i]) is not None:
            chain.append(i)
    up: list[tuple[IntArray, ...]] = []
    for k, i in enumerate(chain):
        ancestors = [nested(groupings[i], groupings[j]) for j in chain[k + 1 :]]
        up.append(tuple(a for a in ancestors if a is not None))
    rest = [i for i in by_size if i not in chain]
    left = sum(sizes[i] for i in rest)
    if store == "auto" and left > SQUARE:
        return _operator(by_size, "anchored" if sum(sizes) - sizes[by_size[0]] <= PACKED else "stochastic")
    return Elimination((*chain, *rest), len(chain), tuple(up), "hierarchy")


def _operator(by_size: Sequence[int], store: Kept) -> Elimination:
    """All factors are eliminated, the first level by level and the others as an operator."""
    return Elimination(tuple(by_size), len(by_size), (), store)
