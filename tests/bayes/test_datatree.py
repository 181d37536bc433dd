"""DataTrees of both paths: same names, dims and coords, and ArviZ can use them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import norm

from bayeslmm.bayes import log_likelihood
from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.datatree import add_log_likelihood, build_datatree, nuts_datatree
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.nuts import NutsDraws, sample_nuts
from bayeslmm.design.design import Design
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.reml import optimise

if TYPE_CHECKING:
    from xarray import DataTree

az = pytest.importorskip("arviz")

Make = Callable[..., Design]
KINDS = ["one-way", "nested", "slopes 3x3", "uncorrelated", "repeated effect", "blocks and crossed"]
GROUPS = {"posterior", "sample_stats", "observed_data", "constant_data"}


def _collapsed(design: Design, draws: int = 200) -> tuple[SummedDesign, CollapsedDraws]:
    cp = cross_products(design)
    rng = np.random.default_rng(8)
    priors = default_priors(design)
    return cp, sample_collapsed(cp, priors, optimise(cp).terms, draws=draws, rng=rng)


def _tree(design: Design, log_likelihood: bool = False) -> DataTree:
    cp, draws = _collapsed(design)
    return build_datatree(cp, default_priors(design), draws, log_likelihood=log_likelihood)


def _nuts_like(design: Design) -> NutsDraws:
    """Arrays of the shapes that NUTS returns."""
    layout, rng = make_layout(design), np.random.default_rng(2)
    further = layout.at_mean_dims if default_priors(design).centred else {}
    posterior = {
        name: np.exp(rng.normal(size=(2, 30, *(len(layout.coords[d]) for d in dims))))
        for name, dims in (layout.posterior_dims | further).items()
    }
    return NutsDraws(posterior, {"diverging": np.zeros((2, 30), dtype=bool)}, "nutpie")


@pytest.mark.parametrize("kind", KINDS)
def test_both_paths_share_names_dims_and_coords(kind: str, design: Make) -> None:
    data = design(kind, weights=True)
    ours = _tree(data, log_likelihood=True)
    nuts = nuts_datatree(data, default_priors(data), _nuts_like(data), log_likelihood=True)
    assert set(ours.children) == set(nuts.children) == GROUPS | {"log_likelihood"}
    for group in ["posterior", "observed_data", "constant_data", "log_likelihood"]:
        assert list(ours[group].data_vars) == list(nuts[group].data_vars)
        for name in ours[group].data_vars:
            assert ours[group][name].dims == nuts[group][name].dims
            for dim in set(ours[group][name].dims) - {"chain", "draw"}:
                np.testing.assert_array_equal(ours[group][dim], nuts[group][dim])
    assert ours.attrs.keys() == nuts.attrs.keys()
    assert ours.attrs["method"] in ("quadrature", "importance")
    assert nuts.attrs["method"] == "nuts"


@pytest.mark.parametrize("kind", KINDS)
def test_values_go_where_their_labels_say(kind: str, design: Make) -> None:
    data = design(kind)
    cp, draws = _collapsed(data)
    tree = build_datatree(cp, default_priors(data), draws)
    posterior = tree["posterior"]
    np.testing.assert_array_equal(posterior["sigma"].to_numpy().ravel(), draws.sigma)
    for group in make_layout(data).groups:
        labels = group.labels
        block = next(k for k, b in enumerate(cp.blocks) if b.grouping.name == labels.group)
        b = posterior[group.b].to_numpy().reshape(draws.b[block].shape)
        np.testing.assert_array_equal(b, draws.b[block])
        assert cp.blocks[block].terms == labels.terms
        for k in labels.terms:
            chosen = posterior[group.sd].sel({group.effect_dim: list(labels.term_effects(k))})
            np.testing.assert_array_equal(chosen.to_numpy().reshape(-1, chosen.shape[-1]), draws.sds[k])
        for k, i, j, label in labels.pairs:
            chosen = posterior[group.corr].sel({group.pair_dim: label})
            np.testing.assert_array_equal(chosen.to_numpy().ravel(), draws.corrs[k][:, i, j])


def test_selection_by_level_and_effect(design: Make) -> None:
    tree = _tree(design("slopes"))
    assert tree["posterior"]["b_g"].sel(g="c", g__effect="x").shape == (4, 50)
    assert tree["posterior"]["beta"].sel(coef="Intercept").shape == (4, 50)


@pytest.mark.parametrize("kind", ["one-way", "blocks and crossed"])
def test_pointwise_log_likelihood(kind: str, design: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = design(kind, weights=True, offset=True)
    monkeypatch.setattr(log_likelihood, "_CHUNK", 7 * data.n)
    tree = _tree(data, log_likelihood=True)
    posterior = tree["posterior"].to_dataset()
    assert data.offset is not None and data.weights is not None
    mean = data.offset + posterior["beta"].to_numpy() @ data.X.T
    for group in make_layout(data).groups:
        Z = np.hstack([data.terms[k].Z for k in group.labels.terms])
        b = posterior[group.b].to_numpy()[:, :, data.groupings[group.labels.group].codes]
        mean = mean + np.einsum("nk,cdnk->cdn", Z, b)
    sd = posterior["sigma"].to_numpy()[..., None] / np.sqrt(data.weights)
    expected = norm.logpdf(data.y, mean, sd)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], expected, rtol=1e-12, atol=1e-12)


def test_log_likelihood_can_be_added_later(design: Make) -> None:
    data = design("slopes", response="log(y)")
    tree = _tree(data)
    assert "log_likelihood" not in tree.children
    later = add_log_likelihood(tree, data)
    assert "log_likelihood" not in tree.children
    expected = _tree(data, log_likelihood=True)["log_likelihood"]["log(y)"]
    np.testing.assert_array_equal(later["log_likelihood"]["log(y)"], expected)
    assert later["log_likelihood"].attrs["formula"] == data.formula


@pytest.mark.parametrize(("draws", "chains"), [(200, 4), (201, 3), (202, 2), (211, 1)])
def test_chains_divide_the_draws(draws: int, chains: int, design: Make) -> None:
    cp, drawn = _collapsed(design("one-way"), draws)
    tree = build_datatree(cp, default_priors(cp.design), drawn, chains=4 if chains != 3 else 3)
    assert tree["posterior"].sizes["chain"] == chains


def test_attributes_and_data(design: Make) -> None:
    data = design("slopes", weights=True)
    tree = _tree(data)
    assert tree.attrs["inference_library"] == tree.attrs["creation_library"] == "bayeslmm"
    assert tree.attrs["formula"] == "by hand"
    assert tree["sample_stats"].attrs["pareto_k"] < 0.7
    assert "sd_g[x] ~ half-t(3" in tree["posterior"].attrs["priors"]
    assert "corr_at_mean_g ~ LKJ(1)" in tree["posterior"].attrs["priors"]
    np.testing.assert_array_equal(tree["observed_data"]["y"], data.y)
    np.testing.assert_array_equal(tree["constant_data"]["X"], data.X)
    np.testing.assert_array_equal(tree["constant_data"]["weights"], data.weights)
    np.testing.assert_array_equal(tree["constant_data"]["offset"], np.zeros(data.n))
    np.testing.assert_array_equal(tree["constant_data"]["codes_g"], data.groupings["g"].codes)


def test_normal_priors_of_fixed_effects_are_described(design: Make) -> None:
    data = design("one-way")
    cp, draws = _collapsed(data)
    tree = build_datatree(cp, resolve_priors(data, "weak"), draws)
    assert "beta[x] ~ normal(0, " in tree["posterior"].attrs["priors"]


def test_sample_stats_of_the_caller(design: Make) -> None:
    cp, draws = _collapsed(design("one-way"))
    stats = {"lp": np.arange(200.0)}
    tree = build_datatree(cp, default_priors(cp.design), draws, sample_stats=stats)
    np.testing.assert_array_equal(tree["sample_stats"]["lp"].to_numpy().ravel(), stats["lp"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")
def test_arviz_reads_it(kind: str, design: Make) -> None:
    data = design(kind)
    data = replace(data, index=np.array([f"row {k}" for k in range(data.n)], dtype=object))
    tree = _tree(data, log_likelihood=True)
    table = az.summary(tree)
    assert table.shape[0] == sum(v[0, 0].size for v in tree["posterior"].data_vars.values())
    assert "sigma" in table.index
    assert np.isfinite(az.loo(tree).elpd)


@pytest.mark.filterwarnings("ignore")
def test_arviz_plots_it(design: Make) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    tree = _tree(design("blocks and crossed"))
    az.plot_forest(tree, var_names=["sd_g", "corr_g", "sigma"], backend="matplotlib")
    matplotlib.pyplot.close("all")


def test_netcdf_round_trip(design: Make, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    from xarray import open_datatree

    tree = _tree(design("nested"), log_likelihood=True)
    tree.to_netcdf(tmp_path / "post.nc", engine="h5netcdf")
    back = open_datatree(tmp_path / "post.nc", engine="h5netcdf")
    np.testing.assert_array_equal(back["posterior"]["b_g:k"], tree["posterior"]["b_g:k"])


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
def test_nuts_agrees_with_the_collapsed_posterior(sampler: str, design: Make) -> None:
    pytest.importorskip(sampler)
    from bayeslmm.bayes.pymc_model import build_pymc_model

    data = design("nested", weights=True)
    priors, layout = default_priors(data), make_layout(data)
    draws = sample_nuts(build_pymc_model(data, priors), layout, draws=1000, chains=2, random_seed=4, sampler=sampler)
    assert draws.library == sampler
    nuts = nuts_datatree(data, priors, draws)
    assert {"lp", "diverging", "energy", "tree_depth"} <= set(nuts["sample_stats"].data_vars)
    cp, collapsed = _collapsed(data, 4000)
    ours = build_datatree(cp, priors, collapsed)
    for name in layout.posterior_dims:
        a, b = (tree["posterior"][name].mean(["chain", "draw"]) for tree in (ours, nuts))
        error = ours["posterior"][name].std(["chain", "draw"]) * np.sqrt(1 / 4000 + 1 / 300)
        assert (np.abs(a - b) < 4.5 * error).all(), name
