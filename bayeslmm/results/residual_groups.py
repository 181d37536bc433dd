"""The factor within whose levels residuals are correlated, under the user's names."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayeslmm.design.grouping import Grouping
from bayeslmm.design.groups import group_by
from bayeslmm.design.residual_text import parse_residual
from bayeslmm.design.tables import open_table, to_pandas
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.results.fit import Fit


def residual_grouping(fit: Fit) -> Grouping | None:
    """The factor right of the bar in ``ar1(time | g)``; None where residuals are independent.

    Its levels have their names where the model has the factor otherwise, or the data are at hand; else they are numbers
    in the order of the names.
    """
    residual = fit.design.residual
    if not isinstance(residual, CorrelatedRows):
        return None
    columns = next(part.group for part in parse_residual(residual.expression) if part.correlated)
    name = ":".join(columns)
    if name in fit.design.groupings:
        return fit.design.groupings[name]
    found = _from_data(fit, columns)
    # Rows and names belong together if both are cut into the same groups.
    if found is not None and np.array_equal(found.codes, residual.clusters):
        return found
    return Grouping(name, residual.clusters, tuple(str(k + 1) for k in range(int(residual.clusters.max()) + 1)))


def _from_data(fit: Fit, columns: tuple[str, ...]) -> Grouping | None:
    """The factor in the table that the model was made of."""
    table = getattr(fit.origin, "_table", None)
    if table is None:
        return None
    table, names = open_table(table)
    if not set(columns) <= set(names):
        return None
    frame, rows = to_pandas(table, [str(name) for name in names]), pd.Index(fit.design.index)
    if not frame.index.is_unique or not rows.isin(frame.index).all():
        return None
    return group_by({name: frame.loc[rows, name] for name in columns}, columns)
