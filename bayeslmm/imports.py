"""Imports that wait until they are needed, and large ones that are whole: an interrupt would leave them half there."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import FrameType
from typing import Any

from bayeslmm.errors import FitError


def load(*names: str) -> None:
    """Import libraries, of those that are installed.

    Parameters
    ----------
    names : str
        Modules that are imported later where they are used.

    Raises
    ------
    FitError
        Python runs with -OO, and a library cannot.
    """
    if sys.flags.optimize > 1 and any(name.startswith("arviz") for name in names):
        raise FitError(
            "Under python -OO, which drops docstrings, ArviZ fails: it rewrites its own when it computes. Run python "
            "-O, or without the option. REML fits, their intervals and tests need no ArviZ."
        )
    with uninterrupted():
        for name in names:
            if name not in sys.modules and find_spec(name) is not None:
                import_module(name)


class Later:
    """A function, or the module that has it, by its name: imported when it is called or looked up as a method.

    Classes have functions of many modules as methods, and a program that fits a model calls few of them.
    """

    def __init__(self, module: str, name: str = "") -> None:
        self._module, self._name = module, name
        self._bound = list[tuple[type, str]]()

    def __getattr__(self, name: str) -> Later:
        if self._name or name.startswith("__"):
            raise AttributeError(name)
        return Later(self._module, name)

    def __set_name__(self, owner: type, name: str) -> None:
        self._bound.append((owner, name))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        function = self._found()
        for place in self._bound:
            setattr(*place, function)
        return function.__get__(instance, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._found()(*args, **kwargs)

    def _found(self) -> Any:
        load(self._module)
        return getattr(sys.modules[self._module], self._name)


def later(package: str, *modules: str) -> list[Any]:
    """Modules of a package, imported when a function of theirs is called or looked up as a method.

    Parameters
    ----------
    package : str
    modules : str

    Examples
    --------
    >>> (path,) = later("os", "path")
    >>> path.basename("here/there")
    'there'
    """
    return [Later(f"{package}.{module}") for module in modules]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that an interrupt (Ctrl-C) ends when it is over, and not before."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        # Signals go elsewhere, or are ignored.
        yield
        return
    caught = list[tuple[int, FrameType | None]]()
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        before(*caught[0])
