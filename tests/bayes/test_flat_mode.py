"""Under the preset "flat" minus twice the log posterior density of theta is the profiled REML criterion.

The criterion is computed here from dense matrices, the density by the collapsed posterior.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayeslmm.bayes.at_means import factors_at_zeros
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.design.shared import Shared
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise
from bayeslmm.teaching import build_matrices, dense_criterion

MODELS = {
    "Dyestuff": ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "Dyestuff2, estimate zero": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy, uncorrelated": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "Penicillin": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "Pastes": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "Machines, cs": ("Machines", "score ~ Machine + cs(0 + Machine | Worker)"),
}


def theta(target: Target, x: np.ndarray) -> np.ndarray:
    parts = []
    for term, T in zip(target.cp.design.terms, target.terms(x[None])[0], strict=True):
        if isinstance(term.structure, Shared) and term.structure.shared:
            parts.append(term.structure.theta(T[0]))
        else:
            parts.append(T[0][term.structure.rows, term.structure.cols])
    return np.concatenate(parts)


def log_jacobian(target: Target, x: np.ndarray) -> float:
    steps = 1e-5 * np.eye(x.size)
    slopes = [(theta(target, x + h) - theta(target, x - h)) / 2e-5 for h in steps]
    return float(np.linalg.slogdet(np.column_stack(slopes))[1])


@pytest.mark.parametrize("name", MODELS)
def test_density_in_theta_is_the_profiled_criterion(name: str) -> None:
    data, formula = MODELS[name]
    design = build_design(formula, load_dataset(data))
    cp = cross_products(design)
    target, start = make_target(cp, resolve_priors(design, "flat"), optimise(cp).terms)
    rng = np.random.default_rng(6)
    differences = []
    for _ in range(6):
        x = start + rng.normal(scale=0.7, size=start.size)
        density = target.evaluate(x[None]).log_density[0] - log_jacobian(target, x)
        # Theta is that of the effects at the means of the columns, the criterion is told those at their zeros.
        at_zeros = factors_at_zeros(target.changes, target.terms(x[None])[0])
        criterion = dense_criterion(build_matrices(design, [T[0] for T in at_zeros], 1.0))
        differences.append(-2.0 * density - criterion)
    np.testing.assert_allclose(differences, differences[0], atol=2e-6)


def _reference() -> Any:
    """The reference cases as the comparison with lme4 reads them."""
    path = Path(__file__).parents[1] / "reference" / "test_lme4.py"
    spec = importlib.util.spec_from_file_location("reference_cases", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CASES = _reference()
SINGULAR = [case for case in CASES.PLAIN if CASES.CASES[case]["reml"]["singular"]]
REGULAR = [case for case in CASES.CASES if case not in SINGULAR]
SLOW = [pytest.param(case, marks=pytest.mark.slow) if case in CASES.LARGE else case for case in REGULAR]
# Newton step from the REML estimate in units of the largest theta.
STEP = 1e-6


@cache
def _flat_target(case: str) -> tuple[Target, np.ndarray, list[np.ndarray]]:
    design = CASES.model(case).design
    cp = cross_products(design)
    terms = optimise(cp).terms
    target, start = make_target(cp, resolve_priors(design, "flat"), terms)
    return target, start, [np.asarray(T) for T in terms]


def log_density_of_theta(target: Target, x: np.ndarray) -> float:
    return float(target.evaluate(x[None]).log_density[0]) - log_jacobian(target, x)


@pytest.mark.parametrize("case", SLOW)
def test_mode_is_the_reml_estimate(case: str) -> None:
    """One Newton step on the log density of theta from the REML estimate, by differences of fourth order."""
    target, x, _ = _flat_target(case)
    d, h = x.size, 4e-3
    steps = h * np.eye(d)

    def f(shift: np.ndarray) -> float:
        return log_density_of_theta(target, x + shift)

    top = f(np.zeros(d))
    gradient, H = np.empty(d), np.empty((d, d))
    for i, e in enumerate(steps):
        near, far = (f(e), f(-e)), (f(2 * e), f(-2 * e))
        gradient[i] = (8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * h)
        H[i, i] = (sum(near) - 2 * top) / h**2
        for j in range(i):
            o = steps[j]
            H[i, j] = H[j, i] = (f(e + o) - f(e - o) - f(o - e) + f(-e - o)) / (4 * h**2)
    assert np.linalg.eigvalsh(H).max() < 0
    slopes = np.column_stack([(theta(target, x + 1e-5 * e) - theta(target, x - 1e-5 * e)) / 2e-5 for e in np.eye(d)])
    step = slopes @ np.linalg.solve(H, gradient)
    assert np.abs(step).max() < STEP * np.abs(theta(target, x)).max()


@pytest.mark.parametrize("case", SINGULAR)
def test_density_falls_from_a_singular_estimate(case: str) -> None:
    """In every feasible direction; the estimate itself may have no coordinates, so that points beside it are taken."""
    target, _, terms = _flat_target(case)

    def density(factors: list[np.ndarray]) -> float:
        pieces = zip(target.coordinates, factors, strict=True)
        return log_density_of_theta(target, np.concatenate([c.inverse(T) for c, T in pieces]))

    def beside(inwards: float, shifts: np.ndarray) -> list[np.ndarray]:
        out, at = [], 0
        for term, T in zip(target.cp.design.terms, terms, strict=True):
            moved = T.copy()
            for row, column in zip(term.structure.rows, term.structure.cols, strict=True):
                zero = row == column and abs(T[row, column]) < 1e-8
                moved[row, column] = inwards if zero else moved[row, column] + shifts[at]
                at += 1
            out.append(moved)
        return out

    size = target.cp.design.n_theta
    still = np.zeros(size)
    top = density(beside(1e-3, still))
    ladder = [top, *(density(beside(inwards, still)) for inwards in (0.01, 0.03, 0.1))]
    assert (np.diff(ladder) < 0).all()
    scale = max(1e-2, 1e-2 * max(np.abs(T).max() for T in terms))
    interior = [k for k, zero in enumerate(_zeros(target, terms)) if not zero]
    for k in interior:
        for sign in (-1.0, 1.0):
            for inwards in (1e-3, 0.01):
                assert density(beside(inwards, sign * scale * np.eye(size)[k])) < top


def _zeros(target: Target, terms: list[np.ndarray]) -> list[bool]:
    return [
        bool(row == column and abs(T[row, column]) < 1e-8)
        for term, T in zip(target.cp.design.terms, terms, strict=True)
        for row, column in zip(term.structure.rows, term.structure.cols, strict=True)
    ]
