"""What simulates, predicts and leaves rows out has the residual covariance of the structure, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayeslmm as bl
from bayeslmm.bayes.log_likelihood import pointwise, variance_draws
from bayeslmm.bayes.predictive import Request, predictive_draws
from bayeslmm.bayes.prior_draws import PriorDraws, simulate_response
from bayeslmm.design.design import Design, expanded
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.newdata import new_rows, own_rows
from bayeslmm.errors import DesignError
from bayeslmm.inference.explained import explained
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.residual import Homoscedastic, make_residual
from bayeslmm.results.latex import write_latex
from bayeslmm.teaching.matrices import build_matrices
from bayeslmm.teaching.mme import henderson

from .members import MEMBERS, REPRESENTATIVES, Member, N

everyone = pytest.mark.parametrize("member", REPRESENTATIVES, ids=str)
independent = pytest.mark.parametrize("member", [m for m in REPRESENTATIVES if m.residual.clusters is None], ids=str)
SIGMA, BETA, FACTOR = 1.7, np.array([2.0, -1.0]), np.array([[0.8, 0.0], [-0.3, 0.5]])
EXACT = 1e-12


def _frame() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    return pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "g": np.repeat(["a", "b", "c"], [5, 4, 3])})


def _design(member: Member) -> Design:
    return replace(bl.Model("y ~ x + (x | g)", _frame()).design, residual=member.residual)


def _dense(design: Design, member: Member, lam: np.ndarray) -> np.ndarray:
    codes, half = design.groupings["g"].codes, design.terms[0].Z @ FACTOR
    return SIGMA**2 * (member.dense(lam) + (codes[:, None] == codes) * (half @ half.T))


def _same(found: np.ndarray, expected: np.ndarray) -> None:
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_array_less(np.abs(found - expected), EXACT * scale)


class UnitMatrix:
    """Stands for a generator: all standard normals that are asked for, one below the other, are a unit matrix."""

    def __init__(self) -> None:
        self.used = 0

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        out = np.zeros(shape)
        out[np.arange(shape[0]), self.used + np.arange(shape[0])] = 1.0
        self.used += shape[0]
        return out


@everyone
def test_simulated_responses_are_the_linear_map_of_the_covariance(member: Member) -> None:
    design = _design(member)
    for lam in member.points:
        rng = UnitMatrix()
        y = simulate_responses(design, [FACTOR], SIGMA, BETA, N + design.q, rng, lam)
        assert rng.used == N + design.q
        root = y - (design.X @ BETA)[:, None]
        _same(root @ root.T, _dense(design, member, lam))


@everyone
def test_responses_drawn_from_the_prior_have_these_residuals(member: Member) -> None:
    design = _design(member)
    effects = (np.zeros((N, 3, 2)),)
    for lam in member.points:
        draws = PriorDraws(np.tile(BETA, (N, 1)), np.full(N, SIGMA), (), (), effects, ((0,),), lam=lam)
        root = simulate_response(design, draws, UnitMatrix()) - design.X @ BETA
        _same(root.T @ root, SIGMA**2 * member.dense(lam))


def _posterior(member: Member, size: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    lam = rng.choice(member.points, size)
    parts = {name: lam[None, :, k] for k, name in enumerate(member.residual.names)}
    return parts | {
        "beta": rng.normal(size=(1, size, 2)),
        "sigma": rng.uniform(0.5, 2.0, (1, size)),
        "sd_g": rng.uniform(0.5, 2.0, (1, size, 2)),
        "corr_g": rng.uniform(-0.5, 0.5, (1, size, 1)),
        "b_g": rng.normal(size=(1, size, 3, 2)),
    }


@everyone
def test_observations_are_predicted_with_residuals_of_the_structure(member: Member) -> None:
    posterior, request = _posterior(member), Request(("g",), True)
    found = {}
    for residual in (Homoscedastic(N), member.residual):
        design = replace(_design(member), residual=residual)
        rng = np.random.default_rng(5)
        ((part, mean, drawn),) = predictive_draws(design, posterior, own_rows(design, ("g",)), request, rng)
        np.testing.assert_array_equal(part, np.arange(N))
        found[residual is member.residual] = drawn - mean
    lam = variance_draws(_design(member), posterior).lam
    white = member.residual.whiten(lam, found[True][..., None])[..., 0]
    np.testing.assert_allclose(white, found[False], rtol=1e-9, atol=1e-12)


@independent
def test_log_densities_of_single_observations(member: Member) -> None:
    design, posterior = _design(member), _posterior(member)
    found = pointwise(design, posterior)[0]
    for s in range(len(found)):
        lam = np.array([posterior[name][0, s] for name in member.residual.names])
        b = posterior["b_g"][0, s][design.groupings["g"].codes]
        mean = design.X @ posterior["beta"][0, s] + (design.terms[0].Z * b).sum(1)
        sd = posterior["sigma"][0, s] * np.sqrt(np.diag(member.dense(lam)))
        np.testing.assert_allclose(found[s], norm.logpdf(design.y, mean, sd), rtol=1e-12, atol=1e-12)


@everyone
def test_the_parameters_of_the_structure_are_found_among_draws(member: Member) -> None:
    posterior = _posterior(member)
    lam = variance_draws(_design(member), posterior).lam
    assert lam.shape == (6, len(member.residual.names))
    for k, name in enumerate(member.residual.names):
        np.testing.assert_array_equal(lam[:, k], posterior[name][0])
    np.testing.assert_array_equal(variance_draws(_design(member), posterior).part(slice(2, 4)).lam, lam[2:4])


@everyone
def test_matrices_and_mixed_model_equations(member: Member) -> None:
    design = _design(member)
    for lam in member.points:
        m = build_matrices(design, [FACTOR], SIGMA, lam)
        V = _dense(design, member, lam)
        _same(m.R.toarray(), SIGMA**2 * member.dense(lam))
        _same(m.V, V)
        equations = henderson(design, [FACTOR], SIGMA, np.zeros(2 + design.q), "u", lam)
        beta = np.linalg.solve(design.X.T @ np.linalg.solve(V, design.X), design.X.T @ np.linalg.solve(V, design.y))
        np.testing.assert_allclose(equations.beta, beta, rtol=1e-6)
        assert member.residual.text in repr(m)


@everyone
def test_the_residual_share_is_the_mean_variance(member: Member) -> None:
    design = _design(member)
    sigma = np.full(len(member.points), SIGMA)
    beta, terms = np.tile(BETA, (len(sigma), 1)), [np.tile(FACTOR, (len(sigma), 1, 1))]
    expected = [SIGMA**2 * np.diag(member.dense(lam)).mean() for lam in member.points]
    np.testing.assert_allclose(explained(design, beta, terms, sigma, member.points).residual, expected, rtol=1e-13)
    one = explained(design, beta[:1], [terms[0][:1]], sigma[:1], member.points[0])
    np.testing.assert_allclose(one.residual, expected[:1], rtol=1e-13)


@everyone
def test_prediction_intervals_of_a_fit_have_the_residual_variance(member: Member) -> None:
    fit = bl.Model("y ~ x + (1 | g)", _frame()).fit()
    for lam in member.points:
        own = replace(fit, design=replace(fit.design, residual=member.residual), optimum=replace(fit.optimum, lam=lam))
        both = [own.predict(kind=kind)["std_error"].to_numpy() ** 2 for kind in ("observation", "mean")]
        expected = fit.sigma**2 * np.diag(member.dense(lam))
        np.testing.assert_allclose(both[0], both[1] + expected, rtol=1e-13)


@everyone
def test_equations_in_latex_write_its_variance(member: Member) -> None:
    assert rf"N(0, {member.residual.latex(chr(92) + 'sigma')})" in str(write_latex(_design(member)))


def test_rows_of_a_mean_have_no_residuals_to_draw() -> None:
    design = bl.Model("y ~ x + (1 | g)", _frame().assign(w=2.0), weights="w").design
    assert new_rows(design, _frame(), ["g"]).residual is None
    with pytest.raises(DesignError, match="12 rows were evaluated for predictions of means"):
        _ = new_rows(design, _frame(), ["g"]).observed
    rows = new_rows(design, _frame().assign(w=3.0), ["g"], weighted=True)
    assert rows.observed == make_residual(N, np.full(N, 3.0))
    assert rows.part(slice(3, 7)).observed == make_residual(4, np.full(4, 3.0))
    assert own_rows(design, ["g"]).observed is design.residual


def test_whitened_rows_count_as_often_as_they_stand_for() -> None:
    frame = _frame().assign(w=np.linspace(0.5, 3.0, N), f=1 + np.arange(N) % 3)
    design = bl.Model("y ~ x + (1 | g)", frame, weights="w", frequency="f").design
    whole = expanded(design)
    assert whole.residual.n == whole.n == frame.f.sum()
    for one, all_ in ((design.X, whole.X), (design.y[:, None], whole.y[:, None])):
        few, many = design.whitened(one), whole.whitened(all_)
        np.testing.assert_allclose(few.T @ few, many.T @ many, rtol=1e-13)
    codes = design.groupings["g"].codes
    expected = -np.bincount(codes, weights=frame.f * np.log(frame.w))
    np.testing.assert_allclose(design.log_dets(codes), expected, rtol=1e-13)
    np.testing.assert_allclose(whole.log_dets(whole.groupings["g"].codes), expected, rtol=1e-13)


def test_dependent_rows_are_not_whitened_level_by_level_of_a_factor_that_parts_them() -> None:
    member = MEMBERS[-1]
    design, lam = _design(member), member.points[0]
    own = design.groupings["g"]
    np.testing.assert_array_equal(design.whitened(design.X, lam, within=own), design.whitened(design.X, lam))
    other = Grouping("half", np.arange(N) % 2, ("0", "1"))
    with pytest.raises(DesignError, match=r"\(ar1\) across levels of half, .* every level of half on its own"):
        design.whitened(design.X, lam, within=other)
