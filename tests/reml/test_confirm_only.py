"""Minima in closed form: what confirms them, against differences of the dense criterion, and what it refuses."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.recheck import recheck_minimum
from bayeslmm.likelihood.reduction import CANCELS, _surely_keeps, level_sums_of
from bayeslmm.reml.confirm import confirm_only
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.fixed import hold
from bayeslmm.teaching.criterion import dense_criterion

MODELS = {
    "slopes": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {}),
    "weights": ("Reaction ~ Days + (Days | Subject)", "sleepstudy", {"weights": "1 + Days"}),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin", {}),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes", {}),
    "three effects": ("score ~ Machine + (Machine | Worker)", "Machines", {}),
}


def model_of(name: str) -> bl.Model:
    formula, data, options = MODELS[name]
    return bl.Model(formula, bl.load_dataset(data), **options)


def internal(model: bl.Model, theta: np.ndarray) -> list[np.ndarray]:
    cp = model.cross_products
    return [T[0] for T in par.block_factors(cp, par.terms_from_theta(cp, theta))]


def steepest(model: bl.Model, theta: np.ndarray, reml: bool) -> float:
    """The largest entry of the slopes along ``T (I + H) T'`` over the levels, by differences of the dense criterion."""
    cp, found = model.cross_products, []
    factors = internal(model, theta)

    def value(b: int, H: np.ndarray) -> float:
        changed = [T[None] for T in factors]
        # A square root of I + H: any does.
        changed[b] = (factors[b] @ np.linalg.cholesky(np.eye(len(H)) + H))[None]
        moved = par.theta_from_terms(cp, par.term_factors(cp, changed))[0]
        return dense_criterion(model.matrices(theta=moved, sigma=1.0), reml)

    for b, block in enumerate(cp.blocks):
        for i, j in combinations_with_replacement(range(block.size), 2):
            H = np.zeros((block.size, block.size))
            H[i, j] = H[j, i] = 1e-4
            twice = 1.0 if i == j else 2.0
            found.append(abs(value(b, H) - value(b, -H)) / (2e-4 * twice * block.n_levels))
    return max(found)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_slopes_are_differences_of_the_dense_criterion(name: str, reml: bool) -> None:
    model = model_of(name)
    theta = model.fit(reml).theta * 1.3
    value, bound, slope = recheck_minimum(model.cross_products, internal(model, theta), reml)
    assert value == pytest.approx(dense_criterion(model.matrices(theta=theta, sigma=1.0), reml), abs=1e-7)
    assert slope == pytest.approx(steepest(model, theta, reml), rel=1e-5)
    assert slope > 0.05
    assert 0 < bound < 1e-8


def test_a_minimum_is_confirmed_and_nothing_beside_it() -> None:
    for name in MODELS:
        cp = model_of(name).cross_products
        criterion, x = Criterion(cp, True, hold(cp, None)), par.only_minimum(cp, True)
        assert x is not None
        confirmed = confirm_only(criterion, x)
        assert confirmed is not None
        assert confirmed.told_apart
        for k in range(x.size):
            beside = x.copy()
            beside[k] += 1e-9 * np.abs(x).max()
            assert confirm_only(criterion, beside) is None


def test_zero_variances_are_left_to_the_iteration() -> None:
    cp = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).cross_products
    criterion, x = Criterion(cp, True, hold(cp, None)), par.only_minimum(cp, True)
    assert x is not None
    assert confirm_only(criterion, x) is None


@pytest.mark.parametrize("sd", [1e-4, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(4))
def test_little_is_said_to_cancel_only_where_it_does(seed: int, sd: float) -> None:
    """Where it is said, the sum of squares that is subtracted from is at most `CANCELS` times what is left."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, 80), rng.integers(0, 5, 80)
    y = rng.normal(size=9)[a] + rng.normal(size=5)[b] + sd * rng.normal(size=80)
    cp = bl.Model("y ~ x + (1 | a) + (1 | b)", pd.DataFrame({"y": y, "x": rng.normal(size=80), "a": a, "b": b}))
    sums = level_sums_of(cp.cross_products)
    plain = sums if sums.reference is None else None
    if sd >= 1.0:
        assert plain is not None
        assert _surely_keeps(plain)
    if sd <= 0.01:
        assert plain is None
    if plain is not None and _surely_keeps(plain):
        factor = plain.evaluate([100.0 * np.eye(block.size)[None] for block in plain.blocks])
        assert factor.total[0] <= CANCELS * factor.r2[0]
