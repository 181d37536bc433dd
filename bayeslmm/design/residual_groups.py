"""The groups within which residuals are correlated, as a grouping factor."""

from __future__ import annotations

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.residual_text import parse_residual
from bayeslmm.residual import Estimable


def residual_grouping(design: Design) -> Grouping | None:
    """The groups of the residual correlation of a design; None if residuals are independent.

    Where a design does not know their names (it is part of another one, or from an old file), they are numbers from 1.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> grouping = residual_grouping(model.design)
    >>> grouping.name, grouping.levels[:2]
    ('Subject', ('308', '309'))
    """
    residual = design.residual
    if residual.clusters is None or not isinstance(residual, Estimable):
        return None
    part = next(part for part in parse_residual(residual.expression) if part.correlated)
    name = ":".join(part.group)
    if name in design.groupings:
        return design.groupings[name]
    groups = int(residual.clusters.max(initial=-1)) + 1
    names = () if design.recipe is None else design.recipe.residual_groups
    if len(names) != groups:
        names = tuple(str(k) for k in range(1, groups + 1))
    return Grouping(name, residual.clusters, names)


def all_groupings(design: Design) -> dict[str, Grouping]:
    """The grouping factors of a design, and that of its residual correlations, by name."""
    known, correlated = dict(design.groupings), residual_grouping(design)
    return known if correlated is None else known | {correlated.name: correlated}
