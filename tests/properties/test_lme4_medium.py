"""Designs of medium size against lme4.

The data are regenerated here; ``python test_lme4_medium.py FOLDER`` writes them for ``lme4_medium.R``, which made
``lme4_medium.json`` (lme4 1.1-31, the better of two optimisers at their tightest tolerance).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

HERE = Path(__file__).parent
FORMULAS = {
    "nested three levels": "y ~ x + (1 | a) + (1 | a:b) + (1 | a:b:c)",
    "crossed": "y ~ x + (1 | g) + (1 | h)",
    "ratings": "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
    "slopes in nested levels": "y ~ x + (x | a) + (x | a:b)",
    "singular nested": "y ~ x + (1 | a) + (1 | a:b) + (1 | a:b:c)",
    "slopes crossed": "y ~ x + (x | g) + (x | h)",
    "nested and crossed, weighted": "y ~ x + (1 | a) + (1 | a:b) + (1 | h)",
    "singular crossed": "y ~ x + (1 | g) + (0 + x | g) + (1 | h)",
}
# Never worse than lme4 beyond the rounding of its sums; better only by what its optimiser leaves.
WORSE = 1e-10
BETTER = 1e-8
# What stopping a derivative-free search at a flat bottom leaves: the root of the rounding of the criterion.
THETA = 2e-5
ESTIMATE = 2e-6


class Lehmer:
    """Lehmer's generator of 1951 modulo 2^31 - 1: exact in integers, the same everywhere."""

    modulus = 2**31 - 1

    def __init__(self, seed: int) -> None:
        self.state = seed

    def raw(self, n: int) -> np.ndarray:
        powers = np.ones(n + 1, dtype=np.int64)
        done = 1
        while done <= n:
            step = min(done, n + 1 - done)
            powers[done : done + step] = powers[:step] * pow(16807, done, self.modulus) % self.modulus
            done += step
        out = powers[1:] * self.state % self.modulus
        self.state = int(out[-1])
        return out

    def integers(self, high: int, n: int) -> np.ndarray:
        return self.raw(n) * high // self.modulus

    def normal(self, n: int) -> np.ndarray:
        """Sums of twelve uniforms."""
        return (self.raw(12 * n).reshape(n, 12).sum(axis=1) - 6 * self.modulus) / self.modulus


def _nested(r: Lehmer, sizes: tuple[int, int, int], n: int, sds: tuple[float, float, float]) -> pd.DataFrame:
    A, B, C = sizes
    c = np.r_[np.arange(A * B * C), r.integers(A * B * C, n - A * B * C)]
    b, a = c // C, c // (C * B)
    x = r.normal(n)
    y = 3 + x + sds[0] * r.normal(A)[a] + sds[1] * r.normal(A * B)[b] + sds[2] * r.normal(A * B * C)[c] + r.normal(n)
    return pd.DataFrame({"y": y, "x": x, "a": a, "b": b % B, "c": c % C})


def _slopes_nested(r: Lehmer) -> pd.DataFrame:
    n = 3000
    ab = np.r_[np.arange(400), r.integers(400, n - 400)]
    a, x = ab // 5, r.normal(n)
    y = 1 + x * (1 + 0.5 * r.normal(80)[a] + 0.3 * r.normal(400)[ab]) + r.normal(80)[a] + 0.6 * r.normal(400)[ab]
    return pd.DataFrame({"y": y + r.normal(n), "x": x, "a": a, "b": ab % 5})


def _crossed(
    r: Lehmer, sizes: tuple[int, int], n: int, sds: tuple[float, float], slopes: tuple[float, float]
) -> pd.DataFrame:
    g, h, x = r.integers(sizes[0], n), r.integers(sizes[1], n), r.normal(n)
    y = 3 + x + r.normal(n)
    for codes, J, sd, slope in zip((g, h), sizes, sds, slopes, strict=True):
        y = y + sd * r.normal(J)[codes] + slope * r.normal(J)[codes] * x
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def _ratings(r: Lehmer) -> pd.DataFrame:
    n = 7000
    s, d = r.integers(500, n), r.integers(500, n) * r.integers(500, n) // 500
    dept, service = d % 14, r.integers(2, n)
    y = 3.2 - 0.1 * service + 0.3 * r.normal(500)[s] + 0.5 * r.normal(500)[d] + 0.1 * r.normal(28)[2 * dept + service]
    kinds = pd.Series(service).map({0: "no", 1: "yes"})
    rating = np.clip(np.round(y + 1.2 * r.normal(n)), 1, 5)
    return pd.DataFrame({"y": rating, "s": s, "d": d, "dept": dept, "service": kinds})


def _weighted(r: Lehmer) -> pd.DataFrame:
    data = _nested(r, (140, 4, 1), 2500, (1.0, 0.5, 0.0))
    h = r.integers(60, len(data))
    w = np.round(0.25 + 3 * r.raw(len(data)) / r.modulus, 6)
    return data.assign(h=h, w=w, y=data["y"] + 0.4 * r.normal(60)[h])


DATA: dict[str, Callable[[], pd.DataFrame]] = {
    "nested three levels": lambda: _nested(Lehmer(11), (40, 6, 5), 5000, (1.0, 0.7, 0.4)),
    "crossed": lambda: _crossed(Lehmer(12), (300, 200), 6000, (1.0, 0.5), (0.0, 0.0)),
    "ratings": lambda: _ratings(Lehmer(13)),
    "slopes in nested levels": lambda: _slopes_nested(Lehmer(14)),
    "singular nested": lambda: _nested(Lehmer(25), (50, 6, 4), 3600, (0.8, 0.0, 0.5)),
    "slopes crossed": lambda: _crossed(Lehmer(16), (150, 130), 4000, (0.8, 0.6), (0.4, 0.3)),
    "nested and crossed, weighted": lambda: _weighted(Lehmer(17)),
    "singular crossed": lambda: _crossed(Lehmer(25), (200, 150), 4000, (0.8, 0.6), (0.0, 0.0)),
}


@cache
def model(case: str) -> bl.Model:
    data = DATA[case]()
    return bl.Model(FORMULAS[case], data, weights="w" if "w" in data else None)


def reference() -> dict[str, Any]:
    return json.loads((HERE / "lme4_medium.json").read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["reml", "ml"])
@pytest.mark.parametrize("case", FORMULAS)
def test_fit_is_lme4s_or_better(case: str, method: str) -> None:
    fit, r = model(case).fit(method == "reml"), reference()[case][method]
    size = abs(r["criterion"])
    assert -BETTER * size <= fit.criterion - r["criterion"] <= WORSE * size
    assert fit.is_singular == r["singular"] == case.startswith("singular")
    np.testing.assert_allclose(_by_term(fit), _lme4_by_term(case, r), atol=THETA)
    assert fit.sigma == pytest.approx(r["sigma"], rel=ESTIMATE)
    np.testing.assert_allclose(fit.fixef(), r["beta"], rtol=ESTIMATE, atol=ESTIMATE)
    np.testing.assert_allclose(fit.vcov().to_numpy().ravel(), r["vcov"], rtol=20 * ESTIMATE, atol=1e-9)
    variances = fit.ranef_variances()
    for group, table in fit.ranef().items():
        known = pd.DataFrame(r["ranef"][group]).set_index("level")
        table.index = table.index.astype(str)
        values = table.loc[known.index.astype(str)].iloc[:, 0]
        np.testing.assert_allclose(values, known["value"], atol=THETA)
        order = [list(table.index).index(str(level)) for level in known.index]
        np.testing.assert_allclose(variances[group][order, 0, 0], known["variance"], rtol=1e-4, atol=1e-7)


def _by_term(fit: bl.REMLResult) -> np.ndarray:
    """Relative covariances, in the order of groups and effects that both sides can be sorted by."""
    rows = fit.varcorr().iloc[:-1]
    keys = rows["group"] + "/" + rows["effect1"].replace("Intercept", "(Intercept)")
    keys = keys + "/" + rows["effect2"].fillna("").astype(str)
    return (rows["vcov"] / fit.sigma**2).groupby(keys).sum().sort_index().to_numpy()


def _lme4_by_term(case: str, r: dict[str, Any]) -> np.ndarray:
    table = pd.DataFrame(r["varcorr"])
    keys = table["grp"].str.replace(r"\.\d+$", "", regex=True) + "/" + table["var1"] + "/" + table["var2"]
    return (table["vcov"] / r["sigma"] ** 2).groupby(keys).sum().sort_index().to_numpy()


def write(folder: Path) -> None:
    """The data for R."""
    index = []
    for case, formula in FORMULAS.items():
        data, name = DATA[case](), case.replace(" ", "_").replace(",", "") + ".csv"
        data.to_csv(folder / name, index=False, float_format="%.17g")
        index.append({"case": case, "formula": formula, "file": name, "weighted": "w" in data})
    (folder / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
