"""Draws of all effects of large designs: conditional means and covariances by dense linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag

from bayeslmm.design import build_design
from bayeslmm.likelihood import Conditional, NormalPrior, SummedDesign, cross_products
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import joint_draws as draws_by_reference
from bayeslmm.likelihood.hierarchy import Hierarchy

FORMULAS = {
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "nested chain": "y ~ x + (1 | a) + (1 | a:b) + (1 | a:b:c)",
    "chain and crossed": "y ~ x + (1 | a) + (1 | a:b) + (1 | h)",
    "slopes in the chain": "y ~ x + (x | a) + (x | a:b)",
    "slopes in the dense block": "y ~ x + (x | g) + (0 + f | h)",
    "slopes in both": "y ~ x + (z | a) + (x | a:b) + (x || h) + (1 | g)",
    "several terms of a factor": "y ~ x + (1 | a) + (0 + x | a) + (z | g) + (1 | h)",
    "no fixed effects": "y ~ 0 + (1 | g) + (x | h)",
    "three fixed effects": "y ~ f + (x | g) + (1 | h)",
}
# In units of posterior standard deviations; the solver stops at 1e-6 of all effects together.
EXACT = 3e-6
# The solver's own bound for a draw that it hands out.
LOOSE = 1e-4
# Where an sd is a millionth of the others' the recurrence of residuals drifts by rounding.
DRIFT = 1e-2
SIGMA = 1.3


@pytest.fixture(autouse=True, params=["few effects in the factored system", "no effects in it"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small designs have few effects in every block: half of the runs treat them as blocks of many."""
    if request.param == "no effects in it":
        from bayeslmm.likelihood import last_blocks

        monkeypatch.setattr(last_blocks, "_FEW", 0)


class Silent:
    """A generator whose normal deviates are all zero: draws are conditional means."""

    def standard_normal(self, size: tuple[int, ...]) -> np.ndarray:
        return np.zeros(size)


def frame(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    c = np.r_[np.arange(36), rng.integers(0, 36, n - 36)]
    data = pd.DataFrame(
        {
            "x": rng.normal(1.0, 1.0, n),
            "z": 30 * rng.normal(size=n),
            "f": rng.choice(list("pqr"), n),
            "a": c // 9,
            "b": c // 3 % 3,
            "c": c % 3,
            "g": rng.integers(0, 8, n),
            "h": rng.integers(0, 6, n),
            "w": rng.uniform(0.2, 4.0, n),
        }
    )
    data["y"] = 50 + 2 * data["x"] + rng.normal(size=8)[data["g"]] + rng.normal(size=4)[data["a"]] + rng.normal(size=n)
    return data


def build(formula: str, weighted: bool = False, data: pd.DataFrame | None = None) -> SummedDesign:
    """Small designs are stored as large ones."""
    table, weights = frame() if data is None else data, "w" if weighted else None
    cp = cross_products(build_design(formula, table, weights=weights, store="hierarchy"))
    assert isinstance(cp.sums, Hierarchy)
    return cp


def random_factors(cp: SummedDesign, count: int, spread: float, seed: int = 0) -> list[np.ndarray]:
    """Lower triangular relative factors (count, c, c) of every term on the user's columns."""
    rng = np.random.default_rng(seed)
    out = []
    for term in cp.design.terms:
        c = len(term.effects)
        T = np.tril(rng.normal(size=(count, c, c)))
        if len(term.structure.rows) == c:
            T = T * np.eye(c)
        scale = np.exp(spread * rng.normal(size=(count, 1, 1))) / np.sqrt((term.Z**2).mean(0))[:, None]
        out.append(scale * T)
    return out


def dense(
    cp: SummedDesign, terms: list[np.ndarray], sigma: float, prior: NormalPrior | None
) -> tuple[np.ndarray, np.ndarray]:
    """Conditional mean and covariance of (beta, b), b term by term and level by level, by one dense QR.

    Least squares on ``[Z Lambda, X; I, 0]`` with a row for every proper normal prior: as good as binary64 allows.
    """
    design, p = cp.design, cp.p
    root = np.ones(design.n) if design.weights is None else np.sqrt(design.weights)
    columns, relative = [], []
    for term, T in zip(design.terms, terms, strict=True):
        J, c = design.groupings[term.group].n_levels, len(term.effects)
        indicator = np.eye(J)[design.groupings[term.group].codes]
        columns.append((indicator[:, :, None] * (term.Z @ T)[:, None, :]).reshape(design.n, J * c))
        relative.append(np.kron(np.eye(J), T))
    q = sum(part.shape[1] for part in columns)
    Lambda = block_diag(np.eye(p), *relative)
    A = np.block(
        [
            [root[:, None] * design.X, root[:, None] * np.concatenate(columns, axis=1)],
            [np.zeros((q, p)), np.eye(q)],
        ]
    )
    y = np.r_[root * design.y, np.zeros(q)]
    if prior is not None:
        shrink = sigma / prior.sd
        A = np.concatenate([A, np.eye(p, p + q) * shrink[:, None]])
        y = np.r_[y, shrink * prior.mean]
    Q, R = np.linalg.qr(A)
    half = sigma * Lambda @ np.linalg.inv(R)
    return Lambda @ np.linalg.solve(R, Q.T @ y), half @ half.T


def by_term(cp: SummedDesign, drawn: Conditional) -> np.ndarray:
    """Draws (K, p + q) in the order of `dense`."""
    parts = {}
    for block, values in zip(cp.blocks, drawn.b, strict=True):
        for term, columns in zip(block.terms, block.slices, strict=True):
            parts[term] = values[..., columns].reshape(values.shape[0], -1)
    return np.concatenate([drawn.beta, *(parts[k] for k in sorted(parts))], axis=1)


def check_means(
    cp: SummedDesign, terms: list[np.ndarray], prior: NormalPrior | None = None, tolerance: float = EXACT
) -> None:
    count = terms[0].shape[0]
    sigma = SIGMA * np.exp(0.3 * np.random.default_rng(8).normal(size=count))
    drawn = by_term(cp, draws_by_reference(cp, par.block_factors(cp, terms), sigma, Silent(), prior))  # type: ignore[arg-type]
    for k in range(count):
        mean, covariance = dense(cp, [T[k] for T in terms], sigma[k], prior)
        sd = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        error = np.abs(drawn[k] - mean)
        # The prediction of y, which is about 50, has lost some digits in both.
        assert (error <= tolerance * sd + 1e-11 * np.abs(mean)).all(), (k, (error / sd).max())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FORMULAS)
def test_without_noise_every_draw_is_the_conditional_mean(name: str, weighted: bool) -> None:
    cp = build(FORMULAS[name], weighted)
    check_means(cp, random_factors(cp, 40, 0.3))


@pytest.mark.parametrize("name", ["crossed", "chain and crossed", "slopes in both", "three fixed effects"])
def test_very_different_sds_in_one_call(name: str) -> None:
    cp = build(FORMULAS[name])
    check_means(cp, random_factors(cp, 60, 3.0), tolerance=LOOSE)


@pytest.mark.parametrize("flat", [False, True], ids=["proper", "partly flat"])
@pytest.mark.parametrize("name", ["crossed", "slopes in the chain", "slopes in both", "three fixed effects"])
def test_normal_prior_on_the_fixed_effects(name: str, flat: bool) -> None:
    cp = build(FORMULAS[name], True)
    sd = np.full(cp.p, 0.4)
    mean = np.linspace(-1.0, 1.0, cp.p)
    if flat:
        sd[0] = np.inf
        mean[0] = 0.0
    check_means(cp, random_factors(cp, 20, 0.5), NormalPrior(mean, sd))


@pytest.mark.parametrize("name", ["slopes in the chain", "slopes in the dense block", "slopes in both"])
@pytest.mark.parametrize("kind", ["one sd vanishes", "nearly perfect correlations", "both kinds in one call"])
def test_nearly_singular_covariances(name: str, kind: str) -> None:
    cp = build(FORMULAS[name])
    terms = random_factors(cp, 24, 0.3)
    for T in terms:
        c = T.shape[-1]
        if c == 1:
            continue
        tiny = np.ones((24, c, 1))
        if kind != "nearly perfect correlations":
            tiny[::2, -1] = 1e-6
        if kind != "one sd vanishes" and (T[:, 1, 0] != 0).any():
            sds = np.sqrt((T[1::2] ** 2).sum(-1))
            T[1::2] = 0.0
            T[1::2, :, 0] = 0.9999 * sds
            T[1::2, np.arange(1, c), np.arange(1, c)] = np.sqrt(1 - 0.9999**2) * sds[:, 1:]
            T[1::2, 0, 0] = sds[:, 0]
        T *= tiny
    check_means(cp, terms, tolerance=LOOSE if kind == "nearly perfect correlations" else DRIFT)


@pytest.mark.parametrize("name", ["crossed", "chain and crossed"])
def test_sds_of_zero_among_the_draws(name: str) -> None:
    cp = build(FORMULAS[name])
    terms = random_factors(cp, 12, 0.3)
    for k, T in enumerate(terms):
        T[k::4] = 0.0
    sigma = np.full(12, SIGMA)
    drawn = by_term(cp, draws_by_reference(cp, par.block_factors(cp, terms), sigma, Silent()))  # type: ignore[arg-type]
    noisy = by_term(cp, draws_by_reference(cp, par.block_factors(cp, terms), sigma, np.random.default_rng(0)))
    for k in range(12):
        mean, covariance = dense(cp, [T[k] for T in terms], SIGMA, None)
        sd = np.sqrt(np.diagonal(covariance))
        assert (np.abs(drawn[k] - mean)[sd > 0] <= LOOSE * sd[sd > 0]).all()
        # An effect without variance is zero to what an effect can be seen from zero.
        assert (np.abs(drawn[k][sd == 0]) < 1e-5 * SIGMA).all()
        assert (np.abs(noisy[k][sd == 0]) < 1e-5 * SIGMA).all()


def tiny() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    n = 24
    a = np.arange(n) // 8
    data = pd.DataFrame({"x": rng.normal(size=n), "a": a, "b": np.arange(n) // 4 % 2, "h": np.arange(n) % 3})
    return data.assign(y=rng.normal(size=3)[a] + rng.normal(size=n))


NOISE = {
    "crossed": ("y ~ 1 + (1 | a) + (1 | h)", None),
    "chain and crossed with slopes": ("y ~ x + (1 | a) + (x | a:b) + (1 | h)", None),
    "normal prior": ("y ~ x + (x | a) + (1 | h)", NormalPrior(np.array([0.5, 0.0]), np.array([np.inf, 0.2]))),
}


@pytest.mark.parametrize("change", [1.0, 4.0], ids=["one covariance", "two far apart"])
@pytest.mark.parametrize("name", NOISE)
def test_covariance_of_draws(name: str, change: float) -> None:
    formula, prior = NOISE[name]
    cp = build(formula, data=tiny())
    one = random_factors(cp, 1, 0.1, seed=3)
    half = 6000
    scale = np.r_[np.ones(half), np.full(half, change)][:, None, None]
    terms = [T * (scale if k == 0 else 1 / scale) for k, T in enumerate(one)]
    sigma = np.where(scale[:, 0, 0] == 1, 0.8, 1.7)
    drawn = by_term(cp, draws_by_reference(cp, par.block_factors(cp, terms), sigma, np.random.default_rng(11), prior))
    for part in (slice(0, half), slice(half, None)):
        mean, covariance = dense(cp, [T[part][0] for T in terms], sigma[part][0], prior)
        draws = drawn[part]
        sd = np.sqrt(np.diagonal(covariance))
        z = (draws.mean(0) - mean) / (sd / np.sqrt(half))
        assert np.abs(z).max() < 4.5
        # Covariances of normal draws have the variance (C_ij^2 + C_ii C_jj) / S.
        error = np.sqrt((covariance**2 + np.outer(sd**2, sd**2)) / half)
        assert np.abs((np.cov(draws.T) - covariance) / error).max() < 4.5
        # Kurtosis and independence of successive draws: no draw is used twice.
        standard = (draws - mean) / sd
        assert np.abs(np.mean(standard**4, axis=0) - 3).max() < 4.5 * np.sqrt(96 / half)
        assert np.abs(np.mean(standard[1:] * standard[:-1], axis=0)).max() < 4.5 / np.sqrt(half)


def test_draws_keep_their_places() -> None:
    """Batches are sorted by scale inside: draw k belongs to covariance k, and the report ends with all of them."""
    cp = build("y ~ 1 + (1 | a) + (1 | h)", data=tiny())
    rng = np.random.default_rng(2)
    order = rng.permutation(50)
    ladder = np.exp(np.linspace(-6, 4, 50))[order]
    terms = [ladder[:, None, None], np.full((50, 1, 1), 0.5)]
    seen: list[int] = []
    report: Callable[[int], None] = seen.append
    silent = Silent()
    drawn = draws_by_reference(cp, par.block_factors(cp, terms), np.full(50, SIGMA), silent, report=report)  # type: ignore[arg-type]
    expected = np.array([dense(cp, [T[k] for T in terms], SIGMA, None)[0] for k in range(50)])
    np.testing.assert_allclose(by_term(cp, drawn), expected, atol=1e-5)
    assert seen == sorted(seen) and seen[-1] == 50 and len(seen) > 5


def test_draws_that_do_not_converge_are_made_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.likelihood import joint_draws

    monkeypatch.setattr(joint_draws, "_ITERATIONS", 1)
    cp = build(FORMULAS["slopes in both"], True)
    check_means(cp, random_factors(cp, 15, 1.0), tolerance=LOOSE)
