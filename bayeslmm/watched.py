"""Whether somebody watches, and where a bar of progress is drawn."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

# Seconds before anything is shown.
PATIENCE = 1.0


def console() -> Any:
    """Where bars are drawn: the standard error of a terminal, or a notebook."""
    from rich.console import Console

    return Console(stderr=True)


def watched(on: Any) -> bool:
    """Whether a console is a terminal, or a notebook that can show a bar."""
    if on.is_jupyter:
        # Without it rich prints a warning in place of a bar.
        return find_spec("ipywidgets") is not None
    return bool(on.is_terminal)
