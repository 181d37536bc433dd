"""Rows of models with residual parameters left out: against dense algebra, and models of the rows that stay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayeslmm as bl
from bayeslmm.errors import DesignError

# Two ways through dense solutions of condition 1e4 at most.
CLOSE = {"rtol": 1e-8, "atol": 1e-9}
# Two searches end within the root of the rounding of their criterion.
SEARCHED = {"rtol": 2e-5, "atol": 2e-6}


def _visits() -> pd.DataFrame:
    """Visits of patients, some missing, in no order; items crossed with patients."""
    rng = np.random.default_rng(7)
    rows = [(p, t) for p in range(10) for t in range(5) if rng.random() < 0.85 or t < 2]
    data = pd.DataFrame(rows, columns=["patient", "visit"]).sample(frac=1.0, random_state=1)
    n = len(data)
    data["x"], data["item"] = rng.normal(size=n), rng.integers(0, 4, n)
    data["arm"] = np.where(data["patient"] % 2 == 0, "a", "b")
    data["y"] = rng.normal(size=n) + 1.5 * rng.normal(size=10)[data["patient"]] + data["x"]
    return data


DATA = _visits()
MODELS = {
    "ar1(visit | patient)": "y ~ x",
    "by(arm) + ar1(visit | patient)": "y ~ x + (1 | item) + (1 | patient)",
    "cs(patient)": "y ~ x + (1 | item)",
    "by(arm)": "y ~ x + (1 | patient)",
    "us(visit | patient)": "y ~ x",
}
models = pytest.mark.parametrize(("residual", "formula"), MODELS.items(), ids=str)


class Dense:
    """Matrices of a fit, sigma 1, which share nothing with the sums."""

    def __init__(self, fit: bl.REMLResult) -> None:
        design, optimum = fit.design, fit.optimum
        self.X, self.y, self.sigma = design.X, design.y, fit.sigma
        self.R = design.residual.covariance(optimum.lam).toarray()
        self.V = self.R.copy()
        for term, T in zip(design.terms, optimum.terms, strict=True):
            codes, half = design.groupings[term.group].codes, term.Z @ T
            self.V += (codes[:, None] == codes) * (half @ half.T)

    def gls(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Beta, its covariance over sigma^2 and sigma from some of the rows."""
        X, y, A = self.X[keep], self.y[keep], np.linalg.inv(self.V[np.ix_(keep, keep)])
        C = np.linalg.inv(X.T @ A @ X)
        beta = C @ X.T @ A @ y
        left = y - X @ beta
        return beta, C, float(np.sqrt(left @ A @ left / (keep.sum() - X.shape[1])))

    @property
    def P(self) -> np.ndarray:
        A = np.linalg.inv(self.V)
        return A - A @ self.X @ np.linalg.inv(self.X.T @ A @ self.X) @ self.X.T @ A

    def given(self, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of some rows given the others, beta flat."""
        o, V, X = ~gone, self.V, self.X
        B = V[np.ix_(gone, o)] @ np.linalg.inv(V[np.ix_(o, o)])
        beta, C, _ = self.gls(o)
        left = X[gone] - B @ X[o]
        mean = X[gone] @ beta + B @ (self.y[o] - X[o] @ beta)
        return mean, self.sigma**2 * (V[np.ix_(gone, gone)] - B @ V[np.ix_(o, gone)] + left @ C @ left.T)


@models
def test_numbers_of_single_rows(residual: str, formula: str) -> None:
    fit = bl.Model(formula, DATA, residual=residual).fit()
    dense = Dense(fit)
    R, P, p = dense.R, dense.P, fit.design.p
    H, e, off = np.eye(len(R)) - R @ P, R @ P @ dense.y, P @ dense.y / np.diag(P)
    np.testing.assert_allclose(fit.leverage(), np.diag(H), **CLOSE)
    np.testing.assert_allclose(fit.leverage("fixed"), np.diag(np.eye(len(R)) - dense.V @ P), **CLOSE)
    assert fit.leverage("fixed").sum() == pytest.approx(p, abs=1e-9)
    np.testing.assert_allclose(fit.residuals("standardised"), e / (fit.sigma * np.sqrt(np.diag(R @ P @ R))), **CLOSE)
    expected = np.diag(H) * off**2 / (np.diag(R) * p * fit.sigma**2)
    np.testing.assert_allclose(fit.cooks_distance(), expected, **CLOSE)


@models
@pytest.mark.parametrize("by", ["row", "patient", "visit"])
def test_rows_and_groups_left_out_with_the_variances_held(residual: str, formula: str, by: str) -> None:
    fit = bl.Model(formula, DATA, residual=residual).fit()
    dense, whole = Dense(fit), Dense(fit).gls(np.ones(len(DATA), dtype=bool))
    found = fit.influence(None if by == "row" else DATA[by], theta="fixed")
    groups = DATA.index.to_numpy() if by == "row" else DATA[by].to_numpy()
    for label in found.estimates.index[:5]:
        beta, C, sigma = dense.gls(groups != label)
        np.testing.assert_allclose(found.estimates.loc[label, ["Intercept", "x"]], beta, **CLOSE)
        assert found.estimates.loc[label, "sigma"] == pytest.approx(sigma, rel=1e-8)
        move, row = whole[0] - beta, found.table.loc[label]
        assert row["cooks_d"] == pytest.approx(move @ np.linalg.solve(whole[1] * fit.sigma**2, move) / 2, rel=1e-6)
        assert row["mdffits"] == pytest.approx(move @ np.linalg.solve(C * sigma**2, move) / 2, rel=1e-6)
        ratio = np.linalg.det(C * sigma**2) / np.linalg.det(whole[1] * fit.sigma**2)
        assert row["covratio"] == pytest.approx(ratio, rel=1e-7)


@pytest.mark.parametrize("residual", ["ar1(visit | patient)", "us(visit | patient)", "by(arm)"])
def test_refits_without_a_case_are_fits_of_the_rest_with_its_times(residual: str) -> None:
    fit = bl.Model("y ~ x", DATA, residual=residual).fit()
    # A row from the middle of a patient's visits leaves a gap.
    row = DATA.index[(DATA["patient"] == 3) & (DATA["visit"] == 1)][0]
    by_row = fit.influence(cases=[row]).estimates.loc[row]
    others = bl.Model("y ~ x", DATA.drop(row), residual=residual).fit()
    np.testing.assert_allclose(by_row, others.estimates(), **SEARCHED)
    rest = bl.Model("y ~ x", DATA[DATA["patient"] != 3], residual=residual).fit()
    groups = DATA["patient"] if residual == "by(arm)" else "patient"
    by_group = fit.influence(groups, cases=[3])
    np.testing.assert_allclose(by_group.estimates.iloc[0], rest.estimates(), **SEARCHED)
    change = rest.estimates() - fit.estimates()
    for label in by_group.changes.columns:
        relative = "sd" in label or label == "sigma"
        expected = change[label] / fit.estimates()[label] if relative else change[label]
        assert by_group.changes.iloc[0][label] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_case_that_a_residual_parameter_rests_on_cannot_be_left_out() -> None:
    data = DATA.assign(late=np.where((DATA["patient"] == 2) | (DATA["patient"] == 4), "yes", "no"))
    fit = bl.Model("y ~ x", data, residual="by(late) + ar1(visit | patient)").fit()
    groups = np.where(data["late"] == "yes", "those", np.where(data["patient"] < 6, "others", "rest"))
    found = fit.influence(groups)
    assert found.without == ("those",)
    assert found.estimates.loc["those"].isna().all() and found.estimates.loc["rest"].notna().all()
    with pytest.raises(bl.FitError, match="a correlation has no estimate"):
        fit.cv(groups)


@pytest.mark.parametrize("residual", ["ar1(visit | patient)", "by(arm)", "by(arm) + cs(patient)"])
def test_cross_validation_predicts_given_all_other_rows(residual: str) -> None:
    formula = "y ~ x + (1 | item)" if "cs" in residual else "y ~ x"
    fit = bl.Model(formula, DATA, residual=residual).fit()
    by_row = fit.cv("row", 4)
    assert bool(by_row.note) is ("patient" in residual)
    assert max(map(len, str(by_row).split("\n"))) <= 80
    gone = (by_row.predictions["fold"] == 2).to_numpy()
    without = bl.Model(formula, DATA[~gone], residual=residual).fit()
    # Parameters of the rest, matrices of all rows.
    held = Dense(fit)
    design, optimum = fit.design, without.optimum
    held.R = design.residual.covariance(optimum.lam).toarray()
    held.V, held.sigma = held.R.copy(), without.sigma
    for term, T in zip(design.terms, optimum.terms, strict=True):
        codes, half = design.groupings[term.group].codes, term.Z @ T
        held.V += (codes[:, None] == codes) * (half @ half.T)
    mean, covariance = held.given(gone)
    np.testing.assert_allclose(by_row.predictions["predicted"][gone], mean, **SEARCHED)
    np.testing.assert_allclose(by_row.predictions["sd"][gone], np.sqrt(np.diag(covariance)), **SEARCHED)
    score = multivariate_normal.logpdf(design.y[gone], mean, covariance)
    assert by_row.folds.loc[2, "log_score"] == pytest.approx(score, abs=1e-4)


def test_groups_of_residuals_have_their_names() -> None:
    named = DATA.assign(patient=[f"p{k}" for k in DATA["patient"]])
    model = bl.Model("y ~ x", named, residual="ar1(visit | patient)")
    fit = model.fit()
    assert set(fit.cv().folds.index) == set(named["patient"])
    with pytest.raises(DesignError, match="It has: patient"):
        fit.influence("arm")
    independent = bl.Model("y ~ x", named, residual="by(arm)").fit()
    assert len(independent.cv(k=3).folds) == 3 and independent.cv(k=3).groups == "row"


@pytest.mark.parametrize(
    ("residual", "formula"), [("ar1(visit | patient)", "y ~ x"), ("by(arm)", "y ~ x + (1 | item)")]
)
def test_a_row_that_decides_the_verdict_is_named(residual: str, formula: str) -> None:
    data = DATA.copy()
    data.iloc[5, data.columns.get_loc("y")] += 40.0
    fit = bl.Model(formula, data, residual=residual).fit()
    text = str(fit)
    assert f"Look here first: Row {data.index[5]}" in " ".join(text.split())
    assert "Look here first" not in str(bl.Model(formula, DATA, residual=residual).fit())


def test_many_responses_are_fitted_each_as_by_itself() -> None:
    fit = bl.Model("y ~ x + (1 | item)", DATA, residual="by(arm) + ar1(visit | patient)").fit()
    Y = fit.simulate(3, random_seed=4)
    found = fit.refit_many(Y)
    assert len(found) == 3 and found.ok.all() and found.optima.lam.shape == (3, 2)
    alone = fit.refit(Y.iloc[:, 1])
    np.testing.assert_allclose(found.estimates().iloc[1], alone.estimates(), rtol=1e-12)
    assert found.criterion[1] == alone.criterion
    pd.testing.assert_frame_equal(fit.refit_many(Y, workers=2).estimates(), found.estimates())


def test_the_bootstrap_has_all_arguments_of_other_fits() -> None:
    fit = bl.Model("y ~ x", DATA, residual="ar1(visit | patient)").fit()
    boot = fit.bootstrap(6, random_seed=2)
    Y = fit.simulate(6, random_seed=2)
    np.testing.assert_allclose(boot.draws, fit.refit_many(Y).estimates(), rtol=1e-12)
    lag = fit.bootstrap(6, random_seed=2, statistic=lambda f: f.residual_covariance(correlation=True).iloc[0, 1])
    np.testing.assert_allclose(lag.draws["statistic"], boot.draws["residual_rho"], rtol=1e-9)
    again = fit.bootstrap(4, random_seed=2, method="semiparametric", criterion="ML")
    assert again.draws.notna().all(axis=None)
    bca = boot.confint(kind="bca", parameters="x")
    assert bca.loc["x", "conf_low"] < fit.estimates()["x"] < bca.loc["x", "conf_high"]


def test_means_taken_back_are_adjusted_where_residuals_have_one_variance() -> None:
    data = DATA.assign(size=np.exp(DATA["y"]))
    logs = bl.Model("log(size) ~ x", data, residual="ar1(visit | patient)").fit()
    found = logs.means(at={"x": [0.5]}, type="response", bias_adjust=True).frame["estimate"].iloc[0]
    given = logs.means(at={"x": [0.5]}, type="response", bias_adjust=True, sigma=logs.sigma).frame["estimate"].iloc[0]
    assert found == pytest.approx(given, rel=1e-12)
    unequal = bl.Model("log(size) ~ x", data, residual="by(arm)").fit()
    with pytest.raises(DesignError, match="one variance for all means"):
        unequal.means(at={"x": [0.5]}, type="response", bias_adjust=True)
