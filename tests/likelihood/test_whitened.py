"""Sums of whitened rows, against the dense covariance of the response."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import cho_factor, cho_solve

import bayeslmm as bl
from bayeslmm.design.design import Design, Store
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import SummedDesign, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.whitened import RowsAtPoints, mixed_groups, whitened_products
from bayeslmm.reml import optimise

DENSE = 1e-12
SLEEP = "Reaction ~ Days + (Days | Subject)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"
NESTED = "strength ~ 1 + (1 | batch/cask)"
GROUPS = {"sleepstudy": ["Subject"], "Penicillin": ["plate"], "Pastes": ["batch", "cask"]}


def dense(design: Design, theta: np.ndarray, R: np.ndarray, reml: bool = True) -> float:
    """Profiled criterion from V = R + Z Lambda Lambda' Z'."""
    V, at = R.copy(), 0
    for term in design.terms:
        k = len(term.structure.rows)
        T, codes = term.structure.factor(theta[None, at : at + k])[0], design.groupings[term.group].codes
        V += (term.Z @ T @ T.T @ term.Z.T) * (codes[:, None] == codes)
        at += k
    X, y = design.X, design.y
    chol = cho_factor(V, lower=True)
    A = X.T @ cho_solve(chol, X)
    r = y - X @ np.linalg.solve(A, X.T @ cho_solve(chol, y))
    nu = y.size - X.shape[1] if reml else y.size
    logs = 2 * np.log(np.diag(chol[0])).sum() + (np.linalg.slogdet(A)[1] if reml else 0.0)
    return float(logs + nu * (1 + np.log(2 * np.pi * (r @ cho_solve(chol, r)) / nu)))


def criterion(cp: SummedDesign, theta: np.ndarray, reml: bool = True) -> float:
    factors = par.block_factors(cp, par.terms_from_theta(cp, theta))
    return float(profiled(cp, evaluate(cp, factors), reml)[0])


def close(model: bl.Model, lam: list[float], R: np.ndarray, tolerance: float = DENSE) -> None:
    """Sums on coordinates of their own, and on those of another point, have the dense criterion."""
    rng, at = np.random.default_rng(1), np.array(lam)
    both = whitened_products(model.design, at), RowsAtPoints.of(model.design, 0.8 * at).at(at)
    for scale in (0.0, 0.5, 2.0):
        theta = scale * np.abs(rng.normal(size=model.design.n_theta))
        for reml in (True, False):
            expected = dense(model.design, theta, R, reml)
            for cp in both:
                assert criterion(cp, theta, reml) == pytest.approx(expected, rel=tolerance)


def ordered(name: str) -> pd.DataFrame:
    """A data set with a time in every group, and numbers by row, the largest 1: a rate counts in units of it."""
    data, group = bl.load_dataset(name), GROUPS[name]
    numbers = np.random.default_rng(3).normal(size=len(data))
    return data.assign(
        time=data.groupby(group).cumcount(), z=numbers / np.abs(numbers).max(), own=data[group].agg(":".join, axis=1)
    )


def autoregressive(codes: np.ndarray, times: pd.Series, rho: float) -> np.ndarray:
    """Correlations of rows in the levels of a factor by the distance of their times."""
    return np.where(codes[:, None] == codes, rho ** np.abs(np.subtract.outer(times.to_numpy(), times.to_numpy())), 0.0)


@pytest.mark.parametrize(("data", "formula"), [("Penicillin", CROSSED), ("Pastes", NESTED), ("sleepstudy", SLEEP)])
def test_any_diagonal(data: str, formula: str) -> None:
    rows = ordered(data)
    model = bl.Model(formula, rows, residual="exp(z)")
    close(model, [1.7], np.diag(np.exp(3.4 * rows["z"])))


def test_a_residual_variance_by_group() -> None:
    data = bl.load_dataset("sleepstudy")
    model = bl.Model(SLEEP, data, residual="by(Subject)")
    logs = np.random.default_rng(4).uniform(-1.2, 1.1, 17)
    sd = np.exp(np.append(0.0, logs)[model.design.groupings["Subject"].codes])
    close(model, list(logs), np.diag(sd**2))


@pytest.mark.parametrize(("data", "formula"), [("sleepstudy", SLEEP), ("Penicillin", CROSSED), ("Pastes", NESTED)])
@pytest.mark.parametrize("rho", [0.4, -0.3, 0.95])
def test_autoregression_within_levels_of_the_eliminated_factor(data: str, formula: str, rho: float) -> None:
    """The other factors are within these levels, or crossed with them and written out."""
    rows = ordered(data)
    model = bl.Model(formula, rows, residual="ar1(time | own)")
    R = autoregressive(pd.factorize(rows["own"])[0], rows["time"], rho)
    assert mixed_groups(model.design) == (("sample",) if data == "Penicillin" else ())
    # The condition of R is 800 at the largest correlation.
    close(model, [np.arctanh(rho)], R, DENSE if abs(rho) < 0.9 else 10 * DENSE)


def test_weights_and_whitening_come_together() -> None:
    data = bl.load_dataset("sleepstudy")
    w = np.random.default_rng(6).uniform(0.5, 2.0, len(data))
    model = bl.Model(SLEEP, data, weights=w, residual="ar1(Days | Subject)")
    R = autoregressive(model.design.groupings["Subject"].codes, data["Days"], 0.3)
    close(model, [np.arctanh(0.3)], R / np.sqrt(np.outer(w, w)))


def test_no_whitening_changes_nothing() -> None:
    for formula, data in ((SLEEP, "sleepstudy"), (CROSSED, "Penicillin")):
        rows = ordered(data)
        model, plain = bl.Model(formula, rows, residual="exp(z)"), bl.Model(formula, rows)
        theta = np.ones(model.design.n_theta)
        same = whitened_products(model.design, np.zeros(1))
        assert criterion(same, theta) == pytest.approx(criterion(plain.cross_products, theta), rel=DENSE)
        own = plain.cross_products
        for one, two in zip(same.blocks, own.blocks, strict=True):
            np.testing.assert_array_equal(one.basis, two.basis)


def test_columns_that_depend_on_others_stay_out() -> None:
    data = ordered("sleepstudy").assign(Twice=lambda d: 2 * d["Days"] + 1)
    model = bl.Model("Reaction ~ Days + Twice + (Days | Subject)", data, residual="exp(z)")
    assert model.design.aliased == ("Twice",)
    close(model, [1.5], np.diag(np.exp(3.0 * data["z"])))


def test_a_basis_that_whitening_makes_poor() -> None:
    """Late days that count a million times as much: intercept and slope are nearly one column of them."""
    data = bl.load_dataset("sleepstudy").assign(part=lambda d: np.where(d["Days"] > 8, "late", "early"))
    model = bl.Model(SLEEP, data, residual="by(part)")
    cp, lam = bl.Model(SLEEP, data).cross_products, np.log(1e-3)
    sd = np.where(data["part"] == "late", 1e-3, 1.0)
    white = whitened_products(model.design, np.array([lam]))
    assert smallest(cp.fixed.columns / sd[:, None]) < 0.01 < smallest(white.fixed.columns)
    theta = np.array([0.8, 0.1, 0.3])
    assert criterion(white, theta) == pytest.approx(dense(model.design, theta, np.diag(sd**2)), rel=1e-10)


def smallest(columns: np.ndarray) -> float:
    """The smallest eigenvalue of the correlations of columns about zero."""
    scaled = columns / np.sqrt((columns**2).mean(axis=0))
    return float(np.linalg.eigvalsh(scaled.T @ scaled / len(columns))[0])


def test_factors_by_row_count_as_often_as_their_rows_stand_for() -> None:
    data = pd.DataFrame({"y": [1.0, 2, 4, 3, 2, 5, 4, 4], "g": list("aabbccdd"), "f": [1, 2, 1, 3, 1, 1, 2, 1]})
    data["z"] = np.linspace(-1.0, 1.0, 8)
    long = data.loc[data.index.repeat(data["f"])]
    one, other = (bl.Model("y ~ 1 + (1 | g)", rows, residual="exp(z)", **more)
                  for rows, more in ((data, {"frequency": "f"}), (long, {})))  # fmt: skip
    lam, theta = np.array([0.6]), np.array([0.7])
    found, expected = (criterion(whitened_products(model.design, lam), theta) for model in (one, other))
    assert found == pytest.approx(expected, rel=DENSE)


def test_the_store_is_an_argument() -> None:
    data = bl.load_dataset("Penicillin")
    expected: dict[Store, str] = {"auto": "Levels", "levels": "Levels", "hierarchy": "Hierarchy"}
    for store, name in expected.items():
        assert type(bl.Model(CROSSED, data, store=store).cross_products.sums).__name__ == name
    with pytest.raises(DesignError, match="store"):
        bl.Model(CROSSED, data, store="dense")  # type: ignore[arg-type]


def test_an_optimum_with_correlations_and_a_crossed_factor() -> None:
    """No rows to look at once more: the optimiser goes by the sums alone, and what it says is so."""
    rows = ordered("Penicillin")
    model = bl.Model(CROSSED, rows, residual="ar1(time | plate)")
    R = autoregressive(pd.factorize(rows["plate"])[0], rows["time"], 0.2)
    best = optimise(whitened_products(model.design, np.array([np.arctanh(0.2)])))
    assert best.status.name.startswith("converged")
    lowest = dense(model.design, best.theta, R)
    assert best.criterion == pytest.approx(lowest, rel=1e-10)
    for step in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98)):
        assert dense(model.design, best.theta * np.array(step), R) > lowest
