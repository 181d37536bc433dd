r"""Residuals with parameters in LaTeX: standard deviations, correlations within groups, matrices of few visits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.new_residuals import residual_parts_of
from bayeslmm.design.residual_text import ResidualPart
from bayeslmm.design.residual_words import CORRELATIONS, PLACES
from bayeslmm.residual import natural_parameters
from bayeslmm.residual.correlation import Correlation, CorrelationByArm
from bayeslmm.residual.spread import Spread, SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, UnequalVariances
from bayeslmm.results.latex_text import matrix, name_in_math, number, plain
from bayeslmm.types import FloatArray

# Visits whose matrix is written out, and levels whose standard deviations are.
_VISITS, _LEVELS = 6, 8
_LAG = r"|t_{i} - t_{i'}|"
# What the correlation of two rows of a group is, with the names of its parameters in braces.
_CORRELATIONS: dict[str, str] = {
    "ar1": "<0>^{" + _LAG + "}",
    "car1": "<0>^{" + _LAG + "}",
    "cs": "<0>",
    "arma": r"\rho_{1}\, <0>^{" + _LAG + r" - 1}, \quad \rho_{1} = "
    r"\frac{(1 + <0>\, <1>)(<0> + <1>)}{1 + 2\, <0>\, <1> + <1>^2}",
    "exp": r"e^{-d_{ii'} / <0>}",
    "gaussian": r"e^{-(d_{ii'} / <0>)^2}",
    "matern": r"(1 + d_{ii'} / <0>)\, e^{-d_{ii'} / <0>}",
    "us": r"\rho_{v_{i} v_{i'}}",
    "toep": r"\rho_{|v_{i} - v_{i'}|}",
    "ad": r"\prod_{k = v_{i}}^{v_{i'} - 1} \rho_{k} \quad (v_{i} < v_{i'})",
}
_SYMBOLS = {
    "ar1": (r"\rho",),
    "car1": (r"\varphi",),
    "cs": (r"\rho",),
    "arma": (r"\phi", r"\theta"),
    "exp": ("r",),
    "gaussian": ("r",),
    "matern": ("r",),
}
_ENTRIES: dict[str, Callable[[int, int], str]] = {
    "us": lambda a, b: f"\\rho_{{{a + 1}{b + 1}}}",
    "toep": lambda a, b: f"\\rho_{{{b - a}}}",
    "ad": lambda a, b: r" ".join(f"\\rho_{{{k + 1}}}" for k in range(a, b)),
    "ar1": lambda a, b: r"\rho" + (f"^{{{b - a}}}" if b - a > 1 else ""),
    "cs": lambda a, b: r"\rho",
}


def residual_lines(design: Design, lam: FloatArray | None) -> list[str]:
    """Lines that say what the residual structure of a design is, part by part; none if it has no parameters.

    Parameters
    ----------
    design : Design
    lam : FloatArray or None, shape (k,)
        Estimates of the residual parameters; symbols if None.
    """
    residual = design.residual
    if not isinstance(residual, UnequalVariances | CorrelatedRows):
        return []
    parts = residual_parts_of(design)
    values = {}
    if lam is not None:
        values = dict(zip(residual.labels, natural_parameters(residual, lam).tolist(), strict=True))
    correlated = next((part for part in parts if part.correlated), None)
    own = [*(part for part in parts if not part.correlated), *([correlated] if correlated else [])]
    lines = [_spread(part, spread, values) for part, spread in zip(own, residual.spreads.parts, strict=False)]
    if correlated is None or not isinstance(residual, CorrelatedRows):
        return lines
    own_lam = None if lam is None else lam[len(residual.spreads.names) :]
    return [*lines, *_correlations(design, residual, correlated, values, own_lam)]


def _said(part: ResidualPart, text: str) -> str:
    return rf"&\quad \text{{{plain(part.text)}: }} {text}"


def _spread(part: ResidualPart, spread: Spread, values: Mapping[str, float]) -> str:
    """Standard deviations over sigma."""
    if not isinstance(spread, SpreadByLevel):
        x = name_in_math(part.left[0])
        symbols = (r"\delta_{0}", r"\delta") if len(spread.labels) > 1 else (r"\delta",)
        found = [
            f"{one} = {number(values[label])}" for one, label in zip(symbols, spread.labels, strict=True) if values
        ]
        return _said(part, r",\ ".join([f"x = {x}", *found]))
    found = []
    for level, label in list(zip(spread.levels, ("", *spread.labels), strict=True))[:_LEVELS]:
        entry = rf"\delta_{{{name_in_math(level)}}}"
        found.append(f"{entry} = 1" if not label else f"{entry} = {number(values[label])}" if values else entry)
    return _said(part, r",\ ".join([*found, *([r"\dots"] if len(spread.levels) > _LEVELS else [])]))


def _correlations(
    design: Design,
    residual: CorrelatedRows,
    part: ResidualPart,
    values: Mapping[str, float],
    lam: FloatArray | None,
) -> list[str]:
    family, correlation = CORRELATIONS[part.keyword][0], residual.correlation
    arms = correlation.arms if isinstance(correlation, CorrelationByArm) else ()
    own: Correlation = correlation.family if isinstance(correlation, CorrelationByArm) else correlation
    text, symbols = _CORRELATIONS[family], _SYMBOLS.get(family, ())
    known = []
    for k, symbol in enumerate(symbols):
        text = text.replace(f"<{k}>", f"{symbol}_{{{name_in_math(part.by)}[i]}}" if arms else symbol)
        for arm in arms or ("",):
            label = f"{own.labels[k]} in {arm}" if arm else own.labels[k]
            at = f"_{{{name_in_math(arm)}}}" if arm else ""
            known += [f"{symbol}{at} = {number(values[label])}"] if values else []
    group, where = plain(":".join(part.group)), _where(family, part)
    said = rf"\mathrm{{corr}}(\varepsilon_{{i}}, \varepsilon_{{i'}}) = {text} \text{{ within {group}}}{where}"
    lines = [_said(part, r",\ ".join([said, *known]))]
    visits = design.recipe.residual_visits if design.recipe is not None else ()
    if family not in _ENTRIES or not 1 < len(visits) <= _VISITS:
        return lines
    if lam is None:
        return [*lines, _matrix_of(visits, family, own, None, f"every {part.by}" if arms else "")]
    each = zip(arms or ("",), np.split(lam, max(len(arms), 1)), strict=True)
    return [*lines, *(_matrix_of(visits, family, own, one, arm) for arm, one in each)]


def _matrix_of(visits: Sequence[str], family: str, own: Correlation, lam: FloatArray | None, arm: str) -> str:
    """Correlations of all visits, in numbers or symbols."""
    K, entry = len(visits), _ENTRIES[family]
    if lam is None:
        rows = [["1" if a == b else entry(min(a, b), max(a, b)) for b in range(K)] for a in range(K)]
    else:
        C = own.matrix(lam, np.arange(K, dtype=float)[:, None])
        rows = [[number(value) for value in row] for row in C.round(4)]
    names = r",\ ".join(name_in_math(visit) for visit in visits)
    at = rf" \text{{ in {plain(arm)}}}" if arm else ""
    return rf"&\quad \text{{correlations of }} {names}{at}: {matrix(rows)}"


def _where(family: str, part: ResidualPart) -> str:
    if not part.left or family == "cs":
        return ""
    names = r",\ ".join(name_in_math(text) for text in part.left)
    if family in PLACES:
        return rf",\ d_{{ii'}} \text{{ the distance in }} {names}"
    return rf",\ {'v' if family in ('us', 'toep', 'ad') else 't'} = {names}"
