"""Where models with residual parameters have estimates, and what is said where they have none or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import FitError
from bayeslmm.teaching import dense_criterion


def _trial(groups: int, visits: int, seed: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Complete visits of two arms, and the responses (groups, visits) of each."""
    rng = np.random.default_rng(seed)
    S = 0.8 ** np.abs(np.subtract.outer(np.arange(visits), np.arange(visits)))
    Y = {arm: rng.multivariate_normal(np.zeros(visits), S, size=groups) for arm in "ab"}
    rows = [(f"{arm}{i}", arm, t, y[i, t]) for arm, y in Y.items() for i in range(groups) for t in range(visits)]
    data = pd.DataFrame(rows, columns=["id", "arm", "visit", "y"])
    return data.assign(v=data["visit"].astype(str)), Y


@pytest.mark.parametrize(("groups", "visits"), [(15, 10), (12, 10), (6, 5)])
def test_hardly_more_groups_than_visits_have_the_sample_covariance(groups: int, visits: int) -> None:
    data, Y = _trial(groups, visits, 3)
    fit = bl.Model("y ~ 0 + v:arm", data, residual="us(visit | id, by=arm)").fit()
    assert fit.status.ok
    # Means of their own for all visits and arms leave Wishart matrices.
    closed = 0.0
    for y in Y.values():
        log_det = np.linalg.slogdet(np.cov(y.T))[1]
        closed += (groups - 1) * (log_det + visits * (1 + np.log(2 * np.pi))) + visits * np.log(groups)
    assert fit.criterion == pytest.approx(closed, abs=1e-8)
    for arm, y in Y.items():
        np.testing.assert_allclose(fit.residual_covariance(f"{arm}0"), np.cov(y.T), rtol=1e-4, atol=1e-5)


def test_as_many_groups_as_visits_are_refused_with_the_reason() -> None:
    data, _ = _trial(5, 5, 1)
    model = bl.Model("y ~ visit", data, residual="us(visit | id, by=arm)")
    with pytest.raises(FitError, match="5 groups of a have all of the 5 visits 0, 1, 2"):
        model.fit()
    # Both arms together are ten groups.
    fit = bl.Model("y ~ visit", data, residual="us(visit | id)").fit()
    assert fit.status.ok
    # Without those that have all visits some other combination is left alone.
    late = data.drop(data.index[(data["visit"] == 4) & data["id"].isin(["a0", "a1", "a2", "a3", "b0", "b1", "b2"])])
    with pytest.raises(FitError, match="3 groups have all of the 5 visits"):
        bl.Model("y ~ visit", late, residual="us(visit | id)").fit()
    assert fit.influence("id", cases=["a0"]).without == ()


def test_groups_that_do_not_vary_have_no_correlation(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"g": np.repeat(np.arange(12), 6), "t": np.tile(np.arange(6), 12)})
    data["y"] = rng.normal(size=12)[data["g"]]
    with pytest.warns(bl.ConvergenceWarning, match="grows without bound"):
        fit = bl.Model("y ~ 1", data, residual="ar1(t | g)").fit()
    assert fit.status.name == "unbounded" and not fit.status.ok
    fit.save(tmp_path / "fit")
    assert bl.load(tmp_path / "fit").status is fit.status
    # Nearly constant ones have an estimate, which the chain finds with all its digits.
    near = data.assign(y=data["y"] + 1e-6 * rng.normal(size=72))
    close = bl.Model("y ~ 1", near, residual="ar1(t | g)").fit()
    assert close.status.ok and 1.0 - close.estimates()["residual_rho"] < 1e-10
    jumps = np.diff(near["y"].to_numpy().reshape(12, 6), axis=1)
    # Innovations have variance sigma^2 (1 - rho^2), all but known by the jumps alone.
    lam = close.optimum.lam[0]
    assert close.sigma**2 / np.cosh(lam) ** 2 == pytest.approx(np.mean(jumps**2), rel=1e-3)


def _series(times: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    e = np.zeros((25, times))
    e[:, 0] = rng.normal(size=25)
    for k in range(1, times):
        e[:, k] = 0.8 * e[:, k - 1] + 0.6 * rng.normal(size=25)
    n = 25 * times
    data = pd.DataFrame({"g": np.repeat(np.arange(25), times), "t": np.tile(np.arange(times), 25), "row": np.arange(n)})
    return data.assign(y=2 * e.ravel() + rng.normal(size=n), x=rng.normal(size=n))


def test_a_nugget_beside_serial_correlation() -> None:
    model = bl.Model("y ~ x + (1 | row)", _series(8, 0), residual="ar1(t | g)")
    fit = model.fit()
    assert fit.status.ok
    assert fit.criterion == pytest.approx(dense_criterion(fit.matrices()), rel=1e-11)
    here = np.array([*fit.theta, *fit.optimum.lam])
    for step in 0.02 * np.concatenate([np.eye(2), -np.eye(2)]):
        theta, lam = here + step
        assert dense_criterion(model.matrices([theta], 1.0, [lam])) > fit.criterion


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("random", "residual", "parts"),
    [
        ("(1 | row)", "ar1(t | g)", ("variance in (1 | row)", "residual rho", "residual variance")),
        ("(1 | g)", "ar1(t | g)", ("variance in (1 | g)", "residual rho", "residual variance")),
        ("(1 | g)", "cs(g)", ("variance in (1 | g)", "residual rho", "residual variance")),
        ("(1 | g)", "exp(t | g)", ("variance in (1 | g)", "residual range", "residual variance")),
    ],
)
def test_two_times_cannot_tell_a_variance_from_a_correlation(
    random: str, residual: str, parts: tuple[str, str, str], seed: int
) -> None:
    with pytest.warns(bl.ConvergenceWarning, match="not identified"):
        fit = bl.Model(f"y ~ x + {random}", _series(2, seed), residual=residual).fit()
    assert [ridge.parts for ridge in fit.optimum.ridges] == [parts]
