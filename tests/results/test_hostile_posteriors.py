"""Posteriors on disk that were made to harm: nothing in them is called, no size is believed before it is looked at."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm import StorageError
from bayeslmm.storage.stored_tree import _inflated

h5py = pytest.importorskip("h5py")
pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posteriors")
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(200, random_seed=1)
    post.save(folder / "post.nc")
    post.save(folder / "post.zarr")
    return folder


def store(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved / "post.zarr", tmp_path / "post.zarr"))


def described(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "zarr.json"
    node = json.loads(path.read_text())
    change(node)
    path.write_text(json.dumps(node))


class Touch:
    """What pickle makes a call of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_store_that_unpickles_is_not_read(saved: Path, tmp_path: Path) -> None:
    path, marker = store(saved, tmp_path), tmp_path / "ran"
    # format 2, in which a filter of the name pickle unpickles every piece
    shutil.rmtree(path / "posterior")
    (path / "posterior" / "sigma").mkdir(parents=True)
    (path / "posterior" / ".zgroup").write_text('{"zarr_format": 2}')
    array = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C",
        "filters": [{"id": "pickle", "protocol": 5}], "compressor": None, "dimension_separator": ".",
    }  # fmt: skip
    (path / "posterior" / "sigma" / ".zarray").write_text(json.dumps(array))
    (path / "posterior" / "sigma" / "0").write_bytes(pickle.dumps(Touch(marker)))
    with pytest.raises(StorageError, match="format 2"):
        bl.load(path)
    assert not marker.exists()


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pickle": lambda d: d["codecs"].append({"name": "numcodecs.pickle", "configuration": {}}),
    "another codec": lambda d: d["codecs"].append({"name": "gzip", "configuration": {"level": 5}}),
    "a transformer": lambda d: d.update(storage_transformers=[{"name": "own"}]),
    "objects": lambda d: d.update(data_type={"name": "numpy.object", "configuration": {}}),
    "shape of 1e13": lambda d: d.update(shape=[10**7, 10**6]),
    "pieces of 1e13": lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[10**7, 10**6]),
    "a negative shape": lambda d: d.update(shape=[-4, 50]),
    "no shape": lambda d: d.pop("shape"),
    "no type": lambda d: d.update(data_type=None),
    "other draws": lambda d: d.update(shape=[3, 50]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_descriptions_that_do_not_fit_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    path = store(saved, tmp_path)
    described(path / "posterior" / "sigma", CHANGES[name])
    with pytest.raises(StorageError):
        bl.load(path)


def test_pieces_say_what_they_become(saved: Path, tmp_path: Path) -> None:
    path = store(saved, tmp_path)
    piece = path / "posterior" / "sigma" / "c" / "0" / "0"
    assert _inflated(piece) == 4 * 50 * 8
    # a frame of eight bytes for its size, which is 64 GB
    piece.write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + (2**36).to_bytes(8, "little") + b"\x01\x00\x00")
    with pytest.raises(StorageError, match="claim"):
        bl.load(path)
    piece.write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0, 0x58]) + b"\x01\x00\x00")
    with pytest.raises(StorageError, match="does not say how large"):
        bl.load(path)


def test_links_in_a_store_are_not_followed(saved: Path, tmp_path: Path) -> None:
    path = store(saved, tmp_path)
    piece = path / "posterior" / "sigma" / "c" / "0" / "0"
    piece.unlink()
    piece.symlink_to("/dev/zero")
    with pytest.raises(StorageError, match="a link"):
        bl.load(path)


def compressed(file: Any) -> None:
    values = file["posterior/sigma"][()]
    del file["posterior/sigma"]
    file["posterior"].create_dataset("sigma", data=values, compression="gzip")


def external(file: Any) -> None:
    del file["posterior/sigma"]
    file["posterior"].create_dataset("sigma", (4, 50), dtype="f8", external=[("/dev/zero", 0, 1600)])


def linked(file: Any) -> None:
    file["posterior/more"] = h5py.ExternalLink("/dev/zero", "/x")


def looped(file: Any) -> None:
    file["posterior/again"] = file["posterior"]


def huge(file: Any) -> None:
    file.create_group("more").create_dataset("x", (10**7, 10**6), dtype="f8", chunks=(10, 10))


def opaque(file: Any) -> None:
    file["posterior"].create_dataset("x", data=np.zeros(3, dtype="V8"))


def parts_of_a_type(file: Any) -> None:
    file["posterior"].create_dataset("x", data=np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]))


@pytest.mark.parametrize("change", [compressed, external, linked, looped, huge, opaque, parts_of_a_type])
def test_netcdf_files_that_do_not_fit_are_refused(change: Callable[[Any], None], saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved / "post.nc", tmp_path / "post.nc"))
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(StorageError, match="cannot be read as a posterior"):
        bl.load(path)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_what_is_unchanged_loads(ending: str, saved: Path) -> None:
    again = bl.load(saved / f"post.{ending}")
    assert again.n_draws == 200


RUN = """
import resource, sys
import bayeslmm as bl
bl.load(sys.argv[1]); bl.load(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for path in sys.argv[3:]:
    before = peak()
    try:
        bl.load(path)
        print("read", peak() - before)
    except bl.StorageError:
        print("refused", peak() - before)
"""


def test_memory_of_bombs(saved: Path, tmp_path: Path) -> None:
    path = store(saved, tmp_path)
    described(path / "posterior" / "sigma", CHANGES["pieces of 1e13"])
    missing = Path(shutil.copytree(saved / "post.zarr", tmp_path / "missing.zarr"))
    described(missing / "log_likelihood" / "Yield", lambda d: d.update(shape=[4, 10**6, 300]))
    big = Path(shutil.copy(saved / "post.nc", tmp_path / "big.nc"))
    with h5py.File(big, "a") as file:
        huge(file)
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, (saved / "post.nc", saved / "post.zarr", path, missing, big))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[0] for line in lines] == ["refused"] * 3, ran.stdout
    assert all(float(line[1]) < 60 for line in lines), ran.stdout
