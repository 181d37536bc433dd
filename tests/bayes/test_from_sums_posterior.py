"""The posterior given sums over cells is the posterior given the observations, by every way there is to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import FitError
from tests.reml.test_from_sums import both

_QUIET = {"draws": 200, "chains": 2, "random_seed": 1, "progressbar": False}


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("y ~ x + (1 | g)", {"method": "quadrature"}),
        ("y ~ x + (x | g)", {"method": "importance"}),
        ("y ~ x + (1 | g) + (1 | h)", {"method": "quadrature", "priors": "weak"}),
    ],
)
def test_draws_of_one_seed_are_the_same(formula: str, options: dict[str, str]) -> None:
    sums, raw = (model.sample(**_QUIET, **options) for model in both(formula))
    # The proposal starts from a mode that is found to about 1e-8.
    np.testing.assert_allclose(sums.estimates(), raw.estimates(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums.sigma, raw.sigma, rtol=1e-6)
    assert abs(np.nan_to_num(sums.log_evidence) - np.nan_to_num(raw.log_evidence)) < 1e-5
    np.testing.assert_allclose(sums.r2().to_numpy(float), raw.r2().to_numpy(float), rtol=1e-4)


def test_leaving_out_groups() -> None:
    sums, raw = (model.sample(**_QUIET) for model in both("y ~ x + (1 | g)"))
    a, b = sums.loo("group"), raw.loo("group")
    assert abs(a.elpd - b.elpd) < 1e-4 and a.n_data_points == b.n_data_points == 9
    np.testing.assert_allclose(sums.group_log_likelihood(), raw.group_log_likelihood(), rtol=1e-5)
    with pytest.raises(FitError, match="from_sums"):
        sums.loo()
    with pytest.raises(FitError, match="from_sums"):
        both("y ~ x + (1 | g)")[0].sample(**_QUIET, log_likelihood=True)


@pytest.mark.parametrize("form", ["noncentered", "centered", "collapsed"])
def test_pymc_models_have_the_same_density(form: str) -> None:
    pytest.importorskip("pymc")
    sums, raw = (model.to_pymc(form=form, priors="weak") for model in both("y ~ x + (1 | g)", weights="w"))
    rng = np.random.default_rng(1)
    a, b = sums.compile_logp(), raw.compile_logp()
    at = {name: np.asarray(value) for name, value in raw.initial_point().items()}
    off = []
    for _ in range(4):
        point = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in at.items()}
        off.append(float(a(point)) - float(b(point)))
    np.testing.assert_allclose(off, 0.0, atol=1e-7)


def test_predictions_of_new_rows() -> None:
    sums, raw = (model.sample(**_QUIET) for model in both("y ~ x + (x | g)"))
    at = pd.DataFrame({"x": [0.0, 1.5], "g": ["g1", "g4"]})
    for kind in ("mean", "observation"):
        a, b = (post.predict(at, kind=kind, random_seed=2) for post in (sums, raw))
        pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-6)
    assert len(sums.predict()) == len(sums.fitted()) == len(sums.design.cells)


def test_a_prior_whose_scale_is_a_median_needs_observations() -> None:
    with pytest.raises(bl.PriorError, match="median"):
        both("y ~ x + (1 | g)")[0].sample(**_QUIET, priors="brms")
