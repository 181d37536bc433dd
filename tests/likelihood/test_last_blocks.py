"""The likelihood at other covariances of the last blocks, from one evaluation, against dense matrices of all rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import build_design
from bayeslmm.likelihood import cross_products
from bayeslmm.likelihood import parameters as par


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    n = 150
    data = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "a": np.arange(n) % 30,
            "g": rng.integers(0, 25, n),
            "h": rng.integers(0, 5, n),
            "k": rng.integers(0, 4, n),
        }
    )
    return data.assign(y=3 + data["x"] + rng.normal(size=25)[data["g"]] + rng.normal(size=n))


FORMULAS = {
    "intercepts": "y ~ x + (1 | a) + (1 | g) + (1 | h)",
    "slopes": "y ~ x + (x | a) + (x | g) + (x | h) + (1 | k)",
    "all are few": "y ~ 1 + (1 | a) + (x | h)",
}


@pytest.mark.parametrize("size", [1.0, 0.0], ids=["regular", "zero at the evaluation"])
@pytest.mark.parametrize("name", FORMULAS)
def test_other_covariances_of_the_last_blocks(name: str, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from bayeslmm.likelihood import last_blocks

    monkeypatch.setattr(last_blocks, "_FEW", 15)
    design = build_design(FORMULAS[name], frame(), store="hierarchy")
    cp = cross_products(design)
    first = cp.sums.first_of_last
    late = [term for block in cp.blocks[first:] for term in block.terms]
    assert 0 < len(late) < len(design.terms)
    rng, K = np.random.default_rng(1), 6
    one = [0.7 * np.tril(rng.normal(size=(1, len(t.effects), len(t.effects)))) for t in design.terms]
    many = [np.repeat(T, K, axis=0) for T in one]
    for k in late:
        many[k] = np.tril(rng.normal(size=many[k].shape)) * np.geomspace(1e-3, 30.0, K)[:, None, None]
        many[k][0] = 0.0
        one[k] = size * one[k]
    last = cp.sums.last_blocks(cp.sums.evaluate(par.block_factors(cp, one)))
    assert last is not None
    found = last.evaluate(par.block_factors(cp, many)[first:], K)
    for k in range(K):
        V = np.eye(design.n)
        for term, T in zip(design.terms, many, strict=True):
            codes = design.groupings[term.group].codes
            V += np.where(codes[:, None] == codes, term.Z @ T[k] @ T[k].T @ term.Z.T, 0.0)
        W, X = np.linalg.inv(V), design.X
        beta = np.linalg.solve(X.T @ W @ X, X.T @ W @ design.y)
        e = design.y - X @ beta
        np.testing.assert_allclose(found.log_det[k], np.linalg.slogdet(V)[1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.log_det_fixed[k], np.linalg.slogdet(X.T @ W @ X)[1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.r2[k], e @ W @ e, rtol=1e-9)
        np.testing.assert_allclose(
            cp.fixed.transform @ (found.solution[k] + cp.response.removed), beta, rtol=1e-8, atol=1e-9
        )


def test_dense_levels_have_none() -> None:
    cp = cross_products(build_design(FORMULAS["intercepts"], frame(), store="levels"))
    assert cp.sums.first_of_last == len(cp.blocks)
    ones = [np.ones((1, 1, 1))] * 3
    assert cp.sums.last_blocks(cp.sums.evaluate(ones)) is None
