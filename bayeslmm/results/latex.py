r"""The equations of a model in LaTeX, with symbols or with the estimates of a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.variances import variance_labels
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.results.latex_text import matrix, name_in_math, number, plain
from bayeslmm.results.residual_latex import residual_lines
from bayeslmm.types import FloatArray

# Letters of the effects of the first, second, ... grouping factor, and of its levels.
_EFFECTS = "bcdefg"
_LEVELS = "jklmnr"


class Latex(str):
    """Text that notebooks typeset."""

    __slots__ = ()

    def _repr_latex_(self) -> str:
        return f"$$\n{self}\n$$"


@dataclass(frozen=True)
class Estimates:
    """Numbers in place of symbols.

    Attributes
    ----------
    beta : FloatArray, shape (p,)
    sigma : float
    terms : sequence of FloatArray, each (c, c)
        Relative factors, terms in the order of the formula.
    lam : FloatArray, shape (k,)
        Residual parameters.
    """

    beta: FloatArray
    sigma: float
    terms: Sequence[FloatArray]
    lam: FloatArray = field(default_factory=lambda: NO_PARAMETERS)


def write_latex(design: Design, estimates: Estimates | None = None, priors: Sequence[str] = ()) -> Latex:
    """The equations of a model.

    Parameters
    ----------
    design : Design
    estimates : Estimates, optional
        Symbols by default.
    priors : sequence of str
        Further lines, see `prior_lines`.

    Returns
    -------
    Latex
        A string: an ``aligned`` environment.
    """
    lines = [_response(design, estimates), *residual_lines(design, None if estimates is None else estimates.lam)]
    for g, (labels, _) in enumerate(variance_labels(design)):
        position = 0
        for term in labels.terms:
            lines.append(_distribution(design, term, g, position, len(labels.effects), estimates))
            position += len(design.terms[term].effects)
    body = " \\\\\n".join([*lines, *priors])
    return Latex(f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}")


def prior_lines(design: Design, priors: Priors) -> list[str]:
    """One line per parameter with its prior in words."""
    from bayeslmm.results.prior_table import prior_table

    table = prior_table(design, priors)
    return [f"\\text{{{plain(str(name))}}} &\\sim \\text{{{plain(text)}}}" for name, text in table["prior"].items()]


def _response(design: Design, estimates: Estimates | None) -> str:
    parts = [
        _product(f"\\beta_{{{k}}}" if estimates is None else number(estimates.beta[k]), name)
        for k, name in enumerate(design.fixed_names)
    ]
    if design.offset is not None:
        parts.append(r"\mathrm{offset}_{i}")
    for g, (labels, _) in enumerate(variance_labels(design)):
        effects = [effect for k in labels.terms for effect in design.terms[k].effects]
        parts += [_product(_effect(g, k, len(effects), "[i]"), name) for k, name in enumerate(effects)]
    scale = r"\sigma" if estimates is None else number(estimates.sigma)
    scale = f"({scale})" if "^" in scale else scale
    total = " + ".join([*parts, r"\varepsilon_{i}"]).replace("+ -", "- ")
    noise = f"\\quad \\varepsilon_{{i}} \\sim N(0, {design.residual.latex(scale)})"
    return f"{name_in_math(design.response)}_{{i}} &= {total}, {noise}"


def _distribution(design: Design, position: int, g: int, first: int, effects: int, estimates: Estimates | None) -> str:
    term = design.terms[position]
    size, level = len(term.effects), _LEVELS[g % len(_LEVELS)]
    symbols = [_effect(g, first + k, effects, "") for k in range(size)]
    if estimates is None:
        G = _symbols(term, _EFFECTS[g % len(_EFFECTS)], first, effects)
    else:
        T = estimates.terms[position] * estimates.sigma
        G = [[number(value) for value in row] for row in T @ T.T]
        if size == 1:
            sd = number(abs(T[0, 0]))
            G = [[f"({sd})^2" if "^" in sd else f"{sd}^2"]]
    left = symbols[0] if size == 1 else matrix([[symbol] for symbol in symbols])
    right = f"N(0, {G[0][0]})" if size == 1 else f"N\\left(0, {matrix(G)}\\right)"
    levels = design.groupings[term.group].n_levels
    where = f"\\quad {level} = 1, \\dots, {levels} \\text{{ ({plain(term.group)})}}"
    return f"{left} &\\sim {right}, {where}"


def _symbols(term: RandomTerm, letter: str, first: int, effects: int) -> list[list[str]]:
    """Covariance matrix of the effects of a term in symbols."""
    size, structure = len(term.effects), term.structure

    def sd(k: int) -> str:
        shared = structure.shared or effects == 1
        return f"\\sigma_{{{letter}}}" if shared else f"\\sigma_{{{letter}{first + k}}}"

    def entry(a: int, b: int) -> str:
        if a == b:
            return f"{sd(a)}^2"
        if not structure.correlated:
            return "0"
        low, high = sorted((a, b))
        product = f"{sd(0)}^2" if structure.shared else f"{sd(low)} {sd(high)}"
        return f"{structure.symbol(a, b, f'\\rho_{{{letter}}}', first)} {product}"

    return [[entry(a, b) for b in range(size)] for a in range(size)]


def _effect(g: int, k: int, effects: int, of_row: str) -> str:
    number = str(k) if effects > 1 else ""
    separator = "," if number and of_row else ""
    return f"{_EFFECTS[g % len(_EFFECTS)]}_{{{number}{separator}{_LEVELS[g % len(_LEVELS)]}{of_row}}}"


def _product(coefficient: str, name: str) -> str:
    return coefficient if name == "Intercept" else f"{coefficient}\\,{name_in_math(name)}_{{i}}"
