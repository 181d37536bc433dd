"""Studies of models whose residuals have parameters: sizes, stated values, power and coverage against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.calibration import coverage_chunk
from bayeslmm.design.extension import extend
from bayeslmm.errors import DesignError
from bayeslmm.planning import chunk
from bayeslmm.results.residual_truth import lam_of_values

# Rounding of exponentials and roots alone.
EXACT: dict[str, float] = {"rtol": 1e-9, "atol": 1e-9}
VALUES: dict[str, Any] = {"Intercept": 1.0, "arm[b]": 1.5}


def _rows(subjects: int = 20, visits: int = 4) -> pd.DataFrame:
    rows = [(f"s{i:02d}", t, "ab"[i % 2]) for i in range(subjects) for t in range(visits)]
    return pd.DataFrame(rows, columns=["id", "t", "arm"])


@pytest.mark.parametrize("formula", ["y ~ arm", "y ~ arm + (1 | id)"])
def test_copies_of_a_group_are_groups_of_their_own(formula: str) -> None:
    plan = bl.Plan(formula, _rows(6), residual="ar1(t | id)")
    design = extend(plan.design, {"id": 14}).design
    C = 0.5 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    found = design.residual.covariance(np.arctanh([0.5])).toarray()
    np.testing.assert_allclose(found, np.kron(np.eye(14), C), **EXACT)
    # Treatments keep their shares.
    assert design.X[:, 1].sum() == 7 * 4
    fewer = extend(plan.design, {}, 2).design
    C = 0.5 ** (3.0 * (1.0 - np.eye(2)))
    np.testing.assert_allclose(fewer.residual.covariance(np.arctanh([0.5])).toarray(), np.kron(np.eye(6), C), **EXACT)


def test_tables_of_studies_have_labels_and_columns_of_the_residuals() -> None:
    plan = bl.Plan("y ~ arm", _rows(6), residual="by(arm) + ar1(t | id)")
    stated: dict[str, Any] = {"beta": VALUES, "sigma": 2.0, "residual": {"rho": 0.5, "sd_ratio_arm[b]": 3.0}}
    study = plan.simulate(n_groups=9, random_seed=1, **stated)
    assert list(study.columns) == ["arm", "t", "id", "y"]
    assert study["id"].nunique() == 9 and "s00.2" in set(study["id"])
    assert not study.duplicated(["id", "t"]).any()
    assert bl.Model("y ~ arm", study, residual="by(arm) + ar1(t | id)").n == 36


def test_what_a_study_cannot_be() -> None:
    plan = bl.Plan("y ~ arm", _rows(6), residual="ar1(t | id)")
    stated: dict[str, Any] = {"beta": VALUES, "sigma": 2.0}
    with pytest.raises(DesignError, match="same rows twice"):
        plan.simulate(replicates=8, residual={"rho": 0.5}, **stated)
    with pytest.raises(DesignError, match="residual_rho"):
        plan.simulate(replicates=1, residual={"rho": 0.5}, **stated)
    with pytest.raises(DesignError, match="residual_rho is not given"):
        plan.simulate(**stated)
    with pytest.raises(DesignError, match="between -1 and 1"):
        plan.simulate(residual={"rho": 1.0}, **stated)
    with pytest.raises(DesignError, match="There are: 'rho'"):
        plan.simulate(residual={"phi": 0.5}, **stated)
    with pytest.raises(DesignError, match="the model has none"):
        bl.Plan("y ~ arm", _rows(6), residual="by(arm)").simulate(n_groups=9, residual={"sd_ratio_arm[b]": 2}, **stated)
    impossible = {"corr[0.1]": 0.9, "corr[0.2]": 0.9, "corr[1.2]": -0.9, "sd_ratio_t[1]": 1, "sd_ratio_t[2]": 1}
    with pytest.raises(DesignError, match="No residual covariance"):
        bl.Plan("y ~ arm", _rows(6, 3), residual="us(t | id)").simulate(residual=impossible, **stated)


def test_stated_values_are_those_of_the_covariance() -> None:
    given = {"corr[0.1]": 0.3, "corr[0.2]": -0.2, "corr[1.2]": 0.6, "sd_ratio_t[1]": 2.0, "sd_ratio_t[2]": 0.5}
    design = bl.Plan("y ~ arm", _rows(6, 3), residual="us(t | id)").design
    lam = lam_of_values(design, {f"residual_{name}": value for name, value in given.items()}, None)
    sd = np.array([1.0, 2.0, 0.5])
    expected = sd[:, None] * np.array([[1, 0.3, -0.2], [0.3, 1, 0.6], [-0.2, 0.6, 1]]) * sd
    np.testing.assert_allclose(design.residual.covariance(lam).toarray()[:3, :3], expected, **EXACT)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The responses that are fitted."""
    found: list[np.ndarray] = []
    for module in (chunk, coverage_chunk):
        own = module.structured_fits
        monkeypatch.setattr(
            module, "structured_fits", lambda design, Y, reml, own=own: (found.append(Y), own(design, Y, reml))[1]
        )
    return found


def _of_means(Y: np.ndarray, rows: pd.DataFrame) -> list[Any]:
    """Two-sample t tests of the means of subjects, which are exact where all pairs are equally correlated."""
    means = Y.reshape(-1, rows["t"].nunique(), Y.shape[1]).mean(1)
    arm = rows.drop_duplicates("id")["arm"].to_numpy()
    return [stats.ttest_ind(m[arm == "b"], m[arm == "a"]) for m in means.T]


def test_power_under_equal_correlations_is_that_of_t_tests_of_means(seen: list[np.ndarray]) -> None:
    plan, n = bl.Plan("y ~ arm", _rows(), residual="cs(id)"), 24
    found = bl.power(plan, VALUES, sigma=2.0, residual={"rho": 0.5}, n=n, progressbar=False)
    p = [test.pvalue for test in _of_means(np.hstack(seen), _rows())]
    assert len(p) == n and 0 < sum(v < 0.05 for v in p) < n
    assert found.table["power"].tolist() == [pytest.approx(np.mean(np.array(p) < 0.05))]
    # The noncentral t distribution, within four Monte Carlo errors.
    away = 1.5 / (2.0 * np.sqrt((1 + 3 * 0.5) / 4) * np.sqrt(2 / 10))
    edge = stats.t.ppf(0.975, 18)
    true = stats.nct.sf(edge, 18, away) + stats.nct.cdf(-edge, 18, away)
    assert abs(found.table["power"].iloc[0] - true) < 4 * np.sqrt(true * (1 - true) / n)


def test_coverage_under_equal_correlations_is_that_of_t_intervals_of_means(seen: list[np.ndarray]) -> None:
    plan = bl.Plan("y ~ arm", _rows(), residual="cs(id)")
    data = plan.simulate(beta=VALUES, sigma=2.0, residual={"rho": 0.5}, n_groups=20, random_seed=1)
    model = bl.Model("y ~ arm", data, residual="cs(id)")
    true = {**VALUES, "sigma": 2.0, "residual_rho": 0.5}
    found = bl.coverage(model, true, 24, intervals="satterthwaite", level=0.6, parameters=["arm[b]"], progressbar=False)
    ends = [test.confidence_interval(0.6) for test in _of_means(np.hstack(seen), _rows())]
    inside = [end.low <= 1.5 <= end.high for end in ends]
    assert 0 < sum(inside) < len(inside)
    row = found.table.iloc[0]
    assert row["coverage"] == pytest.approx(np.mean(inside))
    assert row["mean_width"] == pytest.approx(np.mean([end.high - end.low for end in ends]), rel=1e-5)


@pytest.mark.parametrize("rho", [0.7, 0.2])
def test_power_with_serial_correlation_is_that_of_generalised_least_squares(rho: float) -> None:
    n, rows = 40, _rows(40)
    plan = bl.Plan("y ~ arm", rows, residual="ar1(t | id)")
    found = bl.power(plan, {**VALUES, "arm[b]": 1.0}, sigma=2.0, residual={"rho": rho}, n=n, progressbar=False)
    C = rho ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))
    # The best mean of a subject has the variance 1 / (1' C^-1 1); df lie between those of means and of rows.
    away = 1.0 / (2.0 * np.sqrt(1.0 / np.linalg.inv(C).sum() * 2 / 20))
    ends = [stats.nct.sf(stats.t.ppf(0.975, df), df, away) for df in (38, 158)]
    error = 4 * np.sqrt(0.25 / n)
    assert ends[0] - error < found.table["power"].iloc[0] < ends[1] + error


def test_variances_beside_residual_parameters_are_tested_and_posteriors_sampled() -> None:
    plan = bl.Plan("y ~ arm + (1 | id)", _rows(12), residual="by(arm)")
    found = bl.power(
        plan, {"Intercept": 0, "arm[b]": 0}, {"id": 20.0}, sigma=1.0, residual={"sd_ratio_arm[b]": 2.0}, n=2, hdi=1,
        progressbar=False,
    )  # fmt: skip
    rows = found.table.set_index(["parameter", "test"])["power"]
    # An effect twenty times the noise is found in every response, and nothing has no power beyond chance.
    assert rows["sd_id[Intercept]", "chi-bar-square"] == 1.0
    assert rows["arm[b]", "satterthwaite"] < 1.0 and ("arm[b]", "hdi") in rows.index
