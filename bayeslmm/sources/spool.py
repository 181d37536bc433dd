"""What an iterator gave, in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from bayeslmm.errors import DesignError, StorageError
from bayeslmm.sources.frames import cut, joined, text_columns, with_text
from bayeslmm.sources.protocol import most_rows

_PREFIX = "bayeslmm-rows"
_TEXT, _OBJECTS = b"bayeslmm text", b"bayeslmm objects"


class Spool:
    """Chunks in files of their own, removed when nobody needs them any more and at the end of the process.

    Parameters
    ----------
    name : str
        Of the source.
    columns : tuple of str
    """

    def __init__(self, name: str, columns: tuple[str, ...]) -> None:
        self._name = name
        self.columns = columns
        self.finished = 0
        self._waiting: list[pd.DataFrame] = []
        self._last: pd.DataFrame | None = None
        self._most = most_rows(columns)
        self._bytes = 0
        # Of categories that no file holds (intervals, periods), by file and column.
        self._categories: dict[tuple[int, str], pd.CategoricalDtype] = {}
        place = tempfile.gettempdir()
        _clear(place)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}-{socket.gethostname()}-{os.getpid()}-", dir=place))
        except OSError as error:
            raise self._full(place, 0, error) from error
        self._end = weakref.finalize(self, _remove, str(self._folder), os.getpid())

    def add(self, frame: pd.DataFrame) -> None:
        """Keep a chunk; small ones wait until there are enough rows for a file."""
        if len(frame):
            self._waiting.append(frame)
        rows = sum(map(len, self._waiting))
        if rows >= self._most // 4:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if not self._waiting:
            return
        frame = joined(self._waiting)
        for part in cut(frame, self._most):
            self._write(part)
        self._waiting = []

    def read(self, number: int, columns: Sequence[str]) -> pd.DataFrame:
        """Chunk number `number`."""
        if number == self.finished - 1 and self._last is not None:
            frame, self._last = self._last, None
            return with_text(frame[list(columns)], text_columns(frame) & set(columns))
        import pyarrow as pa
        from pyarrow import feather

        path = self._path(number)
        try:
            table = feather.read_table(path, columns=list(columns), memory_map=False, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(
                f"The rows of the {self._name} that were kept in {path} cannot be read ({error}). Was the folder for "
                "temporary files emptied? Fit again from a new iterator, or give a function that returns it."
            ) from error
        frame = table.to_pandas(use_threads=False, split_blocks=True)[list(columns)]
        # Files of columns know no numbers that are objects, which are no numbers to a model.
        objects = [name for name in json.loads(table.schema.metadata[_OBJECTS]) if name in columns]
        frame = frame.astype(dict.fromkeys(objects, object)) if objects else frame
        for name in columns:
            if (number, name) in self._categories:
                frame[name] = pd.Categorical.from_codes(frame[name], dtype=self._categories[number, name])
        return with_text(frame, frozenset(json.loads(table.schema.metadata[_TEXT])) & set(columns))

    def close(self) -> None:
        """Remove the files."""
        self._end()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.feather"

    def _write(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa
        from pyarrow import feather

        coded: dict[str, Any] = {}
        for name, dtype in frame.dtypes.items():
            odd = isinstance(dtype, pd.CategoricalDtype) and isinstance(
                dtype.categories.dtype, pd.IntervalDtype | pd.PeriodDtype
            )
            if odd:
                self._categories[self.finished, str(name)] = dtype
                coded[str(name)] = frame[name].cat.codes
        try:
            table = pa.Table.from_pandas(frame.assign(**coded) if coded else frame, preserve_index=False, nthreads=1)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DesignError(
                f"A chunk of the {self._name} has values that no file of columns holds ({error}). Convert them to "
                "numbers or text, or give a function that returns the iterator: it is read twice, and nothing is kept."
            ) from error
        objects = [str(name) for name, dtype in frame.dtypes.items() if pd.api.types.is_object_dtype(dtype)]
        note = {
            _TEXT: json.dumps(sorted(text_columns(frame))).encode(),
            _OBJECTS: json.dumps(objects).encode(),
        }
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), **note})
        path = self._path(self.finished)
        try:
            feather.write_feather(table, path, compression="lz4")
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            raise self._full(str(self._folder.parent), table.nbytes, error) from error
        self._bytes += table.nbytes
        self._last = frame
        self.finished += 1

    def _full(self, place: str, size: int, error: OSError) -> StorageError:
        free: Any = None
        with suppress(OSError):
            free = shutil.disk_usage(place).free
        return StorageError(
            f"The rows of the {self._name} are kept in {place!r} while they are read, and that failed: "
            f"{error.strerror or error}. {size:,} bytes more were needed, beside {self._bytes:,} that are there"
            f"{'' if free is None else f'; {free:,} are free'}. Set the environment variable TMPDIR to a folder with "
            "more space, write the rows to a parquet file and give its path, or give a function that returns the "
            "iterator: it is read twice, and nothing is kept."
        )


def _remove(folder: str, process: int) -> None:
    # A forked process has the same object, and no right to the files.
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(place: str) -> None:
    """Remove what processes of this machine that were killed have left."""
    # On Windows there is no question without an effect.
    if os.name == "nt":
        return
    own = f"{_PREFIX}-{socket.gethostname()}-"
    with suppress(OSError):
        for entry in os.scandir(place):
            process = entry.name.removeprefix(own).split("-")[0]
            if entry.name.startswith(own) and process.isdigit() and not _alive(int(process)):
                shutil.rmtree(entry.path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
