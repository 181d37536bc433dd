"""What is kept, what an interruption leaves, what is reported, and that seeds decide everything."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes import completion
from bayeslmm.bayes.collapsed import sample_collapsed
from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.progress import Progress
from bayeslmm.design import build_design
from bayeslmm.errors import ConvergenceWarning, FitError
from bayeslmm.likelihood import SummedDesign, cross_products
from bayeslmm.reml import optimise
from bayeslmm.results import sampling

STORES = ("levels", "hierarchy")


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 90
    g, h = rng.integers(0, 9, n), rng.integers(0, 7, n)
    y = 3 + rng.normal(size=9)[g] + rng.normal(size=7)[h] + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": rng.normal(size=n), "g": g, "h": h})


FORMULA = "y ~ x + (1 | g) + (1 | h)"


@pytest.fixture(scope="module", params=STORES)
def optimum(request: pytest.FixtureRequest) -> tuple[SummedDesign, Any]:
    """Cross-products in both stores, with the terms of the fit."""
    cp = cross_products(build_design(FORMULA, frame(), store=request.param))
    return cp, optimise(cp).terms


def in_chunks(patch: pytest.MonkeyPatch, cp: SummedDesign) -> None:
    """Random effects are drawn in chunks of 100."""
    width = cp.blocks[0].n_levels * cp.blocks[0].size ** 2 + cp.q_trailing**2 + 1
    patch.setattr(completion, "_CHUNK", 100 * width)
    patch.setattr(completion, "_LARGE_CHUNK", 100)


@pytest.fixture
def parts(optimum: tuple[SummedDesign, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[SummedDesign, Any]:
    in_chunks(monkeypatch, optimum[0])
    return optimum


@pytest.fixture(scope="module")
def whole(optimum: tuple[SummedDesign, Any]) -> Any:
    """All draws of one seed; not to be changed in place."""
    with pytest.MonkeyPatch.context() as patch:
        in_chunks(patch, optimum[0])
        return draw(optimum)


def draw(parts: tuple[SummedDesign, Any], **more: Any) -> Any:
    cp, terms = parts
    rng = np.random.default_rng(more.pop("seed", 1))
    return sample_collapsed(cp, default_priors(cp.design), terms, **{"draws": 350, "rng": rng, **more})


class Stopped:
    """Draws parts until somebody presses a key."""

    def __init__(self, after: int) -> None:
        self.left, self.draw = after, completion.joint_draws

    def __call__(self, *args: Any, **more: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return self.draw(*args, **more)


def test_an_interruption_leaves_what_was_drawn(
    parts: tuple[SummedDesign, Any], whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "joint_draws", Stopped(2))
    with pytest.warns(ConvergenceWarning, match=r"200 of 350 draws"):
        part = draw(parts)
    assert part.beta.shape[0] == part.sigma.shape[0] == part.sds[0].shape[0] == part.b[0].shape[0] == 200
    # They are the first draws of the whole: nothing is mixed up.
    np.testing.assert_array_equal(part.beta, whole.beta[:200])
    np.testing.assert_array_equal(part.sigma, whole.sigma[:200])
    np.testing.assert_array_equal(part.sds[1], whole.sds[1][:200])
    np.testing.assert_array_equal(part.b[1], whole.b[1][:200])


def test_an_interruption_before_any_draw_goes_through(
    parts: tuple[SummedDesign, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "joint_draws", Stopped(0))
    with pytest.raises(KeyboardInterrupt):
        draw(parts)


@pytest.mark.parametrize("kept", [(True, False), (False, True), (False, False)])
def test_only_what_is_kept_is_stored(parts: tuple[SummedDesign, Any], whole: Any, kept: tuple[bool, bool]) -> None:
    some = draw(parts, keep=kept)
    np.testing.assert_array_equal(some.beta, whole.beta)
    for keep, values, all_values in zip(kept, some.b, whole.b, strict=True):
        assert (values is not None) == keep
        if keep:
            np.testing.assert_array_equal(values, all_values)


def test_progress_counts_the_draws(parts: tuple[SummedDesign, Any]) -> None:
    class Heard(Progress):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[tuple[str, int, int]] = []

        def report(self, stage: str, done: int, total: int) -> None:
            self.told.append((stage, done, total))

    heard = Heard()
    draw(parts, progress=heard)
    effects = [(done, total) for stage, done, total in heard.told if stage == "random effects"]
    assert effects[0][0] <= 100 and effects[-1] == (350, 350)
    assert effects == sorted(effects)
    assert all(done <= total for _, done, total in heard.told)


def test_seeds_decide_everything(parts: tuple[SummedDesign, Any], whole: Any) -> None:
    again, other = draw(parts), draw(parts, seed=2)
    for name in ("beta", "sigma"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    np.testing.assert_array_equal(again.b[0], whole.b[0])
    assert not np.array_equal(whole.beta, other.beta)
    assert len(np.unique(whole.beta[:, 0])) == 350


@pytest.fixture(scope="module")
def model() -> Iterator[bl.Model]:
    yield bl.Model(FORMULA, frame())


@pytest.mark.parametrize(
    ("keep", "stored"),
    [(None, {"b_g", "b_h"}), ((), set()), (["g"], {"b_g"}), ("b_h", {"b_h"}), (("g", "b_g"), {"b_g"})],
)
def test_keep_in_the_posterior(model: bl.Model, keep: Any, stored: set[str]) -> None:
    posterior = model.sample(draws=60, random_seed=1, keep=keep)
    found = {str(name) for name in posterior.data["posterior"].data_vars if str(name).startswith("b_")}
    assert found == stored
    everything = model.sample(draws=60, random_seed=1)
    for name in ("sigma", *stored):
        np.testing.assert_array_equal(
            posterior.data["posterior"][name].values, everything.data["posterior"][name].values
        )


def test_keep_of_an_unknown_factor_is_refused(model: bl.Model) -> None:
    with pytest.raises(FitError, match=r"names nothing, which has no random effects.*b_g, b_h.*keep=\(\)"):
        model.sample(keep=["g", "nothing"])


def test_log_likelihood_by_size(model: bl.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(**more: Any) -> bool:
        return "log_likelihood" in model.sample(draws=40, random_seed=1, **more).data.children

    monkeypatch.setattr(sampling, "_LOG_LIKELIHOOD", 90 * 40)
    assert stored()
    assert not stored(log_likelihood=False)
    assert not stored(keep=["g"])
    monkeypatch.setattr(sampling, "_LOG_LIKELIHOOD", 90 * 40 - 1)
    assert not stored()
    assert stored(log_likelihood=True)
    with pytest.raises(FitError, match="needs the random effects of all"):
        model.sample(log_likelihood=True, keep=["g"])


def test_interrupted_posterior_says_how_many(model: bl.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    in_chunks(monkeypatch, model.cross_products)
    monkeypatch.setattr(completion, "joint_draws", Stopped(3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = model.sample(draws=1000, random_seed=1)
    told = [w for w in caught if "300 of 1000" in str(w.message)]
    assert len(told) == 1 and told[0].category is ConvergenceWarning
    # The warning points at the line of the user.
    assert told[0].filename == __file__
    assert posterior.data["posterior"]["sigma"].size == 300
    assert "sigma" in str(posterior.summary())
