"""Progress of what takes longer than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from bayeslmm.watched import bar_console, patience


class Progress:
    """Shows what is going on once it has taken a second; silent unless asked for.

    Parameters
    ----------
    show : bool
        Whether to show anything; only in a terminal or a notebook.
    """

    # Two bars at once would write over each other: the outer one stays.
    _on_screen: ClassVar[Progress | None] = None

    def __init__(self, show: bool = False) -> None:
        self._show = show
        self._begun = time.monotonic()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def wanted(self) -> bool:
        """Whether to show anything."""
        return self._show

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell that `done` of `total` steps of a stage are finished."""
        if not self._show or time.monotonic() - self._begun < patience():
            return
        with self._lock:
            if self._started():
                self._put(stage, total)
                self._bar.update(self._tasks[stage], completed=done, total=total)

    def announce(self, stage: str) -> None:
        """Tell that a stage has begun of which nothing is heard until its end; shown once it has taken a second."""
        self.silence()
        if not self._show:
            return
        self._timer = threading.Timer(patience(), self._show_stage, (stage,))
        self._timer.daemon = True
        self._timer.start()

    def silence(self) -> None:
        """What was announced has ended."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer.join()
        self._timer = None
        with self._lock:
            for stage in [name for name, task in self._tasks.items() if self._open(task)]:
                self._bar.remove_task(self._tasks.pop(stage))

    def close(self) -> None:
        """Remove the bar."""
        self.silence()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._tasks.clear()
            Progress._on_screen = None

    def _show_stage(self, stage: str) -> None:
        with self._lock:
            if self._started():
                self._put(stage, None)

    def _open(self, task: Any) -> bool:
        """Whether a task has no known number of steps."""
        return any(one.id == task and one.total is None for one in self._bar.tasks)

    def _started(self) -> bool:
        """Whether there is a bar to draw on; begins one."""
        if self._bar is None:
            from rich.progress import Progress as Bar

            console = bar_console()
            if console is None:
                self._show = False
                return False
            if Progress._on_screen is not None:
                return False
            Progress._on_screen = self
            self._bar = Bar(console=console, transient=True)
            self._bar.start()
        return True

    def _put(self, stage: str, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def announced(stage: str) -> Iterator[None]:
    """While the block runs for more than a second, a terminal or a notebook says what it does.

    Nothing is looked at before: a block that is quick pays for a timer only.
    """
    with Progress(True) as progress:
        progress.announce(stage)
        yield


def interactive() -> bool:
    """Whether somebody watches: a terminal or a notebook."""
    return bar_console() is not None
