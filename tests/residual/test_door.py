"""Residual structures through sums that are re-formed for whitened rows, against the dense covariance of y."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.likelihood import SummedDesign, cross_products, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.whitened import RowsAtPoints, whitened_products
from bayeslmm.reml import optimise
from bayeslmm.residual import Homoscedastic, Residual

from .members import REPRESENTATIVES, Member, N, Serial

everyone = pytest.mark.parametrize("member", REPRESENTATIVES, ids=str)


def _design(formula: str) -> Design:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"y": rng.normal(size=N), "x": rng.normal(size=N), "g": np.repeat(["a", "b", "c"], [5, 4, 3])})
    frame["h"], frame["k"] = np.arange(N) % 2, np.arange(N) % 4
    return bl.Model(formula, frame).design


def _factors(design: Design) -> list[np.ndarray]:
    rng = np.random.default_rng(8)
    return [np.tril(rng.normal(size=(1, len(t.effects), len(t.effects)))) for t in design.terms]


def _whitened(design: Design, residual: Residual, lam: np.ndarray) -> SummedDesign:
    return whitened_products(replace(design, residual=residual), lam)


def _criterion(cp: SummedDesign, terms: list[np.ndarray], reml: bool) -> float:
    return float(profiled(cp, evaluate(cp, par.block_factors(cp, terms)), reml)[0])


def _dense(design: Design, R: np.ndarray, terms: list[np.ndarray], reml: bool) -> float:
    """-2 log (restricted) likelihood with sigma and beta at their best, from the covariance of y."""
    V, X, n = R, design.X, design.n
    for term, T in zip(design.terms, terms, strict=True):
        codes = design.groupings[term.group].codes
        V = V + (codes[:, None] == codes) * (term.Z @ T[0] @ T[0].T @ term.Z.T)
    root = np.linalg.cholesky(V)
    Xw, yw = np.linalg.solve(root, X), np.linalg.solve(root, design.y)
    Q, upper = np.linalg.qr(Xw)
    left = yw - Q @ (Q.T @ yw)
    logs = 2.0 * np.log(np.diag(root)).sum()
    if reml:
        logs += 2.0 * np.log(np.abs(np.diag(upper))).sum()
    df = n - design.p if reml else n
    return logs + df * (1.0 + np.log(2.0 * np.pi * (left @ left) / df))


@everyone
@pytest.mark.parametrize(
    "formula", ["y ~ x + (x | g)", "y ~ 0 + x + (1 | g)", "y ~ x + (1 | k) + (1 | g)", "y ~ x + (1 | g / h)"]
)
@pytest.mark.parametrize("reml", [True, False], ids=["REML", "ML"])
def test_criterion(member: Member, formula: str, reml: bool) -> None:
    design = _design(formula)
    terms, held = _factors(design), replace(design, residual=member.residual)
    rows = RowsAtPoints.of(held, member.points[0])
    for lam in member.points:
        expected = _dense(design, member.dense(lam), terms, reml)
        # Weights from 1e-8 to 1e8 leave the dense covariance half of its digits.
        close = 1e-6 if member.name == "weights far apart" else 1e-11
        # Coordinates chosen at the point, and kept from another.
        for cp in (whitened_products(held, lam), rows.at(lam)):
            assert _criterion(cp, terms, reml) == pytest.approx(expected, rel=close, abs=close)


@pytest.mark.parametrize(
    "member", [m for m in REPRESENTATIVES if not m.residual.names and "far" not in m.name], ids=str
)
def test_what_has_no_parameters_is_the_design_that_holds_it(member: Member) -> None:
    plain = _design("y ~ x + (x | g)")
    assert plain.residual == Homoscedastic(N)
    terms, lam = _factors(plain), member.points[0]
    own = cross_products(replace(plain, residual=member.residual))
    through = _whitened(plain, member.residual, lam)
    assert _criterion(through, terms, True) == pytest.approx(_criterion(own, terms, True), rel=1e-12, abs=1e-12)


def test_serial_correlation_of_sleepstudy() -> None:
    """REML of ``Days + (Days | Subject)`` with AR(1) residuals: nlme's lme finds -862.0935, short of the boundary."""
    data = bl.load_dataset("sleepstudy")
    design = bl.Model("Reaction ~ Days + (Days | Subject)", data).design
    residual = Serial(design.groupings["Subject"].codes, data["Days"].to_numpy(float))

    def criterion(x: float) -> float:
        return optimise(_whitened(design, residual, np.array([x]))).criterion

    best = minimize_scalar(criterion, bounds=(0.1, 1.0), method="bounded", options={"xatol": 1e-5})
    assert -0.5 * best.fun == pytest.approx(-862.0582, abs=5e-5)
