"""Sums of chunks of rows on one frame: merged they are the sums of all rows, whatever the chunks."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pandas as pd
import pytest

from bayeslmm.design import build_design
from bayeslmm.design.design import Store
from bayeslmm.likelihood import CrossProducts, SummedDesign, conditional_means, cross_products, evaluate, profiled
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.reduction import frame_columns, frame_rows

EXACT = 1e-12
FORMULAS = {
    "slopes": "y ~ x + (x | g)",
    "crossed": "y ~ x + (x | g) + (1 | h)",
    "nested": "y ~ x + (1 | a/b) + (0 + x | a)",
    "nested and crossed": "y ~ x + (x | a/b) + (1 | h)",
    "no fixed effects": "y ~ 0 + (1 | g) + (1 | h)",
    "column twice in a level": "y ~ x + (1 + k | g) + (1 | h)",
}


def frame(n: int = 220) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    c = np.r_[np.arange(15), rng.integers(0, 15, n - 15)]
    data = pd.DataFrame({"x": rng.normal(1, 2, n), "a": c // 5, "b": c % 5, "h": rng.integers(0, 6, n)})
    data["g"] = np.r_[np.arange(12), rng.integers(0, 12, n - 12)]
    # Constant within the levels of g: there its column depends on the intercept.
    data["k"], data["w"] = (data["g"] % 3).astype(float), rng.uniform(0.2, 4.0, n)
    data["y"] = 20 + data["x"] + rng.normal(size=12)[data["g"]] + rng.normal(size=6)[data["h"]] + rng.normal(size=n)
    return data


def rows_of(cp: SummedDesign) -> FrameRows:
    return frame_rows(cp.design, cp.frame, frame_columns(cp), cp.response)


def sums_of(cp: SummedDesign, rows: FrameRows) -> Levels | Hierarchy:
    if isinstance(cp.sums, Levels):
        return Levels.of(cp.frame, rows, cp.sums.reference)
    return Hierarchy.of(cp.frame, rows)


def merged(cp: SummedDesign, chunks: list[np.ndarray]) -> CrossProducts:
    """Cross-products that know sums and coordinates only: of the design they have nothing."""
    rows = rows_of(cp)
    parts = [sums_of(cp, rows.take(np.asarray(chunk, dtype=np.int64))) for chunk in chunks]
    sums = reduce(lambda one, other: one.merge(other), parts)  # type: ignore[arg-type]
    return CrossProducts(sums, cp.response, cp.log_weights, cp.sigma_unit)


def same_criterion(cp: SummedDesign, other: CrossProducts) -> None:
    rng = np.random.default_rng(2)
    for scale in (0.0, 0.3, 1.0, 30.0):
        x = scale * rng.normal(size=cp.frame.n_theta)
        factors = par.internal_factors(cp, x)
        one, two = evaluate(cp, factors), evaluate(other, factors)
        for reml in (True, False):
            assert profiled(other, two, reml)[0] == pytest.approx(profiled(cp, one, reml)[0], rel=EXACT)
        left, right = conditional_means(cp, factors, one), conditional_means(other, factors, two)
        np.testing.assert_allclose(right.beta, left.beta, rtol=1e-9, atol=1e-9)
        for b, c in zip(right.b, left.b, strict=True):
            np.testing.assert_allclose(b, c, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize("name", list(FORMULAS))
def test_five_chunks_with_levels_split_between_them(name: str, store: Store, weighted: bool) -> None:
    design = build_design(FORMULAS[name], frame(), weights="w" if weighted else None, store=store)
    cp = cross_products(design)
    part = np.random.default_rng(3).integers(0, 5, design.n)
    other = merged(cp, [np.flatnonzero(part == k) for k in range(5)])
    assert other.n == cp.n
    same_criterion(cp, other)


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
@pytest.mark.parametrize("name", ["slopes", "nested and crossed"])
def test_an_empty_chunk_and_chunks_of_a_single_row(name: str, store: Store) -> None:
    cp = cross_products(build_design(FORMULAS[name], frame(), store=store))
    n = cp.design.n
    none = np.zeros(0, dtype=np.int64)
    same_criterion(cp, merged(cp, [none, np.arange(3, n), none, *(np.array([k]) for k in range(3)), none]))


@pytest.mark.parametrize("store", ["levels", "hierarchy"])
def test_the_order_of_merging_does_not_matter(store: Store) -> None:
    cp = cross_products(build_design(FORMULAS["crossed"], frame(), store=store))
    part = np.random.default_rng(5).integers(0, 3, cp.design.n)
    chunks = [np.flatnonzero(part == k) for k in range(3)]
    same_criterion(merged(cp, chunks), merged(cp, chunks[::-1]))


def test_sums_on_other_coordinates_are_refused() -> None:
    one = cross_products(build_design("y ~ x + (x | g)", frame()))
    data = frame().assign(x=lambda d: 2 * d["x"] + 1)
    other = cross_products(build_design("y ~ x + (x | g)", data))
    with pytest.raises(ValueError, match="different frames"):
        one.sums.merge(other.sums)
