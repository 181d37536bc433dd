"""What can be left out of a residual structure: parts of a sum, and the two halves of a heterogeneous correlation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bayeslmm.design.residual_text import INDEPENDENT, ResidualPart, parse_residual
from bayeslmm.design.residual_words import CORRELATIONS
from bayeslmm.residual import Residual, make_residual
from bayeslmm.residual.spread import Spread
from bayeslmm.residual.structured import CorrelatedRows, Spreads, UnequalVariances


@dataclass(frozen=True)
class ResidualUnit:
    """Something that is left out.

    Attributes
    ----------
    name : str
        In words.
    residual : Residual
        What is left, on the same rows.
    expression : str
        The same as the ``residual=`` of a model; empty where that cannot be written.
    """

    name: str
    residual: Residual
    expression: str


def residual_units(residual: Residual) -> list[ResidualUnit]:
    """All that can be left out of a structure, all of it first.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("Orthodont")
    >>> model = bl.Model("distance ~ age", data, residual="by(Sex) + ar1(I((age - 8) / 2) | Subject)")
    >>> [unit.name for unit in residual_units(model.design.residual)]
    ['all of it', 'by(Sex)', 'ar1(I((age - 8) / 2) | Subject)']
    """
    if not isinstance(residual, CorrelatedRows | UnequalVariances):
        return []
    parts = parse_residual(residual.expression)
    kept = tuple(k for k, part in enumerate(parts) if not part.correlated)
    own = residual.spreads.parts[len(kept) :]
    units = [ResidualUnit("all of it", _left(residual, parts, (), False, ()), INDEPENDENT)] if len(parts) > 1 else []
    for k, part in enumerate(parts):
        rest = [other.text for j, other in enumerate(parts) if j != k]
        expression = " + ".join(rest) or INDEPENDENT
        places = tuple(i for i, j in enumerate(kept) if j != k)
        left = _left(residual, parts, places, not part.correlated, own if not part.correlated else ())
        units.append(ResidualUnit(part.text, left, expression))
        if part.correlated and CORRELATIONS[part.keyword][1]:
            units += _halves(residual, parts, part, own)
    return units


def _halves(
    residual: CorrelatedRows | UnequalVariances,
    parts: tuple[ResidualPart, ...],
    part: ResidualPart,
    own: tuple[Spread, ...],
) -> list[ResidualUnit]:
    """A heterogeneous correlation without its correlation, and without standard deviations of visits."""
    places = tuple(range(len(residual.spreads.parts) - len(own)))
    apart = _left(residual, parts, places, False, own)
    alike = _left(residual, parts, places, True, ())
    others = [other.text for other in parts if not other.correlated]
    family, by = CORRELATIONS[part.keyword][0], ":".join(part.left)
    of_visits = "" if part.by else " + ".join([*others, f"by({by})"])
    homogeneous = "" if family == part.keyword else " + ".join([*others, part.text.replace(part.keyword, family, 1)])
    return [
        ResidualUnit(f"correlations of {part.text}", apart, of_visits),
        ResidualUnit(f"sds of {part.text}", alike, homogeneous),
    ]


def _left(
    residual: CorrelatedRows | UnequalVariances,
    parts: tuple[ResidualPart, ...],
    places: tuple[int, ...],
    correlated: bool,
    own: tuple[Spread, ...],
) -> Residual:
    """The structure with some of its variances, those of visits, and its correlation or not."""
    plain = [part.text for part in parts if not part.correlated]
    spreads = Spreads(
        (*(residual.spreads.parts[i] for i in places), *own), residual.spreads.weights, residual.spreads.n
    )
    texts = [plain[i] for i in places]
    if correlated and isinstance(residual, CorrelatedRows):
        texts += [part.text for part in parts if part.correlated]
        return replace(residual, expression=" + ".join(texts), spreads=spreads)
    if not spreads.parts:
        return make_residual(residual.n, residual.weights)
    return UnequalVariances(" + ".join(texts) or "by visit", spreads)
