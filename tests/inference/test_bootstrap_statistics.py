"""Bootstrap of any function of a fit, semiparametric draws, and intervals by each method, against explicit work."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.results.bootstrap_kinds import interval, shortest

LONG = {"perc": "percentile", "normal": "norm", "BCa": "bca"}


@pytest.fixture(scope="module")
def dyestuff() -> bl.REMLResult:
    return bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()


def ratio(fit: bl.REMLResult) -> float:
    return float(fit.estimates()["sd_Batch[Intercept]"] / fit.sigma)


def test_a_statistic_is_that_of_explicit_refits(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(20, random_seed=1, statistic=ratio)
    Y = dyestuff.simulate(20, 1)
    expected = [ratio(dyestuff.refit(Y[k])) for k in Y]
    np.testing.assert_allclose(boot.all_draws["statistic"], expected, rtol=1e-12)
    assert boot.estimates["statistic"] == ratio(dyestuff)
    assert "ratio" in repr(boot)


@pytest.mark.parametrize(
    ("statistic", "names"),
    [
        ("sigma", ["statistic"]),
        ("icc", ["icc_Batch", "icc"]),
        ("sd_Batch", ["sd_Batch[Intercept]"]),
        ("ratio_Batch", ["ratio_Batch[Intercept]"]),
        (lambda fit: {"a": fit.sigma, "b": fit.sigma**2}, ["a", "b"]),
        (lambda fit: fit.theta, ["statistic[0]"]),
    ],
)
def test_statistics_by_name_and_of_several(dyestuff: bl.REMLResult, statistic: object, names: list[str]) -> None:
    boot = dyestuff.bootstrap(6, random_seed=1, statistic=statistic)
    assert list(boot.draws.columns) == names
    assert list(boot.confint(parameters=names[-1], kind="basic").index) == names[-1:]


def test_a_named_parameter_is_the_one_of_the_joint_refits(dyestuff: bl.REMLResult) -> None:
    one = dyestuff.bootstrap(12, random_seed=3, statistic="sigma").draws["statistic"]
    joint = dyestuff.bootstrap(12, random_seed=3).draws["sigma"]
    np.testing.assert_allclose(one, joint, rtol=1e-6)
    ml = dyestuff.bootstrap(12, random_seed=3, statistic="sigma", criterion="ML")
    assert ml.estimates["statistic"] == pytest.approx(dyestuff._other_optimum.sigma)


def test_effects_of_the_fit_are_kept(dyestuff: bl.REMLResult) -> None:
    for method in ("parametric", "semiparametric"):
        boot = dyestuff.bootstrap(1500, 1, random="all", method=method)
        # With the effects kept, the mean of all rows varies by its residuals alone.
        fitted_mean = dyestuff.fitted().mean()
        sd = dyestuff.sigma / np.sqrt(30)
        means = boot.draws["Intercept"]
        assert means.mean() == pytest.approx(fitted_mean, abs=5 * sd / np.sqrt(1500))
        assert means.std() == pytest.approx(sd, rel=5 / np.sqrt(2 * 1500))


def test_semiparametric_draws_have_the_estimated_variances(dyestuff: bl.REMLResult) -> None:
    """Effects and residuals take the values of the fit only, with its variances exactly."""
    from bayeslmm.inference.semiparametric import resampled_responses, rescaled

    fit, rng = dyestuff, np.random.default_rng(1)
    b = fit.ranef()["Batch"].to_numpy()
    e = fit.residuals().to_numpy()
    s, sigma = float(fit.estimates()["sd_Batch[Intercept]"]), fit.sigma
    effects = (b - b.mean()) / b.std() * s
    errors = (e - e.mean()) / e.std() * sigma
    beta = fit.fixef().to_numpy()
    Y = resampled_responses(fit.design, fit.optimum.terms, sigma, beta, fit.optimum.lam, [b], {}, 50, rng)
    codes = fit.design.groupings["Batch"].codes
    for k in range(50):
        found = [
            any(np.isin(np.round(Y[codes == j, k] - beta[0] - u, 6), np.round(errors, 6)).all() for u in effects[:, 0])
            for j in range(6)
        ]
        assert all(found)
    T = np.array([[2.0, 0.0], [0.5, 1.0]])
    moved = rescaled(np.random.default_rng(2).normal(size=(9, 2)) @ [[1.0, 3.0], [0.0, 2.0]], T)
    np.testing.assert_allclose(moved.T @ moved / 9, T @ T.T, atol=1e-12)
    np.testing.assert_allclose(moved.mean(0), 0, atol=1e-12)


DRAWS = np.random.default_rng(5).gamma(2.0, 1.0, 999)


def test_kinds_against_their_definitions() -> None:
    def of(kind: str, acceleration: float = 0.0) -> tuple[float, float]:
        return interval(DRAWS, 1.7, 0.9, kind, None, lambda: acceleration)

    low, high = np.quantile(DRAWS, [0.05, 0.95])
    assert of("percentile") == pytest.approx((low, high))
    assert of("basic") == pytest.approx((3.4 - high, 3.4 - low))
    z = stats.norm.ppf(0.95) * DRAWS.std(ddof=1)
    assert of("norm") == pytest.approx((3.4 - DRAWS.mean() - z, 3.4 - DRAWS.mean() + z))
    z0, a = stats.norm.ppf((DRAWS < 1.7).mean()), 0.08
    alpha = [stats.norm.cdf(z0 + (z0 + q) / (1 - a * (z0 + q))) for q in stats.norm.ppf([0.05, 0.95])]
    assert of("bca", a) == pytest.approx(tuple(np.quantile(DRAWS, alpha)))
    assert interval(DRAWS, 1.7, 0.9, "norm", (0.5, 2.0), lambda: 0.0) == (0.5, 2.0)
    assert np.isnan(interval(DRAWS, 100.0, 0.9, "bca", None, lambda: 0.0)).all()


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_the_shortest_interval_by_looking_at_all(level: float) -> None:
    own = DRAWS[:200]
    x, need = np.sort(own), int(np.ceil(round(level * 200, 9)))
    windows = [(x[i + need - 1] - x[i], x[i], x[i + need - 1]) for i in range(200 - need + 1)]
    assert shortest(own, level) == min(windows)[1:]
    assert ((own >= shortest(own, level)[0]) & (own <= shortest(own, level)[1])).mean() >= level


def test_the_acceleration_is_of_the_jackknife_over_groups(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(100, random_seed=1, statistic=ratio)
    data = bl.load_dataset("Dyestuff")
    without = np.array([ratio(bl.Model("Yield ~ 1 + (1 | Batch)", data[data["Batch"] != b]).fit()) for b in "ABCDEF"])
    u = without.mean() - without
    a = (u**3).sum() / (6 * (u**2).sum() ** 1.5)
    draws = boot.draws["statistic"].to_numpy()
    expected = interval(draws, ratio(dyestuff), 0.9, "bca", None, lambda: a)
    np.testing.assert_allclose(boot.confint(0.9, "bca").iloc[0], expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::bayeslmm.BayesLMMWarning")
def test_names_of_other_packages_and_of_confint(dyestuff: bl.REMLResult) -> None:
    boot = dyestuff.bootstrap(60, random_seed=1)
    for other, own in LONG.items():
        pd.testing.assert_frame_equal(boot.confint(kind=other), boot.confint(kind=own))
    for kind in ("norm", "shortest", "bca"):
        by_method = dyestuff.confint(method="bootstrap", kind=kind, n=60, random_seed=1)
        pd.testing.assert_frame_equal(by_method, boot.confint(kind=kind))


def test_a_bootstrap_can_be_copied_and_sent(dyestuff: bl.REMLResult) -> None:
    for boot in (dyestuff.bootstrap(5, random_seed=1), dyestuff.bootstrap(5, random_seed=1, statistic=ratio)):
        assert pickle.loads(pickle.dumps(boot)) == boot
        assert copy.deepcopy(boot) == boot


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"statistic": 3}, "neither a function"),
        ({"statistic": "nothing"}, "nothing"),
        ({"statistic": lambda fit: "text"}, "it takes a number"),
        ({"statistic": lambda fit: fit.vcov}, "it takes a number"),
        ({"statistic": int}, "fails for the fit itself"),
        ({"method": "wild"}, "method="),
        ({"random": "Item"}, "no grouping factor"),
    ],
)
def test_refusals(dyestuff: bl.REMLResult, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(bl.DesignError, match=says):
        dyestuff.bootstrap(5, 1, **arguments)
    with pytest.raises(bl.DesignError, match="kind="):
        dyestuff.bootstrap(5, 1).confint(kind="student")


def gained(fit: bl.REMLResult) -> float:
    return float(2 * (fit.loglik - fit.update("~ . - Days").loglik))


@pytest.mark.parametrize("residual", [None, "ar1(Days | Subject)"])
@pytest.mark.parametrize("na_action", ["drop", "exclude"])
def test_update_within_a_statistic_keeps_the_simulated_response(residual: str | None, na_action: str) -> None:
    data = bl.load_dataset("sleepstudy")
    data = data[data["Subject"].isin(data["Subject"].unique()[:6])].reset_index(drop=True)
    data.loc[[3, 17], "Days"] = np.nan
    data.loc[5, "Reaction"] = np.nan
    kept = data.dropna().index
    formula = "log(Reaction) ~ Days" + ("" if residual else " + (1 | Subject)")
    fit = bl.Model(formula, data, residual=residual, na_action=na_action).fit(reml=False)
    found = fit.bootstrap(3, random_seed=1, statistic=gained).all_draws["statistic"]
    right = formula.partition("~")[2]
    explicit = []
    for y in np.asarray(fit.simulate(3, random_seed=1).loc[kept]).T:
        frame = data.loc[kept].assign(z=y)
        models = [bl.Model(f"z ~ {part}", frame, residual=residual) for part in (right, right.replace("Days", "1", 1))]
        explicit.append(2 * (models[0].fit(reml=False).loglik - models[1].fit(reml=False).loglik))
    np.testing.assert_allclose(found, explicit, rtol=1e-6)
    assert not np.isclose(found, gained(fit)).any()


def test_update_within_a_jackknife_leaves_out_the_level() -> None:
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit(reml=False)
    left = fit.bootstrap(2, random_seed=1, statistic=gained).without()["statistic"]
    first = bl.Model("Reaction ~ Days + (1 | Subject)", data[data["Subject"] != data["Subject"].iloc[0]])
    assert left.size == 18
    assert left[0] == pytest.approx(gained(first.fit(reml=False)), rel=1e-9)


def test_a_refit_is_updated_with_its_own_response() -> None:
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()
    y = data["Reaction"].to_numpy()[::-1].copy()
    again = fit.refit(y).update("sqrt(.) ~ . - Days")
    assert again.loglik == bl.Model("sqrt(y) ~ 1 + (1 | Subject)", data.assign(y=y)).fit().loglik
    other = data.assign(Reaction=y**2)
    assert fit.refit(y).update(data=other).loglik == bl.Model(fit.formula, other).fit().loglik
