"""Methods that a kind of result does not have yet: they say so, and what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from bayeslmm.errors import FitError


def refused(name: str, words: Callable[[Any], str], doc: str = "") -> Callable[..., NoReturn]:
    """A method that refuses any arguments.

    Parameters
    ----------
    name : str
    words : callable
        From the result to what the error says.
    doc : str
        What its documentation has after the first sentence.
    """

    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        raise FitError(words(self))

    method.__name__, method.__doc__ = name, f"Refused: not there yet for residual parameters. {doc}".strip()
    return method
