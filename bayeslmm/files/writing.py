"""Files and folders of results that appear whole or not at all, and what the system answers, in words.

What is written is made in a folder of its own beside its place: no one can guess the name of it or plant a link there,
it needs no longer name than the target, and files in it get the rights that any new file gets. When it is complete it
takes its place in one step. What an earlier process left behind when it was killed is removed a day later.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayeslmm.arguments import flag, kind_of, shown
from bayeslmm.errors import ArgumentError, StorageError
from bayeslmm.files.exchange import exchange
from bayeslmm.files.system_errors import os_errors

type FilePath = str | os.PathLike[str]

_PREFIX, _PART, _OLD = ".bayeslmm-", ".part", ".old"
# Nothing that is still being written rests for so long, in seconds.
_ABANDONED = 86_400.0
# Others may put a store there between two steps of ours, but not for ever.
_TRIES = 100
# Kinds of file systems that cannot say that something is on disk.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Destination:
    """A place that can be written to.

    Attributes
    ----------
    path : Path
        As it was given.
    place : Path
        Where that is: absolute, and of a link what it points to.
    overwrite : bool
        Whether what is there may be replaced.
    store : sequence of str
        Files one of which is in every folder of the kind that is written; empty if a file is written.
    found : os.stat_result or None
        What is there.
    """

    path: Path
    place: Path
    overwrite: bool
    store: Sequence[str]
    found: os.stat_result | None


def as_path(path: FilePath) -> Path:
    """The path as such.

    Raises
    ------
    StorageError
        No path.
    """
    if not _is_path(path):
        raise StorageError(f"{shown(path)} is {kind_of(path)} and no path. Give the name of a file as a text.")
    return Path(path)


def path_argument(path: Any, example: str) -> Path:
    """What was given for the argument ``path=`` of a function that writes one file.

    Raises
    ------
    ArgumentError
        No path.
    """
    if not _is_path(path):
        raise ArgumentError(f"path={shown(path)} is no path. Give the name of a file, e.g. {example!r}.")
    return Path(path)


def _is_path(path: object) -> bool:
    return isinstance(path, str | os.PathLike) and isinstance(os.fspath(path), str)


def destination(path: FilePath, *, overwrite: bool = False, store: Sequence[str] = ()) -> Destination:
    """Look at a place before anything is written there.

    Parameters
    ----------
    path : str or path
        A link to a file stands for that file: the link stays, and what it points to is replaced.
    overwrite : bool
        Whether a regular file, or with `store` such a folder, may be replaced; nothing else ever is.
    store : sequence of str
        If a folder is to be written, files one of which is in every such folder; no other folder is replaced.

    Raises
    ------
    StorageError
        There is something that is not to be replaced, or nothing can be written there.

    Examples
    --------
    >>> destination("fit.npz").path.name
    'fit.npz'
    """
    flag("overwrite", overwrite, StorageError)
    given = as_path(path)
    with os_errors(given):
        place = _resolved(given)
        found = os.lstat(place) if os.path.lexists(place) else None
        if found is None:
            _check_name(place)
        else:
            _check_found(given, place, found, overwrite, store)
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Destination(given, place, overwrite, store, found)


def _resolved(given: Path) -> Path:
    if not given.is_symlink():
        return given.absolute()
    place = Path(os.path.realpath(given))
    if not place.exists():
        raise StorageError(
            f"{given} is a link to {place}, where there is nothing. Remove the link, or choose another name."
        )
    return place


def _check_name(place: Path) -> None:
    if not place.parent.exists():
        raise StorageError(f"The folder {place.parent} does not exist. Create it first.")
    # Says so if the name is too long, or a file stands where a folder should.
    with suppress(FileNotFoundError):
        os.lstat(place)


def _check_found(given: Path, place: Path, found: os.stat_result, overwrite: bool, store: Sequence[str]) -> None:
    mode = found.st_mode
    if stat.S_ISDIR(mode) and not store:
        raise StorageError(f"{given} is a folder. Give the name of a file in it.")
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise StorageError(f"{given} is {kind} and no file, so it is not replaced. Choose another name.")
    if store and not stat.S_ISDIR(mode):
        raise StorageError(
            f"{given} is a file, and what is to be written is a folder, so it is not replaced. Choose another name."
        )
    if store and not any((place / name).is_file() for name in store):
        raise StorageError(
            f"{given} is a folder and no {place.suffix.lstrip('.')} store (it holds no {' or '.join(store)}), so it is "
            "not replaced. Choose another name."
        )
    if not overwrite:
        raise _there_already(given)
    if not os.access(place, os.W_OK):
        raise StorageError(
            f"{given} is protected from being written to (its rights are {stat.filemode(mode)}), so it is not "
            "replaced. Choose another name, or change its rights."
        )


def _there_already(given: Path) -> StorageError:
    return StorageError(f"{given} exists. Pass overwrite=True to replace it, or choose another name.")


@contextmanager
def replacing(target: Destination) -> Iterator[Path]:
    """Where to write what is to stand at the target; it is moved there when the block has ended without an error.

    Parameters
    ----------
    target : Target

    Raises
    ------
    StorageError
        The system could not write it; nothing is left of it then, and what was there is there still.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(destination(os.path.join(folder, "a.txt"))) as part:
    ...         _ = part.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    parent = target.place.parent
    with os_errors(target.path):
        clear(parent)
        own = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_PART, dir=parent))
        try:
            part = own / target.place.name
            yield part
            _sync(part)
            _keep_rights(part, target.found)
            (_place_store if target.store else _place_file)(part, target)
            _sync_folder(parent)
        finally:
            shutil.rmtree(own, ignore_errors=True)


def write_bytes(path: FilePath, content: bytes, *, overwrite: bool = False) -> Path:
    """Write a file.

    Parameters
    ----------
    path : str or path
    content : bytes
    overwrite : bool

    Raises
    ------
    StorageError
        See `destination` and `replacing`.
    """
    target = destination(path, overwrite=overwrite)
    with replacing(target) as part:
        part.write_bytes(content)
    return target.path


def check_folder(folder: FilePath, names: Iterable[str] = ()) -> Path:
    """Refuse, before anything is computed, a folder that cannot be made or written to.

    Parameters
    ----------
    folder : str or path
        Need not exist.
    names : iterable of str
        Files to be written in it; they may be there.

    Raises
    ------
    StorageError
    """
    path = as_path(folder)
    with os_errors(path):
        chain = (path.absolute(), *path.absolute().parents)
        place = next(p for p in chain if os.path.lexists(p))
        if not place.is_dir():
            shown = path if place == path.absolute() else place
            raise StorageError(f"{str(shown)!r} is a file. Give a folder; it is made if it does not exist.")
        if not os.access(place, os.W_OK | os.X_OK):
            raise StorageError(f"{str(place)!r} cannot be written to. Give another folder.")
        for part in chain[: chain.index(place)]:
            _check_name(place / part.name)
        # The one test that no kind of file system answers wrongly.
        os.rmdir(tempfile.mkdtemp(prefix=_PREFIX, suffix=_PART, dir=place))
        inside = place if place == path.absolute() else None
        for name in names if inside else ():
            destination(path / name, overwrite=True)
    return path


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A folder, made if it does not exist; if the block fails with nothing in it, what was made is removed again.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    StorageError
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def reserve(part: Path, size: int) -> None:
    """Fail now if there is no space for a file, for libraries that do not survive to find out while they write.

    Parameters
    ----------
    part : Path
        Where the file will be; it is not there afterwards.
    size : int
        Bytes.

    Raises
    ------
    OSError
    """
    try:
        with open(part, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_SYNC:
            raise
        if shutil.disk_usage(part.parent).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    finally:
        part.unlink(missing_ok=True)


def _place_file(part: Path, target: Destination) -> None:
    if target.overwrite:
        os.replace(part, target.place)
        return
    try:
        # Unlike a rename, this never replaces what came there meanwhile.
        os.link(part, target.place)
    except FileExistsError as error:
        raise _there_already(target.path) from error
    except OSError:
        # No hard links there.
        if os.path.lexists(target.place):
            raise _there_already(target.path) from None
        os.rename(part, target.place)


def _place_store(part: Path, target: Destination) -> None:
    """At every moment the old store or the new one is there, but for systems that cannot exchange two names."""
    for _ in range(_TRIES):
        if _moved(part, target.place):
            return
        if not target.overwrite:
            raise _there_already(target.path)
        if exchange(part, target.place) or _moved_aside(part, target.place):
            return
    raise StorageError(f"{target.path} is written by other processes all the time. Choose another name.")


def _moved(part: Path, place: Path) -> bool:
    try:
        os.rename(part, place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _moved_aside(part: Path, place: Path) -> bool:
    """Move the old store away and the new one in; the old one comes back if that fails."""
    # Beside the part and not in it: what is left there if the process is killed now is never removed by itself.
    old = part.parent.with_suffix(_OLD)
    try:
        os.rename(place, old)
    except FileNotFoundError:
        return False
    try:
        done = _moved(part, place)
    except BaseException:
        if not os.path.lexists(place):
            os.rename(old, place)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return done


def _keep_rights(part: Path, found: os.stat_result | None) -> None:
    """Owner, group and rights of what is replaced, as far as the system lets us."""
    if found is None:
        return
    for user, group in ((-1, found.st_gid), (found.st_uid, -1)):
        with suppress(OSError, AttributeError):
            os.chown(part, user, group)
    now = os.stat(part)
    rights = stat.S_IMODE(found.st_mode) & (0o3777 if stat.S_ISDIR(now.st_mode) else 0o777)
    if now.st_gid != found.st_gid:
        # Another group has not been given these rights.
        rights &= ~0o070
    os.chmod(part, rights)


def _sync(part: Path) -> None:
    """Wait until all of it is on the disk: some systems say only then that it is full."""
    if part.is_dir():
        for folder, _, names in os.walk(part):
            for name in names:
                _sync(Path(folder, name))
        return
    with open(part, "rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def clear(folder: Path) -> None:
    """Remove what processes of this user that were killed have left in a folder a day ago or earlier.

    Parameters
    ----------
    folder : Path
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_PART) and _abandoned(entry):
                shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(entry: os.DirEntry[str]) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != getattr(os, "geteuid", lambda: found.st_uid)():
            return False
        inside = [os.path.join(top, name) for top, *kinds in os.walk(entry.path) for names in kinds for name in names]
        latest = max([found.st_mtime, *(os.lstat(path).st_mtime for path in inside)])
    except OSError:
        return False
    return time.time() - latest > _ABANDONED
