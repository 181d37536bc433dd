"""Means of posteriors: the draws themselves, and a fit's numbers where data are many and priors flat."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(60), 12)
    a, x = np.tile(list("abc"), 240), rng.uniform(0, 4, 720)
    y = 5 + 2.0 * (a == "b") - 0.1 * (a == "c") + 0.3 * x + rng.normal(size=60)[g] + rng.normal(size=720)
    return pd.DataFrame({"y": y, "a": a, "x": x, "g": g.astype(str), "z": np.exp(y / 4)})


@pytest.fixture(scope="module")
def model(data: pd.DataFrame) -> bl.Model:
    return bl.Model("y ~ a * x + (1 | g)", data)


@pytest.fixture(scope="module")
def fit(model: bl.Model) -> bl.REMLResult:
    return model.fit()


@pytest.fixture(scope="module")
def post(model: bl.Model) -> bl.Posterior:
    return model.sample(4000, random_seed=1)


def agree(reml: object, posterior: object, draws: int = 4000) -> None:
    """Means within five Monte Carlo errors and a 200th of a standard error, errors within five of theirs."""
    a, b = reml.frame, posterior.frame  # type: ignore[attr-defined]
    assert (np.abs(a["estimate"] - b["mean"]) < (5 / np.sqrt(draws) + 0.005) * a["std_error"]).all()
    np.testing.assert_allclose(b["sd"], a["std_error"], rtol=5 / np.sqrt(2 * draws) + 0.01)
    # Ends of the shortest interval wander more than quantiles.
    assert (np.abs(a["conf_low"] - b["hdi_low"]) < 0.25 * a["std_error"]).all()


def test_means_slopes_and_contrasts_agree_with_reml(fit: bl.REMLResult, post: bl.Posterior) -> None:
    agree(fit.means("a", ddf="z"), post.means("a"))
    agree(fit.means("a", ddf="z").pairs("none"), post.means("a").pairs())
    agree(fit.trends("x", "a", ddf="z"), post.trends("x", "a"))
    agree(fit.means("a", ddf="z").contrast("effect", "none"), post.means("a").contrast("effect"))


def test_the_draws_are_the_combinations(post: bl.Posterior) -> None:
    means = post.means("a", at={"x": [2.0]})
    beta = {name: post.draws(name) for name in post.design.fixed_names}
    b = beta["Intercept"] + beta["a[b]"] + 2 * (beta["x"] + beta["a[b]:x"])
    np.testing.assert_allclose(means.draws["b"], b, rtol=1e-12)
    difference = means.pairs(reverse=True)
    own = (beta["a[b]"] + 2 * beta["a[b]:x"]) > 0
    assert difference.frame["p_positive"][0] == np.mean(own)
    assert difference.draws.shape == (4000, 3)


def test_rope(post: bl.Posterior) -> None:
    pairs = post.means("a", rope=0.2).pairs()
    found = np.mean(np.abs(pairs.draws["a - c"]) <= 0.2)
    assert pairs.frame["in_rope"][1] == found and 0 < found < 1
    assert "P(in ROPE)" in repr(pairs)
    for odd in (-1, [2, 1], "wide", [1, 2, 3]):
        with pytest.raises(DesignError, match="rope"):
            post.means("a", rope=odd)


def test_no_digit_is_shown_that_another_seed_would_change(post: bl.Posterior) -> None:
    means = post.means("a")
    text = repr(means)
    assert "Monte Carlo" in text and max(map(len, text.splitlines())) <= 80
    shown = text.splitlines()[3].split()[1]
    assert len(shown) < len(repr(float(means.frame["mean"][0])))
    assert "<table" in means._repr_html_()


def test_letters(post: bl.Posterior) -> None:
    assert post.means("a").letters()["letters"].tolist() == ["a", "a", "b"]


def test_a_transformed_response_goes_back_draw_by_draw(data: pd.DataFrame) -> None:
    post = bl.Model("log(z) ~ a + (1 | g)", data).sample(2000, random_seed=2)
    link, response = post.means("a"), post.means("a", type="response")
    np.testing.assert_allclose(response.draws, np.exp(link.draws), rtol=1e-14)
    ratio = response.pairs()
    np.testing.assert_allclose(ratio.draws["a / b"], response.draws["a"] / response.draws["b"], rtol=1e-12)
    assert "P(> 1)" in repr(ratio)
    back = link.regrid().pairs()
    np.testing.assert_allclose(back.draws["a - b"], response.draws["a"] - response.draws["b"], rtol=1e-9, atol=1e-12)
    # The mean of a lognormal response, with the variance of each draw.
    variance = post.draws("sigma") ** 2 + post.draws("sd_g[Intercept]") ** 2
    means = post.means("a", type="response", bias_adjust=True).draws["a"]
    np.testing.assert_allclose(means, np.exp(link.draws["a"] + variance / 2), rtol=1e-10)


def test_both_side_by_side(fit: bl.REMLResult, post: bl.Posterior, model: bl.Model) -> None:
    both = bl.compare(fit, post)
    means = both.means("a")
    assert means.frame["estimate"].equals(fit.means("a").frame["estimate"])
    pairs = means.pairs("bonferroni")
    np.testing.assert_allclose(pairs.frame["p_value"], fit.means("a").pairs("bonferroni").frame["p_value"])
    np.testing.assert_allclose(pairs.frame["p_positive"], post.means("a").pairs().frame["p_positive"])
    text = repr(pairs)
    assert "REML" in text and "HDI" in text and max(map(len, text.splitlines())) <= 80
    assert "<table" in pairs._repr_html_()
    several = bl.compare(fit, post, model.sample(500, priors="weak", random_seed=3)).means("a").contrast("dunnett")
    assert [name for name in several.frame if name.startswith("mean (")] == [
        f"mean ({name})" for name in several.posteriors
    ]


def test_empty_cells_get_no_number() -> None:
    data = bl.load_dataset("Oats").rename(columns={"yield": "y"})
    data["n"] = data["nitro"].astype("category")
    data = data[~((data["Variety"] == "Victory") & (data["nitro"] == 0.6))]
    post = bl.Model("y ~ n * Variety + (1 | Block)", data).sample(200, random_seed=1)
    means = post.means(["n", "Variety"])
    assert means.frame["mean"].isna().sum() == 1 and "not estimable" in repr(means)
    assert means.pairs().frame["mean"].isna().sum() == 11


def test_wrong_calls(post: bl.Posterior) -> None:
    for call, words in (
        (lambda: post.means("b"), "not in the fixed part"),
        (lambda: post.means("x"), "is a number"),
        (lambda: post.means("a").regrid(), "regrid"),
        (lambda: post.means("a", bias_adjust=True), "type='response'"),
        (lambda: post.trends("a"), "no number"),
    ):
        with pytest.raises(DesignError, match=words):
            call()


def test_levels_are_text_in_a_notebook() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=24), "f": ["<b>", "a&b"] * 12, "g": np.repeat(list("pqrs"), 6)})
    model = bl.Model("y ~ f + (1 | g)", data)
    fit, post = model.fit(), model.sample(100, random_seed=1)
    for table in (fit.means("f"), post.means("f").pairs(), bl.compare(fit, post).means("f")):
        text = table._repr_html_()
        assert "<b>" not in text.replace("<p><b>", "") and "&lt;b&gt;" in text
