"""What the system answers to writing, in words: the path, the reason and a way out."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bayeslmm.errors import StorageError

_WAYS_OUT = {
    errno.ENOSPC: "Free some space, or choose a folder on another disk.",
    errno.EDQUOT: "The quota is used up: free some space, or choose a folder on another disk.",
    errno.EFBIG: "Files of this size are not allowed there (by ulimit -f, or the file system): choose another place.",
    errno.EROFS: "Choose a folder that can be written to.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOENT: "Create the folder first.",
    errno.ENOTDIR: "A part of the path is a file and no folder: choose another path.",
    errno.ELOOP: "The path is a circle of links: choose another one.",
    errno.EISDIR: "Give the name of a file.",
}


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """What the system refuses is a StorageError with the path, the reason and a way out.

    Parameters
    ----------
    path : Path
        Named in the message.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {_reason(error)}. {_way_out(path, error)}") from error
    except ValueError as error:
        # A zero byte, or signs that the file system has no bytes for.
        if not isinstance(error, UnicodeEncodeError) and "null" not in str(error):
            raise
        raise StorageError(f"{str(path)!r} is no name of a file ({error}). Choose another one.") from error


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _way_out(path: Path, error: OSError) -> str:
    full = error.errno == errno.ENOSPC or "No space left" in str(error)
    text = _WAYS_OUT.get(errno.ENOSPC if full else error.errno or 0, "Choose another folder.")
    if full:
        with suppress(OSError):
            text = f"{shutil.disk_usage(path.absolute().parent).free:,} bytes are free. {text}"
    if error.errno == errno.ENAMETOOLONG:
        text = f"The name has {len(os.fsencode(path.name))} bytes; most file systems take 255. {text}"
    return text
