"""A place for the caches of other libraries where there is no home, or none that can be written to.

In containers, on clusters and in functions of a cloud HOME may be unset, unknown or protected. PyTensor then cannot
compile, and Matplotlib and ArviZ cannot even be imported. They are given a folder that lasts as long as the process.
"""

from __future__ import annotations

import os


def provide() -> None:
    """Set HOME, if there is none, or else where PyTensor compiles, if that cannot be written to.

    To be called before these libraries are imported. Where there is a home to write to, nothing is changed.
    """
    home, flags = os.path.expanduser("~"), os.environ.get("PYTENSOR_FLAGS", "")
    known = os.path.isabs(home)
    if known and ("compiledir" in flags or _writable(home)):
        return
    try:
        folder = _folder()
    except OSError:
        # No folder for temporary files either: REML fits need none.
        return
    if known:
        own = f"base_compiledir={os.path.join(folder, 'pytensor')}"
        os.environ["PYTENSOR_FLAGS"] = f"{flags},{own}" if flags else own
    else:
        os.environ["HOME"] = folder


def _writable(home: str) -> bool:
    own = os.path.join(home, ".pytensor")
    place = own if os.path.isdir(own) else home
    return os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)


def _folder() -> str:
    """Of this process alone: code is loaded from there."""
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="bayeslmm-")
    # Not by worker processes that this one forks.
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder
