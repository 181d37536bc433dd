"""Improper posteriors are refused: against closed-form conditions and against integrals that do or do not converge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.priors import Flat, Gamma, HalfNormal, HalfT, Normal, Power, Priors, Relative, SdPrior
from bayeslmm.bayes.propriety import check_posterior
from bayeslmm.design import build_design
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError


def one_way(levels: int, formula: str = "y ~ 1 + (1 | g)", n: int = 4) -> Design:
    rng = np.random.default_rng(levels)
    g = np.repeat(np.arange(levels), n)
    frame = pd.DataFrame({"y": rng.normal(size=g.size), "g": g.astype(str), "x": rng.normal(size=g.size)})
    frame["z"] = rng.normal(size=levels)[g]
    frame["h"] = (np.arange(g.size) % 2).astype(str)
    return build_design(formula, frame)


def accepted(design: Design, sd: SdPrior, sigma: SdPrior | None = None, **keys: object) -> bool:
    spec = {"sd": sd, "sigma": sigma or HalfT(3.0, 1.0), **keys}
    try:
        check_posterior(design, resolve_priors(design, spec))
    except PriorError as error:
        assert "improper" in str(error)
        return False
    return True


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("prior", "needed"),
    [
        (Flat(), 3),
        (Power(1.0), 4),
        (Gamma(2.0, 0.0), 4),
        (Gamma(3.0, 0.0), 5),
        (Power(-0.5), 2),
        (Relative(Flat()), 3),
        (Relative(Power(1.0)), 4),
        (Gamma(3.0, 0.1), 2),
        (HalfNormal(1.0), 2),
    ],
    ids=str,
)
def test_levels_needed_in_a_one_way_layout(levels: int, prior: SdPrior, needed: int) -> None:
    """s^a needs more than a + 2 levels (Hobert & Casella 1996, theorem 1, for one random factor)."""
    assert accepted(one_way(levels), prior) is (levels >= needed)


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_against_the_integral_itself(levels: int, exponent: float) -> None:
    """The integral over (s, 100 s) tends to zero for large s iff the posterior is proper (sigma fixed at 1)."""
    design = one_way(levels)
    Z = (design.groupings["g"].codes[:, None] == np.arange(levels)).astype(float)

    def log_marginal(s: float) -> float:
        V = np.eye(design.n) + s**2 * Z @ Z.T
        inverse = np.linalg.inv(V)
        information = design.X.T @ inverse @ design.X
        P = inverse - inverse @ design.X @ np.linalg.solve(information, design.X.T @ inverse)
        return float(-0.5 * (np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1] + design.y @ P @ design.y))

    def decade(k: float) -> float:
        log_s = np.linspace(np.log(10.0) * k, np.log(10.0) * (k + 1), 40)
        return float(np.mean([np.exp(log_marginal(np.exp(v)) + (exponent + 1) * v) for v in log_s]))

    shrinks = decade(4.0) < 0.5 * decade(3.0)
    assert accepted(design, Power(exponent)) is shrinks


def test_fixed_effects_between_groups_use_up_levels() -> None:
    """A covariate that is constant within groups takes a degree of freedom from them, one that varies does not."""
    assert accepted(one_way(3), Flat())
    assert accepted(one_way(3, "y ~ x + (1 | g)"), Flat())
    assert not accepted(one_way(3, "y ~ z + (1 | g)"), Flat())
    assert accepted(one_way(4, "y ~ z + (1 | g)"), Flat())


def test_proper_fixed_effects_give_levels_back() -> None:
    assert not accepted(one_way(2), Flat())
    assert accepted(one_way(2), Flat(), beta=Normal(0, 10))


def test_slopes_are_counted_on_their_own() -> None:
    design = one_way(3, "y ~ x + (x | g)")
    assert accepted(design, Flat())
    assert not accepted(design, HalfT(3.0, 1.0), **{"sd_g[x]": Power(1.0)})
    # without the fixed slope nothing is projected out
    assert accepted(one_way(3, "y ~ 1 + (x | g)"), HalfT(3.0, 1.0), **{"sd_g[x]": Power(1.0)})


def test_crossed_terms_are_counted_together() -> None:
    """Two levels of h leave one degree of freedom: too few for a flat prior, however many g has."""
    design = one_way(6, "y ~ 1 + (1 | g) + (1 | h)")
    assert not accepted(design, Flat())
    assert accepted(design, Flat(), sd_h=HalfNormal(1.0))
    # g:h has 6 x 2 cells but within the span of both others only 5 are free: 5 + 1 + 5 of 12 cells less the mean
    assert accepted(one_way(6, "y ~ 1 + (1 | g) + (1 | g:h)"), Flat())


def test_terms_of_one_span_are_improper_together() -> None:
    """(1 | g) + (1 | k) with k another name of g: both sds together have the degrees of freedom of one."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(3), 4)
    frame = pd.DataFrame({"y": rng.normal(size=12), "g": g.astype(str), "k": (g + 10).astype(str)})
    design = build_design("y ~ 1 + (1 | g) + (1 | k)", frame)
    with pytest.raises(PriorError, match=r"sd_g\[Intercept\], sd_k\[Intercept\].*jointly improper.*2 degree"):
        check_posterior(design, resolve_priors(design, {"sd": "flat"}))


@pytest.mark.parametrize("prior", [Power(-1.0), Power(-2.0), Relative(Power(-1.0))], ids=str)
def test_infinite_mass_at_zero(prior: SdPrior) -> None:
    design = one_way(8)
    with pytest.raises(PriorError, match=r"sd_g\[Intercept\].*infinite mass near zero.*Use a proper prior"):
        check_posterior(design, resolve_priors(design, {"sd": prior}))


def test_sigma_needs_degrees_of_freedom() -> None:
    """n - p must exceed the powers of sigma and of the absolute sds (Hobert & Casella 1996, condition c)."""
    design = one_way(3, n=2)  # n - p = 5
    half = HalfT(3.0, 1.0)
    assert accepted(design, half, Power(-1.0))
    assert accepted(design, half, Power(3.0))
    assert not accepted(design, half, Power(4.0))
    assert not accepted(design, Flat(), Power(3.0))
    assert accepted(design, Relative(Flat()), Power(3.0))


def test_saturated_data_and_a_prior_infinite_at_zero() -> None:
    """Random effects of both factors fit the four cells of a square exactly."""
    frame = pd.DataFrame({"y": [1.0, 2.5, 3.0, 7.0, 5.0], "g": list("aabbc"), "x": [0.0, 1.0, 2.0, 4.0, 1.0]})
    design = build_design("y ~ x + (1 | g)", frame)
    assert accepted(design, HalfT(3.0, 1.0), Power(-1.0))
    frame = pd.DataFrame({"y": [1.0, 2.5, 3.0, 7.0], "g": list("aabb"), "h": list("cdcd"), "x": [0.0, 1.0, 2.0, 5.0]})
    full = build_design("y ~ x + (1 | g) + (1 | h)", frame)
    assert not accepted(full, HalfT(3.0, 1.0), Power(-1.0))
    assert accepted(full, HalfT(3.0, 1.0), Flat())
    assert accepted(full, Relative(HalfT(3.0, 1.0)), Power(-1.0))


def test_message_says_what_was_found_and_what_to_use() -> None:
    design = one_way(2)
    with pytest.raises(
        PriorError, match=r"sd_g\[Intercept\] \(flat\).*g has 2 levels.*1 degree.*'sd_g': bl.HalfT\(3, "
    ):
        check_posterior(design, resolve_priors(design, {"sd": "flat"}))


def test_many_levels_cost_nothing() -> None:
    design = one_way(2000, "y ~ x + (x | g)", n=3)
    check_posterior(design, Priors(((Flat(), Flat()),), (1.0,), Flat()))
