"""Draws at given rows and the predictive groups of a DataTree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bayeslmm.bayes import predictive
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.predictive import Request, posterior_predictive, predictive_draws, prior_tree
from bayeslmm.design.design import Design
from bayeslmm.design.newdata import RowLevels, Rows, own_rows
from bayeslmm.errors import FitError, PriorError

from .conftest import TERMS, make_design

S = 400


def _posterior(design: Design, seed: int = 1) -> dict[str, np.ndarray]:
    """Any draws will do: those of the prior, in two chains."""
    tree = prior_tree(design, resolve_priors(design, "weak"), S, np.random.default_rng(seed), predictive=False)
    return {name: values.to_numpy().reshape(2, S // 2, *values.shape[2:]) for name, values in tree["prior"].items()}


def _collect(
    design: Design, posterior: dict[str, np.ndarray], rows: Rows, request: Request, seed: int = 3
) -> np.ndarray:
    out = np.empty((S, rows.n))
    for part, _, drawn in predictive_draws(design, posterior, rows, request, np.random.default_rng(seed)):
        out[:, part] = drawn
    return out


@pytest.mark.parametrize("kind", TERMS)
def test_the_mean_is_what_the_draws_say_row_by_row(kind: str) -> None:
    design = make_design(kind, offset=True)
    posterior = _posterior(design)
    flat = {name: values.reshape(S, *values.shape[2:]) for name, values in posterior.items()}
    drawn = _collect(design, posterior, own_rows(design, tuple(design.groupings)), Request(tuple(design.groupings)))
    for i in (0, 7, 29):
        expected = design.offset[i] + flat["beta"] @ design.X[i]
        for group in make_layout(design).groups:
            z = np.concatenate([design.terms[k].Z[i] for k in group.labels.terms])
            expected = expected + flat[group.b][:, design.groupings[group.labels.group].codes[i]] @ z
        np.testing.assert_allclose(drawn[:, i], expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("request_", [Request(("g",), True, True), Request(("g",), False, True)], ids=["noise", "mean"])
def test_draws_do_not_depend_on_how_many_rows_are_taken_at_once(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = make_design("slopes", weights=True)
    posterior = _posterior(design)
    rows = own_rows(design, ("g",))
    # Levels d, e, f are taken for new ones; their rows are spread over the data.
    codes = rows.levels["g"].codes
    rows = replace(rows, levels={"g": RowLevels(np.where(codes > 2, codes + 3, codes), ("d", "e", "f"))})
    at_once = _collect(design, posterior, rows, request_)
    monkeypatch.setattr(predictive, "_CHUNK", 4 * S)
    np.testing.assert_allclose(_collect(design, posterior, rows, request_), at_once, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["slopes", "two terms", "all structures"])
def test_new_levels_have_the_covariance_of_the_draws(kind: str) -> None:
    design = make_design(kind)
    posterior = _posterior(design)
    # One draw of the parameters, many times: then the covariance between rows is a number.
    posterior = {name: np.broadcast_to(v[:1, :1], (1, 20_000, *v.shape[2:])) for name, v in posterior.items()}
    rows = own_rows(design, ("g",))
    known = design.groupings["g"].n_levels
    rows = replace(rows, levels={"g": RowLevels(rows.levels["g"].codes + known, design.groupings["g"].levels)})
    parts = predictive_draws(design, posterior, rows, Request(("g",), False, True), np.random.default_rng(1))
    values = np.concatenate([drawn for _, _, drawn in parts], axis=1)
    values = values - (posterior["beta"][0, 0] @ design.X.T)
    layout = next(group for group in make_layout(design).groups if group.name == "g")
    covariance = np.zeros((2, 2))
    i, j = 0, 6  # two rows of level a
    for k in layout.labels.terms:
        own = [p for p, sd in enumerate(layout.sds) if sd.term == k]
        sd = posterior["sd_g"][0, 0, own]
        c = len(design.terms[k].effects)
        correlation = np.eye(c)
        for p, (term, a, b, _) in enumerate(layout.labels.pairs):
            if term == k and design.terms[k].structure.shared:
                correlation = np.full((c, c), posterior["corr_g"][0, 0, p])
                np.fill_diagonal(correlation, 1.0)
            elif term == k:
                correlation[a, b] = correlation[b, a] = posterior["corr_g"][0, 0, p]
        Sigma = sd[:, None] * correlation * sd if sd.size == c else sd[0] ** 2 * correlation
        Z = design.terms[k].Z[[i, j]]
        covariance += Z @ Sigma @ Z.T
    found = values[:, [i, j]].T @ values[:, [i, j]] / 20_000
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(
        found / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=6 / np.sqrt(20_000)
    )
    other = np.mean(values[:, 0] * values[:, 1]) / values[:, 0].std() / values[:, 1].std()
    assert abs(other) < 5 / np.sqrt(20_000)


def test_noise_is_that_of_the_weights() -> None:
    design = make_design("one-way", weights=True)
    posterior = _posterior(design)
    rows = own_rows(design, ())
    noisy, mean = (_collect(design, posterior, rows, Request((), observation)) for observation in (True, False))
    z = (noisy - mean) / posterior["sigma"].reshape(-1, 1) * np.sqrt(design.weights)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-5


def test_effects_that_were_not_kept_are_missed_only_where_they_are_needed() -> None:
    design = make_design("one-way")
    posterior = _posterior(design)
    del posterior["b_g"]
    with pytest.raises(FitError, match="b_g were not kept"):
        _collect(design, posterior, own_rows(design, ("g",)), Request(("g",)))
    assert np.isfinite(_collect(design, posterior, own_rows(design, ()), Request(()))).all()


@pytest.mark.parametrize("kind", ["one-way", "all structures"])
def test_groups_have_the_dims_and_coords_of_the_posterior(kind: str) -> None:
    design = make_design(kind)
    layout = make_layout(design)
    tree = prior_tree(design, resolve_priors(design, "weak"), 20, np.random.default_rng(1))
    assert set(tree.children) == {"prior", "prior_predictive", "observed_data"}
    for name, dims in layout.posterior_dims.items():
        assert tree["prior"][name].dims == ("chain", "draw", *dims)
    for dim in (dim for dims in layout.posterior_dims.values() for dim in dims):
        assert tree["prior"][dim].to_numpy().tolist() == list(layout.coords[dim])
    assert tree["prior_predictive"]["y"].shape == (1, 20, design.n)
    tree["posterior"] = tree["prior"]
    more = posterior_predictive(design, tree, np.random.default_rng(2))
    assert more["posterior_predictive"]["y"].dims == ("chain", "draw", "obs")
    assert "posterior_predictive" not in tree.children


def test_a_prior_tree_needs_proper_priors() -> None:
    design = make_design("one-way")
    with pytest.raises(PriorError, match="priors='weak'"):
        prior_tree(design, resolve_priors(design), 5, np.random.default_rng(1))
