"""Fits with a known residual standard deviation: the criterion is not profiled, and all that reads a fit knows."""

from __future__ import annotations

import tempfile
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.reml import optimise
from bayeslmm.teaching.criterion import dense_criterion

DESIGNS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", 20.0, "auto"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", 0.7, "auto"),
    "crossed, sparse": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", 0.7, "hierarchy"),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes", 1.5, "hierarchy"),
}


def model_of(name: str) -> tuple[bl.Model, float]:
    formula, data, sigma, store = DESIGNS[name]
    return bl.Model(formula, bl.load_dataset(data), store=store), sigma


@pytest.fixture(scope="module")
def bcg() -> bl.REMLResult:
    return bl.Model("yi ~ 1 + ablat + (1 | trial)", bl.load_dataset("bcg"), residual_sd="sei").fit()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", DESIGNS)
def test_the_criterion_at_a_known_sigma(name: str, reml: bool) -> None:
    """The dense criterion of the teaching page, at the estimate and beside it; its slope there is none."""
    model, sigma = model_of(name)
    fit = model.fit(reml, sigma=sigma)
    assert fit.status.ok
    assert fit.sigma == sigma
    assert fit.df == fit.design.p + fit.design.n_theta

    def dense(theta: np.ndarray) -> float:
        return dense_criterion(model.matrices(theta=theta, sigma=1.0), reml=reml, sigma=sigma)

    assert fit.criterion == pytest.approx(dense(fit.theta), rel=1e-11)
    for k in range(fit.theta.size):
        for step in (-0.02, 0.02):
            beside = fit.theta + step * (np.arange(fit.theta.size) == k)
            assert dense(beside) > fit.criterion
            value, slope = fit.criterion_at(beside, gradient=True)
            assert value == pytest.approx(dense(beside), rel=1e-11)
            h = 1e-5 * (np.arange(fit.theta.size) == k)
            assert slope[k] == pytest.approx((dense(beside + h) - dense(beside - h)) / 2e-5, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["slopes", "crossed"])
def test_curvature_by_differences(name: str) -> None:
    model, sigma = model_of(name)
    optimum = model.fit(sigma=sigma).optimum
    x, h = optimum.internal, 1e-4
    k = x.size

    def value(at: np.ndarray) -> float:
        cp = optimum.cp
        return float(profiled(cp, evaluate(cp, par.internal_factors(cp, at[None])))[0])

    eye = h * np.eye(k)
    H = [[value(x + a + b) - value(x + a - b) - value(x - a + b) + value(x - a - b) for b in eye] for a in eye]
    assert np.allclose(optimum.hessian, np.array(H) / (4 * h * h), rtol=1e-3, atol=1e-3 * np.abs(optimum.hessian).max())


def test_an_updated_fit_keeps_what_is_known(bcg: bl.REMLResult) -> None:
    held = model_of("slopes")[0].fit(sigma=20.0)
    assert held.update("~ . - Days").sigma == 20.0
    smaller = bcg.update("~ . - ablat")
    assert smaller.heterogeneity().tau2 == pytest.approx(0.313243258136481, rel=1e-9)


def test_sigma_at_its_estimate_changes_nothing_else() -> None:
    model, _ = model_of("slopes")
    free = model.fit()
    held = model.fit(sigma=free.sigma)
    assert np.allclose(held.theta, free.theta, rtol=1e-7)
    assert held.criterion == pytest.approx(free.criterion, rel=1e-12)


@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_units_do_not_matter(bcg: bl.REMLResult, factor: float) -> None:
    data = bl.load_dataset("bcg").assign(yi=lambda d: factor * d["yi"], sei=lambda d: factor * d["sei"])
    fit = bl.Model("yi ~ 1 + ablat + (1 | trial)", data, residual_sd="sei").fit()
    assert fit.estimates().to_numpy() / factor == pytest.approx(bcg.estimates().to_numpy(), rel=1e-9)
    ends = [f.confint().to_numpy() for f in (fit, bcg)]
    assert np.allclose(ends[0] / factor, ends[1], rtol=1e-6)


@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_effects_far_above_the_standard_errors(factor: float) -> None:
    """Then tau is the sd of the estimates, whatever their standard errors are."""
    data = bl.load_dataset("bcg").assign(yi=lambda d: factor * d["yi"])
    fit = bl.Model("yi ~ 1 + (1 | trial)", data, residual_sd="sei").fit()
    assert fit.status.ok
    assert fit.theta[0] == pytest.approx(data["yi"].std(), rel=1e-3 if factor < 1e4 else 1e-8)


def test_no_effects_at_all() -> None:
    """Estimates that are all alike have a sum of squares of zero, which is no perfect fit here."""
    data = pd.DataFrame({"yi": [1.0, 1.0 + 1e-9, 1.0, 1.0], "se": [1.0, 2.0, 1.0, 3.0], "study": list("abcd")})
    fit = bl.Model("yi ~ 1 + (1 | study)", data, residual_sd="se").fit()
    assert fit.is_singular
    assert fit.std_error().iloc[0] == pytest.approx((1 + 1 / 4 + 1 + 1 / 9) ** -0.5, rel=1e-9)


def test_a_response_on_a_line() -> None:
    """Nothing is left of y: the criterion at a known sigma is as finite as any."""
    data = pd.DataFrame({"y": [1.0, 2, 3, 4], "x": [0.0, 1, 2, 3], "s": list("abcd"), "se": [0.5, 0.4, 0.3, 0.6]})
    fit = bl.Model("y ~ x + (1 | s)", data, residual_sd="se").fit()
    assert fit.is_singular
    assert fit.fixef().tolist() == pytest.approx([1.0, 1.0])
    w = data["se"] ** -2.0
    X = np.column_stack([np.ones(4), data["x"]])
    assert np.allclose(fit.vcov(), np.linalg.inv(X.T @ (X * w.to_numpy()[:, None])))


def test_a_study_that_outweighs_all_others() -> None:
    """Typical variance and Q in exact fractions."""
    y, se = [1, 2, 3, 7], [F(1, 2), F(1, 3), F(1, 10**9), F(1, 4)]
    w = [1 / s**2 for s in se]
    mean = sum(a * b for a, b in zip(w, y, strict=True)) / sum(w)
    q = sum(a * (b - mean) ** 2 for a, b in zip(w, y, strict=True))
    trace = sum(w[i] * w[j] for i in range(4) for j in range(4) if i != j) / sum(w)
    data = pd.DataFrame({"y": [float(v) for v in y], "s": list("abcd"), "se": [float(s) for s in se]})
    found = bl.Model("y ~ 1 + (1 | s)", data, residual_sd="se").fit().heterogeneity()
    assert found.typical_variance == pytest.approx(float(3 / trace), rel=1e-9)
    assert found.Q.statistic == pytest.approx(float(q), rel=1e-9)


def test_degrees_of_freedom_of_one_variance(bcg: bl.REMLResult) -> None:
    """Satterthwaite: twice the squared variance over the variance of its estimate, densely, sigma playing no part."""
    X, y, s2 = bcg.design.X, bcg.design.y, bcg.design.residual.sd**2

    def at(tau2: float) -> tuple[float, np.ndarray]:
        w = 1.0 / (s2 + tau2)
        C = np.linalg.inv(X.T @ (X * w[:, None]))
        e = y - X @ (C @ (X.T @ (w * y)))
        return float(-np.log(w).sum() - np.linalg.slogdet(C)[1] + w @ e**2), np.diagonal(C)

    tau2, h = float(bcg.theta[0] ** 2), 1e-4
    curvature = (at(tau2 + h)[0] - 2 * at(tau2)[0] + at(tau2 - h)[0]) / h**2
    slope = (at(tau2 + h)[1] - at(tau2 - h)[1]) / (2 * h)
    expected = 2 * at(tau2)[1] ** 2 / (slope**2 * 2 / curvature)
    assert bcg.coefficients(ddf="satterthwaite")["df"].to_numpy() == pytest.approx(expected, rel=1e-4)
    error = bcg.variances("variance")["std_error"].iloc[0]
    assert error == pytest.approx(np.sqrt(2 / curvature), rel=1e-5)


def test_nothing_speaks_of_sigma(bcg: bl.REMLResult) -> None:
    assert "Residual: known standard errors, not estimated" in str(bcg)
    for table in (bcg.confint(), bcg.estimates(), bcg.varcorr(), bcg.tidy(), bcg.variances()):
        assert "igma" not in str(table)
        assert "Residual" not in str(table)
    assert "sigma" not in bcg.influence().table
    assert "sigma held at 2" in str(model_of("crossed")[0].fit(sigma=2.0))
    with pytest.raises(bl.DesignError, match="'sigma' names no parameter"):
        bcg.confint(parameters="sigma")
    with pytest.raises(bl.DesignError, match="known standard errors"):
        bcg.simulate(1, sigma=2.0)


def test_a_new_study_has_its_own_standard_error(bcg: bl.REMLResult) -> None:
    new = pd.DataFrame({"ablat": [30.0, 30.0], "trial": ["x", "y"], "sei": [0.5, 2.0]})
    mean = bcg.predict(new, new_levels="sample", ddf="z")["std_error"].to_numpy()
    observed = bcg.predict(new, kind="observation", new_levels="sample", ddf="z")["std_error"].to_numpy()
    assert observed**2 - mean**2 == pytest.approx([0.25, 4.0])
    without = new.drop(columns="sei")
    given = bcg.predict(without, kind="observation", new_levels="sample", residual_sd=[0.5, 2.0], ddf="z")
    assert given["std_error"].to_numpy() == pytest.approx(observed)
    with pytest.raises(bl.DesignError, match="'sei'"):
        bcg.predict(without, kind="observation", new_levels="sample")
    with pytest.raises(bl.DesignError, match="known residual standard deviations and no weights"):
        bcg.predict(new, kind="observation", new_levels="sample", weights=[1.0, 1.0])


def test_simulated_responses_have_the_known_variances(bcg: bl.REMLResult) -> None:
    y = bcg.simulate(20_000, random_seed=1).to_numpy()
    expected = bcg.design.residual.sd**2 + bcg.theta[0] ** 2
    # The relative error of a variance of K normal numbers is sqrt(2 / K).
    assert np.abs(y.var(axis=1) / expected - 1.0).max() < 5 * np.sqrt(2 / 20_000)


def test_many_responses_are_fitted_as_one(bcg: bl.REMLResult) -> None:
    y = bcg.simulate(4, random_seed=2)
    many = bcg.refit_many(y).estimates()
    for k in range(4):
        assert many.iloc[k].to_numpy() == pytest.approx(bcg.refit(y[k]).estimates().to_numpy(), rel=1e-7, abs=1e-9)


def test_without_a_row_as_without_it_in_the_data(bcg: bl.REMLResult) -> None:
    data = bl.load_dataset("bcg").drop(index=4)
    alone = bl.Model("yi ~ 1 + ablat + (1 | trial)", data, residual_sd="sei").fit()
    assert bcg.influence().estimates.loc[4].to_numpy() == pytest.approx(alone.estimates().to_numpy(), rel=1e-7)


def test_the_mode_knows_sigma(bcg: bl.REMLResult) -> None:
    model = bl.Model(bcg.formula, bl.load_dataset("bcg"), residual_sd="sei")
    assert model.fit(priors="flat").theta == pytest.approx(bcg.theta, rel=1e-6)
    mode = model.fit(priors={"sd": bl.HalfNormal(0.3)})
    assert mode.sigma == 1.0
    around = [mode.theta[0] + h for h in (-1e-3, 0.0, 1e-3)]
    heights = [-0.5 * bcg.criterion_at([t]) - 0.5 * (t / 0.3) ** 2 for t in around]
    assert heights[1] > max(heights[0], heights[2])
    assert "and sigma" not in str(mode)


def test_files_keep_what_is_known(bcg: bl.REMLResult) -> None:
    held = model_of("slopes")[0].fit(sigma=20.0)
    for k, fit in enumerate((bcg, held)):
        with tempfile.TemporaryDirectory() as folder:
            fit.save(Path(folder) / f"{k}.npz")
            again = bl.load(Path(folder) / f"{k}.npz")
        assert again == fit
        assert again.design.sigma == fit.design.sigma


def test_tests_of_zero() -> None:
    """Q is exact; F and the exact likelihood ratio need an estimated sigma."""
    fit = bl.Model("yi ~ 1 + (1 | school)", bl.load_dataset("eight_schools"), residual_sd="sei").fit()
    found = fit.test_zero("school", method="Q")
    assert found.p_value == pytest.approx(0.695659166635196, rel=1e-9)
    with pytest.raises(bl.DesignError, match="does not apply"):
        fit.test_zero("school", method="exact")
    report = str(fit.boundary())
    assert "The fit is singular" in report


def test_large_factors_look_like_any_other() -> None:
    """A start far from the estimate, one factor held: the same minimum."""
    model, sigma = model_of("crossed")
    cp = model.fit(sigma=sigma).cp
    base = optimise(cp)
    for start in (1e-3, 50.0):
        assert optimise(cp, start=np.full(2, start)).criterion == pytest.approx(base.criterion, rel=1e-10)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sei": "sei"}, "residual_sd, the known standard errors"),
        ({"residual_sd": "sei", "weights": "sei"}, "both say how the residual variances"),
        ({"residual_sd": "-sei"}, "negative, zero or infinite"),
        ({"residual_sd": np.r_[0.0, np.ones(12)]}, r"0 at row\(s\) 0"),
        ({"residual_sd": "nothing"}, "is not a column"),
        ({"residual_sd": [1.0]}, "13 rows"),
        ({}, "residual_sd='se'"),
    ],
)
def test_bad_standard_errors(given: dict[str, object], said: str) -> None:
    with pytest.raises(bl.DesignError, match=said):
        bl.Model("yi ~ 1 + (1 | trial)", bl.load_dataset("bcg"), **given)


def test_what_has_no_meaning_is_refused(bcg: bl.REMLResult) -> None:
    model = bl.Model(bcg.formula, bl.load_dataset("bcg"), residual_sd="sei")
    with pytest.raises(bl.ArgumentError, match="lme4 estimates sigma"):
        model.to("lme4")
    assert "yi | se(sei) ~" in model.to("brms")
    with pytest.raises(bl.DesignError, match="is not a"):
        model.fit(sigma=0.0)
    with pytest.raises(bl.DesignError, match=r"model.fit\(sigma=\.\.\.\)"):
        model.fit(fix={"sigma": 1.0})
    for method in ("pivot", "profile"):
        with pytest.raises(bl.DesignError, match="I2 and H2"):
            bcg.confint(method=method, parameters="icc_trial[Intercept]")
    free = model_of("crossed")[0].fit()
    with pytest.raises(bl.DesignError, match="residual_sd='se'"):
        free.heterogeneity()
    with pytest.raises(bl.DesignError, match="knapp-hartung"):
        free.coefficients(ddf="knapp-hartung")
    with pytest.raises(bl.DesignError, match="residual_sd= is for models"):
        free.predict(bl.load_dataset("Penicillin"), kind="observation", residual_sd=[1.0])


def test_roots_of_negative_variances_are_no_missing_values() -> None:
    data = bl.load_dataset("bcg")
    data["vi"] = data["sei"] ** 2
    data.loc[2, "vi"] = -1.0
    with pytest.raises(bl.DesignError, match=r"sqrt\(vi\) is undefined at row\(s\) 2 although"):
        bl.Model("yi ~ 1 + (1 | trial)", data, residual_sd="sqrt(vi)")
    data.loc[2, "vi"] = np.nan
    assert len(bl.Model("yi ~ 1 + (1 | trial)", data, residual_sd="sqrt(vi)").dropped) == 1
