"""Large libraries imported whole: an interrupt in the middle would leave them half there for good."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import FrameType

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
