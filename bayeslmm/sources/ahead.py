"""The next item while the last one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

_END = object()
# Seconds between looks at whether anybody still waits.
_LOOK = 0.1


def ahead[T](items: Iterator[T]) -> Iterator[T]:
    """The same items, of which one thread makes the next while the last one is used.

    Parameters
    ----------
    items : iterator
        What it raises is raised here. It is closed, and the thread ended, before this iterator ends.

    Examples
    --------
    >>> list(ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    made: queue.Queue[Any] = queue.Queue(maxsize=1)
    stopped = threading.Event()
    thread = threading.Thread(target=_make, args=(items, made, stopped), daemon=True, name="bayeslmm reading ahead")
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            # Not kept while the next one is waited for.
            del item
    finally:
        stopped.set()
        thread.join()


def _make(items: Iterator[Any], made: queue.Queue[Any], stopped: threading.Event) -> None:
    try:
        try:
            for item in items:
                if not _put((item, None), made, stopped):
                    return
        finally:
            close = getattr(items, "close", None)
            if callable(close):
                close()
        _put((_END, None), made, stopped)
    except BaseException as error:
        _put((None, error), made, stopped)


def _put(pair: tuple[Any, BaseException | None], made: queue.Queue[Any], stopped: threading.Event) -> bool:
    """Whether it was wanted."""
    while not stopped.is_set():
        try:
            made.put(pair, timeout=_LOOK)
        except queue.Full:
            continue
        return True
    return False
