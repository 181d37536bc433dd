"""Transformed responses: the way back, its derivatives, ratios; what is not a transformation is not taken for one."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import bayeslmm as bl
from bayeslmm.means.links import response_link


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(10), 6)
    f = np.tile(list("ab"), 30)
    eta = 1.5 + 0.4 * (f == "b") + 0.2 * rng.normal(size=10)[g] + 0.2 * rng.normal(size=60)
    return pd.DataFrame({"eta": eta, "f": f, "g": g.astype(str), "p": expit(eta), "y": np.exp(eta)})


RESPONSES = {
    "log(y)": np.exp,
    "np.log(y)": np.exp,
    "log10(y)": lambda x: 10**x,
    "log2(y)": lambda x: 2**x,
    "log(y, 10)": lambda x: 10**x,
    "log1p(y)": np.expm1,
    "log(y + 1)": lambda x: np.exp(x) - 1,
    "log(2 * y)": lambda x: np.exp(x) / 2,
    "sqrt(y)": np.square,
    "cbrt(y)": lambda x: x**3,
    "I(y ** 0.25)": lambda x: x**4,
    "log(p / (1 - p))": expit,
}


@pytest.mark.parametrize("response", RESPONSES)
def test_inverse_and_derivatives(data: pd.DataFrame, response: str) -> None:
    model = bl.Model(f"{response} ~ f + (1 | g)", data)
    link = response_link(model.design)
    assert link is not None and link.response == ("p" if "p /" in response else "y")
    x, h = np.linspace(0.7, 2.0, 5), 1e-5
    np.testing.assert_allclose(link.inverse(x), RESPONSES[response](x), rtol=1e-13)
    np.testing.assert_allclose(link.derivative(x), (link.inverse(x + h) - link.inverse(x - h)) / (2 * h), rtol=1e-8)
    v = 0.09
    bent = link.inverse(x) + v / 2 * (link.inverse(x + 1e-3) - 2 * link.inverse(x) + link.inverse(x - 1e-3)) / 1e-6
    np.testing.assert_allclose(link.inverse(x, v), bent, rtol=1e-5)
    slope = (link.inverse(x + h, v) - link.inverse(x - h, v)) / (2 * h)
    np.testing.assert_allclose(link.derivative(x, v), slope, rtol=1e-7)


@pytest.mark.parametrize("response", RESPONSES)
def test_means_go_back_with_the_delta_method(data: pd.DataFrame, response: str) -> None:
    fit = bl.Model(f"{response} ~ f + (1 | g)", data).fit()
    link, back = fit.means("f").frame, fit.means("f", type="response").frame
    inverse = RESPONSES[response]
    for name in ("estimate", "conf_low", "conf_high"):
        np.testing.assert_allclose(back[name], inverse(link[name]), rtol=1e-12)
    differences = fit.means("f").regrid().pairs().frame
    assert differences["estimate"][0] == pytest.approx(back["estimate"][0] - back["estimate"][1], rel=1e-10)


def test_ratios_of_what_has_ratios(data: pd.DataFrame) -> None:
    for response, is_ratio in (("log10(y)", True), ("sqrt(y)", False), ("log(y + 1)", False), ("log1p(y)", False)):
        fit = bl.Model(f"{response} ~ f + (1 | g)", data).fit()
        pairs = fit.means("f", type="response").pairs()
        assert pairs.frame["contrast"][0] == ("a / b" if is_ratio else "a - b")
        assert ("regrid" in repr(pairs)) != is_ratio
        plain = fit.means("f").pairs().frame
        assert pairs.frame["p_value"][0] == pytest.approx(plain["p_value"][0], rel=1e-12)
        if is_ratio:
            means = fit.means("f", type="response").frame["estimate"]
            assert pairs.frame["estimate"][0] == pytest.approx(means[0] / means[1], rel=1e-12)
    odds = bl.Model("log(p / (1 - p)) ~ f + (1 | g)", data).fit().means("f", type="response")
    p = odds.frame["estimate"]
    assert odds.pairs().frame["estimate"][0] == pytest.approx((p[0] / (1 - p[0])) / (p[1] / (1 - p[1])), rel=1e-10)
    assert "Odds ratios" in repr(odds.pairs())


@pytest.mark.parametrize("response", ["y", "log(y) + p", "exp(y / 10)", "y / p", "log(y * p)", "scale(y)"])
def test_no_other_response_is_taken_back(data: pd.DataFrame, response: str) -> None:
    assert response_link(bl.Model(f"{response} ~ f + (1 | g)", data).design) is None


def test_means_of_bounded_responses_draw_by_draw(data: pd.DataFrame) -> None:
    """Gauss and Hermite's rule beside a simulation of new observations of new groups."""
    post = bl.Model("log(p / (1 - p)) ~ f + (1 | g)", data).sample(300, random_seed=4)
    means = post.means("f", type="response", bias_adjust=True).draws["a"].to_numpy()
    eta = post.means("f").draws["a"].to_numpy()
    sd = np.sqrt(post.draws("sigma") ** 2 + post.draws("sd_g[Intercept]") ** 2)
    z = np.random.default_rng(1).normal(size=20_000)
    for i in (0, 150, 299):
        simulated = expit(eta[i] + sd[i] * z)
        assert abs(means[i] - simulated.mean()) < 5 * simulated.std() / np.sqrt(z.size)


def test_tables_are_values(data: pd.DataFrame) -> None:
    """They can be compared, copied and sent to another process."""
    fit = bl.Model("log(y) ~ f + (1 | g)", data).fit()
    table = fit.means("f", type="response").pairs()
    sent = pickle.loads(pickle.dumps(table))
    assert sent == table and copy.deepcopy(table) == table
    assert sent.frame.equals(table.frame)
    assert table != fit.means("f").pairs()


def test_contrasts_that_are_nothing_have_no_test(data: pd.DataFrame) -> None:
    fit = bl.Model("y ~ f + (1 | g)", data).fit()
    table = fit.means("f").contrast({"zero": [0, 0], "b - a": [-1, 1]}, "bonferroni")
    assert table.frame["estimate"][0] == 0.0 and np.isnan(table.frame["p_value"][0])
    plain = fit.means("f").pairs("none", reverse=True).frame["p_value"][0]
    assert table.frame["p_value"][1] == pytest.approx(plain, rel=1e-12)
    assert "zero" in repr(table)
