"""Small calibrations: right samplers pass, wrong ones fail, and nothing is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.prior_draws import PriorDraws, draw_prior
from bayeslmm.calibration.replicate import Task
from bayeslmm.calibration.run import run
from bayeslmm.calibration.samplers import _thinned
from bayeslmm.errors import ConvergenceWarning, DesignError, FitError, PriorError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.types import FloatArray

from .models import one_way, shared, wrong_jacobian, wrong_prior


@dataclass
class FromPrior:
    """Ignores the data; at some calls something happens."""

    design: object
    priors: object
    fails: tuple[int, ...] = ()
    interrupted: int = -1
    short: int = -1
    calls: int = 0

    def __call__(self, cp: SummedDesign, start: Sequence[FloatArray], rng: np.random.Generator) -> PriorDraws:
        self.calls += 1
        if self.calls - 1 in self.fails:
            raise np.linalg.LinAlgError("not definite")
        if self.calls - 1 == self.interrupted:
            raise KeyboardInterrupt
        return draw_prior(cp.design, self.priors, 63 - (self.calls - 1 == self.short), rng)


def _task(seed: int = 1, **events: object) -> Task:
    design = one_way(4).design
    priors = resolve_priors(design, "weak")
    return Task(design, priors, FromPrior(design, priors, **events), seed, 63)


def test_the_posterior_of_a_one_way_model_passes() -> None:
    calibration = bl.calibrate(one_way(6), n=50, random_seed=1)
    assert calibration.ok
    assert calibration.n == 50
    assert len(calibration.failures) == 0
    # The 99 % point of the Kolmogorov-Smirnov statistic is 1.63 / sqrt(n); the band is narrower at the ends.
    missed = float(
        re.search(r"50 replicates reject little: ECDFs that are off by up to (0\.\d\d) pass", repr(calibration))[1]
    )
    assert missed == pytest.approx(1.63 / np.sqrt(50), rel=0.25)


def test_a_prior_of_another_scale_fails() -> None:
    calibration = wrong_prior(one_way(3), 40, 1, 0.2)
    assert not calibration.ok
    assert not calibration.table.loc["sd_g[Intercept]", "ok"]
    assert "FAILED for sd_g[Intercept]" in repr(calibration)


def test_a_wrong_jacobian_fails() -> None:
    assert not wrong_jacobian(one_way(3), 60, 2, -1.0).ok


def test_draws_that_ignore_the_data_pass_for_parameters_but_not_for_the_likelihood() -> None:
    # Ranks of parameters are uniform then, which is why the log likelihood is ranked too (Modrak et al.).
    table = run(_task(), 300, method="prior").table
    assert table.loc["sd_g[Intercept]", "ok"]
    assert not table.loc["log likelihood", "ok"]
    assert table.loc["log likelihood", "mean"] > 0.9


def test_replicates_depend_on_seed_and_number_only() -> None:
    model = one_way(3)
    short, long = (bl.calibrate(model, n=n, random_seed=5, draws=31) for n in (2, 21))
    assert np.array_equal(short.ranks, long.ranks[:2])
    parallel = bl.calibrate(model, n=21, random_seed=5, draws=31, n_jobs=2)
    assert np.array_equal(parallel.ranks, long.ranks)
    assert [r.number for r in parallel.replicates] == list(range(21))


def test_priors_are_those_of_the_original_response() -> None:
    model = one_way(3)
    calibration = bl.calibrate(model, n=1, random_seed=1, draws=31)
    scale = np.std(model.design.y, ddof=1)
    assert calibration.task.priors.sigma.scale == pytest.approx(scale)
    assert calibration.task.sampler.priors == calibration.task.priors


def test_failing_replicates_are_reported_with_number_and_seed() -> None:
    with pytest.warns(ConvergenceWarning, match=r"2 of 30 replicates failed \(4, 25\).*not definite"):
        calibration = run(_task(seed=11, fails=(4, 25)), 30, method="prior")
    assert calibration.n == 28
    assert list(calibration.failures.index) == [4, 25]
    assert calibration.failures.loc[25, "seed"] == "SeedSequence(11, spawn_key=(25,))"
    assert not calibration.ok
    assert "2 replicates FAILED" in repr(calibration)


@pytest.mark.parametrize("event", ["interrupted", "short"])
def test_an_interrupted_run_returns_what_was_done(event: str) -> None:
    calibration = run(_task(**{event: 7}), 30, method="prior")
    assert calibration.n == 7
    assert "Interrupted: 7 of 30 replicates were run." in repr(calibration)
    whole = run(_task(), 30, method="prior")
    assert np.array_equal(calibration.ranks, whole.ranks[:7])


def test_an_interruption_before_the_first_replicate_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(_task(interrupted=0), 30, method="prior")


def test_a_replicate_can_be_simulated_again() -> None:
    calibration = run(_task(), 25, method="prior")
    truth, y = calibration.simulate(3)
    again, _, _ = calibration.task.simulate(3)
    assert truth["sigma"] == again.sigma[0]
    assert y.shape == (20,)
    assert not np.array_equal(y, calibration.simulate(4)[1])


def test_an_improper_prior_is_refused() -> None:
    with pytest.raises(PriorError, match="improper"):
        bl.calibrate(one_way(4), n=2, priors="default")


def test_frequencies_are_refused() -> None:
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0, 3.0, 5.0, 1.5], "g": list("aabbcc"), "f": [1, 2, 1, 1, 3, 1]})
    with pytest.raises(DesignError, match="frequencies"):
        bl.calibrate(bl.Model("y ~ 1 + (1 | g)", data, frequency="f"), n=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n": 0}, "n=0"), ({"draws": 5}, "draws=5"), ({"n_jobs": True}, "n_jobs=True"), ({"method": "x"}, "method='x'")],
)
def test_arguments_are_checked(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(FitError, match=message):
        bl.calibrate(one_way(4), **{"n": 2, **arguments})


def test_draws_of_nuts_are_laid_out_as_those_of_the_collapsed_path() -> None:
    from bayeslmm.bayes.collapsed import sample_collapsed
    from bayeslmm.bayes.datatree import build_datatree
    from bayeslmm.reml import optimise

    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    for model in (sleep, shared("cs")):
        cp, priors = model.cross_products, resolve_priors(model.design, "weak")
        start = optimise(cp, True).terms
        drawn = sample_collapsed(cp, priors, start, draws=80, rng=np.random.default_rng(1))
        tree = build_datatree(cp, priors, drawn, chains=2, log_likelihood=False)
        thinned = _thinned(model.design, tree["posterior"], 20)
        assert thinned.sds[0] == pytest.approx(drawn.sds[0][3::4])
        assert thinned.corrs[0] == pytest.approx(drawn.corrs[0][3::4])
        assert thinned.b[0] == pytest.approx(drawn.b[0][3::4])
        assert thinned.beta == pytest.approx(drawn.beta[3::4])


def test_the_figure_names_what_fails() -> None:
    calibration = run(_task(), 100, method="prior")
    axes = calibration.plot()
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    failing = list(calibration.table.index[~calibration.table["ok"]])
    assert "log likelihood" in failing
    assert {f"{name} fails" for name in failing} < set(labels)
    assert "simultaneous 99% band" in labels
    heights = axes.lines[list(calibration.quantities).index("log likelihood")].get_ydata()
    points = np.arange(1, 64) / 64
    expected = (calibration.ranks[:, -1] < 64 * points[:, None]).mean(axis=1) - points
    assert heights[1:-1] == pytest.approx(expected)
    plt.close("all")
