"""Posteriors in NetCDF files with one thing changed or missing: refused, or what loads is what was saved."""

from __future__ import annotations

import os
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
from bayeslmm.faces import Posterior

# The slow lane looks at more changes.
MANY = int(os.environ.get("BAYESLMM_FUZZ", "1"))

h5py = pytest.importorskip("h5py")
pytest.importorskip("h5netcdf")


@pytest.fixture(scope="module")
def post() -> Posterior:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    return model.sample(50, log_likelihood=False, random_seed=1)


@pytest.fixture(scope="module")
def saved(post: Posterior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("netcdf") / "post.nc"
    post.save(path)
    return path


def changed(saved: Path, tmp_path: Path, change: Callable[[Any], Any]) -> Path:
    path = Path(shutil.copy(saved, tmp_path / "post.nc"))
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def variables(path: Path) -> list[str]:
    names: list[str] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def one_value(name: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        data = file[name]
        values = data[()].copy()
        place = values.size // 2
        if values.dtype.kind in "fiu":
            raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
            raw[place * values.dtype.itemsize] ^= 1
        else:
            values.flat[place] = b"another"
        data[...] = values

    return change


def is_refused(path: Path, post: Posterior) -> bool:
    try:
        again = bl.load(path)
    except StorageError as error:
        assert str(path) in str(error)
        return True
    assert again.data.identical(post.data)
    return False


def test_one_bit_of_every_variable(saved: Path, post: Posterior, tmp_path: Path) -> None:
    names = variables(saved)
    assert len(names) > 25
    read = [name for name in names if "netCDF dimension" not in label_of(saved, name)]
    step = 1 if MANY > 1 else 3
    for name in read[::step]:
        assert is_refused(changed(saved, tmp_path, one_value(name)), post), name


def label_of(path: Path, name: str) -> str:
    with h5py.File(path, "r") as file:
        return str(file[name].attrs.get("NAME", b"")) if file[name].attrs.get("CLASS") == b"DIMENSION_SCALE" else ""


def replaced(name: str, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        values, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        file[name] = function(values)
        for key, value in attributes.items():
            if key not in ("CLASS", "DIMENSION_LIST", "REFERENCE_LIST", "NAME"):
                file[name].attrs[key] = value

    return change


def removed(name: str) -> Callable[[Any], None]:
    return lambda file: file.__delitem__(name)


def attribute(group: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


CHANGES: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda file: file["posterior/sigma"].__setitem__(..., np.nan),
    "one NaN": lambda file: file["posterior/sd_Subject"].__setitem__((0, 3, 0), np.nan),
    "negative sigma": lambda file: file["posterior/sigma"].__setitem__((0, 0), -1.0),
    "infinite": lambda file: file["posterior/beta"].__setitem__((0, 0, 0), np.inf),
    "a correlation of 2": lambda file: file["posterior/corr_Subject"].__setitem__((0, 0, 0), 2.0),
    "other weights": lambda file: file["constant_data/weights"].__setitem__(5, 3.0),
    "another level": lambda file: file["posterior/Subject"].__setitem__(5, "99"),
    "fewer draws": replaced("posterior/sigma", lambda a: a[:, :-1]),
    "one axis": replaced("posterior/sigma", np.ravel),
    "single precision": replaced("posterior/sigma", lambda a: a.astype(np.float32)),
    "whole numbers": replaced("posterior/sigma", lambda a: a.astype(int)),
    "no sigma": removed("posterior/sigma"),
    "no labels": removed("posterior/Subject"),
    "no effects": removed("posterior/b_Subject"),
    "no codes": removed("constant_data/codes_Subject"),
    "no posterior": removed("posterior"),
    "no observed data": removed("observed_data"),
    "no constant data": removed("constant_data"),
    "no statistics": removed("sample_stats"),
    "no design": removed("bayeslmm"),
    "no bytes": removed("bayeslmm/packed"),
    "other bytes": lambda file: file["bayeslmm/packed"].__setitem__(700, 255 - file["bayeslmm/packed"][700]),
    "floating bytes": replaced("bayeslmm/packed", lambda a: a.astype(float)),
    "no checksum": lambda file: file["bayeslmm"].attrs.__delitem__("checksum"),
    "another checksum": attribute("bayeslmm", "checksum", "0" * 64),
    "another formula": attribute("posterior", "formula", "y ~ 1"),
    "a number as formula": attribute("posterior", "formula", 3.0),
    "no formula": lambda file: file["posterior"].attrs.__delitem__("formula"),
    "sigma is a group": lambda file: (file.__delitem__("posterior/sigma"), file.create_group("posterior/sigma")),
    "exchanged": lambda file: (
        file.move("posterior/sd_Subject", "posterior/x"),
        file.move("posterior/beta", "posterior/sd_Subject"),
        file.move("posterior/x", "posterior/beta"),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_changes(name: str, saved: Path, post: Posterior, tmp_path: Path) -> None:
    assert is_refused(changed(saved, tmp_path, CHANGES[name]), post)


@pytest.fixture(scope="module")
def old(saved: Path, tmp_path_factory: pytest.TempPathFactory, post: Posterior) -> Path:
    """A file of version 1, which had no checksums."""
    from bayeslmm.storage.fits import pack
    from bayeslmm.storage.posteriors import _FIELDS

    packed = pack("posterior", post.formula, {name: getattr(post, name) for name in _FIELDS})
    path = tmp_path_factory.mktemp("old") / "old.nc"
    shutil.copy(saved, path)
    with h5py.File(path, "r+") as file:
        replaced("bayeslmm/packed", lambda _: np.frombuffer(packed, dtype=np.uint8))(file)
        del file["bayeslmm"].attrs["checksum"]
    assert bl.load(path).data.identical(post.data)
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NaN", "some draw of sigma is not positive"),
        ("one NaN", "some draw of sd_Subject is negative or no number"),
        ("negative sigma", "some draw of sigma is not positive"),
        ("infinite", "some draw of beta is not finite"),
        ("a correlation of 2", "corr_Subject is no correlation"),
        ("other weights", "weights of constant_data in the file"),
        ("another level", "labels of Subject"),
        ("one axis", "draws of sigma|cannot be read"),
        ("no sigma", "no draws of sigma"),
        ("no statistics", "group sample_stats is missing"),
        ("no posterior", "group posterior is missing"),
    ],
)
def test_files_without_checksums_are_held_against_the_design(name: str, words: str, old: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=words):
        bl.load(changed(old, tmp_path, CHANGES[name]))


FLIPS = """
import random, sys, warnings
from pathlib import Path
import bayeslmm as bl
warnings.simplefilter("ignore")
whole, out, rng = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(7)
good = bl.load(sys.argv[1])
for k in range(int(sys.argv[3])):
    content = bytearray(whole)
    if k % 4 == 3:
        content = content[: rng.randrange(len(content))]
    else:
        # descriptions are in front
        place = rng.randrange(len(content) if k % 2 else 20_000)
        content[place] = rng.choice([content[place] ^ (1 << rng.randrange(8)), 255, 0])
    out.write_bytes(content)
    try:
        again = bl.load(out)
    except bl.StorageError:
        print("refused")
        continue
    print("same" if again.data.identical(good.data) else f"different {k}")
"""


def test_bytes_of_the_file(saved: Path, tmp_path: Path) -> None:
    """In a process of its own: HDF5 is C."""
    count = 8 * MANY
    ran = subprocess.run(
        [sys.executable, "-c", FLIPS, str(saved), str(tmp_path / "flipped.nc"), str(count)],
        capture_output=True,
        text=True,
        timeout=300 * MANY,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == count
    assert set(lines) <= {"refused", "same"}, ran.stdout
    assert lines.count("refused") >= count // 2
