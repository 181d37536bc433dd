"""Sums of pieces, merged as a tree of which the number of pieces alone decides."""

from __future__ import annotations

from collections.abc import Callable


class MergeTree[P]:
    """Merges neighbours as they come: pairs of pieces, pairs of pairs, and what is left from the end.

    Sums round, so that another order of merging is another result in the last digits: this one does not depend on who
    finishes first.

    Parameters
    ----------
    merge : callable
        Of two neighbours, the earlier one first.

    Examples
    --------
    >>> tree = MergeTree(lambda one, other: f"({one}{other})")
    >>> for number in (4, 1, 0, 3, 2):
    ...     tree.add(number, "abcde"[number])
    >>> tree.result()
    '(((ab)(cd))e)'
    """

    def __init__(self, merge: Callable[[P, P], P]) -> None:
        self._merge = merge
        # By the power of two and the number among those of this power.
        self._waiting: dict[tuple[int, int], P] = {}

    def add(self, number: int, sums: P) -> None:
        """The sums of a piece."""
        power = 0
        while (sibling := (power, number ^ 1)) in self._waiting:
            other = self._waiting.pop(sibling)
            sums = self._merge(sums, other) if number % 2 == 0 else self._merge(other, sums)
            power, number = power + 1, number // 2
        self._waiting[power, number] = sums

    def result(self) -> P:
        """The sums of all pieces, once all were added."""
        # Larger parts stand before smaller ones.
        _, *rest = parts = sorted(self._waiting.items(), key=lambda item: item[0], reverse=True)
        if not rest:
            return parts[0][1]
        total = parts[-1][1]
        for _, sums in parts[-2::-1]:
            total = self._merge(sums, total)
        return total
