"""Files made to harm: refused with a StorageError, before memory is taken, and without running anything in them."""

from __future__ import annotations

import copy
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm import StorageError
from bayeslmm.storage.encoding import CLASSES, Decoder, Encoder

type Header = dict[str, Any]
type Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit with a factor, weights, contrasts, a function of whole columns and an array of the user's."""
    rng = np.random.default_rng(1)
    data = pd.DataFrame(
        {"x": rng.normal(size=60), "g": np.arange(60) % 10, "f": np.array(list("abc"))[np.arange(60) % 3]}
    )
    data["y"] = data.x + rng.normal(size=10)[data.g] + rng.normal(size=60)
    model = bl.Model(
        "y ~ scale(x) + f + I(x * k) + (x | g)",
        data,
        weights=rng.uniform(1, 2, 60),
        contrasts={"f": "sum"},
        frequency=np.full(60, 2),
        extra_namespace={"k": 2.0},
    )
    path = tmp_path_factory.mktemp("hostile") / "fit"
    model.fit().save(path)
    return path


def parts(path: Path) -> tuple[Header, Arrays]:
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read("header.json"))
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(archive.open(name))
            for name in archive.namelist()
            if name.endswith(".npy")
        }
    # As of the first version, which had no checksums: nobody who means harm would leave wrong ones.
    del header["checksum"], header["arrays"]
    return header | {"format_version": 1}, arrays


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def written(path: Path, text: str | bytes, arrays: Arrays, more: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", text, zipfile.ZIP_DEFLATED)
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(array))
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path


def changed(saved: Path, path: Path, change: Callable[[Header, Arrays], None]) -> Path:
    header, arrays = copy.deepcopy(parts(saved))
    change(header, arrays)
    return written(path, json.dumps(header), arrays)


def fields(header: Header, *names: str | int) -> Any:
    """What stands under some names of dataclass fields, keys and positions."""
    node: Any = header["content"]
    for name in names:
        if isinstance(node, dict) and node.get("#") == "object":
            node = node["fields"][name]
        elif isinstance(node, dict) and node.get("#") == "dict":
            node = dict(node["items"])[name]
        elif isinstance(node, dict) and "items" in node:
            node = node["items"][name]
        else:
            node = node[name]
    return node


def key_of(header: Header, *names: str | int) -> str:
    return str(fields(header, *names)["key"])


def set_array(*names: str | int) -> Callable[[Any], Callable[[Header, Arrays], None]]:
    def with_value(value: Any) -> Callable[[Header, Arrays], None]:
        def change(header: Header, arrays: Arrays) -> None:
            key = key_of(header, *names)
            arrays[key] = value(arrays[key]) if callable(value) else value

        return change

    return with_value


def set_field(value: Any, *names: str | int) -> Callable[[Header, Arrays], None]:
    def change(header: Header, _: Arrays) -> None:
        node = fields(header, *names[:-1])
        (node["fields"] if node.get("#") == "object" else node)[names[-1]] = value

    return change


def first_number(array: np.ndarray, value: Any) -> np.ndarray:
    out = array.copy()
    out.flat[0] = value
    return out


CODES = ("design", "groupings", "g", "codes")
NAMESPACE = {"#": "object", "class": "bayeslmm.design.contrasts:Treatment", "fields": {}}
CHANGES: dict[str, Callable[[Header, Arrays], None]] = {
    "codes of 1e9": set_array(*CODES)(lambda a: first_number(a, 10**9)),
    "negative codes": set_array(*CODES)(lambda a: first_number(a, -1)),
    "codes of another type": set_array(*CODES)(lambda a: a.astype(float)),
    "codes of another length": set_array(*CODES)(lambda a: a[:-1]),
    "y without rows": set_array("design", "y")(np.empty(0)),
    "y of no dimension": set_array("design", "y")(np.array(1.0)),
    "y of text": set_array("design", "y")(lambda a: a.astype(str)),
    "X of another shape": set_array("design", "X")(lambda a: a[:, :-1]),
    "weights of another shape": set_array("design", "weights")(np.ones((60, 60))),
    "frequency of zero": set_array("design", "frequency")(lambda a: first_number(a, 0)),
    "copies of 1e9": set_array("design", "recipe", "frequency")(lambda a: first_number(a, 10**9)),
    "codes of a column": set_array("design", "recipe", "columns", "f", "values")(lambda a: first_number(a, 10**9)),
    "Z of another shape": set_array("design", "terms", 0, "Z")(lambda a: a[:1]),
    "a structure of 1e6": set_field(10**6, "design", "terms", 0, "structure", "size"),
    "a structure of 1e300": set_field(10**300, "design", "terms", 0, "structure", "size"),
    "a negative structure": set_field(-2, "design", "terms", 0, "structure", "size"),
    "a fractional structure": set_field(2.0, "design", "terms", 0, "structure", "size"),
    "no structure": set_field("us", "design", "terms", 0, "structure"),
    "criterion of text": set_field("a", "optimum", "criterion"),
    "criterion of none": set_field(None, "optimum", "criterion"),
    "formula of numbers": set_field(3, "design", "formula"),
    "an object of extra_namespace": set_field(
        {"#": "dict", "items": [["k", NAMESPACE]]}, "design", "recipe", "namespace"
    ),
    "contrasts of another kind": set_field({"#": "dict", "items": [["f", 3.5]]}, "design", "recipe", "contrasts"),
    "a class of another module": set_field({"#": "object", "class": "os:system", "fields": {}}, "design", "terms"),
    "a function of the package": set_field(
        {"#": "object", "class": "bayeslmm.storage.fits:load_parts", "fields": {"path": "x"}}, "design", "terms"
    ),
    "a module of the package": set_field(
        {"#": "enum", "class": "bayeslmm.numerics.newton:Ending", "name": "CONVERGED"}, "optimum", "status"
    ),
    "a class in a place of another": set_field(
        {"#": "object", "class": "bayeslmm.bayes.prior_families:Flat", "fields": {}}, "design", "terms", 0, "structure"
    ),
    "text of 2 GB": set_field({"#": "scalar", "dtype": "<U500000000", "value": "a"}, "optimum", "sigma"),
    "a type with parts": set_field({"#": "scalar", "dtype": "i4,O", "value": 1}, "optimum", "sigma"),
    "a time zone that is a file": set_field(
        {"#": "Timestamp", "value": 0, "unit": "ns", "tz": "dateutil//dev/zero"}, "design", "response"
    ),
    "a wide decimal": set_field({"#": "Decimal", "value": "1e"}, "design", "response"),
    "an array that is not there": set_field({"#": "array", "key": "array999"}, "design", "y"),
    "an unknown tag": set_field({"#": "eval", "text": "1"}, "design", "y"),
    "a shape of 1e13": set_field({"#": "objects", "shape": [10**13], "items": []}, "design", "index"),
    "factors of many points": set_array("optimum", "factors", 0)(np.zeros((10**5, 2, 2))),
    "factors of one number": set_array("optimum", "factors", 0)(np.zeros((1, 1, 1))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parts_that_do_not_fit_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    path = changed(saved, tmp_path / "changed", CHANGES[name])
    with pytest.raises(StorageError, match=r"damaged or incomplete|does not know|read it there"):
        bl.load(path)


def test_what_is_unchanged_loads(saved: Path, tmp_path: Path) -> None:
    path = changed(saved, tmp_path / "same", lambda header, arrays: None)
    again, fit = bl.load(path), bl.load(saved)
    assert again.criterion == fit.criterion
    assert again.design.recipe.namespace == {"k": 2.0}


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from leaves(node[key], (*path, key))
    yield path


def test_any_change_of_the_header_is_read_or_refused(saved: Path, tmp_path: Path) -> None:
    header, arrays = parts(saved)
    places = [path for path in leaves(header) if path]
    values = [
        "a",
        "",
        -1,
        10**9,
        1e308,
        None,
        True,
        [],
        {},
        [[]],
        {"#": "list", "items": [1]},
        {"#": "float", "value": "nan"},
    ]
    rng = random.Random(5)
    refused = 0
    for path in rng.sample(places, 150):
        other = copy.deepcopy(header)
        node = other
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = rng.choice(values)
        try:
            bl.load(written(tmp_path / "changed", json.dumps(other), arrays))
        except StorageError:
            refused += 1
    assert refused > 50


def test_any_array_of_another_shape_or_type_is_read_or_refused(saved: Path, tmp_path: Path) -> None:
    header, arrays = parts(saved)
    ways = [
        lambda a: a.ravel()[:1],
        lambda a: a[..., None],
        lambda a: np.zeros((0, 3)),
        lambda a: a.astype("S8"),
        np.float32,
    ]
    for key in arrays:
        for way in ways:
            try:
                bl.load(written(tmp_path / "changed", json.dumps(header), arrays | {key: np.asarray(way(arrays[key]))}))
            except StorageError:
                continue


def test_only_known_classes_are_looked_up() -> None:
    paths = [
        "os:system", "builtins:eval", "bayeslmm.cli:main", "bayeslmm.design.design:np",
        "bayeslmm.design.design:Hashable",
        "bayeslmm.design.lazy:Labels", "bayeslmm.design.evaluate:Evaluator", "bayeslmm.design.recipe:TrainingColumns",
        "bayeslmm.design.design:Design.__init__", "subprocess:Popen", ":", "bayeslmm.design.design:",
    ]  # fmt: skip
    for path in paths:
        for tag in ("object", "enum"):
            with pytest.raises((StorageError, ValueError), match="does not know"):
                Decoder({}).decode({"#": tag, "class": path, "name": "a", "fields": {}})
    for module, names in CLASSES.items():
        for name in names:
            assert getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name).__module__ == module


def test_objects_of_the_user_are_not_written() -> None:
    class Own:
        pass

    for value in (Own(), print, Own, np, lambda x: x):
        with pytest.raises(StorageError, match="cannot be saved"):
            Encoder().encode(value)


# sizes


def deflated(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def bombs(saved: Path, folder: Path) -> list[Path]:
    header, arrays = parts(saved)
    text, y = json.dumps(header), key_of(header, "design", "y")
    plain = npy(arrays[y])
    shape = plain.replace(b"(60,), }", b"(10000000000000,), }")
    rest = {key: array for key, array in arrays.items() if key != y}
    out = [
        written(folder / "header", text + " " * 100_000_000, arrays),
        written(folder / "objects", "[" + "[]," * 10_000_000 + "[]]", {}),
        written(folder / "shape", text, rest, {f"{y}.npy": shape}),
        written(folder / "depth", "[" * 10**6, arrays),
        written(folder / "digits", text.replace('"format_version": 1', '"format_version": ' + "9" * 10**6), arrays),
    ]
    with zipfile.ZipFile(written(folder / "compressed", text, rest), "a") as archive:
        archive.writestr(f"{y}.npy", npy(np.zeros(10_000_000)), zipfile.ZIP_DEFLATED)
    # the directory says 3 GB of an array that is stored in 600 bytes
    forged = written(folder / "forged", text, rest, {f"{y}.npy": plain}).read_bytes()
    place = forged.rindex(f"{y}.npy".encode()) - 46
    sizes = (3_000_000_000).to_bytes(4, "little") * 2
    (folder / "forged").write_bytes(forged[: place + 20] + sizes + forged[place + 28 :])
    return [*out, folder / "compressed", folder / "forged"]


RUN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4_000_000_000, 4_000_000_000))
import bayeslmm as bl
bl.load(sys.argv[1])  # what loading imports is not counted
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sys.argv[2:]:
    before = peak()
    try:
        bl.load(path)
        print(path, "read", peak() - before)
    except bl.StorageError as error:
        print(path, "refused", peak() - before)
"""


def test_bombs_are_refused_before_memory_is_taken(saved: Path, tmp_path: Path) -> None:
    paths = bombs(saved, tmp_path)
    # An array that nothing refers to is not read.
    header, arrays = parts(saved)
    with zipfile.ZipFile(written(tmp_path / "unused", json.dumps(header), arrays), "a") as archive:
        archive.writestr("more.npy", npy(np.zeros(10_000_000)), zipfile.ZIP_DEFLATED)
    ran = subprocess.run(
        [sys.executable, "-c", RUN, str(saved), *map(str, paths), str(tmp_path / "unused")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[1] for line in lines] == ["refused"] * len(paths) + ["read"], ran.stdout
    assert all(float(line[2]) < 60 for line in lines), ran.stdout


def test_a_long_header_beside_small_arrays_can_be_read_again(tmp_path: Path) -> None:
    data = pd.DataFrame(
        {"y": np.random.default_rng(1).normal(size=40), "g": [f"{k % 8}" + "x" * 100_000 for k in range(40)]}
    )
    model = bl.Model("y ~ 1 + (1 | g)", data)
    model.save(tmp_path / "long")
    data.index = pd.Index([f"{k}" + "y" * 100_000 for k in range(40)])
    bl.Model("y ~ 1 + (1 | g)", data).save(tmp_path / "longer")
    assert bl.load(tmp_path / "longer").design.index[3] == data.index[3]
    assert bl.load(tmp_path / "long").design.groupings["g"].levels == model.design.groupings["g"].levels


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(StorageError, match="device or a pipe"):
            bl.load(path)


def test_encrypted_and_odd_archives(saved: Path, tmp_path: Path) -> None:
    whole = bytearray(saved.read_bytes())
    directory = whole.rindex(b"PK\x01\x02")
    for place, value in (
        (directory + 8, 1),
        (directory + 10, 12),
        (directory + 10, 14),
        (directory + 42, 255),
        (directory + 6, 99),
    ):
        other = whole.copy()
        other[place] = value
        (tmp_path / "odd").write_bytes(other)
        try:
            bl.load(tmp_path / "odd")
        except StorageError:
            continue
