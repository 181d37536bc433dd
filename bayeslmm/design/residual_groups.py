"""The groups within which residuals are correlated, as a grouping factor."""

from __future__ import annotations

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.residual_text import parse_residual
from bayeslmm.residual import Estimable


def residual_grouping(design: Design) -> Grouping | None:
    """The groups of the residual correlation of a design; None if residuals are independent.

    Where the data had no names for them, they are numbered from 1.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> residual_grouping(model.design).name
    'Subject'
    """
    residual = design.residual
    if residual.clusters is None or not isinstance(residual, Estimable):
        return None
    part = next(part for part in parse_residual(residual.expression) if part.correlated)
    name = ":".join(part.group)
    if name in design.groupings:
        return design.groupings[name]
    groups = int(residual.clusters.max(initial=-1)) + 1
    return Grouping(name, residual.clusters, tuple(str(k) for k in range(1, groups + 1)))
