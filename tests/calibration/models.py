"""Models whose posteriors are calibrated, and two samplers that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import bayeslmm as bl
from bayeslmm.bayes.collapsed import sample_collapsed
from bayeslmm.bayes.coordinates import TermCoordinates
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.priors import HalfT, Priors
from bayeslmm.calibration.quantities import QuantityDraws
from bayeslmm.calibration.replicate import Task
from bayeslmm.calibration.result import Calibration
from bayeslmm.calibration.run import run
from bayeslmm.calibration.samplers import make_sampler
from bayeslmm.likelihood import SummedDesign
from bayeslmm.types import FloatArray

DRAWS = 255
# Ending of a model's name in the table of results: the run gone on to four times its length.
REPEATED = ", continued"


def one_way(levels: int) -> bl.Model:
    """`levels` groups of five."""
    g = np.repeat(np.arange(levels), 5)
    data = pd.DataFrame({"y": np.random.default_rng(1).normal(size=g.size), "g": [f"g{k:02d}" for k in g]})
    return bl.Model("y ~ 1 + (1 | g)", data)


def unbalanced() -> bl.Model:
    """Eight groups of 1 to 12 with a covariate that is partly between groups, and weights."""
    g = np.repeat(np.arange(8), [1, 2, 2, 3, 4, 6, 9, 12])
    rng = np.random.default_rng(2)
    x = rng.normal(size=g.size) + 0.3 * g
    data = pd.DataFrame({"y": rng.normal(size=g.size), "x": x, "g": [f"g{k}" for k in g]})
    data["w"] = rng.uniform(0.5, 2.0, g.size)
    return bl.Model("y ~ x + (1 | g)", data, weights="w")


def block() -> bl.Model:
    """Fifteen groups of eight with an intercept and two slopes, all correlated."""
    g = np.repeat(np.arange(15), 8)
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"y": rng.normal(size=g.size), "g": [f"g{k:02d}" for k in g]})
    data["x"], data["z"] = rng.normal(size=g.size), rng.normal(size=g.size)
    return bl.Model("y ~ x + z + (x + z | g)", data)


def shared(keyword: str) -> bl.Model:
    """Ten groups seen twice at each of four occasions, whose effects share an sd and a correlation."""
    g, f = (part.ravel() for part in np.meshgrid(np.arange(10), np.repeat(np.arange(4), 2), indexing="ij"))
    data = pd.DataFrame({"y": np.random.default_rng(4).normal(size=g.size), "g": [f"g{k}" for k in g]})
    data["f"] = pd.Categorical([f"f{k}" for k in f])
    return bl.Model(f"y ~ 1 + {keyword}(0 + f | g)", data)


def of_dataset(formula: str, name: str) -> Callable[[], bl.Model]:
    return lambda: bl.Model(formula, bl.load_dataset(name))


def occasions(formula: str, residual: str, times: int = 5) -> Callable[[], bl.Model]:
    """Some subjects in two arms at five or fewer occasions, 80 rows or so, of which a quarter is missing."""

    def made() -> bl.Model:
        rng = np.random.default_rng(5)
        subjects = 80 // times
        t, subject = np.tile(np.arange(times), subjects), np.repeat(np.arange(subjects), times)
        data = pd.DataFrame({"y": rng.normal(size=t.size), "t": t, "id": [f"s{k:02d}" for k in subject]})
        data["arm"], data["x"] = np.where(subject % 2, "a", "b"), 1.0 + t + rng.uniform(0.0, 0.5, t.size)
        return bl.Model(formula, data.loc[np.sort(rng.permutation(t.size)[:60])], residual=residual)

    return made


# Models whose residuals have parameters.
RESIDUAL: dict[str, Callable[[], bl.Model]] = {
    "variance by arm, random intercepts": occasions("y ~ t + (1 | id)", "by(arm)"),
    "power of a covariate": occasions("y ~ t", "power(x)"),
    "serial correlation": occasions("y ~ t", "ar1(t | id)"),
    "serial correlation, random intercepts": occasions("y ~ t + (1 | id)", "ar1(t | id)"),
    "unstructured": occasions("y ~ arm", "us(t | id)", 3),
    "autoregressive moving average": occasions("y ~ t", "arma(t | id)"),
}

MODELS: dict[str, Callable[[], bl.Model]] = {
    "one-way, 3 groups": lambda: one_way(3),
    "one-way, 6 groups": lambda: one_way(6),
    "one-way, 30 groups": lambda: one_way(30),
    "unbalanced, covariate, weights": unbalanced,
    "crossed (Penicillin)": of_dataset("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    "nested (Pastes)": of_dataset("strength ~ 1 + (1 | batch / cask)", "Pastes"),
    "correlated slopes (sleepstudy)": of_dataset("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    "uncorrelated slopes (sleepstudy)": of_dataset("Reaction ~ Days + (Days || Subject)", "sleepstudy"),
    "3 x 3 block": block,
    "compound symmetry": lambda: shared("cs"),
    "autoregression": lambda: shared("ar1"),
}


@dataclass(frozen=True)
class WrongJacobian:
    """The collapsed sampler with the log slope of ``t = c sinh(x)`` times a factor: 0 forgets it, -1 turns it round."""

    priors: Priors
    factor: float

    def __call__(self, cp: SummedDesign, start: Sequence[FloatArray], rng: np.random.Generator) -> QuantityDraws:
        right, factor = TermCoordinates.sds, self.factor

        def wrong(self: TermCoordinates, x: FloatArray) -> tuple[FloatArray, FloatArray]:
            t, log_slope = right(self, x)
            return t, factor * log_slope

        TermCoordinates.sds = wrong  # type: ignore[method-assign]
        try:
            return sample_collapsed(cp, self.priors, start, draws=DRAWS, rng=rng)
        finally:
            TermCoordinates.sds = right  # type: ignore[method-assign]


def rescaled(priors: Priors, factor: float) -> Priors:
    """Half-t priors of the group sds with another scale."""

    def other(prior: object) -> HalfT:
        assert isinstance(prior, HalfT)
        return HalfT(prior.df, factor * prior.scale)

    return replace(priors, sds=tuple(tuple(other(prior) for prior in term) for term in priors.sds))


def wrong_prior(model: bl.Model, n: int, seed: int, factor: float = 0.5) -> Calibration:
    """Parameters from the prior, posterior under one whose scale is `factor` times as large."""
    priors = resolve_priors(model.design, "weak")
    sampler = make_sampler(rescaled(priors, factor), DRAWS, "auto")
    return run(Task(model.design, priors, sampler, seed, DRAWS), n, method="wrong prior")


def wrong_jacobian(model: bl.Model, n: int, seed: int, factor: float = 0.0) -> Calibration:
    """Parameters from the prior, posterior with a wrong slope of the coordinate."""
    priors = resolve_priors(model.design, "weak")
    return run(Task(model.design, priors, WrongJacobian(priors, factor), seed, DRAWS), n, method="wrong Jacobian")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model of a table of results."""
    rows = [
        {
            "model": name,
            "method": part["method"].iloc[0],
            "replicates": part["replicates"].iloc[0],
            "quantities": len(part),
            "smallest p": f"{part['p'].min():.2g}",
            "limit": f"{0.001 / len(part):.2g}",
            "largest ecdf": f"{part['ecdf'].max():.2f}",
            "fails for": ", ".join(part["quantity"][~part["ok"]]) or "none",
            "failures": part["failures"].iloc[0],
            "warnings": part["warnings"].iloc[0],
            "seconds": f"{part['seconds'].iloc[0]:.0f}",
        }
        for name, part in table.groupby("model", sort=False)
    ]
    return pd.DataFrame(rows)
