"""Quantiles from tails alone are those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bayeslmm.numerics.quantiles import two_quantiles


def shapes(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shape = (40, size)
    found = {
        "normal": rng.standard_normal(shape) * np.exp(rng.normal(size=(40, 1))) + 1e3 * rng.normal(size=(40, 1)),
        "heavy": rng.standard_cauchy(shape),
        "skew": rng.exponential(size=shape) ** 3,
        "ties": rng.integers(0, 4, shape).astype(float),
        "constant": np.full(shape, 2.5),
        "two lumps": np.where(rng.uniform(size=shape) < 0.3, -1e6, 1.0) + rng.uniform(size=shape),
        "far out": 1e8 + 1e-3 * rng.standard_normal(shape),
    }
    found["columns of another layout"] = np.asfortranarray(found["normal"])
    return found


@pytest.mark.parametrize("size", [2, 30, 999, 4000])
@pytest.mark.parametrize("probability", [1e-4, 0.005, 0.025, 0.1, 0.4])
def test_they_are_those_of_numpy(size: int, probability: float) -> None:
    for name, draws in shapes(size).items():
        expected = np.quantile(draws, [probability, 1.0 - probability], axis=1).T
        # NumPy's place of the upper quantile has the rounding of 1 - probability.
        np.testing.assert_allclose(two_quantiles(draws, probability), expected, rtol=1e-12, atol=1e-14, err_msg=name)


def test_infinite_draws_count_as_such() -> None:
    draws = np.random.default_rng(4).standard_normal((3, 1000))
    draws[0, 5], draws[1, :400], draws[2, :20] = -np.inf, np.inf, np.inf
    with np.errstate(invalid="ignore"):
        expected = np.quantile(draws, [0.025, 0.975], axis=1).T
        found = two_quantiles(draws, 0.025)
    assert np.isfinite(expected[[0, 2]]).all()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
