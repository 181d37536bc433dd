"""Densities of groups left out that are interpolated between draws, against the same at every draw."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes import loo as loo_module
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.loo import leave_out
from bayeslmm.faces import Posterior
from bayeslmm.likelihood.leave_out import leave_group_out


def _crossed(rows: int, subjects: int, items: int) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    s, i, x = rng.integers(0, subjects, rows), rng.integers(0, items, rows), rng.normal(size=rows)
    y = 1 + 0.5 * x + 0.8 * rng.normal(size=subjects)[s] + 0.5 * rng.normal(size=items)[i] + rng.normal(size=rows)
    return pd.DataFrame({"y": y, "x": x, "s": s, "i": i})


@cache
def _sampled(normal: bool) -> Posterior:
    priors = {"beta": bl.Normal(0.0, 3.0)} if normal else {}
    return bl.Model("y ~ x + (1 | s) + (1 | i)", _crossed(1500, 60, 40)).sample(4000, priors=priors, random_seed=1)


@pytest.mark.parametrize("normal", [False, True], ids=["flat", "normal"])
@pytest.mark.parametrize("group", ["s", "i"])
def test_interpolated_densities(normal: bool, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    post, asked = _sampled(normal), []
    cp, design = post.cross_products, post.design
    monkeypatch.setattr(loo_module, "pays", lambda cp, codes: True)

    def counted(*args: object) -> object:
        found = leave_group_out(*args)
        asked.append(len(found.log_density))
        return found

    monkeypatch.setattr(loo_module, "leave_group_out", counted)
    left = leave_out(cp, post.data, post.priors, "group", group, 1000)
    assert sum(asked) < 50
    thinned = post.data["posterior"].to_dataset().isel(draw=slice(None, None, left.step))
    values = variance_draws(design, {str(k): v.to_numpy() for k, v in thinned.items()}, post.priors.changes)
    factors, codes = values.block_factors(cp), design.groupings[group].codes
    exact = leave_group_out(cp, factors, values.sigma, codes, post.priors.beta)
    K = values.sigma.size
    for smooth, each in ((left.without, exact.log_density), (left.kept, exact.log_density_kept)):
        error = smooth.reshape(K, -1) - each
        # Averages over the draws are off by less than their Monte Carlo error: of groups, and of their sum.
        assert np.sqrt((error.mean(axis=0) ** 2).mean()) < np.sqrt(each.var(axis=0).mean() / K)
        assert abs(error.sum(axis=1).mean()) < each.sum(axis=1).std() / np.sqrt(K)


def test_densities_that_vary_too_much_are_computed_at_every_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).sample(1000, random_seed=1)
    usual = leave_out(post.cross_products, post.data, post.priors, "group", None, 40)
    monkeypatch.setattr(loo_module, "pays", lambda cp, codes: True)
    # As many draws as would be computed are not interpolated.
    np.testing.assert_array_equal(
        leave_out(post.cross_products, post.data, post.priors, "group", None, 40).without, usual.without
    )
