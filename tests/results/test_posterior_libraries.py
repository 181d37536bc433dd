"""Libraries that posteriors in files need: what is missing is named, and nothing else."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

import bayeslmm as bl
from bayeslmm.errors import StorageError
from bayeslmm.faces import Posterior
from bayeslmm.storage.posteriors import _LIBRARIES, load_posterior


@pytest.fixture(scope="module")
def post() -> Posterior:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(50, random_seed=1)


@pytest.mark.parametrize(
    ("ending", "missing"), [("nc", ["h5py"]), ("nc", ["h5netcdf"]), ("nc", ["h5netcdf", "h5py"]), ("zarr", ["zarr"])]
)
def test_what_is_missing_is_named(
    ending: str, missing: list[str], post: Posterior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / f"kept.{ending}"
    post.save(kept)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    text = rf"{' and '.join(missing)} (is|are) not installed\. Run pip install {' '.join(missing)}, or"
    with pytest.raises(StorageError, match=text):
        post.save(tmp_path / f"other.{ending}")
    # The file is not called damaged when it is the library that lacks.
    with pytest.raises(StorageError, match=text):
        load_posterior(kept, bl.Posterior)
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]


def test_the_extra_names_what_is_needed() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = {requirement.split(">")[0] for requirement in project["optional-dependencies"]["storage"]}
    assert {name for names in _LIBRARIES.values() for name in names} <= named
