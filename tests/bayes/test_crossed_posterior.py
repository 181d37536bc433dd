"""Posteriors of correlated crossed effects, one block with a correlation of 1, one with an sd of zero.

The reference shares nothing with the sampler: dense covariance matrices, sds, correlations and sigma on coordinates of
its own, and importance weights of its own, of which the draws only say where to look.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import halfnorm, multivariate_t

import bayeslmm as bl

SCALE, POINTS = 2.0, 6000
PRIORS = {"sd": bl.HalfNormal(SCALE), "sigma": bl.HalfNormal(SCALE), "lkj": 1.0}

IS_CORRELATION = np.isin(np.arange(7), (2, 5))


@cache
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    subject, item = (v.ravel() for v in np.meshgrid(np.arange(12), np.arange(8), indexing="ij"))
    x = np.where((subject + item) % 2 == 0, 1.0, -1.0)
    of_subject, of_item = rng.normal(size=12), rng.normal(size=8)
    # Slopes of subjects are half of their intercepts; items have none.
    y = 1.0 + 0.4 * x + of_subject[subject] * (1.0 + 0.5 * x) + 0.6 * of_item[item] + rng.normal(size=x.size)
    table = pd.DataFrame({"y": y, "x": x, "subject": subject, "item": item})
    return table[rng.random(x.size) < 0.9].reset_index(drop=True)


def posterior(seed: int) -> bl.Posterior:
    return bl.Model("y ~ x + (x | subject) + (x | item)", frame()).sample(priors=PRIORS, random_seed=seed)


def parameters(post: bl.Posterior) -> np.ndarray:
    """Draws (S, 7): sds and correlation of subjects, of items, and sigma."""
    data = post.data["posterior"]
    parts = []
    for group in ("subject", "item"):
        sd, corr = (np.asarray(data[f"{name}_{group}"]).reshape(4000, -1) for name in ("sd", "corr"))
        parts += [sd, corr[:, :1]]
    return np.column_stack([*parts, np.asarray(data["sigma"]).reshape(4000, 1)])


def natural(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (K, 7) from logs of sds and atanh of correlations, and the log Jacobian (K,)."""
    out = np.where(IS_CORRELATION, np.tanh(z), np.exp(z))
    slopes = np.where(IS_CORRELATION, np.log1p(-np.minimum(np.tanh(z) ** 2, 1.0 - 1e-15)), z)
    return out, slopes.sum(1)


def log_density(p: np.ndarray) -> np.ndarray:
    """Log of likelihood (beta integrated out) times prior, by dense matrices."""
    data = frame()
    y, X = data["y"].to_numpy(), np.column_stack([np.ones(len(data)), data["x"]])
    same = [np.equal.outer(c, c).astype(float) for c in (data["subject"].to_numpy(), data["item"].to_numpy())]
    x = data["x"].to_numpy()
    shapes = [np.ones((x.size, x.size)), np.add.outer(x, x), np.multiply.outer(x, x)]
    found = []
    for part in np.array_split(p, max(1, len(p) // 200)):
        V = part[:, 6, None, None] ** 2 * np.eye(y.size)
        for group, (a, b, r) in zip(same, (part[:, :3].T, part[:, 3:6].T), strict=True):
            for weight, shape in zip((a**2, r * a * b, b**2), shapes, strict=True):
                V = V + weight[:, None, None] * (group * shape)
        L = np.linalg.cholesky(V)
        half = np.linalg.solve(L, np.broadcast_to(np.column_stack([X, y]), (len(part), y.size, 3)))
        C = np.linalg.cholesky(half.mT @ half)
        logs = [2.0 * np.log(np.diagonal(M, axis1=1, axis2=2)) for M in (L, C[:, :2, :2])]
        found.append(-0.5 * (logs[0].sum(1) + logs[1].sum(1) + C[:, 2, 2] ** 2))
    return np.concatenate(found) + halfnorm.logpdf(p[:, [0, 1, 3, 4, 6]], scale=SCALE).sum(1)


def test_means_are_those_of_dense_importance_sampling() -> None:
    draws = parameters(posterior(1))
    z = np.log(np.where(IS_CORRELATION, 1.0, draws))
    z[:, IS_CORRELATION] = np.arctanh(np.clip(draws[:, IS_CORRELATION], -1 + 1e-12, 1 - 1e-12))
    proposal = multivariate_t(z.mean(0), 1.3 * np.cov(z.T), df=4, seed=4)
    at = proposal.rvs(POINTS)
    # Beyond that the prior leaves exp(-50).
    at = at[(at[:, ~IS_CORRELATION] < np.log(10.0 * SCALE)).all(axis=1)]
    p, log_slope = natural(at)
    log_weights = log_density(p) + log_slope - proposal.logpdf(at)
    w = np.exp(log_weights - logsumexp(log_weights))
    effective = 1.0 / (w**2).sum()
    assert effective > 1500.0
    for f in (lambda v: v, np.square, lambda v: (np.abs(v) < 0.2).astype(float)):
        expected, found = w @ f(p), f(draws)
        error = np.sqrt(w @ (f(p) - expected) ** 2 * (1.0 / effective + 1.0 / 2000.0)) + 1e-3
        assert (np.abs(found.mean(0) - expected) / error).max() < 4.0


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_has_the_same_method_and_sound_weights(seed: int) -> None:
    found = posterior(seed).diagnostics
    assert found.method == "importance" and found.reliable
    assert found.pareto_k < 0.5 and found.largest_weight < 20.0 and found.efficiency > 0.6
