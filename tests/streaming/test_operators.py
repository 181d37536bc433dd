"""Crossed factors that are kept as an operator, from chunks: the same model as from rows in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.likelihood import structure
from bayeslmm.likelihood.crossed import Crossed

FORMULAS = ("y ~ x + (1 | u) + (1 | f)", "y ~ x + (x | u) + (1 | f) + (1 | k)")


def data() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 900
    frame = pd.DataFrame({name: rng.integers(0, size, n) for name, size in (("u", 60), ("f", 40), ("k", 9))})
    frame["x"] = rng.normal(1.0, 2.0, n)
    effects = 0.6 * rng.normal(size=60)[frame["u"]] + 0.4 * rng.normal(size=40)[frame["f"]]
    return frame.assign(y=2.0 + frame["x"] + effects + 0.3 * rng.normal(size=9)[frame["k"]] + rng.normal(size=n))


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("store", ["packed", "stochastic"])
def test_the_same_fit(formula: str, store: str, tmp_path: Path) -> None:
    frame = data()
    whole = bl.Model(formula, frame, store=store).fit()  # type: ignore[arg-type]
    chunks = [frame[:250], frame[250:251], frame[251:]]
    model = bl.Model(formula, chunks, store=store, memory=0, progress=False)  # type: ignore[arg-type]
    fit = model.fit()
    assert isinstance(fit.cp.sums, Crossed) and fit.optimum.doubt == 0.0
    assert fit.criterion == pytest.approx(whole.criterion, rel=1e-12)
    np.testing.assert_allclose(fit.theta, whole.theta, rtol=1e-6, atol=1e-9)
    for group, effects in whole.ranef().items():
        np.testing.assert_allclose(fit.ranef()[group], effects, rtol=1e-6, atol=1e-8)
    numbers = [table.select_dtypes("number").to_numpy() for table in (fit.shrinkage(), whole.shrinkage())]
    np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-7)
    with pytest.raises(bl.StorageError, match="store='hierarchy'"):
        fit.save(tmp_path / "fit")


def test_pieces_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayeslmm.sources.protocol.MOST_ROWS", 300)
    monkeypatch.setattr("bayeslmm.sources.parquet.PIECE_ROWS", 300)
    monkeypatch.setattr("bayeslmm.streaming.sums._TOGETHER", 100)
    merged = Crossed.merge
    calls = []
    monkeypatch.setattr(Crossed, "merge", lambda one, other: calls.append(1) or merged(one, other))
    frame = data()
    for k in range(3):
        frame[k * 300 : (k + 1) * 300].to_parquet(tmp_path / f"{k}.parquet")
    model = bl.Model(FORMULAS[0], tmp_path, store="packed", checkpoint=tmp_path / "kept", progress=False)
    exact = bl.Model(FORMULAS[0], frame, store="hierarchy").fit()
    assert model.fit().criterion == pytest.approx(exact.criterion, rel=1e-11)
    assert len(calls) == 2


def test_taken_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "DENSE", 10)
    monkeypatch.setattr(structure, "SQUARE", 20)
    monkeypatch.setattr("bayeslmm.streaming.framing.DENSE", 10)
    frame = data()
    models = [bl.Model(FORMULAS[0], given, progress=None) for given in (frame, [frame[:400], frame[400:]])]
    one, other = (model.fit() for model in models)
    assert one.cp.plan.store == other.cp.plan.store == "anchored"
    assert other.criterion == pytest.approx(one.criterion, rel=1e-12)
