"""Models and data of the benchmark of posteriors: stored data sets, simulated ones of fixed seed, and experiments."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cases import stored


@dataclass(frozen=True)
class Term:
    """A block of random effects.

    Attributes
    ----------
    group : str
        Column of the grouping factor.
    effects : tuple of str
        Numeric columns; ``"1"`` is the intercept.
    factor : str
        The factor whose indicators the effects are, as the formula writes it; empty otherwise.
    """

    group: str
    effects: tuple[str, ...] = ("1",)
    factor: str = ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Effects whose correlation is a parameter."""
        first, second = np.triu_indices(len(self.effects), 1)
        return [(self.effects[i], self.effects[j]) for i, j in zip(first, second, strict=True)]


@dataclass(frozen=True)
class PosteriorCase:
    """One model and its data.

    Attributes
    ----------
    name, formula : str
        Key of the case; its lme4-style formula.
    make : callable
        Returns the data frame; factors have indicator columns beside them.
    terms : tuple of Term
        Random effects in the order of the formula.
    fixed : tuple of str
        Numeric columns of the fixed effects after the intercept.
    aim : float
        Effective draws per second that bayeslmm is meant to reach; nan where none is set.
    draws, tune, chains : int
        What the NUTS samplers are asked for, per chain.
    shipped : bool
        Whether the data come with the package, or from the folder of experiments.
    """

    name: str
    formula: str
    make: Callable[[], pd.DataFrame]
    terms: tuple[Term, ...]
    fixed: tuple[str, ...] = ()
    aim: float = 20_000
    draws: int = 1_000
    tune: int = 1_000
    chains: int = 4
    shipped: bool = True

    @property
    def response(self) -> str:
        """Name of the response."""
        return self.formula.split("~")[0].strip()

    @property
    def sd_labels(self) -> list[str]:
        """Standard deviations of the random effects."""
        return [f"sd {term.group} {effect}" for term in self.terms for effect in term.effects]

    @property
    def cor_labels(self) -> list[str]:
        """Their correlations."""
        return [f"cor {term.group} {first} {second}" for term in self.terms for first, second in term.pairs]

    @property
    def fixed_labels(self) -> list[str]:
        """Fixed effects."""
        return [f"fixed {name}" for name in ("1", *self.fixed)]

    @property
    def labels(self) -> list[str]:
        """All parameters whose draws are judged."""
        return [*self.sd_labels, *self.cor_labels, "sigma", *self.fixed_labels]


def machines() -> pd.DataFrame:
    """Machines with an indicator of every machine."""
    data = stored("Machines")()
    for level in "ABC":
        data[f"Machine{level}"] = (data["Machine"] == level).astype(int)
    return data


def insteval() -> pd.DataFrame:
    """InstEval with a numeric response and an indicator of service."""
    data = stored("InstEval")()[["y", "service", "s", "d", "dept"]].copy()
    data["service1"] = (data["service"].astype(str) == "1").astype(int)
    return data.assign(y=data["y"].astype(float))


def slopes() -> pd.DataFrame:
    """Correlated intercepts and slopes: 10,000 rows in 500 groups of unequal sizes."""
    rng = np.random.default_rng(0)
    n, groups = 10_000, 500
    g, x = rng.integers(0, groups, n), rng.normal(size=n)
    b = rng.normal(size=(groups, 2)) @ np.array([[1, 0.3], [0, 0.5]])
    return pd.DataFrame({"y": 1 + x + b[g, 0] + b[g, 1] * x + rng.normal(size=n), "x": x, "g": g})


def crossed() -> pd.DataFrame:
    """20,000 rows: 1,000 crossed with 200 at random."""
    rng = np.random.default_rng(0)
    n, first, second = 20_000, 1_000, 200
    a, b, x = rng.integers(0, first, n), rng.integers(0, second, n), rng.normal(size=n)
    y = 1 + x + rng.normal(size=first)[a] + 0.7 * rng.normal(size=second)[b] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b})


def block() -> pd.DataFrame:
    """A 4 x 4 block: 40 groups of 20 rows, three slopes."""
    rng = np.random.default_rng(0)
    groups, size = 40, 20
    g = np.repeat(np.arange(groups), size)
    x = rng.normal(size=(groups * size, 3))
    sd = np.array([1.0, 0.6, 0.4, 0.2])
    correlation = np.full((4, 4), 0.3) + 0.7 * np.eye(4)
    b = rng.normal(size=(groups, 4)) @ (sd[:, None] * np.linalg.cholesky(correlation)).T
    data = pd.DataFrame(x, columns=list("abc")).assign(g=g)
    data["y"] = 1 + x.sum(1) + b[g, 0] + (b[g, 1:] * x).sum(1) + rng.normal(size=groups * size)
    return data


# The folder of experiments, which `--experiments` gives.
EXPERIMENTS = "BENCHMARK_EXPERIMENTS"


def experiment(file: str, y: str, x: str, subject: str, item: str = "") -> Callable[[], pd.DataFrame]:
    """Loader of one experiment: a condition of two values is -0.5 and 0.5."""

    def make() -> pd.DataFrame:
        raw = pd.read_csv(Path(os.environ[EXPERIMENTS]) / f"{file}.csv")
        values = np.unique(raw[x])
        coded = raw[x].map(dict(zip(values, (-0.5, 0.5), strict=True))) if len(values) == 2 else raw[x]
        data = pd.DataFrame({"y": raw[y].astype(float), "x": coded.astype(float)})
        for name, column in {"subject": subject, "item": item}.items():
            if column:
                data[name] = pd.factorize(raw[column])[0]
        return data

    return make


def experiments() -> tuple[PosteriorCase, ...]:
    """The eight experiments of psycholinguistics that Lai, Domke & Sheldon (2024, AISTATS) compiled."""
    columns = {
        "english": ("df_english", "NP1", "condition", "subject", "item"),
        "mandarin": ("df_gibsonwu", "rt", "type", "subj", "item"),
        "mandarin 2": ("df_gibsonwu2", "rt", "condition", "subj", "item"),
        "gg05": ("df_gg05_rc", "RT", "condition", "subj", "item"),
        "dutch": ("df_dutch", "NP1", "condition", "subject", "item"),
        "eeg": ("df_eeg", "n400", "cloze", "subj", "item"),
        "dillonE1": ("df_dillonE1", "rt", "int", "subj", "item"),
        "pupil": ("df_pupil_complete", "p_size", "load", "subj"),
    }
    cases = []
    for name, (file, *names) in columns.items():
        groups = ("subject", "item")[: len(names) - 2]
        formula = "y ~ 1 + x + " + " + ".join(f"(1 + x | {group})" for group in groups)
        terms = tuple(Term(group, ("1", "x")) for group in groups)
        make = experiment(file, *names)
        cases.append(PosteriorCase(name, formula, make, terms, ("x",), aim=float("nan"), shipped=False))
    return tuple(cases)


BATCH = (Term("Batch"),)
CELLS = ("MachineA", "MachineB", "MachineC")
LARGE = {"draws": 250, "tune": 250, "chains": 2}
ALL = (
    PosteriorCase("Dyestuff", "Yield ~ 1 + (1 | Batch)", stored("Dyestuff"), BATCH),
    PosteriorCase("Dyestuff2", "Yield ~ 1 + (1 | Batch)", stored("Dyestuff2"), BATCH),
    PosteriorCase(
        "sleepstudy",
        "Reaction ~ 1 + Days + (1 + Days | Subject)",
        stored("sleepstudy"),
        (Term("Subject", ("1", "Days")),),
        ("Days",),
    ),
    PosteriorCase(
        "Penicillin",
        "diameter ~ 1 + (1 | plate) + (1 | sample)",
        stored("Penicillin"),
        (Term("plate"), Term("sample")),
    ),
    PosteriorCase(
        "Pastes", "strength ~ 1 + (1 | batch) + (1 | sample)", stored("Pastes"), (Term("batch"), Term("sample"))
    ),
    PosteriorCase(
        "Machines",
        "score ~ 1 + Machine + (0 + Machine | Worker)",
        machines,
        (Term("Worker", CELLS, "Machine"),),
        CELLS[1:],
    ),
    PosteriorCase(
        "block 4x4",
        "y ~ 1 + a + b + c + (1 + a + b + c | g)",
        block,
        (Term("g", ("1", "a", "b", "c")),),
        ("a", "b", "c"),
        aim=float("nan"),
    ),
    PosteriorCase(
        "slopes 1e4", "y ~ 1 + x + (1 + x | g)", slopes, (Term("g", ("1", "x")),), ("x",), aim=2_000, **LARGE
    ),
    PosteriorCase(
        "crossed 2e4",
        "y ~ 1 + x + (1 | a) + (1 | b)",
        crossed,
        (Term("a"), Term("b")),
        ("x",),
        aim=1_000,
        **LARGE,
    ),
    PosteriorCase(
        "InstEval",
        "y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept)",
        insteval,
        (Term("s"), Term("d"), Term("dept")),
        ("service1",),
        aim=100,
        **LARGE,
    ),
    *experiments(),
)
CASES = {case.name: case for case in ALL}
