"""Under the preset "flat" minus twice the log posterior density of theta is the profiled REML criterion.

The criterion is computed here from dense matrices, the density by the collapsed posterior.
"""

from __future__ import annotations

import numpy as np
import pytest

from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.design.shared import Shared
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise

MODELS = {
    "Dyestuff": ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "Dyestuff2, estimate zero": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    "sleepstudy": ("sleepstudy", "Reaction ~ Days + (Days | Subject)"),
    "sleepstudy, uncorrelated": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "Penicillin": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "Pastes": ("Pastes", "strength ~ 1 + (1 | batch/cask)"),
    "Machines, cs": ("Machines", "score ~ Machine + cs(0 + Machine | Worker)"),
}


def profiled_reml(design: Design, factors: list[np.ndarray]) -> float:
    V = np.eye(design.n)
    for term, T in zip(design.terms, factors, strict=True):
        same = design.groupings[term.group].codes[:, None] == design.groupings[term.group].codes
        V += same * (term.Z @ T @ T.T @ term.Z.T)
    inverse = np.linalg.inv(V)
    information = design.X.T @ inverse @ design.X
    residual = design.y - design.X @ np.linalg.solve(information, design.X.T @ inverse @ design.y)
    df = design.n - design.p
    log_dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return float(log_dets + df * np.log(residual @ inverse @ residual))


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
        criterion = profiled_reml(design, [T[0] for T in target.terms(x[None])[0]])
        differences.append(-2.0 * density - criterion)
    np.testing.assert_allclose(differences, differences[0], atol=2e-6)
