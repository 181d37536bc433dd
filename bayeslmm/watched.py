"""Whether somebody watches, and where a bar of progress is drawn."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

_PATIENCE = 1.0


def patience() -> float:
    """Seconds before anything is shown."""
    return _PATIENCE


def bar_console() -> Any:
    """The console of a terminal, or of a notebook that can show a bar; None where nobody watches."""
    console = _console()
    # Without it rich prints a warning in place of a bar.
    watched = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
    return console if watched else None


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
