"""Zip files of NumPy arrays and one JSON text: what a file says of its sizes is checked before memory is taken.

A file can claim any size: a header that inflates a thousandfold, an array of a shape that its bytes do not fill, a
terabyte that nothing refers to. So the directory is read first. Arrays are stored as they are, so that no array is
larger than the file; the header may inflate to `HEADER_FACTOR` times the file and `HEADER_FREE` bytes; and a member is
read when something refers to it, after its own description of itself.

The header holds the checksums of the arrays and, under `SEAL`, that of itself, so that one changed digit is noticed
also where the zip file was written again around it.
"""

from __future__ import annotations

import errno
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bayeslmm.errors import StorageError
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.types import AnyArray

HEADER = "header.json"
# Keys of the header: checksums of the arrays, and that of the header without itself.
SUMS, SEAL = "arrays", "checksum"
# Row labels and names of levels are in the header; beside every label stand some numbers in the arrays.
HEADER_FACTOR = 4
HEADER_FREE = 2_000_000
# Types of arrays that are numbers, times or text; none that Python objects or code are made from.
KINDS = "biufcMmUS"
_NPY = ".npy"
# Bytes of the description of an array; numpy writes 128 for all that has a simple type.
_DESCRIPTION = 4096
# Bytes of the directory, some 20,000 members; a member of no bytes takes memory all the same.
_DIRECTORY = 2_000_000
# What the system says of a file that need not be damaged.
_REFUSED = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.ENFILE, errno.EMFILE)
# Of what other libraries say, at most so much is passed on.
_SHOWN = 500


def write_archive(file: Path | io.BytesIO, header: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> None:
    """Write a header and arrays so that `Archive` reads them.

    Parameters
    ----------
    file : path or buffer
    header : mapping
        What JSON can hold; `SUMS` and `SEAL` are added.
    arrays : mapping of str to array
    """
    sums = {key: of_array(array) for key, array in arrays.items()}
    content = {**header, SUMS: sums}
    text = json.dumps({**content, SEAL: of_json(content)}, allow_nan=False).encode()
    # A long text beside small arrays is written as it is: a text that inflates that far would not be read.
    small = len(text) <= HEADER_FREE + HEADER_FACTOR * sum(array.nbytes for array in arrays.values())
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), text, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
        for key, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{key}{_NPY}"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class Archive(Mapping[str, AnyArray]):
    """The arrays of an open zip file by their keys, each read when it is asked for.

    Parameters
    ----------
    archive : zipfile.ZipFile
    size : int
        Bytes of the file.

    Raises
    ------
    ValueError
        The directory promises more than the file can hold.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._size = size
        self._read: dict[str, AnyArray] = {}
        stored = sum(member.compress_size for member in archive.infolist())
        if stored > size:
            raise ValueError(f"its directory speaks of {stored} bytes in a file of {size}")

    def header(self) -> Any:
        """The JSON text as a value; None if there is none.

        Raises
        ------
        ValueError
            It is larger than a header of such a file can be.
        """
        if HEADER not in self._archive.namelist():
            return None
        size, most = self._archive.getinfo(HEADER).file_size, HEADER_FREE + HEADER_FACTOR * self._size
        if size > most:
            raise ValueError(
                f"its header has {size} bytes, where a file of {self._size} bytes can have a header of {most} at most; "
                "it was not read"
            )
        return json.loads(self._archive.read(HEADER), parse_constant=_no_number)

    def check_sums(self, header: Mapping[str, Any]) -> None:
        """Compare the header and the arrays read so far with their checksums.

        Raises
        ------
        ValueError
            It names what differs.
        """
        content = {key: value for key, value in header.items() if key != SEAL}
        if header.get(SEAL) != of_json(content):
            raise ValueError(f"the checksum of {HEADER} is not the one that was written with it")
        differing = [key for key, array in self._read.items() if header[SUMS].get(key) != of_array(array)]
        if differing:
            raise ValueError(f"the checksum of {', '.join(differing[:5])} is not the one that was written with it")

    def names(self) -> list[str]:
        """All members."""
        return self._archive.namelist()

    def __getitem__(self, key: str) -> AnyArray:
        if key not in self._read:
            self._read[key] = self._array(f"{key}{_NPY}")
        return self._read[key]

    def _array(self, name: str) -> AnyArray:
        info = self._archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"the array {name} is compressed, which save() does not do; it was not read")
        with self._archive.open(info) as member:
            _check_description(member, info)
        with self._archive.open(info) as member:
            array: AnyArray = np.lib.format.read_array(member, allow_pickle=False, max_header_size=_DESCRIPTION)
            # The checksum is compared at the end of the member.
            member.read()
        return array

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(_NPY) for name in self._archive.namelist() if name.endswith(_NPY))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _check_description(member: Any, info: zipfile.ZipInfo) -> None:
    """Refuse an array whose shape and type are not those of its bytes."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in read:
        raise ValueError(f"the array {info.filename} has version {version} of NumPy's format")
    shape, _, dtype = read[version](member, max_header_size=_DESCRIPTION)
    if dtype.kind not in KINDS or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"the array {info.filename} has the type {dtype}, which save() does not write")
    # In Python's integers, which do not overflow.
    wanted = member.tell() + dtype.itemsize * _product(shape)
    if wanted != info.file_size:
        raise ValueError(
            f"the array {info.filename} has shape {shape} of {dtype}, {wanted} bytes in all, but {info.file_size} "
            "bytes in the file; it was not read"
        )


def _product(shape: tuple[int, ...]) -> int:
    if any(length < 0 for length in shape):
        raise ValueError(f"an array has the shape {shape}")
    total = 1
    for length in shape:
        total *= length
    return total


def _no_number(word: str) -> Any:
    raise ValueError(f"its header holds {word}, which is no JSON")


class _Guarded(io.BufferedReader):
    """A file of which no more is read at once than a directory may have, until it is open."""

    guarded = True

    def read(self, size: int | None = -1, /) -> bytes:
        # The end of a file is read to its end.
        if self.guarded and size is not None and size > _DIRECTORY:
            raise ValueError(f"its directory has {size} bytes, where {_DIRECTORY} are the most; it was not read")
        return super().read(size)


@contextmanager
def open_archive(file: Path | io.BytesIO) -> Iterator[Archive]:
    """A zip file to read from.

    Parameters
    ----------
    file : path or buffer
    """
    raw: Any = io.BytesIO(file.getbuffer()) if isinstance(file, io.BytesIO) else io.FileIO(file)
    with _Guarded(raw) as source:
        size = source.seek(0, io.SEEK_END)
        with zipfile.ZipFile(source) as archive:
            source.guarded = False
            yield Archive(archive, size)


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """Whatever goes wrong while a file is read is a StorageError that says what was found.

    Parameters
    ----------
    source : Path
        Named in the message.
    """
    try:
        yield
    except (StorageError, ImportError):
        raise
    except MemoryError as error:
        detail = f" ({error})" if str(error) else ""
        raise StorageError(
            f"{source} needs more memory than there is{detail}. Read it on a larger machine; if it is small, it is "
            "damaged."
        ) from error
    except Exception as error:
        # Zip files, NumPy, JSON, zarr and HDF5 answer damage with some twenty kinds of exceptions of their own.
        raise unreadable(source, error) from error


def unreadable(source: Path, error: Exception) -> StorageError:
    """What to say of a file that the system does not give, or that is damaged."""
    if isinstance(error, OSError) and error.errno in _REFUSED:
        return StorageError(
            f"{source} cannot be read: {error.strerror}. Look at its rights and at the disk, or copy it to another "
            "folder."
        )
    detail = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
    return StorageError(f"{source} is damaged or incomplete ({detail[:_SHOWN]}). Copy it again, or fit and save again.")
