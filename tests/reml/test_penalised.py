"""Fits with a penalty: optima found by others, the same objective in dense matrices, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import special_ortho_group

import bayeslmm as bl
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.reml.penalty import Penalty, penalty_derivatives, penalty_value, resolve_penalty
from bayeslmm.teaching import build_matrices, dense_criterion, factors_from_theta

CAKE = "angle ~ recipe + I(temp - 200) + (I(temp - 200) | recipe:replicate)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
# Minima of the objectives that blme 1.0-5 documents, found by a general optimiser in R: theta, objective.
FOUND = [
    ("Dyestuff", "Yield ~ 1 + (1 | Batch)", "wishart", [1.14336853027344], 319.704779945635),
    ("Dyestuff", "Yield ~ 1 + (1 | Batch)", "gamma", [1.03239288330078], 319.787277954713),
    ("Dyestuff", "Yield ~ 1 + (1 | Batch)", 2.5, [1.14336853027344], 319.704779945635),
    ("Dyestuff2", "Yield ~ 1 + (1 | Batch)", "wishart", [0.410557861328125], 166.140707112547),
    ("Dyestuff2", "Yield ~ 1 + (1 | Batch)", "boundary_avoiding", [0.321407958984375], 165.133508148632),
    ("sleepstudy", SLEEP, "wishart", [1.06916348706702, 0.00165374940156177, 0.251846507662062], 1747.84242045294),
    ("cake", CAKE, "boundary_avoiding", [1.49089334590171, 0.00615437422543125, 0.0110616308341434], 1704.76118777359),
]


def criterion(design, theta, reml):
    """The profiled criterion from the matrices."""
    return dense_criterion(build_matrices(design, factors_from_theta(design, theta), 1.0), reml)


def crossed(levels: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g, h = np.divmod(np.arange(levels * 4), 4)[0], rng.integers(0, levels // 2, levels * 4)
    x = rng.normal(size=g.size)
    y = 3 + x + 0.3 * rng.normal(size=levels)[g] + 0.2 * rng.normal(size=levels)[h] * x + rng.normal(size=g.size)
    return pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})


@pytest.mark.parametrize(("name", "formula", "penalty", "theta", "objective"), FOUND)
def test_optima_found_by_others(name, formula, penalty, theta, objective):
    fit = bl.Model(formula, bl.load_dataset(name)).fit(penalty=penalty)
    np.testing.assert_allclose(fit.theta, theta, atol=1e-6)
    assert fit.optimum.objective == pytest.approx(objective, abs=1e-9)
    assert fit.status.ok
    assert not fit.is_singular


@pytest.mark.parametrize("reml", [True, False])
def test_the_criterion_is_the_one_without_the_penalty(reml):
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    fit = model.fit(reml, penalty="wishart")
    assert fit.criterion == pytest.approx(criterion(fit.design, fit.theta, reml), abs=1e-8)
    determinant = fit.theta[0] * fit.theta[2]
    assert fit.optimum.objective == pytest.approx(fit.criterion - 3 * np.log(determinant), abs=1e-9)
    assert fit.criterion > model.fit(reml).criterion


@pytest.mark.parametrize(
    ("formula", "shape", "logs"),
    [
        ("y ~ x + (1 | g) + (x | h)", 2.5, lambda t: 1.5 * np.log(t[0] * t[1] * t[3])),
        ("y ~ x + (x || g)", 2.0, lambda t: np.log(t[0] * t[1])),
        ("y ~ x + id(0 + h4 | g)", 2.0, lambda t: np.log(t[0])),
        ("y ~ x + cs(0 + h4 | g)", 3.0, lambda t: 2 * np.log(t[0])),
        ("y ~ x + ar1(0 + h4 | g)", 2.0, lambda t: np.log(t[0])),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_no_other_point_of_the_dense_objective_is_lower(formula, shape, logs, reml):
    data = pd.concat([crossed(24, 3), crossed(24, 4)], ignore_index=True)
    data["h4"] = (np.arange(len(data)) % 4).astype(str)
    fit = bl.Model(formula, data).fit(reml, penalty=shape)

    def objective(theta):
        if (logged := logs(theta)) != logged or not np.isfinite(logged):
            return np.inf
        try:
            for term, part in zip(fit.design.terms, np.split(theta, ends), strict=True):
                term.structure.check(part)
        except DesignError:
            return np.inf
        return criterion(fit.design, theta, reml) - 2 * logs(theta)

    ends = np.cumsum([len(term.structure.rows) for term in fit.design.terms])[:-1]
    assert fit.optimum.objective == pytest.approx(objective(fit.theta), abs=1e-8)
    with np.errstate(invalid="ignore"):
        best = minimize(objective, fit.theta + 0.03, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    assert fit.optimum.objective <= best.fun + 1e-9
    np.testing.assert_allclose(fit.theta, best.x, atol=3e-4)


def test_many_crossed_effects_have_the_same_objective():
    data = crossed(260, 5)
    fit = bl.Model("y ~ x + (1 | g) + (x | h)", data).fit(penalty="wishart")
    assert isinstance(fit.cp.sums, Hierarchy)

    def objective(theta):
        return criterion(fit.design, theta, True) - 3 * np.log(theta[0] * theta[1] * theta[3])

    assert fit.optimum.objective == pytest.approx(objective(fit.theta), rel=1e-10)
    step = 1e-4 * np.eye(4)
    slopes = [(objective(fit.theta + h) - objective(fit.theta - h)) / 2e-4 for h in step]
    np.testing.assert_allclose(slopes, 0.0, atol=2e-4)


@pytest.mark.parametrize("formula", ["y ~ x + (x | g)", "y ~ x + cs(0 + h4 | g)", "y ~ x + ar1(0 + h4 | g)"])
def test_derivatives_of_the_penalty(formula):
    data = pd.concat([crossed(12, 1), crossed(12, 2)], ignore_index=True).assign(h4=(np.arange(96) % 4).astype(str))
    cp = bl.Model(formula, data).cross_products
    penalty, x = Penalty("test", 2.0, 2.5), np.array([0.7, -0.4, 0.3])[: cp.design.n_theta]
    gradient, hessian = penalty_derivatives(cp, penalty, x, ())
    steps = 1e-6 * np.eye(x.size)
    slopes = [(penalty_value(cp, penalty, x + h, ()) - penalty_value(cp, penalty, x - h, ())) / 2e-6 for h in steps]
    rows = [
        (penalty_derivatives(cp, penalty, x + h, ())[0] - penalty_derivatives(cp, penalty, x - h, ())[0]) / 2e-6
        for h in steps
    ]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(hessian, rows, rtol=1e-7, atol=1e-7)


def test_a_change_of_the_basis_does_not_change_the_fit():
    data = bl.load_dataset("sleepstudy")
    plain = bl.Model(SLEEP, data).fit(penalty="wishart")
    moved = data.assign(Days=1000 * data["Days"] - 3e6, Reaction=1e-8 * data["Reaction"] - 7)
    other = bl.Model(SLEEP, moved).fit(penalty="wishart")
    np.testing.assert_allclose(1e8 * other.sigma, plain.sigma, rtol=1e-7)
    np.testing.assert_allclose(1e8 * other.residuals(), plain.residuals(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        1e11 * other.estimates()["sd_Subject[Days]"], plain.estimates()["sd_Subject[Days]"], rtol=1e-6
    )


def test_a_rotation_of_two_columns_rotates_the_covariance():
    data = crossed(24, 3)
    R = special_ortho_group(2).rvs(random_state=1)
    data[["one", "slope"]] = np.column_stack([np.ones(len(data)), data["x"]])
    data[["u", "v"]] = data[["one", "slope"]].to_numpy() @ R
    first = bl.Model("y ~ x + (0 + one + slope | g)", data).fit(penalty="wishart")
    second = bl.Model("y ~ x + (0 + u + v | g)", data).fit(penalty="wishart")
    G = second.optimum.terms[0] @ second.optimum.terms[0].T
    np.testing.assert_allclose(first.optimum.terms[0] @ first.optimum.terms[0].T, R @ G @ R.T, atol=1e-8)


def test_no_effects_of_the_penalty_with_much_data():
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(20_000), 3)
    y = rng.normal(size=g.size) + 0.7 * rng.normal(size=20_000)[g]
    model = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g.astype(str)}))
    assert model.fit(penalty="gamma").theta == pytest.approx(model.fit().theta, abs=5e-4)


def test_known_parameters_are_not_penalised():
    data = bl.load_dataset("Penicillin")
    model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    fit = model.fit(fix={"sample": [3.0]}, penalty="gamma")
    assert fit.theta[1] == 3.0
    assert fit.optimum.objective == pytest.approx(fit.criterion - 2 * np.log(fit.theta[0]), abs=1e-10)


def test_it_is_saved_with_the_fit(tmp_path):
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty=3)
    fit.save(tmp_path / "fit.npz")
    again = bl.load(tmp_path / "fit.npz")
    assert again.penalty == fit.penalty == Penalty("shape 3", 3.0, 3.0)
    assert again.criterion == fit.criterion
    assert type(again) is type(fit)
    ordinary = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    ordinary.save(tmp_path / "plain.npz")
    assert bl.load(tmp_path / "plain.npz").penalty is None


def test_refitting_keeps_the_penalty():
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="gamma")
    again = fit.refit(5 + 2 * fit.design.y)
    assert again.penalty == fit.penalty
    np.testing.assert_allclose(again.theta, fit.theta, rtol=1e-9)


def test_what_needs_the_top_of_the_likelihood_is_refused():
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="gamma")
    asks = [
        lambda: fit.profile("sigma"),
        lambda: fit.confint(method="profile"),
        lambda: fit.confint(method="bootstrap"),
        lambda: fit.confint(parameters="sd_Batch[Intercept]"),
        lambda: fit.bootstrap(10),
        lambda: fit.test_zero("Batch"),
        lambda: bl.ranova(fit),
        lambda: fit.boundary(),
        lambda: fit.refit_many(fit.design.y[:, None]),
    ]
    for ask in asks:
        with pytest.raises(FitError, match="penalised estimate is not there"):
            ask()


def test_what_a_point_estimate_has_is_given():
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit(penalty="gamma")
    low, high = fit.confint().loc["Intercept"]
    assert (low + high) / 2 == pytest.approx(5.6656)
    assert high - low == pytest.approx(2 * 1.959963984540054 * 0.820469215953789, rel=1e-6)
    assert fit.tidy()["conf.low" if "conf.low" in fit.tidy() else "conf_low"].isna().sum() == 2
    assert "with a penalty" in str(fit.summary())
    assert "off zero by construction" in str(fit.summary())


@pytest.mark.parametrize("penalty", ["wrong", 1.0, 0.5, True, float("nan"), float("inf"), [2.0]])
def test_unknown_penalties_are_refused(penalty):
    with pytest.raises(FitError, match="penalty="):
        resolve_penalty(penalty)


@pytest.mark.parametrize(("reml", "penalty"), [(True, "gamma"), (True, "wishart"), (False, 3)])
def test_a_penalty_that_outweighs_the_likelihood_is_refused(reml, penalty):
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"y": rng.normal(size=10), "g": np.repeat(["a", "b"], 5)})
    with pytest.raises(FitError, match="no minimum"):
        bl.Model("y ~ 1 + (1 | g)", data).fit(reml, penalty=penalty)
    assert bl.Model("y ~ 1 + (1 | g)", data).fit(reml, penalty=1.5).status.ok
