"""In which order the grouping factors are eliminated, and what stays sparse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bayeslmm.design.design import Store
from bayeslmm.design.grouping import Grouping, parents
from bayeslmm.types import IntArray

# Up to this many effects outside the first factor the trailing block is formed densely in one piece, which has
# the exact Hessian and runs over many points at once.
DENSE = 120


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
    store : {"levels", "hierarchy"}
        Whether all that is not the first factor is kept densely in one piece, or nested factors one after the other
        and crossed ones in cells.
    """

    order: tuple[int, ...]
    chain: int
    up: tuple[tuple[IntArray, ...], ...]
    store: Literal["levels", "hierarchy"]


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
    store : {"auto", "levels", "hierarchy"}
        ``"auto"``: by the number of effects outside the largest factor.
    nested : callable
        The level of its second factor that every level of the first lies in, or None.

    Returns
    -------
    Elimination
        A single factor is eliminated by itself, and everything else densely, if the rest is small.
    """
    by_size = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    few = sum(sizes) - sizes[by_size[0]] <= DENSE
    if store == "levels" or (store == "auto" and few):
        return Elimination(tuple(by_size), 1, ((),), "levels")
    chain = [by_size[0]]
    for i in by_size[1:]:
        if nested(groupings[chain[-1]], groupings[i]) is not None:
            chain.append(i)
    up: list[tuple[IntArray, ...]] = []
    for k, i in enumerate(chain):
        ancestors = [nested(groupings[i], groupings[j]) for j in chain[k + 1 :]]
        up.append(tuple(a for a in ancestors if a is not None))
    rest = [i for i in by_size if i not in chain]
    return Elimination((*chain, *rest), len(chain), tuple(up), "hierarchy")
