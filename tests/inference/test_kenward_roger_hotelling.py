"""Kenward and Roger's F of conditions within subjects is Hotelling's, also where its moments do not exist."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.inference.kenward_roger import KenwardRoger


def hotelling(frame: pd.DataFrame) -> tuple[float, int]:
    """F and its denominator degrees of freedom, from the differences of the means of subjects."""
    means = frame.groupby(["subject", "condition"])["y"].mean().unstack().to_numpy()
    d = means[:, 1:] - means[:, :1]
    n, rows = d.shape
    covariance = np.cov(d.T).reshape(rows, rows)
    squared = n * d.mean(axis=0) @ np.linalg.solve(covariance, d.mean(axis=0))
    return float(squared) * (n - rows) / (rows * (n - 1)), n - rows


def repeated(subjects: int, conditions: int, seed: int) -> pd.DataFrame:
    """Three measurements of every subject in every condition; the subjects differ much more than they."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(range(subjects), range(conditions), range(3), indexing="ij"), axis=-1).reshape(-1, 3)
    effects = 10.0 * rng.normal(size=(subjects, conditions)) + np.arange(conditions)
    y = effects[grid[:, 0], grid[:, 1]] + 0.1 * rng.normal(size=len(grid))
    return pd.DataFrame({"y": y, "subject": grid[:, 0], "condition": [f"c{k}" for k in grid[:, 1]]})


# l + 2 subjects give 2 degrees of freedom, where the F distribution has no mean, and l + 4 give 4: no variance.
@pytest.mark.parametrize(("subjects", "conditions"), [(4, 3), (5, 3), (6, 3), (9, 3), (5, 4), (7, 4), (6, 5), (8, 5)])
def test_repeated_measurements(subjects: int, conditions: int) -> None:
    frame = repeated(subjects, conditions, 1)
    F, df = hotelling(frame)
    fit = bl.Model("y ~ condition + (0 + condition | subject)", frame).fit()
    assert fit.status is bl.reml.FitStatus.converged
    found = fit.test_fixed("condition", "kenward-roger")
    assert (found["df1"], found["df2"]) == (conditions - 1, pytest.approx(df, rel=1e-9))
    assert found["F"] == pytest.approx(F, rel=1e-9)
    assert found["p_value"] == pytest.approx(stats.f.sf(F, conditions - 1, df), rel=1e-9)


def wishart(rows: int, n: int, rounding: np.ndarray) -> KenwardRoger:
    """Rows with unit covariance that is estimated with n degrees of freedom, each of its elements a variance."""
    pairs = [(i, j) for i in range(rows) for j in range(i + 1)]
    changes = np.zeros((len(pairs), rows, rows))
    for k, (i, j) in enumerate(pairs):
        changes[k, i, j] = changes[k, j, i] = 1.0
    information = np.diag([(2.0 if i == j else 1.0) / n for i, j in pairs])
    one = np.eye(rows)
    return KenwardRoger(one[None], one[None], changes[None], information[None] * (1.0 + rounding), one)


@pytest.mark.parametrize("rows", [2, 3, 4, 7])
def test_scale_and_degrees_of_freedom_for_every_size(rows: int) -> None:
    """Closed form: T^2 / l is n / (n - l + 1) times an F variable with l and n - l + 1 degrees of freedom."""
    rng = np.random.default_rng(rows)
    size = rows * (rows + 1) // 2
    for n in range(rows, rows + 12):
        for noise in (0.0, 1e-15, 1e-13):
            found = wishart(rows, n, noise * rng.uniform(-1.0, 1.0, (size, size)))
            assert found.f_scale(np.eye(rows)) == pytest.approx(((n - rows + 1) / n, n - rows + 1), rel=1e-10)
