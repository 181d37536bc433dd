"""What a NetCDF file or zarr store says of itself, checked before anything in it is read.

Both describe arrays of any size in a few bytes: pieces that are not there are filled in, and pieces that are inflate.
zarr also looks up functions by the names in a store, one of which unpickles, that is, runs code. So the description is
read first: types are those of numbers and text, codecs are the two that `save` writes, and the sizes that the arrays
claim are in proportion to the bytes on disk.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

# Bytes that may be claimed: draws hardly compress, columns of zeros and ones do; NetCDF files are not compressed.
ZARR_FACTOR, NETCDF_FACTOR = 64, 4
FREE = 16_000_000
# Bytes of the description of an array or group, and how many of these there may be: each takes time.
_DESCRIPTION, _NODES = 16_000_000, 5_000
# Pieces that are not there are looked for one by one.
_PIECES, _PIECES_PER_FILE = 1_000, 16
# Numbers are read as doubles where a scale is attached to them.
_SMALLEST = 8
_ZARR_TYPES = {
    "bool": 1,
    "string": 16,
    **{f"{kind}{bits}": bits // 8 for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": bits // 8 for bits in (16, 32, 64)},
}
_CODECS = {"bytes", "vlen-utf8", "zstd", "crc32c"}
_ZSTD = b"\x28\xb5\x2f\xfd"


def check_zarr(store: Path) -> None:
    """Refuse a zarr store with other codecs or types than `save` writes, or with sizes out of proportion.

    Parameters
    ----------
    store : Path
        A folder.

    Raises
    ------
    ValueError
        What was found.
    """
    files = list(_regular_files(store))
    # What tells the formats apart stands in the names of files.
    odd = sorted(path.name for path in files if path.name in (".zarray", ".zgroup", ".zmetadata"))
    if odd:
        raise ValueError(f"it is a store of zarr's format 2 ({odd[0]}), in which names of functions can stand")
    size = sum(_on_disk(path) for path in files)
    most, claimed, pieces = FREE + ZARR_FACTOR * size, 0, 0
    nodes = sum(path.name == "zarr.json" for path in files)
    if nodes > _NODES:
        raise ValueError(f"it has {nodes} arrays and groups (limit {_NODES})")
    for path in files:
        if path.name == "zarr.json":
            bytes_of_array, count = _claimed(path)
            claimed, pieces = claimed + bytes_of_array, pieces + count
            if pieces > _PIECES + _PIECES_PER_FILE * len(files):
                raise ValueError(f"its arrays are said to be in {pieces} pieces and more, in {len(files)} files")
        elif path.stat().st_size:
            # It is read whole before it inflates.
            claimed += max(_inflated(path), path.stat().st_size)
        if claimed > most:
            raise ValueError(f"its arrays claim {claimed} bytes and more, with {size} on disk (limit {most})")
    _check_counts(path for path in files if path.name == "zarr.json")


def _check_counts(descriptions: Iterable[Path]) -> None:
    """Refuse pieces of texts that say to hold more of them than a piece of their array has."""
    for path in descriptions:
        node = json.loads(path.read_bytes())
        if node.get("data_type") != "string":
            continue
        most = math.prod(node["chunk_grid"]["configuration"]["chunk_shape"])
        for piece in (one for one in path.parent.rglob("*") if one.is_file() and one != path):
            content = piece.read_bytes()
            if content[:4] == _ZSTD:
                content = import_module("numcodecs.zstd").decompress(content)
            count = int.from_bytes(content[:4], "little")
            if count > most:
                raise ValueError(f"the piece {piece.name} of {path.parent.name} claims {count} texts, not {most}")


def _regular_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        kind = path.lstat().st_mode
        if stat.S_ISREG(kind):
            yield path
        elif not stat.S_ISDIR(kind):
            raise ValueError(f"{path.name} in it is a link, a pipe or a device")


def _on_disk(path: Path) -> int:
    """Bytes of a file that are there; it may have holes."""
    found = path.stat()
    # Small files may be kept elsewhere than in blocks; Windows does not count them.
    return (
        min(found.st_size, 512 * getattr(found, "st_blocks", found.st_size)) if found.st_size > FREE else found.st_size
    )


def _claimed(path: Path) -> tuple[int, int]:
    """Bytes and pieces of the array that a piece of metadata describes."""
    if path.stat().st_size > _DESCRIPTION:
        raise ValueError(
            f"the description of {path.parent.name} has {path.stat().st_size} bytes (limit {_DESCRIPTION})"
        )
    node = json.loads(path.read_bytes())
    if node.get("node_type") == "group":
        return 0, 0
    width = _width(node["data_type"])
    if width is None:
        raise ValueError(
            f"the array {path.parent.name} has the type {node['data_type']!r}, which save() does not write"
        )
    codecs = {codec["name"] for codec in node["codecs"]}
    if not codecs <= _CODECS or node.get("storage_transformers"):
        raise ValueError(
            f"the array {path.parent.name} names {', '.join(sorted(codecs - _CODECS)) or 'a transformer'}, "
            "which save() does not write; it was not called"
        )
    grid = node["chunk_grid"]["configuration"]["chunk_shape"]
    # Pieces are read whole; the last one of a row may stick out.
    counts = [-(-n // c) if c > 0 else 0 for n, c in zip(node["shape"], grid, strict=True)]
    # Text that is not there is filled in, too.
    width = max(width, _SMALLEST, len(str(node.get("fill_value", ""))) if node["data_type"] == "string" else 0)
    return width * math.prod(n * c for n, c in zip(counts, grid, strict=True)), math.prod(counts)


def _width(kind: Any) -> int | None:
    """Bytes of one value of a type; None for a type that is not known."""
    if isinstance(kind, str):
        return _ZARR_TYPES.get(kind)
    # Texts of one length, times.
    settings = kind.get("configuration", {})
    if kind.get("name") == "fixed_length_utf32":
        return int(settings["length_bytes"])
    return 8 if kind.get("name") in ("numpy.datetime64", "numpy.timedelta64") else None


def _inflated(path: Path) -> int:
    """Bytes that a compressed piece says it becomes."""
    with open(path, "rb") as file:
        start = file.read(18)
    if start[:4] != _ZSTD:
        return path.stat().st_size
    flags = start[4]
    single = (flags >> 5) & 1
    width = (single, 2, 4, 8)[flags >> 6]
    place = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    if not width:
        raise ValueError(f"the piece {path.name} of {path.parent.name} does not say how large it is")
    return int.from_bytes(start[place : place + width], "little") + (256 if width == 2 else 0)


def check_netcdf(source: Path) -> None:
    """Refuse a NetCDF file with links, filters or types that `save` does not write, or with sizes out of proportion.

    Parameters
    ----------
    source : Path

    Raises
    ------
    ImportError
        h5py is missing.
    ValueError
        What was found.
    """
    h5py = _h5py()
    size = source.stat().st_size
    budget = _Budget(size)
    with h5py.File(source, "r") as file:
        # Hard links only: others may lead to other files.
        _walk(file, budget)


def _h5py() -> Any:
    # Needed for NetCDF files only; it has no types.
    return import_module("h5py")


class _Budget:
    """Bytes claimed so far, and how many may be."""

    def __init__(self, size: int) -> None:
        self.size, self.claimed, self.most = size, 0, FREE + NETCDF_FACTOR * size
        self.groups: set[int] = set()
        self.nodes = 0

    def add(self, name: str, claimed: int) -> None:
        self.claimed += claimed
        if self.claimed > self.most:
            raise ValueError(
                f"its arrays up to {name} claim {self.claimed} bytes, with {self.size} on disk (limit {self.most})"
            )


def _walk(group: Any, budget: _Budget) -> None:
    h5py = _h5py()
    place = h5py.h5o.get_info(group.id).addr
    if place in budget.groups:
        raise ValueError(f"the group {group.name} in it stands in two places, perhaps in itself")
    budget.groups.add(place)
    budget.nodes += len(group)
    if budget.nodes > _NODES:
        raise ValueError(f"it has more than {_NODES} arrays and groups")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} in it is a link")
        node = group[name]
        if isinstance(node, h5py.Dataset):
            _check_dataset(node, budget)
        elif isinstance(node, h5py.Group):
            _walk(node, budget)


def _check_dataset(data: Any, budget: _Budget) -> None:
    h5py = _h5py()
    name, text = data.name, h5py.check_string_dtype(data.dtype)
    if data.is_virtual or data.external:
        raise ValueError(f"the array {name} stands in other files")
    if data.compression or data.shuffle or data.fletcher32 or data.scaleoffset or data._filters:
        raise ValueError(f"the array {name} is compressed, which save() does not do")
    if text is None and data.dtype.kind not in "biufSU":
        raise ValueError(f"the array {name} has the type {data.dtype}, which save() does not write")
    if _is_dimension(data):
        return
    grid = data.chunks or (1,) * data.ndim
    lengths = [-(-n // c) * c for n, c in zip(data.shape, grid, strict=True)]
    budget.add(name, math.prod(lengths) * max(data.dtype.itemsize, _SMALLEST))
    if text is not None and text.length is None:
        _check_texts(data, budget)


def _is_dimension(data: Any) -> bool:
    """Whether a variable only stands for the length of a dimension, and is never read."""
    label = data.attrs.get("NAME", b"")
    text = label.decode() if isinstance(label, bytes) else str(label)
    return text.startswith("This is a netCDF dimension but not a netCDF variable")


def _check_texts(data: Any, budget: _Budget) -> None:
    """Count texts of their own lengths, of which many may be one and the same."""
    flat_rows = 1 if data.ndim == 0 else data.shape[0]
    if data.ndim > 1:
        raise ValueError(f"the texts {data.name} are no list")
    step = max(1, budget.most // max(budget.size, 1))
    for start in range(0, flat_rows, step):
        values = [data[()]] if data.ndim == 0 else data[start : start + step]
        budget.add(data.name, sum(len(value) for value in values))
