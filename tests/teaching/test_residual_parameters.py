"""What explains a fit, for residuals with parameters: criterion, error contrasts, shrinkage, figures of groups."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError
from bayeslmm.teaching import dense_criterion

SLEEP = bl.load_dataset("sleepstudy").assign(late=lambda d: np.where(d["Days"] > 5, "yes", "no"))
MODELS = {
    "ar1(Days | Subject)": ("Reaction ~ Days + (1 | Subject)", [0.7], [0.6]),
    "by(late) + ar1(Days | Subject)": ("Reaction ~ Days", [], [0.3, 0.9]),
    "by(late)": ("Reaction ~ Days + (Days | Subject)", [0.8, 0.1, 0.2], [-0.4]),
    "cs(late)": ("Reaction ~ Days + (1 | Subject)", [0.7], [-3.0]),
}


@pytest.mark.parametrize("residual", MODELS)
@pytest.mark.parametrize("reml", [True, False])
def test_the_criterion_at_any_parameters_is_the_dense_one(residual: str, reml: bool) -> None:
    formula, theta, lam = MODELS[residual]
    model = bl.Model(formula, SLEEP, residual=residual)
    for sigma in (None, 30.0):
        value, slopes = model.criterion_at(theta, sigma, reml=reml, lam=lam, gradient=True)
        dense = dense_criterion(model.matrices(theta, 30.0, lam), reml, sigma)
        assert value == pytest.approx(dense, rel=1e-11)
        whole = np.array([*theta, *lam])
        for k, slope in enumerate(slopes):
            # Central differences of a value with twelve digits.
            ends = [whole + sign * 1e-4 * np.eye(whole.size)[k] for sign in (1, -1)]
            up, down = (model.criterion_at(x[: len(theta)], sigma, reml=reml, lam=x[len(theta) :]) for x in ends)
            assert slope == pytest.approx((up - down) / 2e-4, rel=1e-5, abs=1e-4)
    # The correlation of cs(late) goes to the end of its range, where rounding decides how the iteration ends.
    fit = model.fit(reml, on_failure="ignore")
    assert fit.criterion_at(fit.theta) == pytest.approx(fit.criterion, rel=1e-11)


def test_parameters_that_are_none_are_refused() -> None:
    model = bl.Model("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)")
    for lam in (None, [1.0, 2.0], [np.nan], [1e6]):
        with pytest.raises(DesignError, match="atanh_rho"):
            model.criterion_at([], lam=lam)
    plain = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP)
    with pytest.raises(DesignError, match="need none"):
        plain.criterion_at([1.0], lam=[1.0])


@pytest.mark.parametrize("residual", ["ar1(Days | Subject)", "by(late)"])
def test_error_contrasts_have_the_restricted_likelihood(residual: str) -> None:
    model = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual=residual)
    fit, contrasts = model.fit(), bl.error_contrasts(model)
    assert np.abs(contrasts.K.T @ fit.design.X).max() < 1e-10
    found = contrasts.criterion(fit.theta, fit.sigma, fit.optimum.lam) + contrasts.constant
    assert found == pytest.approx(fit.criterion, rel=1e-10)
    with pytest.raises(DesignError, match="lam is None"):
        contrasts.criterion(fit.theta, fit.sigma)


@pytest.mark.parametrize("residual", ["ar1(Days | Subject)", "by(late)"])
def test_shrinkage_weighs_levels_by_the_covariance_of_their_rows(residual: str) -> None:
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual=residual).fit()
    table = fit.shrinkage()
    np.testing.assert_allclose(table["blup"], table["weight"] * table["raw"], rtol=1e-8, atol=1e-8)
    rows = np.flatnonzero(SLEEP["Subject"].astype(str) == "308")
    R = fit.sigma**2 * fit.design.residual.covariance(fit.optimum.lam).toarray()[np.ix_(rows, rows)]
    information = float(np.linalg.inv(R).sum())
    variance = float(fit.estimates()["sd_Subject[Intercept]"]) ** 2
    weight = variance / (variance + 1.0 / information)
    assert table["weight"][table["level"] == "308"].item() == pytest.approx(weight, rel=1e-9)


def test_figures_of_groups() -> None:
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual="ar1(Days | Subject)").fit()
    axes = bl.plot_groups(fit)
    assert len(axes) == 18
    rows = np.flatnonzero(SLEEP["Subject"].astype(str) == "308")
    V = fit.design.residual.covariance(fit.optimum.lam).toarray()[np.ix_(rows, rows)]
    X, y = fit.design.X[rows], fit.design.y[rows]
    alone = np.linalg.solve(X.T @ np.linalg.solve(V, X), X.T @ np.linalg.solve(V, y))
    line = next(line for line in axes[0].get_lines() if "alone" in str(line.get_label()))
    np.testing.assert_allclose(line.get_ydata(), alone[0] + alone[1] * np.asarray(line.get_xdata()), rtol=1e-6)
    assert len(bl.plot_shrinkage(fit)) == 1
    none = bl.Model("Reaction ~ Days", SLEEP, residual="ar1(Days | Subject)").fit()
    for figure in (bl.plot_groups, bl.plot_shrinkage):
        with pytest.raises(DesignError, match="has no random effects"):
            figure(none)
    # Its correlation goes to the end of its range, where rounding decides how the iteration ends.
    across = bl.Model("Reaction ~ Days + (1 | Subject)", SLEEP, residual="cs(late)").fit(on_failure="ignore")
    with pytest.raises(DesignError, match="across levels of Subject"):
        across.shrinkage()
