"""Profile intervals at ratios of standard deviations from 1 to 1e10: against the closed form of balanced layouts."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.special import chdtri

import bayeslmm as bl

J, N = 8, 5
CUT = float(chdtri(1, 0.05))


def layout(ratio, seed=0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(J), N)
    u, e = rng.normal(size=J), rng.normal(size=J * N)
    return pd.DataFrame({"g": g, "y": ratio * u[g] + e})


def sums(frame):
    Y = frame.y.to_numpy().reshape(J, N)
    means = Y.mean(axis=1)
    within = float(((Y - means[:, None]) ** 2).sum())
    return means, within, N * float(((means - means.mean()) ** 2).sum())


def criterion(s2, lam, within, between, levels):
    """-2 log likelihood of a balanced layout but for constants; lam = sigma^2 + n tau^2."""
    return J * (N - 1) * np.log(s2) + within / s2 + levels * np.log(lam) + between / lam


def exact_mean(frame):
    """The likelihood with the mean held: both variances have closed forms as long as the layout is not singular."""
    means, within, _ = sums(frame)
    mean, sd = means.mean(), means.std()

    def at(t):
        between = N * float(((means - mean - t * sd) ** 2).sum())
        s2, lam = within / (J * (N - 1)), between / J
        assert lam >= s2
        return criterion(s2, lam, within, between, J)

    low, high = (brentq(lambda t: at(t) - at(0.0) - CUT, *ends, xtol=1e-14) for ends in ((-20.0, 0.0), (0.0, 20.0)))
    return mean + sd * low, mean + sd * high


def exact_sd(frame, reml):
    _, within, between = sums(frame)
    levels = J - 1 if reml else J
    s2, lam = within / (J * (N - 1)), between / levels
    least = criterion(s2, lam, within, between, levels)

    def at(tau):
        best = minimize_scalar(
            lambda log: criterion(np.exp(log), np.exp(log) + N * tau**2, within, between, levels),
            bounds=(np.log(s2) - 4.0, np.log(s2) + 4.0),
            method="bounded",
            options={"xatol": 1e-9},
        )
        return best.fun - least - CUT

    tau = np.sqrt((lam - s2) / N)
    return [tau * np.exp(brentq(lambda t: at(tau * np.exp(t)), *e, xtol=1e-12)) for e in ((-1.5, 0.0), (0.0, 2.0))]


def exact_sigma(frame):
    """Where the other variance is far away it does not follow."""
    _, within, _ = sums(frame)
    nu = J * (N - 1)

    def at(log):
        s2 = np.exp(log) * within / nu
        return nu * np.log(s2) + within / s2 - nu * np.log(within / nu) - nu - CUT

    return [np.sqrt(within / nu) * np.exp(0.5 * brentq(at, *e, xtol=1e-13)) for e in ((-3.0, 0.0), (0.0, 3.0))]


@pytest.mark.parametrize("ratio", [1.5, 1e3, 1e6, 1e7, 1e8, 1e9, 1e10])
@pytest.mark.parametrize("seed", [0, 1])
def test_intervals_of_a_balanced_layout(ratio, seed):
    frame = layout(ratio, seed)
    fit = bl.Model("y ~ 1 + (1 | g)", frame).fit()
    ends = fit.confint()
    exact = exact_mean(frame)
    assert ends.loc["Intercept"].to_numpy() == pytest.approx(exact, abs=1e-7 * (exact[1] - exact[0]))
    # y itself has sixteen digits, so that within levels it has so many fewer.
    digits = max(1e-6, 1e-15 * ratio)
    assert ends.loc["sd_g[Intercept]"].to_numpy() == pytest.approx(exact_sd(frame, True), rel=2e-6)
    if ratio >= 1e3:
        assert ends.loc["sigma"].to_numpy() == pytest.approx(exact_sigma(frame), rel=digits)


@pytest.mark.parametrize("ratio", [1e6, 1e9])
def test_intervals_after_maximum_likelihood(ratio):
    frame = layout(ratio, 2)
    ends = bl.Model("y ~ 1 + (1 | g)", frame).fit(reml=False).confint()
    exact = exact_mean(frame)
    assert ends.loc["Intercept"].to_numpy() == pytest.approx(exact, abs=1e-7 * (exact[1] - exact[0]))
    assert ends.loc["sd_g[Intercept]"].to_numpy() == pytest.approx(exact_sd(frame, False), rel=2e-6)


@pytest.mark.parametrize("ratio", [1e5, 1e9])
def test_what_a_profile_says_at_the_ends_of_its_interval(ratio):
    fit = bl.Model("y ~ 1 + (1 | g)", layout(ratio, 3)).fit()
    for label in ("sd_g[Intercept]", "sigma"):
        ends = fit.confint(parameters=label).iloc[0].tolist()
        criteria = fit.profile(label, [ends[0], fit.estimates()[label], ends[1]]).criterion.to_numpy()
        assert criteria - fit.criterion == pytest.approx([CUT, 0.0, CUT], abs=1e-4)


def unbalanced(ratio):
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(9), [2, 7, 3, 5, 2, 4, 6, 3, 2])
    x = rng.normal(size=g.size)
    u, e = rng.normal(size=9), rng.normal(size=g.size)
    return pd.DataFrame({"g": g, "x": x, "y": ratio * u[g] + 0.4 * x + e})


def test_unbalanced_layouts_have_the_limits_of_fixed_levels():
    """With levels infinitely far apart the within part is a regression with fixed levels, the rest their means."""
    frame = unbalanced(1e7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ends = bl.Model("y ~ x + (1 | g)", frame).fit().confint()
    y, x = (frame[name] - frame.groupby("g")[name].transform("mean") for name in ("y", "x"))
    b = float(x @ y / (x @ x))
    rest, nu = float(((y - b * x) ** 2).sum()), len(frame) - 9
    half = np.sqrt(rest * np.expm1(CUT / nu) / float(x @ x))
    assert ends.loc["x"].to_numpy() == pytest.approx([b - half, b + half], rel=1e-6)
    log = [0.5 * brentq(lambda t: (nu - 1) * (t + np.expm1(-t)) - CUT, *e) for e in ((-3.0, 0.0), (0.0, 3.0))]
    assert ends.loc["sigma"].to_numpy() == pytest.approx(np.sqrt(rest / (nu - 1)) * np.exp(log), rel=1e-6)
