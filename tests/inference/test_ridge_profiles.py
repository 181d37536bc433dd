"""Profile intervals of fits whose variances cannot all be told apart: where the ridge ends, and at what cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import chdtri

import bayeslmm as bl
from bayeslmm.inference.profile_criterion import ProfiledCriterion

LEVELS, SIZE = 8, 3
pytestmark = pytest.mark.filterwarnings("ignore:Not identified")


@pytest.fixture
def evaluations(monkeypatch):
    """How many points the criterion and its derivatives were evaluated at."""
    counted, expand = [0], ProfiledCriterion.expand

    def counting(self, x, *rest):
        counted[0] += len(x)
        return expand(self, x, *rest)

    monkeypatch.setattr(ProfiledCriterion, "expand", counting)
    return counted


def table(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    f, g = np.tile(list("abc"), LEVELS), np.repeat(np.arange(LEVELS), SIZE)
    return pd.DataFrame({"y": rng.normal(size=LEVELS)[g] + rng.normal(size=g.size), "f": f, "g": g})


def lowest_correlation(frame: pd.DataFrame) -> float:
    """In closed form: the covariance of a level has eigenvalues a (once) and b, whose ratio is largest at sigma = 0.

    REML of the two: n_a log a + S_a / a + n_b log b + S_b / b. With correlation r and no residual a / b is
    (1 + 2 r) / (1 - r), and b = (S_a / ratio + S_b) / (n_a + n_b). A residual takes from correlations:
    the lowest has none as long as it is positive.
    """
    y = frame["y"].to_numpy().reshape(LEVELS, SIZE)
    y = y - y.mean(axis=0)
    means = y.mean(axis=1)
    between, within = SIZE * (means**2).sum(), ((y - means[:, None]) ** 2).sum()
    n_a, n_b = LEVELS - 1, (LEVELS - 1) * (SIZE - 1)
    least = n_a * np.log(between / n_a) + n_b * np.log(within / n_b) + n_a + n_b

    def rise(r: float) -> float:
        ratio = (1.0 + 2.0 * r) / (1.0 - r)
        b = (between / ratio + within) / (n_a + n_b)
        return n_a * np.log(ratio) + (n_a + n_b) * (np.log(b) + 1.0) - least - float(chdtri(1, 0.05))

    best = between / n_a / (within / n_b)
    return brentq(rise, -0.49, (best - 1.0) / (best + 2.0), xtol=1e-14)


@pytest.mark.parametrize("seed", [2, 3, 12])
def test_a_ridge_is_followed_to_a_residual_of_zero_in_few_steps(evaluations, seed):
    frame = table(seed)
    fit = bl.Model("y ~ f + cs(0 + f | g)", frame, saturated="allow").fit(on_failure="ignore")
    assert fit.status.name == "not_identified"
    low, high = fit.confint(parameters="corr_g[cs]").iloc[0]
    expected = lowest_correlation(frame)
    assert expected > 0
    assert low == pytest.approx(expected, rel=1e-7)
    assert high == 1.0
    # one Newton step of one half after the other would be thousands
    assert evaluations[0] < 600


def lowest_of_two(frame: pd.DataFrame, first: int, second: int) -> float:
    """Lower end for the correlation of two effects whose covariances are as they like, with no residual left.

    Minimised over all else, REML rises by n log((1 - r s)^2 / (1 - r^2) / (1 - s^2)) from the sample's s to r.
    A residual takes from correlations, so that none has the lowest while they are positive.
    """
    y = frame["y"].to_numpy().reshape(LEVELS, SIZE)
    s = np.corrcoef(y.T)[first, second]

    def rise(r: float) -> float:
        return (LEVELS - 1) * np.log((1 - r * s) ** 2 / (1 - r * r) / (1 - s * s)) - float(chdtri(1, 0.05))

    return brentq(rise, -1.0 + 1e-12, s, xtol=1e-14)


def test_a_correlation_held_is_not_left_through_a_variance_of_zero(evaluations):
    frame = table(8)
    fit = bl.Model("y ~ f + (0 + f | g)", frame, saturated="allow").fit(on_failure="ignore")
    expected = lowest_of_two(frame, 1, 2)
    assert expected > 0
    low, high = fit.confint(parameters="corr_g[f[b].f[c]]").iloc[0]
    assert low == pytest.approx(expected, rel=1e-6)
    assert high == 1.0
    assert evaluations[0] < 1500
