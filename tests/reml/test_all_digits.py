"""Estimates at any ratio of variances, against the criterion with 60 digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import ConvergenceWarning
from bayeslmm.likelihood import beta_covariance, conditional_means, cross_products, derivatives, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.accurate import as_factor, evaluate_accurately, rows_of
from bayeslmm.likelihood.accurate_derivatives import accurate_derivatives, accurate_gradient
from bayeslmm.likelihood.recheck import recheck
from bayeslmm.reml import confirm, optimise
from bayeslmm.reml.status import FitStatus

from .exact import exact_criterion
from .hostile import FORMULAS, draw

# Of the criterion's size: the last digits of a sum of logarithms.
DIGITS = 2e-15
# -2 log likelihood.
GAP = 1e-6


def frame(seed: int, n: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    g = np.concatenate([np.arange(5), rng.integers(0, 5, n - 5)])
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": g,
            "h": rng.integers(0, 4, n),
            "k": rng.integers(0, 3, n),
            "f": np.array(list("abc"))[rng.integers(0, 3, n)],
            "w": rng.uniform(0.5, 2.0, n),
            "y": 5.0 + rng.normal(size=n) + 1e6 * rng.normal(size=5)[g],
        }
    )


@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6, 1e9, 1e12, 1e15])
@pytest.mark.parametrize("formula", [FORMULAS[i] for i in (0, 1, 4, 13)])
def test_the_evaluation_has_all_digits(formula: str, ratio: float) -> None:
    design = bl.Model(formula, frame(1), weights="w").design
    cp = cross_products(design)
    x = ratio * np.random.default_rng(2).uniform(0.3, 2.0, design.n_theta)
    factors = par.internal_factors(cp, x)
    found = evaluate_accurately(rows_of(cp), [T[0] for T in factors])
    assert found is not None
    for reml in (True, False):
        exact = float(exact_criterion(design, [T[0] for T in par.term_factors(cp, factors)], reml))
        # Factors on the user's columns are rounded once more on the way to the exact criterion.
        assert found.criterion(reml) == pytest.approx(exact, rel=20 * DIGITS)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("formula", FORMULAS)
def test_derivatives_are_those_of_the_elimination(formula: str, zero: bool, reml: bool) -> None:
    cp = cross_products(bl.Model(formula, frame(3, 45), weights="w").design)
    x = np.random.default_rng(4).uniform(0.5, 1.5, cp.design.n_theta)
    x[-1] *= not zero
    factors = par.internal_factors(cp, x)
    found = evaluate_accurately(rows_of(cp), [T[0] for T in factors])
    assert found is not None
    gradient, hessian = accurate_gradient(cp, x, accurate_derivatives(found, reml))
    first = derivatives(cp, factors, evaluate(cp, factors), reml)
    # The response holds effects of 1e6: ten digits are left of the elimination's.
    scale = np.abs(par.hessian(cp, x, first)).max()
    np.testing.assert_allclose(gradient, par.gradient(cp, x, first)[0], atol=1e-9 * scale)
    np.testing.assert_allclose(hessian, par.hessian(cp, x, first)[0], atol=1e-9 * scale)


def test_derivatives_at_a_ratio_of_1e9_are_differences_of_the_criterion() -> None:
    cp = cross_products(bl.Model("y ~ x + (x | g) + (1 | h)", frame(5)).design)
    rows, x = rows_of(cp), 1e9 * np.array([1.0, 0.3, 0.7, 1.4])

    def at(logs: np.ndarray) -> float:
        found = evaluate_accurately(rows, [T[0] for T in par.internal_factors(cp, x * np.exp(logs))])
        assert found is not None
        return found.criterion(True)

    found = evaluate_accurately(rows, [T[0] for T in par.internal_factors(cp, x)])
    assert found is not None
    gradient, hessian = accurate_gradient(cp, x, accurate_derivatives(found, True))
    step = 1e-4 * np.eye(x.size)
    differences = np.array([(at(e) - at(-e)) / 2e-4 for e in step])
    np.testing.assert_allclose(gradient * x, differences, atol=1e-6)
    second = np.array([(at(10 * e) - 2 * at(0 * e) + at(-10 * e)) / 1e-6 for e in step])
    np.testing.assert_allclose(np.diag(hessian) * x**2 + gradient * x, second, atol=1e-4)


def test_the_factor_is_the_one_of_the_elimination() -> None:
    data = frame(6)
    data["y"] = np.random.default_rng(7).normal(size=len(data)) + 3
    cp = cross_products(bl.Model("y ~ x + (x | g) + (1 | h)", data, weights="w").design)
    factors = par.internal_factors(cp, np.array([0.8, 0.3, 0.7, 1.4]))
    found = evaluate_accurately(rows_of(cp), [T[0] for T in factors])
    assert found is not None
    ours, theirs = as_factor(found), evaluate(cp, factors)
    for name in ("log_det", "log_det_fixed", "r2", "chol", "solution", "residual"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-11, err_msg=name)
    np.testing.assert_allclose(beta_covariance(cp, ours), beta_covariance(cp, theirs), rtol=1e-10)
    means = conditional_means(cp, factors, ours), conditional_means(cp, factors, theirs)
    np.testing.assert_allclose(means[0].beta, means[1].beta, rtol=1e-10)
    for own, other in zip(means[0].b, means[1].b, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-10)


def small_extremes(count: int) -> list[int]:
    """Seeds of designs with few enough rows for many evaluations with 60 digits."""
    drawn = ((seed, draw(seed, "extreme")) for seed in range(200))
    small = (seed for seed, (_, data, _, _) in drawn if (data["fr"].sum() if "fr" in data else len(data)) <= 34)
    return [seed for seed, _ in zip(small, range(count), strict=False)]


@pytest.mark.parametrize("seed", small_extremes(9))
def test_no_fit_at_an_extreme_ratio_is_above_its_neighbours_or_wrong_about_itself(seed: int) -> None:
    formula, data, arguments, reml = draw(seed, "extreme")
    model = bl.Model(formula, data, **arguments, saturated="allow")
    fit = model.fit(reml, on_failure="ignore")
    if not fit.status.ok:
        return

    def exact(theta: np.ndarray) -> float:
        return float(exact_criterion(fit.design, [T[0] for T in par.terms_from_theta(fit.cp, theta)], reml))

    here = exact(fit.theta)
    assert fit.criterion == pytest.approx(here, rel=1e-13, abs=1e-9)
    for i in np.flatnonzero(_scales(fit)):
        for factor in (1e-2, 0.9, 1.1, 1e2):
            theta = fit.theta.copy()
            theta[i] *= factor
            assert exact(theta) >= here - GAP


def _scales(fit: bl.REMLResult) -> list[bool]:
    """Which entries of theta are standard deviations."""
    found = list[bool]()
    for term in fit.design.terms:
        structure = term.structure
        entries = zip(structure.rows, structure.cols, strict=True)
        found += [bool(i == j) and not (structure.shared and i > 0) for i, j in entries]
    return found


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | g) + (1 | h)", "y ~ 1 + (1 | g/k)"])
@pytest.mark.parametrize("ratio", [1e5, 1e7, 1e9])
def test_a_balanced_layout_has_its_estimates_by_analysis_of_variance(formula: str, ratio: float) -> None:
    """Two-way and nested balanced layouts have REML estimates in closed form where no variance is zero."""
    rng = np.random.default_rng(11)
    a, b, m = 6, 5, 3
    g, h, _ = (part.ravel() for part in np.meshgrid(np.arange(a), np.arange(b), np.arange(m), indexing="ij"))
    nested = "/" in formula
    second = rng.normal(size=(a, b))[g, h] if nested else rng.normal(size=b)[h]
    y = ratio * rng.normal(size=a)[g] + 0.01 * ratio * second + rng.normal(size=g.size)
    data = pd.DataFrame({"y": y, "g": g, "h": h, "k": h})
    fit = bl.Model(formula, data).fit()
    cells = y.reshape(a, b, m)
    if nested:
        means, rows = cells.mean(2), cells.mean((1, 2))
        within = ((cells - means[..., None]) ** 2).sum() / (a * b * (m - 1))
        between = m * ((means - rows[:, None]) ** 2).sum() / (a * (b - 1))
        top = b * m * ((rows - rows.mean()) ** 2).sum() / (a - 1)
        expected = [np.sqrt((between - within) / m), np.sqrt((top - between) / (b * m)), np.sqrt(within)]
    else:
        rows, columns, grand = cells.mean((1, 2)), cells.mean((0, 2)), cells.mean()
        rest = cells - rows[:, None, None] - columns[None, :, None] + grand
        within = (rest**2).sum() / (a * b * m - a - b + 1)
        first = b * m * ((rows - grand) ** 2).sum() / (a - 1)
        other = a * m * ((columns - grand) ** 2).sum() / (b - 1)
        expected = [np.sqrt((first - within) / (b * m)), np.sqrt((other - within) / (a * m)), np.sqrt(within)]
    assert fit.status is FitStatus.converged
    sds = dict(zip([t.group for t in fit.design.terms], [T[0, 0] * fit.sigma for T in fit.optimum.terms], strict=True))
    order = ["g:k", "g"] if nested else ["g", "h"]
    # The response holds effects of `ratio` with sixteen digits.
    np.testing.assert_allclose([*(sds[name] for name in order), fit.sigma], expected, rtol=1e-6)


def test_two_evaluations_agree_within_the_bound() -> None:
    for seed in range(30):
        formula, data, arguments, reml = draw(seed, "ordinary")
        try:
            cp = cross_products(bl.Model(formula, data, **arguments).design)
        except bl.BayesLMMError:
            continue
        factors = par.internal_factors(cp, np.random.default_rng(seed).uniform(0.2, 3.0, cp.design.n_theta))
        value, bound = recheck(cp, [T[0] for T in factors], reml)
        assert abs(value - profiled(cp, evaluate(cp, factors), reml)[0]) <= bound < 1e-8


@pytest.mark.parametrize("what", ["E", "D"])
def test_an_elimination_that_is_wrong_does_not_pass(what: str) -> None:
    """The check sees sums that are off by one part in a million, and what is reported is right all the same."""
    rng = np.random.default_rng(8)
    data = frame(9, 40)
    data["y"] = rng.normal(size=5)[data["g"]] + rng.normal(size=4)[data["h"]] + rng.normal(size=40)
    cp = cross_products(bl.Model("y ~ x + (1 | g) + (1 | h)", data).design)
    right = optimise(cp)
    wrong = replace(cp, sums=replace(cp.sums, **{what: getattr(cp.sums, what) * (1.0 + 1e-6)}))
    again = optimise(wrong)
    assert again.criterion == pytest.approx(right.criterion, abs=1e-9)
    np.testing.assert_allclose(again.theta, right.theta, rtol=1e-5)
    assert again.status is FitStatus.converged


def test_where_no_digits_can_be_had_the_doubt_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    formula, data, arguments, reml = draw(2, "extreme")
    monkeypatch.setattr(confirm, "BUDGET", 0)
    with pytest.warns(ConvergenceWarning) as caught:
        fit = bl.Model(formula, data, **arguments).fit(reml)
    assert fit.status is FitStatus.imprecise
    assert not fit.status.ok
    assert "may be wrong by" in str(caught[0].message)
    assert fit.optimum.doubt > 1e-6
