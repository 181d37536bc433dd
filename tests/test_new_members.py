"""What CONTRIBUTING says of new structures and priors is enough: members made here go through both engines.

New structures of residuals are those of `tests/residual/members.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

import bayeslmm as bl


@dataclass(frozen=True)
class Chained(bl.AR1):
    """Another name and another class for what ``ar1`` is: nothing outside may ask which structure it has."""

    size: int = 0
    keyword: ClassVar[str] = "chained"
    description: ClassVar[str] = "correlations that fall with the distance"

    def resized(self, size: int) -> Chained:
        return replace(self, size=size)


@dataclass(frozen=True)
class Half:
    """Half-normal, written without anything of the package."""

    scale: float
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = True
    relative: ClassVar[bool] = False

    def log_density(self, s: np.ndarray) -> np.ndarray:
        return np.log(2.0) - 0.5 * np.log(2.0 * np.pi) - np.log(self.scale) - 0.5 * (s / self.scale) ** 2

    def quantile(self, probability: float) -> float:
        return self.scale * float(ndtri((1.0 + probability) / 2.0))

    def __str__(self) -> str:
        return f"half({self.scale:g})"


@pytest.fixture(scope="module")
def series() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame([(g, t) for g in range(14) for t in "abcd" for _ in range(2)], columns=["g", "t"])
    effects = np.cumsum(rng.normal(size=(14, 4)), axis=1)
    frame["y"] = effects[frame.g, frame.t.map("abcd".index)] + rng.normal(size=len(frame))
    return frame


@pytest.fixture(scope="module")
def models(series: pd.DataFrame) -> tuple[bl.Model, bl.Model]:
    formula = "y ~ 1 + (0 + t | g)"
    return bl.Model(formula, series, cov={"g": Chained()}), bl.Model(formula, series, cov={"g": bl.AR1()})


def test_a_new_structure_is_fitted(models: tuple[bl.Model, bl.Model]) -> None:
    ours, known = (model.fit() for model in models)
    assert ours.criterion == known.criterion
    np.testing.assert_array_equal(ours.estimates(), known.estimates())
    np.testing.assert_array_equal(ours.confint(), known.confint())
    assert ours.is_singular == known.is_singular
    reports = [" ".join(str(fit.boundary("none", detail="brief")).split()) for fit in (ours, known)]
    assert reports[0].replace("chained", "ar1") == reports[1]


def test_a_new_structure_is_sampled(models: tuple[bl.Model, bl.Model]) -> None:
    ours, known = (model.sample(200, random_seed=3) for model in models)
    np.testing.assert_array_equal(ours.table(), known.table())
    np.testing.assert_array_equal(ours.table(), bl.compare(models[0].fit(), ours).posterior.table())


def test_a_new_structure_is_a_model_of_pymc(models: tuple[bl.Model, bl.Model]) -> None:
    ours, known = (model.to_pymc() for model in models)
    point = known.initial_point()
    assert ours.compile_logp()(point) == known.compile_logp()(point)
    assert models[0].latex() == models[1].latex()


def test_a_new_prior_is_used(series: pd.DataFrame) -> None:
    model = bl.Model("y ~ 1 + (1 | g)", series)
    ours, known = (
        model.sample(400, priors={"sd_g": prior}, random_seed=3) for prior in (Half(2.0), bl.HalfNormal(2.0))
    )
    np.testing.assert_allclose(ours.table(), known.table(), rtol=1e-12)
    assert ours.log_evidence == pytest.approx(known.log_evidence, rel=1e-12)
    assert "half(2)" in str(ours.prior_table().to_dict())
    np.testing.assert_allclose(
        ours.bayes_factor("sd_g", scales=(1,)).bf01, known.bayes_factor("sd_g", scales=(1,)).bf01, rtol=1e-9
    )
