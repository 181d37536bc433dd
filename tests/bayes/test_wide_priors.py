"""Priors far wider than the data: the posterior is that of a flat prior on the sd, whatever the family."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl


def model():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 5), "x": rng.normal(size=60)})
    data["y"] = 1 + data.x + rng.normal(size=12)[data.g] + rng.normal(size=60)
    return bl.Model("y ~ x + (1 | g)", data)


@pytest.fixture(scope="module")
def flat():
    return model().sample(50, priors={"sd_g": "flat"}, random_seed=1).table()["mean"].to_numpy()


@pytest.mark.parametrize("scale", [1e10, 1e25, 1e40, 1e100, 1e140, 1e200, 1e300])
@pytest.mark.parametrize(
    "family", [lambda s: bl.Gamma(1.0, 1.0 / s), lambda s: bl.HalfNormal(s), lambda s: bl.HalfCauchy(s)]
)
def test_a_prior_that_is_flat_over_the_data(family, scale, flat):
    found = model().sample(50, priors={"sd_g": family(scale)}, random_seed=1).table()["mean"].to_numpy()
    assert found == pytest.approx(flat, rel=1e-6)
