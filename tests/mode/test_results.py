"""What a fit under priors says and answers, what it refuses, and its files."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.errors import DesignError, FitError, PriorError, PriorWarning, StorageError
from bayeslmm.faces.fit import ModeResult
from bayeslmm.likelihood.hierarchy import Hierarchy
from bayeslmm.mode.degrees import at_mode, mode_coordinates

BATCH = "Yield ~ 1 + (1 | Batch)"
SLEEP = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def batches() -> bl.Model:
    return bl.Model(BATCH, bl.load_dataset("Dyestuff2"))


@pytest.fixture(scope="module")
def sleep() -> bl.Model:
    return bl.Model(SLEEP, bl.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def fit(sleep) -> ModeResult:
    return sleep.fit(priors="weak")


def test_the_summary_says_which_priors_and_on_which_scale(batches, sleep, fit):
    text = " ".join(str(batches.fit(priors={"sd": bl.Gamma(2, 0.1)}).summary()).split())
    assert "Posterior mode of a linear mixed model" in text
    assert "Priors: sd_Batch[Intercept] gamma(2, rate 0.1); sigma half-t(3, scale 3.716); fixed effects flat." in text
    assert "the highest point of the posterior density of standard deviations and sigma" in text
    assert "the random effects and, as in REML, the fixed effects integrated out" in text
    text = " ".join(str(fit.summary()).split())
    assert "of standard deviations, correlations and sigma" in text
    assert "and the fixed effects over their priors" in text
    assert "half-t(3, scale 56.33) at the mean of Days (4.5)" in text
    text = " ".join(str(sleep.fit(False, priors="rstanarm").summary()).split())
    assert "decov's root mean square of sd / sigma and shares in it, correlations and sigma" in text
    assert "the fixed effects where it is highest" in text
    text = str(batches.fit(priors="flat").summary())
    assert "of sd / sigma and log sigma" in " ".join(text.split())
    assert all(len(line) <= 80 for line in str(fit.summary()).splitlines())
    assert repr(fit).startswith("Posterior mode of a linear mixed model\nFormula: Reaction")


def test_what_needs_the_top_of_the_likelihood_is_refused(fit, batches):
    with pytest.raises(FitError, match=r"fit with priors \(sd_Subject.*the posterior mode is not there"):
        fit.profile("sigma")
    for ask in (fit.test_zero, fit.boundary, fit.bootstrap, fit.confint, fit.mme):
        with pytest.raises(FitError, match=r"fit with priors|Kenward"):
            ask(method="profile") if ask == fit.confint else ask()
    with pytest.raises(FitError, match="posterior mode"):
        fit.coefficients(ddf="kenward-roger")
    with pytest.raises(FitError, match="posterior mode"):
        fit.vcov_kenward_roger()
    with pytest.raises(DesignError, match="The fit has priors"):
        bl.compare(batches.fit(priors="default"), batches.sample(50, random_seed=1))


def test_what_a_point_estimate_has_is_given(fit, sleep):
    table = fit.coefficients(ddf="z")
    np.testing.assert_allclose(table["std_error"], fit.std_error())
    assert fit.confint().shape == (2, 2)
    assert fit.tidy()["conf_low"].isna().sum() == 4
    assert fit.priors == resolve_priors(sleep.design, "weak")
    assert sleep.fit().priors is None
    assert fit.penalty is None
    assert fit.test_fixed("Days")["df2"] == pytest.approx(fit.coefficients().loc["Days", "df"], rel=1e-8)
    predicted = fit.predict(bl.load_dataset("sleepstudy").iloc[:3])
    assert np.isfinite(predicted.to_numpy(float)).all()
    assert fit.simulate(2, random_seed=1).shape[0] == 180
    assert 0 < float(fit.r2()["r2_marginal"]) < float(fit.r2()["r2_conditional"]) < 1


def test_degrees_of_freedom_come_from_the_curvature_of_the_posterior(batches):
    """Satterthwaite by hand: the variance of the mean and differences of the density, both in (log sd, log sigma)."""
    data = bl.load_dataset("Dyestuff2")
    fit = bl.Model(BATCH, data).fit(priors={"preset": "flat", "sd": bl.Gamma(3, 0), "sigma": bl.Gamma(5, 1.0)})
    y = data["Yield"].to_numpy()
    within = ((y - data.groupby("Batch")["Yield"].transform("mean")) ** 2).sum()
    between = 5 * ((data.groupby("Batch")["Yield"].mean() - y.mean()) ** 2).sum()

    def minus_two(v):
        s, sigma = np.exp(v)
        total = 24 * np.log(sigma**2) + within / sigma**2
        total += 5 * np.log(sigma**2 + 5 * s**2) + between / (sigma**2 + 5 * s**2)
        return total - 2 * (2 * np.log(s) + 4 * np.log(sigma) - sigma)

    v, h = np.log([fit.theta[0] * fit.sigma, fit.sigma]), 1e-3
    e = h * np.eye(2)
    H = np.array(
        [
            [
                (minus_two(v + a + b) - minus_two(v + a - b) - minus_two(v - a + b) + minus_two(v - a - b)) / (4 * h**2)
                for a in e
            ]
            for b in e
        ]
    )
    variance = np.exp(2 * v)
    share = np.array([10 * variance[0], 2 * variance[1]]) / (variance[1] + 5 * variance[0])
    assert fit.coefficients().loc["Intercept", "df"] == pytest.approx(1 / (share @ np.linalg.solve(H, share)), rel=1e-4)


def test_exponential_priors_have_their_mode_at_zero_or_off_it(batches):
    at_zero = batches.fit(priors="pc")
    assert at_zero.is_singular
    assert at_zero.status.name == "converged_at_boundary"
    assert at_zero.theta[0] == 0
    text = " ".join(str(at_zero.summary()).split())
    assert "model.fit().boundary() says how large it may be" in text
    assert not bl.Model(BATCH, bl.load_dataset("Dyestuff")).fit(priors={"sd": bl.Exponential(50.0)}).is_singular
    both = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit(priors={"sd": bl.Exponential(0.5)})
    assert both.theta[0] == 0


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ({"sd": bl.Gamma(0.5, 1.0)}, "density is infinite at zero"),
        ({"sd": bl.Power(-0.5)}, "density is infinite at zero"),
        ({"sd": bl.Relative(bl.Gamma(0.9, 1.0))}, "density is infinite at zero"),
        ({"lkj": 0.7}, "determinant of its correlations"),
        (bl.Wishart(2.5, 4.0), "determinant of its correlations"),
        (bl.Decov(shape=0.5), "total variance"),
        (bl.Decov(concentration=0.5), "share of one effect"),
        ({"sd": bl.Gamma(40, 0)}, "Larger is always better"),
        ({"sigma": bl.Power(500.0)}, "degrees of freedom are too few"),
        ("unknown", "not a known set of priors"),
        (3, "not a set of priors"),
        (bl.Gamma, "not a set of priors"),
        ({"sd": 3}, "no prior of a standard deviation"),
        ({"sd_Nobody": bl.HalfNormal(1.0)}, "names no parameter"),
        ({"sd": [bl.HalfNormal(1.0)]}, "1 priors"),
        ({"sigma": bl.Relative(bl.HalfNormal(1.0))}, "relative to sigma itself"),
        ({"sigma": "wide"}, "no prior of a standard deviation"),
        ({"lkj": 0}, "positive number"),
        ({"beta": bl.HalfNormal(3.0)}, "The prior of beta"),
        ({"beta[Nights]": bl.Normal(0, 1)}, "names no parameter"),
        ({"beta[Days]": 2.0}, "The prior of beta"),
    ],
)
def test_priors_without_a_mode_or_sense_are_refused(sleep, priors, words):
    with pytest.raises(PriorError, match=words):
        sleep.fit(priors=priors)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bl.Gamma(-1, 1), "shape"),
        (lambda: bl.Gamma("a", 1), "shape"),
        (lambda: bl.Gamma(1, -1), "rate"),
        (lambda: bl.Gamma(1, [1, 2]), "rate"),
        (lambda: bl.InverseGammaVariance(0, 0), "parameter of zero"),
        (lambda: bl.InverseGammaVariance(1, "b"), "rate"),
        (lambda: bl.Wishart("a"), "degrees of freedom"),
        (lambda: bl.Wishart(-3), "degrees of freedom"),
        (lambda: bl.Wishart(4, -2.0), "scale"),
        (lambda: bl.Normal(0, "a"), "finite mean"),
        (lambda: bl.Normal(0, -1.0), "finite mean"),
        (lambda: bl.HalfT(0, 1.0), "degrees of freedom"),
        (lambda: bl.Uniform(0), "upper end"),
        (lambda: bl.Relative(3), "Relative"),
    ],
)
def test_malformed_priors_are_refused_when_they_are_made(make, words):
    with pytest.raises(PriorError, match=words):
        make()


def test_a_penalty_and_priors_together_are_refused(batches):
    with pytest.raises(FitError, match="penalty= and priors="):
        batches.fit(penalty="gamma", priors="default")


def test_one_prior_is_that_of_all_sds(sleep):
    fit = sleep.fit(priors=bl.HalfNormal(20.0))
    assert fit.theta == pytest.approx(sleep.fit(priors={"sd": bl.HalfNormal(20.0)}).theta)


@dataclass(frozen=True)
class Half:
    """A half-normal prior that the package does not know."""

    scale: float
    proper = True
    even = True
    relative = False

    def log_density(self, s):
        return np.log(2) - 0.5 * np.log(2 * np.pi) - np.log(self.scale) - 0.5 * (s / self.scale) ** 2

    def quantile(self, probability):
        return bl.HalfNormal(self.scale).quantile(probability)

    def __str__(self):
        return "mine"


def test_a_prior_of_ones_own(sleep):
    fit, own = (sleep.fit(priors={"sd": prior, "sigma": prior}) for prior in (bl.HalfNormal(9.0), Half(9.0)))
    np.testing.assert_allclose(own.theta, fit.theta, rtol=1e-6, atol=1e-7)
    assert own.optimum.objective == pytest.approx(fit.optimum.objective, abs=1e-8)


def test_both_stores_and_any_unit_have_one_mode():
    rng = np.random.default_rng(3)
    g, h = np.repeat(np.arange(30), 6), rng.integers(0, 12, 180)
    y = rng.normal(size=30)[g] + 0.5 * rng.normal(size=12)[h] + rng.normal(size=180)
    data = pd.DataFrame({"y": y, "x": rng.normal(size=180), "g": g.astype(str), "h": h.astype(str)})
    formula = "y ~ x + (x | g) + (1 | h)"
    fit = bl.Model(formula, data).fit(priors="default")
    other = bl.Model(formula, data, store="hierarchy").fit(priors="default")
    assert isinstance(other.cp.sums, Hierarchy)
    np.testing.assert_allclose(other.theta, fit.theta, rtol=1e-5, atol=1e-6)
    for unit in (1e-8, 1e8):
        scaled = bl.Model(formula, data.assign(y=unit * y)).fit(priors="default")
        np.testing.assert_allclose(scaled.theta, fit.theta, rtol=1e-5, atol=1e-6)
        assert scaled.sigma == pytest.approx(unit * fit.sigma, rel=1e-6)
    moved = bl.Model(formula, data.assign(x=data["x"] + 1e4)).fit(priors="default")
    assert moved.sigma == pytest.approx(fit.sigma, rel=1e-6)
    assert moved.estimates()["sd_g[x]"] == pytest.approx(fit.estimates()["sd_g[x]"], rel=1e-5)


@pytest.mark.parametrize(
    ("formula", "priors"),
    [
        ("Reaction ~ Days + (Days | Subject)", {"lkj": 2, "beta": "weak"}),
        ("Reaction ~ Days + (Days | Subject)", "rstanarm"),
        ("Reaction ~ Days + (Days | Subject)", bl.Decov(2.0, 1.5, 2.0, 0.5)),
        ("Reaction ~ 1 + cs(0 + d | Subject)", {"lkj": 3, "sd": bl.Relative(bl.Exponential(1.0))}),
        ("Reaction ~ 1 + toep(0 + d | Subject)", {"lkj": 2, "sigma": bl.Exponential(30.0)}),
        ("Reaction ~ 1 + ar1(0 + d | Subject)", {"sd": bl.Gamma(2, 0.1)}),
        ("Reaction ~ 1 + ar1h(0 + d | Subject)", {"sd": bl.Gamma(2, 0.1), "lkj": 2}),
        ("Reaction ~ 1 + (0 + d | Subject)", {"sd": bl.HalfCauchy(20.0), "beta[Intercept]": bl.Normal(250, 20)}),
    ],
)
@pytest.mark.parametrize("reml", [True, False])
def test_the_gradient_is_that_of_the_value(formula, priors, reml):
    data = bl.load_dataset("sleepstudy")
    data = data.assign(d=np.minimum(data["Days"] // 3, 2).astype(int).astype(str))
    mode = bl.Model(formula, data).fit(reml, priors=priors, on_failure="ignore").optimum
    objective = at_mode(mode)
    z = mode_coordinates(mode, objective)
    assert objective(z)[0] == pytest.approx(mode.objective, abs=1e-7)
    z = z + np.random.default_rng(1).uniform(0.05, 0.2, z.size)
    slopes = [(objective(z + h)[0] - objective(z - h)[0]) / 2e-5 for h in 1e-5 * np.eye(z.size)]
    np.testing.assert_allclose(objective(z)[1], slopes, rtol=1e-5, atol=1e-5)


def test_files_hold_modes(tmp_path, fit, batches):
    for one in (fit, batches.fit(priors="pc"), batches.fit(False, priors={"sd": bl.Relative(bl.Gamma(2, 0.1))})):
        one.save(tmp_path / "fit", overwrite=True)
        again = bl.load(tmp_path / "fit")
        assert type(again) is ModeResult
        assert again.optimum == one.optimum
        assert again.fixef().equals(one.fixef())
        assert str(again.summary()) == str(one.summary())


def test_a_file_warns_of_nothing(tmp_path, batches):
    with pytest.warns(PriorWarning):
        fit = batches.fit(priors={"sd": bl.InverseGammaVariance(1.0, 1.0)})
    fit.save(tmp_path / "fit")
    assert bl.load(tmp_path / "fit").optimum == fit.optimum


def test_priors_of_a_posterior_have_a_mode(batches):
    post = batches.sample(50, priors="weak", random_seed=1)
    assert batches.fit(priors=post.priors).optimum.objective == batches.fit(priors="weak").optimum.objective


@pytest.mark.parametrize(("field", "value"), [("sigma", 20.0), ("log_prior", -3.0), ("criterion", 1700.0)])
def test_changed_files_of_modes_are_refused(tmp_path, fit, field, value):
    with pytest.raises(StorageError, match=field.replace("_", " ") if field != "sigma" else "in the file"):
        _saved(tmp_path, replace(fit, optimum=replace(fit.optimum, **{field: value})))


def test_a_file_with_other_priors_is_refused(tmp_path, fit, batches):
    other = replace(fit.optimum, priors=batches.fit(priors="weak").priors)
    with pytest.raises(StorageError, match=r"Priors object|priors"):
        _saved(tmp_path, replace(fit, optimum=other))


def _saved(tmp_path, fit):
    fit.save(tmp_path / "changed")
    assert zipfile.is_zipfile(io.BytesIO((tmp_path / "changed").read_bytes()))
    return bl.load(tmp_path / "changed")


def test_parameters_that_are_held_stay(sleep):
    theta = [1.0, 0.1, 0.3]
    fit = sleep.fit(priors={"sigma": bl.HalfNormal(5.0)}, fix={"Subject": theta})
    np.testing.assert_allclose(fit.theta, theta, rtol=1e-12)
    assert fit.sigma < sleep.fit(fix={"Subject": theta}).sigma
    assert fit.df == 3


def test_refits_have_the_same_priors(fit, sleep):
    again = fit.refit(sleep.design.y)
    assert type(again) is ModeResult
    np.testing.assert_allclose(again.theta, fit.theta, rtol=1e-5, atol=1e-7)
    assert again.priors == fit.priors


def test_priors_identify_what_data_do_not():
    twice = bl.Model("Reaction ~ Days + (1 | Subject) + (Days | Subject)", bl.load_dataset("sleepstudy"))
    flat = twice.fit(priors={"sd": "flat", "sigma": "flat"}, on_failure="ignore")
    assert flat.status.name == "not_identified"
    assert flat.criterion == pytest.approx(twice.fit(on_failure="ignore").criterion, abs=1e-7)
    # A half-normal density is the same wherever the sum of squares is.
    assert twice.fit(priors={"sd": bl.HalfNormal(20.0)}, on_failure="ignore").status.name == "not_identified"
    fit = twice.fit(priors={"sd": bl.HalfT(3, 20.0)})
    assert fit.status.ok
    assert not fit.optimum.ridges


def test_how_a_search_ended_is_said(sleep):
    assert sleep.fit(priors="default", max_evaluations=1, on_failure="ignore").status.name == "evaluation_limit"
    exact = pd.DataFrame({"y": np.repeat([1.0, 2.0, 4.0, 7.0], 4), "g": np.repeat(list("abcd"), 4)})
    assert bl.Model("y ~ 1 + (1 | g)", exact).fit(priors="default", on_failure="ignore").status.name == "non_finite"
