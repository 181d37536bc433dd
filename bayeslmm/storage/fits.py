"""Models and fits in one file each: a zip of NumPy arrays and a JSON text, written and read without pickle.

``header.json`` names the format, its version, what is stored and the versions that wrote it, and holds everything
that is not an array of numbers; the other members are ``.npy`` files. ``numpy.load(path, allow_pickle=False)``
opens the file too. Checksums of everything are in it (see `archive`). Stored are the design and, of a fit, the optimum
with its status and trace. The cross-products and the factorisation at the optimum follow from these without any
search, and are made again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from bayeslmm.arguments import kind_of
from bayeslmm.design.design import Design
from bayeslmm.design.stored import check_stored
from bayeslmm.errors import StorageError
from bayeslmm.files.writing import FilePath, destination, replacing
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.likelihood.columns import Response
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.rowless import check_sums_of, summed_without_rows, sums_without_rows
from bayeslmm.likelihood.whitened import whitened_products
from bayeslmm.mode import PosteriorMode
from bayeslmm.mode.stored import check_priors, restore_mode
from bayeslmm.reml import Optimum
from bayeslmm.reml.residual_optimum import known_residuals
from bayeslmm.reml.stored import check_parts, restore
from bayeslmm.storage.archive import Archive, open_archive, reading, unreadable, write_archive
from bayeslmm.storage.conforming import check_fields
from bayeslmm.storage.encoding import Decoder, Encoder, VersionError

FORMAT = "bayeslmm"
FORMAT_VERSION = 2
# Version 1 had no checksums; what follows from the rest is compared all the same.
READ_VERSIONS = (1, 2)
# Fields of an Optimum that follow from the others and the design.
_REMADE = {"cp", "factor", "original"}

type Kind = Literal["model", "fit"]


def save_parts(
    path: FilePath,
    design: Design,
    optimum: Optimum | None = None,
    *,
    overwrite: bool = False,
    sums: SummedDesign | None = None,
) -> Path:
    """Write a design, or a design and its optimum.

    Parameters
    ----------
    path : str or path
        Taken as it is; no extension is added.
    design : Design
    optimum : Optimum, optional
    overwrite : bool
        Whether an existing file may be replaced. The old one stays until the new one is complete.
    sums : SummedDesign, optional
        Of a design whose rows are not in memory.

    Returns
    -------
    Path

    Raises
    ------
    StorageError
        The path exists, nothing can be written there, or a row label cannot be kept.
    """
    target = destination(path, overwrite=overwrite)
    encoder = Encoder()
    content: dict[str, Any] = {"design": encoder.encode(storable(design), "design")}
    cp = sums if optimum is None else optimum.cp
    if design.facts is not None and cp is not None:
        # Without the rows they cannot be made again.
        content["sums"] = encoder.encode(sums_without_rows(cp), "sums")
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
    with replacing(target) as part:
        write_archive(part, header, encoder.arrays)
    return target.path


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
    write_archive(buffer, header, encoder.arrays)
    return buffer.getvalue()


def unpack(packed: bytes, source: Path) -> dict[str, Any]:
    """The content that `pack` was given; `source` is the file named in errors.

    Raises
    ------
    StorageError
        Damaged, or of a version that is not known.
    """
    with _opened(source, io.BytesIO(packed), packed[:4]) as (header, decoder):
        content = {name: decoder.decode(value) for name, value in header["content"].items()}
        if isinstance(design := content.get("design"), Design):
            check_stored(design)
        return content


def load_parts(path: FilePath) -> tuple[Design, SummedDesign | None, Optimum | None]:
    """Read what `save_parts` wrote; no optimum for a model, and no cross-products where they can be made.

    Raises
    ------
    FileNotFoundError
    StorageError
        Another kind of file, a damaged or truncated one, or one of a version that is not known.
    """
    source = Path(path)
    check_source(source)
    with reading(source), open(source, "rb") as file:
        start = file.read(4)
    with _opened(source, source, start) as (header, decoder):
        if header.get("kind") not in ("model", "fit"):
            raise StorageError(f"{source} holds a {header.get('kind')!r}; known are 'model' and 'fit'.")
        content = header["content"]
        design = decoder.decode(content["design"])
        if not isinstance(design, Design):
            raise ValueError(f"in place of a design it holds {kind_of(design)}")
        check_stored(design)
        if header["kind"] == "model":
            return design, None if design.facts is None else summed(design, decoder.decode(content["sums"])), None
        stored = {name: decoder.decode(value) for name, value in content["optimum"].items()}
        # Only the mode of a posterior has priors.
        under_priors = "priors" in stored
        check_fields(PosteriorMode if under_priors else Optimum, stored)
        check_parts(design, stored)
        if under_priors:
            check_priors(design, stored)
        if design.residual.names or not design.terms:
            cp = whitened_products(design, stored["lam"])
            return design, cp, known_residuals(restore(cp, stored), design)
        cp = cross_products(design) if design.facts is None else summed(design, decoder.decode(content["sums"]))
        optimum = restore_mode(cp, stored) if under_priors else restore(cp, stored)
    return design, cp, optimum


def summed(design: Design, stored: Any) -> SummedDesign:
    """Cross-products of rows that the file does not have."""
    whole = isinstance(stored, tuple) and len(stored) == 2
    if not whole or not isinstance(stored[0], Levels | Hierarchy) or not isinstance(stored[1], Response):
        raise ValueError(f"in place of sums it holds {kind_of(stored)}")
    sums, response = stored
    check_sums_of(design, sums, response)
    return summed_without_rows(design, sums, response)


def check_source(source: Path) -> None:
    """Say what was looked for if there is nothing to read.

    Raises
    ------
    FileNotFoundError
    """
    try:
        there = source.exists()
    except (OSError, ValueError) as error:
        raise unreadable(source, error) from error
    if source.is_dir() and source.suffix != ".zarr":
        raise StorageError(f"{source} is a folder, not a file.")
    if there and not source.is_file() and not source.is_dir():
        raise StorageError(
            f"{source} is a device or a pipe, not a file. Give the path of a file that save() has written."
        )
    if not there:
        raise FileNotFoundError(
            f"There is no file {str(source.absolute())!r}. Give the path of a file that save() has written, ending and "
            "all: a model, a fit or a posterior."
        )


@contextmanager
def _opened(source: Path, file: Path | io.BytesIO, start: bytes) -> Iterator[tuple[dict[str, Any], Decoder]]:
    """The header of an archive and what decodes its values; anything that goes wrong is a StorageError."""
    with reading(source):
        if start != b"PK\x03\x04":
            raise StorageError(f"{source} is not a file that bayeslmm wrote (it starts with {start!r}).")
        with open_archive(file) as arrays:
            header = _check_header(source, arrays.header(), arrays)
            try:
                yield header, Decoder(arrays)
            except VersionError as error:
                raise StorageError(f"{source}: {error} It was written by {_writer(header)}; read it there.") from error
            if header["format_version"] > 1:
                arrays.check_sums(header)


def _check_header(source: Path, header: Any, arrays: Archive) -> dict[str, Any]:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        shown = ", ".join(arrays.names()[:5])
        raise StorageError(f"{source} is a zip file that bayeslmm did not write (it holds {shown or 'nothing'}).")
    found = header.get("format_version")
    if isinstance(found, bool) or found not in READ_VERSIONS:
        raise StorageError(
            f"{source} has format version {found!r}; this version of bayeslmm reads "
            f"{' and '.join(map(str, READ_VERSIONS))}. It was written by {_writer(header)}: use that version, or save "
            "it again there."
        )
    return header


def _writer(header: Mapping[str, Any]) -> str:
    written_by = header.get("written_by")
    return f"bayeslmm {written_by.get('bayeslmm', '?')}" if isinstance(written_by, dict) else "an unknown version"
