"""Degrees of freedom where the data say nothing of some variance: those that exist, and words for the others."""

import warnings

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import FitError


def visits(scale: float = 1.0) -> pd.DataFrame:
    """Twelve people at six visits; the visits are a fixed factor `h` and number `x`, too."""
    rng = np.random.default_rng(0)
    person, x = np.repeat(np.arange(12), 6), np.tile(np.arange(6.0), 12)
    y = x + 2.0 * rng.normal(size=12)[person] + 0.5 * rng.normal(size=12)[person] * x + rng.normal(size=72)
    return pd.DataFrame({"y": scale * y, "x": x, "g": person.astype(str), "h": np.array(list("abcdef"))[x.astype(int)]})


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("formula", ["y ~ h + (1 | g) + (1 | h)", "y ~ x + h + (x | g) + (1 | h)"])
def test_errors_that_depend_on_a_variance_nobody_knows_are_refused(formula: str, ddf: str, scale: float) -> None:
    # The fixed effects of h span what (1 | h) would show in, so that the variance of their estimates holds
    # the variance between levels of h in full, and the data say nothing of it.
    fit = bl.Model(formula, visits(scale)).fit(on_failure="ignore")
    assert fit.status.name == "not_identified"
    with pytest.raises(FitError, match="of which the data say nothing"):
        fit.coefficients(ddf=ddf)
    with pytest.raises(FitError, match="of which the data say nothing"):
        fit.test_fixed("h", ddf=ddf)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_what_does_not_depend_on_it_is_as_without_the_term(ddf: str) -> None:
    # A slope within the levels of h: its error is the same whatever the variance between them is.
    data = visits()
    data["z"] = np.random.default_rng(5).normal(size=72)
    data["z"] -= data.groupby("h")["z"].transform("mean")
    with_it = bl.Model("y ~ h + z + (1 | g) + (1 | h)", data).fit(on_failure="ignore")
    without = bl.Model("y ~ h + z + (1 | g)", data).fit()
    found, wanted = with_it.test_fixed("z", ddf=ddf), without.test_fixed("z", ddf=ddf)
    np.testing.assert_allclose(found.to_numpy(), wanted.to_numpy(), rtol=1e-5)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_variances_that_can_be_exchanged_do_no_harm(ddf: str) -> None:
    # Two intercepts of the same subjects: their sum is known, and standard errors need no more.
    sleep = bl.load_dataset("sleepstudy")
    twice = bl.Model("Reaction ~ Days + (1 | Subject) + (Days | Subject)", sleep).fit(on_failure="ignore")
    once = bl.Model("Reaction ~ Days + (Days | Subject)", sleep).fit()
    assert twice.status.name == "not_identified"
    np.testing.assert_allclose(twice.coefficients(ddf=ddf).to_numpy(), once.coefficients(ddf=ddf).to_numpy(), rtol=1e-4)


def test_a_comparison_gives_the_reason_in_place_of_numbers() -> None:
    model = bl.Model("y ~ h + (1 | g) + (1 | h)", visits())
    fit = model.fit(on_failure="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.ConvergenceWarning)
        with pytest.warns(bl.BayesLMMWarning, match=r"Not identified: the data say nothing about .* \(1 \| h\)"):
            post = model.sample(200, random_seed=1)
        table = bl.compare(fit, post).fixed
    for method in ("Satterthwaite", "Kenward-Roger"):
        rows = table.xs(method, level="method")
        assert rows["df"].isna().all() and rows["conf_low"].isna().all()
        assert rows["note"].str.contains("say nothing").all()


def test_a_small_variance_is_no_unknown_one() -> None:
    # Balanced one-way layouts: the mean has J - 1 degrees of freedom however small the sd between groups is.
    J, n = 6, 5
    rng = np.random.default_rng(3)
    group, within = np.repeat(np.arange(J), n), rng.normal(size=(J, n))
    within -= within.mean(1, keepdims=True)
    within *= np.sqrt(J * (n - 1) / (within**2).sum())
    for sd in (1e-3, 1e-2, 1.0, 1e3):
        between = np.linspace(-1, 1, J)
        between *= np.sqrt((sd**2 + 1 / n) * (J - 1) / (between**2).sum())
        data = pd.DataFrame({"y": (between[:, None] + within).ravel(), "g": group.astype(str)})
        fit = bl.Model("y ~ 1 + (1 | g)", data).fit()
        assert fit.coefficients()["df"].iloc[0] == pytest.approx(J - 1, rel=1e-3), sd
