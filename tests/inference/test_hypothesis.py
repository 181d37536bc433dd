"""Joint hypotheses about fixed effects far from the data, against dense generalised least squares near them."""

from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.inference.hypothesis import rank_of
from bayeslmm.results.linear import DDF


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    s = np.arange(100) % 10
    x, z = rng.normal(size=(2, 100))
    y = rng.normal(size=10)[s] + x * rng.normal(size=10)[s] * 0.5 + rng.normal(size=100)
    return pd.DataFrame({"y": y, "x": x, "z": z, "s": s})


def fitted(shift: float, formula: str = "y ~ x + (x | s)") -> bl.REMLResult:
    data = frame()
    return bl.Model(formula, data.assign(x=data["x"] + shift)).fit()


def wald(formula: str, L: Any) -> float:
    """F by dense generalised least squares with the variances of the fit where x is not shifted."""
    fit = fitted(0.0, formula)
    V, X, L = np.asarray(fit.matrices().V), fit.design.X, np.asarray(L, dtype=float)
    half = np.linalg.solve(np.linalg.cholesky(V), np.column_stack([X, fit.design.y]))
    C = np.linalg.inv(half[:, :-1].T @ half[:, :-1])
    estimate = L @ C @ half[:, :-1].T @ half[:, -1]
    return float(estimate @ np.linalg.solve(L @ C @ L.T, estimate) / L.shape[0])


@pytest.mark.parametrize(("shift", "rtol"), [(1e2, 1e-7), (1e5, 1e-7), (1e6, 1e-7), (1.7e9, 1e-6)])
def test_a_shift_of_a_predictor_changes_no_joint_test(shift: float, rtol: float) -> None:
    near, far = fitted(0.0), fitted(shift)
    F = wald("y ~ x + (x | s)", np.eye(2))
    for ddf in (name for name in get_args(DDF) if name != "knapp-hartung"):
        expected, found = near.test_fixed(np.eye(2), ddf), far.test_fixed(np.eye(2), ddf)
        assert found["df1"] == 2.0
        assert found["F"] == pytest.approx(expected["F"], rel=rtol)
        assert found["df2"] == pytest.approx(expected["df2"], rel=rtol)
        if not ddf.startswith("kenward-roger"):
            assert found["F"] == pytest.approx(F, rel=rtol)


def test_points_far_from_zero_are_two() -> None:
    near = wald("y ~ x + z + (x | s)", [[1.0, 0.5, 0.0], [1.0, 1.5, 0.0]])
    far = fitted(1.7e9, "y ~ x + z + (x | s)")
    at = np.array([[1.0, 1.7e9 + 0.5, 0.0], [1.0, 1.7e9 + 1.5, 0.0]])
    for L in (at, np.vstack([at, at.sum(axis=0), at[1] - at[0]])):
        found = far.test_fixed(L, "z")
        assert (found["df1"], found["F"]) == (2.0, pytest.approx(near, rel=1e-5))


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_rank_counts_rows_and_not_units(unit: float) -> None:
    rows = np.random.default_rng(1).standard_normal((3, 5)) * [1.0, unit, 1.0 / unit, 1.0, 1.0]
    mixed = np.vstack([rows, rows.mean(axis=0) / 3.0, np.zeros(5), unit * rows[0] - rows[2] / 7.0])
    assert rank_of(mixed) == 3
    assert rank_of(np.eye(5) * unit) == 5
    assert rank_of(np.array([[1.0, 1.7e9], [1.0, 1.7e9 + 1.0]])) == 2
