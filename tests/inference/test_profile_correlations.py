"""Profiles of correlations up to both ends of their range: against dense criteria with the correlation held there."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayeslmm as bl


def dense_profile(fit, pair, value):
    """Criterion of one vector term, with one correlation held, minimised over the rest from several starts.

    The correlation of the pair is the first partial one, the others come after it; groups are of one size.
    """
    design = fit.design
    codes = design.groupings[design.terms[0].group].codes
    order = [*pair, *(i for i in range(design.terms[0].Z.shape[1]) if i not in pair)]
    rows = np.argsort(codes, kind="stable").reshape(codes.max() + 1, -1)
    Z, M = design.terms[0].Z[:, order][rows], np.concatenate([design.X[rows], design.y[rows, None]], axis=2)
    n, p, c = design.n, design.X.shape[1], len(order)
    nu = n - p if fit.reml else n

    def criterion(x):
        # Sigma has its closed form; standard deviations are in its units.
        sds, L = x[:c] ** 2, np.eye(c)
        L[1, :2] = value, np.sqrt(1.0 - value**2)
        if c == 3:
            a, b = np.tanh(x[c:])
            L[2] = a, b * np.sqrt(1.0 - a**2), np.sqrt((1.0 - a**2) * (1.0 - b**2))
        half = Z @ (sds[:, None] * L)
        C = np.linalg.cholesky(half @ half.mT + np.eye(Z.shape[1]))
        R = np.abs(np.diag(np.linalg.qr(np.linalg.solve(C, M).reshape(n, p + 1), mode="r")))
        logs = 2.0 * np.log(np.diagonal(C, axis1=1, axis2=2)).sum()
        logs += 2.0 * np.log(R[:p]).sum() if fit.reml else 0.0
        return nu * (1.0 + np.log(2.0 * np.pi * R[p] ** 2 / nu)) + logs

    sd = fit.estimates().iloc[:c].to_numpy()[order] / fit.sigma
    best = np.inf
    for shrink in ([1.0, 1.0, 1.0], [0.1, 1.0, 1.0], [1.0, 0.1, 1.0]):
        begin = np.append(np.sqrt(np.maximum(sd, 0.1) * shrink[:c]), [0.1] * (2 if c == 3 else 0))
        for _ in range(2 if c == 2 else 3):
            found = minimize(criterion, begin, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10})
            begin, best = found.x, min(best, float(found.fun))
    return best


def small(seed, effects, groups=6, rows=4):
    """Responses of few groups with correlated effects of normal covariates."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    data = pd.DataFrame({name: rng.normal(size=g.size) for name in "xz"[: effects - 1]}).assign(g=g)
    Z = np.column_stack([np.ones(g.size), data.drop(columns="g")])
    U = rng.normal(size=(groups, effects)) @ rng.normal(size=(effects, effects))
    return data.assign(y=(Z * U[g]).sum(1) + rng.normal(size=g.size))


@pytest.mark.parametrize("reml", [True, False])
def test_both_ends_of_the_range_of_a_correlation(reml):
    fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit(reml=reml)
    found = fit.profile("corr_Subject[Intercept.Days]", [-1.0, 1.0])["criterion"]
    assert found.to_numpy() == pytest.approx([dense_profile(fit, (0, 1), v) for v in (-1.0, 1.0)], abs=1e-7)
    assert found[0] - found[1] > 10


@pytest.mark.parametrize("seed", [1, 4])
def test_values_between_and_at_the_ends_with_few_groups(seed):
    # With a correlation far from the estimate an effect without variance is often the lowest.
    fit = bl.Model("y ~ 1 + (x | g)", small(seed, 2)).fit()
    values = [-1.0, 0.95]
    found = fit.profile("corr_g[Intercept.x]", values)["criterion"].to_numpy()
    assert found == pytest.approx([dense_profile(fit, (0, 1), v) for v in values], abs=1e-7)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_correlation_of_three_effects(value):
    fit = bl.Model("y ~ 1 + (x + z | g)", small(3, 3, groups=7, rows=6)).fit(reml=False)
    found = float(fit.profile("corr_g[x.z]", [value])["criterion"].iloc[0])
    # The search without derivatives can end a little above.
    assert -1e-3 < found - dense_profile(fit, (1, 2), value) < 1e-6


@pytest.mark.parametrize("seed", [1, 15, 24])
def test_a_covariate_of_the_other_sign_has_the_other_profile(seed):
    data, values = small(seed, 2), np.array([-1.0, -0.8, 0.0, 0.8, 1.0])
    one, other = (bl.Model("y ~ 1 + (x | g)", data.assign(x=sign * data.x)).fit() for sign in (1.0, -1.0))
    label = "corr_g[Intercept.x]"
    turned = other.profile(label, -values)["criterion"].to_numpy()
    assert one.profile(label, values)["criterion"].to_numpy() == pytest.approx(turned, abs=1e-7)
    low, high = one.confint(parameters=label).loc[label]
    assert other.confint(parameters=label).loc[label].tolist() == pytest.approx([-high, -low], abs=1e-7)
    # No correlation is worse than a model without one of its effects, which has every correlation.
    without = min(float(one.profile(f"sd_g[{name}]", [0.0])["criterion"].iloc[0]) for name in ("Intercept", "x"))
    assert (one.profile(label)["criterion"] <= without + 1e-8).all()
    if without - one.criterion < 3.84:
        assert (low, high) == (-1.0, 1.0)
    for end in (low, high):
        rise = float(one.profile(label, [end])["criterion"].iloc[0]) - one.criterion
        assert rise <= 3.8414588207 and (rise > 3.84145881 or abs(end) == 1.0)


@pytest.mark.parametrize("structure", ["cs", "ar1"])
def test_no_shared_correlation_is_worse_than_no_effects(structure):
    rng = np.random.default_rng(2)
    data = pd.DataFrame({"g": np.repeat(np.arange(8), 8), "t": np.tile(np.repeat(list("pqrs"), 2), 8)})
    data["y"] = 0.3 * rng.normal(size=(8, 4))[data.g, data.t.factorize()[0]] + rng.normal(size=64)
    fit = bl.Model(f"y ~ 1 + {structure}(0 + t | g)", data).fit()
    label = next(name for name in fit.estimates().index if name.startswith("corr_"))
    least = -1.0 if structure == "ar1" else -1.0 / 3.0
    nothing = fit.profile(next(name for name in fit.estimates().index if name.startswith("sd_")), [0.0])
    found = fit.profile(label, [least, 0.5 * least, 0.5, 1.0])["criterion"]
    assert (found <= float(nothing["criterion"].iloc[0]) + 1e-8).all()
