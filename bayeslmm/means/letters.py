"""Compact letter displays: the fewest sets of means that do not differ, as the sweeping of Piepho (2004) finds them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from bayeslmm.types import BoolArray, IntArray

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def letters(different: BoolArray, order: IntArray, known: BoolArray | None = None) -> list[str]:
    """Letters of k means: two that share one do not differ.

    Parameters
    ----------
    different : BoolArray, shape (k (k - 1) / 2,)
        Whether pairs differ, in the order (0, 1), (0, 2), ..., (1, 2), ...
    order : IntArray, shape (k,)
        In which the means are listed; the first ones have the first letters.
    known : BoolArray, optional
        Pairs of which that is known. A mean without any has no letter.

    Returns
    -------
    list of str
        In that order.

    Examples
    --------
    >>> import numpy as np
    >>> letters(np.array([False, True, False]), np.array([0, 1, 2]))
    ['a', 'ab', 'b']
    """
    k = len(order)
    pairs = list(combinations(range(k), 2))
    there = set(range(k))
    if known is not None and k > 1:
        there = {i for i in range(k) if any(ok for pair, ok in zip(pairs, known, strict=True) if i in pair)}
    sets = [frozenset(there)]
    for (i, j), apart in zip(pairs, different, strict=True):
        if apart:
            sets = _absorbed(part for own in sets for part in ([own - {i}, own - {j}] if {i, j} <= own else [own]))
    place = {int(mean): position for position, mean in enumerate(order)}
    columns = sorted(sorted(place[i] for i in own) for own in sets if own)
    names = [_LETTERS[c] if c < len(_LETTERS) else f"({c + 1})" for c in range(len(columns))]
    return ["".join(name for name, own in zip(names, columns, strict=True) if p in own) for p in range(k)]


def _absorbed(sets: Iterable[frozenset[int]]) -> list[frozenset[int]]:
    """Sets that are no part of another one."""
    found = list(dict.fromkeys(sets))
    return [own for own in found if not any(own < other for other in found)]
