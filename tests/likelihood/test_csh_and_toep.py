"""Heterogeneous compound symmetry and Toeplitz: dense densities, differences, equal models, ends of their ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import toeplitz
from scipy.optimize import minimize

import bayeslmm as bl
from bayeslmm.design import build_design
from bayeslmm.design.covariance import HeterogeneousCompoundSymmetry, Toeplitz
from bayeslmm.likelihood import SummedDesign, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.reml import FitStatus

FORMULAS = {
    "csh": "y ~ x + csh(0 + f | g)",
    "toep": "y ~ x + toep(0 + f | g)",
    "ar1h": "y ~ x + ar1h(0 + f | g)",
    "csh of unequal columns": "y ~ x + csh(0 + x + z | g) + (1 | h)",
    "toep in a second block": "y ~ 1 + (x | g) + toep(0 + f | h)",
    "both for one factor": "y ~ x + csh(0 + x + z | g) + toep(0 + f | g)",
}
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


def build(name: str) -> SummedDesign:
    return cross_products(build_design(FORMULAS[name], frame(), weights="precision"))


def covariance(keyword: str, c: int, theta: np.ndarray) -> np.ndarray:
    """G of one term written out from its definition."""
    if keyword == "csh":
        R = np.full((c, c), theta[c]) + (1.0 - theta[c]) * np.eye(c)
        return np.outer(theta[:c], theta[:c]) * R
    if keyword == "ar1h":
        return np.outer(theta[:c], theta[:c]) * toeplitz(theta[c] ** np.arange(c))
    if keyword == "toep":
        return theta[0] ** 2 * toeplitz(np.append(1.0, theta[1:]))
    T = np.zeros((c, c))
    T.T[np.triu_indices(c)] = theta
    return T @ T.T


def dense(cp: SummedDesign, theta: np.ndarray, reml: bool = True) -> float:
    """-2 log (restricted) likelihood with sigma and beta profiled out, from n x n matrices."""
    design, at = cp.design, 0
    V = np.diag(np.ones(design.n) if design.weights is None else 1 / design.weights)
    for term in design.terms:
        k = len(term.structure.rows)
        codes = design.groupings[term.group].codes
        G = covariance(term.structure.keyword, len(term.effects), theta[at : at + k])
        V = V + (term.Z @ G @ term.Z.T) * (codes[:, None] == codes)
        at += k
    A = design.X.T @ np.linalg.solve(V, design.X)
    r = design.y - design.X @ np.linalg.solve(A, design.X.T @ np.linalg.solve(V, design.y))
    nu = design.n - design.p if reml else design.n
    out = np.linalg.slogdet(V)[1] + nu * (1 + np.log(2 * np.pi * (r @ np.linalg.solve(V, r)) / nu))
    return float(out + (np.linalg.slogdet(A)[1] if reml else 0.0))


def from_partials(phi: np.ndarray) -> np.ndarray:
    """Correlations at distances 1, 2, ...: each the prediction from those before it plus what phi adds."""
    rho = [1.0]
    for value in phi:
        m = len(rho)
        R = toeplitz(rho)
        # the best linear prediction of the next by the last m - 1, from the normal equations
        forward = np.linalg.lstsq(R[: m - 1, : m - 1], np.array(rho[1:]), rcond=None)[0] if m > 1 else np.zeros(0)
        left = 1.0 - forward @ np.array(rho[1:])
        rho.append(float(forward @ np.array(rho[1:])[::-1] + value * left))
    return np.array(rho[1:])


def thetas(cp: SummedDesign) -> list[np.ndarray]:
    """Random parameters; correlations at their lower and upper ends; single sds, and all, zero."""
    rng = np.random.default_rng(1)
    points: list[list[np.ndarray]] = [[] for _ in range(5)]
    for term in cp.design.terms:
        k, c, keyword = len(term.structure.rows), len(term.effects), term.structure.keyword
        sds = rng.uniform(0.3, 2.0, c)
        if keyword == "csh":
            versions = [np.append(sds, rho) for rho in (0.4, -1.0 / (c - 1), 1.0)]
            versions += [np.append(sds * (np.arange(c) > 0), 0.4), np.zeros(k)]
        elif keyword == "ar1h":
            versions = [np.append(sds, rho) for rho in (0.4, -1.0, 1.0)]
            versions += [np.append(sds * (np.arange(c) > 0), -0.4), np.zeros(k)]
        elif keyword == "toep":
            phis = rng.uniform(-0.9, 0.9, (2, c - 1))
            one, minus = phis[1].copy(), phis[1].copy()
            one[:1], minus[1:2] = 1.0, -1.0
            minus[2:] = one[1:] = 0.0
            versions = [np.append(sds[0], from_partials(phi)) for phi in (phis[0], one, minus)]
            versions += [np.append(sds[0], np.zeros(c - 1)), np.zeros(k)]
        else:
            regular = rng.normal(size=k)
            versions = [regular] * 4 + [np.zeros(k)]
        for point, version in zip(points, versions, strict=True):
            point.append(version)
    return [np.concatenate(point) for point in points]


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_criterion_is_the_dense_one(name: str, reml: bool) -> None:
    cp = build(name)
    for theta in thetas(cp):
        expected = dense(cp, theta, reml)
        terms = par.terms_from_theta(cp, theta)
        got = profiled(cp, evaluate(cp, par.block_factors(cp, terms)), reml)[0]
        assert got == pytest.approx(expected, rel=DENSE)
        internal = par.internal_from_terms(cp, [T[0] for T in terms])
        got = profiled(cp, evaluate(cp, par.internal_factors(cp, internal)), reml)[0]
        assert got == pytest.approx(expected, rel=DENSE)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_gradient_and_hessian_by_differences(name: str, reml: bool) -> None:
    cp = build(name)
    k, rng, h = cp.design.n_theta, np.random.default_rng(5), 1e-5
    points = [*rng.normal(size=(3, k)), np.zeros(k)]
    points += [par.internal_from_terms(cp, [T[0] for T in par.terms_from_theta(cp, t)]) for t in thetas(cp)[:4]]

    def value(x: np.ndarray) -> np.ndarray:
        return profiled(cp, evaluate(cp, par.internal_factors(cp, x)), reml)

    def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factors = par.internal_factors(cp, x)
        first = derivatives(cp, factors, evaluate(cp, factors, keep=True), reml)
        return par.gradient(cp, x, first), par.hessian(cp, x, first)

    # many points at once are each of them
    gradients, hessians = slopes(np.array(points))
    for x, gradient, hessian in zip(points, gradients, hessians, strict=True):
        alone = slopes(x[None])
        np.testing.assert_allclose(gradient, alone[0][0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(hessian, alone[1][0], rtol=1e-9, atol=1e-9 * (1.0 + np.abs(hessian).max()))
        # rounding of the criterion divided by the step, and the third derivative times its square
        tolerance = 1e-6 * (1 + np.abs(hessian).max())
        steps = h * np.eye(k)
        numeric = (value(x + steps) - value(x - steps)) / (2 * h)
        np.testing.assert_allclose(gradient, numeric, atol=tolerance)
        numeric = (slopes(x + steps)[0] - slopes(x - steps)[0]) / (2 * h)
        np.testing.assert_allclose(hessian, numeric, atol=tolerance)


@pytest.mark.parametrize("name", ["csh", "ar1h", "toep"])
def test_optimum_is_the_dense_minimum(name: str) -> None:
    cp = build(name)
    fit = bl.Model(FORMULAS[name], frame(), weights="precision").fit()
    rng = np.random.default_rng(2)

    def criterion(x: np.ndarray) -> float:
        if name == "csh":
            return dense(cp, np.append(x[:4] ** 2, -1 / 3 + 4 / 3 * (0.5 + 0.5 * np.sin(x[4]))))
        if name == "ar1h":
            return dense(cp, np.append(x[:4] ** 2, np.sin(x[4])))
        return dense(cp, np.append(x[0], from_partials(np.sin(x[1:]))))

    starts = rng.normal(size=(3, fit.theta.size))
    best = min(minimize(criterion, x, method="BFGS", options={"gtol": 1e-3}).fun for x in starts)
    assert fit.criterion == pytest.approx(dense(cp, fit.theta), rel=DENSE)
    assert fit.criterion < best + 1e-5


def balanced(effect: np.ndarray, noise: float = 0.5) -> pd.DataFrame:
    """Two rows in each cell: effects (groups, times) plus noise, of which the means of cells have nothing."""
    e = np.random.default_rng(4).normal(size=(*effect.shape, 1)) * np.array([1.0, -1.0])
    g, t, _ = np.indices(e.shape)
    y = effect[:, :, None] + noise * e
    return pd.DataFrame({"y": y.ravel(), "g": g.ravel(), "t": pd.Categorical(t.ravel())})


def effects(R: np.ndarray, sds: np.ndarray, groups: int = 30) -> np.ndarray:
    """Effects whose sample covariance has these sds and correlations, means taken out."""
    raw = np.random.default_rng(7).normal(size=(groups, len(sds)))
    raw = np.linalg.qr(raw - raw.mean(axis=0))[0] * np.sqrt(groups - 1)
    values, vectors = np.linalg.eigh(R)
    return raw @ (vectors * np.sqrt(np.maximum(values, 0.0))).T * sds


@pytest.mark.parametrize("keyword", ["csh", "ar1h"])
def test_two_effects_are_unstructured(keyword: str) -> None:
    data = balanced(effects(np.array([[1.0, 0.4], [0.4, 1.0]]), np.array([1.0, 1.5])))
    us = bl.Model("y ~ t + (0 + t | g)", data).fit()
    ours = bl.Model(f"y ~ t + {keyword}(0 + t | g)", data).fit()
    assert ours.criterion == pytest.approx(us.criterion, rel=1e-12)
    assert ours.estimates()["sd_g[t[1]]"] == pytest.approx(us.estimates()["sd_g[t[1]]"], rel=1e-6)
    assert ours.estimates()[f"corr_g[{keyword}]"] == pytest.approx(us.estimates()["corr_g[t[0].t[1]]"], rel=1e-5)
    np.testing.assert_allclose(ours.confint().loc["sd_g[t[1]]"], us.confint().loc["sd_g[t[1]]"], rtol=1e-5)


def test_two_effects_of_unequal_columns_are_unstructured() -> None:
    data = bl.load_dataset("sleepstudy")
    us = bl.Model("Reaction ~ Days + (Days | Subject)", data).fit()
    csh = bl.Model("Reaction ~ Days + csh(Days | Subject)", data).fit()
    assert csh.criterion == pytest.approx(us.criterion, rel=1e-12)
    assert csh.estimates()["corr_Subject[csh]"] == pytest.approx(
        us.estimates()["corr_Subject[Intercept.Days]"], rel=1e-5
    )


def test_two_distances_are_compound_symmetry() -> None:
    """Of two effects toep, ar1 and cs are one model."""
    data = balanced(effects(np.array([[1.0, 0.4], [0.4, 1.0]]), np.array([1.0, 1.5])))
    criteria = [bl.Model(f"y ~ t + {s}(0 + t | g)", data).fit().criterion for s in ("cs", "ar1", "toep")]
    np.testing.assert_allclose(criteria, criteria[0], rtol=1e-12)


def test_a_model_inside_another_is_not_better() -> None:
    data = balanced(effects(from_matrix(0.6), np.array([1.0, 2.0, 0.5, 1.0])))
    names = ("cs", "csh", "ar1", "ar1h", "toep", "us")
    value = {s: bl.Model(f"y ~ t + {s}(0 + t | g)", data).fit().criterion for s in names}
    assert value["us"] < value["csh"] < value["cs"]
    assert value["us"] < value["ar1h"] < value["ar1"]
    assert value["us"] < value["toep"] < min(value["ar1"], value["cs"])


def from_matrix(rho: float) -> np.ndarray:
    return rho ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))


@pytest.mark.parametrize("end", [-1 / 3, 1.0])
def test_ends_of_the_heterogeneous_correlation(end: float) -> None:
    R = np.full((4, 4), end) + (1.0 - end) * np.eye(4)
    fit = bl.Model("y ~ t + csh(0 + t | g)", balanced(effects(R, np.array([1.0, 2.0, 1.0, 0.5])), 0.9)).fit()
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.theta[-1] == pytest.approx(end, abs=1e-12)
    sds = fit.theta[:-1]
    null = fit.optimum.vanished[0]
    G = covariance("csh", 4, fit.theta)
    assert null.direction @ G @ null.direction == pytest.approx(0.0, abs=1e-12)
    # of the effects in units of their sds the mean vanishes at one end, a difference at the other
    expected = 1.0 / sds if end < 0 else np.array([1.0, -1.0, 0.0, 0.0]) / sds
    np.testing.assert_allclose(null.direction, expected / expected[np.argmax(np.abs(expected))], atol=1e-6)
    assert null.slope >= 0
    interval = fit.confint(parameters="corr_g[csh]").loc["corr_g[csh]"]
    assert end in (pytest.approx(interval["conf_low"], abs=1e-9), pytest.approx(interval["conf_high"], abs=1e-9))


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_ends_of_the_heterogeneous_autoregression(end: float) -> None:
    sds = np.array([1.0, 2.0, 1.0, 0.5])
    fit = bl.Model("y ~ t + ar1h(0 + t | g)", balanced(effects(from_matrix(end), sds), 0.9)).fit()
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.theta[-1] == pytest.approx(end, abs=1e-12)
    null = fit.optimum.vanished[0]
    G = covariance("ar1h", 4, fit.theta)
    assert null.direction @ G @ null.direction == pytest.approx(0.0, abs=1e-12)
    assert null.slope >= 0
    interval = fit.confint(parameters="corr_g[ar1h]").loc["corr_g[ar1h]"]
    assert end in (pytest.approx(interval["conf_low"], abs=1e-9), pytest.approx(interval["conf_high"], abs=1e-9))


@pytest.mark.parametrize("keyword", ["csh", "ar1h"])
@pytest.mark.parametrize("effect", [0, 2])
def test_one_sd_of_several_is_zero(effect: int, keyword: str) -> None:
    R, sds = np.full((4, 4), 0.5) + 0.5 * np.eye(4), np.array([1.0, 1.0, 1.0, 2.0])
    sds[effect] = 0.0
    fit = bl.Model(f"y ~ t + {keyword}(0 + t | g)", balanced(effects(R, sds), 0.9)).fit()
    assert fit.status is FitStatus.converged_at_boundary
    assert fit.theta[effect] == 0.0
    # the others show the correlation
    assert fit.estimates()[f"corr_g[{keyword}]"] == pytest.approx(fit.theta[-1], rel=1e-12)
    assert fit.theta[-1] > 0.3
    assert fit.optimum.vanished[0].direction.tolist() == np.eye(4)[effect].tolist()
    assert fit.confint(parameters=f"sd_g[t[{effect}]]").loc[f"sd_g[t[{effect}]]", "conf_low"] == 0.0


@pytest.mark.parametrize("phi", [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.4, 1.0, 0.0), (0.3, -1.0, 0.0), (0.3, 0.2, 1.0)])
def test_perfect_partial_autocorrelations(phi: tuple[float, ...]) -> None:
    rho = from_partials(np.array(phi))
    fit = bl.Model("y ~ t + toep(0 + t | g)", balanced(effects(toeplitz(np.append(1.0, rho)), np.ones(4)), 0.9)).fit()
    assert fit.status is FitStatus.converged_at_boundary
    G = covariance("toep", 4, fit.theta)
    null = fit.optimum.vanished[0].direction
    assert null @ G @ null == pytest.approx(0.0, abs=1e-12)
    order = int(np.flatnonzero(np.abs(phi) == 1.0)[0]) + 1
    assert np.flatnonzero(null).max() == order
    assert fit.optimum.vanished[0].slope >= 0


@pytest.mark.parametrize("structure", ["csh", "ar1h", "toep"])
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
    assert "Singular" in str(fit.summary())


def test_a_zero_that_is_none_for_other_correlations_is_left() -> None:
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    data = balanced(0.3 * effects(np.outer(signs, signs), np.ones(4)))
    cp = cross_products(build_design("y ~ t + toep(0 + t | g)", data))
    from bayeslmm.reml import optimise

    assert optimise(cp, start=np.zeros(4)).criterion == pytest.approx(optimise(cp).criterion, abs=1e-8)
    cp = cross_products(
        build_design("y ~ t + csh(0 + t | g)", balanced(0.3 * effects(np.eye(4), np.array([0, 1, 0, 0]))))
    )
    assert optimise(cp, start=np.zeros(5)).criterion == pytest.approx(optimise(cp).criterion, abs=1e-8)


def test_one_row_for_each_effect_of_a_level() -> None:
    """One row per cell: the residual takes up what the diagonal has in common."""
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"y": rng.normal(size=80), "g": np.repeat(np.arange(20), 4), "t": np.tile(list("abcd"), 20)})
    data["y"] += rng.normal(size=20)[data["g"]]
    for structure in ("toep", "csh", "ar1h"):
        fit = bl.Model(f"y ~ t + {structure}(0 + t | g)", data, saturated="allow").fit(on_failure="ignore")
        assert fit.criterion == pytest.approx(dense(fit.cp, fit.theta), rel=1e-9)


LABELS = [("csh", "sd_g[t[1]]"), ("csh", "corr_g[csh]"), ("toep", "sd_g[toep]"), ("toep", "corr_g[toep.1]")]
LABELS += [("ar1h", "sd_g[t[1]]"), ("ar1h", "corr_g[ar1h]")]
LABELS += [("toep", "corr_g[toep.2]"), ("toep", "corr_g[toep.3]")]


@pytest.mark.parametrize(("keyword", "label"), LABELS)
def test_profile_against_dense(keyword: str, label: str) -> None:
    data = balanced(effects(from_matrix(0.5), np.array([1.0, 1.5, 0.8, 1.0])))
    fit = bl.Model(f"y ~ t + {keyword}(0 + t | g)", data).fit()
    design = fit.design
    codes = design.groupings["g"].codes
    which = list(fit.estimates().index).index(label)

    def criterion(values: np.ndarray, sigma: float) -> float:
        G = covariance(keyword, 4, values)
        V = (design.terms[0].Z @ G @ design.terms[0].Z.T) * (codes[:, None] == codes) + sigma**2 * np.eye(design.n)
        try:
            np.linalg.cholesky(V)
        except np.linalg.LinAlgError:
            return 1e6
        A = design.X.T @ np.linalg.solve(V, design.X)
        r = design.y - design.X @ np.linalg.solve(A, design.X.T @ np.linalg.solve(V, design.y))
        out = np.linalg.slogdet(V)[1] + np.linalg.slogdet(A)[1] + r @ np.linalg.solve(V, r)
        return float(out + (design.n - design.p) * np.log(2 * np.pi))

    start = fit.estimates().to_numpy()[: fit.theta.size + 1]
    for value in fit.confint(0.9, parameters=label).loc[label]:

        def rest(x: np.ndarray, value: float = value) -> float:
            full = np.insert(x, which, value)
            return criterion(full[:-1], full[-1])

        found = minimize(rest, np.delete(start, which), method="BFGS", options={"gtol": 1e-5})
        again = minimize(rest, found.x, method="BFGS", options={"gtol": 1e-5})
        # the chi-square quantile of 90 %
        assert again.fun - fit.criterion == pytest.approx(2.705543454095, abs=1e-5)


def test_an_end_at_the_edge_of_what_is_possible_is_not_given() -> None:
    """The third partial autocorrelation is -1 or 1 there, and the criterion at "the end" was lower by other means."""
    rng = np.random.default_rng(4)
    effect, noise = rng.normal(size=(7, 4)), rng.normal(size=(7, 4, 2))
    g, t, _ = np.indices(noise.shape)
    y = effect[:, :, None] + noise
    data = pd.DataFrame({"y": y.ravel(), "g": g.ravel(), "t": pd.Categorical(t.ravel())})
    ends = bl.Model("y ~ t + toep(0 + t | g)", data).fit().confint(parameters=["corr_g[toep.1]", "corr_g[toep.3]"])
    assert np.isfinite(ends.loc["corr_g[toep.1]"]).all()
    assert np.isnan(ends.loc["corr_g[toep.3]"]).all()


@pytest.mark.parametrize("keyword", ["csh", "ar1h", "toep"])
def test_refits_simulation_latex_and_files(keyword: str, tmp_path: Path) -> None:
    data = balanced(effects(from_matrix(0.5), np.array([1.0, 1.5, 0.8, 1.0])))
    model = bl.Model(f"y ~ t + {keyword}(0 + t | g)", data)
    fit = model.fit()
    fixed = model.fit(fix={"g": fit.theta})
    assert fixed.criterion == pytest.approx(fit.criterion, rel=1e-10)
    again = fit.refit(fit.design.y)
    assert again.criterion == pytest.approx(fit.criterion, rel=1e-10)
    Y = np.asarray(fit.simulate(400, random_seed=1)).reshape(fit.design.n, -1).T
    # the sample covariance of a cell's mean beside its model, within five standard errors
    cells = Y.reshape(Y.shape[0], 30, 4, 2).mean(axis=3) - np.asarray(fit.design.X @ fit.fixef().to_numpy()).reshape(
        30, 4, 2
    ).mean(axis=2)
    sample = np.einsum("sgi,sgj->ij", cells, cells) / (cells.shape[0] * 30)
    G = fit.sigma**2 * (covariance(keyword, 4, fit.theta) + 0.5 * np.eye(4))
    error = np.sqrt((np.outer(np.diag(G), np.diag(G)) + G**2) / (cells.shape[0] * 30))
    assert (np.abs(sample - G) < 5.0 * error).all()
    fit.save(tmp_path / "fit.bayeslmm")
    read = bl.load(tmp_path / "fit.bayeslmm")
    assert read.estimates().equals(fit.estimates())
    assert read.design.terms[0].structure == fit.design.terms[0].structure
    latex = model.latex()
    assert {"csh": r"\rho_{b}", "ar1h": r"\rho_{b}^{3}", "toep": r"\rho_{b,3}"}[keyword] in latex


def test_impossible_correlations_are_refused() -> None:
    data = balanced(effects(from_matrix(0.5), np.ones(4)))
    with pytest.raises(bl.DesignError, match=r"-0.5 is not possible: csh of 4 effects has correlations from -0.3333"):
        bl.Model("y ~ t + csh(0 + t | g)", data).fit(fix={"g": [1.0, 1.0, 1.0, 1.0, -0.5]})
    with pytest.raises(bl.DesignError, match=r"0.9, -0.9, 0 are not possible: .* -0.9 at distance 2 has a partial"):
        bl.Model("y ~ t + toep(0 + t | g)", data).fit(fix={"g": [1.0, 0.9, -0.9, 0.0]})


def test_keywords_and_objects_are_one_model() -> None:
    data = balanced(effects(from_matrix(0.5), np.ones(4)))
    known = {"csh": bl.HeterogeneousCompoundSymmetry(), "ar1h": bl.HeterogeneousAR1(), "toep": bl.Toeplitz()}
    for keyword, structure in known.items():
        one = bl.Model(f"y ~ t + {keyword}(0 + t | g)", data)
        other = bl.Model("y ~ t + (0 + t | g)", data, cov={"g": structure})
        assert one.fit().criterion == other.fit().criterion
    assert HeterogeneousCompoundSymmetry(3).resized(1).keyword == "diag"
    assert bl.HeterogeneousAR1(3).resized(1).keyword == "diag"
    with pytest.raises(bl.DesignError, match=r"times=\(2, 1\) has to be 2 increasing whole numbers"):
        bl.HeterogeneousAR1(2, times=(2, 1))
    assert Toeplitz().resized(3).pairs == ((0, 1), (0, 2))
