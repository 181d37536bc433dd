"""The posterior mode: optima found by others, the penalty, and REML where priors are flat."""

from __future__ import annotations

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.mode import find_mode

BATCH = "Yield ~ 1 + (1 | Batch)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
CAKE = "angle ~ recipe + I(temp - 200) + (I(temp - 200) | recipe:replicate)"
REL = bl.Relative

# Minima of the objectives that blme 1.0-5 documents, found by a general optimiser in R: priors, theta, objective.
# |T|^p is the density prod t^p det(R)^(p / 2) of the relative sds and the correlation matrix.
FOUND = [
    ("Dyestuff", BATCH, {"sd": REL(bl.Power(1.5))}, [1.14336853027344], 319.704779945635),
    ("Dyestuff", BATCH, {"sd": REL(bl.Gamma(2, 0))}, [1.03239288330078], 319.787277954713),
    ("Dyestuff2", BATCH, {"sd": REL(bl.Gamma(2.5, 0))}, [0.410557861328125], 166.140707112547),
    ("Dyestuff2", BATCH, {"sd": REL(bl.Gamma(2, 0))}, [0.321407958984375], 165.133508148632),
    (
        "sleepstudy",
        SLEEP,
        {"sd_Subject": REL(bl.Power(1.5)), "lkj_Subject": 1.75},
        [1.06916348706702, 0.00165374940156177, 0.251846507662062],
        1747.84242045294,
    ),
    (
        "cake",
        CAKE,
        {"sd_recipe:replicate": REL(bl.Power(1.5)), "lkj_recipe:replicate": 1.75},
        [1.49089334590171, 0.00615437422543125, 0.0110616308341434],
        1704.76118777359,
    ),
]


@pytest.mark.parametrize(("name", "formula", "priors", "theta", "objective"), FOUND)
def test_optima_found_by_others(name, formula, priors, theta, objective):
    fit = bl.Model(formula, bl.load_dataset(name)).fit(priors={"preset": "flat"} | priors)
    np.testing.assert_allclose(fit.theta, theta, atol=1e-6)
    assert fit.optimum.objective == pytest.approx(objective, abs=1e-8)
    assert fit.status.ok


# What blme 1.0-5 prints; control: bobyqa, rhobeg 0.2, rhoend 1e-10. Call, our priors, REML, theta, sigma, beta, se.
BLME = [
    # cov.prior = gamma(shape = 2, rate = 0.5, posterior.scale = "sd")
    ("Dyestuff2", BATCH, {"sd": REL(bl.Gamma(2, 0.5))}, True, [0.294160380], 3.656809395, [5.6656], [0.79912]),
    # cov.prior = gamma(shape = 2, rate = 0.5, posterior.scale = "sd", common.scale = FALSE)
    ("Dyestuff2", BATCH, {"sd": bl.Gamma(2, 0.5)}, True, [0.234333366], 3.710123195, [5.6656], [0.76472969]),
    # cov.prior = invgamma(shape = 1, scale = 2, posterior.scale = "var", common.scale = FALSE): on the variance
    (
        "Dyestuff2",
        BATCH,
        {"sd": bl.InverseGammaVariance(1.5, 2)},
        True,
        [0.250164899],
        3.710609122,
        [5.6656],
        [0.7762515],
    ),
    # cov.prior = gamma(shape = 2, rate = 0, posterior.scale = "sd"), resid.prior = gamma(3, 2, posterior.scale = "sd")
    (
        "Dyestuff2",
        BATCH,
        {"sd": REL(bl.Gamma(2, 0)), "sigma": bl.Gamma(3, 2)},
        True,
        [0.343080524],
        3.377022524,
        [5.6656],
        [0.77708735],
    ),
    # the same with resid.prior = invgamma(shape = 3, scale = 20, posterior.scale = "var")
    (
        "Dyestuff2",
        BATCH,
        {"sd": REL(bl.Gamma(2, 0)), "sigma": bl.InverseGammaVariance(3.5, 20)},
        True,
        [0.341973496],
        3.389185500,
        [5.6656],
        [0.77895481],
    ),
    # cov.prior = NULL, fixef.prior = normal(sd = c(10, 2.5), common.scale = FALSE)
    (
        "sleepstudy",
        SLEEP,
        {"beta[Intercept]": bl.Normal(0, 10), "beta[Days]": bl.Normal(0, 2.5)},
        True,
        [9.607067652, 0.386624200, 0.229613182],
        25.591816287,
        [6.89074496, 0.57451249],
        [9.77098475, 1.37120323],
    ),
    # the same with REML = FALSE
    (
        "sleepstudy",
        SLEEP,
        {"beta[Intercept]": bl.Normal(0, 10), "beta[Days]": bl.Normal(0, 2.5)},
        False,
        [9.599320670, 0.386028540, 0.223479761],
        25.591814610,
        [6.89486443, 0.58671994],
        [9.76992660, 1.35277773],
    ),
]


@pytest.mark.filterwarnings("ignore::bayeslmm.errors.PriorWarning")
@pytest.mark.parametrize(("name", "formula", "priors", "reml", "theta", "sigma", "beta", "errors"), BLME)
def test_what_blme_prints(name, formula, priors, reml, theta, sigma, beta, errors):
    fit = bl.Model(formula, bl.load_dataset(name)).fit(reml, priors={"preset": "flat"} | priors)
    # Its optimiser has about six digits.
    np.testing.assert_allclose(fit.theta, theta, rtol=2e-6, atol=2e-6)
    assert fit.sigma == pytest.approx(sigma, rel=1e-6)
    np.testing.assert_allclose(fit.fixef(), beta, rtol=5e-6)
    np.testing.assert_allclose(fit.std_error(), errors, rtol=1e-6)


SAME = {
    "Dyestuff": ("Dyestuff", BATCH),
    "zero": ("Dyestuff2", BATCH),
    "correlated": ("sleepstudy", SLEEP),
    "uncorrelated": ("sleepstudy", "Reaction ~ Days + (Days || Subject)"),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
    "cs": ("Machines", "score ~ Machine + cs(0 + Machine | Worker)"),
    "three effects": ("Machines", "score ~ Machine + (0 + Machine | Worker)"),
    "ar1": ("Orthodont", "distance ~ age + ar1(0 + factor(age) | Subject)"),
}


FLAT = {"sd": "flat", "sigma": "flat"}


@pytest.mark.parametrize(
    ("name", "reml", "priors"),
    [
        *((name, True, "flat") for name in SAME),
        *((name, True, FLAT) for name in ("zero", "correlated", "cs")),
        ("zero", False, "flat"),
        ("correlated", False, FLAT),
    ],
)
def test_flat_priors_give_the_fit_without(name, reml, priors):
    data, formula = SAME[name]
    model = bl.Model(formula, bl.load_dataset(data))
    plain, cp = model.fit(reml, on_failure="ignore"), model.cross_products
    # The search is not told the answer: it starts from a penalised fit.
    base = model.fit(reml, penalty=1.5).optimum
    mode = find_mode(cp, resolve_priors(model.design, priors), reml, base=base)
    for T, own in zip(mode.terms, plain.optimum.terms, strict=True):
        np.testing.assert_allclose(T @ T.T, own @ own.T, rtol=2e-5, atol=2e-6)
    assert mode.sigma == pytest.approx(plain.sigma, rel=1e-6)
    assert mode.criterion == pytest.approx(plain.criterion, abs=1e-8)
    if priors == "flat":
        assert mode.objective == mode.criterion
        fit = model.fit(reml, priors=priors, on_failure="ignore")
        np.testing.assert_allclose(fit.coefficients(), plain.coefficients(), rtol=1e-4)


@pytest.mark.parametrize(("shape", "lkj"), [(2.0, 1.5), (2.5, 1.75)])
@pytest.mark.parametrize("name", ["zero", "uncorrelated", "crossed", "correlated"])
def test_the_penalty_is_the_gamma_prior(name, shape, lkj):
    data, formula = SAME[name]
    model = bl.Model(formula, bl.load_dataset(data))
    penalised = model.fit(penalty=shape)
    prior = {"preset": "flat", "sd": REL(bl.Gamma(shape, 0))}
    if name == "correlated":
        prior |= {"lkj": lkj}
        prior["sd"] = REL(bl.Power(shape - 1.0))
    fit = model.fit(priors=prior)
    np.testing.assert_allclose(fit.theta, penalised.theta, rtol=1e-6, atol=1e-7)
    assert fit.criterion == pytest.approx(penalised.criterion, abs=1e-7)
    assert fit.optimum.objective == pytest.approx(penalised.optimum.objective, abs=1e-8)
