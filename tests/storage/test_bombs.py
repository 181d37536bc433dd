"""Small files that ask for much: memory, time, or other files. All are refused, at once and within a few megabytes."""

from __future__ import annotations

import bz2
import copy
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr")

type Node = dict[str, Any]
MB = 1_000_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.normal(size=60), "g": np.arange(60) % 10})
    data["y"] = data.x + rng.normal(size=10)[data.g] + rng.normal(size=60)
    data.index = pd.Index([f"row {k}" for k in range(60)])
    bl.Model("y ~ scale(x) + (x | g)", data, frequency=np.full(60, 2)).fit().save(folder / "fit")
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(100, random_seed=1)
    post.save(folder / "post.nc")
    post.save(folder / "post.zarr")
    return folder


# models and fits


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def described(text: str) -> bytes:
    """An array that says something of itself and has 480 bytes."""
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(480)


def of_shape(shape: str, dtype: str = "<f8") -> bytes:
    return described(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}")


class Nested(int):
    """So many tuples in one another, as text: json cannot write them."""

    def text(self) -> str:
        return '{"#": "tuple", "items": [' * self + "1" + "]}" * self


ARRAYS: dict[str, bytes] = {
    "shape of 1e13": of_shape("(10000000000000,)"),
    "shape of 1e6 by 1e7": of_shape("(1000000, 10000000)"),
    "shape of 2^63": of_shape("(9223372036854775808,)"),
    "shape of 1e300": of_shape(f"({10**30},)"),
    "negative shape": of_shape("(-60,)"),
    "no rows of 1e18 columns": of_shape("(0, 1000000000000000000)"),
    "twenty axes of 10": of_shape("(" + "9," * 20 + ")"),
    "texts of 2 GB": of_shape("(1,)", "<U500000000"),
    "bytes of 2 GB": of_shape("(1,)", "|S2000000000"),
    "objects": of_shape("(60,)", "|O"),
    "records": described("{'descr': [('a', '<f8', (1000000000,))], 'fortran_order': False, 'shape': (60,), }"),
    "a tower of brackets": described("(" * 110),
    "a description of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(600),
    "a description of 64 kB": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 65535,
    "a version of 9": b"\x93NUMPY\x09\x00" + bytes(600),
}
VALUES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "1e6 effects": (("design", "terms", 0, "structure", "size"), 10**6),
    "1e300 effects": (("design", "terms", 0, "structure", "size"), 10**300),
    "objects of a shape of 1e13": (("design", "index"), {"#": "objects", "shape": [10**13], "items": []}),
    "objects of many axes": (("design", "index"), {"#": "objects", "shape": [10**6] * 60, "items": []}),
    "a text of 2 GB": (("optimum", "sigma"), {"#": "scalar", "dtype": "<U500000000", "value": "a"}),
    "a type of 2 GB": (("optimum", "sigma"), {"#": "scalar", "dtype": "S2000000000", "value": "a"}),
    "an exponent of 1e9": (("optimum", "sigma"), {"#": "Decimal", "value": "1e999999999"}),
    "a period of 1e30": (("design", "response"), {"#": "Period", "value": 10**30, "freq": "D"}),
    "a frequency of 1e18": (("design", "response"), {"#": "Period", "value": 1, "freq": "1000000000000000000D"}),
    "a time of 1e30": (("design", "response"), {"#": "Timestamp", "value": 10**30, "unit": "ns", "tz": None}),
    "a unit of 1e30": (("design", "response"), {"#": "Timedelta", "value": 1, "unit": "9" * 30 + "s"}),
    "a zone that is a device": (
        ("design", "response"),
        {"#": "Timestamp", "value": 0, "unit": "ns", "tz": "dateutil//dev/zero"},
    ),
    "900 tuples in one another": (("design", "aliased"), Nested(900)),
    "5000 tuples in one another": (("design", "aliased"), Nested(5000)),
    "codes that are 1e9": (("design", "groupings", "g", "codes"), np.full(60, 10**9)),
    "frequencies that are 1e15": (("design", "recipe", "frequency"), np.full(60, 10**15)),
    "codes of a column that are 1e9": (("design", "recipe", "columns", "x", "values"), np.full(60, 10**9)),
    "a trace of numbers": (("optimum", "trace"), {"#": "tuple", "items": [0] * 10**5}),
    "factors of 1e5 points": (("optimum", "factors", 0), np.zeros((10**5, 2, 2))),
    "factors of no size": (("optimum", "factors", 0), np.zeros((1, 0, 0))),
    "theta of 1e5": (("optimum", "theta"), np.zeros(10**5)),
}


def place(header: Node, names: tuple[Any, ...]) -> tuple[Any, Any]:
    """The node that holds something, and its key there."""
    node = header["content"]
    for name in names[:-1]:
        node = inside(node)[name]
    return inside(node), names[-1]


def inside(node: Any) -> Any:
    if node.get("#") == "object":
        return node["fields"]
    if node.get("#") == "dict":
        return dict(node["items"])
    return node.get("items", node)


def members(path: Path) -> tuple[Node, dict[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(parts.pop("header.json"))
    # Who means harm leaves out the checksums.
    del header["checksum"], header["arrays"]
    return header | {"format_version": 1}, parts


def archive(path: Path, header: str | bytes, parts: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("header.json", header, zipfile.ZIP_DEFLATED)
        for name, content in parts.items():
            out.writestr(name, content, kind)
    return path


def fits(saved: Path, folder: Path) -> list[Path]:
    header, parts = members(saved / "fit")
    text = json.dumps(header)
    key = header["content"]["design"]["fields"]["y"]["key"] + ".npy"
    out = [archive(folder / name, text, parts | {key: content}) for name, content in ARRAYS.items()]
    for name, (names, value) in VALUES.items():
        other, files = copy.deepcopy(header), dict(parts)
        node, last = place(other, names)
        if isinstance(value, np.ndarray):
            files[node[last]["key"] + ".npy"] = npy(value)
        else:
            node[last] = "nested" if isinstance(value, Nested) else value
        whole = json.dumps(other)
        whole = whole.replace('"nested"', value.text()) if isinstance(value, Nested) else whole
        out.append(archive(folder / name, whole, files))
    zeros = npy(np.zeros(10 * MB))
    for name, kind in (("deflated", zipfile.ZIP_DEFLATED), ("bz2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        path = archive(folder / f"an array {name}", text, {n: c for n, c in parts.items() if n != key})
        with zipfile.ZipFile(path, "a") as more:
            more.writestr(key, zeros, kind)
        out.append(path)
    return [*out, *headers(folder, text, parts), *directories(folder, text, parts, key)]


def headers(folder: Path, text: str, parts: dict[str, bytes]) -> list[Path]:
    contents = {
        "header of spaces": text + " " * 100 * MB,
        "header of one text": '"' + "a" * 100 * MB + '"',
        "header of lists": "[" + "[]," * 10 * MB + "[]]",
        "header of brackets": "[" * MB,
        "header of braces": '{"a":' * 300_000,
        "header of digits": text.replace('"format_version": 1', '"format_version": ' + "9" * MB),
        "header of nothing": "",
        "header of bytes": b"\xff" * 1000,
    }
    return [archive(folder / name, content, parts) for name, content in contents.items()]


def directories(folder: Path, text: str, parts: dict[str, bytes], key: str) -> list[Path]:
    good = archive(folder / "good", text, parts).read_bytes()
    entry = good.rindex(key.encode()) - 46
    end = good.rindex(b"PK\x05\x06")
    start = int.from_bytes(good[end + 16 : end + 20], "little")

    def bytes_at(where: int, value: bytes) -> bytes:
        return good[:where] + value + good[where + len(value) :]

    big = b"\xf0\xff\xff\xff"
    one = good[start:end][: good[start:end].index(b"PK\x01\x02", 4)]
    many = 100_000
    contents = {
        "array of 4 GB in the directory": bytes_at(entry + 20, big * 2),
        "inflates to 4 GB": bytes_at(entry + 24, big),
        "a directory of 4 GB": bytes_at(end + 12, big),
        "a directory elsewhere": bytes_at(end + 16, big),
        "100,000 members": good[:start] + one * many + good[end : end + 8] + b"\xff\xff\xff\xff"
        + struct.pack("<II", len(one) * many, start) + b"\x00\x00",
        "all members are one": good[:start] + one * 300 + good[end : end + 8] + struct.pack("<HH", 300, 300)
        + struct.pack("<II", len(one) * 300, start) + b"\x00\x00",
        "encrypted": bytes_at(entry + 8, b"\x01"),
        "another method": bytes_at(entry + 10, b"\x63"),
        "a method that does not fit": bytes_at(entry + 10, b"\x0c"),
        "bz2 of nothing": good[:start] + bz2.compress(bytes(10 * MB)),
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


# NetCDF


def strings(file: Any) -> None:
    file["posterior"].create_dataset("s", (5000,), dtype=h5py.string_dtype(), fillvalue="a" * 50_000)


def deep(file: Any) -> None:
    node = file
    for _ in range(3000):
        node = node.create_group("a")


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(10**6,), dtype="f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", shape=(10**6,))
    file["posterior"].create_virtual_dataset("v", layout)


def many_groups(file: Any) -> None:
    for k in range(6000):
        file.create_group(f"group{k}")


NETCDF: dict[str, Callable[[Any], Any]] = {
    "1e12 numbers": lambda f: f["posterior"].create_dataset("a", (10**12,), dtype="f8"),
    "1e12 numbers in pieces": lambda f: f["posterior"].create_dataset("a", (10**12,), dtype="f8", chunks=(1000,)),
    "a piece of 4e8": lambda f: f["posterior"].create_dataset("a", (3,), "f8", chunks=(4 * 10**8,), maxshape=(None,)),
    "1e9 ones": lambda f: f["posterior"].create_dataset("a", (10**9,), dtype="f8", fillvalue=1.0),
    "compressed zeros": lambda f: f["posterior"].create_dataset("a", data=np.zeros(MB), compression="gzip"),
    "texts of 1e9": lambda f: f["posterior"].create_dataset("a", (1,), dtype="S1000000000"),
    "texts that are filled in": strings,
    "elsewhere": lambda f: f["posterior"].create_dataset("a", (100,), "u1", external=[("/etc/passwd", 0, 100)]),
    "virtual": virtual,
    "a soft link": lambda f: f.__setitem__("posterior/a", h5py.SoftLink("/posterior/sigma")),
    "a link elsewhere": lambda f: f.__setitem__("posterior/a", h5py.ExternalLink("/etc/passwd", "/a")),
    "in itself": lambda f: f.__setitem__("posterior/a", f["posterior"]),
    "3000 groups in one another": deep,
    "6000 groups": many_groups,
    "records": lambda f: f["posterior"].create_dataset("a", (2,), dtype=[("x", "f8", (10**6,))]),
    "opaque": lambda f: f["posterior"].create_dataset("a", (2,), dtype="V1000000"),
}


def netcdf(saved: Path, folder: Path) -> list[Path]:
    out = []
    for name, change in NETCDF.items():
        path = Path(shutil.copy(saved / "post.nc", folder / f"{name}.nc"))
        with h5py.File(path, "r+") as file:
            change(file)
        out.append(path)
    return out


# zarr


def node_of(name: str, change: Callable[[Node], Any]) -> Callable[[Path], None]:
    def with_store(store: Path) -> None:
        path = store / name / "zarr.json"
        node = json.loads(path.read_text())
        change(node)
        path.write_text(json.dumps(node))

    return with_store


def sigma(**values: Any) -> Callable[[Path], None]:
    return node_of("posterior/sigma", lambda node: node.update(values))


def grid(*shape: int) -> Node:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


def piece(store: Path) -> Path:
    return next(path for path in (store / "posterior" / "sigma" / "c").rglob("*") if path.is_file())


def with_holes(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


def linked(target: str, folder: bool) -> Callable[[Path], None]:
    def with_store(store: Path) -> None:
        path = store / "posterior" / "sigma" if folder else piece(store)
        (shutil.rmtree if folder else os.unlink)(path)
        path.symlink_to(target)

    return with_store


def many_nodes(store: Path) -> None:
    for k in range(6000):
        (store / f"group{k}").mkdir()
        (store / f"group{k}" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


def texts(count: int) -> Callable[[Path], None]:
    """Texts of which a piece says that there are so many."""

    def with_store(store: Path) -> None:
        node = json.loads((store / "posterior" / "sigma" / "zarr.json").read_text())
        codecs = [{"name": "vlen-utf8", "configuration": {}}]
        node.update(data_type="string", shape=[25], chunk_grid=grid(25), codecs=codecs, fill_value="")
        node.update(dimension_names=["draw"], attributes={})
        folder = store / "posterior" / "sigma"
        shutil.rmtree(folder)
        (folder / "c").mkdir(parents=True)
        (folder / "zarr.json").write_text(json.dumps(node))
        (folder / "c" / "0").write_bytes(struct.pack("<I", count) + bytes(60))

    return with_store


ZARR: dict[str, Callable[[Path], Any]] = {
    "1e13 draws": sigma(shape=[4, 10**13]),
    "a piece of 1e13": sigma(chunk_grid=grid(4, 10**13)),
    "a million pieces": sigma(shape=[4, 10**6], chunk_grid=grid(1, 1)),
    "pieces of no size": sigma(chunk_grid=grid(0, 0)),
    "negative draws": sigma(shape=[-4, 25]),
    "1e300 draws": sigma(shape=[4, 10**300]),
    "half draws": sigma(shape=[4, 12.5]),
    "an unknown codec": sigma(codecs=[{"name": "gzip", "configuration": {"level": 1}}]),
    "pieces in pieces": sigma(codecs=[{"name": "sharding_indexed", "configuration": {}}]),
    "pickle": sigma(codecs=[{"name": "numcodecs.pickle", "configuration": {}}]),
    "letters of 1e9": sigma(data_type={"name": "fixed_length_utf32", "configuration": {"length_bytes": 4 * 10**9}}),
    "texts that are filled in": sigma(data_type="string", shape=[4, 400], fill_value="a" * 10**6),
    "a piece of 4e9 texts": texts(0xFFFFFFFF),
    "a piece of 2e9 texts": texts(0x7FFFFFFF),
    "a deep description": lambda store: (store / "posterior" / "zarr.json").write_text('{"a":' * 10**5),
    "a description of 3 GB": lambda store: with_holes(store / "posterior" / "zarr.json", 3_000 * MB),
    "a piece of 30 GB": lambda store: with_holes(piece(store), 30_000 * MB),
    "inflates to 1e12": lambda store: piece(store).write_bytes(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 10**12)),
    "6000 groups": many_nodes,
    "a piece is a link": linked("/etc/passwd", False),
    "an array is a link": linked("/etc", True),
    "a link to itself": lambda store: (store / "posterior" / "more").symlink_to(store),
    "a pipe": lambda store: os.mkfifo(store / "posterior" / "pipe"),
    "format 2": lambda store: (store / "posterior" / ".zarray").write_text("{}"),
}


def stores(saved: Path, folder: Path) -> list[Path]:
    out = []
    for name, change in ZARR.items():
        path = Path(shutil.copytree(saved / "post.zarr", folder / f"{name}.zarr"))
        change(path)
        out.append(path)
    return out


# In a process of its own, with too little memory for any of them; what loading imports is loaded first.
RUN = """
import json, resource, sys, time, warnings
import bayeslmm as bl
warnings.simplefilter("ignore")
paths = json.loads(sys.argv[1])
for path in paths[:3]:
    bl.load(path)
resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in paths[3:]:
    before, began, outcome = peak(), time.process_time(), "read"
    try:
        bl.load(path)
    except bl.StorageError as error:
        outcome = "refused" if path in str(error) else f"without its name: {error}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    print(json.dumps([path, outcome, peak() - before, time.process_time() - began]), flush=True)
"""


@pytest.mark.parametrize(("make", "count"), [(fits, 55), (netcdf, 15), (stores, 24)])
def test_bombs_are_refused_at_once(
    make: Callable[[Path, Path], list[Path]], count: int, saved: Path, tmp_path: Path
) -> None:
    paths = make(saved, tmp_path)
    assert len(paths) >= count
    good = [saved / name for name in ("fit", "post.nc", "post.zarr")]
    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([str(path) for path in (*good, *paths)])],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(lines) == len(paths)
    assert [line for line in lines if line[1] != "refused"] == []
    assert [line for line in lines if line[2] > 60] == []
    assert [line for line in lines if line[3] > 1.5] == []
