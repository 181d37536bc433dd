"""Posteriors saved and read again: the same numbers, bit by bit, and nothing else is overwritten or believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayeslmm as bl
from bayeslmm.bayes.collapsed import Diagnostics
from bayeslmm.bayes.priors import Decov
from bayeslmm.faces import Posterior
from bayeslmm.storage.posteriors import load_posterior


@pytest.fixture(scope="module")
def slopes() -> Posterior:
    frame = bl.load_dataset("sleepstudy").assign(w=lambda d: 1 + np.arange(len(d)) % 3)
    frame.index = pd.Index([f"row {k}" for k in range(len(frame))])
    model = bl.Model("Reaction ~ Days + (Days | Subject)", frame, weights="w")
    return model.sample(200, priors={"sd_Subject": Decov(), "beta": "weak"}, random_seed=3)


@pytest.fixture(scope="module")
def nested() -> Posterior:
    return bl.Model("strength ~ 1 + (1 | batch / cask)", bl.load_dataset("Pastes")).sample(200, random_seed=3)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
@pytest.mark.parametrize("which", ["slopes", "nested"])
def test_round_trip(which: str, ending: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    post = request.getfixturevalue(which)
    post.save(tmp_path / f"post.{ending}")
    again = load_posterior(tmp_path / f"post.{ending}", bl.Posterior)
    assert again.data.identical(post.data)
    for name, values in post.data["posterior"].data_vars.items():
        assert values.to_numpy().tobytes() == again.data["posterior"][name].to_numpy().tobytes()
    assert again.priors.sds == post.priors.sds
    assert again.priors.joints == post.priors.joints
    assert again.method == post.method
    assert again.diagnostics == post.diagnostics
    pd.testing.assert_frame_equal(again.table(), post.table(), check_exact=True)
    pd.testing.assert_series_equal(again.fitted(), post.fitted(), check_exact=True)
    np.testing.assert_array_equal(again.design.X, post.design.X)
    pd.testing.assert_frame_equal(again.psense(), post.psense(), check_exact=True)
    # beside the posterior there is nothing left of the work
    assert [p.name for p in tmp_path.iterdir()] == [f"post.{ending}"]


def test_exact_moments_are_kept(tmp_path: Path) -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(100, random_seed=1)
    assert post.exact is not None
    post.save(tmp_path / "a.nc")
    again = load_posterior(tmp_path / "a.nc", bl.Posterior).exact
    assert again is not None
    np.testing.assert_array_equal(again.sd_mean[0], post.exact.sd_mean[0])
    assert again.sigma_sd == post.exact.sigma_sd


def test_certificates_of_chains(nested: Posterior, tmp_path: Path) -> None:
    numbers = {"largest R-hat": 1.01, "smallest ESS": 400.0, "divergences": float("nan")}
    chains = replace(nested, method="nuts", diagnostics=numbers)
    chains.save(tmp_path / "a.nc")
    again = load_posterior(tmp_path / "a.nc", bl.Posterior)
    assert again.method == "nuts"
    assert list(again.diagnostics) == list(numbers)
    assert again.diagnostics["smallest ESS"] == 400.0
    assert np.isnan(again.diagnostics["divergences"])
    assert isinstance(nested.diagnostics, Diagnostics)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_an_existing_file_is_replaced_only_if_asked(ending: str, nested: Posterior, tmp_path: Path) -> None:
    path = tmp_path / f"post.{ending}"
    nested.save(path)
    with pytest.raises(bl.StorageError, match="overwrite=True"):
        nested.save(path)
    nested.save(path, overwrite=True)
    assert load_posterior(path, bl.Posterior).data.identical(nested.data)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_of_the_user_is_never_replaced(nested: Posterior, tmp_path: Path) -> None:
    path = tmp_path / "mine.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("years")
    with pytest.raises(bl.StorageError, match="no zarr store"):
        nested.save(path, overwrite=True)
    assert (path / "thesis.txt").read_text() == "years"
    (tmp_path / "folder.nc").mkdir()
    with pytest.raises(bl.StorageError, match="is a folder"):
        nested.save(tmp_path / "folder.nc", overwrite=True)


def test_paths_that_cannot_be(nested: Posterior, tmp_path: Path) -> None:
    with pytest.raises(bl.StorageError, match=r"\.nc or \.zarr"):
        nested.save(tmp_path / "post.pkl")
    with pytest.raises(bl.StorageError, match="does not exist"):
        nested.save(tmp_path / "no" / "post.nc")
    with pytest.raises(FileNotFoundError, match=r"There is no file '/.*nothing\.nc'\. Give the path"):
        load_posterior(tmp_path / "nothing.nc", bl.Posterior)


def test_files_of_others(nested: Posterior, tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(bl.StorageError, match=r"not written by post\.save"):
        load_posterior(tmp_path / "other.nc", bl.Posterior)
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(bl.StorageError, match="cannot be read"):
        load_posterior(tmp_path / "text.nc", bl.Posterior)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(bl.StorageError, match="cannot be read"):
        load_posterior(tmp_path / "empty.zarr", bl.Posterior)


def _with_packed(source: Path, target: Path, change: Any) -> None:
    with xr.open_datatree(source, engine="h5netcdf") as tree:
        loaded = tree.load()
    packed = loaded["bayeslmm"]["packed"].to_numpy().copy()
    loaded["bayeslmm"] = xr.DataTree(xr.Dataset({"packed": ("byte", change(packed))}))
    loaded.to_netcdf(target, engine="h5netcdf")


def test_damage_is_noticed(nested: Posterior, tmp_path: Path) -> None:
    nested.save(tmp_path / "good.nc")
    _with_packed(tmp_path / "good.nc", tmp_path / "short.nc", lambda b: b[: b.size // 2])
    with pytest.raises(bl.StorageError, match="damaged"):
        load_posterior(tmp_path / "short.nc", bl.Posterior)

    def flip(b: Any) -> Any:
        b[b.size // 2] ^= 255
        return b

    _with_packed(tmp_path / "good.nc", tmp_path / "flipped.nc", flip)
    with pytest.raises(bl.StorageError, match="damaged"):
        load_posterior(tmp_path / "flipped.nc", bl.Posterior)
    data = (tmp_path / "good.nc").read_bytes()
    (tmp_path / "half.nc").write_bytes(data[: len(data) // 2])
    with pytest.raises(bl.StorageError, match="cannot be read"):
        load_posterior(tmp_path / "half.nc", bl.Posterior)


def test_missing_parts_are_named(nested: Posterior, tmp_path: Path) -> None:
    nested.save(tmp_path / "good.nc")

    def rename(b: Any) -> Any:
        from bayeslmm.storage.fits import pack

        packed = pack("posterior", "y ~ 1", {"design": 1})
        return np.frombuffer(packed, dtype=np.uint8)

    _with_packed(tmp_path / "good.nc", tmp_path / "less.nc", rename)
    with pytest.raises(bl.StorageError, match="lacks priors, method"):
        load_posterior(tmp_path / "less.nc", bl.Posterior)


def test_load_tells_a_posterior_from_a_fit(nested: Posterior, tmp_path: Path) -> None:
    nested.save(tmp_path / "post.nc")
    again = bl.load(tmp_path / "post.nc")
    assert isinstance(again, Posterior)
    np.testing.assert_array_equal(again.draws("sigma"), nested.draws("sigma"))
