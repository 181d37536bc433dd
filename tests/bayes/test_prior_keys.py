"""Keys of a mapping of priors: what each one changes, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.priors import (
    Chi,
    Decov,
    Exponential,
    Flat,
    HalfNormal,
    InverseGammaVariance,
    Normal,
    Power,
    Priors,
    Relative,
    Wishart,
)
from bayeslmm.datasets import load_dataset
from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError, PriorWarning
from bayeslmm.likelihood import NormalPrior

FORMULA = "Reaction ~ Days + (Days | Subject)"
A, B, C = HalfNormal(1.0), HalfNormal(2.0), Exponential(3.0)


@pytest.fixture(scope="module")
def sleep() -> Design:
    return build_design(FORMULA, load_dataset("sleepstudy"))


def test_specific_keys_win_whatever_their_order(sleep: Design) -> None:
    spec = {"sd_Subject[Days]": C, "( Days|Subject )": B, "sd_Subject": A, "sd": "flat"}
    assert resolve_priors(sleep, spec).sds == ((B, C),)
    assert resolve_priors(sleep, dict(reversed(spec.items()))).sds == ((B, C),)
    del spec["( Days|Subject )"]
    assert resolve_priors(sleep, spec).sds == ((A, C),)
    assert resolve_priors(sleep, {"sd": "flat"}).sds == ((Flat(), Flat()),)


def test_keys_without_a_match_leave_the_rest_alone(sleep: Design) -> None:
    base = default_priors(sleep)
    priors = resolve_priors(sleep, {"sd_Subject[Days]": C})
    assert priors.sds[0][0] == base.sds[0][0]
    assert (priors.sigma, priors.beta, priors.lkj) == (base.sigma, None, (1.0,))


@pytest.mark.parametrize("key", ["lkj", "lkj_Subject", "corr_Subject"])
def test_correlation_by_group(sleep: Design, key: str) -> None:
    assert resolve_priors(sleep, {key: 2}).lkj == (2.0,)
    assert resolve_priors(sleep, {"lkj": 3, "corr_Subject": 2}).lkj == (2.0,)
    decov = resolve_priors(sleep, {"preset": "rstanarm", key: 4.0})
    assert decov.joint == (Decov(regularization=4.0),)
    assert decov.lkj == (4.0,)
    assert resolve_priors(sleep, {key: 4.0, "sd": Decov()}).joint == (Decov(regularization=4.0),)
    with pytest.raises(PriorError, match=f"{key} is -1"):
        resolve_priors(sleep, {key: -1})


def test_only_the_group_named_changes(design: Callable[..., Design]) -> None:
    data = design("blocks and crossed")
    base = default_priors(data)
    priors = resolve_priors(data, {"sd_h": A, "lkj_g": 5.0})
    assert priors.sds == ((A,), *base.sds[1:])
    assert priors.lkj == (1.0, 5.0, 5.0)
    assert resolve_priors(data, {"sd_g[w]": B}).sds == (*base.sds[:2], (B,))
    assert resolve_priors(data, {"(Intercept+x | g)": (A, B)}).sds == (base.sds[0], (A, B), base.sds[2])


def test_shared_sd_by_its_label(design: Callable[..., Design]) -> None:
    priors = resolve_priors(design("compound symmetry"), {"sd_g[cs]": A, "sd_g": B})
    assert priors.sds == ((A, A, A),)


def test_covariance_priors(sleep: Design, design: Callable[..., Design]) -> None:
    wishart = resolve_priors(sleep, {"sd_Subject": Wishart(4.0, (100.0, 4.0))})
    assert wishart.sds == ((Chi(4.0, 10.0), Chi(4.0, 2.0)),)
    assert wishart.lkj == (1.5,)
    decov = resolve_priors(sleep, {"(Days | Subject)": Decov(2.0)})
    assert (decov.joint, decov.lkj) == ((Decov(2.0),), (2.0,))
    assert all(prior.relative for prior in decov.sds[0])
    plain = resolve_priors(sleep, {"preset": "rstanarm", "sd": A})
    assert (plain.joint, plain.sds) == ((None,), ((A, A),))
    loose = resolve_priors(design("uncorrelated"), {"sd": Wishart(4.0)})
    assert (loose.sds, loose.lkj) == (((Power(3.0), Power(3.0)),), (1.0,))


def test_fixed_effects(sleep: Design) -> None:
    one = resolve_priors(sleep, {"beta[Days]": Normal(5, 10)}).beta
    assert one is not None
    np.testing.assert_array_equal(one.mean, [0.0, 5.0])
    np.testing.assert_array_equal(one.sd, [np.inf, 10.0])
    weak = resolve_priors(sleep, "weak").beta
    part = resolve_priors(sleep, {"beta[Intercept]": "flat", "beta": "weak"}).beta
    assert weak is not None
    assert part is not None
    np.testing.assert_array_equal(part.sd, [np.inf, weak.sd[1]])
    every = resolve_priors(sleep, {"beta": Normal(1, 2)}).beta
    assert every is not None
    np.testing.assert_array_equal(every.sd, [2.0, 2.0])
    assert resolve_priors(sleep, {"beta": "weak", "beta[Intercept]": "flat", "beta[Days]": "flat"}).beta is None


def test_an_override_takes_the_note_of_the_preset_with_it(sleep: Design) -> None:
    assert resolve_priors(sleep, "brms").notes
    assert not resolve_priors(sleep, {"preset": "brms", "beta[Intercept]": Normal(250, 100)}).notes


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bmrs", r"'bmrs' is not a known set of priors. Did you mean 'brms'\? Known: 'default'"),
        ({"preset": "decov"}, "'decov' is not a known set"),
        (3.0, "priors=3.0 is not a set of priors"),
        ({"sd_Subjct": A}, r"'sd_Subjct'.*Did you mean 'sd_Subject'\?.*'sd_Subject\[Days\]'"),
        ({"sd_Subject[Day]": A}, r"Did you mean 'sd_Subject\[Days\]'"),
        ({"beta[days]": A}, r"Did you mean 'beta\[Days\]'"),
        ({"sigma": 3.0}, "sigma is 3.0, which is no prior of a standard deviation"),
        ({"sd_Subject[Days]": Decov()}, "no prior of a standard deviation"),
        ({"sd": (A, B, C)}, r"sd got 3 priors, but \(Days \| Subject\) has 2 effects: Intercept, Days"),
        ({"sd": Decov(), "sd_Subject[Days]": A}, r"joint prior decov\(1, 1, 1, 1\)"),
        ({"preset": "flat", "lkj": 2}, "prior on the correlations as well"),
        ({"sd_Subject": Decov(), "lkj": 2}, r"lkj = 2 would have no effect: sd_Subject is decov\(1, 1, 1, 1\)"),
        ({"lkj": 2, "sd": Wishart(4.0)}, r"lkj = 2 would have no effect: sd is Wishart\(4, inf\)"),
        ({"beta[Days]": A}, r"use 'flat' or bl.Normal"),
        ({"beta": NormalPrior(np.zeros(3), np.ones(3))}, "2 fixed effects: Intercept, Days"),
        ({"beta": 1.0}, "prior of beta is 1.0"),
        (Priors(((A,),), (1.0,), A), r"\[1\] sds and 1 correlation priors.*\[2\] effects"),
    ],
)
def test_what_is_refused(sleep: Design, spec: object, message: str) -> None:
    with pytest.raises(PriorError, match=message):
        resolve_priors(sleep, spec)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [lambda prior: prior, Relative])
def test_inverse_gamma_warns_with_the_reason(sleep: Design, wrap: Callable[[object], object]) -> None:
    """Its density of s has the mode sqrt(2 rate / (2 shape + 1))."""
    prior = wrap(InverseGammaVariance(0.5, 9.0))
    with pytest.warns(PriorWarning, match=r"sd_Subject\[Days\].*zero at sd = 0 and peaks at 3,.*Gelman 2006"):
        resolve_priors(sleep, {"sd_Subject[Days]": prior})
    s = np.array([2.99, 3.0, 3.01])
    assert InverseGammaVariance(0.5, 9.0).log_density(s).argmax() == 1


@pytest.mark.parametrize("scale", [-1.0, 0.0, (1.0, -2.0), (1.0, float("nan"))])
def test_wishart_scales_are_variances(scale: float | tuple[float, ...]) -> None:
    with pytest.raises(PriorError, match=r"it is a variance.*has to be positive"):
        Wishart(4.0, scale)


def test_a_general_shape_still_counts_for_other_groups() -> None:
    two = build_design("y ~ 1 + (x | g) + (x | h)", _two_groups())
    priors = resolve_priors(two, {"sd_g": Decov(), "lkj": 2.0})
    assert priors.lkj == (1.0, 2.0)


def _two_groups() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    g, h = rng.integers(0, 6, 60), rng.integers(0, 5, 60)
    return pd.DataFrame({"y": rng.normal(size=60), "x": rng.normal(size=60), "g": g, "h": h})
