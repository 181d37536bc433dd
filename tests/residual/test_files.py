"""Files hold the residual structure, and those from before there was one are read as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.residual import Homoscedastic, PrecisionWeights
from bayeslmm.storage.encoding import Decoder, Encoder, VersionError

WEIGHTS = np.linspace(0.5, 3.0, 12)


def _model(weights: Any) -> bl.Model:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"y": rng.normal(size=12), "x": rng.normal(size=12), "g": list("aabbccddeeff")})
    return bl.Model("y ~ x + (1 | g)", frame, weights=weights)


def _earlier(design: Design) -> tuple[dict[str, Any], Decoder]:
    """A design as it was written when weights were one of its fields."""
    encoder = Encoder()
    text = encoder.encode(design, "design")
    del text["fields"]["residual"]
    text["fields"]["weights"] = encoder.encode(design.weights, "weights")
    return text, Decoder(encoder.arrays)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["none", "weights"])
def test_models_and_fits_come_back_with_their_structure(weights: Any, tmp_path: Path) -> None:
    model = _model(weights)
    assert model.design.residual == (Homoscedastic(12) if weights is None else PrecisionWeights(WEIGHTS))
    model.save(tmp_path / "model")
    model.fit().save(tmp_path / "fit")
    for name in ("model", "fit"):
        again = bl.load(tmp_path / name)
        assert again.design.residual == model.design.residual
        assert again.design == model.design
    assert bl.load(tmp_path / "fit").optimum.lam.shape == (0,)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["none", "weights"])
def test_designs_that_had_weights_and_no_structure_are_read(weights: Any) -> None:
    design = _model(weights).design
    text, decoder = _earlier(design)
    assert decoder.decode(text) == design


def test_weights_that_are_no_array_are_refused() -> None:
    text, decoder = _earlier(_model(WEIGHTS).design)
    text["fields"]["weights"] = "w"
    with pytest.raises(ValueError, match="the weights are no array"):
        decoder.decode(text)


def test_both_weights_and_a_structure_are_of_no_version() -> None:
    design = _model(WEIGHTS).design
    encoder = Encoder()
    text = encoder.encode(design, "design")
    text["fields"]["weights"] = encoder.encode(WEIGHTS)
    with pytest.raises(VersionError, match="weights"):
        Decoder(encoder.arrays).decode(text)


@pytest.mark.parametrize(
    ("residual", "found"),
    [
        (Homoscedastic(11), "those of 11 rows, not 12"),
        (PrecisionWeights(np.ones(11)), r"weights has shape \(11,\), not \(12,\)"),
        (PrecisionWeights(np.ones((12, 1))), r"weights has shape \(12, 1\)"),
        (PrecisionWeights(np.where(np.arange(12) == 3, np.nan, 1.0)), "no finite numbers"),
        (PrecisionWeights(np.where(np.arange(12) == 3, -1.0, 1.0)), "some weight is not positive"),
    ],
)
def test_contents_that_no_structure_has(residual: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        residual.check(12)
