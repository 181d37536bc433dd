"""Random designs in which estimation is hard: standard deviations many orders apart, few and unequal levels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

FORMULAS = (
    "y ~ x + (1 | g) + (1 | h)",
    "y ~ 1 + (1 | g/k)",
    "y ~ x + (1 | g) + (0 + x | g) + (1 | h)",
    "y ~ x + (x | g) + (1 | h)",
    "y ~ x + (x | g) + (z || h)",
    "y ~ x + (0 + f | g)",
    "y ~ f + (0 + f | g)",
    "y ~ x + cs(0 + f | g)",
    "y ~ x + ar1(0 + f | g)",
    "y ~ x + (x || g)",
    "y ~ x + (x | g)",
    "y ~ x + z + (x + z | g)",
    "y ~ x + cs(0 + f | g) + (1 | h)",
    "y ~ x + ar1(0 + f | g) + (1 | h)",
    "y ~ x + diag(0 + f | g) + (1 | h)",
    "y ~ x + id(0 + f | g) + (1 | g)",
    "y ~ x + (1 | g) + (1 | h) + (1 | k)",
    "y ~ x + (1 | h/g)",
    "y ~ x + (z || g) + (x | h)",
)
KINDS = {"ordinary": 1, "extreme": 2, "unequal": 3}


def draw(seed: int, kind: str) -> tuple[str, pd.DataFrame, dict[str, str], bool]:
    """Formula, data, arguments of the model and whether REML.

    "extreme": true relative sds up to 1e15; "unequal": one to three levels hold most rows, effects with very heavy
    tails; "ordinary": neither.
    """
    rng = np.random.default_rng([seed, KINDS[kind]])
    n = int(rng.integers(9, 61)) if kind == "ordinary" else int(rng.integers(16, 71))
    G, H = int(rng.integers(3, 9)), int(rng.integers(2, 7))
    formula = FORMULAS[rng.integers(len(FORMULAS))]
    g = np.concatenate([np.arange(G), rng.integers(0, G, n - G)])
    h, k = rng.integers(0, H, n), rng.integers(0, 3, n)
    if kind == "unequal":
        large = int(rng.integers(1, 4))
        g = np.where(rng.random(n) < 0.7, g % large, g)
    f = np.resize([0, 1, 2], n)[rng.permutation(n)]
    x, z = rng.normal(size=n), rng.normal(size=n) * 10.0 ** rng.integers(-2, 3)
    data = pd.DataFrame({"x": x, "z": z, "g": g, "h": h, "k": k, "f": np.array(list("abc"))[f]})
    y = rng.normal(size=n) + x + 2
    y = y + (_extreme(rng, formula, data, f) if kind == "extreme" else _effects(rng, kind, data, f, G, H))
    data["y"] = y
    arguments = {}
    u = rng.random()
    if u < 0.25:
        data["w"], arguments["weights"] = rng.uniform(0.2, 5, n), "w"
    elif u < 0.4:
        data["fr"], arguments["frequency"] = rng.integers(1, 4, n), "fr"
    return formula, data, arguments, bool(rng.random() < 0.5)


def _effects(rng: np.random.Generator, kind: str, data: pd.DataFrame, f: np.ndarray, G: int, H: int) -> np.ndarray:
    def effects(size: int | tuple[int, int]) -> np.ndarray:
        sd = float(rng.choice([0, 0.3, 1, 3, 10]))
        return sd * (rng.standard_t(1.5, size=size) if kind == "unequal" else rng.normal(size=size))

    total = np.zeros(len(data))
    g, h, k, x = (data[name].to_numpy() for name in "ghkx")
    for codes, levels in ((g, G), (h, H), (g * 3 + k, 3 * G)):
        share = rng.random()
        total = total + effects(levels)[codes]
        if share < 0.5:
            total = total + effects(levels)[codes] * x
        if share < 0.2:
            total = total + effects((levels, 3))[codes, f]
    return total


def _extreme(rng: np.random.Generator, formula: str, data: pd.DataFrame, f: np.ndarray) -> np.ndarray:
    """Effects of the formula's own terms."""

    def effects(size: int | tuple[int, int]) -> np.ndarray:
        if rng.random() < 0.15:
            sd = 0.0
        else:
            sd = 10.0 ** rng.uniform(5, 15) if rng.random() < 0.6 else 10.0 ** rng.uniform(-1, 5)
        return sd * rng.normal(size=size)

    g, h, k, x, z = (data[name].to_numpy() for name in "ghkxz")
    G, H = int(g.max()) + 1, int(h.max()) + 1
    z = z / np.abs(z).max()
    parts: list[tuple[bool, Callable[[], np.ndarray]]] = [
        ("0 + f" in formula, lambda: effects((G, 3))[g, f]),
        ("0 + f" not in formula or "(1 | g)" in formula, lambda: effects(G)[g]),
        (any(s in formula for s in ("x | g", "x || g", "x + z | g")), lambda: effects(G)[g] * x),
        (any(s in formula for s in ("z | g", "z || g")), lambda: effects(G)[g] * z),
        (any(s in formula for s in ("| h)", "h/g")), lambda: effects(H)[h]),
        ("x | h" in formula, lambda: effects(H)[h] * x),
        ("z || h" in formula, lambda: effects(H)[h] * z),
        ("g/k" in formula, lambda: effects(3 * G)[g * 3 + k]),
        ("h/g" in formula, lambda: effects(G * H)[g * H + h]),
        ("(1 | k)" in formula, lambda: effects(3)[k]),
    ]
    return sum((part() for present, part in parts if present), np.zeros(len(data)))
