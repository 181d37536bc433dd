"""A fit to sums over cells is the fit to the observations: against these, dense algebra and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, kstest, multivariate_normal

import bayeslmm as bl
from bayeslmm.design.observations import standard_residuals

TOLERANCE = 1e-10


def make_data() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    n = 400
    frame = pd.DataFrame({"g": rng.integers(0, 9, n), "h": rng.integers(0, 4, n), "x": rng.integers(0, 4, n) * 0.5})
    frame["t"] = rng.choice(["low", "mid", "high"], n)
    frame["w"] = 0.5 + (frame["h"] == 2) * 1.5 + frame["x"]
    frame["off"] = frame["h"] * 0.25
    own = rng.normal(size=(9, 2))[frame["g"]]
    frame["y"] = 20 + frame["x"] * (1 + 0.5 * own[:, 1]) + own[:, 0] + rng.normal(size=4)[frame["h"]]
    frame["y"] += frame["off"] + rng.normal(size=n) / np.sqrt(frame["w"])
    frame["g"] = frame["g"].map("g{}".format)
    return frame


DATA = make_data()
KEYS = ["g", "h", "x", "t", "w", "off"]
CELLS = DATA.groupby(KEYS)["y"].agg(n="size", mean="mean", variance="var").reset_index()
FORMULAS = [
    "y ~ x + (1 | g)",
    "y ~ x + t + (x | g)",
    "y ~ x + (x || g) + (1 | h)",
    "y ~ t + (1 | g / h)",
    "y ~ scale(x) + offset(off) + (1 | g:h) + (1 | h)",
    "y ~ poly(x, 2) + (1 | g)",
    "y ~ 0 + t + cs(0 + t | g)",
]


def both(formula: str, **options: object) -> tuple[bl.Model, bl.Model]:
    return bl.Model.from_sums(formula, CELLS, variance="variance", **options), bl.Model(formula, DATA, **options)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("reml", [True, False])
def test_fits_are_those_of_the_observations(formula: str, weights: str | None, reml: bool) -> None:
    sums, raw = (model.fit(reml) for model in both(formula, weights=weights))
    assert sums.status.ok and sums.n == raw.n == 400 and sums.df_residual == raw.df_residual
    assert abs(sums.criterion - raw.criterion) < TOLERANCE * max(1.0, abs(raw.criterion))
    np.testing.assert_allclose(sums.fixef(), raw.fixef(), rtol=1e-9)
    np.testing.assert_allclose(sums.estimates(), raw.estimates(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose([sums.aic, sums.bic, sums.loglik], [raw.aic, raw.bic, raw.loglik], rtol=TOLERANCE)
    theta = raw.theta * 0.9
    assert abs(sums.criterion_at(theta) - raw.criterion_at(theta)) < TOLERANCE * abs(raw.criterion)


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
def test_ways_to_keep_sums(store: str) -> None:
    sums, raw = (model.fit() for model in both("y ~ x + (x | g) + (1 | h)", store=store))
    assert abs(sums.criterion - raw.criterion) < TOLERANCE * abs(raw.criterion)


@pytest.mark.parametrize("residual", ["by(h)", "power(w)"])
def test_variances_that_are_constant_in_cells(residual: str) -> None:
    sums, raw = (model.fit() for model in both("y ~ x + (1 | g)", residual=residual))
    assert abs(sums.criterion - raw.criterion) < 1e-8
    np.testing.assert_allclose(sums.estimates(), raw.estimates(), rtol=1e-4, atol=1e-5)


def test_known_standard_deviations() -> None:
    frame, cells = DATA.assign(se=1 / np.sqrt(DATA["w"])), CELLS.assign(se=1 / np.sqrt(CELLS["w"]))
    raw = bl.Model("y ~ x + (1 | g)", frame, residual_sd="se").fit()
    sums = bl.Model.from_sums("y ~ x + (1 | g)", cells, variance="variance", residual_sd="se").fit()
    assert abs(sums.criterion - raw.criterion) < TOLERANCE * abs(raw.criterion)


def test_weights_that_dwarf_the_others() -> None:
    heavy = DATA["h"].to_numpy() == 1
    frame = DATA.assign(w=np.where(heavy & (DATA["g"] == "g3") & (DATA["x"] == 0.5), 1e9, 1.0))
    cells = frame.groupby([*KEYS])["y"].agg(n="size", mean="mean", variance="var").reset_index()
    raw = bl.Model("y ~ x + (1 | g)", frame, weights="w").fit()
    sums = bl.Model.from_sums("y ~ x + (1 | g)", cells, variance="variance", weights="w").fit()
    assert raw.status.ok and sums.status.ok
    # The heavy rows pin their mean to 1e-9; what is left of sums of squares has fewer digits.
    assert abs(sums.criterion - raw.criterion) < 1e-6


def dense(cells: pd.DataFrame, theta: np.ndarray, sigma: float, reml: bool) -> float:
    """The criterion from normal means and chi-square sums of squares, by dense algebra on cells."""
    X = np.column_stack([np.ones(len(cells)), cells["x"]])
    G = pd.get_dummies(cells["g"]).to_numpy(float)
    V = sigma**2 * (theta[0] ** 2 * G @ G.T + np.diag(1.0 / (cells["n"] * cells["w"])))
    n, w, ss = cells["n"].to_numpy(float), cells["w"].to_numpy(), cells["ss"].to_numpy()
    P = np.linalg.inv(V)
    beta = np.linalg.solve(X.T @ P @ X, X.T @ P @ cells["mean"])
    value = -2 * multivariate_normal.logpdf(cells["mean"], X @ beta, V)
    # Density of the observations over that of their mean: the sum of squares within, and the constants.
    value += float(((n - 1) * np.log(2 * np.pi * sigma**2 / w) + w * ss / sigma**2 + np.log(n)).sum())
    if reml:
        value += np.linalg.slogdet(X.T @ P @ X)[1] - 2 * np.log(2 * np.pi)
    return float(value)


@pytest.mark.parametrize("reml", [True, False])
def test_criterion_from_means_and_chi_squares(reml: bool) -> None:
    cells = CELLS.assign(ss=CELLS["variance"].fillna(0) * (CELLS["n"] - 1))
    model = bl.Model.from_sums("y ~ x + (1 | g)", cells, weights="w")
    for theta, sigma in ((np.array([0.0]), 1.0), (np.array([0.7]), 1.2), (np.array([3.0]), 0.4)):
        found = model.criterion_at(theta, sigma, reml=reml)
        assert abs(found - dense(cells, theta, sigma, reml)) < 1e-9 * abs(found)


def test_dyestuff_from_its_published_means_and_analysis_of_variance() -> None:
    """Box & Tiao (1973), table 5.1.2-3: batch means, 58830 within; variances 1764.05 and 2451.25 by closed form."""
    cells = pd.DataFrame({"batch": list("ABCDEF"), "mean": [1505.0, 1528, 1564, 1498, 1600, 1470], "n": 5})
    cells["ss"] = 58830.0 / 6
    fit = bl.Model.from_sums("y ~ 1 + (1 | batch)", cells).fit()
    assert abs(fit.fixef()["Intercept"] - 1527.5) < 1e-9
    assert abs(fit.sigma**2 - 58830 / 24) < 1e-6
    between = 5 * ((cells["mean"] - 1527.5) ** 2).sum() / 5
    assert abs(float(fit.estimates().iloc[0]) ** 2 - (between - 58830 / 24) / 5) < 1e-3


@pytest.mark.parametrize("sizes", [(1_000_000, 2_000_000, 3), (7, 7, 7)])
def test_one_way_analysis_of_variance_in_closed_form(sizes: tuple[int, ...]) -> None:
    """Counts that nobody would write out: sigma^2 is SSW / (N - J) beside fixed levels."""
    n = np.array(sizes)
    cells = pd.DataFrame({"g": range(3), "n": n, "mean": [1.0, 4.0, 9.0], "ss": n * 2.0})
    # Beside fixed levels a second factor whose variance is zero.
    doubled = pd.concat([cells.assign(h="a"), cells.assign(h="b")])
    found = bl.Model.from_sums("y ~ C(g) + (1 | h)", doubled).fit()
    assert found.is_singular
    N, SSW = 2 * int(n.sum()), float(2 * (n * 2.0).sum())
    assert abs(found.sigma**2 / (SSW / (N - 3)) - 1) < 1e-9


def test_a_billion_observations() -> None:
    cells = pd.DataFrame({"g": range(10), "n": 10**8, "mean": np.arange(10.0), "ss": 4e8})
    fit = bl.Model.from_sums("y ~ 1 + (1 | g)", cells).fit()
    n, J, msb = 1e8, 10, 1e8 * np.var(np.arange(10.0), ddof=1)
    msw = 4e9 / (n * J - J)
    np.testing.assert_allclose(fit.sigma**2, msw, rtol=1e-9)
    np.testing.assert_allclose(float(fit.estimates().iloc[0]) ** 2, (msb - msw) / n, rtol=1e-6)
    assert fit.n == 10**9 and len(fit.shrinkage()) == 10
    np.testing.assert_allclose(fit.fitted().to_numpy(), np.arange(10.0), atol=1e-6)


def test_intervals_tests_and_reports() -> None:
    sums, raw = (model.fit() for model in both("y ~ x + t + (x | g)"))
    for method in ("wald", "profile"):
        np.testing.assert_allclose(sums.confint(method=method), raw.confint(method=method), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sums.vcov_kenward_roger(), raw.vcov_kenward_roger(), rtol=1e-7)
    pd.testing.assert_frame_equal(sums.coefficients(), raw.coefficients(), rtol=1e-6)
    pd.testing.assert_frame_equal(sums.joint_tests(), raw.joint_tests(), rtol=1e-6)
    pd.testing.assert_frame_equal(sums.shrinkage(), raw.shrinkage(), rtol=1e-6, atol=1e-8)
    for weights in ("equal", "proportional"):
        a, b = (fit.means("t", weights=weights).frame for fit in (sums, raw))
        pd.testing.assert_frame_equal(a, b, rtol=1e-6)
    a, b = sums.influence("g").in_order, raw.influence("g").in_order
    pd.testing.assert_frame_equal(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sums.r2().to_numpy(float), raw.r2().to_numpy(float), rtol=1e-6)


def test_models_are_compared_by_likelihood() -> None:
    (sums, raw), (less, lower) = both("y ~ x + t + (1 | g)"), both("y ~ x + (1 | g)")
    a = bl.anova(less.fit(), sums.fit())
    b = bl.anova(lower.fit(), raw.fit())
    np.testing.assert_allclose(a.select_dtypes("number"), b.select_dtypes("number"), rtol=1e-6)


def test_new_formulas_of_the_same_sums() -> None:
    sums, raw = both("y ~ x + t + (1 | g)")
    again, other = sums.update(". ~ . - t + (1 | h)"), raw.update(". ~ . - t + (1 | h)")
    assert abs(again.fit().criterion - other.fit().criterion) < 1e-8
    assert again.n == 400


def test_storage(tmp_path: Path) -> None:
    fit = both("y ~ x + (1 | g)")[0].fit()
    fit.save(tmp_path / "fit")
    again = bl.load(tmp_path / "fit")
    assert isinstance(again, bl.REMLResult)
    assert again.design == fit.design and again.criterion == fit.criterion
    with pytest.raises(bl.DesignError, match="from_sums"):
        again.residuals()


def test_simulated_sums_have_their_distributions() -> None:
    """Means are normal with variance 1 / n, sums of squares chi-square with n - 1, both independent."""
    cells = pd.DataFrame({"g": range(4), "n": [1, 2, 5, 1000], "mean": [1.0, 2, 3, 5], "ss": [0.0, 0.5, 3, 900]})
    design = bl.Model.from_sums("y ~ 1 + (1 | g)", cells).design
    y = standard_residuals(design, 4000, np.random.default_rng(1))
    assert design.cells is not None and design.frequency is not None
    cell = design.cells.of(np.arange(design.n))
    for k, n in enumerate([1, 2, 5, 1000]):
        own, f = y[cell == k], design.frequency[cell == k][:, None]
        mean = (f * own).sum(0) / n
        assert kstest(mean * np.sqrt(n), "norm").pvalue > 1e-3
        if n > 1:
            ss = (f * (own - mean) ** 2).sum(0)
            assert kstest(ss, chi2(n - 1).cdf).pvalue > 1e-3
            assert abs(np.corrcoef(mean, ss)[0, 1]) < 0.06


def test_bootstrap_and_simulated_tests_draw_sums() -> None:
    sums, raw = (model.fit() for model in both("y ~ x + (1 | g)"))
    a, b = (fit.bootstrap(400, random_seed=3).draws for fit in (sums, raw))
    # Monte Carlo errors of sds from 400 draws are 3.5 %.
    np.testing.assert_allclose(a.std(), b.std(), rtol=0.2)
    np.testing.assert_allclose(a.mean(), b.mean(), atol=4 * float(b.std().max()) / np.sqrt(200))
    assert sums.confint(method="bootstrap", n=50, random_seed=1).shape == (4, 2)
    p = sums.test_zero("(1 | g)", method="bootstrap", refits=100, random_seed=1).p_value
    assert p <= 1 / 101 + 1e-12
