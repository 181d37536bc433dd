"""Proposals whose density overflows must not spoil the other draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.numerics.resample import systematic


@pytest.fixture(scope="module")
def model() -> bl.Model:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"x": rng.normal(size=80), "g": np.repeat(list("abcdefgh"), 10)})
    return bl.Model("y ~ x + (x | g)", data.assign(y=rng.normal(size=80)))


@pytest.mark.parametrize("seed", range(10))
def test_draws_of_a_singular_slope_model_differ(model, seed):
    post = model.sample(1000, random_seed=seed, log_likelihood=False)
    for label in ("sd_g[Intercept]", "sd_g[x]", "sigma", "x"):
        draws = post.draws(label)
        assert np.isfinite(draws).all()
        assert np.unique(draws).size > 900


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        systematic(np.array([0.5, np.nan]), 10, np.random.default_rng(1))
