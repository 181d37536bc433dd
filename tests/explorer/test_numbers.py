"""What the page computes, run without a browser, against the package, SciPy and dense algebra."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import bayeslmm as bl
from bayeslmm.bayes.presets import default_priors

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node, which runs the page's JavaScript")

ASSETS = Path(bl.__file__).parent / "explorer" / "assets"
# What the page promises; closed forms leave rounding only, quadrature 1e-8 for the standard deviations.
PROMISED = 1e-6
CENTRE = [50.0, 2.0]


def javascript(expression: str, **values: Any) -> Any:
    """The value of an expression of the page's functions; undefined numbers are None."""
    names = ("numeric.js", "model.js", "levels.js", "slopes.js")
    text = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)
    given = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    script = f"{text}\n{given}console.log(JSON.stringify({expression}));"
    out = subprocess.run([str(NODE), "-"], input=script, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(out.stdout)


_RESULT = """(() => {
  const data = given ?? simulate(settings), r = analyse(data, prior), names = Object.keys(r.posterior);
  const of = (name) => { const m = r.posterior[name];
    return { mean: m.mean, sd: m.sd, quantiles: [0.025, 0.5, 0.975].map((p) => m.quantile(p)) }; };
  return { data, reml: r.reml, spread: r.spread, scale: r.scale, groups: r.groups, shrinkage: r.shrinkage,
    posterior: Object.fromEntries(names.map((n) => [n, of(n)])) };
})()"""


@cache
def analysed(kind: str, settings: tuple[tuple[str, float], ...], family: str, scale: float) -> Any:
    prior = {"family": family, "scale": scale}
    found = {"kind": kind, "centre": CENTRE, **dict(settings)}
    return javascript(_RESULT, settings=found, prior=prior, given=None)


def settings(**values: float) -> tuple[tuple[str, float], ...]:
    return tuple(
        {"groups": 8, "rows": 5, "level": 4, "slope": 1, "corr": 0.3, "within": 10, "seed": 1, **values}.items()
    )


def table(data: Any) -> pd.DataFrame:
    rows = [(f"g{j}", x, y) for j, row in enumerate(data["y"]) for x, y in zip(data["x"], row, strict=True)]
    return pd.DataFrame(rows, columns=["g", "x", "y"])


def prior_of(family: str, scale: float) -> Any:
    return {
        "half-t": lambda: bl.HalfT(3, scale),
        "half-normal": lambda: bl.HalfNormal(scale),
        "half-cauchy": lambda: bl.HalfCauchy(scale),
        "exponential": lambda: bl.Exponential(scale),
        "gamma": lambda: bl.Gamma(2, 1 / scale),
        "inverse-gamma": lambda: bl.InverseGammaVariance(0.01, 0.01 * scale**2),
        "flat": bl.Flat,
    }[family]()


# Estimates inside and on the boundary: seed 1 has a variance between groups, seed 2 none.
LEVELS = [settings(), settings(level=0.5, seed=2), settings(groups=30, rows=2, level=8, within=3)]


@pytest.mark.parametrize("given", LEVELS)
def test_one_way_estimates_are_those_of_the_fit(given: tuple[tuple[str, float], ...]) -> None:
    page = analysed("levels", given, "half-t", 1.0)
    fit = bl.Model("y ~ 1 + (1 | g)", table(page["data"])).fit()
    sd = float(fit.estimates()["sd_g[Intercept]"])
    assert fit.criterion == pytest.approx(page["reml"]["criterion"], abs=PROMISED)
    assert fit.sigma == pytest.approx(page["reml"]["sigma"], rel=PROMISED)
    assert sd == pytest.approx(page["reml"]["level"], rel=PROMISED)
    assert (sd == 0) == page["reml"]["singular"]
    np.testing.assert_allclose(
        [g["reml"] for g in page["groups"]], in_order(fit.coef()["g"])["Intercept"], rtol=PROMISED
    )


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Levels in the order of the page: g10 after g9."""
    return table.loc[[f"g{j}" for j in range(len(table))]]


def test_both_kinds_of_estimates_are_among_the_cases() -> None:
    assert {analysed("levels", given, "half-t", 1.0)["reml"]["singular"] for given in LEVELS} == {True, False}


FAMILIES = ["half-t", "half-normal", "half-cauchy", "exponential", "gamma", "inverse-gamma", "flat"]


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.PriorWarning")
@pytest.mark.parametrize(("family", "scale"), [*product(FAMILIES, [1.0]), ("half-normal", 0.05), ("half-t", 10.0)])
def test_one_way_posterior_is_that_of_the_package(family: str, scale: float) -> None:
    page = analysed("levels", settings(), family, scale)
    model = bl.Model("y ~ 1 + (1 | g)", table(page["data"]))
    assert default_priors(model.design).sigma.scale == pytest.approx(page["spread"], rel=1e-12)
    exact = model.sample(30, priors={"sd_g": prior_of(family, page["scale"]["level"])}, random_seed=1).exact
    assert exact is not None
    level, sigma = page["posterior"]["level"], page["posterior"]["sigma"]
    found = [level["mean"], level["sd"], sigma["mean"], sigma["sd"]]
    wanted = [exact.sd_mean[0][0], exact.sd_sd[0][0], exact.sigma_mean, exact.sigma_sd]
    # The package's own rule promises 1e-8 for second moments; a spread is a difference of these.
    np.testing.assert_allclose(found, wanted, rtol=PROMISED)


@pytest.mark.parametrize(("family", "given"), [("half-t", LEVELS[0]), ("exponential", LEVELS[1]), ("gamma", LEVELS[0])])
def test_one_way_quantiles_are_those_of_the_textbook_density(family: str, given: tuple[tuple[str, float], ...]) -> None:
    page = analysed("levels", given, family, 1.0)
    Y = np.array(page["data"]["y"])
    J, n = Y.shape
    between, within = n * Y.mean(1).var() * J, float(((Y - Y.mean(1, keepdims=True)) ** 2).sum())
    prior, prior_sigma = prior_of(family, page["scale"]["level"]), bl.HalfT(3, page["spread"])
    u, w = gauss(np.log(page["reml"]["sigma"]) - 3, np.log(page["reml"]["sigma"]) + 4, 200)
    v = np.exp(2 * u)

    def mass(low: float, high: float) -> float:
        # tau = exp(z) - 1, so that the tail is near
        z, weight = gauss(np.log1p(low), np.log1p(high), 200)
        tau = np.expm1(z)[:, None]
        lam = v + n * tau**2
        log = -0.5 * (J * (n - 1) * np.log(v) + within / v + (J - 1) * np.log(lam) + between / lam)
        log = log + prior.log_density(tau) + z[:, None] + prior_sigma.log_density(np.exp(u)) + u
        return float(weight @ np.exp(log + 0.5 * J * (n - 1) * np.log(within) + 40) @ w)

    total = mass(0.0, 1e6)
    for probability, quantile in zip([0.025, 0.5, 0.975], page["posterior"]["level"]["quantiles"], strict=True):
        assert mass(0.0, quantile) / total == pytest.approx(probability, abs=PROMISED)


def gauss(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(count)
    return low + (high - low) / 2 * (x + 1), w * (high - low) / 2


def test_probability_of_zero_is_that_of_the_f_distribution() -> None:
    cases = [(4, 2, 0.0, 1.0), (8, 5, 4.0, 10.0), (40, 20, 0.3, 1.0), (6, 5, 20.0, 1.0)]
    found = javascript("cases.map((c) => zeroLevels(...c))", cases=cases)
    wanted = [stats.f.cdf(s**2 / (s**2 + n * t**2), J - 1, J * (n - 1)) for J, n, t, s in cases]
    # A continued fraction to rounding.
    np.testing.assert_allclose(found, wanted, rtol=1e-11)


def test_one_way_profile_is_the_least_criterion_at_the_sd() -> None:
    taus = [0.0, 2.0, 9.0]
    page = analysed("levels", settings(), "half-t", 1.0)
    found = javascript("taus.map((t) => profileLevels(summariseLevels(data), t))", taus=taus, data=page["data"])
    Y = np.array(page["data"]["y"])
    wanted = [least(lambda u, t=tau: dense_levels(Y, t, float(np.exp(u[0]))), [2.0]) for tau in taus]
    np.testing.assert_allclose(found, wanted, atol=PROMISED)


def least(function: Any, start: list[float]) -> float:
    options = {"xatol": 1e-7, "fatol": 1e-11, "maxiter": 5000}
    return float(optimize.minimize(function, start, method="Nelder-Mead", options=options).fun)


def dense_levels(Y: np.ndarray, tau: float, sigma: float) -> float:
    n = Y.shape[1]
    return dense(Y, np.ones((n, 1)), sigma**2 * np.eye(n) + tau**2 * np.ones((n, n)))


def dense(Y: np.ndarray, X: np.ndarray, V: np.ndarray) -> float:
    """-2 log restricted likelihood of independent rows of Y with mean X beta and covariance V, by dense algebra."""
    J, n = Y.shape
    A = J * X.T @ np.linalg.solve(V, X)
    beta = np.linalg.solve(A, X.T @ np.linalg.solve(V, Y.sum(0)))
    E = Y - X @ beta
    logs = J * np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + (J * n - X.shape[1]) * np.log(2 * np.pi)
    return float(logs + np.trace(np.linalg.solve(V, E.T @ E)))


# Covariances of rank 2, 1 and 0.
SLOPES = [
    settings(groups=12, rows=6, level=6, slope=3, within=4, seed=2),
    settings(groups=6, rows=4, level=3, slope=1, corr=0.5, within=5, seed=2),
    settings(groups=4, rows=3, level=0, slope=0, within=5, seed=3),
]


@pytest.mark.parametrize("given", SLOPES)
def test_slope_estimates_are_those_of_the_fit(given: tuple[tuple[str, float], ...]) -> None:
    page = analysed("slopes", given, "half-t", 1.0)
    fit, reml = bl.Model("y ~ x + (x | g)", table(page["data"])).fit(), page["reml"]
    assert fit.criterion == pytest.approx(reml["criterion"], abs=PROMISED)
    assert fit.sigma == pytest.approx(reml["sigma"], rel=PROMISED)
    covariance = (reml["corr"] or 0.0) * reml["level"] * reml["slope"]
    G = [[reml["level"] ** 2, covariance], [covariance, reml["slope"] ** 2]]
    np.testing.assert_allclose(fit.varcorr_matrices()["g"], G, rtol=1e-5, atol=PROMISED)
    np.testing.assert_allclose([g["reml"] for g in page["groups"]], in_order(fit.coef()["g"]), rtol=PROMISED)


def test_all_ranks_are_among_the_cases() -> None:
    assert [analysed("slopes", given, "half-t", 1.0)["reml"]["rank"] for given in SLOPES] == [2, 1, 0]


@pytest.mark.parametrize(
    ("family", "given"), [("half-t", SLOPES[0]), ("half-normal", SLOPES[1]), ("half-t", SLOPES[2])]
)
def test_slope_posterior_is_that_of_the_package(family: str, given: tuple[tuple[str, float], ...]) -> None:
    page = analysed("slopes", given, family, 1.0)
    priors = {f"sd_g[{e}]": prior_of(family, page["scale"][k]) for e, k in (("Intercept", "level"), ("x", "slope"))}
    model = bl.Model("y ~ x + (x | g)", table(page["data"]))
    exact = model.sample(30, priors=priors, method="quadrature", random_seed=1).exact
    assert exact is not None
    found = [page["posterior"][name][what] for what in ("mean", "sd") for name in ("level", "slope")]
    np.testing.assert_allclose(found, [*exact.sd_mean[0], *exact.sd_sd[0]], rtol=1e-5)
    assert page["posterior"]["sigma"]["mean"] == pytest.approx(exact.sigma_mean, rel=PROMISED)


def test_slope_quantiles_are_those_of_the_dense_density() -> None:
    page = analysed("slopes", SLOPES[0], "half-t", 1.0)
    Y, x = np.array(page["data"]["y"]), np.array(page["data"]["x"])
    for name, tolerance in (("level", PROMISED), ("slope", PROMISED), ("corr", 1e-4)):
        quantile = page["posterior"][name]["quantiles"][1]
        low, high = (slope_mass(Y, x, page, name, part) for part in ((None, quantile), (quantile, None)))
        assert low / (low + high) == pytest.approx(0.5, abs=tolerance), name


def slope_mass(Y: np.ndarray, x: np.ndarray, page: Any, name: str, part: tuple[float | None, float | None]) -> float:
    """Posterior mass where one parameter is in a range, by a product rule in log sds and an angle."""
    J, n = Y.shape
    top = {"level": 60.0, "slope": 40.0, "corr": 1.0}
    bottom = {"level": 0.3, "slope": 0.1, "corr": -1.0}
    ends = {key: [bottom[key], top[key]] for key in top}
    ends[name] = [given if given is not None else end for given, end in zip(part, ends[name], strict=True)]
    (a, wa), (b, wb) = (gauss(*np.log(ends[k]), 44) for k in ("level", "slope"))
    angle, wc = gauss(*np.arcsin(ends["corr"]), 44)
    u, wu = gauss(np.log(page["reml"]["sigma"]) - 0.8, np.log(page["reml"]["sigma"]) + 1.0, 32)
    A, B, C, U = np.meshgrid(np.exp(a), np.exp(b), np.sin(angle), u, indexing="ij", sparse=True)
    v, sxx = np.exp(2 * U), float(x @ x)
    Z = np.stack([np.ones(n), x], axis=1)
    coefficients = np.linalg.lstsq(Z, Y.T, rcond=None)[0]
    S = np.cov(coefficients) * (J - 1)
    within = float(((Y.T - Z @ coefficients) ** 2).sum())
    # Covariance of a group's own coefficients: G + sigma^2 (Z'Z)^-1
    k11, k22, k12 = A**2 + v / n, B**2 + v / sxx, A * B * C
    det = k11 * k22 - k12**2
    log = -0.5 * ((J - 1) * np.log(det) + (k22 * S[0, 0] + k11 * S[1, 1] - 2 * k12 * S[0, 1]) / det)
    log = log - 0.5 * (J * (n - 2) * 2 * U + within / v) + bl.HalfT(3, page["spread"]).log_density(np.exp(U)) + U
    log = log + bl.HalfT(3, page["scale"]["level"]).log_density(A) + np.log(A)
    log = log + bl.HalfT(3, page["scale"]["slope"]).log_density(B) + np.log(B)
    density = np.exp(log + 0.5 * page["reml"]["criterion"])
    return float(np.einsum("ijkl,i,j,k,l->", density, wa, wb, wc * np.cos(angle), wu))


def test_slope_profile_is_the_least_criterion_at_the_sd() -> None:
    page = analysed("slopes", SLOPES[1], "half-t", 1.0)
    Y, x = np.array(page["data"]["y"]), np.array(page["data"]["x"])
    sds = [0.0, 1.0, 4.0]
    script = "(() => { const s = summariseSlopes(data); return profileCurve(s, remlSlopes(s), 1, sds); })()"
    found = javascript(script, data=page["data"], sds=sds)
    Z = np.stack([np.ones(x.size), x], axis=1)

    def criterion(z: np.ndarray, sd: float) -> float:
        T = np.array([[z[1], z[0]], [0.0, sd]])
        return dense(Y, Z, np.exp(2 * z[2]) * np.eye(x.size) + Z @ T @ T.T @ Z.T)

    starts = [[2.0, 1.0, 1.6], [-2.0, 0.1, 1.6], [0.1, 0.1, 1.8]]
    wanted = [min(least(lambda z, s=sd: criterion(z, s), start) for start in starts) for sd in sds]
    np.testing.assert_allclose(np.array(found) + page["reml"]["criterion"], wanted, atol=PROMISED)


def test_probability_of_a_singular_covariance_is_that_of_simulated_mean_squares() -> None:
    cases = [(8, 5, 10.0, 3.0, 1.0, 0.4, 6.0), (4, 3, 2.0, 0.0, 0.0, 0.0, 5.0), (20, 10, 82.5, 5.0, 0.5, -0.9, 4.0)]
    names = "level, slope, corr, within"
    script = f"cases.map(([J, n, sxx, {names}]) => singularSlopes(J, n, sxx, {{ {names} }}))"
    rng, draws = np.random.default_rng(1), 100_000
    for found, (J, n, sxx, level, slope, corr, within) in zip(javascript(script, cases=cases), cases, strict=True):
        g, h = np.sqrt(n) * level, np.sqrt(sxx) * slope
        M = np.array([[g * g, corr * g * h], [corr * g * h, h * h]]) + within**2 * np.eye(2)
        B = stats.wishart(J - 1, M).rvs(draws, random_state=rng) / (J - 1)
        share = float(
            (np.linalg.eigvalsh(B)[:, 0] < within**2 * rng.chisquare(J * (n - 2), draws) / (J * (n - 2))).mean()
        )
        # Four standard errors of a share.
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / draws))


def test_sleepstudy_has_the_criterion_of_lme4() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    data = json.loads(bl.explore(model).page.partition('id="yours">')[2].partition("</script>")[0])
    page = javascript(_RESULT, settings=None, prior={"family": "half-t", "scale": 1}, given=data)
    # lme4 1.1-35: REML criterion 1743.628, residual sd 25.592, sd of slopes 5.922
    assert page["reml"]["criterion"] == pytest.approx(1743.628, abs=5e-4)
    assert page["reml"]["sigma"] == pytest.approx(25.592, abs=5e-4)
    assert page["reml"]["slope"] == pytest.approx(5.922, abs=5e-4)
    first = default_priors(model.design)
    assert first.sds[0][0].scale == pytest.approx(page["scale"]["level"], rel=1e-12)
    assert first.sds[0][1].scale == pytest.approx(page["scale"]["slope"], rel=1e-12)
