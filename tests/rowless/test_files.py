"""Models, fits and posteriors without rows are saved without rows, and are read with all that needs none."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import RowsNeededError

from .models import data, without

SAMPLE: dict[str, Any] = {"draws": 40, "chains": 1, "random_seed": 1, "progressbar": False}


@pytest.mark.parametrize("kind", ["slopes", "crossed", "hierarchy", "weights", "frequency", "known sds"])
def test_a_fit_in_a_file(kind: str, tmp_path: Path) -> None:
    fit = without(kind)[0].fit()
    fit.save(tmp_path / "fit.npz")
    again = bl.load(tmp_path / "fit.npz")
    assert again.criterion == pytest.approx(fit.criterion, rel=1e-12)
    np.testing.assert_array_equal(again.estimates().to_numpy(), fit.estimates().to_numpy())
    for group, effects in fit.ranef().items():
        np.testing.assert_allclose(again.ranef()[group].to_numpy(), effects.to_numpy(), atol=1e-9)
    np.testing.assert_allclose(again.predict(data().head(3)), fit.predict(data().head(3)), rtol=1e-9)
    assert repr(again) == repr(fit)
    with pytest.raises(RowsNeededError, match="read from a file"):
        again.fitted()
    assert without(kind)[1].passes == []


def test_a_file_without_rows_does_not_grow_with_them(tmp_path: Path) -> None:
    without("intercepts")[0].fit().save(tmp_path / "fit.npz")
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as arrays:
        assert max(arrays[name].size for name in arrays.files if name.endswith(".npy") or "." not in name) < 240


def test_a_model_in_a_file(tmp_path: Path) -> None:
    model = without("slopes")[0]
    model.save(tmp_path / "model.npz")
    again = bl.load(tmp_path / "model.npz")
    # A file does not say where the rows were.
    *same, rows = repr(model).splitlines()
    assert repr(again).splitlines() == same and rows.startswith("  rows: rows.parquet, read in chunks")
    assert again.fit().criterion == pytest.approx(model.fit().criterion, rel=1e-12)


def test_a_posterior_in_a_file(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        post = without("slopes")[0].sample(**SAMPLE)
        post.save(tmp_path / "post.nc")
        again = bl.load(tmp_path / "post.nc")
        assert again.table().equals(post.table())
        np.testing.assert_allclose(again.r2().to_numpy(), post.r2().to_numpy())
        both = bl.compare(without("slopes")[0].fit(), again)
    assert both.table.shape[0] > 0


def test_sums_of_another_model_are_refused(tmp_path: Path) -> None:
    from bayeslmm.likelihood.rowless import check_sums_of

    cp, other = without("slopes")[0].cross_products, without("crossed")[0].design
    with pytest.raises(ValueError, match="sums are of effects"):
        check_sums_of(other, cp.sums, cp.response)
