"""Compact letter displays: the fewest sets of means that do not differ, as the sweeping of Piepho (2004) finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from bayeslmm.types import BoolArray, FloatArray, IntArray

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(
    frame: pd.DataFrame, groups: Sequence[IntArray], values: FloatArray, different: BoolArray, known: BoolArray
) -> pd.DataFrame:
    """A table of means, sorted by their values within every group, with a column of letters; its index as it was.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per mean.
    groups : sequence of IntArray
        Rows of every group.
    values : FloatArray, shape (m,)
    different, known : BoolArray
        Of the pairs of the first group, then those of the next; as in `letters`.
    """
    start, parts = 0, []
    for rows in groups:
        own = slice(start, start + len(rows) * (len(rows) - 1) // 2)
        order = np.argsort(values[rows], kind="stable")
        parts.append(frame.iloc[rows[order]].assign(letters=letters(different[own], order, known[own])))
        start = own.stop
    return pd.concat(parts)


def within(title: str, by: Sequence[str]) -> str:
    """The title of such a table, which says that letters hold within groups where there are some."""
    return f"{title}; letters hold within each group of {', '.join(by)}" if by else title


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
