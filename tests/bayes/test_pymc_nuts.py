"""NUTS that is interrupted, or whose worker dies: what was drawn comes back, errors name the chain, nothing hangs."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bayeslmm.bayes.default_priors import default_priors
from bayeslmm.bayes.interrupted import complete_draws
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.nuts import NutsDraws, sample_nuts
from bayeslmm.bayes.pymc_model import build_pymc_model
from bayeslmm.design.design import Design
from bayeslmm.errors import ConvergenceWarning, FitError

pytest.importorskip("pymc")

Make = Callable[..., Design]
DRAWS, TUNE = 400, 60


def sample(design: Make, cores: int, callback: Callable[..., None]) -> NutsDraws:
    data = design("one-way")
    model = build_pymc_model(data, default_priors(data))
    options: dict[str, Any] = {"draws": DRAWS, "tune": TUNE, "chains": 2, "cores": cores, "random_seed": 1}
    return sample_nuts(model, make_layout(data), **options, sampler="pymc", callback=callback)


def children() -> set[int | None]:
    """Processes of this one: other tests may have left an idle pool, which is theirs."""
    return {process.pid for process in multiprocessing.active_children()}


def interrupt_at(count: int) -> Callable[..., None]:
    calls = [0]

    def callback(trace: Any, draw: Any) -> None:
        calls[0] += 1
        if calls[0] == count:
            raise KeyboardInterrupt

    return callback


def interrupt_when_both_have(count: int) -> Callable[..., None]:
    """However the machine shares its time between the chains: neither is left out as much shorter than the other."""
    drawn = {0: 0, 1: 0}

    def callback(trace: Any, draw: Any) -> None:
        drawn[draw.chain] = draw.draw_idx + 1 - TUNE
        fewest, most = sorted(drawn.values())
        if fewest >= count and fewest > 0.6 * most:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("cores", [1, 2])
def test_an_interrupt_returns_what_was_drawn(cores: int, design: Make) -> None:
    # in one process the second chain is cut short early: the first is kept
    interrupt = interrupt_at(TUNE + DRAWS + TUNE + 20) if cores == 1 else interrupt_when_both_have(100)
    with pytest.warns(ConvergenceWarning, match="interrupted") as caught:
        drawn = sample(design, cores, interrupt)
    chains, length = drawn.posterior["sigma"].shape
    messages = " ".join(str(warning.message) for warning in caught)
    assert f"{chains * length} of {2 * DRAWS} draws are returned" in messages
    assert (chains, length) == (1, DRAWS) if cores == 1 else (chains == 2 and 50 < length < 250)
    assert {values.shape[:2] for values in (*drawn.posterior.values(), *drawn.stats.values())} == {(chains, length)}
    assert all(np.isfinite(values).all() for values in drawn.posterior.values())


@pytest.mark.parametrize("cores", [1, 2])
def test_an_interrupt_of_the_warm_up_is_an_interrupt(cores: int, design: Make) -> None:
    before = children()
    with pytest.raises(KeyboardInterrupt, match="no draws to return"):
        sample(design, cores, interrupt_at(20))
    assert children() <= before


@pytest.mark.parametrize("chain", [0, 1])
def test_a_worker_that_is_killed_is_named(chain: int, design: Make) -> None:
    calls = [0]

    def kill(trace: Any, draw: Any) -> None:
        calls[0] += 1
        if calls[0] == 100:
            victim = next(p for p in multiprocessing.active_children() if p.name == f"worker_chain_{chain}")
            os.kill(victim.pid, signal.SIGKILL)

    before = children()
    with pytest.raises(FitError, match=rf"process of chain {chain} \(of 0 to 1\) died"):
        sample(design, 2, kill)
    assert children() <= before


def test_a_chain_that_fails_is_named(design: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymc.step_methods.hmc.nuts import NUTS

    def fail(self: Any, point: Any) -> Any:
        raise ValueError("a failure on purpose")

    monkeypatch.setattr(NUTS, "step", fail)
    with pytest.raises(FitError, match=r"failed in chain [01] \(of 0 to 1\): .*a failure on purpose"):
        sample(design, 2, lambda trace, draw: None)


def test_ragged_chains_are_cut_to_one_length() -> None:
    sigma = np.arange(30.0).reshape(3, 10)
    sigma[1, 8:] = np.nan
    sigma[2, 1:] = np.nan
    b = np.repeat(sigma[..., None], 2, axis=-1)
    with pytest.warns(ConvergenceWarning, match=r"16 of 40 draws are returned \(2 of 4 chains with 8 of 10"):
        posterior, stats = complete_draws({"b": b, "sigma": sigma}, {"lp": sigma}, 10, 4)
    np.testing.assert_array_equal(posterior["sigma"], np.arange(30.0).reshape(3, 10)[:2, :8])
    assert posterior["b"].shape == (2, 8, 2)
    assert stats["lp"].shape == (2, 8)
