"""What the residual structure of a fit says, in tables: standard deviations by level, correlations, covariances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag, shown
from bayeslmm.design.readable import readable
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.design.residual_text import INDEPENDENT
from bayeslmm.errors import DesignError
from bayeslmm.residual import Estimable, natural_parameters
from bayeslmm.residual.spread import SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, UnequalVariances
from bayeslmm.results.figures import to_places
from bayeslmm.results.fit import Fit
from bayeslmm.types import IntArray

# Correlations of more visits than this are left to `residual_covariance`.
_MOST_SHOWN = 10


def expression(fit: Fit) -> str:
    """The structure as written."""
    residual = fit.design.residual
    return residual.expression if isinstance(residual, Estimable) else INDEPENDENT


def residual_lines(fit: Fit) -> pd.DataFrame:
    """Standard deviations by level and the other parameters, as text for a summary."""
    if not isinstance(fit.design.residual, Estimable):
        return pd.DataFrame({"Estimate": [f"{fit.sigma:.5g}"]}, index=pd.Index(["sigma"], dtype=object), dtype=object)
    residual, lam = fit.design.residual, fit.optimum.lam
    values = dict(zip(residual.labels, natural_parameters(residual, lam), strict=True))
    rows: list[tuple[str, str]] = []
    for spread in _spreads(residual):
        if isinstance(spread, SpreadByLevel):
            for level, label in zip(spread.levels, ("", *spread.labels), strict=True):
                ratio = values.pop(label) if label else 1.0
                rows.append((f"sd {spread.factor_name}[{level}]", f"{fit.sigma * ratio:.5g}"))
    if not rows:
        rows.append(("sigma", f"{fit.sigma:.5g}"))
    others = list(values.items())
    rows += [(label, to_places(float(value), 4)) for label, value in others[: _MOST_SHOWN * (_MOST_SHOWN - 1) // 2]]
    names = [name for name, _ in rows]
    return pd.DataFrame({"Estimate": [text for _, text in rows]}, index=pd.Index(names, dtype=object), dtype=object)


def _spreads(residual: Estimable) -> tuple[Any, ...]:
    return residual.spreads.parts if isinstance(residual, CorrelatedRows | UnequalVariances) else ()


def residual_covariance(fit: Fit, group: Any = None, *, correlation: bool = False) -> pd.DataFrame:
    """Covariance of the residuals of one group of correlated rows.

    Parameters
    ----------
    group : str, optional
        Level of the factor within which residuals are correlated; by default the one with most rows, the first of
        these.
    correlation : bool
        Correlations in place of covariances.

    Returns
    -------
    pandas.DataFrame
        Rows and columns in the order of visits or times, under these.

    Raises
    ------
    DesignError
        There is no such level; residuals are not correlated.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy")
    >>> fit = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    >>> fit.residual_covariance(correlation=True).iloc[:2, :3].round(3).values.tolist()
    [[1.0, 0.8, 0.64], [0.8, 1.0, 0.8]]
    >>> fit.residual_covariance("308").shape
    (10, 10)
    """
    residual, lam = fit.design.residual, fit.optimum.lam
    flag("correlation", correlation, DesignError)
    if not isinstance(residual, CorrelatedRows):
        raise DesignError("Residuals of this fit are independent: their variances are all there is.")
    rows = _rows_of(fit, residual, group)
    values = residual.covariance(lam, rows).toarray() * fit.sigma**2
    if correlation:
        sd = np.sqrt(np.diagonal(values))
        values = values / (sd * sd[:, None])
    names = _names(residual, rows)
    return readable(pd.DataFrame(values, index=names, columns=names))


def _rows_of(fit: Fit, residual: CorrelatedRows, group: Any) -> IntArray:
    grouping = residual_grouping(fit.design)
    assert grouping is not None
    if group is None:
        chosen = int(np.argmax(np.bincount(grouping.codes)))
    elif str(group) in grouping.levels:
        chosen = grouping.levels.index(str(group))
    else:
        more = ", ..." if grouping.n_levels > _MOST_SHOWN else ""
        raise DesignError(
            f"group={shown(group)} is no level of {grouping.name}, within which residuals are correlated. Levels are: "
            f"{', '.join(grouping.levels[:_MOST_SHOWN])}{more}."
        )
    rows = np.flatnonzero(grouping.codes == chosen)
    return rows[np.lexsort(residual.at[rows].T[::-1])]


def _names(residual: CorrelatedRows, rows: Any) -> list[Any]:
    family = getattr(residual.correlation, "family", residual.correlation)
    visits = getattr(family, "visits", None)
    at = residual.at[rows]
    if visits is not None:
        return [visits[int(v)] for v in at[:, 0]]
    if not np.ptp(at[:, 0]) > 0:
        return list(range(1, len(rows) + 1))
    return [float(v) for v in at[:, 0]] if at.shape[1] == 1 else [tuple(map(float, v)) for v in at]
