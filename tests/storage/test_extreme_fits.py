"""Fits at the ends of what numbers hold, and posteriors without parts, come back bit for bit."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


def rows(scale: float = 1.0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    data = pd.DataFrame({"g": np.arange(48) % 8, "x": rng.normal(size=48)})
    return data.assign(y=shift + scale * (rng.normal(size=8)[data.g] + data.x + rng.normal(size=48)))


@pytest.mark.parametrize("scale", [1e-130, 1e-60, 1e-8, 1e8, 1e60, 1e130])
@pytest.mark.parametrize("formula", ["y ~ x + (1 | g)", "y ~ x + (x | g)", "y ~ x + cs(x | g)"])
def test_responses_of_any_size(formula: str, scale: float, tmp_path: Path) -> None:
    fit = bl.Model(formula, rows(scale)).fit()
    fit.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    assert (again.sigma, again.criterion, again.status) == (fit.sigma, fit.criterion, fit.status)
    assert again.theta.tobytes() == fit.theta.tobytes()
    np.testing.assert_allclose(again.fixef(), fit.fixef(), rtol=1e-12)
    np.testing.assert_allclose(again.std_error(), fit.std_error(), rtol=1e-9)


@pytest.mark.parametrize("what", ["perfect", "offset"])
def test_fits_without_a_residual_variance_or_with_an_offset(what: str, tmp_path: Path) -> None:
    data = rows(shift=1e9 if what == "offset" else 0.0)
    if what == "perfect":
        data["y"] = data.g * 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = bl.Model("y ~ 1 + (1 | g)", data).fit()
        fit.save(tmp_path / "fit")
        again = bl.load(tmp_path / "fit")
    assert again.status is fit.status
    assert (again.sigma, repr(again.criterion)) == (fit.sigma, repr(fit.criterion))


@pytest.mark.parametrize("ending", ["nc", "zarr"])
def test_posteriors_without_effects(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    pytest.importorskip("zarr")
    post = bl.Model("y ~ x + (1 | g)", rows()).sample(40, keep=(), random_seed=1)
    assert "b_g" not in post.data["posterior"]
    post.save(tmp_path / f"post.{ending}")
    assert bl.load(tmp_path / f"post.{ending}").data.identical(post.data)
