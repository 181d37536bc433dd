"""Finished chunks of a coverage study on disk, each in a file of its own that appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np

from bayeslmm.calibration.coverage_chunk import Chunk, Task, columns
from bayeslmm.errors import StorageError
from bayeslmm.files.system_errors import os_errors
from bayeslmm.files.writing import as_path, check_folder, made, write_bytes
from bayeslmm.storage.archive import open_archive, reading
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.storage.conforming import check_fields
from bayeslmm.types import AnyArray

# To be raised whenever a kernel changes what is computed.
VERSION = 1
_SETTINGS = "study.json"
_SUM = "sha256"
# Bytes of the settings.
_MOST = 100_000


class Store:
    """A folder of finished chunks.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.
    level, seed, prior
        Settings that all chunks in it share.

    Raises
    ------
    StorageError
        The folder holds a study with other settings.
    """

    def __init__(self, folder: str | os.PathLike[str], level: float, seed: int, prior: object) -> None:
        self._folder = as_path(folder)
        settings = {"version": VERSION, "level": level, "seed": seed, "prior": repr(prior)}
        path = self._folder / _SETTINGS
        with os_errors(path):
            known = path.exists()
        if known:
            _check(path, settings)
        else:
            self.check_writable()
            with made(self._folder):
                write_bytes(path, json.dumps(settings, indent=1).encode(), overwrite=True)

    def check_writable(self) -> None:
        """Refuse a store to which nothing can be added; one that is complete need not be one.

        Raises
        ------
        StorageError
        """
        try:
            check_folder(self._folder)
        except StorageError as error:
            raise StorageError(f"store={str(self._folder)!r} cannot be used as a folder: {error}") from error

    def load(self, task: Task) -> Chunk | None:
        """The result of a task, if it is there; None also if its file is damaged, so that it is computed again.

        Raises
        ------
        StorageError
            Something else than a file has its name.
        """
        path = self._path(task)
        if path.is_dir():
            raise StorageError(
                f"{path} is a folder where a chunk of the study belongs. Remove it, or give another store."
            )
        if not path.is_file():
            return None
        try:
            with reading(path), open_archive(path) as arrays:
                chunk = Chunk(arrays["outcome"], arrays["width"], arrays["singular"])
                check_fields(Chunk, vars(chunk))
                _check_chunk(task, chunk)
                # Stores of earlier versions have no checksums.
                if _SUM in arrays and arrays[_SUM].tobytes() != _sum(task, chunk).tobytes():
                    raise ValueError("its checksum is not the one that was written")
        except StorageError:
            return None
        return chunk

    def save(self, task: Task, chunk: Chunk) -> None:
        """Keep the result of a task."""
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **vars(chunk), **{_SUM: _sum(task, chunk)})
        write_bytes(self._path(task), content.getvalue(), overwrite=True)

    def _path(self, task: Task) -> Path:
        return self._folder / f"{task.cell.key:08x}-{task.chunk:04d}-{task.replicates}.npz"


def _check_chunk(task: Task, chunk: Chunk) -> None:
    """Refuse outcomes that no chunk of this task can have.

    Raises
    ------
    ValueError
    """
    shape = len(columns(task.cell)), task.replicates
    if not (chunk.outcome.shape == chunk.width.shape == shape and chunk.singular.shape == shape[1:]):
        raise ValueError(f"it has shapes {chunk.outcome.shape}, {chunk.width.shape}, {chunk.singular.shape}")
    if not (np.isin(chunk.outcome, (-1, 0, 1)).all() and (chunk.width >= 0).all()):
        raise ValueError("some outcome is none of -1, 0, 1, or some width is negative or no number")


def _sum(task: Task, chunk: Chunk) -> AnyArray:
    """The checksum of a chunk and of the task that it belongs to."""
    parts = [task.cell.key, task.chunk, task.replicates, task.seed, task.level, repr(task.prior)]
    text = of_json([*map(str, parts), *(of_array(array) for array in vars(chunk).values())])
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _check(path: Path, settings: dict[str, object]) -> None:
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            raise ValueError("it is no file, or too large for one of settings")
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it does not hold the settings of a study")
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} is damaged or incomplete ({error}), so it is not known to which study the chunks beside it belong."
            " Give another folder, or remove this one and run the study again."
        ) from error
    differing = [
        f"{key}: {found.get(key)!r} there, {value!r} here" for key, value in settings.items() if found.get(key) != value
    ]
    if differing:
        raise StorageError(
            f"The store {str(path.parent)!r} holds chunks of another study ({'; '.join(differing)}), which must not be "
            "mixed with these. Give another folder, or the settings of the stored study."
        )
