"""Finished chunks of a simulation on disk, each in a file of its own that appears whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayeslmm.errors import StorageError
from bayeslmm.files.system_errors import os_errors
from bayeslmm.files.writing import as_path, check_folder, made, write_bytes
from bayeslmm.storage.archive import open_archive, reading
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.storage.conforming import check_fields
from bayeslmm.types import AnyArray

_SETTINGS = "study.json"
_SUM = "sha256"
# Bytes of the settings.
_MOST = 1_000_000
# Letters of a setting in a message.
_SHOWN = 60


class ChunkStore:
    """A folder of finished chunks: dataclasses of arrays.

    Parameters
    ----------
    folder : str or Path
        Made if it does not exist.
    settings : mapping
        What all chunks in it share, as JSON can hold it.

    Raises
    ------
    StorageError
        The folder holds a study with other settings.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, object]) -> None:
        self._folder = as_path(folder)
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

    def load[C](self, name: str, kind: type[C], identity: Sequence[object], check: Callable[[C], None]) -> C | None:
        """A chunk, if it is there; None also if its file is damaged, so that it is computed again.

        Parameters
        ----------
        name : str
        kind : type
            A dataclass of arrays.
        identity : sequence
            What the chunk is of; a file that was kept under another identity is not taken.
        check : callable
            Raises ValueError for a chunk that the task cannot have.

        Raises
        ------
        StorageError
            Something else than a file has its name.
        """
        path = self._path(name)
        if path.is_dir():
            raise StorageError(
                f"{path} is a folder where a chunk of the study belongs. Remove it, or give another store."
            )
        if not path.is_file():
            return None
        try:
            with reading(path), open_archive(path) as arrays:
                content = {field: arrays[field] for field in kind.__dataclass_fields__}  # type: ignore[attr-defined]
                check_fields(kind, content)
                chunk = kind(**content)
                check(chunk)
                # Stores of earlier versions have no checksums.
                if _SUM in arrays and arrays[_SUM].tobytes() != _sum(identity, content).tobytes():
                    raise ValueError("its checksum is not the one that was written")
        except StorageError:
            return None
        return chunk

    def save(self, name: str, chunk: Any, identity: Sequence[object]) -> None:
        """Keep a chunk."""
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **vars(chunk), **{_SUM: _sum(identity, vars(chunk))})
        write_bytes(self._path(name), content.getvalue(), overwrite=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.npz"


def _sum(identity: Sequence[object], content: Mapping[str, AnyArray]) -> AnyArray:
    """The checksum of a chunk and of what it is of."""
    text = of_json([*map(str, identity), *(of_array(array) for array in content.values())])
    return np.frombuffer(text.encode(), dtype=np.uint8)


def _check(path: Path, settings: Mapping[str, object]) -> None:
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
        f"{key}: {_short(found.get(key))} there, {_short(settings.get(key))} here"
        for key in {**found, **settings}
        if found.get(key) != settings.get(key)
    ]
    if differing:
        raise StorageError(
            f"The store {str(path.parent)!r} holds chunks of another study ({'; '.join(differing)}), which must not be "
            "mixed with these. Give another folder, or the settings of the stored study."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
