"""The exact Hessian of a hierarchy against dense matrices of all rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import derivatives, evaluate
from bayeslmm.likelihood.exact_traces import ChainPieces
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.numerics.differences import jacobian


def _data() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    n = 400
    g, x = rng.integers(0, 66, n), rng.normal(size=n)
    d = pd.DataFrame({"g": [f"g{k}" for k in g], "x": x})
    d["h"] = d.g + [f"h{k}" for k in rng.integers(0, 3, n)]
    d["i"] = [f"i{k}" for k in rng.integers(0, 70, n)]
    effects = rng.normal(size=(66, 2)) * [1.0, 0.6]
    item = rng.normal(size=70)
    within = dict(zip(sorted(set(d.h)), rng.normal(size=len(set(d.h))), strict=True))
    d["y"] = (
        1 + x + effects[g, 0] + effects[g, 1] * x + d.h.map(within) + item[d.i.str[1:].astype(int)] + rng.normal(size=n)
    )
    return d


_CROSSED = "y ~ x + (x | g) + (x | i)"
_NESTED = "y ~ x + (x | g/h) + (x | i)"


def _dense_z(design: bl.design.Design, position: int) -> tuple[np.ndarray, int]:
    """Z (n, J c) of one term and its number of effects."""
    term = design.terms[position]
    codes = design.groupings[term.group].codes
    J, c = int(codes.max()) + 1, term.Z.shape[1]
    Z = np.zeros((design.n, J, c))
    Z[np.arange(design.n), codes] = term.Z
    return Z.reshape(design.n, -1), c


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("formula", [_CROSSED, _NESTED])
def test_second_derivatives_are_those_of_dense_matrices(formula: str, reml: bool) -> None:
    fit = bl.Model(formula, _data()).fit(reml=reml)
    cp, design = fit.cp, fit.design
    assert isinstance(cp.sums, Hierarchy)
    factors = list(fit.optimum.factors)
    first = derivatives(cp, factors, evaluate(cp, factors), reml)
    rng = np.random.default_rng(3)
    directions = [rng.normal(size=(1, 2, b.size, b.size)) for b in cp.blocks]
    directions = [d + np.swapaxes(d, 2, 3) for d in directions]
    found = first.second(directions, reml)[0]

    V, changes = np.eye(design.n), []
    for b, columns, position, _, _ in cp.frame.terms:
        Z, c = _dense_z(design, position)
        basis = np.linalg.inv(cp.blocks[b].inverse_basis[columns, columns])
        own = basis @ factors[b][0][columns, columns]
        V += Z @ np.kron(np.eye(Z.shape[1] // c), own @ own.T) @ Z.T
        for d in directions[b][0]:
            changes.append(Z @ np.kron(np.eye(Z.shape[1] // c), basis @ d[columns, columns] @ basis.T) @ Z.T)
    inverse = np.linalg.inv(V)
    X = design.X
    P = inverse - inverse @ X @ np.linalg.solve(X.T @ inverse @ X, X.T @ inverse)
    y, traced = design.y, P if reml else inverse
    nu, r2 = design.n - (design.p if reml else 0), float(y @ P @ y)
    score = [float(y @ P @ D @ P @ y) for D in changes]
    right = np.array(
        [
            [
                nu / r2 * (2 * float(y @ P @ D @ P @ E @ P @ y) - score[j] * score[k] / r2)
                - float(np.sum((traced @ D) * (traced @ E).T))
                for k, E in enumerate(changes)
            ]
            for j, D in enumerate(changes)
        ]
    )
    size = np.sqrt(np.abs(np.diag(right)))
    assert np.abs((found - right) / np.outer(size, size)).max() < 1e-9


@pytest.mark.parametrize("reml", [True, False])
def test_hessian_of_an_optimum_is_the_derivative_of_its_gradient(reml: bool) -> None:
    optimum = bl.Model(_NESTED, _data()).fit(reml=reml).optimum
    criterion, x = optimum._problem
    first = derivatives(optimum.cp, list(optimum.factors), optimum.factor, reml)
    assert first.pieces.affordable(x.size)
    by_differences = jacobian(lambda at: criterion(at).expand().gradient, x)
    size = np.sqrt(np.abs(np.diag(by_differences)))
    # The differences keep seven or eight digits.
    assert np.abs((optimum.hessian - by_differences) / np.outer(size, size)).max() < 1e-5


def test_satterthwaite_of_many_parameters_agrees_with_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _data()
    found = bl.Model(_CROSSED, data).fit().coefficients()["df"]
    monkeypatch.setattr(ChainPieces, "affordable", lambda pieces, count: False)
    assert np.allclose(found, bl.Model(_CROSSED, data).fit().coefficients()["df"], rtol=1e-4)
