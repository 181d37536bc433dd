"""Posteriors in zarr stores with one thing changed or missing: refused, or what loads is what was saved."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm import StorageError
from bayeslmm.faces import Posterior

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def post() -> Posterior:
    return bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).sample(50, random_seed=1)


@pytest.fixture(scope="module")
def saved(post: Posterior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "post.zarr"
    post.save(path)
    return path


def is_refused(path: Path, post: Posterior, what: str) -> bool:
    try:
        again = bl.load(path)
    except StorageError as error:
        assert str(path) in str(error), what
        return True
    assert again.data.identical(post.data), what
    assert again.table().equals(post.table()), what
    return False


def pieces(store: Path) -> list[Path]:
    """Files with values."""
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")


def nodes(store: Path) -> list[Path]:
    return sorted(store.rglob("zarr.json"))


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    # Behind the header of the compressed piece.
    content[rng.randrange(len(content) // 3, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def half(path: Path, _: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


PIECES: dict[str, Callable[[Path, random.Random], Any]] = {
    "missing": lambda path, _: path.unlink(),
    "empty": lambda path, _: path.write_bytes(b""),
    "half": half,
    "a bit": flip,
    "a folder": lambda path, _: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("what", PIECES)
def test_pieces(what: str, saved: Path, post: Posterior, tmp_path: Path) -> None:
    """A partial copy, a full disk, a worn one."""
    rng = random.Random(what)
    names = [path.relative_to(saved) for path in pieces(saved)]
    assert len(names) > 20
    important = [name for name in names if name.parts[0] == "posterior" and "c" in name.parts]
    for name in {*rng.sample(names, 4), *rng.sample(important, 4)}:
        path = Path(shutil.copytree(saved, tmp_path / "post.zarr"))
        PIECES[what](path / name, rng)
        assert is_refused(path, post, f"{name} {what}")
        shutil.rmtree(path)


def described(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def with_path(path: Path) -> None:
        node = json.loads((path / "zarr.json").read_text())
        change(node)
        (path / "zarr.json").write_text(json.dumps(node))

    return with_path


def set_values(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def with_path(path: Path) -> None:
        import zarr

        array = zarr.open_array(path, mode="r+")
        array[...] = function(array[...])

    return with_path


SIGMA, SD, BETA = Path("posterior/sigma"), Path("posterior/sd_Subject"), Path("posterior/beta")
CHANGES: dict[str, tuple[Path, Callable[[Path], Any]]] = {
    "fewer draws": (SIGMA, described(lambda d: d.update(shape=[d["shape"][0], d["shape"][1] - 1]))),
    "more draws": (SIGMA, described(lambda d: d.update(shape=[d["shape"][0], d["shape"][1] + 1]))),
    "another type": (SIGMA, described(lambda d: d.update(data_type="int64", fill_value=0))),
    "another byte order": (SIGMA, described(lambda d: d["codecs"][0]["configuration"].update(endian="big"))),
    "other dimensions": (SIGMA, described(lambda d: d.update(dimension_names=["draw", "chain"]))),
    "no dimensions": (SIGMA, described(lambda d: d.pop("dimension_names"))),
    "no codecs": (SIGMA, described(lambda d: d.update(codecs=d["codecs"][:1]))),
    "no shape": (SIGMA, described(lambda d: d.pop("shape"))),
    "another format": (SIGMA, described(lambda d: d.update(zarr_format=2))),
    "a list": (SIGMA, lambda path: (path / "zarr.json").write_text("[]")),
    "no description": (SIGMA, lambda path: (path / "zarr.json").unlink()),
    "half a description": (SIGMA, lambda path: half(path / "zarr.json", random.Random(1))),
    "a deep description": (SIGMA, lambda path: (path / "zarr.json").write_text("[" * 10**5)),
    "NaN": (SIGMA, set_values(lambda a: a * np.nan)),
    "negative": (SIGMA, set_values(lambda a: -a)),
    "negative sds": (SD, set_values(lambda a: -a)),
    "one digit": (BETA, set_values(lambda a: np.nextafter(a, np.inf))),
    "other weights": (Path("constant_data/weights"), set_values(lambda a: 2 * a)),
    "other response": (Path("observed_data/Reaction"), set_values(lambda a: a[::-1])),
    "no variable": (SIGMA, shutil.rmtree),
    "no effects": (Path("posterior/b_Subject"), shutil.rmtree),
    "no labels": (Path("posterior/Subject"), shutil.rmtree),
    "no posterior": (Path("posterior"), shutil.rmtree),
    "no data": (Path("observed_data"), shutil.rmtree),
    "no statistics": (Path("sample_stats"), shutil.rmtree),
    "no design": (Path("bayeslmm"), shutil.rmtree),
    "no checksum": (Path("bayeslmm"), described(lambda d: d.update(attributes={}))),
    "an attribute": (Path("posterior"), described(lambda d: d["attributes"].update(priors="sigma ~ flat"))),
    "no attribute": (Path("posterior"), described(lambda d: d["attributes"].pop("priors"))),
    "another name": (SIGMA, lambda path: path.rename(path.with_name("sigma2"))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_changes(name: str, saved: Path, post: Posterior, tmp_path: Path) -> None:
    path = Path(shutil.copytree(saved, tmp_path / "post.zarr"))
    place, change = CHANGES[name]
    change(path / place)
    assert is_refused(path, post, name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NaN", "posterior/sigma is not what was saved"),
        ("no posterior", r"posterior, attribute .* and \d+ more are missing"),
        ("no attribute", "posterior, attribute priors is missing"),
        ("no effects", "posterior/b_Subject is missing"),
    ],
)
def test_messages_name_what_differs(name: str, words: str, saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(saved, tmp_path / "post.zarr"))
    place, change = CHANGES[name]
    change(path / place)
    with pytest.raises(StorageError, match=words):
        bl.load(path)


def test_groups_of_the_user_are_not_covered(saved: Path, post: Posterior, tmp_path: Path) -> None:
    import xarray as xr

    path = Path(shutil.copytree(saved, tmp_path / "post.zarr"))
    own = xr.Dataset({"note": ("x", [1.0, np.nan])}, attrs={"by": "me"})
    own.to_zarr(path, group="mine", mode="a", consolidated=False)
    again = bl.load(path)
    assert again.data["mine"].to_dataset().identical(own)
    assert again.data.drop_nodes("mine").identical(post.data)


def test_a_store_in_other_pieces_is_the_same(saved: Path, post: Posterior, tmp_path: Path) -> None:
    import xarray as xr

    with xr.open_datatree(saved, engine="zarr", consolidated=False) as tree:
        loaded = tree.load()
    for node in loaded.subtree:
        for variable in node.variables.values():
            variable.encoding = {}
    pieces_of = {"/posterior": {"b_Subject": {"chunks": (1, 10, 9, 1)}}}
    loaded.to_zarr(tmp_path / "other.zarr", encoding=pieces_of, consolidated=False)
    assert len(list((tmp_path / "other.zarr" / "posterior" / "b_Subject").rglob("*"))) > 40
    assert not is_refused(tmp_path / "other.zarr", post, "other pieces")
    loaded.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    assert not is_refused(tmp_path / "other.nc", post, "another format")
