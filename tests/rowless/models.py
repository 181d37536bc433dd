"""Small models of every kind of sums, each with a way in which rows enter it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

import bayeslmm as bl

from .rowless import KeptRows, rowless


@cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 240
    g, h = np.repeat(np.arange(24), 10), rng.integers(0, 5, n)
    s, x, z = g // 4, rng.normal(size=n), rng.normal(size=24)[g]
    f = np.array(list("abc"))[rng.integers(0, 3, n)]
    y = 3 + x + 0.5 * z + (f == "b") + rng.normal(size=24)[g] + 0.7 * rng.normal(size=24)[g] * x
    y = y + rng.normal(size=5)[h] + rng.normal(size=6)[s] + rng.normal(size=n)
    columns = {"y": y, "x": x, "z": z, "f": f, "w": rng.uniform(0.5, 2, n), "k": rng.integers(1, 4, n)}
    names = {name: [f"{name}{i}" for i in codes] for name, codes in (("g", g), ("h", h), ("s", s))}
    return pd.DataFrame({**columns, **names, "o": rng.normal(size=n)})


FORMULAS: dict[str, tuple[str, dict[str, str]]] = {
    "intercepts": ("y ~ x + (1 | g)", {}),
    "slopes": ("y ~ x + z + (x | g)", {}),
    "crossed": ("y ~ x * f + (1 | g) + (1 | h)", {}),
    "nested": ("y ~ x + z + (1 | s/g)", {}),
    "hierarchy": ("y ~ x + z + (x | g) + (1 | s) + (1 | h)", {"store": "hierarchy"}),
    "weights": ("y ~ x + f + (x || g)", {"weights": "w"}),
    "frequency": ("y ~ x + (x | g)", {"frequency": "k"}),
    "offset": ("y ~ x + offset(o) + (1 | g)", {}),
    "known sds": ("y ~ x + (1 | g)", {"residual_sd": "w"}),
    "singular": ("y ~ x + z + (f | h)", {}),
}


@cache
def whole(kind: str) -> bl.Model:
    formula, options = FORMULAS[kind]
    return bl.Model(formula, data(), **options)  # type: ignore[arg-type]


@cache
def without(kind: str) -> tuple[bl.Model, KeptRows]:
    return rowless(whole(kind))
