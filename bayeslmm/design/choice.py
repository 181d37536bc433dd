"""Choose the covariance structure of every random term: from the bar, a keyword in the formula, or ``cov=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayeslmm.arguments import kind_of, whole
from bayeslmm.design.covariance import KNOWN, CovarianceStructure
from bayeslmm.design.formula import Bar
from bayeslmm.design.terms import term_position
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

_NAMES = [f"bl.{type(structure).__name__}()" for structure in KNOWN.values()]
_FACTORIES = f"{', '.join(_NAMES[:-1])} or {_NAMES[-1]}"


def chosen_structures(
    bars: Sequence[Bar], cov: Mapping[str, CovarianceStructure] | None
) -> tuple[CovarianceStructure, ...]:
    """Structure of every term, not yet fitted to its number of effects.

    Raises
    ------
    DesignError
        A key of `cov` names no term, its value is no structure, or the formula says something else already.

    Examples
    --------
    >>> from bayeslmm.design.formula import parse_formula
    >>> from bayeslmm.design.covariance import CompoundSymmetry
    >>> bars = parse_formula("y ~ (x | g) + (x || h) + id(x | k)").bars
    >>> [s.keyword for s in chosen_structures(bars, {"g": CompoundSymmetry()})]
    ['cs', 'diag', 'id']
    """
    if cov is not None and not isinstance(cov, Mapping):
        raise DesignError(f"cov is {kind_of(cov)}, not a mapping such as {{'g': bl.CompoundSymmetry()}}.")
    chosen = [KNOWN[bar.structure] for bar in bars]
    given: dict[int, object] = {}
    for key, structure in (cov or {}).items():
        i = term_position(key, [bar.label for bar in bars], [bar.group for bar in bars], "cov")
        if i in given:
            raise DesignError(f"cov gives the structure of {bars[i].label} twice. Keep one of its keys.")
        given[i] = key
        chosen[i] = _given(key, structure, bars[i])
    return tuple(chosen)


def _given(key: str, structure: object, bar: Bar) -> CovarianceStructure:
    if not isinstance(structure, CovarianceStructure):
        raise DesignError(f"cov[{key!r}] is {structure!r}, which is no covariance structure. Use {_FACTORIES}.")
    said = bar.keyword or ("" if bar.correlated else "diag")
    if said and said != structure.keyword:
        raise DesignError(
            f"cov[{key!r}] asks for {structure.keyword}, but {bar.label} in the formula says {said}. "
            "Change one of them."
        )
    return structure


def term_structure(
    bar: Bar, structure: CovarianceStructure, effects: tuple[str, ...], Z: FloatArray
) -> CovarianceStructure:
    """The structure for the effects of a term.

    Raises
    ------
    DesignError
        The structure has no meaning for these effects.
    """
    size = len(effects)
    whole("The size of a covariance structure", structure.size, 0, error=DesignError)
    if structure.size not in (0, size):
        raise DesignError(
            f"The structure {structure!r} is for {structure.size} effects, but {bar.label} has {size}: "
            f"{', '.join(effects)}. Leave the size out."
        )
    if structure.about_correlation and size < 2:
        raise DesignError(
            f"{structure.keyword} is about the correlation of several effects, but {bar.label} has only one: "
            f"{effects[0]}. With 0 + f left of the bar there is one effect for every level of f."
        )
    if structure.ordered and (np.count_nonzero(Z, axis=1) > 1).any():
        raise DesignError(
            f"{structure.keyword} is about effects in order of time, one for each row, but {bar.label} has rows with "
            f"several: {', '.join(effects)}. Write {structure.keyword}(0 + f | {bar.group}) with a factor f whose "
            "levels are in order, e.g. 0 + factor(time)."
        )
    return structure.resized(size)
