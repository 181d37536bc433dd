"""Sums re-formed for whitened rows, against the dense covariance of the response."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar

import bayeslmm as bl
from bayeslmm.design.design import Design, Store
from bayeslmm.errors import DesignError
from bayeslmm.likelihood import SummedDesign, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.reweighting import POOR, poor, reweight
from bayeslmm.reml import optimise

DENSE = 1e-12
SLEEP = "Reaction ~ Days + (Days | Subject)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"
NESTED = "strength ~ 1 + (1 | batch/cask)"


def dense(design: Design, theta: np.ndarray, R: np.ndarray, kept: np.ndarray | None = None, reml: bool = True) -> float:
    """Profiled criterion from V = R + Z Lambda Lambda' Z', on the rows kept."""
    rows = np.arange(design.n) if kept is None else np.flatnonzero(kept)
    V, at = R.copy(), 0
    for term in design.terms:
        k = len(term.structure.rows)
        T, codes = term.structure.factor(theta[None, at : at + k])[0], design.groupings[term.group].codes
        V += (term.Z @ T @ T.T @ term.Z.T) * (codes[:, None] == codes)
        at += k
    V, X, y = V[np.ix_(rows, rows)], design.X[rows], design.y[rows]
    chol = cho_factor(V, lower=True)
    A = X.T @ cho_solve(chol, X)
    r = y - X @ np.linalg.solve(A, X.T @ cho_solve(chol, y))
    nu = y.size - X.shape[1] if reml else y.size
    logs = 2 * np.log(np.diag(chol[0])).sum() + (np.linalg.slogdet(A)[1] if reml else 0.0)
    return float(logs + nu * (1 + np.log(2 * np.pi * (r @ cho_solve(chol, r)) / nu)))


def criterion(cp: SummedDesign, theta: np.ndarray, reml: bool = True) -> float:
    factors = par.block_factors(cp, par.terms_from_theta(cp, theta))
    return float(profiled(cp, evaluate(cp, factors), reml)[0])


def close(cp: SummedDesign, design: Design, R: np.ndarray, kept: np.ndarray | None = None) -> None:
    rng = np.random.default_rng(1)
    for scale in (0.0, 0.5, 2.0):
        theta = scale * np.abs(rng.normal(size=design.n_theta))
        for reml in (True, False):
            assert criterion(cp, theta, reml) == pytest.approx(dense(design, theta, R, kept, reml), rel=DENSE)


def autoregressive(design: Design, group: str, rho: float) -> tuple[Callable[..., np.ndarray], float, np.ndarray]:
    """Whitening of AR(1) residuals in the order of the rows within the levels of a factor, its log det, and R."""
    codes, n = design.groupings[group].codes, design.n
    R, W, log_det = np.eye(n), np.zeros((n, n)), 0.0
    for level in range(codes.max() + 1):
        i = np.flatnonzero(codes == level)
        C = rho ** np.abs(np.subtract.outer(np.arange(i.size), np.arange(i.size)))
        L = np.linalg.cholesky(C)
        R[np.ix_(i, i)], W[np.ix_(i, i)] = C, np.linalg.inv(L)
        log_det -= 2 * np.log(np.diag(L)).sum()
    return (lambda columns, rows: W[np.ix_(rows, rows)] @ columns), float(log_det), R


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize(("data", "formula"), [("Penicillin", CROSSED), ("Pastes", NESTED), ("sleepstudy", SLEEP)])
def test_any_diagonal(data: str, formula: str, store: Store) -> None:
    model = bl.Model(formula, bl.load_dataset(data), store=store)
    w = np.exp(np.random.default_rng(3).normal(size=model.n))
    close(reweight(model.cross_products, np.sqrt(w)), model.design, np.diag(1 / w))


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
def test_a_residual_variance_by_group(store: Store) -> None:
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"), store=store)
    sd = np.random.default_rng(4).uniform(0.3, 3.0, 18)[model.design.groupings["Subject"].codes]
    close(reweight(model.cross_products, 1 / sd), model.design, np.diag(sd**2))


@pytest.mark.parametrize(("data", "formula", "group"), [
    ("sleepstudy", SLEEP, "Subject"),
    ("Penicillin", CROSSED, "plate"),
    ("Pastes", NESTED, "batch:cask"),
])  # fmt: skip
@pytest.mark.parametrize("rho", [0.4, -0.3, 0.95])
def test_autoregression_within_levels_of_the_eliminated_factor(data: str, formula: str, group: str, rho: float) -> None:
    model = bl.Model(formula, bl.load_dataset(data), store="levels")
    cp = model.cross_products
    group = cp.blocks[0].grouping.name
    whiten, log_det, R = autoregressive(model.design, group, rho)
    close(reweight(cp, whiten, log_det), model.design, R)


def test_nested_factors_of_a_hierarchy_take_correlated_residuals_too() -> None:
    model = bl.Model(NESTED, bl.load_dataset("Pastes"), store="hierarchy")
    cp = model.cross_products
    whiten, log_det, R = autoregressive(model.design, cp.blocks[0].grouping.name, 0.4)
    close(reweight(cp, whiten, log_det), model.design, R)


def test_weights_and_whitening_come_together() -> None:
    data = bl.load_dataset("sleepstudy")
    w = np.random.default_rng(6).uniform(0.5, 2.0, len(data))
    model = bl.Model(SLEEP, data, weights=w)
    whiten, log_det, R = autoregressive(model.design, "Subject", 0.3)
    close(reweight(model.cross_products, whiten, log_det), model.design, R / np.sqrt(np.outer(w, w)))


def test_reml_fit_with_autoregressive_residuals() -> None:
    """nlme stops at -862.0935: it does not reach the zero variance."""
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))

    def fit(rho: float) -> SummedDesign:
        whiten, log_det, _ = autoregressive(model.design, "Subject", rho)
        return reweight(model.cross_products, whiten, log_det)

    found = minimize_scalar(lambda rho: optimise(fit(rho)).criterion, bounds=(0.3, 0.7), method="bounded",
                            options={"xatol": 1e-5})  # fmt: skip
    best = optimise(fit(found.x))
    assert -best.criterion / 2 == pytest.approx(-862.0582, abs=5e-5)
    R = autoregressive(model.design, "Subject", found.x)[2]
    assert best.criterion == pytest.approx(dense(model.design, best.theta, R), rel=1e-10)
    assert best.status.name.startswith("converged")


def test_no_whitening_changes_nothing() -> None:
    for formula, data in ((SLEEP, "sleepstudy"), (CROSSED, "Penicillin")):
        model = bl.Model(formula, bl.load_dataset(data))
        cp, theta = model.cross_products, np.ones(model.design.n_theta)
        same = reweight(cp, lambda columns, rows: columns, 0.0)
        assert criterion(same, theta) == pytest.approx(criterion(cp, theta), rel=DENSE)
        assert same.frame.blocks == cp.frame.blocks and np.array_equal(same.fixed.transform, cp.fixed.transform)


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
def test_rows_of_weight_zero_are_no_observations(store: Store) -> None:
    data = bl.load_dataset("sleepstudy")
    kept = np.random.default_rng(7).uniform(size=len(data)) > 0.2
    model = bl.Model(SLEEP, data, store=store)
    cp = reweight(model.cross_products, kept.astype(float))
    assert cp.n == kept.sum()
    close(cp, model.design, np.eye(model.n), kept)
    direct = bl.Model(SLEEP, data[kept]).fit()
    assert optimise(cp).criterion == pytest.approx(direct.criterion, rel=1e-10)


def test_columns_that_depend_on_others_stay_out() -> None:
    data = bl.load_dataset("sleepstudy").assign(Twice=lambda d: 2 * d["Days"] + 1)
    model = bl.Model("Reaction ~ Days + Twice + (Days | Subject)", data)
    assert model.design.aliased == ("Twice",)
    w = np.random.default_rng(8).uniform(0.2, 5.0, model.n)
    close(reweight(model.cross_products, np.sqrt(w)), model.design, np.diag(1 / w))


def test_a_whitening_that_leaves_x_dependent_is_refused() -> None:
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    with pytest.raises(DesignError, match="whitened columns of X are linearly dependent"):
        reweight(model.cross_products, (model.design.X[:, 1] == 3.0).astype(float))


def test_a_frame_that_has_become_poor_is_chosen_afresh() -> None:
    """Late days that count a million times as much: intercept and slope are nearly one column of them."""
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    design, cp = model.design, model.cross_products
    mild, hard = np.where(design.X[:, 1] > 5, 0.5, 1.0), np.where(design.X[:, 1] > 8, 1.0, 1e-3)
    assert reweight(cp, mild).frame.blocks == cp.frame.blocks
    white = reweight(cp, hard)
    assert poor(cp.fixed.columns * hard[:, None]) and not poor(white.fixed.columns)
    assert not np.allclose(white.blocks[0].basis, cp.blocks[0].basis)
    X = white.fixed.columns / np.sqrt((white.fixed.columns**2).mean(axis=0))
    assert np.linalg.eigvalsh(X.T @ X / design.n)[0] > POOR
    theta = np.array([0.8, 0.1, 0.3])
    assert criterion(white, theta) == pytest.approx(dense(design, theta, np.diag(hard**-2.0)), rel=1e-10)


def test_rows_of_several_levels_may_not_be_mixed() -> None:
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    with pytest.raises(DesignError, match="mixes rows of several levels of Subject"):
        reweight(model.cross_products, lambda columns, rows: columns - 0.1 * columns.mean(axis=0), 0.0)
    crossed = bl.Model(CROSSED, bl.load_dataset("Penicillin"), store="hierarchy")
    whiten, log_det, _ = autoregressive(crossed.design, "plate", 0.4)
    with pytest.raises(DesignError, match="store='levels'"):
        reweight(crossed.cross_products, whiten, log_det)


def test_frequencies_take_factors_by_row_only() -> None:
    data = pd.DataFrame({"y": [1.0, 2, 4, 3, 2, 5, 4, 4], "g": list("aabbccdd"), "f": [1, 2, 1, 3, 1, 1, 2, 1]})
    model = bl.Model("y ~ 1 + (1 | g)", data, frequency="f")
    w = np.linspace(0.5, 2.0, 8)
    long = data.loc[data.index.repeat(data["f"])]
    other = bl.Model("y ~ 1 + (1 | g)", long, weights=np.repeat(w, data["f"]))
    theta = np.array([0.7])
    found = criterion(reweight(model.cross_products, np.sqrt(w)), theta)
    assert found == pytest.approx(criterion(other.cross_products, theta), rel=DENSE)
    with pytest.raises(DesignError, match="Write the rows out"):
        reweight(model.cross_products, lambda columns, rows: columns, 0.0)


def test_the_store_is_an_argument() -> None:
    data = bl.load_dataset("Penicillin")
    expected: dict[Store, str] = {"auto": "Levels", "levels": "Levels", "hierarchy": "Hierarchy"}
    for store, name in expected.items():
        assert type(bl.Model(CROSSED, data, store=store).cross_products.sums).__name__ == name
    with pytest.raises(DesignError, match="store"):
        bl.Model(CROSSED, data, store="dense")  # type: ignore[arg-type]


def test_an_optimum_with_correlations_and_a_crossed_factor() -> None:
    """No rows to look at once more: the optimiser goes by the sums alone, and what it says is so."""
    model = bl.Model(CROSSED, bl.load_dataset("Penicillin"))
    whiten, log_det, R = autoregressive(model.design, "plate", 0.2)
    cp = reweight(model.cross_products, whiten, log_det)
    best = optimise(cp)
    assert best.status.name.startswith("converged")
    lowest = dense(model.design, best.theta, R)
    assert best.criterion == pytest.approx(lowest, rel=1e-10)
    for step in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98)):
        assert dense(model.design, best.theta * np.array(step), R) > lowest
