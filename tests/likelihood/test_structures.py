"""Covariance structures against dense densities, finite differences, nlme, and models they are equal to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.likelihood import SummedDesign, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.reml import FitStatus, optimise

FORMULAS = {
    "us": "y ~ x + us(0 + f | g)",
    "diag": "y ~ x + diag(0 + f | g)",
    "id": "y ~ x + id(1 + x | g)",
    "id of a factor": "y ~ x + id(0 + f | g)",
    "cs": "y ~ x + cs(0 + f | g)",
    "ar1": "y ~ x + ar1(0 + f | g)",
    "cs of unequal columns": "y ~ x + cs(0 + x + z | g) + (1 | h)",
    "cs in a second block": "y ~ 1 + (x | g) + cs(0 + f | h)",
    "several terms of a factor": "y ~ x + (1 | g) + ar1(0 + f | g) + id(0 + x + z | h)",
}
CASES = [(name, weighted) for name in FORMULAS for weighted in (False, True)]
# relative to the size of the criterion
DENSE = 1e-11


def frame(seed: int = 0, n: int = 54) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": 40 * rng.normal(size=n),
            "f": rng.choice(list("abcd"), n),
            "g": np.r_[[0], rng.integers(1, 7, n - 1)],
            "h": rng.integers(0, 4, n),
            "precision": rng.uniform(0.3, 3.0, n),
        }
    )
    data["y"] = 5 + data["x"] + rng.normal(size=7)[data["g"]] + rng.normal(size=n)
    return data


def build(name: str, weighted: bool) -> SummedDesign:
    return cross_products(build_design(FORMULAS[name], frame(), weights="precision" if weighted else None))


def covariance(keyword: str, c: int, theta: np.ndarray) -> np.ndarray:
    """G of one term written out from its definition."""
    if keyword == "us":
        T = np.zeros((c, c))
        T.T[np.triu_indices(c)] = theta
        return T @ T.T
    if keyword == "diag":
        return np.diag(theta**2)
    rho = theta[1] if keyword != "id" else 0.0
    G = np.empty((c, c))
    for i in range(c):
        for j in range(c):
            G[i, j] = 1.0 if i == j else rho ** (abs(i - j) if keyword == "ar1" else 1)
    return theta[0] ** 2 * G


def dense(cp: SummedDesign, theta: np.ndarray, reml: bool) -> float:
    """-2 log (restricted) likelihood with sigma and beta profiled out, from n x n matrices."""
    design, at = cp.design, 0
    V = np.diag(np.ones(design.n) if design.weights is None else 1 / design.weights)
    for term in design.terms:
        k = len(term.structure.rows)
        codes = design.groupings[term.group].codes
        G = covariance(term.structure.keyword, len(term.effects), theta[at : at + k])
        V = V + (term.Z @ G @ term.Z.T) * (codes[:, None] == codes)
        at += k
    return dense_criterion(V, design.X, design.y, reml)


def dense_criterion(V: np.ndarray, X: np.ndarray, y: np.ndarray, reml: bool) -> float:
    A = X.T @ np.linalg.solve(V, X)
    r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
    nu = y.size - X.shape[1] if reml else y.size
    out = np.linalg.slogdet(V)[1] + nu * (1 + np.log(2 * np.pi * (r @ np.linalg.solve(V, r)) / nu))
    return float(out + (np.linalg.slogdet(A)[1] if reml else 0.0))


def thetas(cp: SummedDesign) -> list[np.ndarray]:
    """Random parameters, negative and perfect correlations, and zeros."""
    rng = np.random.default_rng(1)
    points: list[list[np.ndarray]] = [[] for _ in range(4)]
    for term in cp.design.terms:
        k, c, keyword = len(term.structure.rows), len(term.effects), term.structure.keyword
        regular = rng.normal(size=k)
        versions = [regular, regular.copy(), regular.copy(), np.zeros(k)]
        if keyword in ("cs", "ar1"):
            lowest = -1.0 / (c - 1) if keyword == "cs" else -1.0
            for version, rho in zip(versions, (0.4, 0.7 * lowest, lowest), strict=False):
                version[:] = abs(regular[0]), rho
        for point, version in zip(points, versions, strict=True):
            point.append(version)
    return [np.concatenate(point) for point in points]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize(("name", "weighted"), CASES)
def test_criterion_is_the_dense_one(name: str, weighted: bool, reml: bool) -> None:
    cp = build(name, weighted)
    for theta in thetas(cp):
        expected = dense(cp, theta, reml)
        terms = par.terms_from_theta(cp, theta)
        got = profiled(cp, evaluate(cp, par.block_factors(cp, terms)), reml)[0]
        assert got == pytest.approx(expected, rel=DENSE)
        internal = par.internal_from_terms(cp, [T[0] for T in terms])
        got = profiled(cp, evaluate(cp, par.internal_factors(cp, internal)), reml)[0]
        assert got == pytest.approx(expected, rel=DENSE)


@pytest.mark.parametrize("name", FORMULAS)
def test_theta_comes_back(name: str) -> None:
    cp = build(name, True)
    for theta in thetas(cp)[:3]:
        internal = par.internal_from_terms(cp, [T[0] for T in par.terms_from_theta(cp, theta)])
        again = par.theta_from_terms(cp, par.term_factors(cp, par.internal_factors(cp, internal)))[0]
        for one, other in zip(par.terms_from_theta(cp, theta), par.terms_from_theta(cp, again), strict=True):
            np.testing.assert_allclose(one[0] @ one[0].T, other[0] @ other[0].T, atol=1e-12)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_and_hessian_by_differences(name: str, reml: bool) -> None:
    cp = build(name, True)
    rng = np.random.default_rng(5)
    points = [rng.normal(size=cp.design.n_theta), np.zeros(cp.design.n_theta)]
    points += [par.internal_from_terms(cp, [T[0] for T in par.terms_from_theta(cp, t)]) for t in thetas(cp)[:3]]
    h = 1e-5

    def value(x: np.ndarray) -> float:
        return float(profiled(cp, evaluate(cp, par.internal_factors(cp, x)), reml)[0])

    def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factors = par.internal_factors(cp, x)
        first = derivatives(cp, factors, evaluate(cp, factors), reml)
        return par.gradient(cp, x, first)[0], par.hessian(cp, x, first)[0]

    for x in points:
        gradient, hessian = slopes(x)
        # rounding of the criterion divided by the step, and the third derivative times its square
        tolerance = 1e-6 * (1 + np.abs(hessian).max())
        steps = h * np.eye(x.size)
        numeric = np.array([(value(x + s) - value(x - s)) / (2 * h) for s in steps])
        np.testing.assert_allclose(gradient, numeric, atol=tolerance)
        numeric = np.array([(slopes(x + s)[0] - slopes(x - s)[0]) / (2 * h) for s in steps])
        np.testing.assert_allclose(hessian, numeric, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name not in ("us", "diag")])
def test_optimum_is_the_dense_minimum(name: str) -> None:
    cp = build(name, False)
    found = optimise(cp)
    assert found.status.ok
    shapes = [k > 0 and t.structure.shared for t in cp.design.terms for k in range(len(t.structure.rows))]
    lowest = [
        -1.0 / (len(t.effects) - 1) if t.structure.keyword == "cs" else -1.0
        for t in cp.design.terms
        for _ in t.structure.rows
    ]

    def criterion(x: np.ndarray) -> float:
        low = np.array(lowest)
        return dense(cp, np.where(shapes, low + (1 - low) * (0.5 + 0.5 * np.sin(x)), x), True)

    rng = np.random.default_rng(2)
    best = min(
        minimize(criterion, rng.normal(size=found.theta.size), method="BFGS", options={"gtol": 1e-3}).fun
        for _ in range(3)
    )
    assert found.criterion == pytest.approx(dense(cp, found.theta, True), rel=DENSE)
    assert found.criterion < best + 1e-5


# lme(score ~ Machine, random = list(Worker = pdCompSymm(~Machine - 1))), nlme 3.1-162
MACHINES = {
    True: {"loglik": -107.84378400411, "sigma": 0.96157663741879, "sd": 6.0636541156771, "cor": 0.621695655093682},
    False: {"loglik": -112.634723469886, "sigma": 0.961576637376095, "sd": 5.53069158320044, "cor": 0.622739688158942},
}


@pytest.mark.parametrize("reml", [True, False])
def test_compound_symmetry_against_nlme(reml: bool) -> None:
    expected = MACHINES[reml]
    data = bl.load_dataset("Machines")
    for model in (
        bl.Model("score ~ Machine + cs(0 + Machine | Worker)", data),
        bl.Model("score ~ Machine + (0 + Machine | Worker)", data, cov={"Worker": bl.CompoundSymmetry()}),
    ):
        fit = model.fit(reml)
        assert fit.loglik == pytest.approx(expected["loglik"], abs=1e-9)
        assert fit.df == 6
        estimates = fit.estimates()
        # nlme's optimiser stops at about 1e-9
        assert estimates["sigma"] == pytest.approx(expected["sigma"], rel=1e-8)
        assert estimates["sd_Worker[cs]"] == pytest.approx(expected["sd"], rel=1e-8)
        assert estimates["corr_Worker[cs]"] == pytest.approx(expected["cor"], rel=1e-8)
    if reml:
        errors = [2.48583021380219, 2.17697547579715, 2.17697547579715]
        np.testing.assert_allclose(fit.std_error(), errors, rtol=1e-9)


def test_compound_symmetry_is_the_split_plot_model() -> None:
    """cs with a nonnegative correlation is ``(1 | g) + (1 | g:f)``."""
    data = bl.load_dataset("Machines")
    nested = bl.Model("score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", data).fit()
    fit = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", data).fit()
    assert fit.criterion == pytest.approx(nested.criterion, abs=1e-9)
    a, b = (nested.estimates()[f"sd_{g}[Intercept]"] ** 2 for g in ("Worker", "Worker:Machine"))
    assert fit.theta[0] * fit.sigma == pytest.approx(np.sqrt(a + b), rel=1e-7)
    assert fit.theta[1] == pytest.approx(a / (a + b), rel=1e-7)


def test_identity_is_the_interaction() -> None:
    """id of indicator columns is ``(1 | g:f)``, its diagonal the same for every level."""
    data = bl.load_dataset("Machines")
    cells = bl.Model("score ~ Machine + (1 | Worker:Machine)", data).fit()
    fit = bl.Model("score ~ Machine + id(0 + Machine | Worker)", data).fit()
    assert fit.criterion == pytest.approx(cells.criterion, abs=1e-9)
    assert fit.theta == pytest.approx(cells.theta, rel=1e-7)
    interval = cells.confint().loc["sd_Worker:Machine[Intercept]"]
    np.testing.assert_allclose(fit.confint().loc["sd_Worker[id]"], interval, rtol=1e-6)


def balanced(effect: np.ndarray) -> pd.DataFrame:
    """Two rows in each of 30 x 4 cells: cell effects (30, 4) plus noise."""
    noise = np.random.default_rng(4).normal(size=(*effect.shape, 2))
    g, t, _ = np.indices(noise.shape)
    y = effect[:, :, None] + 0.5 * noise
    return pd.DataFrame({"y": y.ravel(), "g": g.ravel(), "t": pd.Categorical(t.ravel())})


def test_negative_correlation_and_its_end() -> None:
    rng = np.random.default_rng(3)
    raw = rng.normal(size=(30, 4))
    contrasts = raw - raw.mean(axis=1, keepdims=True)
    fit = bl.Model("y ~ t + cs(0 + t | g)", balanced(contrasts)).fit()
    # group totals have no variance at all, so that the estimate is the end of the range
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.theta[1] == pytest.approx(-1 / 3, abs=1e-12)
    assert fit.optimum.vanished[0].direction.tolist() == [1, 1, 1, 1]
    assert fit.optimum.vanished[0].slope >= 0
    assert fit.confint().loc["corr_g[cs]", "conf_low"] == pytest.approx(-1 / 3, abs=1e-12)


def test_perfect_autocorrelation_is_a_random_intercept() -> None:
    rng = np.random.default_rng(3)
    data = balanced(np.repeat(rng.normal(size=(30, 1)), 4, axis=1))
    # without the means of the noise, nothing but the level of g tells cells apart
    within = data["y"] - data.groupby(["g", "t"], observed=True)["y"].transform("mean")
    data["y"] = np.repeat(rng.normal(size=30), 8) + within
    fit = bl.Model("y ~ t + ar1(0 + t | g)", data).fit()
    intercepts = bl.Model("y ~ t + (1 | g)", data).fit()
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.theta[1] == 1.0
    assert fit.criterion == pytest.approx(intercepts.criterion, abs=1e-8)
    assert fit.optimum.vanished[0].direction.tolist() == [1, -1, 0, 0]
    assert fit.optimum.vanished[0].slope > 0


def test_a_zero_that_is_none_for_another_correlation_is_left() -> None:
    rng = np.random.default_rng(6)
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    data = balanced(np.zeros((30, 4)))
    # cells differ by an alternating pattern, and in no other way
    within = data["y"] - data.groupby(["g", "t"], observed=True)["y"].transform("mean")
    data["y"] = within + 0.25 * np.repeat(rng.normal(size=(30, 1)) * signs, 2)
    cp = cross_products(build_design("y ~ t + ar1(0 + t | g)", data))
    factors = par.internal_factors(cp, np.zeros(2))
    slopes = derivatives(cp, factors, evaluate(cp, factors)).blocks[0][0]
    # no slope downwards with independent effects, but with alternating ones
    assert np.trace(slopes) > 0 > signs @ slopes @ signs
    assert optimise(cp, start=np.zeros(2)).criterion == pytest.approx(optimise(cp).criterion, abs=1e-9)
    assert optimise(cp).theta[1] < 0


@pytest.mark.parametrize("structure", ["id", "cs", "ar1"])
def test_no_variance_is_found_and_named(structure: str) -> None:
    rng = np.random.default_rng(12)
    data = frame(3)
    data["y"] = rng.normal(size=len(data))
    # residuals made orthogonal to all columns that the term could use
    columns = pd.get_dummies(data["f"].astype(str) + data["g"].astype(str)).to_numpy(float)
    data["y"] -= columns @ np.linalg.lstsq(columns, data["y"], rcond=None)[0]
    fit = bl.Model(f"y ~ 1 + {structure}(0 + f | g)", data).fit()
    assert fit.is_singular
    assert (fit.theta == 0).all()
    assert all(vanished.slope >= 0 for vanished in fit.optimum.vanished)
    ends = fit.confint()
    assert ends.loc[f"sd_g[{structure}]", "conf_low"] == 0.0
    assert "Singular" in str(fit.summary())


@pytest.mark.parametrize("label", ["sd_g[ar1]", "corr_g[ar1]"])
def test_profile_of_an_autoregression_against_dense(label: str) -> None:
    rng = np.random.default_rng(8)
    effect = np.empty((30, 4))
    effect[:, 0] = rng.normal(size=30)
    for k in range(1, 4):
        effect[:, k] = 0.6 * effect[:, k - 1] + 0.8 * rng.normal(size=30)
    fit = bl.Model("y ~ t + ar1(0 + t | g)", balanced(effect)).fit()
    design = fit.design
    codes = design.groupings["g"].codes

    def criterion(sd: float, rho: float, sigma: float) -> float:
        G = covariance("ar1", 4, np.array([sd, rho]))
        V = (design.terms[0].Z @ G @ design.terms[0].Z.T) * (codes[:, None] == codes) + sigma**2 * np.eye(design.n)
        A = design.X.T @ np.linalg.solve(V, design.X)
        r = design.y - design.X @ np.linalg.solve(A, design.X.T @ np.linalg.solve(V, design.y))
        out = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + r @ np.linalg.solve(V, r)
        return float(out + (design.n - design.p) * np.log(2 * np.pi))

    start = fit.estimates()
    for value in fit.confint(0.9, parameters=label).loc[label]:

        def rest(x: np.ndarray, value: float = value) -> float:
            if label.startswith("sd"):
                return criterion(value, np.tanh(x[0]), np.exp(x[1]))
            return criterion(np.exp(x[0]), value, np.exp(x[1]))

        other = np.arctanh(start["corr_g[ar1]"]) if label.startswith("sd") else np.log(start["sd_g[ar1]"])
        best = minimize(rest, [other, np.log(start["sigma"])], method="BFGS", options={"gtol": 1e-4}).fun
        assert best - fit.criterion == pytest.approx(chi2.ppf(0.9, 1), abs=1e-6)


def test_one_row_per_effect_is_enough_for_an_autoregression() -> None:
    rng = np.random.default_rng(8)
    y = np.empty((40, 5))
    y[:, 0] = rng.normal(size=40)
    for k in range(1, 5):
        y[:, k] = 0.7 * y[:, k - 1] + np.sqrt(0.51) * rng.normal(size=40)
    y += 0.5 * rng.normal(size=y.shape)
    g, t = np.indices(y.shape)
    data = pd.DataFrame({"y": y.ravel(), "g": g.ravel(), "t": pd.Categorical(t.ravel())})
    fit = bl.Model("y ~ 1 + ar1(0 + t | g)", data).fit()
    R = np.kron(np.eye(40), covariance("ar1", 5, fit.theta) + np.eye(5))
    assert fit.criterion == pytest.approx(dense_criterion(R, fit.design.X, y.ravel(), True), rel=1e-11)
    with pytest.raises(bl.DesignError, match="cannot be told apart"):
        bl.Model("y ~ 1 + cs(0 + t | g)", data)


# Parameters held fixed


@pytest.mark.parametrize("name", FORMULAS)
def test_all_parameters_fixed(name: str) -> None:
    data = frame()
    model = bl.Model(FORMULAS[name], data)
    cp = model.cross_products
    for theta in thetas(cp)[:2]:
        fit = model.fit(fix={"theta": theta})
        assert fit.criterion == pytest.approx(dense(cp, theta, True), rel=DENSE)
        assert fit.optimum.fixed == tuple(range(len(fit.design.terms)))
        again = np.concatenate([par.theta_from_terms(cp, list(fit.optimum.terms))])
        for one, other in zip(par.terms_from_theta(cp, theta), par.terms_from_theta(cp, again), strict=True):
            np.testing.assert_allclose(one[0] @ one[0].T, other[0] @ other[0].T, atol=1e-12)


def test_one_term_fixed() -> None:
    data = frame()
    fixed = np.array([0.9, 0.3])
    model = bl.Model("y ~ x + (1 | g) + cs(0 + f | h)", data)
    fit = model.fit(fix={"h": fixed})
    cp = model.cross_products
    best = minimize(lambda t: dense(cp, np.r_[t, fixed], True), [1.0], method="BFGS", options={"gtol": 1e-6})
    assert fit.criterion == pytest.approx(best.fun, abs=1e-8)
    assert abs(fit.theta[0]) == pytest.approx(abs(best.x[0]), rel=1e-4)
    np.testing.assert_allclose(fit.theta[1:], fixed, rtol=1e-12)
    by_label = model.fit(fix={"cs(0 + f | h)": fixed})
    assert by_label.criterion == fit.criterion
    assert model.fit().criterion < fit.criterion


def test_fixed_at_the_estimate_is_the_estimate() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    free = model.fit()
    fit = model.fit(fix={"Subject": free.theta})
    assert fit.criterion == pytest.approx(free.criterion, abs=1e-9)
    np.testing.assert_allclose(fit.std_error(), free.std_error(), rtol=1e-9)


def test_interval_of_a_fixed_sd_is_that_of_sigma() -> None:
    model = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines"))
    ends = model.fit(fix={"Worker": [3.0, 0.5]}).confint()
    np.testing.assert_allclose(ends.loc["sd_Worker[cs]"], 3 * ends.loc["sigma"], rtol=1e-8)
    np.testing.assert_allclose(ends.loc["corr_Worker[cs]"], 0.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("fix", "message"),
    [
        ({"k": [1.0]}, r"'k'.*names no random term.*g, h"),
        ({"theta": [1.0]}, r"3 parameter"),
        ({"h": [1.0]}, r"2 parameter\(s\): sd, cor"),
        ({"h": [1.0, -0.9]}, r"-0.9 is not possible.*from -0.3333 to 1"),
        ({"h": [1.0, np.nan]}, r"nan; give finite"),
        ({"h": "x"}, r"not a sequence of numbers"),
        ({"h": [1.0, 0.2], "cs(0+f|h)": [1.0, 0.2]}, r"twice"),
        ([1.0], r"fix is \[1.0\], of type list"),
    ],
)
def test_bad_fix(fix: object, message: str) -> None:
    model = bl.Model("y ~ x + (1 | g) + cs(0 + f | h)", frame())
    with pytest.raises(bl.DesignError, match=message):
        model.fit(fix=fix)
