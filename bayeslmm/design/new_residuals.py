"""The residual structure of new rows: the levels, visits, groups and units are those of the rows of the design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.frequency import row_by_row
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.groups import group_by
from bayeslmm.design.lazy import same_moments
from bayeslmm.design.looks import twins
from bayeslmm.design.residual_parts import numbers, positive_numbers, series_of, whole_times
from bayeslmm.design.residual_text import ResidualPart, parse_residual
from bayeslmm.design.residual_words import CORRELATIONS
from bayeslmm.errors import DesignError
from bayeslmm.residual import Residual
from bayeslmm.residual.correlation import CorrelationByArm
from bayeslmm.residual.spread import ConstantPlusPower, ExponentialSpread, PowerSpread, Spread, SpreadByLevel
from bayeslmm.residual.structured import CorrelatedRows, Spreads, UnequalVariances
from bayeslmm.types import FloatArray, IntArray

_SHOWN = 8


def level_codes(found: Grouping, known: Sequence[str]) -> tuple[IntArray, tuple[str, ...]]:
    """Codes (k,) of rows among levels that are known, and the names of others, whose codes are behind these."""
    position = {name: code for code, name in enumerate(known)}
    new = tuple(name for name in found.levels if name not in position)
    if new:
        position |= same_moments(new, known)
        new = tuple(name for name in found.levels if name not in position)
    position |= {name: len(known) + i for i, name in enumerate(new)}
    codes = np.array([position[name] for name in found.levels], dtype=np.int64)
    return codes[found.codes], new


def residual_parts_of(design: Design) -> tuple[ResidualPart, ...]:
    """The summands of the residual structure of a design; none if it has no parameters.

    Raises
    ------
    DesignError
        The structure was put together by hand.
    """
    residual = design.residual
    if not residual.names:
        return ()
    if not isinstance(residual, UnequalVariances | CorrelatedRows):
        raise DesignError(
            f"The residuals of this model ({residual.keyword}) are not made from a text and columns, so that those of "
            "new rows are not known. Predict means, kind='mean'."
        )
    return parse_residual(residual.expression)


def new_residual(
    design: Design,
    parts: Sequence[ResidualPart],
    columns: Mapping[str, pd.Series],
    weights: FloatArray | None,
    n: int,
) -> tuple[Residual, IntArray | None]:
    """The structure of some other rows, and the group of each in the numbering of the design's.

    Parameters
    ----------
    design : Design
        Its residual structure is made of `parts`.
    parts : sequence of ResidualPart
    columns : mapping of str to pandas.Series
        Of the new rows, without missing values.
    weights : FloatArray or None, shape (n,)
        Their precision weights.
    n : int
        Rows.

    Returns
    -------
    Residual
    IntArray or None, shape (n,)
        From the number of groups of the design on, groups that it does not have; None if residuals are independent.

    Raises
    ------
    DesignError
        A level, a visit or an arm that the data of the model did not have.
    """
    residual = design.residual
    if not isinstance(residual, UnequalVariances | CorrelatedRows):
        raise TypeError(f"residuals of the kind {residual.keyword!r} are not made from parts")
    if n == 0:
        nothing = np.empty(0, dtype=np.int64)
        return residual.part(nothing), nothing if isinstance(residual, CorrelatedRows) else None
    _check_row_by_row(parts)
    variances = [part for part in parts if not part.correlated]
    correlated = next((part for part in parts if part.correlated), None)
    # A structure with a variance for every visit has these behind the variances that are written down.
    own = [*variances, *([correlated] if correlated and CORRELATIONS[correlated.keyword][1] else [])]
    spreads = tuple(_spread(s, part, columns) for s, part in zip(residual.spreads.parts, own, strict=True))
    whole = Spreads(spreads, weights, n)
    if not isinstance(residual, CorrelatedRows) or correlated is None:
        return UnequalVariances(residual.expression, whole), None
    clusters = _clusters(design, correlated, columns)
    at = _positions(design, residual, correlated, columns)
    if isinstance(residual.correlation, CorrelationByArm):
        at = np.column_stack([at, _arms(residual, residual.correlation, correlated, columns, clusters)])
    compact = np.unique(clusters, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return CorrelatedRows(residual.expression, whole, residual.correlation, compact, at), clusters


def _check_row_by_row(parts: Sequence[ResidualPart]) -> None:
    for part in parts:
        for text in part.left:
            if not row_by_row(text, {}):
                raise DesignError(
                    f"residual: {text} of {part.text} may give a row another value among other rows, so that it is not "
                    "known at new ones. Make it a column of both data frames first."
                )


def _spread(spread: Spread, part: ResidualPart, columns: Mapping[str, pd.Series]) -> Spread:
    if isinstance(spread, SpreadByLevel):
        factors = part.left if not part.correlated else (part.left[0], *((part.by,) if part.by else ()))
        named = columns if not part.correlated else {**columns, part.left[0]: series_of(part, part.left[0], columns)}
        codes, new = level_codes(group_by(named, factors), spread.levels)
        if new:
            raise _unknown(part, spread.factor_name, new, spread.levels, "no residual variance")
        return replace(spread, codes=codes)
    if isinstance(spread, ExponentialSpread):
        return replace(spread, x=numbers(part, part.left[0], columns))
    if isinstance(spread, PowerSpread | ConstantPlusPower):
        return replace(spread, x=positive_numbers(part, columns))
    raise TypeError(f"{type(spread).__name__} is made from no part of a text")


def _unknown(part: ResidualPart, name: str, new: Sequence[str], known: Sequence[str], what: str) -> DesignError:
    return DesignError(
        f"{name} has {len(new)} level(s) that the data of the model did not have: {_listed(new)}.{twins(new, known)} "
        f"{part.text} has {what} for them, only for {_listed(known)}. Leave these rows out, or ask for the mean alone, "
        "which no residual is part of: predict(..., random=None)."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _clusters(design: Design, part: ResidualPart, columns: Mapping[str, pd.Series]) -> IntArray:
    known = () if design.recipe is None else design.recipe.residual_groups
    if not known:
        raise DesignError(
            f"This model was read from a file of an earlier version, without the names of {':'.join(part.group)}, so "
            "that it cannot tell the groups of new rows. Make it again from formula and data."
        )
    return level_codes(group_by(columns, part.group), known)[0]


def _positions(
    design: Design, residual: CorrelatedRows, part: ResidualPart, columns: Mapping[str, pd.Series]
) -> FloatArray:
    family = CORRELATIONS[part.keyword][0]
    n = len(next(iter(columns.values())))
    if not part.left:
        return np.zeros((n, 1))
    visits = () if design.recipe is None else design.recipe.residual_visits
    if visits:
        named = {**columns, part.left[0]: series_of(part, part.left[0], columns)}
        codes, new = level_codes(group_by(named, (part.left[0],)), visits)
        # One correlation of all pairs is that of any visit.
        if new and family != "cs":
            raise _unknown(part, part.left[0], new, visits, "no correlation")
        return codes[:, None].astype(float)
    places = [numbers(part, text, columns) for text in part.left]
    if family in ("ar1", "arma"):
        places = [whole_times(part, pd.Series(places[0]))]
    return np.column_stack(places)


def _arms(
    residual: CorrelatedRows,
    correlation: CorrelationByArm,
    part: ResidualPart,
    columns: Mapping[str, pd.Series],
    clusters: IntArray,
) -> IntArray:
    """Arm of each row: one for all rows of a group, and that which the group has in the data."""
    codes, new = level_codes(group_by(columns, (part.by,)), correlation.arms)
    if new:
        raise _unknown(part, part.by, new, correlation.arms, "no covariances")
    arm = dict(zip(residual.clusters.tolist(), residual.at[:, -1].tolist(), strict=True))
    for cluster, own in zip(clusters.tolist(), codes.tolist(), strict=True):
        if arm.setdefault(cluster, own) != own:
            raise DesignError(
                f"residual: {part.text} has covariances by {part.by}, and some {':'.join(part.group)} of the new data "
                f"has {part.by} {correlation.arms[own]!r} where its other rows have "
                f"{correlation.arms[int(arm[cluster])]!r}. The arm is the same in all rows of a group."
            )
    return codes
