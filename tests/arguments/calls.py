"""Every public callable of the package with arguments, found by `inspect`, and a quick valid call of each.

What is new enters by itself: a method or function with an argument that has no default and stands in no table here is
named by `without_call`, and so is a public class without an object in `OBJECTS`.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import bayeslmm as bl

FOLDER = tempfile.mkdtemp(prefix="arguments_")


@cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(6), 5)
    x = np.tile(np.arange(5.0), 6)
    y = 10 + x + rng.normal(size=6)[g] * 2 + rng.normal(size=6)[g] * x + rng.normal(size=30)
    f = np.tile(list("abcab"), 6)
    return pd.DataFrame({"y": y, "x": x, "f": f, "g": [f"g{i}" for i in g]})


@cache
def cells() -> pd.DataFrame:
    return data().assign(n=3, mean=data()["y"], ss=1.0).drop(columns="y")


_STRUCTURES = {
    "AR1",
    "CompoundSymmetry",
    "Diagonal",
    "HeterogeneousAR1",
    "HeterogeneousCompoundSymmetry",
    "Identity",
    "Toeplitz",
    "Unstructured",
}


@cache
def model() -> bl.Model:
    return bl.Model("y ~ x + (1 | g)", data())


@cache
def slopes() -> bl.Model:
    return bl.Model("y ~ x + (x || g)", data())


@cache
def fit() -> bl.REMLResult:
    return model().fit()


@cache
def posterior() -> bl.Posterior:
    return model().sample(draws=60, chains=2, random_seed=1, progressbar=False, log_likelihood=True)


@cache
def comparison() -> bl.Comparison:
    return bl.compare(fit(), posterior())


@cache
def factor_fit() -> bl.REMLResult:
    return bl.Model("log(y) ~ f * x + (1 | g)", data()).fit()


@cache
def factor_posterior() -> bl.Posterior:
    return bl.Model("log(y) ~ f * x + (1 | g)", data()).sample(draws=60, chains=2, random_seed=1, progressbar=False)


def rivals() -> bl.ModelComparison:
    return bl.compare(posterior(), posterior(), names=["a", "b"])


@cache
def calibration() -> bl.Calibration:
    return bl.calibrate(model(), n=2, draws=31, random_seed=1, progressbar=False)


@cache
def study() -> bl.CoverageStudy:
    return bl.coverage_atlas()


@cache
def own_coverage() -> bl.Coverage:
    return bl.coverage(model(), replicates=3, progressbar=False)


@cache
def known_fit() -> bl.REMLResult:
    return bl.Model("y ~ 1 + (1 | g)", data(), residual_sd=np.ones(len(data()))).fit()


@cache
def stored() -> str:
    path = os.path.join(FOLDER, "stored.npz")
    if not os.path.exists(path):
        fit().save(path)
    return path


# Objects whose methods are public, by what makes one.
OBJECTS: dict[str, Callable[[], Any]] = {
    "Model": model,
    "REMLResult": fit,
    "Plan": lambda: bl.Plan("y ~ x + (1 | g)", data()),
    "PowerStudy": lambda: bl.power(model(), n=2, progressbar=False),
    "ManyFits": lambda: bl.fit_many("~ x + (1 | g)", data(), ["y"], progressbar=False),
    "Posterior": posterior,
    "Comparison": comparison,
    "ModelComparison": rivals,
    "Calibration": calibration,
    "CoverageStudy": study,
    "Coverage": own_coverage,
    "Cell": lambda: bl.Cell(),
    "Explorer": lambda: bl.explore(),
    "Design": lambda: model().design,
    "ZeroTest": lambda: fit().test_zero("(1 | g)"),
    "ZeroTests": lambda: bl.ranova(slopes().fit(), refits=0),
    "Bootstrap": lambda: _bootstrap(),
    "Refits": lambda: fit().refit_many(np.column_stack([fit().design.y] * 2)),
    "MixedModelEquations": lambda: fit().mme(),
    "Matrices": lambda: fit().matrices,
    "ErrorContrasts": lambda: bl.error_contrasts(model()),
    "LmList": lambda: bl.lm_list("y ~ x | g", data()),
    "BoundaryReport": lambda: fit().boundary("none"),
    "MarginalMeans": lambda: factor_fit().means("f", type="response"),
    "PosteriorMeans": lambda: factor_posterior().means("f", type="response"),
    "ComparedMeans": lambda: bl.compare(factor_fit(), factor_posterior()).means("f"),
    "Summary": lambda: fit().summary(),
    "Explanation": lambda: fit().explain(),
    "LintReport": lambda: bl.lint("y ~ x + (1 | g)"),
    "Formula": lambda: bl.parse_formula("y ~ x + (1 | g)"),
    "DroppedRows": lambda: model().dropped,
    "BayesFactor": lambda: posterior().bayes_factor("sd_g[Intercept]"),
    "HalfT": lambda: bl.HalfT(3, 1.0),
    "HalfNormal": lambda: bl.HalfNormal(1.0),
    "Exponential": lambda: bl.Exponential(1.0),
    "Gamma": lambda: bl.Gamma(2.0, 1.0),
    "Uniform": lambda: bl.Uniform(1.0),
    "Flat": lambda: bl.Flat(),
    "Power": lambda: bl.Power(-0.5),
    "InverseGammaVariance": lambda: bl.InverseGammaVariance(2.0, 1.0),
    "Chi": lambda: bl.Chi(2.0, 1.0),
    "Relative": lambda: bl.Relative(bl.HalfNormal(1.0)),
    "Normal": lambda: bl.Normal(0.0, 1.0),
    "StudentT": lambda: bl.StudentT(3.0, 0.0, 1.0),
    "NormalPrior": lambda: bl.NormalPrior(np.zeros(2), np.ones(2)),
    "Wishart": lambda: bl.Wishart(3.0, 1.0),
    "Decov": lambda: bl.Decov(),
    "FlatFactor": lambda: bl.FlatFactor(),
    "Priors": lambda: posterior().priors,
    "Treatment": lambda: bl.Treatment("a"),
    "AR1": lambda: bl.AR1(),
    "CompoundSymmetry": lambda: bl.CompoundSymmetry(),
    "HeterogeneousAR1": lambda: bl.HeterogeneousAR1(),
    "HeterogeneousCompoundSymmetry": lambda: bl.HeterogeneousCompoundSymmetry(),
    "Toeplitz": lambda: bl.Toeplitz(),
    "Identity": lambda: bl.Identity(),
    "Diagonal": lambda: bl.Diagonal(),
    "Unstructured": lambda: bl.Unstructured(),
}


def _bootstrap() -> Any:
    return fit().bootstrap(n=5, random_seed=1)


def _new_page() -> str:
    return os.path.join(FOLDER, f"new_{next(_NUMBERS)}.html")


def _new_path() -> str:
    return os.path.join(FOLDER, f"new_{next(_NUMBERS)}.npz")


_NUMBERS = iter(range(10**9))


def _prior_in_use(prior: Any) -> None:
    """A prior that its constructor accepts must be of use, or be refused, where it is used."""
    spec = {"sd": prior}
    slopes().priors(spec)
    posterior = model().sample(draws=40, chains=1, priors=spec, random_seed=1, progressbar=False)
    posterior.prior_table, posterior.summary()


def _term_prior_in_use(prior: Any) -> None:
    spec = {"(1 | g)": prior}
    model().priors(spec)
    model().sample(draws=40, chains=1, priors=spec, random_seed=1, progressbar=False)


def _coefficient_prior_in_use(prior: Any) -> None:
    model().sample(draws=40, chains=1, priors={"x": prior}, random_seed=1, progressbar=False)


def _heavy_prior_in_use(prior: Any) -> None:
    # Sampled it would be by PyMC, which takes its time.
    model().priors({"beta[x]": prior})


def _contrast_in_use(contrast: Any) -> None:
    bl.Model("y ~ f + (1 | g)", data(), contrasts={"f": contrast})


def _structure_in_use(structure: Any) -> None:
    bl.Model("y ~ f + (0 + f | g)", data(), cov={"g": structure})


def _cell_in_use(cell: Any) -> None:
    if cell.groups * cell.size < 1000:
        bl.coverage_study([cell], replicates=4, progressbar=False)


# What is done with what a call returns.
USES: dict[str, Callable[[Any], None]] = {
    **dict.fromkeys(
        (
            "HalfT",
            "HalfNormal",
            "HalfCauchy",
            "Exponential",
            "Exponential.pc",
            "Gamma",
            "Uniform",
            "Power",
            "InverseGammaVariance",
            "Chi",
            "Relative",
        ),
        _prior_in_use,
    ),
    "Wishart": _term_prior_in_use,
    "Decov": _term_prior_in_use,
    "Normal": _coefficient_prior_in_use,
    **dict.fromkeys(("StudentT", "Cauchy"), _heavy_prior_in_use),
    "Treatment": _contrast_in_use,
    **dict.fromkeys(tuple(sorted(_STRUCTURES)), _structure_in_use),
    "Cell": _cell_in_use,
}

_SAMPLE = {"draws": 40, "chains": 2, "random_seed": 1, "progressbar": False}
_STUDY = {"replicates": 4, "progressbar": False}


def _cells() -> list[Any]:
    return [bl.Cell(groups=3, size=2)]


# Valid arguments, one or several sets, so that every argument has an effect in one of them; a callable is called for
# each value.
CALLS: dict[str, list[dict[str, Any]]] = {
    "Model": [
        {"formula": "y ~ x + (1 | g)", "data": data},
        {"formula": "y ~ x + (1 | g)", "data": data, "residual_sd": lambda: np.ones(len(data()))},
    ],
    "Model.from_sums": [{"formula": "y ~ x + (1 | g)", "cells": cells}],
    "cell_sums": [{"formula": "y ~ x + (1 | g)", "data": data}],
    "Model.fit": [{}, {"sigma": 1.0}],
    "Model.simulate": [{}, {"newdata": data}, {"n_groups": 8, "replicates": 3}],
    "Plan": [{"formula": "y ~ x + (1 | g)", "data": data, "residual": "cs(g)"}],
    "Plan.simulate": [{"beta": [0.0, 1.0], "sd": 1.0, "sigma": 1.0}],
    "REMLResult.simulate": [{}, {"newdata": data}, {"random": "all"}],
    "Model.sample": [_SAMPLE, {**_SAMPLE, "method": "importance"}],
    "Model.save": [{"path": _new_path}],
    "Model.to": [{"package": "lme4"}, {"package": "statsmodels"}, {"package": "sas"}],
    "Model.prior_predictive": [{"draws": 5}],
    "Model.matrices": [{}],
    "Model.criterion_at": [{"theta": lambda: fit().theta}],
    "Model.with_response": [{"y": lambda: fit().design.y}],
    "REMLResult.criterion_at": [{"theta": lambda: fit().theta}],
    "REMLResult.save": [{"path": _new_path}],
    "REMLResult.bootstrap": [{"n": 3, "random_seed": 1}, {"n": 3, "statistic": "icc", "method": "semiparametric"}],
    "REMLResult.boundary": [{"posterior": "none", "random_seed": 1, "progressbar": False}],
    "REMLResult.confint": [{"method": "wald"}, {"method": "bootstrap", "n": 5, "random_seed": 1}, {}],
    "REMLResult.profile": [{"label": "sd_g[Intercept]"}],
    "REMLResult.means": [{}, {"of": "x", "at": {"x": [1.0, 2.0]}}],
    "REMLResult.trends": [{"variable": "x"}],
    "REMLResult.estimable": [{"L": {"x": 1.0}}],
    "REMLResult.joint_tests": [{}],
    "Posterior.means": [{}, {"of": "x", "at": {"x": [1.0, 2.0]}}],
    "Posterior.trends": [{"variable": "x"}],
    "Posterior.estimable": [{"L": {"x": 1.0}}],
    "Comparison.estimable": [{"L": {"x": 1.0}}],
    "Comparison.means": [{}],
    "Comparison.trends": [{"variable": "x"}],
    "MarginalMeans.contrast": [{"method": "dunnett"}],
    "PosteriorMeans.contrast": [{"method": "dunnett"}],
    "ComparedMeans.contrast": [{"method": "dunnett"}],
    "REMLResult.refit": [{"y": lambda: fit().design.y}],
    "REMLResult.refit_many": [{"Y": lambda: fit().design.y[:, None]}],
    "REMLResult.test_fixed": [{"L": "x"}],
    "REMLResult.test_zero": [{"what": "(1 | g)", "draws": 100, "refits": 0, "random_seed": 1}],
    "REMLResult.predict": [{}, {"newdata": data, "kind": "observation"}],
    "Posterior.predict": [{}, {"newdata": data, "kind": "observation"}],
    "Posterior.predict_draws": [{}, {"newdata": data, "kind": "observation"}],
    "Posterior.bayes_factor": [{"label": "sd_g[Intercept]"}],
    "Posterior.draws": [{"label": "sigma"}],
    "Posterior.probability_below": [{"label": "sigma", "delta": 1.0}],
    "Posterior.save": [{"path": _new_path}],
    "Posterior.prior_sweep": [{"scales": (1.0, 2.0)}],
    "Comparison": [{"reml": fit, "ml": lambda: model().fit(reml=False), "posterior": posterior}],
    "Comparison.bootstrap": [{"n": 3}],
    "Comparison.datatrees": [{"n": 3}],
    "Comparison.to_datatree": [{"n": 3}],
    "Comparison.on_scale": [{"scale": "sd"}],
    "Calibration.simulate": [{"number": 0}],
    "Cell.rng": [{"seed": 1, "chunk": 0}],
    "Cell.simulate": [{"replicates": 2, "rng": lambda: np.random.default_rng(1)}],
    "CoverageStudy.to_csv": [{"path": _new_path}],
    "ErrorContrasts.criterion": [{"theta": [1.0], "sigma": 1.0}],
    "Matrices.to_frame": [{"name": "X"}],
    "HalfT": [{"df": 3.0, "scale": 1.0}],
    "HalfNormal": [{"scale": 1.0}],
    "HalfCauchy": [{"scale": 1.0}],
    "Exponential": [{"mean": 1.0}],
    "Exponential.pc": [{"upper": 1.0}],
    "Gamma": [{"shape": 2.0, "rate": 1.0}],
    "Uniform": [{"upper": 9.0}],
    "Power": [{"exponent": 0.0}],
    "InverseGammaVariance": [{"shape": 2.0, "rate": 1.0}],
    "Chi": [{"df": 2.0, "scale": 1.0}],
    "Relative": [{"prior": lambda: bl.HalfNormal(1.0)}],
    "Normal": [{"mean": 0.0, "sd": 1.0}],
    "StudentT": [{"df": 3.0, "location": 0.0, "scale": 1.0}],
    "Cauchy": [{"location": 0.0, "scale": 1.0}],
    "NormalPrior": [{"mean": [0.0, 0.0], "sd": [1.0, 1.0]}],
    "Wishart": [{"df": 3.0, "scale": 1.0}],
    "Priors": [
        {
            "sds": lambda: posterior().priors.sds,
            "lkj": lambda: posterior().priors.lkj,
            "sigma": lambda: posterior().priors.sigma,
        }
    ],
    "calibrate": [{"model": model, "n": 2, "draws": 31, "random_seed": 1, "progressbar": False}],
    "compare": [
        {"reml": fit, "posterior": posterior},
        {"reml": posterior, "posterior": posterior, "names": ["a", "b"]},
        {"reml": model, "posterior": posterior, "draws": 100},
    ],
    "coverage": [{"model": model, "replicates": 3, "progressbar": False}],
    "coverage_study": [{"cells": _cells, **_STUDY}],
    "error_contrasts": [{"model": model}],
    "fit_many": [
        {"formulas": "~ x + (1 | g)", "data": data, "responses": ["y"], "progressbar": False},
        {"formulas": {"a": "y ~ x + (1 | g)"}, "data": data, "posterior": 30, "progressbar": False},
    ],
    "lint": [{"formula": "y ~ x + (1 | g)", "data": data, "residual": "by(g)"}],
    "LmList.predict": [{"newdata": data}],
    "lm_list": [{"formula": "y ~ x | g", "data": data}],
    "LintReport.about": [{"package": "lme4"}],
    "load": [{"path": stored}],
    "load_dataset": [{"name": "Dyestuff"}],
    "parse_formula": [{"text": "y ~ x + (1 | g)"}],
    "plot_acf": [{"fit": fit}],
    "plot_boundary": [{"both": comparison, "parameter": "sd_g[Intercept]"}],
    "plot_coverage": [{"study": study}],
    "plot_forest": [{"both": known_fit}],
    "plot_groups": [{"both": comparison, "x": "x", "group": "g"}],
    "plot_influence": [{"of": fit}],
    "plot_interaction": [
        {"of": fit, "x": "x"},
        {"of": data, "x": "g", "by": "x", "y": "y"},
    ],
    "plot_means": [{"means": lambda: fit().means()}],
    "plot_models": [{"models": rivals, "parameters": "sigma"}],
    "plot_plane": [{"both": lambda: slopes().fit()}],
    "plot_prior_sweep": [{"sweep": lambda: posterior().prior_sweep()}],
    "plot_profile": [{"fit": fit, "parameters": ["sigma"]}],
    "plot_ranef": [{"both": comparison}],
    "plot_semivariogram": [{"fit": fit}],
    "plot_shrinkage": [{"both": comparison}],
    "plot_variance": [{"both": comparison}],
    "power": [
        {
            "study": lambda: bl.Model("y ~ x", data(), residual="cs(g)"),
            "n": 1,
            "residual": {"rho": 0.5},
            "progressbar": False,
        },
        {"study": model, "n": 2, "progressbar": False},
        {"study": model, "n": 2, "groups": [4, 6], "hdi": 1, "sd_widths": True, "progressbar": False},
    ],
    "report": [{"of": fit, "path": _new_page}],
    "explore": [{"of": lambda: bl.Model("y ~ 1 + (1 | g)", data())}],
    "Explorer.write": [{"path": _new_page}],
    "ranova": [{"fit": fit, "draws": 100, "refits": 0, "random_seed": 1}],
}
for _name in (
    "HalfT",
    "HalfNormal",
    "Exponential",
    "Gamma",
    "Uniform",
    "Flat",
    "Power",
    "InverseGammaVariance",
    "Chi",
    "StudentT",
):
    CALLS[f"{_name}.quantile"] = [{"probability": 0.5}]
CALLS["Relative.quantile"] = CALLS["StudentT.quantile"] = [{"probability": 0.5}]

# Classes that the package makes and users read: their fields are no arguments.
RESULTS = {
    "Calibration",
    "Coverage",
    "ComparedMeans",
    "CoverageStudy",
    "Design",
    "Explorer",
    "ManyFits",
    "MarginalMeans",
    "ModelComparison",
    "Posterior",
    "PosteriorMeans",
    "PowerStudy",
    "REMLResult",
    "ZeroTest",
    "ZeroTests",
}
# What the engines call on plain arrays many thousand times per second, without checks: densities of priors, and
# coordinates of covariance structures.
_KERNELS = {
    "log_density",
    "log_density_relative",
    "log_density_sd",
    "log_density_sigma",
    "marginal",
    "partial_shapes",
    "draw",
    "on_zeros",
    "eta",
    "sds",
    "coefficients",
    "combinations",
    "log_dets",
    "shapes",
    "whitened",
}


@dataclass(frozen=True)
class Call:
    """A callable, one set of valid arguments, and which of the arguments is to be replaced."""

    name: str
    variant: int
    argument: str

    def run(self, value: Any) -> None:
        function = function_of(self.name)
        keywords = {k: v() if callable(v) else v for k, v in bases(self.name)[self.variant].items()}
        positional: tuple[Any, ...] = ()
        kind = inspect.signature(function).parameters[self.argument].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names = [n for n, p in inspect.signature(function).parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            positional = (*[keywords.pop(n) for n in names if n in keywords], value)
        else:
            keywords[self.argument] = value
        result = function(*positional, **keywords)
        if self.name in USES:
            USES[self.name](result)


@cache
def made(name: str) -> Any:
    return OBJECTS[name]()


def function_of(name: str) -> Callable[..., Any]:
    owner, _, method = name.partition(".")
    if not method:
        return getattr(bl, owner)  # type: ignore[no-any-return]
    return getattr(made(owner), method)  # type: ignore[no-any-return]


def bases(name: str) -> list[dict[str, Any]]:
    return CALLS.get(name, [{}])


def _callables() -> Iterator[tuple[str, Any]]:
    for name in bl.__all__:
        value = getattr(bl, name)
        if inspect.isclass(value) and (issubclass(value, BaseException) or name in RESULTS):
            continue
        yield name, value
    for name in OBJECTS:
        thing = made(name)
        for method in dir(type(thing)):
            if method.startswith("_") or method in _KERNELS:
                continue
            found = inspect.getattr_static(type(thing), method)
            if isinstance(found, property) or not callable(getattr(type(thing), method)):
                continue
            if name in _STRUCTURES or not inspect.isroutine(getattr(type(thing), method)):
                continue
            yield f"{name}.{method}", getattr(thing, method)


@cache
def calls() -> tuple[Call, ...]:
    """Every argument of every public callable, in each set of the other arguments."""
    found = []
    for name, function in _callables():
        for variant in range(len(bases(name))):
            for argument, p in inspect.signature(function).parameters.items():
                if p.kind is not p.VAR_KEYWORD:
                    found.append(Call(name, variant, argument))
    return tuple(found)


def without_call() -> list[str]:
    """Public callables with an argument that must be given and stands in no table, and public classes not made."""
    missing = []
    for name, function in _callables():
        required = {
            n
            for n, p in inspect.signature(function).parameters.items()
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        missing += [f"{name}({', '.join(sorted(required - set(b)))})" for b in bases(name) if required - set(b)]
    for name in bl.__all__:
        value = getattr(bl, name)
        if inspect.isclass(value) and not issubclass(value, BaseException) and name not in OBJECTS:
            missing.append(name)
    return missing
