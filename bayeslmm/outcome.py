"""How a command ends: whatever stops it is one line for its user and an exit code, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from bayeslmm.errors import BayesLMMError

# Those that a shell gives to what SIGINT and SIGPIPE end.
_INTERRUPTED, _PIPE_CLOSED = 130, 141
_NO_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EINVAL}


def run(command: Callable[[], Any], say: Callable[[str], None]) -> None:
    """Run a command and leave the process with its exit code.

    Parameters
    ----------
    command : callable
    say : callable
        Prints a line to standard error.
    """
    # Signs that the terminal has no bytes for are shown as their numbers: a \\xe9 for an e with an accent.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code: Any = 0
    try:
        command()
        sys.stdout.flush()
    except SystemExit as error:
        code = _flushed(error.code)
        if code == _INTERRUPTED:
            # The parser of arguments has caught the interrupt and said nothing.
            _said(say, _outcome(KeyboardInterrupt())[0])
    except (Exception, KeyboardInterrupt) as error:
        text, code = _outcome(error)
        if text:
            _said(say, text)
    if code not in (0, None):
        _abandon(sys.stdout)
        sys.exit(code)


def _flushed(code: Any) -> Any:
    """The code of a command that has ended by itself, or another one if its output does not arrive."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _outcome(error)[1]
    return code


def _said(say: Callable[[str], None], text: str) -> None:
    try:
        say(text)
    except OSError:
        # No one can be told.
        _abandon(sys.stderr)


def _outcome(error: BaseException) -> tuple[str, int]:
    """What is said of an error, and the exit code.

    Raises
    ------
    BaseException
        One that only a fault of the program explains.
    """
    if isinstance(error, BayesLMMError):
        return f"Error: {error}", 1
    if isinstance(error, KeyboardInterrupt):
        detail = f" ({error})" if str(error) else ""
        return f"Interrupted{detail}: nothing more was computed or written.", _INTERRUPTED
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return f"Error: there is not enough memory{detail}. Ask for fewer draws, or use a larger machine.", 1
    if isinstance(error, BrokenPipeError):
        # As with head: who reads has seen enough, and knows.
        return "", _PIPE_CLOSED
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.filename is None and error.errno in _NO_OUTPUT:
            return f"Error: the output cannot be written: {reason}. Send it to another place.", 1
        return f"Error: {error.filename or 'the system'}: {reason}. Look at the path and its rights.", 1
    if isinstance(error, UnicodeEncodeError):
        return f"Error: the terminal cannot show all signs ({error}). Set PYTHONIOENCODING=utf-8.", 1
    raise error


def _abandon(stream: TextIO) -> None:
    """Send what is still to be flushed to nowhere: at its end Python would report a failure once more."""
    try:
        stream.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
