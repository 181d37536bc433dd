"""Progress of what takes longer than a second."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import Any

# Seconds before anything is shown.
_PATIENCE = 1.0


class Progress:
    """Shows what is going on once it has taken a second; silent unless asked for.

    Parameters
    ----------
    show : bool
        Whether to show anything; only in a terminal or a notebook.
    """

    def __init__(self, show: bool = False) -> None:
        self._show = show
        self._begun = time.monotonic()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether to show anything."""
        return self._show

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell that `done` of `total` steps of a stage are finished."""
        if not self._show or time.monotonic() - self._begun < _PATIENCE:
            return
        if self._bar is None:
            from rich.progress import Progress as Bar

            console = _console()
            if not _interactive(console):
                self._show = False
                return
            self._bar = Bar(console=console, transient=True)
            self._bar.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def interactive() -> bool:
    """Whether somebody watches: a terminal or a notebook."""
    return _interactive(_console())


def _interactive(console: Any) -> bool:
    if console.is_jupyter:
        # Without it rich prints a warning in place of a bar.
        return find_spec("ipywidgets") is not None
    return bool(console.is_terminal)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
