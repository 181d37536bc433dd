"""A point whose elimination fails by rounding has no density, and the others keep theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.target import make_target
from bayeslmm.likelihood import cross_products
from bayeslmm.reml import optimise


@pytest.mark.parametrize("coefficient", [None, bl.Normal(0.0, 100.0)])
def test_only_the_point_itself_is_lost(coefficient: bl.Normal | None) -> None:
    design = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).design
    priors = default_priors(design)
    if coefficient is not None:
        priors = (
            bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
            .sample(30, priors={"beta": coefficient}, random_seed=1)
            .priors
        )
    cp = cross_products(design)
    target, start = make_target(cp, priors, optimise(cp).terms)
    x = start + np.linspace(-1.0, 1.0, 4)[:, None]
    factor = target.factor(x, target.terms(x)[0])
    r2 = factor.r2.copy()
    r2[2] = np.nan
    whole, damaged = target.evaluate_with(x, factor), target.evaluate_with(x, replace(factor, r2=r2))
    assert np.isfinite(whole.log_density).all()
    assert damaged.log_density[2] == -np.inf
    others = [0, 1, 3]
    np.testing.assert_array_equal(damaged.log_density[others], whole.log_density[others])
