"""Residual parameters in words say what the residual covariance says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl

CASES = {
    "by(Sex)": [
        "where Sex = Male still",
        "The residual standard deviation at Sex = Female is",
        "times that at Sex = Male",
    ],
    "ar1(age | Subject)": ["Residuals of the same Subject from one age to the next are correlated by"],
    "car1(age | Subject)": ["Residuals of the same Subject one unit of age apart are correlated by"],
    "cs(Subject)": ["Any two residuals of the same Subject are correlated by"],
    "toep(age | Subject)": ["Residuals of the same Subject 2 steps of age apart are correlated by"],
    "ad(age | Subject)": ["Residuals of the same Subject at 8 and 10 are correlated by"],
    "power(age)": ["where |age| = 1", "proportional to |age| to the power"],
    "exp(age)": ["where age = 0", "With one more unit of age the log of the residual standard deviation changes by"],
    "gaussian(age | Subject)": ["are correlated by 0.37 at a distance (age) of"],
    "cs(Subject, by=Sex)": ["At Sex = Female, any two residuals of the same Subject"],
    "us(age | Subject)": ["The 3 ratios of residual standard deviations to that where age = 8", "The 6 parameters of"],
}


@pytest.mark.parametrize("residual", CASES)
def test_every_structure_has_its_sentence(residual: str) -> None:
    data = bl.load_dataset("Orthodont")
    if residual.startswith(("ar1", "toep", "ad", "us")):
        data["age"] = pd.Categorical(data["age"].astype(int).astype(str), ["8", "10", "12", "14"])
    fit = bl.Model("distance ~ Sex", data, residual=residual).fit()
    said = " ".join(str(fit.explain()).split())
    for part in CASES[residual]:
        assert part in said
    assert "residual parameter" not in said


def test_numbers_are_those_of_the_covariance() -> None:
    fit = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)").fit()
    C = fit.design.residual.covariance(fit.optimum.lam).toarray()
    said = " ".join(str(fit.explain()).split())
    assert f"one unit of Days apart are correlated by {C[0, 1]:.3f} (95 % interval" in said
    assert np.isclose(C[0, 0], 1.0)


def test_a_comparison_without_random_effects_has_no_table_of_what_is_near_zero() -> None:
    model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    shown = str(bl.compare(model.fit(), model.sample(200, random_seed=1)))
    assert "residual_rho" in shown and "Near zero" not in shown and "no entries" not in shown
