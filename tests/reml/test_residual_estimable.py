"""Residual structures without an estimate are refused before any search, each with its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import linalg

import bayeslmm as bl
from bayeslmm.errors import FitError


@pytest.fixture(scope="module")
def teeth() -> pd.DataFrame:
    return bl.load_dataset("Orthodont")


@pytest.mark.parametrize(
    ("formula", "residual", "column", "level"),
    [
        ("distance ~ Sex", "by(Sex)", "Sex", "Female"),
        ("distance ~ age * Sex + (1 | Subject)", "by(Sex)", "Sex", "Female"),
        ("distance ~ C(age)", "us(age | Subject)", "age", 8),
        ("distance ~ C(age)", "csh(age | Subject)", "age", 8),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_a_level_that_does_not_vary(
    teeth: pd.DataFrame, formula: str, residual: str, column: str, level: object, reml: bool
) -> None:
    flat = teeth.assign(distance=np.where(teeth[column] == level, 20.0, teeth["distance"]))
    count = int((teeth[column] == level).sum())
    with pytest.raises(FitError, match=rf"fit all {count} rows of {column} '{level}' exactly"):
        bl.Model(formula, flat, residual=residual).fit(reml)
    # One millionth of a millimetre is a variance, though a small one.
    jitter = 1e-6 * np.random.default_rng(1).normal(size=len(flat))
    assert (
        bl.Model("distance ~ Sex", flat.assign(distance=flat["distance"] + jitter), residual="by(Sex)").fit().status.ok
    )


@pytest.mark.parametrize("reml", [True, False])
def test_a_shared_residual_beside_a_constant_of_every_group(teeth: pd.DataFrame, reml: bool) -> None:
    one = teeth[teeth["Subject"] == "M01"].reset_index(drop=True)
    with pytest.raises(FitError, match="there is one Subject with more than one row"):
        bl.Model("distance ~ age", one, residual="cs(Subject)").fit(reml)
    with pytest.raises(FitError, match="a constant for each of the 27 levels of Subject"):
        bl.Model("distance ~ age + Subject", teeth, residual="cs(Subject)").fit(reml)
    two = teeth[teeth["Subject"].isin(["M01", "M02"])].reset_index(drop=True)
    assert bl.Model("distance ~ age", two, residual="cs(Subject)").fit().status.ok
    # Without a constant the mean of one group has its own variance, and with other structures so have its rows.
    assert bl.Model("distance ~ 0 + age", one, residual="cs(Subject)").fit().status.ok
    assert bl.Model("distance ~ age", one, residual="ar1(age | Subject)").fit().status.ok


def test_the_criterion_is_flat_where_it_is_refused(teeth: pd.DataFrame) -> None:
    one = teeth[teeth["Subject"] == "M01"]
    X, y = np.column_stack([np.ones(4), one["age"]]), one["distance"].to_numpy()
    found = []
    for rho in (-0.2, 0.0, 0.7):
        R = (1 - rho) * np.eye(4) + rho
        W = np.linalg.inv(R)
        P = W - W @ X @ np.linalg.solve(X.T @ W @ X, X.T @ W)
        found.append(np.linalg.slogdet(R)[1] + np.linalg.slogdet(X.T @ W @ X)[1] + 2 * np.log(y @ P @ y))
    np.testing.assert_allclose(found, found[0], rtol=1e-12)


@pytest.mark.filterwarnings("ignore::bayeslmm.ConvergenceWarning")
def test_as_many_groups_as_visits_end_with_the_reason() -> None:
    # Of these some mean without a constant leaves a combination of the visits no variance; the search ran to its limit.
    names = set()
    for seed, visits in ((2, 4), (13, 3), (6, 4)):
        rng = np.random.default_rng(seed)
        data = pd.DataFrame({"g": np.repeat(np.arange(visits), visits), "t": np.tile(np.arange(visits), visits)})
        data["x"], data["y"] = rng.normal(size=len(data)), 3 + rng.normal(size=len(data))
        for formula in ("y ~ 0 + x", "y ~ 0 + t"):
            Y, Z = (data[name].to_numpy().reshape(visits, visits) for name in ("y", formula[-1]))
            means = linalg.eigvals(Y, Z)
            assert (np.isfinite(means) & (means.imag == 0)).any()
            names.add(bl.Model(formula, data, residual="us(t | g)").fit().status.name)
    assert names == {"unbounded"}
