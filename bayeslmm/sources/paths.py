"""Files, folders and patterns of file names as sources."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from bayeslmm.errors import DesignError
from bayeslmm.sources.arrow import ArrowSource
from bayeslmm.sources.parquet import ParquetSource
from bayeslmm.sources.protocol import Source
from bayeslmm.sources.recognised import SUFFIXES

_PARQUET = (".parquet", ".pq")


def open_path(text: str) -> Source:
    """A file, a folder with its folders below, or all files that a pattern names.

    Names of folders such as ``year=2020`` are columns, as pandas reads them: categories.

    Raises
    ------
    DesignError
        No such file, no file of parquet or Arrow.
    """
    path = os.path.expanduser(text)
    place = Path(path)
    if place.is_dir():
        files = sorted(str(file) for file in place.rglob("*") if _wanted(file, place))
        name = f"folder {text!r}"
        if not files:
            raise DesignError(f"The {name} has no files that end in {', '.join(SUFFIXES)}. {_elsewhere(place)}")
    elif place.exists():
        files, name = [path], f"file {text!r}"
    else:
        files = sorted(file for file in glob.glob(path, recursive=True) if Path(file).is_file())
        name = f"files {text!r}"
        if not files:
            raise DesignError(f"There is no file {text!r}{_near(place)}. The working folder is {os.getcwd()!r}.")
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise DesignError(f"The {name} are of several formats ({', '.join(sorted(kinds))}). Give those of one.")
    kind = kinds.pop()
    label = f"{kind} {name}" + (f" ({len(files)} files)" if len(files) > 1 or place.is_dir() else "")
    try:
        found = ds.dataset(
            files,
            format=kind,
            partitioning=ds.HivePartitioning.discover(infer_dictionary=True),
            partition_base_dir=str(place) if place.is_dir() else None,
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise DesignError(
            f"The {label} cannot be read: {str(error).splitlines()[0]}. Is it complete, and of the format {kind}?"
        ) from error
    if kind == "parquet":
        return ParquetSource(list(found.get_fragments()), found.schema, label)
    return ArrowSource(found, label)


def _wanted(file: Path, base: Path) -> bool:
    """Whether a file in a folder holds rows; names that begin with a dot or an underscore are of programs."""
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(base).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()


def _kind(file: str) -> str:
    suffix = Path(file).suffix.lower()
    if suffix in SUFFIXES:
        return "parquet" if suffix in _PARQUET else "feather"
    raise DesignError(f"{file!r} does not end in {', '.join(SUFFIXES)}. {_elsewhere(Path(file))}")


def _elsewhere(place: Path) -> str:
    text = str(place / "*.csv" if place.is_dir() else place)
    return f"Files of text are read by polars.scan_csv({text!r}) or duckdb.read_csv({text!r}): give what these return."


def _near(place: Path) -> str:
    import difflib

    try:
        names = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
    except OSError:
        return ""
    near = difflib.get_close_matches(place.name, names, n=1)
    return f"; did you mean {str(place.parent / near[0])!r}?" if near else ""
