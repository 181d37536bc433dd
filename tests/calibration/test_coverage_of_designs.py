"""Coverage of the intervals of a design of one's own, against closed forms and single fits."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy import stats

import bayeslmm as bl
from bayeslmm import DesignError, FitError, StorageError
from bayeslmm.calibration import coverage_run, kept_tasks
from bayeslmm.calibration.coverage_chunk import CoveragePlan, CoverageTask, make_tasks, run_chunk
from bayeslmm.calibration.coverage_kinds import choose_rows, read_kinds
from bayeslmm.inference.simulation import simulate_responses
from bayeslmm.results.truth import resolve_truth
from bayeslmm.types import FloatArray

J, N = 6, 5
SD, SIGMA, MEAN = 0.5, 1.5, 10.0
TRUTH = {"sd_g": SD, "sigma": SIGMA, "Intercept": MEAN}
REPLICATES = 1000


@cache
def balanced() -> bl.Model:
    y = np.random.default_rng(0).normal(size=J * N)
    return bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": np.repeat(list("abcdef"), N)}))


@cache
def slopes() -> bl.Model:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), [3, 4, 5, 6, 7, 3, 4, 8])
    x = rng.normal(size=g.size)
    y = 1.0 + x + rng.normal(size=8)[g] + 0.5 * rng.normal(size=8)[g] * x + rng.normal(size=g.size)
    return bl.Model("y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": [f"g{i}" for i in g]}))


@cache
def found(sd: float = SD) -> bl.Coverage:
    return bl.coverage(balanced(), TRUTH | {"sd_g": sd}, REPLICATES, random_seed=3, progressbar=False)


def row(result: bl.Coverage, parameter: str, method: str) -> pd.Series:
    table = result.table
    return table[(table["parameter"] == parameter) & (table["method"] == method)].iloc[0]


def mean_squares(sd: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means, and mean squares between and within groups, of responses drawn by this test."""
    rng, K = np.random.default_rng(77), 100_000
    mean = MEAN + rng.normal(size=K) * np.sqrt((SIGMA**2 + N * sd**2) / (J * N))
    between = (SIGMA**2 + N * sd**2) * rng.chisquare(J - 1, K) / (J - 1)
    return mean, between, SIGMA**2 * rng.chisquare(J * (N - 1), K) / (J * (N - 1))


@pytest.mark.parametrize("sd", [0.0, SD])
@pytest.mark.parametrize("parameter", ["ratio_g[Intercept]", "icc_g[Intercept]"])
def test_the_pivot_covers_its_level_also_at_zero(sd: float, parameter: str) -> None:
    own = row(found(sd), parameter, "pivot")
    assert abs(own["coverage"] - 0.95) < 4.5 * np.sqrt(0.95 * 0.05 / REPLICATES)
    # Empty where F is below its lower quantile even for a ratio of zero.
    k = 1.0 + N * (sd / SIGMA) ** 2
    empty = stats.f.cdf(stats.f.ppf(0.025, J - 1, J * (N - 1)) / k, J - 1, J * (N - 1))
    assert abs(own["none"] - empty) < 4.5 * np.sqrt(empty * (1 - empty) / REPLICATES)


@pytest.mark.parametrize("sd", [0.0, SD])
def test_zeros_are_as_frequent_as_f_says_and_are_not_dropped(sd: float) -> None:
    k = 1.0 + N * (sd / SIGMA) ** 2
    expected = stats.f.cdf(1.0 / k, J - 1, J * (N - 1))
    wald = row(found(sd), "sd_g[Intercept]", "wald")
    assert abs(wald["zero"] - expected) < 4.5 * np.sqrt(expected * (1 - expected) / REPLICATES)
    assert wald["none"] == wald["zero"], "no Wald interval at the end of the range"
    assert found(sd).singular == wald["zero"]
    assert wald["coverage"] + wald["below"] + wald["above"] + wald["none"] == pytest.approx(1.0, abs=1e-12)
    profile = row(found(sd), "sd_g[Intercept]", "profile")
    assert profile["none"] == 0.0
    assert profile["replicates"] == REPLICATES


@pytest.mark.parametrize("method", ["wald", "satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("sd", [0.0, SD])
def test_the_mean_of_a_balanced_layout(sd: float, method: str) -> None:
    """REML in closed form, on responses of this test's own."""
    mean, between, within = mean_squares(sd)
    zero = between <= within
    pooled = ((J - 1) * between + J * (N - 1) * within) / (J * N - 1)
    error = np.sqrt(np.where(zero, pooled, between) / (J * N))
    df = {"wald": np.inf, "satterthwaite": np.where(zero, J * N - 1, J - 1), "kenward-roger": J - 1}[method]
    half = stats.t.ppf(0.975, df) * error
    expected = float((np.abs(mean - MEAN) <= half).mean())
    own = row(found(sd), "Intercept", method)
    spread = np.sqrt(expected * (1 - expected))
    assert abs(own["coverage"] - expected) < 4.5 * spread * np.sqrt(1 / REPLICATES + 1 / mean.size)
    assert own["below"] + own["above"] == pytest.approx(1.0 - own["coverage"], abs=1e-12)
    width = 2.0 * half
    assert abs(own["mean_width"] - width.mean()) < 4.5 * width.std() / np.sqrt(REPLICATES)
    assert abs(own["median_width"] - np.median(width)) < 0.1 * np.median(width)


def chunk(
    model: bl.Model, kinds: str | None, parameters: object, reml: bool, level: float
) -> tuple[CoverageTask, FloatArray]:
    """A task of a few replicates and its responses."""
    truth = resolve_truth(model.design, {"sd_g[x]": 0.05}, model.fit)
    asked = choose_rows(model.cross_products, truth, read_kinds(kinds), parameters, reml)
    task = CoverageTask(CoveragePlan(model.design, truth, asked, level, reml, 5, None, "k"), 2, 8, 0, 6)
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(2,)))
    return task, simulate_responses(model.design, truth.terms, truth.sigma, truth.beta, 8, rng)


@pytest.mark.parametrize("reml", [True, False])
def test_the_intervals_are_those_of_single_fits(reml: bool) -> None:
    """Every kind, near the boundary, where some fits are singular."""
    task, Y = chunk(slopes(), None, None, reml, 0.9)
    asked = task.plan.asked.rows
    assert {kind for _, kind in asked} == {"wald", "profile", "pivot", "satterthwaite"} | (
        {"kenward-roger"} if reml else set()
    )
    made = run_chunk(task)
    assert made.singular.any() and not made.singular.all()
    fit = slopes().fit(reml=reml)
    for k in range(6):
        own = fit.refit(Y[:, k])
        assert np.allclose(made.estimates[:, k], own.estimates(), rtol=1e-5, atol=1e-6, equal_nan=True)
        for (p, kind), low, high in zip(asked, made.low[:, k], made.high[:, k], strict=True):
            if kind in ("satterthwaite", "kenward-roger"):
                expected = own.coefficients(kind, 0.9).loc[p.label, ["conf_low", "conf_high"]]
            else:
                try:
                    expected = own.confint(0.9, kind, p.label).loc[p.label]
                except DesignError:
                    assert kind == "wald" and np.isnan(low) and np.isnan(high)
                    continue
            if kind == "pivot" and expected.iloc[1] == 0.0:
                assert np.isnan(high)
                continue
            scale = float(expected.iloc[1] - expected.iloc[0])
            assert [low, high] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4 * scale), (p.label, kind, k)


def test_posterior_intervals_are_those_of_the_sampler() -> None:
    """Ends from 2,000 draws against those of a posterior of 8,000, in units of its spread."""
    task, Y = chunk(slopes(), "hdi", ["sigma", "x"], True, 0.9)
    task = replace(task, replicates=1)
    made = run_chunk(task)
    data = slopes().fit().refit(Y[:, 0])
    post = bl.Model._from_design(data.design).sample(8000, random_seed=1, progressbar=False, log_likelihood=False)
    for i, name in enumerate(("sigma", "x")):
        expected = post.hdi(0.9).loc[name].to_numpy(dtype=float)
        spread = post.draws(name).std()
        assert np.abs(np.array([made.low[i, 0], made.high[i, 0]]) - expected).max() < 0.4 * spread
    assert list(made.low.shape) == [2, 1]


def test_results_depend_neither_on_the_workers_nor_on_what_follows() -> None:
    settings = {"random_seed": 3, "progressbar": False, "intervals": ["wald", "pivot"]}
    one = bl.coverage(balanced(), TRUTH, 450, **settings)  # type: ignore[arg-type]
    two = bl.coverage(balanced(), TRUTH, 450, n_jobs=2, **settings)  # type: ignore[arg-type]
    assert_frame_equal(one.table, two.table, check_exact=True)
    other = bl.coverage(balanced(), TRUTH, 450, **(settings | {"random_seed": 4}))  # type: ignore[arg-type]
    assert not one.table["coverage"].equals(other.table["coverage"])


def test_replicates_do_not_depend_on_how_many_there_are_nor_on_other_intervals() -> None:
    model = balanced()
    truth = resolve_truth(model.design, TRUTH, model.fit)
    made = {}
    for kinds, replicates in ((("wald",), 450), (("wald",), 1000), (("wald", "equal-tailed"), 45)):
        asked = choose_rows(model.cross_products, truth, kinds, "sigma", True)
        tasks = make_tasks(
            CoveragePlan(model.design, truth, asked, 0.95, True, 3, None, "b"), model.cross_products, replicates
        )
        assert sum(task.replicates for task in tasks) == replicates
        responses = np.concatenate([task.responses() for task in tasks], axis=1)
        made[kinds, replicates] = responses
        assert len({task.name for task in tasks}) == len(tasks)
        assert np.unique(responses[0]).size == replicates
    whole = made[("wald",), 1000]
    for responses in made.values():
        np.testing.assert_array_equal(responses, whole[:, : responses.shape[1]])
    # The last of a block alone has the intervals that it has among others.
    task = tasks[0]
    both = run_chunk(replace(task, start=0, replicates=3)), run_chunk(replace(task, start=2, replicates=1))
    np.testing.assert_allclose(both[0].low[:, 2:], both[1].low, rtol=1e-9)


def test_killed_and_restarted_it_gives_the_same_table(tmp_path: Path) -> None:
    store = tmp_path / "store"
    balanced().save(tmp_path / "model")
    code = (
        f"import bayeslmm as bl; bl.coverage(bl.load({str(tmp_path / 'model')!r}), {TRUTH!r}, 20000, random_seed=3, "
        f"intervals=['wald', 'pivot'], store={str(store)!r}, progressbar=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 60
        while not list(store.glob("*.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*.npz")}
    assert 0 < len(kept) < 100, "killed in the middle"
    settings = {"random_seed": 3, "intervals": ["wald", "pivot"], "progressbar": False}
    resumed = bl.coverage(balanced(), TRUTH, REPLICATES, store=store, **settings)  # type: ignore[arg-type]
    plain = bl.coverage(balanced(), TRUTH, REPLICATES, **settings)  # type: ignore[arg-type]
    assert_frame_equal(resumed.table, plain.table, check_exact=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "not computed again"


def test_a_store_belongs_to_one_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"random_seed": 3, "store": tmp_path, "progressbar": False, "intervals": "wald"}
    first = bl.coverage(balanced(), TRUTH, 20, **settings)  # type: ignore[arg-type]
    for other, reason in (
        ({"random_seed": 4}, "seed: 3 there, 4 here"),
        ({"level": 0.9}, "level: 0.95 there, 0.9 here"),
        ({"truth": TRUTH | {"sigma": 2.0}}, "true sigma: '1.5' there, '2' here"),
        ({"intervals": "pivot"}, "intervals: "),
        ({"reml": False}, "criterion: 'REML' there, 'ML' here"),
        ({"model": slopes(), "truth": None}, "formula: 'y ~ 1 [+] [(]1 [|] g[)]' there"),
    ):
        arguments = {"model": balanced(), "truth": TRUTH, "replicates": 20} | settings | other
        with pytest.raises(StorageError, match=reason):
            bl.coverage(**arguments)  # type: ignore[arg-type]
    fewer = bl.Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": np.arange(29.0) % 7, "g": [*"abcdef" * 4, *"abcde"]}))
    with pytest.raises(StorageError, match="data: "):
        bl.coverage(fewer, TRUTH, 20, **settings)  # type: ignore[arg-type]
    monkeypatch.setattr(coverage_run, "run_chunk", lambda _: pytest.fail("computed again"))
    again = bl.coverage(balanced(), TRUTH, 20, **settings)  # type: ignore[arg-type]
    assert_frame_equal(again.table, first.table, check_exact=True)


def test_interrupted_it_returns_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(function: object, tasks: list[CoverageTask], *_: object) -> object:
        yield tasks[0], run_chunk(tasks[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(kept_tasks, "execute", interrupted)
    partly = bl.coverage(balanced(), TRUTH, 500, intervals="wald", progressbar=False)
    assert partly.done == 200
    assert "200 simulated responses of 500 (interrupted)" in " ".join(str(partly).split())


def covariance(model: bl.Model, given: object) -> list[FloatArray]:
    truth = resolve_truth(model.design, given, model.fit)
    return [truth.sigma**2 * T @ T.T for T in truth.terms]


def test_truths_are_read() -> None:
    model, fit = slopes(), slopes().fit()
    names = ["sd_g[Intercept]", "sd_g[x]", "corr_g[Intercept.x]", "sigma", "Intercept", "x"]
    given = dict(zip(names, [2.0, 0.5, -0.3, 1.5, 4.0, -1.0], strict=True))
    expected = np.array([[4.0, -0.3], [-0.3, 0.25]])
    for form in (given, pd.Series(given)):
        assert np.allclose(covariance(model, form)[0], expected, rtol=1e-12)
    truth = resolve_truth(model.design, given, lambda: pytest.fail("nothing is left to estimate"))
    assert truth.beta.tolist() == [4.0, -1.0]
    assert [truth.values[name] for name in names] == pytest.approx(list(given.values()), rel=1e-12)
    theta = np.linalg.cholesky(expected)[np.tril_indices(2)] / 1.5
    arrays = {"theta": theta[[0, 1, 2]], "beta": [4.0, -1.0], "sigma": 1.5}
    assert np.allclose(covariance(model, arrays)[0], expected, rtol=1e-12)
    # What is left out is estimated; a fit and no truth are its estimates.
    part = resolve_truth(model.design, {"sigma": 7.0}, model.fit)
    assert part.values == pytest.approx(fit.estimates().to_dict() | {"sigma": 7.0}, rel=1e-10)
    for whole in (None, fit, fit.estimates()):
        assert resolve_truth(model.design, whole, model.fit).values == pytest.approx(
            fit.estimates().to_dict(), rel=1e-9
        )
    degenerate = covariance(model, given | {"corr_g[Intercept.x]": 1.0})[0]
    assert np.allclose(degenerate, [[4.0, 1.0], [1.0, 0.25]], rtol=1e-12)


@pytest.mark.parametrize(("keyword", "R"), [
    ("cs", np.full((3, 3), 0.4) + 0.6 * np.eye(3)),
    ("ar1", 0.4 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))),
    ("id", np.eye(3)),
])  # fmt: skip
def test_truths_of_structures(keyword: str, R: FloatArray) -> None:
    data = slopes().design
    frame = pd.DataFrame({"y": data.y, "f": list("abc") * 13 + ["a"], "g": np.arange(40) // 5})
    model = bl.Model(f"y ~ 1 + {keyword}(0 + f | g)", frame)
    given = {f"sd_g[{keyword}]": 2.0, "sigma": 0.5} | ({} if keyword == "id" else {f"corr_g[{keyword}]": 0.4})
    assert np.allclose(covariance(model, given)[0], 4.0 * R, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("truth", "message"), [
    ({"sd_g[x]": -1.0}, "cannot be -1"),
    ({"corr_g[Intercept.x]": 1.5}, "cannot be 1.5"),
    ({"sigma": 0.0}, "sigma"),
    ({"sigma": "a"}, r"truth\['sigma'\]='a'"),
    ({"sigm": 1.0}, "'sigm' names no parameter"),
    ({"beta": [1.0]}, r"truth\['beta'\]"),
    ({"theta": [1.0, 0.0, 1.0], "sd_g[x]": 1.0}, "Keep one"),
    ({"x": 1.0, "beta": [1.0, 2.0]}, "gives x twice"),
    (3, "is neither a fit nor a mapping"),
    ({1: 2.0}, "is neither a fit nor a mapping"),
])  # fmt: skip
def test_truths_that_are_none(truth: object, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        bl.coverage(slopes(), truth, 3, progressbar=False)  # type: ignore[arg-type]


def test_correlations_that_do_not_go_together() -> None:
    frame = pd.DataFrame({"y": slopes().design.y, "f": list("abc") * 13 + ["a"], "g": np.arange(40) // 5})
    model = bl.Model("y ~ 1 + (0 + f | g)", frame, saturated="allow")
    pairs = dict(zip(("f[a].f[b]", "f[a].f[c]", "f[b].f[c]"), (0.9, 0.9, -0.9), strict=True))
    given = {f"corr_g[{pair}]": value for pair, value in pairs.items()} | dict.fromkeys(
        ("sd_g[f[a]]", "sd_g[f[b]]", "sd_g[f[c]]", "sigma", "Intercept"), 1.0
    )
    with pytest.raises(DesignError, match="No covariance has the correlations"):
        bl.coverage(model, given, 3)


def test_what_is_refused() -> None:
    model = balanced()
    for arguments, message in (
        ({"intervals": "walds"}, "Did you mean 'wald'"),
        ({"intervals": []}, "names no kind"),
        ({"intervals": "pivot", "parameters": "sigma"}, "There is no interval 'pivot' for sigma"),
        ({"intervals": "kenward-roger", "reml": False}, "REML estimates"),
        ({"level": 95}, "level=95"),
        ({"parameters": "sd_h"}, "names no parameter"),
    ):
        with pytest.raises(DesignError, match=message):
            bl.coverage(model, TRUTH, 3, **arguments)  # type: ignore[arg-type]
    with pytest.raises(FitError, match="replicates=0"):
        bl.coverage(model, TRUTH, 0)
    with pytest.raises(FitError, match=r"it takes a bl\.Model or a fit"):
        bl.coverage("y ~ x", TRUTH)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="a fit with a penalty"):
        bl.coverage(model.fit(penalty="gamma"), TRUTH)
    with pytest.raises(DesignError, match="that were held"):
        bl.coverage(model.fit(fix={"g": [0.5]}), TRUTH)
    weighted = bl.Model(
        "y ~ 1 + (1 | g)", pd.DataFrame({"y": model.design.y, "g": list("abcdef") * 5, "w": 2}), frequency="w"
    )
    with pytest.raises(DesignError, match="frequencies"):
        bl.coverage(weighted)


def test_what_is_shown() -> None:
    text = str(found())
    assert max(map(len, text.split("\n"))) <= 80
    assert "sd_g[Intercept] = 0.5 (" in text and "of the estimates are 0)" in text
    assert "<table" in found()._repr_html_()
    table = found().table
    assert not table.duplicated(["parameter", "method"]).any()
    assert table["mc_error"].to_numpy() == pytest.approx(
        np.sqrt(REPLICATES * table["coverage"] * (1 - table["coverage"]) + 0.25) / (REPLICATES + 1)
    )
    ax = found().plot()
    assert len(ax.get_yticklabels()) == len(table)
    assert ax.get_yticklabels()[0].get_text() == "sd_g[Intercept], wald"


def test_a_correlation_without_a_true_value_is_named() -> None:
    result = bl.coverage(slopes(), {"sd_g[x]": 0.0}, 5, intervals="profile", progressbar=False)
    assert "corr_g[Intercept.x]" not in set(result.table["parameter"])
    assert any("corr_g[Intercept.x] has no true value" in note for note in result.notes)


def test_the_unit_of_the_response_does_not_matter() -> None:
    design = slopes().design
    x = design.X[:, 1]
    g = design.groupings["g"].codes
    plain, scaled = (
        bl.coverage(
            bl.Model("y ~ x + (x || g)", pd.DataFrame({"y": design.y * unit, "x": x, "g": g})),
            replicates=60,
            progressbar=False,
        ).table
        for unit in (1.0, 2.0**27)
    )
    shares = ["coverage", "below", "above", "none", "zero"]
    assert_frame_equal(pd.DataFrame(plain[shares]), pd.DataFrame(scaled[shares]), atol=1e-12)
    own = ~plain["parameter"].str.startswith(("ratio", "icc"))
    units = np.where(own, 2.0**27, 1.0)
    np.testing.assert_allclose(scaled["truth"] / units, plain["truth"], rtol=1e-6)
    np.testing.assert_allclose(scaled["median_width"] / units, plain["median_width"], rtol=1e-5)
