"""Worker processes that end with the process that started them, also if that one is killed."""

from __future__ import annotations

import os
import threading
import time

# Seconds.
_EVERY = 1.0
_watched = False


def watch(parent: int) -> None:
    """End this process when its parent is gone: it would compute, or wait for tasks, for no one.

    Parameters
    ----------
    parent : int
        Process id of who started this process; of this process itself if there are no workers.
    """
    global _watched
    # Windows does not say that a parent is gone.
    if _watched or os.name == "nt" or os.getpid() == parent:
        return
    _watched = True
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY)
    os._exit(1)
