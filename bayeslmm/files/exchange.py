"""Two names of one file system exchanged in one step, where the system can."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def exchange(one: Path, two: Path) -> bool:
    """Exchange what two paths name, so that at no time either of them names nothing.

    Parameters
    ----------
    one, two : Path

    Returns
    -------
    bool
        Whether it was done; False if the system or the file system cannot, or one of them is not there.
    """
    rename = _renameat2()
    return rename is not None and (
        rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE) == 0
    )


@cache
def _renameat2() -> Any:
    """The call of the C library of Linux; None elsewhere, and in old ones."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
