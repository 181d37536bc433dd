"""With very unequal levels the criterion has several local minima; fits are the lowest of them.

The criterion is written out from the eigenvalues of the dense marginal covariance, and minimised by a fine grid over
the ratio of variances with golden-section steps around its lowest points, for every simulated response.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.rlrt import estimate_ratio
from bayeslmm.inference.spectral import spectrum
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise
from bayeslmm.reml.many import optimise_many

# -2 log likelihood.
GAP = 1e-7
DESIGNS = {
    "small": ("y ~ x + (1 | g)", [1, 2, 2, 3, 9, 20]),
    "two large": ("y ~ 1 + (1 | g)", [1, 1, 1, 400, 400]),
    "pairs": ("y ~ 1 + (1 | g)", [2] * 10 + [100] * 2),
    "one large": ("y ~ 1 + (1 | g)", [1, 1, 1, 1, 600]),
    "five sizes": ("y ~ 1 + (1 | g)", [1] * 6 + [30, 200, 700]),
    "slopes": ("y ~ x + (0 + x | g)", [3, 3, 4, 9, 200]),
}
K = 1700


def frame(name: str) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(len(DESIGNS[name][1])), DESIGNS[name][1])
    x = rng.normal(size=g.size) * np.where(g % 2, 1.0, 0.05)
    return pd.DataFrame({"g": g, "x": x, "y": rng.normal(size=g.size)})


def responses(name: str, data: pd.DataFrame) -> np.ndarray:
    """Heavy-tailed effects, so that single small levels lie far out; a third without any."""
    rng = np.random.default_rng(4)
    sd = np.resize([0.0, 0.0, 0.2, 0.6, 1.5, 6.0], K)
    effects = (rng.standard_t(2, size=(len(DESIGNS[name][1]), K)) * sd)[data["g"]]
    if name == "slopes":
        effects = effects * data["x"].to_numpy()[:, None]
    return effects + rng.normal(size=effects.shape)


class Dense:
    """-2 log (restricted) likelihood over sigma for a given ratio of variances, by dense linear algebra."""

    def __init__(self, name: str, data: pd.DataFrame, Y: np.ndarray, reml: bool) -> None:
        n = len(data)
        Z = (data["g"].to_numpy()[:, None] == np.arange(data["g"].max() + 1)).astype(float)
        X = np.ones((n, 1))
        if "x" in DESIGNS[name][0]:
            X = np.column_stack([X, data["x"]])
        if name == "slopes":
            Z = Z * data["x"].to_numpy()[:, None]
        # The non-zero eigenvalues of MZZ'M for contrasts, of ZZ' for the determinant.
        MZ = Z - X @ np.linalg.lstsq(X, Z)[0]
        U, s, _ = np.linalg.svd(MZ, full_matrices=False)
        kept = s > 1e-9 * s[0]
        MY = Y - X @ np.linalg.lstsq(X, Y)[0]
        self.mu, self.squares = s[kept] ** 2, (U[:, kept].T @ MY) ** 2
        self.rest = (MY**2).sum(0) - self.squares.sum(0)
        self.nu = n - X.shape[1] if reml else n
        self.xi = self.mu if reml else np.linalg.svd(Z, compute_uv=False) ** 2
        self.constant = self.nu * (1 + np.log(2 * np.pi / self.nu))
        if reml:
            self.constant += np.linalg.slogdet(X.T @ X)[1]

    def __call__(self, lam: np.ndarray) -> np.ndarray:
        """Lambda (K, m), one row per response."""
        D = self.rest[:, None] + np.einsum("rk,kmr->km", self.squares, 1 / (1 + lam[..., None] * self.mu))
        return self.nu * np.log(D) + np.log1p(lam[..., None] * self.xi).sum(-1) + self.constant

    def lowest(self) -> np.ndarray:
        grid = np.append(0.0, np.geomspace(1e-6, 1e6, 250))
        values = np.concatenate([self(np.full((self.rest.size, 1), lam)) for lam in grid], axis=1)
        i = np.clip(values.argmin(1), 1, grid.size - 2)
        low, high = grid[i - 1], grid[i + 1]
        for _ in range(40):
            a, b = low + 0.382 * (high - low), low + 0.618 * (high - low)
            left, right = self(np.column_stack([a, b])).T
            low, high = np.where(left <= right, low, a), np.where(left <= right, b, high)
        return np.minimum(values.min(1), self(0.5 * (low + high)[:, None])[:, 0])


@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
@pytest.mark.parametrize("name", list(DESIGNS))
def test_no_fit_is_worse_than_the_lowest_minimum(name: str, reml: bool) -> None:
    data = frame(name)
    cp = cross_products(bl.Model(DESIGNS[name][0], data).design)
    Y = responses(name, data)
    dense = Dense(name, data, Y, reml)
    many = optimise_many(cp, Y, reml)
    np.testing.assert_allclose(many.criterion, dense(many.theta**2)[:, 0], rtol=1e-10, atol=1e-7)
    assert (many.criterion - dense.lowest()).max() < GAP
    # And alone, where two minima compete: the best on either side of a small ratio are within one unit.
    zero, best = dense(np.zeros((K, 1)))[:, 0], many.criterion
    close = np.flatnonzero((np.abs(zero - best) < 1.0) & ((many.theta[:, 0] > 0.3) | (many.theta[:, 0] == 0)))[:12]
    assert close.size
    for k in close:
        alone = optimise(cross_products(replace(cp.design, y=Y[:, k])), reml)
        assert alone.criterion == pytest.approx(many.criterion[k], abs=GAP)


def test_global_maximiser_of_the_restricted_likelihood_agrees() -> None:
    data = frame("two large")
    cp = cross_products(bl.Model(DESIGNS["two large"][0], data).design)
    Y = responses("two large", data)
    ratio = estimate_ratio(spectrum(cp.design, 0, (0,), Y))
    found = optimise_many(cp, Y).theta[:, 0] ** 2
    np.testing.assert_array_equal(found == 0, ratio == 0)
    np.testing.assert_allclose(found, ratio, rtol=1e-5)


def far_from_zero() -> pd.DataFrame:
    """A response with a local minimum at a large variance, and a lower one at zero."""
    g = np.repeat(np.arange(5), [1, 1, 1, 400, 400])
    e = np.random.default_rng(0).normal(size=803)
    e[3:403] -= e[3:403].mean()
    e[403:] -= e[403:].mean()
    e[:3] = [3.7, -0.3, 0.2]
    e[3:403] += 0.02
    return pd.DataFrame({"y": e, "g": g, "h": np.arange(803) % 7})


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_zero_is_found_beside_a_local_minimum(scale: float) -> None:
    data = far_from_zero()
    data["y"] = 5.0 * scale + scale * data["y"]
    fit = bl.Model("y ~ 1 + (1 | g)", data).fit()
    assert fit.is_singular
    assert fit.theta[0] == 0.0
    residual = data["y"] - data["y"].mean()
    n = len(data)
    expected = (n - 1) * (1 + np.log(2 * np.pi * (residual @ residual) / (n - 1))) + np.log(n)
    assert fit.criterion == pytest.approx(expected, abs=1e-7)


def test_zero_of_one_term_is_found_beside_others() -> None:
    data = far_from_zero()
    data["y"] += np.array([3.0, -2.0, 1.0, 0.5, -1.5, 2.0, -3.0])[data["h"]]
    without = bl.Model("y ~ 1 + (1 | h)", data).fit()
    for formula in ("y ~ 1 + (1 | g) + (1 | h)", "y ~ 1 + (1 | h) + (1 | g)"):
        fit = bl.Model(formula, data).fit()
        assert fit.criterion <= without.criterion + GAP
        many = fit.refit_many(data["y"].to_numpy()[:, None])
        assert many.criterion[0] == pytest.approx(fit.criterion, abs=GAP)


def test_held_terms_stay() -> None:
    data = far_from_zero()
    fit = bl.Model("y ~ 1 + (1 | g) + (1 | h)", data).fit(fix={"h": [0.4]})
    assert fit.theta.tolist() == [0.0, 0.4]
    held = bl.Model("y ~ 1 + (1 | g)", data).fit(fix={"g": [1.2]})
    assert held.theta.tolist() == [1.2]
