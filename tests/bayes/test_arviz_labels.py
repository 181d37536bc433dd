"""What ArviZ makes of a posterior as a whole has every number under its own label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

az = pytest.importorskip("arviz")


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    n = 96
    g, h, f = rng.integers(8, size=n), rng.integers(5, size=n), np.array(["u", "v", "w"])[np.arange(n) % 3]
    x, z = rng.normal(size=(2, n))
    y = rng.normal(size=8)[g] + x * rng.normal(size=8)[g] + rng.normal(size=5)[h] + x + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "z": z, "f": f, "g": [f"g{k}" for k in g], "h": [f"h{k}" for k in h]})


DATA = frame()
FORMULAS = {
    "slopes": "y ~ x + (x | g)",
    "three effects": "y ~ x + z + (x + z | g)",
    "no coefficients": "y ~ 0 + (x | g)",
    "nested": "y ~ x + (x | h/g)",
    "crossed": "y ~ x + (x | g) + (z | h)",
    "independent": "y ~ x + (x || g)",
    "repeated": "y ~ x + (1 | g) + (0 + x + z | g)",
    "shared": "y ~ f + cs(0 + f | g)",
    "series": "y ~ f + ar1(0 + f | g) + (1 | h)",
    "one variance": "y ~ f + id(0 + f | g)",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rstanarm": {"priors": "rstanarm"},
    "without effects": {"keep": ()},
    "some effects": {"keep": ["h"]},
}


def check(tree: Any, group: str = "posterior") -> None:
    """Every row of az.summary against the labelled array, element by element."""
    data = tree[group].to_dataset()
    table = az.summary(tree, group=group, kind="stats", round_to="none")
    rows = 0
    for name, values in data.data_vars.items():
        means = values.mean(("chain", "draw"))
        for place in np.ndindex(means.shape):
            own = means[place]
            labels = [
                str(own[dim].item()) if dim in own.coords else str(k) for dim, k in zip(means.dims, place, strict=True)
            ]
            label = f"{name}[{', '.join(labels)}]" if labels else str(name)
            assert table.loc[label, "mean"] == pytest.approx(own.item(), rel=1e-9, abs=1e-12)
            rows += 1
    assert rows == len(table)


def posterior(formula: str, **options: Any) -> bl.Posterior:
    return bl.Model(formula, DATA).sample(40, random_seed=3, **options)


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::bayeslmm.errors.BayesLMMWarning")
@pytest.mark.parametrize("kind", FORMULAS)
def test_every_row_of_a_summary(kind: str) -> None:
    check(posterior(FORMULAS[kind]).data)


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.BayesLMMWarning")
@pytest.mark.parametrize("kind", OPTIONS)
def test_every_row_with_options(kind: str) -> None:
    check(posterior("y ~ x + (x | g) + (1 | h)", **OPTIONS[kind]).data)


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_every_row_after_a_file_and_further_groups(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip({"nc": "h5netcdf", "zarr": "zarr"}[suffix])
    if suffix == "nc":
        pytest.importorskip("h5py")
    post = posterior("y ~ x + (x | g)", priors="weak")
    whole = post.add_groups("prior", "posterior_predictive", "log_likelihood", draws=20, random_seed=1)
    whole.save(tmp_path / f"post.{suffix}")
    again = bl.load(tmp_path / f"post.{suffix}")
    assert isinstance(again, bl.Posterior)
    for tree in (whole.data, again.data):
        check(tree)
        check(tree, "prior")
    for group in ("posterior", "prior", "constant_data"):
        assert whole.data[group].to_dataset().equals(again.data[group].to_dataset())
        assert list(whole.data[group].data_vars) == list(again.data[group].data_vars)


def test_other_ways_to_flatten() -> None:
    post = posterior("y ~ x + (x | g)")
    b = post.data["posterior"]["b_g"]
    flat = az.extract(post.data)
    np.testing.assert_array_equal(
        flat["b_g"].sel(g="g3", g__effect="x"), b.sel(g="g3", g__effect="x").to_numpy().ravel()
    )
    wide = az.dataset_to_dataframe(post.data["posterior"].to_dataset())
    np.testing.assert_array_equal(wide["b_g[g3, x]"], b.sel(g="g3", g__effect="x").to_numpy().ravel())
    chosen = az.summary(post.data, var_names=["~beta"], kind="stats", round_to="none")
    assert chosen.loc["b_g[g3, x]", "mean"] == pytest.approx(float(b.sel(g="g3", g__effect="x").mean()))
    ess = az.ess(post.data)
    assert float(ess["b_g"].sel(g="g3", g__effect="x")) == pytest.approx(
        float(az.ess(b.sel(g="g3", g__effect="x").to_numpy()))
    )


def test_covariates_have_their_names() -> None:
    data = posterior("y ~ x + f + (z | g)").data["constant_data"]
    for name in ("x", "z"):
        np.testing.assert_array_equal(data[name], DATA[name])
        assert data[name].dims == ("obs",)
    np.testing.assert_array_equal(data["X"].sel(coef="f[v]"), DATA["f"] == "v")
    # A column that is called as something else is left out.
    own = DATA.rename(columns={"x": "weights", "z": "g__effect"})
    other = bl.Model("y ~ weights + g__effect + (1 | g)", own).sample(40, random_seed=1).data["constant_data"]
    assert "g__effect" not in other.data_vars
    np.testing.assert_array_equal(other["weights"], np.ones(len(own)))


def test_free_variables_take_no_memory_until_they_are_read() -> None:
    tree = posterior("y ~ x + (x | g)").data["posterior"]
    for name in ("z_g", "r_g"):
        assert not tree[name].variable._in_memory
        assert np.isfinite(tree[name].to_numpy()).all()
        assert not tree[name].variable._in_memory
