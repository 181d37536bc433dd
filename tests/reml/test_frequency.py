"""A fit with frequencies is the fit of the rows written out, in both engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app
from bayeslmm.faces import REMLResult

TOLERANCE = 1e-10


def make_data() -> pd.DataFrame:
    rng = np.random.default_rng(12)
    frame = pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(9)], 8), "h": np.tile(list("abcd"), 18)})
    frame["x"] = rng.normal(3.0, 1.0, 72)
    frame["t"] = rng.choice(["low", "mid", "high"], 72)
    own = rng.normal(size=(9, 2)).repeat(8, axis=0)
    cell = rng.normal(size=(9, 4))[np.arange(9).repeat(8), np.tile(np.arange(4), 18)]
    frame["y"] = 5 + frame["x"] * (1 + 0.5 * own[:, 1]) + own[:, 0] + 0.7 * cell + rng.normal(size=72)
    frame["y"] += 0.8 * np.tile(rng.normal(size=4), 18)
    frame["w"] = rng.uniform(0.3, 3.0, 72)
    frame["f"] = rng.integers(0, 5, 72)
    return frame


DATA = make_data()
LONG = DATA.loc[DATA.index.repeat(DATA["f"])]
FORMULAS = [
    "y ~ x + (1 | g)",
    "y ~ x + (x | g)",
    "y ~ x + t + (x || g)",
    "y ~ x + (x | g) + (1 | h)",
    "y ~ x + (1 | g / h)",
    "y ~ scale(x) + offset(w) + (1 | g:h) + (1 | h)",
    "y ~ 0 + t + cs(0 + t | g)",
]


def both(formula: str, weights: str | None = None) -> tuple[bl.Model, bl.Model]:
    return bl.Model(formula, DATA, weights=weights, frequency="f"), bl.Model(formula, LONG, weights=weights)


def assert_frames(a: Mapping[Any, pd.DataFrame], b: Mapping[Any, pd.DataFrame]) -> None:
    assert list(a) == list(b)
    for name in a:
        pd.testing.assert_frame_equal(a[name], b[name], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("reml", [True, False])
def test_fit_of_the_rows_written_out(formula: str, weights: str | None, reml: bool) -> None:
    fit, long = (model.fit(reml) for model in both(formula, weights))
    assert long.sigma > 0.1 and (fit.n, fit.df) == (len(LONG), long.df)
    for name in ("criterion", "theta", "sigma", "aic", "bic"):
        np.testing.assert_allclose(getattr(fit, name), getattr(long, name), rtol=TOLERANCE, atol=TOLERANCE)
    for name in ("fixef", "std_error"):
        pd.testing.assert_series_equal(getattr(fit, name)(), getattr(long, name)(), rtol=TOLERANCE, atol=TOLERANCE)
    assert_frames(fit.ranef(), long.ranef())
    for group, variances in fit.ranef_variances().items():
        np.testing.assert_allclose(variances, long.ranef_variances()[group], rtol=TOLERANCE, atol=TOLERANCE)
    copies = fit.fitted().repeat(DATA["f"][DATA["f"] > 0])
    pd.testing.assert_series_equal(copies, long.fitted(), rtol=TOLERANCE)


@pytest.mark.parametrize("reml", [True, False])
def test_criterion_by_dense_algebra(reml: bool) -> None:
    """-2 log (restricted) likelihood of the rows written out, V formed entry by entry."""
    fit = both("y ~ x + (x | g)", "w")[0].fit(reml)
    X = np.column_stack([np.ones(len(LONG)), LONG["x"]])
    y, n = LONG["y"].to_numpy(), len(LONG)
    theta = fit.theta * fit.sigma
    T = np.array([[theta[0], 0.0], [theta[1], theta[2]]])
    same = LONG["g"].to_numpy()[:, None] == LONG["g"].to_numpy()
    V = np.where(same, X @ T @ T.T @ X.T, 0.0) + np.diag(fit.sigma**2 / LONG["w"].to_numpy())
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    beta = np.linalg.solve(information, X.T @ inverse @ y)
    r = y - X @ beta
    value = n * np.log(2 * np.pi) + np.linalg.slogdet(V)[1] + r @ inverse @ r
    if reml:
        value += np.linalg.slogdet(information)[1] - 2 * np.log(2 * np.pi)
    assert fit.criterion == pytest.approx(value, rel=1e-11)
    np.testing.assert_allclose(fit.fixef(), beta, rtol=1e-9)
    np.testing.assert_allclose(fit.std_error(), np.sqrt(np.diag(np.linalg.inv(information))), rtol=1e-9)


def test_balanced_one_way_with_a_billion_rows() -> None:
    """Sums of squares in closed form; nothing of the length of the rows written out is made."""
    y = np.array([[1.0, 2.0, 2.5], [4.0, 4.4, 5.1], [2.0, 3.5, 2.2], [7.0, 6.5, 6.1]])
    J, m, f = 4, 3, 10**8
    frame = pd.DataFrame({"y": y.ravel(), "g": np.repeat(list("abcd"), m), "f": f})
    fit = bl.Model("y ~ 1 + (1 | g)", frame, frequency="f").fit()
    within = f * ((y - y.mean(1, keepdims=True)) ** 2).sum() / (J * m * f - J)
    between = m * f * ((y.mean(1) - y.mean()) ** 2).sum() / (J - 1)
    assert fit.n == J * m * f
    assert fit.sigma**2 == pytest.approx(within, rel=1e-9)
    variance = (between - within) / (m * f)
    assert (fit.theta[0] * fit.sigma) ** 2 == pytest.approx(variance, rel=1e-6)
    assert fit.std_error().item() == pytest.approx(np.sqrt(between / (J * m * f)), rel=1e-6)


def test_frequency_and_weights_are_different_things() -> None:
    """Doubling all rows and doubling all precisions give the same beta, but not the same standard errors."""
    plain = bl.Model("y ~ x + (1 | g)", DATA).fit()
    precise = bl.Model("y ~ x + (1 | g)", DATA, weights=np.full(72, 2.0)).fit()
    twice = bl.Model("y ~ x + (1 | g)", DATA, frequency=np.full(72, 2)).fit()
    assert precise.sigma == pytest.approx(np.sqrt(2) * plain.sigma, rel=1e-8)
    np.testing.assert_allclose(precise.std_error(), plain.std_error(), rtol=1e-8)
    assert twice.std_error()["x"] < 0.8 * plain.std_error()["x"]
    assert (plain.n, precise.n, twice.n) == (72, 72, 144)
    ones = bl.Model("y ~ x + (1 | g)", DATA, frequency=np.ones(72)).fit()
    assert ones.criterion == pytest.approx(plain.criterion, rel=1e-13) and ones.bic == pytest.approx(plain.bic)


def test_a_singular_fit() -> None:
    frame = bl.load_dataset("Dyestuff2")
    frame["f"] = np.tile([1, 0, 2, 1, 1], 6)
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", frame, frequency="f").fit()
    long = bl.Model("Yield ~ 1 + (1 | Batch)", frame.loc[frame.index.repeat(frame["f"])]).fit()
    assert long.is_singular and fit.status is long.status and fit.theta.tolist() == [0.0]
    assert fit.optimum.vanished[0].slope == pytest.approx(long.optimum.vanished[0].slope, rel=1e-9)


def test_profile_intervals() -> None:
    fit, long = (model.fit() for model in both("y ~ x + (x | g)", "w"))
    pd.testing.assert_frame_equal(fit.confint(), long.confint(), rtol=1e-9, atol=1e-9)


def test_textbook_matrices_have_a_row_per_observation() -> None:
    fit, long = (model.fit() for model in both("y ~ x + (x | g)", "w"))
    assert fit.matrices().X.shape == (len(LONG), 2)
    np.testing.assert_allclose(fit.matrices().V, long.matrices().V, rtol=1e-9, atol=1e-9)
    solution = fit.mme().solution
    np.testing.assert_allclose(solution[:2], fit.fixef(), rtol=1e-8)
    pd.testing.assert_frame_equal(fit.shrinkage(), long.shrinkage(), rtol=1e-8)
    contrasts = bl.error_contrasts(fit)
    assert contrasts.criterion(fit.theta, fit.sigma) + contrasts.constant == pytest.approx(fit.criterion, rel=1e-10)


def exact(model: bl.Model, priors: Any) -> tuple[Any, Any]:
    post = model.sample(400, method="quadrature", priors=priors, random_seed=1)
    return post, post.exact


@pytest.mark.parametrize("priors", ["default", "weak"])
@pytest.mark.parametrize("weights", [None, "w"])
def test_posterior_by_quadrature(priors: str, weights: str | None) -> None:
    (post, moments), (long, expected) = (exact(m, priors) for m in both("y ~ x + (x || g)", weights))
    assert post.diagnostics.log_evidence == pytest.approx(long.diagnostics.log_evidence, abs=1e-9)
    for name in ("sigma_mean", "sigma_sd", "beta_mean", "beta_sd"):
        np.testing.assert_allclose(getattr(moments, name), getattr(expected, name), rtol=1e-9)
    np.testing.assert_allclose(moments.sd_mean[0], expected.sd_mean[0], rtol=1e-9)
    # The same random numbers make the same draws.
    for name in ("beta", "sigma", "sd_g", "b_g"):
        np.testing.assert_allclose(post.data["posterior"][name], long.data["posterior"][name], rtol=1e-6, atol=1e-6)


def test_posterior_by_importance_sampling() -> None:
    post, long = (m.sample(8000, method="importance", random_seed=k) for k, m in enumerate(both("y ~ x + (x | g)")))
    error = np.hypot(1 / post.diagnostics.efficiency - 1, 1 / long.diagnostics.efficiency - 1)
    assert post.diagnostics.log_evidence == pytest.approx(
        long.diagnostics.log_evidence, abs=5 * np.sqrt(error / 8000) + 1e-3
    )
    for name in ("beta", "sigma", "sd_g"):
        a, b = (p.data["posterior"][name].stack(sample=("chain", "draw")) for p in (post, long))
        mcse = np.sqrt((a.var("sample") + b.var("sample")) / 8000)
        assert (np.abs(a.mean("sample") - b.mean("sample")) < 5 * mcse).all()


def test_pointwise_log_likelihood_is_that_of_one_copy() -> None:
    model, _ = both("y ~ x + (1 | g)", "w")
    tree = model.sample(400, random_seed=3).data
    used = DATA[DATA["f"] > 0]
    np.testing.assert_array_equal(tree["constant_data"]["frequency"], used["f"])
    draw = tree["posterior"].isel(chain=1, draw=1)
    mean = draw["beta"].to_numpy() @ np.stack([np.ones(len(used)), used["x"]])
    mean = mean + draw["b_g"].to_numpy()[[int(g[1:]) for g in used["g"]], 0]
    expected = norm.logpdf(used["y"], mean, float(draw["sigma"]) / np.sqrt(used["w"]))
    np.testing.assert_allclose(tree["log_likelihood"]["y"].isel(chain=1, draw=1), expected, rtol=1e-10)
    assert "frequency" not in bl.Model("y ~ x + (1 | g)", DATA).sample(400, random_seed=3).data["constant_data"]


def test_columns_called_frequency() -> None:
    frame = DATA.rename(columns={"y": "frequency"})
    model = bl.Model("frequency ~ x + (1 | g)", frame, frequency="f")
    tree = model.sample(400, random_seed=3).data
    assert list(tree["observed_data"].data_vars) == ["frequency_"]
    plain = bl.Model("frequency ~ x + (1 | g)", frame).sample(400, random_seed=3).data
    assert list(plain["observed_data"].data_vars) == ["frequency"]


@pytest.mark.parametrize("form", ["noncentered", "centered"])
def test_density_of_the_pymc_model(form: str) -> None:
    pytest.importorskip("pymc")
    short, long = (m.to_pymc(form=form) for m in both("y ~ x + (x | g) + (1 | h)", "w"))
    priors = [m.priors() for m in both("y ~ x + (x | g) + (1 | h)", "w")]
    pd.testing.assert_frame_equal(*priors)
    log_short, log_long = short.compile_logp(), long.compile_logp()
    rng = np.random.default_rng(8)
    for _ in range(3):
        point = {
            name: np.asarray(value + 0.3 * rng.normal(size=np.shape(value))) for name, value in start(long).items()
        }
        assert float(log_short(point)) == pytest.approx(float(log_long(point)), rel=1e-10)
    one = float(short.compile_logp(vars=[short["y"]])(point))
    assert one != pytest.approx(float(long.compile_logp(vars=[long["y"]])(point)), rel=1e-3)


def start(model: Any) -> dict[str, Any]:
    return dict(model.initial_point())


def test_comparison() -> None:
    model, other = both("y ~ x + (1 | g)")
    fit, post = model.fit(), model.sample(400, random_seed=1)
    result, expected = bl.compare(fit, post), bl.compare(other.fit(), other.sample(400, random_seed=1))
    assert result.to_dict()["n"] == len(LONG)
    assert f"{len(LONG)} observations in {len(fit.design.y)} rows" in str(result)
    columns = ["REML", "ML"] if "REML" in result.table else list(result.table.select_dtypes("number").columns)
    np.testing.assert_allclose(result.table[columns], expected.table[columns], rtol=1e-6, atol=1e-6)
    with pytest.raises(bl.DesignError, match="different models"):
        bl.compare(bl.Model("y ~ x + (1 | g)", DATA[DATA["f"] > 0]).fit(), post)


def test_hierarchies_of_sizes() -> None:
    """More effects outside the first factor than are kept dense."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"a": rng.integers(0, 120, 900), "b": rng.integers(0, 400, 900), "f": rng.integers(1, 4, 900)})
    frame["y"] = rng.normal(size=120)[frame["a"]] + rng.normal(size=400)[frame["b"]] + rng.normal(size=900)
    formula = "y ~ 1 + (1 | a) + (1 | b)"
    fits: list[REMLResult] = [
        bl.Model(formula, frame, frequency="f").fit(),
        bl.Model(formula, frame.loc[frame.index.repeat(frame["f"])]).fit(),
    ]
    assert fits[0].criterion == pytest.approx(fits[1].criterion, rel=1e-12)
    np.testing.assert_allclose(fits[0].theta, fits[1].theta, rtol=1e-9)
    assert_frames(fits[0].ranef(), fits[1].ranef())


def test_leave_one_observation_out() -> None:
    """PSIS-LOO of the rows written out is the sum over stored rows times their frequency."""
    arviz_stats = pytest.importorskip("arviz_stats")
    short, long = (
        arviz_stats.loo(m.sample(1000, random_seed=2).data, pointwise=True) for m in both("y ~ x + (1 | g)", "w")
    )
    total = float((short.elpd_i.to_numpy() * DATA["f"][DATA["f"] > 0]).sum())
    assert total == pytest.approx(long.elpd, rel=1e-6)
    assert short.elpd != pytest.approx(long.elpd, rel=0.1)


def test_command_line(tmp_path: Path) -> None:
    DATA.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["fit", "y ~ x + (1 | g)", "--data", str(tmp_path / "rows.csv"), "--weights", "w", "--frequency", "f"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and f"{len(LONG)} observations in {int((DATA['f'] > 0).sum())} rows" in result.output
