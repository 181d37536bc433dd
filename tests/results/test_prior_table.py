"""The table of priors: quantiles from SciPy's distributions, sentences with the units of the columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.priors import FlatFactor, Priors, Relative
from bayeslmm.results.prior_table import explain, marginal_shape, prior_table

SLEEP = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
BELOW = "below with probability 0.95"


def table(spec: object, model: bl.Model = SLEEP) -> pd.DataFrame:
    return prior_table(model.design, resolve_priors(model.design, spec))  # type: ignore[arg-type]


def test_quantiles_are_those_of_scipy() -> None:
    spec = {
        "sd_Subject[Intercept]": bl.HalfT(3, 20.0),
        "sd_Subject[Days]": bl.Gamma(2.0, 0.5),
        "sigma": bl.Exponential(30.0),
        "beta[Days]": bl.Normal(5.0, 2.0),
    }
    below = table(spec)[BELOW]
    assert below["sd_Subject[Intercept]"] == pytest.approx(stats.t(3, scale=20.0).ppf(0.975))
    assert below["sd_Subject[Days]"] == pytest.approx(stats.gamma(2.0, scale=2.0).ppf(0.95))
    assert below["sigma"] == pytest.approx(stats.expon(scale=30.0).ppf(0.95))
    assert below["Days"] == pytest.approx(stats.norm(5.0, 2.0).ppf(0.95))
    assert below[["corr_Subject[Intercept.Days]", "Intercept"]].isna().all()


def test_sentences_in_the_units_of_the_data() -> None:
    words = table({"sd": bl.HalfNormal(100.0), "beta[Days]": bl.Normal(0.0, 10.0)})["in words"]
    upper = f"{stats.halfnorm(scale=100.0).ppf(0.95):.3g}"
    assert words["sd_Subject[Intercept]"] == (
        f"The sd between levels of Subject at Days = 0 is below {upper} (units of Reaction) with probability 0.95."
    )
    assert (
        f"of Days between levels of Subject is below {upper} (Reaction per unit of Days)" in words["sd_Subject[Days]"]
    )
    assert "is between -0.95 and 0.95 with" in words["corr_Subject[Intercept.Days]"]
    assert words["Intercept"] == "The intercept may have any value (flat)."
    assert "is between -19.6 and 19.6 (Reaction per unit of Days)" in words["Days"]


def test_columns_of_zeros_and_ones_have_no_units_of_their_own() -> None:
    model = bl.Model("score ~ Machine + (0 + Machine | Worker)", bl.load_dataset("Machines"))
    words = table("weak", model)["in words"]
    assert "(units of score)" in words["sd_Worker[Machine[A]]"]
    assert "(units of score)" in words["Machine[B]"]
    # LKJ(1) of three effects: beta(3/2, 3/2) on (-1, 1)
    assert f"between -{stats.beta(1.5, 1.5, -1, 2).ppf(0.975):.2g} and" in words["corr_Worker[Machine[A].Machine[B]]"]


def test_shared_correlation_on_its_range() -> None:
    model = bl.Model("score ~ Machine + cs(0 + Machine | Worker)", bl.load_dataset("Machines"))
    low, high = (stats.uniform(-0.5, 1.5).ppf(q) for q in (0.025, 0.975))
    rows = table(None, model)
    assert f"between {low:.2g} and {high:.2g}" in rows.loc["corr_Worker[cs]", "in words"]
    assert "share is below" in rows.loc["sd_Worker[cs]", "in words"]


def test_ratios_are_given_in_units_of_sigma() -> None:
    rows = table({"sd": Relative(bl.Exponential(1.0))})
    assert "below 3 times sigma with" in rows.loc["sd_Subject[Intercept]", "in words"]
    assert "below 3 times sigma per unit of Days with" in rows.loc["sd_Subject[Days]", "in words"]
    assert np.isnan(rows.loc["sd_Subject[Days]", BELOW])
    assert rows.loc["sd_Subject[Days]", "prior"] == "exponential(mean 1) times sigma"
    assert (table("rstanarm")["prior"].iloc[:2] == "decov(1, 1, 1, 1)").all()


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (bl.Flat(), "equally plausible (flat, improper)"),
        (bl.Power(-1.0), "flat on its logarithm, improper"),
        (bl.Gamma(2.0, 0.0), "proportional to its power 1 (excludes zero, improper)"),
        (bl.Power(-0.5), "power -0.5 (favours zero, improper)"),
        (Relative(bl.Flat()), "relative to sigma is equally plausible"),
    ],
)
def test_improper_priors_say_so(prior: object, words: str) -> None:
    rows = table({"sd_Subject": prior})
    assert words in rows.loc["sd_Subject[Intercept]", "in words"]
    assert np.isnan(rows.loc["sd_Subject[Intercept]", BELOW])


def test_what_differs_from_the_package_stands_in_the_table() -> None:
    assert "t(3, scale 59.3) on the centred intercept, flat here" in table("brms").loc["Intercept", "in words"]
    assert "no correlations" in table("bambi").loc["corr_Subject[Intercept.Days]", "in words"]


def test_explain_has_a_line_per_parameter() -> None:
    priors = resolve_priors(SLEEP.design, "bambi")
    lines = explain(SLEEP.design, priors).splitlines()
    rows = prior_table(SLEEP.design, priors)
    assert [line.split(": ")[0] for line in lines] == list(rows.index)
    assert all(line.endswith(text) for line, text in zip(lines, rows["in words"], strict=True))


def test_correlations_of_the_prior_that_is_flat_in_theta() -> None:
    """Rows of the Cholesky factor uniform on half-spheres, drawn as normalised normal vectors."""
    rng, size = np.random.default_rng(1), 4
    L = np.zeros((100_000, size, size))
    for i in range(size):
        v = rng.normal(size=(L.shape[0], i + 1))
        v[:, i] = np.abs(v[:, i])
        L[:, i, : i + 1] = v / np.linalg.norm(v, axis=1, keepdims=True)
    corr = L @ np.swapaxes(L, 1, 2)
    marginals = tuple(FlatFactor().marginal(k, size) for k in range(size))
    priors = Priors((marginals,), (0.5,), bl.Flat(), joint=(FlatFactor(),))
    for i in range(1, size):
        for j in range(i):
            a = marginal_shape(priors, 0, i, size)
            share = (corr[:, i, j] < stats.beta(a, a, -1, 2).ppf(0.9)).mean()
            assert abs(share - 0.9) < 4 * np.sqrt(0.09 / L.shape[0])
