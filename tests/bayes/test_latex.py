"""The equations, with symbols and with numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import bayeslmm as bl
from bayeslmm.design.design import Design
from bayeslmm.results.latex import write_latex

SLEEP = r"""\begin{aligned}
\mathrm{Reaction}_{i} &= \beta_{0} + \beta_{1}\,\mathrm{Days}_{i} + b_{0,j[i]} + b_{1,j[i]}\,\mathrm{Days}_{i} """ + (
    r"""+ \varepsilon_{i}, \quad \varepsilon_{i} \sim N(0, \sigma^2) \\
\begin{pmatrix} b_{0j} \\ b_{1j} \end{pmatrix} &\sim N\left(0, \begin{pmatrix} \sigma_{b0}^2 & """
    r"""\rho_{b01} \sigma_{b0} \sigma_{b1} \\ \rho_{b01} \sigma_{b0} \sigma_{b1} & \sigma_{b1}^2 \end{pmatrix}"""
    r"""\right), \quad j = 1, \dots, 18 \text{ (Subject)}
\end{aligned}"""
)
KINDS = ["one-way", "crossed", "nested", "two terms", "blocks and crossed", "all structures"]


def test_symbols() -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    assert str(model.latex()) == SLEEP


def test_numbers_are_the_reml_estimates_of_lme4() -> None:
    text = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).latex(numbers=True)
    # Bates, Maechler, Bolker & Walker (2015), section 1.2: variances 612.09 and 35.07, sd 25.592, correlation 0.07
    assert r"251.4 + 10.47\,\mathrm{Days}" in text
    assert "N(0, 25.59^2)" in text
    assert re.search(r"612\.\d & 9\.\d+ \\\\ 9\.\d+ & 35\.07", text)


def test_priors_are_added_on_request() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    assert "half-normal" not in model.latex()
    text = model.latex(priors={"sd": bl.HalfNormal(40)})
    assert r"\text{half-normal(scale 40)}" in text
    assert "half-t" in model.latex(priors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_term_has_its_distribution(kind: str, design: Callable[..., Design]) -> None:
    data = design(kind, weights=True, offset=True, response="a_b")
    text = write_latex(data)
    assert text.count(r"\sim N") == 1 + len(data.terms)
    assert text.count("{") == text.count("}")
    assert text.count(r"\begin") == text.count(r"\end")
    assert r"\mathrm{a\_b}_{i}" in text
    assert r"\mathrm{offset}_{i}" in text
    assert "/ w_{i}" in text


def test_shared_structures(design: Callable[..., Design]) -> None:
    assert r"\rho_{b}^{2} \sigma_{b}^2" in write_latex(design("autoregression"))
    assert r"\rho_{b} \sigma_{b}^2 & \sigma_{b}^2" in write_latex(design("compound symmetry"))
    assert r"\sigma_{b}^2 & 0" in write_latex(design("identity"))


def test_typeset_in_notebooks() -> None:
    text = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).latex()
    assert text._repr_latex_() == f"$$\n{text}\n$$"  # type: ignore[attr-defined]
