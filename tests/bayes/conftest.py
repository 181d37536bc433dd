"""Small designs built by hand, one for every shape of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bayeslmm.design.covariance import (
    AR1,
    CompoundSymmetry,
    CovarianceStructure,
    Diagonal,
    HeterogeneousAR1,
    HeterogeneousCompoundSymmetry,
    Identity,
    Toeplitz,
    Unstructured,
)
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.dropped import DroppedRows
from bayeslmm.design.grouping import Grouping
from bayeslmm.residual import make_residual

N = 30


def _term(label: str, group: str, effects: Sequence[str], structure: CovarianceStructure) -> RandomTerm:
    x, w = _covariates()
    columns = {"Intercept": np.ones(N), "x": x, "w": w}
    return RandomTerm(label, group, tuple(effects), np.column_stack([columns[e] for e in effects]), structure)


def _covariates() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    return rng.normal(2.0, 1.5, N), rng.normal(size=N)


def _groupings() -> dict[str, Grouping]:
    g = np.arange(N) % 6
    h = (np.arange(N) * 7) % 5
    cell = np.unique(g * 10 + h, return_inverse=True)[1]
    inner = np.unique(g * 10 + (np.arange(N) // 6) % 2, return_inverse=True)
    return {
        "g": Grouping("g", g, tuple("abcdef")),
        "h": Grouping("h", h, tuple("vwxyz")),
        "g:k": Grouping("g:k", inner[1], tuple(f"{'abcdef'[v // 10]}:{v % 10}" for v in inner[0])),
        "g:h": Grouping("g:h", cell, tuple(str(k) for k in range(cell.max() + 1))),
    }


TERMS = {
    "one-way": [("g", ["Intercept"], Unstructured(1))],
    "crossed": [("g", ["Intercept"], Unstructured(1)), ("h", ["Intercept"], Unstructured(1))],
    "nested": [("g", ["Intercept"], Unstructured(1)), ("g:k", ["Intercept"], Unstructured(1))],
    "slopes": [("g", ["Intercept", "x"], Unstructured(2))],
    "slopes 3x3": [("g", ["Intercept", "x", "w"], Unstructured(3))],
    "uncorrelated": [("g", ["Intercept", "x"], Diagonal(2))],
    "two terms": [("g", ["Intercept"], Unstructured(1)), ("g", ["x"], Unstructured(1))],
    "repeated effect": [
        ("g", ["Intercept"], Unstructured(1)),
        ("g", ["Intercept", "x"], Unstructured(2)),
    ],
    "blocks and crossed": [
        ("h", ["Intercept"], Unstructured(1)),
        ("g", ["Intercept", "x"], Unstructured(2)),
        ("g", ["w"], Unstructured(1)),
    ],
    "identity": [("g", ["Intercept", "x"], Identity(2))],
    "compound symmetry": [("g", ["Intercept", "x", "w"], CompoundSymmetry(3))],
    "autoregression": [("g", ["Intercept", "x", "w"], AR1(3))],
    "heterogeneous autoregression": [("g", ["Intercept", "x", "w"], HeterogeneousAR1(3))],
    "heterogeneous compound symmetry": [("g", ["Intercept", "x", "w"], HeterogeneousCompoundSymmetry(3))],
    "toeplitz": [("g", ["Intercept", "x", "w"], Toeplitz(3))],
    "heterogeneous and toeplitz": [
        ("g", ["Intercept", "x", "w"], HeterogeneousCompoundSymmetry(3)),
        ("h", ["x", "w"], Toeplitz(2)),
        ("g", ["Intercept", "x", "w"], Toeplitz(3)),
    ],
    "all structures": [
        ("g", ["Intercept", "x"], Unstructured(2)),
        ("g", ["Intercept", "x", "w"], CompoundSymmetry(3)),
        ("h", ["x", "w"], AR1(2)),
        ("g", ["x", "w"], Identity(2)),
        ("h", ["Intercept"], Unstructured(1)),
    ],
}


def make_design(
    kind: str,
    *,
    weights: bool = False,
    offset: bool = False,
    fixed: Sequence[str] = ("Intercept", "x"),
    response: str = "y",
) -> Design:
    """A design of thirty rows with the random terms of `kind`."""
    rng = np.random.default_rng(5)
    x, w = _covariates()
    columns = {"Intercept": np.ones(N), "x": x, "w": w}
    every = _groupings()
    terms = tuple(_term(f"({'+'.join(e)} | {g})", g, e, s) for g, e, s in TERMS[kind])
    return Design(
        formula="by hand",
        response=response,
        y=10.0 + x + rng.normal(size=6)[every["g"].codes] + rng.normal(size=N),
        X=np.column_stack([columns[name] for name in fixed]) if fixed else np.empty((N, 0)),
        fixed_names=tuple(fixed),
        aliased=(),
        terms=terms,
        groupings={term.group: every[term.group] for term in terms},
        residual=make_residual(N, rng.uniform(0.5, 3.0, N) if weights else None),
        offset=rng.normal(size=N) if offset else None,
        index=np.arange(N),
        dropped=DroppedRows(),
    )


@pytest.fixture
def design() -> Callable[..., Design]:
    return make_design
