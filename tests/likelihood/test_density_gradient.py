"""Value and gradient of the marginal density against the dense n x n Gaussian density, zero variances included."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.likelihood import NormalPrior, cross_products
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.density_gradient import density_gradient
from bayeslmm.likelihood.levels import Levels

FORMULAS = {
    "one-way": "y ~ x + (1 | g)",
    "slopes": "y ~ x + (x | g)",
    "nested": "y ~ x + (1 | g) + (1 | g:k)",
    "slopes and crossed": "y ~ x + (x | g) + (1 | h)",
    "two terms of a factor": "y ~ x + (1 | g) + (0 + x + z | g) + (z || h)",
    "shared": "y ~ x + cs(0 + f | g) + id(1 + x | h)",
    "no fixed effects": "y ~ 0 + (1 | g)",
}
PRIORS = {
    "flat": None,
    "normal": NormalPrior(np.array([8.0, 0.5]), np.array([3.0, 0.7])),
    "partly flat": NormalPrior(np.array([0.0, 0.5]), np.array([np.inf, 0.2])),
}
CASES = [(f, b) for f in FORMULAS for b in PRIORS if f != "no fixed effects" or b == "flat"]
SIGMA = 1.3


@pytest.fixture(params=["levels", "hierarchy"])
def reduced(request: pytest.FixtureRequest) -> Iterator[Callable[[str], SummedDesign]]:
    def build(name: str) -> SummedDesign:
        cp = cross_products(build_design(FORMULAS[name], frame(), weights="w", store=request.param))
        assert isinstance(cp.sums, Levels) == (request.param == "levels")
        return cp

    yield build


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    n = 48
    data = pd.DataFrame(
        {
            "x": rng.normal(3.0, 2.0, n),
            "z": rng.normal(size=n),
            "f": rng.choice(list("abc"), n),
            "g": np.arange(n) % 6,
            "k": (np.arange(n) // 6) % 2,
            "h": rng.integers(0, 4, n),
            "w": rng.uniform(0.4, 2.0, n),
        }
    )
    data["y"] = 5 + data["x"] + rng.normal(size=6)[data["g"]] + rng.normal(size=n)
    return data


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("name", "beta"), CASES)
def test_against_the_dense_density(name: str, beta: str, zero: bool, reduced: Callable[[str], SummedDesign]) -> None:
    cp, prior = reduced(name), PRIORS[beta]
    rng = np.random.default_rng(4)
    terms = [rng.normal(size=(len(t.effects),) * 2) for t in cp.design.terms]
    if zero:
        terms[0] = np.zeros_like(terms[0])
        terms[-1] = np.zeros_like(terms[-1])
        terms[-1][0, 0] = 0.8
    G = [T @ T.T for T in terms]
    found = density_gradient(cp, terms, SIGMA, prior)
    assert found.value == pytest.approx(dense(cp.design, G, SIGMA, prior), rel=1e-10)
    h = 1e-5
    # The step may leave the positive semidefinite matrices; the dense density is smooth there.
    for k, slope in enumerate(found.covariances):
        for a, b in zip(*np.triu_indices(G[k].shape[0]), strict=True):
            up, down = ([g.copy() for g in G] for _ in range(2))
            for moved, step in ((up, h), (down, -h)):
                moved[k][a, b] += step
                moved[k][b, a] += step * (a != b)
            numeric = (dense(cp.design, up, SIGMA, prior) - dense(cp.design, down, SIGMA, prior)) / (2 * h)
            assert slope[a, b] * (1 + (a != b)) == pytest.approx(numeric, rel=2e-5, abs=2e-5)
    numeric = (dense(cp.design, G, SIGMA * np.exp(h), prior) - dense(cp.design, G, SIGMA * np.exp(-h), prior)) / (2 * h)
    assert found.log_sigma == pytest.approx(numeric, rel=1e-6, abs=1e-5)


def test_in_factors_is_the_chain_rule(reduced: Callable[[str], SummedDesign]) -> None:
    cp = reduced("slopes and crossed")
    terms = [np.array([[0.7, 0.0], [-0.4, 0.0]]), np.array([[-0.3]])]
    slopes = density_gradient(cp, terms, SIGMA).in_factors(terms)
    h = 1e-5
    for k, slope in enumerate(slopes):
        for i in np.ndindex(slope.shape):
            values = []
            for step in (h, -h):
                moved = [T.copy() for T in terms]
                moved[k][i] += step
                values.append(dense(cp.design, [T @ T.T for T in moved], SIGMA, None))
            assert slope[i] == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-5)


def dense(design: Design, G: list[np.ndarray], sigma: float, prior: NormalPrior | None) -> float:
    """-2 log p(y) from n x n matrices; coefficients without a proper prior are integrated over a flat one."""
    V = np.diag(1.0 / design.weights) if design.weights is not None else np.eye(design.n)
    for term, covariance in zip(design.terms, G, strict=True):
        codes = design.groupings[term.group].codes
        V = V + (term.Z @ covariance @ term.Z.T) * (codes[:, None] == codes)
    V = sigma**2 * V
    X, y = design.X, design.y
    proper = np.zeros(design.p, dtype=bool) if prior is None else np.isfinite(prior.sd)
    if prior is not None:
        V = V + X[:, proper] @ np.diag(prior.sd[proper] ** 2) @ X[:, proper].T
        y = y - X[:, proper] @ prior.mean[proper]
    flat = X[:, ~proper]
    inverse = np.linalg.inv(V)
    information = flat.T @ inverse @ flat
    beta = np.linalg.solve(information, flat.T @ inverse @ y)
    residual = y - flat @ beta
    n = design.n - flat.shape[1]
    return float(
        n * np.log(2 * np.pi)
        + np.linalg.slogdet(V)[1]
        + np.linalg.slogdet(information)[1]
        + residual @ inverse @ residual
    )
