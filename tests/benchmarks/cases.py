"""Data sets of the benchmark: lme4's own and simulated ones of fixed seed.

A case holds its formula twice: as one lme4-style string and in parts, for packages without such formulas.
bayeslmm is imported only to load the stored data sets, so that this module also runs in the interpreter of the peers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Case:
    """One model and its data.

    Attributes
    ----------
    name, formula : str
        Key of the case and its lme4-style formula.
    make : callable
        Returns the data frame.
    fixed : str
        Right-hand side of the fixed effects.
    groups : tuple of str
        Column of each random term; a nested or interaction factor is a column of its own.
    slopes : str
        Random slopes of the only term; empty for random intercepts.
    nested : bool
        Whether each factor is nested in the next one.
    plain : str
        The formula with a column in place of an interaction of factors; empty where they are the same.
    """

    name: str
    formula: str
    make: Callable[[], pd.DataFrame]
    fixed: str
    groups: tuple[str, ...]
    slopes: str = ""
    nested: bool = False
    plain: str = ""

    @property
    def response(self) -> str:
        """Name of the response."""
        return self.formula.split("~")[0].strip()


def stored(name: str) -> Callable[[], pd.DataFrame]:
    """Loader of a data set that bayeslmm carries."""

    def make() -> pd.DataFrame:
        import bayeslmm as bl

        data = bl.load_dataset(name)
        if name == "InstEval":
            data = data[["y", "service", "s", "d", "dept"]].copy()
            data["dept_service"] = pd.Categorical(data["dept"].astype(str) + ":" + data["service"].astype(str))
        return data

    return make


def intercepts(n: int) -> Callable[[], pd.DataFrame]:
    """Random intercepts in groups of 20."""

    def make() -> pd.DataFrame:
        rng = np.random.default_rng(0)
        g = np.repeat(np.arange(n // 20), 20)
        x = rng.normal(size=n)
        return pd.DataFrame({"y": 1 + x + rng.normal(size=n // 20)[g] + rng.normal(size=n), "x": x, "g": g})

    return make


def slopes() -> pd.DataFrame:
    """Correlated intercepts and slopes: 1e5 rows in 5,000 groups of unequal sizes."""
    rng = np.random.default_rng(0)
    n, groups = 100_000, 5_000
    g, x = rng.integers(0, groups, n), rng.normal(size=n)
    b = rng.normal(size=(groups, 2)) @ np.array([[1, 0.3], [0, 0.5]])
    return pd.DataFrame({"y": 1 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=n), "x": x, "g": g})


def six() -> pd.DataFrame:
    """A 6 x 6 unstructured block: 2,000 groups of 20."""
    rng = np.random.default_rng(0)
    groups, size = 2_000, 20
    g = np.repeat(np.arange(groups), size)
    x = rng.normal(size=(groups * size, 5))
    b = rng.normal(size=(groups, 6)) @ (np.tril(rng.normal(size=(6, 6)) * 0.2) + 0.5 * np.eye(6)).T
    data = pd.DataFrame(x, columns=list("abcde"))
    data["g"] = g
    data["y"] = 1 + x.sum(1) + b[g, 0] + (b[g, 1:] * x).sum(1) + rng.normal(size=groups * size)
    return data


def nested() -> pd.DataFrame:
    """2e5 rows: 50,000 pupils in 5,000 classes in 500 schools."""
    rng = np.random.default_rng(0)
    pupil = np.repeat(np.arange(50_000), 4)
    cl, school = pupil // 10, pupil // 100
    x = rng.normal(size=200_000)
    y = 1 + x + 0.7 * rng.normal(size=50_000)[pupil] + 0.5 * rng.normal(size=5_000)[cl]
    y += 0.4 * rng.normal(size=500)[school] + rng.normal(size=200_000)
    return pd.DataFrame({"y": y, "x": x, "pupil": pupil, "cl": cl, "sc": school})


def crossed() -> pd.DataFrame:
    """2e5 rows: 5,000 crossed with 2,000 at random."""
    rng = np.random.default_rng(0)
    n, first, second = 200_000, 5_000, 2_000
    a, b, x = rng.integers(0, first, n), rng.integers(0, second, n), rng.normal(size=n)
    y = 1 + x + rng.normal(size=first)[a] + 0.7 * rng.normal(size=second)[b] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def big() -> pd.DataFrame:
    """1e6 rows in 1e5 groups with five covariates."""
    rng = np.random.default_rng(0)
    n, groups = 1_000_000, 100_000
    g, x = rng.integers(0, groups, n), rng.normal(size=(n, 5))
    data = pd.DataFrame(x, columns=list("abcde"))
    data["g"] = g
    data["y"] = 1 + x.sum(1) + rng.normal(size=groups)[g] + rng.normal(size=n)
    return data


def responses(n_refits: int = 1_000) -> np.ndarray:
    """Responses simulated from the sleepstudy model at its REML estimates, shape (180, n_refits)."""
    rng = np.random.default_rng(0)
    data = stored("sleepstudy")()
    subject, days = pd.factorize(data["Subject"])[0], data["Days"].to_numpy()
    factor = np.linalg.cholesky(np.array([[612.1, 9.6], [9.6, 35.07]]))
    out = np.empty((len(data), n_refits))
    for j in range(n_refits):
        b = rng.normal(size=(18, 2)) @ factor.T
        out[:, j] = 251.4 + 10.47 * days + b[subject, 0] + b[subject, 1] * days + 25.59 * rng.normal(size=len(data))
    return out


FIVE = "a + b + c + d + e"
SLEEP = ("Reaction ~ Days + (Days | Subject)", stored("sleepstudy"), "Days", ("Subject",), "Days")
ALL = (
    Case("sleepstudy", *SLEEP),
    Case("Dyestuff", "Yield ~ 1 + (1 | Batch)", stored("Dyestuff"), "1", ("Batch",)),
    Case(
        "Penicillin",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        stored("Penicillin"),
        "1",
        ("plate", "sample"),
    ),
    Case(
        "Pastes",
        "strength ~ 1 + (1 | batch/cask)",
        stored("Pastes"),
        "1",
        ("sample", "batch"),
        nested=True,
        plain="strength ~ 1 + (1 | batch) + (1 | sample)",
    ),
    Case("Machines", "score ~ Machine + (Machine | Worker)", stored("Machines"), "Machine", ("Worker",), "Machine"),
    Case(
        "InstEval",
        "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
        stored("InstEval"),
        "service",
        ("s", "d", "dept_service"),
        plain="y ~ service + (1 | s) + (1 | d) + (1 | dept_service)",
    ),
    Case("intercepts 1e4", "y ~ x + (1 | g)", intercepts(10_000), "x", ("g",)),
    Case("intercepts 1e5", "y ~ x + (1 | g)", intercepts(100_000), "x", ("g",)),
    Case("intercepts 1e6", "y ~ x + (1 | g)", intercepts(1_000_000), "x", ("g",)),
    Case("slopes 1e5", "y ~ x + (x | g)", slopes, "x", ("g",), "x"),
    Case("block 6x6", f"y ~ {FIVE} + ({FIVE} | g)", six, FIVE, ("g",), FIVE),
    Case("nested 2e5", "y ~ x + (1 | pupil) + (1 | cl) + (1 | sc)", nested, "x", ("pupil", "cl", "sc"), nested=True),
    Case("crossed 2e5", "y ~ x + (1 | a) + (1 | b)", crossed, "x", ("a", "b")),
    Case("big 1e6", f"y ~ {FIVE} + (1 | g)", big, FIVE, ("g",)),
    Case("refits", *SLEEP),
    Case("fresh process", *SLEEP),
)
CASES = {case.name: case for case in ALL}
