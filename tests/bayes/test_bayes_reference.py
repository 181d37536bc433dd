"""Posteriors of the BUGS examples and of posteriordb by quadrature of another program: published models on their data.

Other priors on Dyestuff, Dyestuff2 and sleepstudy, and evidences and densities at zero, are compared in
``test_collapsed.py``, ``test_presets.py`` and ``test_evidence.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from bayeslmm.bayes.collapsed import CollapsedDraws, sample_collapsed
from bayeslmm.bayes.priors import Flat, HalfCauchy, HalfNormal, InverseGammaVariance, Priors, SdPrior, Uniform
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.likelihood import NormalPrior, SummedDesign, cross_products, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import conditional_means
from bayeslmm.reml import optimise

HERE = Path(__file__).parent
REFERENCE: dict[str, Any] = json.loads((HERE / "bayes_reference.json").read_text())
# The grids of the references end where the density is 1e-13 of its top or so.
RELATIVE = 1e-5
# Its reference has the first moment of an sd with mass at zero by a trapezoidal rule, which is of second order there;
# Gauss-Legendre quadrature gives 0.25540179 where it has 0.25538661.
COARSE = {"posteriordb_radon_mn_variable_intercept_slope": 1e-4}


@dataclass(frozen=True)
class Case:
    """A model: data, formula, one prior for all sds, one for sigma, sd of the normal priors on the fixed effects."""

    data: str
    formula: str
    sd: SdPrior
    sigma: SdPrior
    beta_sd: float
    names: tuple[str, ...] = ("sd_b",)


GAMMA = InverseGammaVariance(1e-3, 1e-3)
LINES = "y ~ 1 + I(x - 22) + (1 | rat) + (0 + I(x - 22) | rat)"
TWO = ("sd_1", "sd_2")
CASES = {
    "bugs_dyes": Case("Dyestuff", "Yield ~ 1 + (1 | Batch)", GAMMA, GAMMA, 1e5),
    "bugs_equiv": Case("equiv", "y ~ 1 + I(phi_sign/2) + I(pi_sign/2) + (1 | subject)", GAMMA, GAMMA, 1e3),
    "bugs_rats": Case("rats", LINES, GAMMA, GAMMA, 1e3, TWO),
    "posteriordb_rats": Case("rats", LINES, Flat(), Flat(), 100.0, TWO),
    "posteriordb_pilots": Case(
        "pilots",
        "y ~ 1 + (1 | group) + (1 | scenario)",
        Uniform(100.0),
        Uniform(100.0),
        np.sqrt(200.0),
        ("sigma_a", "sigma_b"),
    ),
    "posteriordb_radon_mod_county": Case("radon_mod", "y ~ 1 + (1 | county)", Uniform(100.0), Uniform(100.0), 1.0),
}
RADON = {
    "hierarchical_intercept": ("log_radon ~ log_uppm + floor + (1 | county)", ("sd_b",)),
    "partially_pooled": ("log_radon ~ 1 + (1 | county)", ("sd_b",)),
    "variable_intercept": ("log_radon ~ floor + (1 | county)", ("sd_b",)),
    "variable_intercept_slope": ("log_radon ~ floor + (floor || county)", TWO),
    "variable_slope": ("log_radon ~ floor + (0 + floor | county)", ("sd_b",)),
}
for _name, (_formula, _sds) in RADON.items():
    CASES[f"posteriordb_radon_mn_{_name}"] = Case("radon_mn", _formula, HalfNormal(1.0), HalfNormal(1.0), 10.0, _sds)


def read(name: str) -> pd.DataFrame:
    path = next((HERE / "data").glob(f"{name}.csv*"), None)
    return load_dataset(name) if path is None else pd.read_csv(path)


@cache
def fitted(name: str) -> tuple[SummedDesign, Priors, Any]:
    case = CASES[name]
    cp = cross_products(build_design(case.formula, read(case.data)))
    sds = tuple((case.sd,) * len(term.effects) for term in cp.design.terms)
    beta = NormalPrior(np.zeros(cp.p), np.full(cp.p, case.beta_sd))
    return cp, Priors(sds, (1.0,) * len(sds), case.sigma, beta), optimise(cp).terms


def run(name: str, method: str, draws: int) -> CollapsedDraws:
    cp, priors, terms = fitted(name)
    rng = np.random.default_rng(1)
    return sample_collapsed(cp, priors, terms, draws=draws, method=method, rng=rng, keep=[False] * len(cp.blocks))


def expected(name: str) -> dict[str, tuple[float, float]]:
    """Mean and sd of every parameter by our names: sds in the order of the formula, sigma, coefficients."""
    values = REFERENCE[name]["values"]
    named = {"sigma_y": "sigma", "intercept 10(mu_a + mu_b)": "beta[1]"}
    named |= {label: f"sd {k}" for k, label in enumerate(CASES[name].names)}
    return {named.get(k, k): (v["mean"], v["sd"]) for k, v in values.items() if isinstance(v, dict)}


def test_every_reference_is_used() -> None:
    schools = {name for name in REFERENCE if name.startswith("eight_schools")}
    assert set(REFERENCE) - {"source"} == set(CASES) | schools and len(schools) == 3


@pytest.mark.parametrize("name", CASES)
def test_quadrature(name: str) -> None:
    result = run(name, "quadrature", 100)
    exact, reference = result.exact, expected(name)
    assert exact is not None
    evidence = REFERENCE[name]["values"].get("log_evidence")
    if evidence is not None:
        assert result.diagnostics.log_evidence == pytest.approx(evidence, abs=1e-4)
    got = {f"sd {k}": (m, s) for k, (m, s) in enumerate(zip(_flat(exact.sd_mean), _flat(exact.sd_sd), strict=True))}
    got["sigma"] = exact.sigma_mean, exact.sigma_sd
    got |= {f"beta[{k + 1}]": (m, s) for k, (m, s) in enumerate(zip(exact.beta_mean, exact.beta_sd, strict=True))}
    assert set(got) <= set(reference)
    relative = COARSE.get(name, RELATIVE)
    for parameter, (mean, sd) in got.items():
        want = reference[parameter]
        assert abs(mean - want[0]) < relative * (want[1] + abs(want[0])), (parameter, mean, want)
        assert sd == pytest.approx(want[1], rel=10 * relative), parameter


def _flat(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    return np.concatenate(parts)


@pytest.mark.parametrize("method", ["quadrature", "importance"])
@pytest.mark.parametrize("name", CASES)
def test_draws_within_monte_carlo_error(name: str, method: str) -> None:
    result, reference = run(name, method, 3000), expected(name)
    ess = 3000 * result.diagnostics.efficiency
    sds = np.concatenate(result.sds, axis=1)
    draws = {"sigma": result.sigma} | {f"sd {k}": sds[:, k] for k in range(sds.shape[1])}
    draws |= {f"beta[{k + 1}]": result.beta[:, k] for k in range(result.beta.shape[1])}
    if "icc" in reference:
        draws["icc"] = sds[:, 0] ** 2 / (sds[:, 0] ** 2 + result.sigma**2)
        draws["theta"] = sds[:, 0] / result.sigma
    for parameter, values in draws.items():
        mean, sd = reference[parameter]
        assert abs(values.mean() - mean) < 4 * sd / np.sqrt(ess), parameter


SCHOOLS: dict[str, tuple[SdPrior, NormalPrior | None]] = {
    "eight_schools_bda3_flat": (Flat(), None),
    "eight_schools_halfcauchy25": (HalfCauchy(25.0), None),
    "eight_schools_posteriordb": (HalfCauchy(5.0), NormalPrior(np.zeros(1), np.array([5.0]))),
}


def eight_schools() -> pd.DataFrame:
    y = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
    sd = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    return pd.DataFrame({"y": y, "school": list("ABCDEFGH"), "precision": 1.0 / sd**2})


@pytest.mark.parametrize("name", SCHOOLS)
def test_eight_schools(name: str) -> None:
    """Residual sds are known here: the joint density on the line sigma = 1, integrated over tau by SciPy."""
    prior, beta = SCHOOLS[name]
    cp = cross_products(build_design("y ~ 1 + (1 | school)", eight_schools(), weights="precision"))
    target, _ = make_target(cp, Priors(((prior,),), (1.0,), Flat(), beta), [np.array([[6.0]])])
    reference = REFERENCE[name]["values"]

    def density(x: float) -> float:
        return float(np.exp(_at_one(target, x) - reference["log_evidence"]))

    def tau(x: float) -> float:
        return float(target.terms(np.array([[x]]))[1][0][0, 0])

    def effects(x: float) -> np.ndarray:
        factors = par.block_factors(cp, target.terms(np.array([[x]]))[0])
        return conditional_means(cp, factors, evaluate(cp, factors)).b[0][0, :, 0]

    def integral(f: Any) -> float:
        parts = zip([0.0, 2.0, 8.0], [2.0, 8.0, 40.0], strict=True)
        return sum(quad(lambda x: f(x) * density(x), a, b, epsabs=1e-12, epsrel=1e-10)[0] for a, b in parts)

    assert integral(lambda x: 1.0) == pytest.approx(1.0, abs=1e-6)
    mean = integral(tau)
    assert mean == pytest.approx(reference["tau"]["mean"], rel=RELATIVE)
    if name != "eight_schools_bda3_flat":
        spread = np.sqrt(integral(lambda x: tau(x) ** 2) - mean**2)
        assert spread == pytest.approx(reference["tau"]["sd"], rel=RELATIVE)
    # under a flat prior on mu the school's effects are mu + b with conditional means on the same line
    if beta is None:
        school = integral(lambda x: effects(x)[0] + _mu(cp, target, x))
        assert school == pytest.approx(reference["theta[1]"]["mean"], rel=RELATIVE)
        assert integral(lambda x: _mu(cp, target, x)) == pytest.approx(reference["mu"]["mean"], rel=RELATIVE)


def _at_one(target: Target, x: float) -> float:
    point = np.array([[x]])
    factors, sds, jacobian = target.terms(point)
    return float(target.log_joint(target.factor(point, factors), sds, jacobian, np.zeros((1, 1)))[0, 0])


def _mu(cp: SummedDesign, target: Target, x: float) -> float:
    factors = par.block_factors(cp, target.terms(np.array([[x]]))[0])
    return float(conditional_means(cp, factors, evaluate(cp, factors)).beta[0, 0])
