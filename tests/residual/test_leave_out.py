"""Rows left out under every residual structure, against conditioning by dense linear algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import cross_products
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.leave_out import leave_group_out, leave_one_out

from .members import MEMBERS, REPRESENTATIVES, Member, N

everyone = pytest.mark.parametrize("member", [m for m in REPRESENTATIVES if m.name != "weights far apart"], ids=str)
SIGMA = np.array([1.7, 0.6])
# Two solutions with covariances of condition 1e3 at most.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
GROUPS = {
    "clusters and more": np.repeat([0, 1], [9, 3]),
    "across clusters": np.arange(N) % 4,
    "parts of clusters": np.repeat([0, 1, 2, 3], [2, 4, 5, 1]),
    "single rows": np.arange(N),
}


def _design(member: Member, formula: str) -> Design:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N)})
    frame["g"] = np.repeat(["a", "b", "c"], [5, 4, 3])
    frame["h"], frame["k"] = np.arange(N) % 2 == 0, np.arange(N) % 4
    return replace(bl.Model(formula, frame).design, residual=member.residual)


def _factors(design: Design) -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return [np.tril(rng.normal(size=(2, len(t.effects), len(t.effects)))) for t in design.terms]


def _covariance(design: Design, member: Member, lam: np.ndarray, terms: list[np.ndarray], k: int) -> np.ndarray:
    V = member.dense(lam)
    for term, T in zip(design.terms, terms, strict=True):
        codes = design.groupings[term.group].codes
        V = V + (codes[:, None] == codes) * (term.Z @ T[k] @ T[k].T @ term.Z.T)
    return SIGMA[k] ** 2 * V


def _given(design: Design, V: np.ndarray, noise: np.ndarray, rows: np.ndarray, others: np.ndarray):
    """Mean and covariance of new observations at `rows` given those at `others`, beta flat.

    Where these hold the same rows, the residuals of the new ones are those of rows beside the rest of their clusters:
    what the rest says of them, and what is independent of all that was observed.
    """
    X, A = design.X, np.linalg.inv(V[np.ix_(others, others)])
    joint = V
    if np.intersect1d(rows, others).size:
        rest, joint = np.setdiff1d(others, rows), V - noise
        joint[rows] += noise[np.ix_(rows, rest)] @ np.linalg.inv(noise[np.ix_(rest, rest)]) @ noise[rest]
    B = joint[np.ix_(rows, others)]
    C = np.linalg.inv(X[others].T @ A @ X[others])
    beta = C @ X[others].T @ A @ design.y[others]
    left = X[rows] - B @ A @ X[others]
    mean = X[rows] @ beta + B @ A @ (design.y[others] - X[others] @ beta)
    return mean, V[np.ix_(rows, rows)] - B @ A @ B.T + left @ C @ left.T


@everyone
@pytest.mark.parametrize("formula", ["y ~ 1 + (x | g)", "y ~ x + (1 | g) + (1 | h)"])
def test_single_observations(member: Member, formula: str) -> None:
    design = _design(member, formula)
    cp, terms = cross_products(design), _factors(design)
    for lam in member.points:
        found = leave_one_out(cp, par.block_factors(cp, terms), SIGMA, lam=lam)
        for k, sigma in enumerate(SIGMA):
            V, noise = _covariance(design, member, lam, terms, k), sigma**2 * member.dense(lam)
            for i in range(N):
                rows, others = np.array([i]), np.delete(np.arange(N), i)
                mean, variance = _given(design, V, noise, rows, others)
                sd = np.sqrt(variance[0, 0])
                np.testing.assert_allclose([found.mean[k, i], found.sd[k, i]], [mean[0], sd], **CLOSE)
                np.testing.assert_allclose(found.log_density[k, i], norm.logpdf(design.y[i], mean[0], sd), **CLOSE)
                mean, variance = _given(design, V, noise, rows, np.arange(N))
                kept = norm.logpdf(design.y[i], mean[0], np.sqrt(variance[0, 0]))
                np.testing.assert_allclose(found.log_density_kept[k, i], kept, **CLOSE)


@everyone
@pytest.mark.parametrize("formula", ["y ~ 1 + (x | g)", "y ~ x + (1 | g) + (1 | h)"])
@pytest.mark.parametrize("codes", GROUPS.values(), ids=GROUPS)
def test_groups(member: Member, formula: str, codes: np.ndarray) -> None:
    design = _design(member, formula)
    cp, terms = cross_products(design), _factors(design)
    for lam in member.points:
        found = leave_group_out(cp, par.block_factors(cp, terms), SIGMA, codes, lam=lam)
        for k, sigma in enumerate(SIGMA):
            V, noise = _covariance(design, member, lam, terms, k), sigma**2 * member.dense(lam)
            for g in range(codes.max() + 1):
                rows = np.flatnonzero(codes == g)
                expected = multivariate_normal(*_given(design, V, noise, rows, np.flatnonzero(codes != g)))
                np.testing.assert_allclose(found.log_density[k, g], expected.logpdf(design.y[rows]), **CLOSE)
                expected = multivariate_normal(*_given(design, V, noise, rows, np.arange(N)))
                np.testing.assert_allclose(found.log_density_kept[k, g], expected.logpdf(design.y[rows]), **CLOSE)


def test_a_coefficient_that_rests_on_one_row_is_lost_within_a_cluster() -> None:
    member = MEMBERS[-1]
    design = _design(member, "y ~ 1 + (1 | g)")
    alone = np.eye(N)[:, 3:4]
    design = replace(design, X=np.hstack([design.X, alone]), fixed_names=("Intercept", "alone"))
    cp, terms = cross_products(design), _factors(design)
    found = leave_one_out(cp, par.block_factors(cp, terms), SIGMA, lam=member.points[0])
    assert np.isinf(found.sd[:, 3]).all()
    assert (found.log_density[:, 3] == -np.inf).all()
    assert np.isfinite(np.delete(found.sd, 3, axis=1)).all()
    groups = leave_group_out(cp, par.block_factors(cp, terms), SIGMA, np.arange(N) % 4, lam=member.points[0])
    assert (groups.log_density[:, 3] == -np.inf).all()
    assert np.isfinite(groups.log_density[:, :3]).all()


def test_dependence_across_what_is_eliminated_is_refused() -> None:
    member = MEMBERS[-1]
    design = _design(member, "y ~ x + (1 | g) + (1 | k)")
    cp = cross_products(design)
    with pytest.raises(DesignError, match=r"\(ar1\) across levels of k, and what is asked for"):
        leave_one_out(cp, par.block_factors(cp, _factors(design)), SIGMA, lam=member.points[0])
