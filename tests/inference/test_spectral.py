"""One variance reduced to independent contrasts: against dense linear algebra, stored intervals, and invariances."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.inference import spectral
from bayeslmm.inference.ratio import f_test, pivot_interval
from bayeslmm.inference.spectral import spectrum

HERE = Path(__file__).parent
STORED: dict[str, Any] = json.loads(gzip.decompress((HERE / "exact_ratio_intervals.json.gz").read_bytes()))
CASES: dict[str, Any] = json.loads(gzip.decompress((HERE.parent / "reference" / "lme4_cases.json.gz").read_bytes()))
ONEWAY: dict[str, Any] = json.loads(gzip.decompress((HERE.parent / "reference" / "oneway.json.gz").read_bytes()))
NIST: dict[str, Any] = json.loads(gzip.decompress((HERE.parent / "reference" / "nist_anova.json.gz").read_bytes()))
CONTRASTS = {"contr.sum": "sum", "contr.helmert": "helmert"}
INTERVAL = 1e-8


def stored_model(case: str) -> bl.Model:
    info = CASES[case]
    index = json.loads((HERE.parent / "reference" / "data" / "index.json").read_text())[info["dataset"]]
    factors = {name: column["levels"] for name, column in index["columns"].items() if column.get("levels")}
    data = pd.read_csv(HERE.parent / "reference" / "data" / index["file"], dtype=dict.fromkeys(factors, str))
    for name, levels in factors.items():
        data[name] = pd.Categorical(data[name], [str(level) for level in levels])
    contrasts = {column: CONTRASTS[kind] for column, kind in (info["contrasts"] or {}).items()}
    return bl.Model(info["formula"], data, contrasts=contrasts)


@pytest.mark.parametrize("case", sorted(set(STORED) & set(CASES)))
def test_intervals_and_tests_against_stored_ones(case: str) -> None:
    expected = STORED[case]
    found = spectrum(stored_model(case).design, 0, (0,))
    assert (found.r, found.f) == (expected["r"], expected["f"])
    np.testing.assert_allclose(found.mu, expected["eigenvalues_mu"], rtol=1e-10)
    test = f_test(found)
    np.testing.assert_allclose([test.statistic[0], test.p_value[0]], [expected["F0"], expected["p_F"]], rtol=INTERVAL)
    for level, ends in zip(expected["levels"], expected["lambda"], strict=True):
        np.testing.assert_allclose(np.ravel(pivot_interval(found, level)), ends, rtol=INTERVAL)


def test_one_way_closed_form() -> None:
    expected = ONEWAY["Dyestuff"]
    found = spectrum(bl.Model(expected["formula"], bl.load_dataset("Dyestuff")).design, 0, (0,))
    np.testing.assert_allclose(found.sse, expected["SSW"], rtol=1e-12)
    np.testing.assert_allclose((found.t**2).sum(), expected["SSB"], rtol=1e-12)
    for level, block in expected["exact_F_pivot_intervals"].items():
        np.testing.assert_allclose(np.ravel(pivot_interval(found, float(level))), block["lambda"], rtol=INTERVAL)


@pytest.mark.parametrize("name", NIST)
def test_f_of_nist_data_sets_with_many_constant_digits(name: str) -> None:
    expected = NIST[name]
    frame = pd.read_csv(HERE.parent / "reference" / "nist" / expected["file"])
    group, y = frame.columns
    found = f_test(spectrum(bl.Model(f"{y} ~ 1 + (1 | {group})", frame).design, 0, (0,)))
    assert found.statistic[0] == pytest.approx(expected["exact_from_binary64_data"]["F"], rel=1e-12)


def data(rng: np.random.Generator, n: int = 150) -> pd.DataFrame:
    frame = pd.DataFrame({"g": rng.integers(0, 25, n), "h": rng.integers(0, 6, n), "x": rng.normal(1e3, 1.0, n)})
    frame["w"], frame["k"] = rng.uniform(0.5, 2.0, n), rng.integers(1, 4, n)
    frame["y"] = rng.normal(size=25)[frame["g"]] + rng.normal(size=n)
    return frame


def dense(design: Design, term: int, effects: tuple[int, ...], projected: bool) -> tuple[np.ndarray, ...]:
    """Eigenvalues, squares of the projections, SSE and rank of X by singular value decompositions of the columns."""
    root = np.ones(design.n) if design.row_weights is None else np.sqrt(design.row_weights)

    def indicators(i: int, k: int) -> np.ndarray:
        codes = design.groupings[design.terms[i].group].codes
        return np.eye(codes.max() + 1)[codes] * design.terms[i].Z[:, [k]]

    mine = [(term, k) for k in effects]
    every = [(i, k) for i, t in enumerate(design.terms) for k in range(len(t.effects))]
    rest = [indicators(*key) for key in every if projected and key not in mine]
    X = np.hstack([design.X, *rest]) * root[:, None]
    U, s, _ = np.linalg.svd(X / np.linalg.norm(X, axis=0), full_matrices=False)
    U = U[:, s > 1e-10 * s[0]]
    Z = np.hstack([indicators(*key) for key in mine]) * root[:, None]
    u, s, _ = np.linalg.svd(Z - U @ (U.T @ Z), full_matrices=False)
    keep = s > 1e-7 * s[0]
    y = design.y * root
    y = y - U @ (U.T @ y)
    t = u[:, keep].T @ y
    left = y - u[:, keep] @ t
    return s[keep] ** 2, t**2, left @ left, np.array(U.shape[1])


SHAPES = [
    ("y ~ x + (1 | g)", 0, (0,), {}),
    ("y ~ x + C(h) + (1 | g)", 0, (0,), {"weights": "w"}),
    ("y ~ x + (x | g)", 0, (1,), {}),
    ("y ~ x + (x || g)", 0, (0,), {}),
    ("y ~ x + (1 | g) + (1 | h)", 1, (0,), {"frequency": "k"}),
    ("y ~ 0 + x + (1 | g) + (1 | h)", 0, (0,), {"frequency": "k", "weights": "w"}),
    ("y ~ x + id(0 + C(h) | g)", 0, tuple(range(6)), {"saturated": "allow"}),
]


@pytest.mark.parametrize("others", ["projected", "ignored"])
@pytest.mark.parametrize(("formula", "term", "effects", "more"), SHAPES)
def test_against_dense_algebra(
    rng: np.random.Generator, formula: str, term: int, effects: tuple[int, ...], more: dict[str, str], others: Any
) -> None:
    frame = data(rng, 300)
    design = bl.Model(formula, frame, **more).design  # type: ignore[arg-type]
    mu, squares, sse, p = dense(design, term, effects, others == "projected")
    found = spectrum(design, term, effects, others=others)
    assert found.p == p
    assert found.f == design.n_observations - p - mu.size
    np.testing.assert_allclose(found.mu, mu, rtol=1e-9)
    np.testing.assert_allclose(found.sse[0], sse, rtol=1e-9)
    for lam in (0.0, 0.03, 2.0):
        ours, theirs = found.t[0] ** 2 / (1 + lam * found.mu), squares / (1 + lam * mu)
        np.testing.assert_allclose(ours.sum(), theirs.sum(), rtol=1e-9)


def test_many_levels_of_few_sizes_take_the_same_values(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    design = bl.Model("y ~ x + C(h) + (1 | g)", data(rng, 400).assign(g=np.arange(400) % 90 // 1)).design
    whole = spectrum(design, 0, (0,))
    monkeypatch.setattr(spectral, "LARGEST", 40)
    again = spectrum(design, 0, (0,))
    np.testing.assert_allclose(again.mu, whole.mu, rtol=1e-10)
    np.testing.assert_allclose(again.sse, whole.sse, rtol=1e-12)
    for lam in (0.0, 0.1, 5.0):
        sums = [(s.t[0] ** 2 / (1 + lam * s.mu)).sum() for s in (whole, again)]
        np.testing.assert_allclose(sums[1], sums[0], rtol=1e-10)


@pytest.mark.parametrize(("shift", "scale"), [(1e8, 1.0), (0.0, 1e-8), (-1e6, 1e6)])
def test_equivariance(rng: np.random.Generator, shift: float, scale: float) -> None:
    frame = data(rng)
    design = bl.Model("y ~ x + (1 | g)", frame).design
    Y = np.round(rng.normal(size=(design.n, 3)) * 2**10) / 2**10
    plain, moved = spectrum(design, 0, (0,), Y), spectrum(design, 0, (0,), shift + scale * Y)
    tolerance = 1e-8 if shift else 1e-12
    np.testing.assert_allclose(moved.sse, plain.sse * scale**2, rtol=tolerance)
    np.testing.assert_allclose(pivot_interval(moved), pivot_interval(plain), rtol=tolerance)


def test_coverage_of_the_interval_in_an_unbalanced_design(rng: np.random.Generator) -> None:
    design = bl.Model("y ~ x + (1 | g)", data(rng, 60)).design
    codes, K, ratio = design.groupings["g"].codes, 4000, 0.3
    effects = np.sqrt(ratio) * rng.normal(size=(codes.max() + 1, K))
    low, high = pivot_interval(spectrum(design, 0, (0,), effects[codes] + rng.normal(size=(design.n, K))), 0.9)
    assert stats.binomtest(int(((low <= ratio) & (ratio <= high)).sum()), K, 0.9).pvalue > 1e-4
    assert stats.binomtest(int((low > ratio).sum()), K, 0.05).pvalue > 1e-4


def test_intervals_at_the_ends(rng: np.random.Generator) -> None:
    codes = np.repeat(np.arange(4), 3)
    design = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": rng.normal(size=12), "g": codes})).design
    within = np.tile([-1.0, 0.0, 1.0], 4)
    none, perfect = within, codes.astype(float)
    low, high = pivot_interval(spectrum(design, 0, (0,), np.column_stack([none, perfect])))
    assert (low[0], high[0]) == (0.0, 0.0)
    # rounding of the projections leaves a residual of 1e-32 where there is none
    assert low[1] > 1e15


def test_refusals(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = data(rng)
    with pytest.raises(DesignError, match="lies in the span of the fixed effects"):
        spectrum(bl.Model("y ~ C(g) + (1 | g)", frame).design, 0, (0,))
    with pytest.raises(DesignError, match="do not have one variance"):
        spectrum(bl.Model("y ~ x + (x | g)", frame).design, 0, (0, 1))
    with pytest.raises(DesignError, match="unknown"):
        spectrum(bl.Model("y ~ x + (1 | g)", frame).design, 0, (0,), others="fixed")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="0 degrees of freedom"):
        four = frame.head(4).assign(g=list("aabb"), h=list("xyxz"))
        spectrum(bl.Model("y ~ 1 + (1 | g) + (1 | h)", four, saturated="allow").design, 0, (0,))
    design = bl.Model("y ~ x + (1 | g)", frame, weights="w").design
    monkeypatch.setattr(spectral, "LARGEST", 10)
    with pytest.raises(DesignError, match="dense matrix"):
        spectrum(design, 0, (0,))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
