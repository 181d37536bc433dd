"""What is recorded of rows, counted chunk by chunk, against the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.design import Design

from .models import FORMULAS, data, whole
from .rowless import facts as facts_of


def fact_columns(design: Design) -> np.ndarray:
    """The columns (n, k) that `RowFacts` are about."""
    parts = [np.ones((design.n, 1)), design.X, *(term.Z for term in design.terms), design.y_less_offset[:, None]]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("kind", tuple(FORMULAS))
def test_facts_are_those_of_the_rows(kind: str, size: int) -> None:
    design = whole(kind).design
    facts, columns = facts_of(whole(kind), size), fact_columns(design)
    counts = np.ones(design.n) if design.frequency is None else design.frequency
    rows = np.repeat(columns, counts.astype(int), axis=0)
    np.testing.assert_allclose(facts.means, rows.mean(0), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(facts.sds(1), rows.std(0, ddof=1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(facts.triangle.T @ facts.triangle, rows.T @ rows, rtol=1e-12, atol=1e-10)
    assert (facts.low == columns.min(0)).all() and (facts.high == columns.max(0)).all()
    assert facts.n_observations == len(rows) and facts.n == design.n
    for name, grouping in design.groupings.items():
        table = pd.DataFrame(columns).groupby(grouping.codes)
        assert (facts.varies[name] == (table.nunique() > 1).any().to_numpy()).all()
        assert (facts.sizes[name] == pd.Series(counts).groupby(grouping.codes).sum()).all()
        assert (facts.present[name] == (table.agg(lambda column: (column != 0).any())).sum().to_numpy()).all()
    if design.weights is not None:
        known = np.repeat(design.weights, counts.astype(int))
        expected = [known.min(), known.max(), known.mean(), (1 / known).mean()]
        np.testing.assert_allclose(facts.weights or (), expected, rtol=1e-13)
        assert facts.log_weights == pytest.approx(np.log(known).sum(), rel=1e-12)


def test_nested_factors_are_found() -> None:
    design = whole("hierarchy").design
    facts = facts_of(whole("hierarchy"), 11)
    assert set(facts.parents) == {("g", "s")}
    codes = {name: design.groupings[name].codes for name in ("g", "s")}
    assert (facts.parents["g", "s"][codes["g"]] == codes["s"]).all()


@pytest.mark.parametrize("kind", ["hierarchy", "frequency", "weights"])
def test_records_of_pieces_are_merged(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayeslmm.sources.protocol.MOST_ROWS", 80)
    monkeypatch.setattr("bayeslmm.sources.parquet.PIECE_ROWS", 80)
    (folder := tmp_path / "rows").mkdir()
    for k, rows in enumerate(np.array_split(np.arange(len(data())), 3)):
        data().iloc[rows].to_parquet(folder / f"{k}.parquet")
    data().iloc[:0].astype(data().dtypes).to_parquet(folder / "no rows.parquet")
    formula, options = FORMULAS[kind]
    design = bl.Model(formula, folder, checkpoint=tmp_path / "kept", progress=False, **options).design  # type: ignore[arg-type]
    assert len(list((tmp_path / "kept").iterdir())) >= 6
    found, expected = design.facts, facts_of(whole(kind), 80)
    assert found is not None
    grams = [facts.triangle.T @ facts.triangle for facts in (found, expected)]
    np.testing.assert_allclose(*grams, rtol=1e-12, atol=1e-12 * np.abs(grams[1]).max())
    assert set(found.parents) == set(expected.parents)
    for name in design.groupings:
        assert (found.varies[name] == expected.varies[name]).all()
        assert (found.sizes[name] == expected.sizes[name]).all()


def test_columns_far_from_zero_keep_their_digits() -> None:
    rng = np.random.default_rng(1)
    x = 1e9 + rng.integers(0, 9, 300)
    frame = pd.DataFrame({"y": 1e8 + rng.normal(size=300), "x": x, "g": np.arange(300) % 10})
    facts = facts_of(bl.Model("y ~ x + (x | g)", frame), 40)
    own = facts.sds()[[2, 4, 5]]
    exact = (x - 1e9).std(), (x - 1e9).std(), (frame["y"] - 1e8).std(ddof=0)
    np.testing.assert_allclose(own, exact, rtol=1e-12)


def test_many_rows_are_factorised_in_blocks() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"y": rng.normal(size=5000), "x": 1e6 + rng.normal(size=5000), "g": np.arange(5000) % 50})
    model = bl.Model("y ~ x + (x | g)", frame)
    facts, columns = facts_of(model, 5000), fact_columns(model.design)
    np.testing.assert_allclose(facts.sds(), columns.std(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(facts.means, columns.mean(0), rtol=1e-13, atol=1e-14)
