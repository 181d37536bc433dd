"""The largest of correlated t statistics: closed forms, SciPy's studentised range, and plain simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from bayeslmm.means import studentised
from bayeslmm.means.max_t import directions


def all_pairs(k: int) -> np.ndarray:
    rows = [np.eye(k)[i] - np.eye(k)[j] for i, j in combinations(range(k), 2)]
    C = np.array(rows) / np.sqrt(2.0)
    return C @ C.T


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize(("t", "df"), [(1.0, 5.0), (2.5, 45.3), (4.0, 12.0), (3.0, np.inf)])
def test_all_pairs_are_the_studentised_range(k: int, t: float, df: float) -> None:
    """Singular correlations of rank 1, 2, 3: both rules converge geometrically."""
    found = directions(all_pairs(k))
    assert found.error(t, df) == 0.0
    assert found.upper(t, df) == pytest.approx(stats.studentized_range.sf(t * np.sqrt(2), k, df), abs=1e-9)


def test_the_case_that_scipy_gets_wrong() -> None:
    """mvtnorm: .046713 for df 10, correlation 1/2 of three pairs among which one is the difference of the others."""
    correlation = all_pairs(3)
    t = stats.studentized_range.isf(0.046713, 3, 10) / np.sqrt(2)
    assert directions(correlation).upper(t, 10.0) == pytest.approx(0.046713, abs=1e-9)
    cdf = stats.multivariate_t(shape=correlation, df=10, allow_singular=True, seed=1).cdf
    wrong = 1 - cdf(np.full(3, t), lower_limit=np.full(3, -t))
    assert abs(wrong - 0.046713) > 0.01


@pytest.mark.parametrize("k", [5, 6, 8])
@pytest.mark.parametrize(("t", "df"), [(2.0, 10.0), (3.0, 45.3)])
def test_sampled_directions_say_how_far_they_are_off(k: int, t: float, df: float) -> None:
    found = directions(all_pairs(k))
    exact = stats.studentized_range.sf(t * np.sqrt(2), k, df)
    error = found.error(t, df)
    # Each BLAS kernel has its own basis of the contrasts, and with it other points: 6e-5 to 1.3e-4 for k = 8. An error
    # that is estimated from eight scramblings is twice its expectation at most, 1 in 10,000.
    assert 0 < error < 2e-4
    # Eight scramblings: a t distribution with 7 degrees of freedom, 1 in 10,000.
    assert abs(found.upper(t, df) - exact) < 7.1 * error


def test_independent_statistics_have_a_product() -> None:
    for m in (2, 3):
        expected = 1 - (1 - 2 * stats.norm.sf(2.2)) ** m
        assert directions(np.eye(m)).upper(2.2, np.inf) == pytest.approx(expected, rel=1e-10)


def test_opposites_and_copies_are_one_statistic() -> None:
    R = np.array([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    assert directions(R).upper(2.1, 7.5) == pytest.approx(2 * stats.t.sf(2.1, 7.5), rel=1e-12)


@pytest.mark.parametrize("rank", [2, 3])
def test_any_correlation_beside_a_simulation(rank: int) -> None:
    rng = np.random.default_rng(7)
    A = rng.normal(size=(6, rank))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    n, t, df = 400_000, 2.3, 8.0
    draws = np.abs(rng.normal(size=(n, rank)) @ A.T).max(axis=1) / np.sqrt(rng.chisquare(df, n) / df)
    share = np.mean(draws > t)
    assert abs(directions(A @ A.T).upper(t, df) - share) < 4.5 * np.sqrt(share * (1 - share) / n)


def test_nearly_parallel_statistics_do_not_spoil_the_rule() -> None:
    """Edges close to the points of contact: the limit is that of fewer statistics."""
    base = np.eye(3)
    near = np.vstack([base, base[0] + [0, 1e-7, 0]])
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    exact = 1 - (1 - 2 * stats.norm.sf(2.2)) ** 3
    assert directions(near @ near.T).upper(2.2, np.inf) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(("k", "df"), [(2, 1.3), (3, 2.0), (4, 45.0), (10, 12.0), (20, 30.0)])
def test_the_studentised_range(k: int, df: float) -> None:
    q = np.array([0.5, 2.0, 3.5, 9.0])
    found = studentised.upper(q, k, np.full(4, df))
    expected = 2 * stats.t.sf(q / np.sqrt(2), df) if k == 2 else stats.studentized_range.sf(q, k, df)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert studentised.upper(np.array([studentised.critical(0.95, k, df)]), k, np.array([df]))[0] == pytest.approx(0.05)


def test_critical_values_invert_the_tail() -> None:
    found = directions(all_pairs(4))
    for df in (3.7, 45.0, np.inf):
        assert found.upper(found.critical(0.9, df), df) == pytest.approx(0.1, abs=1e-10)
