"""Polynomials of what is left of the last effects, against the likelihood by another elimination."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bayeslmm.bayes import collapsed, surrogate_last
from bayeslmm.bayes import surrogate as sur
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.importance import importance_points
from bayeslmm.bayes.progress import Progress
from bayeslmm.bayes.surrogate_last import LastSurrogate
from bayeslmm.bayes.target import Target, make_target
from bayeslmm.design import build_design
from bayeslmm.errors import FitError
from bayeslmm.likelihood import SummedDesign, cross_products, last_blocks
from bayeslmm.numerics.resample import normalised, systematic
from bayeslmm.reml import optimise

# Root mean square of the error of log densities, and the largest where no draw may ever be.
RMS, FAR = 1e-3, 0.02
# The first where polynomials are functions of all parameters, as in `test_surrogate`.
IN_ALL = 3e-3

FORMULAS = {
    "crossed": "y ~ x + (1 | a) + (1 | g) + (1 | h)",
    "two factors of few levels": "y ~ x + (1 | a) + (1 | g) + (1 | h) + (1 | k)",
    "slopes of few levels": "y ~ x + (1 | a) + (1 | g) + (x | h)",
    "slopes of many": "y ~ x + (x || a) + (1 | g) + (1 | h)",
    "one factor of many": "y ~ x + (1 | a) + (1 | h)",
    "no fixed effects": "y ~ 0 + (1 | a) + (1 | g) + (1 | h)",
}


def frame(**sds: float) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    n, levels = 400, {"a": 40, "g": 25, "h": 5, "k": 4}
    data = pd.DataFrame({"x": rng.normal(size=n)} | {name: rng.integers(0, J, n) for name, J in levels.items()})
    y = 3.0 + data["x"] + rng.normal(size=n)
    for name, J in levels.items():
        y = y + sds.get(name, 0.6) * rng.normal(size=J)[data[name]]
    return data.assign(y=y)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factors g and a have many levels."""
    monkeypatch.setattr(last_blocks, "_FEW", 15)


def both(formula: str, data: pd.DataFrame, preset: str = "default") -> tuple[Target, Target, np.ndarray]:
    """Targets of the same posterior as a hierarchy and level by level, and the start."""
    targets = []
    for store in ("hierarchy", "levels"):
        cp = cross_products(build_design(formula, data, store=store))
        priors = default_priors(cp.design) if preset == "default" else resolve_priors(cp.design, preset)
        targets.append(make_target(cp, priors, optimise(cp).terms))
    (hierarchy, start), (levels, _) = targets
    return hierarchy, levels, start


def draws(target: Target, start: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    sample = importance_points(target, start, 1000, rng)
    return sample.points.x[systematic(normalised(sample.log_weights), count, rng)]


def differences(one: Target, other: Target, x: np.ndarray) -> np.ndarray:
    return np.asarray(one.evaluate(x).log_density - other.evaluate(x).log_density)


@pytest.mark.parametrize("preset", ["default", "weak"])
@pytest.mark.parametrize("name", FORMULAS)
def test_density_at_draws(name: str, preset: str) -> None:
    hierarchy, levels, start = both(FORMULAS[name], frame(), preset)
    target = sur.build_surrogate(hierarchy, start, Progress())
    assert isinstance(target.surrogate, LastSurrogate)
    off = differences(target, levels, draws(levels, start, 200))
    assert np.sqrt(np.mean(off**2)) < RMS


@pytest.mark.parametrize("sds", [{"h": 0.0}, {"g": 0.0}, {"a": 0.0}, {"a": 0.0, "g": 0.0, "h": 0.0}], ids=str)
def test_density_near_zero(sds: dict[str, float]) -> None:
    hierarchy, levels, start = both(FORMULAS["crossed"], frame(**sds))
    off = differences(sur.build_surrogate(hierarchy, start, Progress()), levels, draws(levels, start, 200))
    assert np.sqrt(np.mean(off**2)) < RMS


def test_there_is_no_end_along_a_factor_of_few_levels() -> None:
    """From an sd of exactly zero to thousands of times the residual's, whatever the polynomial was fitted to."""
    hierarchy, levels, start = both(FORMULAS["crossed"], frame())
    target = sur.build_surrogate(hierarchy, start, Progress())
    x = draws(levels, start, 60)
    own = target.surrogate.own
    assert own.tolist() == [True, True, False]
    x[:, ~own] = np.linspace(0.0, 12.0, 60)[:, None]
    x[::2, ~own] *= -1.0
    assert np.abs(differences(target, levels, x)).max() < FAR


@pytest.mark.parametrize("shift", [1e4, 1e6])
def test_multiples_of_the_fixed_effects_cancel(shift: float) -> None:
    data = frame()
    shifted = data.assign(y=data["y"] + shift * (1.0 + data["x"]))
    hierarchy, levels, start = both(FORMULAS["crossed"], shifted)
    off = differences(sur.build_surrogate(hierarchy, start, Progress()), levels, draws(levels, start, 100))
    assert np.sqrt(np.mean(off**2)) < RMS


def test_without_any_factor_the_likelihood_itself_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(a: np.ndarray) -> np.ndarray:
        return np.full_like(a, np.nan)

    monkeypatch.setattr(surrogate_last.small, "cholesky_if_positive", none)
    cp = hierarchy()
    drawn = collapsed.sample_collapsed(
        cp, default_priors(cp.design), optimise(cp).terms, draws=300, rng=np.random.default_rng(1)
    )
    assert drawn.diagnostics.surrogate_error is None and drawn.diagnostics.reliable


def hierarchy() -> SummedDesign:
    return cross_products(build_design(FORMULAS["crossed"], frame(), store="hierarchy"))


def test_many_points_hold_what_concerns_beta_alone() -> None:
    """Thousands of dense blocks would fill the memory."""
    cp, rng = hierarchy(), np.random.default_rng(1)
    factors = [rng.uniform(0.1, 2.0, (7, 1, 1)) for _ in cp.blocks]
    many, each = cp.sums.evaluate_many(factors), cp.sums.evaluate(factors)
    assert many.chol.shape == (7, cp.p, cp.p) and many.solution.shape == (7, cp.p)
    assert many.chol.base is None and many.hierarchy is None and not many.trailing.size
    for name in ("log_det", "log_det_fixed", "r2"):
        np.testing.assert_array_equal(getattr(many, name), getattr(each, name))
    np.testing.assert_array_equal(many.chol, each.chol[:, cp.q_trailing :, cp.q_trailing :])


def test_a_point_that_cannot_be_factored_is_no_end_of_the_others() -> None:
    """As where sds are so large that rounding is all that is left of a system: here by sums that no rows have."""
    cp = hierarchy()
    size = np.array([0.01, 10.0, 0.02])[:, None, None]
    factors = [np.full((3, 1, 1), 0.7), size, size]
    D, q = cp.sums.D.copy(), cp.q_trailing
    D[:q, :q] -= 1000.0 * np.eye(q)
    sums = replace(cp.sums, D=D)
    with pytest.raises(np.linalg.LinAlgError):
        sums.evaluate(factors)
    last = sums.last_blocks(sums.evaluate([T[:1] for T in factors]))
    assert last is not None
    alone = [sums.evaluate([T[[k]] for T in (*factors[:1], size[:1].repeat(3, 0), size)]) for k in (0, 2)]
    many = sums.evaluate_many(factors), last.evaluate([size], 3)
    for found, others in zip(many, ([sums.evaluate([T[[k]] for T in factors]) for k in (0, 2)], alone), strict=True):
        for name in ("log_det", "log_det_fixed", "r2"):
            values = getattr(found, name)
            assert np.isnan(values[1])
            np.testing.assert_allclose(values[[0, 2]], [getattr(o, name)[0] for o in others], rtol=1e-9)


def test_points_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of thousands of points at once would fill the memory."""
    hierarchy, _, start = both(FORMULAS["two factors of few levels"], frame())
    target = sur.build_surrogate(hierarchy, start, Progress())
    x = draws(hierarchy, start, 50)
    whole = target.evaluate(x).log_density
    largest, factored = [], surrogate_last.small.cholesky_if_positive

    def spy(a: np.ndarray) -> np.ndarray:
        largest.append(a.size)
        return factored(a)

    monkeypatch.setattr(surrogate_last, "_CHUNK", 2_000)
    monkeypatch.setattr(surrogate_last.small, "cholesky_if_positive", spy)
    np.testing.assert_allclose(target.evaluate(x).log_density, whole, rtol=1e-12)
    assert len(largest) > 10 and max(largest) <= 2_000


def test_of_very_many_columns_nothing_is_left_to_every_density(monkeypatch: pytest.MonkeyPatch) -> None:
    data = frame()
    data["h"] = np.arange(len(data)) % 15
    data["y"] += np.random.default_rng(2).normal(size=15)[data["h"]]
    monkeypatch.setattr(sur, "_MOST_LEFT", 16)
    hierarchy, levels, start = both(FORMULAS["crossed"], data)
    target = sur.build_surrogate(hierarchy, start, Progress())
    assert isinstance(target.surrogate, sur.Surrogate)
    off = differences(target, levels, draws(levels, start, 100))
    assert np.sqrt(np.mean(off**2)) < IN_ALL


def test_effects_beyond_all_digits_are_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a factorisation fails there depends on the processor, so it is made to."""

    def failing(*_: object) -> None:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")

    monkeypatch.setattr(collapsed, "_points", failing)
    cp = hierarchy()
    terms = [np.eye(1), np.eye(1), np.full((1, 1), 3e8)]
    with pytest.raises(FitError, match=r"up to 3e\+08 times the standard deviation of the residuals"):
        collapsed.sample_collapsed(cp, default_priors(cp.design), terms, draws=100, rng=np.random.default_rng(1))
