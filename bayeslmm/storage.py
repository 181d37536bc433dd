"""Models and fits in one file each: a zip of NumPy arrays and a JSON text, written and read without pickle.

``header.json`` names the format, its version, what is stored and the versions that wrote it, and holds everything
that is not an array of numbers; the other members are ``.npy`` files. ``numpy.load(path, allow_pickle=False)``
opens the file too. Stored are the design and, of a fit, the optimum with its status and trace. The
cross-products and the factorisation at the optimum follow from these without any search, and are made again.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.encoding import Decoder, Encoder
from bayeslmm.errors import StorageError
from bayeslmm.likelihood import CrossProducts, cross_products, profiled
from bayeslmm.reml import Optimum
from bayeslmm.reml.confirm import factor_at
from bayeslmm.types import AnyArray

FORMAT = "bayeslmm"
FORMAT_VERSION = 1
_HEADER = "header.json"
# Fields of an Optimum that follow from the others and the design.
_REMADE = {"cp", "factor"}
# The stored criterion is compared with that of the stored parameters on the stored data.
_AGREES = 1e-8

type Kind = Literal["model", "fit"]
type FilePath = str | os.PathLike[str]


def save_parts(path: FilePath, design: Design, optimum: Optimum | None = None, *, overwrite: bool = False) -> Path:
    """Write a design, or a design and its optimum.

    Parameters
    ----------
    path : str or path
        Taken as it is; no extension is added.
    design : Design
    optimum : Optimum, optional
    overwrite : bool
        Whether an existing file may be replaced. The old one stays until the new one is complete.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        The path exists, its folder does not, or a row label cannot be kept.
    """
    target = Path(path)
    check_target(target, overwrite)
    encoder = Encoder()
    content: dict[str, Any] = {"design": encoder.encode(storable(design), "design")}
    if optimum is not None:
        content["optimum"] = {
            f.name: encoder.encode(getattr(optimum, f.name), f"optimum.{f.name}")
            for f in fields(optimum)
            if f.name not in _REMADE
        }
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": "model" if optimum is None else "fit",
        "formula": design.formula,
        "written_by": {name: version(name) for name in ("bayeslmm", "numpy", "pandas")},
        "content": content,
    }
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _write(part, header, encoder.arrays)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return target


def storable(design: Design) -> Design:
    """The design without functions of the user's own, which only predictions for new rows would need."""
    if design.recipe is None:
        return design
    lost = [name for name, value in design.recipe.namespace.items() if not _can_be_kept(value)]
    return replace(design, recipe=design.recipe.without(lost))


def _can_be_kept(value: Any) -> bool:
    try:
        Encoder().encode(value)
    except StorageError:
        return False
    return True


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a path that cannot be written to.

    Raises
    ------
    StorageError
    """
    if target.is_dir():
        raise StorageError(f"{target} is a folder. Give the name of a file in it.")
    if target.exists() and not overwrite:
        raise StorageError(f"{target} exists. Pass overwrite=True to replace it, or choose another name.")
    if not target.parent.is_dir():
        raise StorageError(f"The folder {target.parent} does not exist. Create it first.")


def pack(kind: str, formula: str, content: Mapping[str, Any]) -> bytes:
    """The bytes of a file of another kind, for storage inside other formats; read by `unpack`.

    Raises
    ------
    StorageError
        Some value cannot be kept.
    """
    encoder = Encoder()
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "formula": formula,
        "written_by": {name: version(name) for name in ("bayeslmm", "numpy", "pandas")},
        "content": {name: encoder.encode(value, name) for name, value in content.items()},
    }
    buffer = io.BytesIO()
    _write(buffer, header, encoder.arrays)
    return buffer.getvalue()


def unpack(packed: bytes, source: Path) -> dict[str, Any]:
    """The content that `pack` was given; `source` is the file named in errors.

    Raises
    ------
    StorageError
        Damaged, or of a version that is not known.
    """
    header, arrays = _read_archive(source, io.BytesIO(packed), packed[:4])
    try:
        decoder = Decoder(arrays)
        return {name: decoder.decode(value) for name, value in header["content"].items()}
    except StorageError as error:
        raise StorageError(f"{source}: {error} It was written by {_writer(header)}; read it there.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(_damaged(source, f"{type(error).__name__}: {error}")) from error


def _write(path: Path | io.BytesIO, header: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        text = json.dumps(header, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(_HEADER), text, zipfile.ZIP_DEFLATED)
        for key, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load_parts(path: FilePath) -> tuple[Design, CrossProducts | None, Optimum | None]:
    """Read what `save_parts` wrote; the last two are None for a model.

    Raises
    ------
    FileNotFoundError
    StorageError
        Another kind of file, a damaged or truncated one, or one of a version that is not known.
    """
    source = Path(path)
    header, arrays = _read(source)
    try:
        decoder = Decoder(arrays)
        content = header["content"]
        design: Design = decoder.decode(content["design"])
        if header["kind"] == "model":
            return design, None, None
        stored = {name: decoder.decode(value) for name, value in content["optimum"].items()}
        cp = cross_products(design)
        optimum = _optimum(cp, stored)
    except StorageError as error:
        raise StorageError(f"{source}: {error} It was written by {_writer(header)}; read it there.") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(_damaged(source, f"{type(error).__name__}: {error}")) from error
    _check_criterion(source, cp, optimum)
    return design, cp, optimum


def _optimum(cp: CrossProducts, stored: Mapping[str, Any]) -> Optimum:
    factor = factor_at(cp, stored["factors"], stored["reml"], stored["criterion"])
    remade: dict[str, Any] = {"cp": cp, "factor": factor}
    return Optimum(**stored, **{f.name: remade[f.name] for f in fields(Optimum) if f.name in remade})


def _check_criterion(source: Path, cp: CrossProducts, optimum: Optimum) -> None:
    if not np.isfinite(optimum.criterion) or not optimum.status.ok:
        return
    value = float(profiled(cp, optimum.factor, optimum.reml)[0])
    if not abs(value - optimum.criterion) <= _AGREES * (1.0 + abs(value)):
        raise StorageError(
            f"{source}: the criterion in the file is {optimum.criterion!r}, but the parameters and the data in the "
            f"file give {value!r}. The file was changed, or another version computed it. Fit again."
        )


def check_source(source: Path) -> None:
    """Say what was looked for if there is nothing to read.

    Raises
    ------
    FileNotFoundError
    """
    if not source.exists():
        raise FileNotFoundError(
            f"There is no file {str(source.absolute())!r}. Give the path of a file that save() has written, ending and "
            "all: a model, a fit or a posterior."
        )


def _read(source: Path) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    if source.is_dir():
        raise StorageError(f"{source} is a folder, not a file.")
    check_source(source)
    with open(source, "rb") as file:
        start = file.read(4)
    header, arrays = _read_archive(source, source, start)
    if header.get("kind") not in ("model", "fit"):
        raise StorageError(f"{source} holds a {header.get('kind')!r}; known are 'model' and 'fit'.")
    return header, arrays


def _read_archive(source: Path, file: Path | io.BytesIO, start: bytes) -> tuple[dict[str, Any], dict[str, AnyArray]]:
    try:
        with zipfile.ZipFile(file) as archive:
            header = _read_header(source, archive)
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return header, {name.removesuffix(".npy"): _read_array(archive, name) for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, StorageError):
            raise
        if start != b"PK\x03\x04":
            raise StorageError(f"{source} is not a file that bayeslmm wrote (it starts with {start!r}).") from error
        raise StorageError(_damaged(source, str(error))) from error


def _read_array(archive: zipfile.ZipFile, name: str) -> AnyArray:
    with archive.open(name) as member:
        array: AnyArray = np.lib.format.read_array(member, allow_pickle=False)
        # The checksum is compared at the end of the member.
        member.read()
    return array


def _read_header(source: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    names = archive.namelist()
    header = json.loads(archive.read(_HEADER)) if _HEADER in names else None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        shown = ", ".join(names[:5])
        raise StorageError(f"{source} is a zip file that bayeslmm did not write (it holds {shown or 'nothing'}).")
    found = header.get("format_version")
    if found != FORMAT_VERSION:
        raise StorageError(
            f"{source} has format version {found!r}; this version of bayeslmm reads {FORMAT_VERSION}. It was written "
            f"by {_writer(header)}: use that version, or save it again there."
        )
    return header


def _writer(header: Mapping[str, Any]) -> str:
    written_by = header.get("written_by")
    return f"bayeslmm {written_by.get('bayeslmm', '?')}" if isinstance(written_by, dict) else "an unknown version"


def _damaged(source: Path, detail: str) -> str:
    return f"{source} is damaged or incomplete ({detail}). Copy it again, or fit and save again."
