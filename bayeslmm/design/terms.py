"""Find random-effects terms by what users call them."""

from __future__ import annotations

from collections.abc import Sequence

from bayeslmm.design.tokens import respelled
from bayeslmm.errors import DesignError


def term_position(key: object, labels: Sequence[str], groups: Sequence[str], argument: str) -> int:
    """Position of the term that a key of an argument means: its label, or its grouping factor.

    Parameters
    ----------
    key : str
        E.g. ``"(Days | Subject)"`` or ``"Subject"``.
    labels, groups : sequence of str
        Of all terms, in the order of the formula.
    argument : str
        Name of the argument, for messages.

    Raises
    ------
    DesignError
        No such term, or several.

    Examples
    --------
    >>> term_position("h", ["(1 | g)", "(x | h)"], ["g", "h"], "cov")
    1
    """
    found = [i for i, label in enumerate(labels) if _plain(label) == _plain(key)]
    found = found or [i for i, group in enumerate(groups) if group == key]
    if not found:
        raise DesignError(
            f"{argument} has the key {key!r}, which names no random term. Keys are grouping factors "
            f"({', '.join(dict.fromkeys(groups))}) or terms ({', '.join(labels)})."
        )
    if len(found) > 1:
        raise DesignError(
            f"{argument} has the key {key!r}, which {len(found)} terms share. Use the term itself as the key: "
            f"{', '.join(dict.fromkeys(labels[i] for i in found))}."
        )
    return found[0]


def _plain(label: object) -> str:
    return "".join(respelled(str(label)).split())
