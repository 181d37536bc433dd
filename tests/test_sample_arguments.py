"""Arguments of ``Model.sample``: what is no number, no seed, no method is refused with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import FitError


@pytest.fixture(scope="module")
def model() -> bl.Model:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))


@pytest.mark.parametrize("seed", [-1, "a", 1.5, [1, "b"], {}])
def test_seeds_that_are_none(model: bl.Model, seed: Any) -> None:
    with pytest.raises(FitError, match=r"random_seed=.* is no seed.*whole number, a numpy Generator, or None"):
        model.sample(draws=50, random_seed=seed)


@pytest.mark.parametrize("name", ["draws", "chains", "tune"])
@pytest.mark.parametrize("value", [2.5, "100", None, True, np.float64(100.0)])
def test_numbers_that_are_not_whole(model: bl.Model, name: str, value: Any) -> None:
    with pytest.raises(FitError, match=rf"{name}=.* is not a whole number"):
        model.sample(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"method": "gibbs"}, r"method='gibbs' is unknown.*'nuts'"),
        ({"draws": 29}, r"draws=29.*at least 30"),
        ({"draws": 0}, r"draws=0"),
        ({"draws": -5}, r"draws=-5"),
        ({"chains": 0}, r"chains=0.*at least one draw"),
        ({"draws": 30, "chains": 31}, r"draws=30, chains=31"),
        ({"draws": 2, "chains": 3, "method": "nuts"}, r"draws=2, chains=3"),
        ({"keep": ["Cask"]}, r"names Cask.*b_Batch"),
        ({"keep": [1]}, r"names 1.*b_Batch"),
        ({"log_likelihood": "yes"}, r"log_likelihood='yes' is neither True nor False"),
    ],
)
def test_other_arguments(model: bl.Model, arguments: dict[str, Any], found: str) -> None:
    with pytest.raises(FitError, match=found):
        model.sample(**arguments)


def draws_of(model: bl.Model, seed: Any, **more: Any) -> np.ndarray:
    posterior = model.sample(draws=60, random_seed=seed, **more)
    values = posterior.data["posterior"]
    return np.concatenate([np.asarray(values[name]).ravel() for name in ("sigma", "b_Batch")])


@pytest.mark.parametrize("method", ["quadrature", "importance"])
def test_same_seed_same_draws(model: bl.Model, method: str) -> None:
    first = draws_of(model, 3, method=method)
    np.testing.assert_array_equal(first, draws_of(model, 3, method=method))
    np.testing.assert_array_equal(first, draws_of(model, np.int64(3), method=method))
    np.testing.assert_array_equal(first, draws_of(model, np.random.default_rng(3), method=method))
    assert not np.array_equal(first, draws_of(model, 4, method=method))
    assert not np.array_equal(draws_of(model, None, method=method), draws_of(model, None, method=method))


def test_a_generator_goes_on(model: bl.Model) -> None:
    rng = np.random.default_rng(3)
    assert not np.array_equal(draws_of(model, rng), draws_of(model, rng))


def test_numpy_integers_count(model: bl.Model) -> None:
    posterior = model.sample(draws=np.int64(60), chains=np.int32(3), random_seed=1)
    assert dict(posterior.data["posterior"].sizes)["chain"] == 3
    assert posterior.data["posterior"]["sigma"].size == 60


@pytest.mark.parametrize(("draws", "chains", "found"), [(50, 4, 2), (51, 4, 1), (60, 4, 4), (30, 30, 30)])
def test_no_draw_is_lost_in_dealing_to_chains(model: bl.Model, draws: int, chains: int, found: int) -> None:
    values = model.sample(draws=draws, chains=chains, random_seed=1).data["posterior"]["sigma"]
    assert values.sizes["chain"] == found
    assert np.unique(values.values).size == draws
