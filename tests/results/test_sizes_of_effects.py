"""What effects add to the response, in principal components and rates of zeros: against sums over all observations."""

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.components import principal_components
from bayeslmm.inference.zero_rate import with_share


def data(shift=0.0):
    rng = np.random.default_rng(12)
    frame = pd.DataFrame({"g": np.repeat(np.arange(9), 6), "x": rng.gamma(2.0, size=54) + shift})
    U = rng.normal(size=(9, 2)) @ [[1.0, 0.4], [0.0, 0.6]]
    frame["y"] = U[frame.g, 0] + U[frame.g, 1] * (frame.x - shift) + rng.normal(size=54)
    frame["count"] = rng.integers(1, 4, 54)
    return frame


def covariance(fit):
    """G from the printed sds and correlation."""
    a, b, rho = fit.estimates().iloc[:3]
    return np.array([[a * a, a * b * rho], [a * b * rho, b * b]])


def contributions(frame, G, frequency=None):
    """Variances that the effects would add to the observations one by one, averaged; and their covariance."""
    total, count = np.zeros((2, 2)), 0
    for row, x in enumerate(frame.x):
        times = 1 if frequency is None else int(frequency[row])
        total += times * np.array([[G[0, 0], 0.0], [0.0, x * x * G[1, 1]]])
        count += times
    size = np.sqrt(np.diag(total) / count)
    return size[:, None] * G / np.sqrt(np.outer(np.diag(G), np.diag(G))) * size


@pytest.mark.parametrize("shift", [0.0, -2.0, 30.0])
@pytest.mark.parametrize("counted", [False, True])
def test_components_are_those_of_what_effects_add_to_observations(shift, counted):
    frame = data(shift)
    frequency = frame["count"].to_numpy() if counted else None
    fit = bl.Model("y ~ x + (x | g)", frame, frequency=frequency).fit()
    own = principal_components(fit.design, fit.optimum.terms, fit.sigma)[0]
    S = contributions(frame, covariance(fit), frequency)
    values, vectors = np.linalg.eigh(S)
    # Roots of the small eigenvalue of S lose as many digits as it is smaller.
    assert own.sd**2 == pytest.approx(values[::-1], abs=1e-9 * values[1])
    assert np.abs(own.loadings.T @ vectors[:, ::-1]) == pytest.approx(np.eye(2), abs=1e-6)


def test_components_do_not_depend_on_units_but_on_the_zero_of_a_predictor():
    def sds(frame):
        fit = bl.Model("y ~ x + (x | g)", frame).fit()
        return principal_components(fit.design, fit.optimum.terms, fit.sigma)[0].sd

    frame = data()
    assert sds(frame.assign(x=1e5 * frame.x)) == pytest.approx(sds(frame), rel=1e-6)
    assert sds(frame.assign(x=frame.x + 30.0))[0] > 5.0 * sds(frame)[0]


@pytest.mark.parametrize("shift", [0.0, 30.0])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_share_of_a_slope_is_what_it_adds_to_observations(shift, share):
    frame = data(shift)
    fit = bl.Model("y ~ x + (x | g)", frame).fit()
    T = with_share(fit.cp, fit.optimum.terms[0], 0, 1, share)
    G = T @ T.T
    added = np.mean([x * x * G[1, 1] for x in frame.x])
    assert added / (added + 1.0) == pytest.approx(share, rel=1e-12)
    assert G[0, 1] == pytest.approx(0.0, abs=1e-12 * np.sqrt(G[0, 0] * G[1, 1]))
    assert G[0, 0] * fit.sigma**2 == pytest.approx(covariance(fit)[0, 0], rel=1e-9)
