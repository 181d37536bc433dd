"""Equations of residuals with parameters: every structure in words, and numbers that are those of the fit."""

from __future__ import annotations

import re

import numpy as np
import pytest

import bayeslmm as bl

DATA = bl.load_dataset("Orthodont")
# Structure, and what its line has to say.
LINES = {
    "by(Sex)": [r"\delta_{\mathrm{Male}} = 1,\ \delta_{\mathrm{Female}}"],
    "power(age)": [r"x = \mathrm{age}", r"(|x_{i}|^{\delta})^2"],
    "exp(age)": [r"x = \mathrm{age}", r"(e^{\delta x_{i}})^2"],
    "const_power(age)": [r"(\delta_0 + |x_{i}|^{\delta})^2"],
    "ar1(age | Subject)": [r"\rho^{|t_{i} - t_{i'}|} \text{ within Subject},\ t = \mathrm{age}"],
    "car1(age | Subject)": [r"\varphi^{|t_{i} - t_{i'}|}"],
    "cs(Subject)": [r"= \rho \text{ within Subject}"],
    "arma(age | Subject)": [r"\rho_{1}\, \phi^{|t_{i} - t_{i'}| - 1}"],
    "exp(age | Subject)": [r"e^{-d_{ii'} / r}", r"\text{ the distance in } \mathrm{age}"],
    "gaussian(age | Subject)": [r"e^{-(d_{ii'} / r)^2}"],
    "matern(age | Subject)": [r"(1 + d_{ii'} / r)\, e^{-d_{ii'} / r}"],
    "us(age | Subject)": [r"\begin{pmatrix} 1 & \rho_{12} & \rho_{13} & \rho_{14}"],
    "toep(age | Subject)": [r"\begin{pmatrix} 1 & \rho_{1} & \rho_{2} & \rho_{3}"],
    "ad(age | Subject)": [r"\rho_{1} \rho_{2} \rho_{3}"],
    "cs(Subject, by=Sex)": [r"\rho_{\mathrm{Sex}[i]}"],
    "by(Sex) + car1(age | Subject)": [r"\text{by(Sex): }", r"\text{car1(age | Subject): }"],
}


@pytest.mark.parametrize("residual", LINES)
def test_every_structure_is_said(residual: str) -> None:
    text = str(bl.Model("distance ~ age", DATA, residual=residual).latex())
    for piece in LINES[residual]:
        assert piece in text
    assert text.count("{") == text.count("}")
    # Two superscripts in a row are an error of LaTeX.
    assert not re.search(r"\^\{[^{}]*\}\^", text)


def test_numbers_are_those_of_the_fit() -> None:
    model = bl.Model("distance ~ age", DATA, residual="us(age | Subject)")
    fit, text = model.fit(), str(model.latex(numbers=True))
    rows = re.search(r"begin\{pmatrix\}(.*)\\end", text)
    assert rows is not None
    found = np.array([[float(cell) for cell in row.split("&")] for row in rows[1].split(r"\\")])
    np.testing.assert_allclose(found, fit.residual_covariance(correlation=True), atol=6e-5)
    ratio = fit.estimates()["residual_sd_ratio_age[10]"]
    assert rf"\delta_{{\mathrm{{10}}}} = {ratio:.4g}" in text
    assert rf"N(0, {fit.sigma:.4g}^2 " in text


def test_numbers_of_arms_and_powers_of_ten() -> None:
    model = bl.Model("distance ~ age", DATA.assign(distance=DATA["distance"] * 1e-7), residual="cs(Subject, by=Sex)")
    fit, text = model.fit(), str(model.latex(numbers=True))
    assert rf"\rho_{{\mathrm{{Female}}}} = {fit.estimates()['residual_rho in Female']:.4g}" in text
    assert re.search(r"N\(0, \([0-9.]+ \\times 10\^\{-7\}\)\^2\)", text)
    assert r"\text{residual\_rho in Male} &\sim" in model.latex(priors=True)
