"""Finished chunks of a coverage study on disk, each in a file of its own that appears whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np

from bayeslmm.archive import open_archive, reading
from bayeslmm.calibration.coverage_chunk import Chunk, Task, columns
from bayeslmm.conforming import check_fields
from bayeslmm.errors import StorageError

# To be raised whenever a kernel changes what is computed.
VERSION = 1
_SETTINGS = "study.json"


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
        self._folder = Path(folder)
        settings = {"version": VERSION, "level": level, "seed": seed, "prior": repr(prior)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"store={str(folder)!r} cannot be used as a folder: {error}.") from error
        path = self._folder / _SETTINGS
        if path.exists():
            _check(path, settings)
        else:
            self._write(path, json.dumps(settings, indent=1).encode())

    def load(self, task: Task) -> Chunk | None:
        """The result of a task, if it is there; None also if its file is damaged, so that it is computed again."""
        path = self._path(task)
        if not path.is_file():
            return None
        try:
            with reading(path), open_archive(path) as arrays:
                chunk = Chunk(arrays["outcome"], arrays["width"], arrays["singular"])
                check_fields(Chunk, vars(chunk))
        except StorageError:
            return None
        shape = len(columns(task.cell)), task.replicates
        fits = chunk.outcome.shape == chunk.width.shape == shape and chunk.singular.shape == shape[1:]
        return chunk if fits else None

    def save(self, task: Task, chunk: Chunk) -> None:
        """Keep the result of a task."""
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, outcome=chunk.outcome, width=chunk.width, singular=chunk.singular)
        Path(name).replace(self._path(task))

    def _path(self, task: Task) -> Path:
        return self._folder / f"{task.cell.key:08x}-{task.chunk:04d}-{task.replicates}.npz"

    def _write(self, path: Path, data: bytes) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)


def _check(path: Path, settings: dict[str, object]) -> None:
    with reading(path):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it does not hold the settings of a study")
    differing = [
        f"{key}: {found.get(key)!r} there, {value!r} here" for key, value in settings.items() if found.get(key) != value
    ]
    if differing:
        raise StorageError(
            f"The store {str(path.parent)!r} holds chunks of another study ({'; '.join(differing)}), which must not be "
            "mixed with these. Give another folder, or the settings of the stored study."
        )
