"""The equations, with symbols and with numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.mathtext import MathTextParser

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


def test_names_in_backquotes_are_typeset_as_words() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(24, 3)), columns=["reaction time", "t [s]", "a-b"])
    frame["Klasse id"] = np.repeat(range(4), 6)
    model = bl.Model("`reaction time` ~ `t [s]` + `a-b` + (`t [s]` | `Klasse id`)", frame)
    text = model.latex(priors=True)
    assert "`" not in text
    assert "`" not in bl.Model("log(abs(`reaction time`)) ~ 1 + (1 | `Klasse id`)", frame).latex()
    assert r"\mathrm{reaction\ time}_{i} &= \beta_{0} + \beta_{1}\,\mathrm{t\ [s]}_{i}" in text
    assert r"\mathrm{a\text{-}b}_{i}" in text
    assert r"b_{1,j[i]}\,\mathrm{t\ [s]}_{i}" in text
    assert r"\text{ (Klasse id)}" in text
    assert r"\text{sd\_Klasse id[t [s]]} &\sim" in text


SIGNS = "_%&#$^~{}\\"


@pytest.mark.parametrize("sign", [*SIGNS, SIGNS])
def test_names_with_signs_of_latex_leave_it_valid(sign: str) -> None:
    """Braces close, and no sign that means something to LaTeX is left bare."""
    frame = bl.load_dataset("Dyestuff").rename(columns={"Yield": f"a {sign}b", "Batch": f"{sign} g"})
    text = bl.Model(f"`a {sign}b` ~ 1 + (1 | `{sign} g`)", frame).latex(priors=True)
    depth = 0
    for piece in re.findall(r"\\[A-Za-z]+|\\.|.", text, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(piece, 0)
        assert depth >= 0
    assert depth == 0
    bare = re.sub(r"\\[A-Za-z]+|\\.", "", text)
    assert not set("%#$~") & set(bare)
    assert bare.count("&") == len(text.splitlines()) - 2
    name = re.search(r"\\mathrm\{(.*)\}_\{i\} &=", text)
    assert name is not None
    # Mathtext stands in for LaTeX: it refuses what it cannot read. Two escapes and \\text it does not know.
    known = re.sub(r"\\[&#]", "n", name.group(1)).replace(r"\text", r"\mathrm")
    MathTextParser("path").parse(f"$\\mathrm{{{known}}}_{{i}}$")


def test_shared_structures(design: Callable[..., Design]) -> None:
    assert r"\rho_{b}^{2} \sigma_{b}^2" in write_latex(design("autoregression"))
    assert r"\rho_{b} \sigma_{b}^2 & \sigma_{b}^2" in write_latex(design("compound symmetry"))
    assert r"\sigma_{b}^2 & 0" in write_latex(design("identity"))


def test_typeset_in_notebooks() -> None:
    text = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).latex()
    assert text._repr_latex_() == f"$$\n{text}\n$$"  # type: ignore[attr-defined]
