"""A search for fits that say they converged and did not: hostile designs against many starts; for ``make calibrate``.

The criterion is checked with 60 digits at the estimate and at the lowest point that was found otherwise.
"""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import cross_products
from bayeslmm.likelihood import parameters as par
from bayeslmm.numerics.newton import minimise_scaled
from bayeslmm.reml.criterion import Criterion
from bayeslmm.reml.elsewhere import values_at
from bayeslmm.reml.fixed import hold
from bayeslmm.reml.multistart import starts
from bayeslmm.reml.precise import Precise

from ..reml.exact import exact_criterion
from ..reml.hostile import draw

pytestmark = pytest.mark.calibration

# -2 log likelihood.
GAP = 1e-6
SEEDS, STARTS = {"ordinary": 200, "unequal": 200, "extreme": 100}, 16
LARGEST = {"ordinary": 30.0, "unequal": 1e3, "extreme": 1e13}


def lowest(model: bl.Model, kind: str, seed: int, reml: bool) -> tuple[float, np.ndarray]:
    """The lowest minimum from random starts, by the evaluation with all digits: criterion and theta."""
    cp = cross_products(model.design)
    criterion = Criterion(cp, reml, hold(cp, None))
    precise = Precise(criterion)
    points = starts(cp, 400 if kind != "extreme" else STARTS, LARGEST[kind])
    # Where to start may be known to few digits.
    values = values_at(criterion, points) if kind != "extreme" else np.array([precise(x).value for x in points])
    order = np.argsort(values)
    chosen = [*order[: STARTS // 2], *np.random.default_rng(seed).permutation(order)[: STARTS // 2]]
    found = [minimise_scaled(precise, points[k], 80) for k in chosen if np.isfinite(values[k])]
    finite = [one for one in found if np.isfinite(one.value)]
    if not finite:
        return np.inf, np.zeros(0)
    best = min(finite, key=lambda one: one.value)
    terms = par.term_factors(cp, par.internal_factors(cp, best.x))
    return best.value, par.theta_from_terms(cp, terms)[0]


@pytest.mark.parametrize("kind", list(SEEDS))
def test_none_says_converged_above_the_lowest_minimum(kind: str) -> None:
    wrong = []
    for seed in range(SEEDS[kind]):
        formula, data, arguments, reml = draw(seed, kind)
        try:
            model = bl.Model(formula, data, **arguments)
        except bl.BayesLMMError:
            continue
        fit = model.fit(reml, on_failure="ignore")
        if not fit.status.ok:
            continue
        value, theta = lowest(model, kind, seed, reml)
        if value >= fit.criterion - GAP:
            continue

        def exact(theta: np.ndarray, fit: bl.REMLResult = fit, reml: bool = reml) -> float:
            return float(exact_criterion(fit.design, [T[0] for T in par.terms_from_theta(fit.cp, theta)], reml))

        if exact(fit.theta) > exact(theta) + GAP:
            wrong.append((seed, formula, fit.criterion - value))
    assert wrong == []
