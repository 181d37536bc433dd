"""From the text of a residual structure and the data to the structure of the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.evaluate import Evaluator
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.groups import factorize, group_by
from bayeslmm.design.recipe import Names
from bayeslmm.design.residual_text import ResidualPart
from bayeslmm.design.residual_words import CORRELATIONS, PLACES
from bayeslmm.errors import DesignError
from bayeslmm.residual import Residual
from bayeslmm.residual.correlation import (
    ContinuousSerialCorrelation,
    Correlation,
    CorrelationByArm,
    DistanceCorrelation,
    EqualCorrelation,
    MovingAverageCorrelation,
    SerialCorrelation,
)
from bayeslmm.residual.spread import ConstantPlusPower, ExponentialSpread, PowerSpread, Spread, SpreadByLevel
from bayeslmm.residual.structured import MOST_DENSE, CorrelatedRows, Spreads, UnequalVariances
from bayeslmm.residual.visits import AntedependentCorrelation, BandedCorrelation, FreeCorrelation
from bayeslmm.types import FloatArray, IntArray

# More visits have more correlations than a fit should be asked for.
_MOST_VISITS = 60
_SHOWN = 3

# Units of time between rows from which on a correlation at one unit is next to 1 wherever there is any.
_LONGEST = 1000


def build_residual(
    parts: Sequence[ResidualPart], columns: Mapping[str, pd.Series], weights: FloatArray | None, n: int
) -> tuple[Residual, tuple[Names, Names]]:
    """The structure of some rows, and the names of its groups and visits in the order of their codes.

    Parameters
    ----------
    parts : sequence of ResidualPart
    columns : mapping of str to pandas.Series
        Of the rows, without missing values.
    weights : FloatArray or None, shape (n,)
        Precision weights, on top of the structure.
    n : int

    Returns
    -------
    Residual
    tuple of two Names
        Of the groups of a correlation, and of its visits; empty where there are none.

    Raises
    ------
    DesignError
        The data do not fit the structure: no pairs of rows, two rows of one visit, times that are no whole numbers.
    """
    text = " + ".join(part.text for part in parts)
    spreads: list[Spread] = [_spread(part, columns) for part in parts if not part.correlated]
    correlated = next((part for part in parts if part.correlated), None)
    if correlated is None:
        return UnequalVariances(text, Spreads(tuple(spreads), weights, n)), ((), ())
    family, heterogeneous = CORRELATIONS[correlated.keyword]
    groups = group_by(columns, correlated.group)
    arm = _arms(correlated, columns, groups)
    at, visits = _positions(correlated, family, columns)
    _check_positions(correlated, groups, at)
    if heterogeneous:
        spreads.append(_by_visit(correlated, columns, arm))
    correlation = _correlation(correlated, family, groups, at, visits)
    if arm is not None:
        correlation = CorrelationByArm(correlation, tuple(arm.levels))
        at = np.column_stack([at, arm.codes])
    whole = Spreads(tuple(spreads), weights, n)
    residual = CorrelatedRows(text, whole, correlation, groups.codes, np.ascontiguousarray(at, dtype=float))
    return residual, (vars(groups)["levels"], visits)


def _spread(part: ResidualPart, columns: Mapping[str, pd.Series]) -> Spread:
    if part.keyword == "by":
        return _by_level(part, group_by(columns, part.left))
    if part.keyword == "exp":
        x = numbers(part, part.left[0], columns)
        if not np.ptp(x) > 0:
            raise _constant(part)
        return ExponentialSpread(part.text, x, float(np.abs(x).max()))
    x = positive_numbers(part, columns)
    if not np.ptp(x) > 0:
        raise _constant(part)
    return PowerSpread(part.text, x) if part.keyword == "power" else ConstantPlusPower(part.text, x)


def positive_numbers(part: ResidualPart, columns: Mapping[str, pd.Series]) -> FloatArray:
    """Absolute values (n,) of the covariate of a power.

    Raises
    ------
    DesignError
        Some are zero.
    """
    x = np.abs(numbers(part, part.left[0], columns))
    if (x == 0).any():
        raise DesignError(
            f"residual: {part.text} has a covariate that is 0 in {int((x == 0).sum())} row(s), where a power is 0 or "
            "infinite. Shift it, power(x + 1), or use exp(x), which is finite everywhere."
        )
    return x


def _constant(part: ResidualPart) -> DesignError:
    return DesignError(
        f"residual: the covariate of {part.text} has the same absolute value in all rows, so that nothing tells a "
        "variance that follows it from sigma. Leave the part out."
    )


def _by_level(part: ResidualPart, factor: Grouping) -> SpreadByLevel:
    counts = np.bincount(factor.codes, minlength=factor.n_levels)
    if factor.n_levels == 1:
        raise DesignError(
            f"residual: {factor.name} of {part.text} has the single level {factor.levels[0]!r} in the rows used; there "
            "is nothing whose variance could differ. Leave the part out."
        )
    if (counts < 2).any():
        few = [factor.levels[k] for k in np.flatnonzero(counts < 2)[:_SHOWN]]
        raise DesignError(
            f"residual: {part.text} gives a variance to every level of {factor.name}, and {', '.join(map(repr, few))} "
            f"has a single row, which any variance down to zero fits. Join levels, or use a factor with fewer than "
            f"{factor.n_levels}."
        )
    return SpreadByLevel(part.text, factor.name, factor.codes, tuple(factor.levels))


def _by_visit(part: ResidualPart, columns: Mapping[str, pd.Series], arm: Grouping | None) -> Spread:
    name = part.left[0]
    named = {**columns, name: series_of(part, name, columns)}
    return _by_level(part, group_by(named, (name,) if arm is None else (name, part.by)))


def _arms(part: ResidualPart, columns: Mapping[str, pd.Series], groups: Grouping) -> Grouping | None:
    if not part.by:
        return None
    arm = group_by(columns, (part.by,))
    of_group = np.zeros(groups.n_levels, dtype=np.int64)
    of_group[groups.codes] = arm.codes
    wrong = np.flatnonzero(of_group[groups.codes] != arm.codes)
    if wrong.size:
        raise DesignError(
            f"residual: {part.text} has covariances by {part.by}, and {groups.name} "
            f"{groups.levels[groups.codes[wrong[0]]]!r} has rows of several levels of it. by= takes what is the same "
            "in all rows of a group."
        )
    if arm.n_levels == 1:
        raise DesignError(f"residual: {part.by} of {part.text} has the single level {arm.levels[0]!r}. Leave by= out.")
    return arm


def _positions(part: ResidualPart, family: str, columns: Mapping[str, pd.Series]) -> tuple[FloatArray, tuple[str, ...]]:
    """Positions (n, d) of the rows, and the names of the visits."""
    if family == "cs" and not part.left:
        n = len(next(iter(columns.values())))
        return np.zeros((n, 1)), ()
    if family in PLACES:
        return np.column_stack([numbers(part, text, columns) for text in part.left]), ()
    if len(part.left) != 1:
        raise DesignError(
            f"residual: {part.text} takes one visit or time left of the bar, not {len(part.left)}; places with several "
            "coordinates have exp, gaussian and matern."
        )
    series = series_of(part, part.left[0], columns)
    if family == "car1":
        return numbers(part, part.left[0], columns)[:, None], ()
    number = pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype)
    if number and family in ("ar1", "arma"):
        times = whole_times(part, series)
        _check_unit(part, times)
        return times[:, None], ()
    if family != "us":
        _check_order(part, family, series)
    codes, names = factorize(series)
    return codes[:, None].astype(float), names.resolve()


def _check_order(part: ResidualPart, family: str, series: pd.Series) -> None:
    """Refuse places whose order, which the structure is about, is not the one that a reader sees in them.

    Raises
    ------
    DesignError
        Numbers that are text and are sorted as such; dates where steps between times count.
    """
    name = part.left[0]
    if pd.api.types.is_datetime64_any_dtype(series) and family in ("ar1", "arma"):
        raise DesignError(
            f"residual: {part.text} counts steps between whole times, and {name} has dates. Make a number of them, "
            f"e.g. days: (data[{name!r}] - data[{name!r}].min()).dt.days."
        )
    if isinstance(series.dtype, pd.CategoricalDtype):
        return
    labels = sorted({str(label) for label in series.unique()})
    try:
        by_number = sorted(labels, key=float)
    except ValueError:
        return
    if pd.api.types.is_string_dtype(series) and by_number != labels:
        raise DesignError(
            f"residual: {part.text} is about the order of {name}, which has numbers as text; sorted as text they are "
            f"{', '.join(map(repr, labels[:4]))}. Make numbers of them, or an ordered factor (pandas.Categorical)."
        )


def whole_times(part: ResidualPart, series: pd.Series) -> FloatArray:
    """Times (n,) between which steps are counted.

    Raises
    ------
    DesignError
        Some are no whole numbers.
    """
    times = series.to_numpy(dtype=float)
    if (times != np.round(times)).any():
        odd = times[times != np.round(times)][0]
        raise DesignError(
            f"residual: {part.text} counts steps between whole times, and {part.left[0]} has {odd:g}. Use "
            f"car1({part.left[0]} | {':'.join(part.group)}), which takes any times, or number the visits."
        )
    return times


def _check_unit(part: ResidualPart, times: FloatArray) -> None:
    """Refuse times in a unit that is so small beside their steps that a correlation at one unit says nothing.

    Raises
    ------
    DesignError
    """
    step = math.gcd(*(int(t) for t in np.unique(times - times[0])))
    if step > _LONGEST:
        raise DesignError(
            f"residual: {part.text} has a correlation for one unit of {part.left[0]}, and all times are {step} units "
            f"or multiples of that apart: a power {step} of a correlation is 0 or 1 in nearly all its range. Divide "
            f"{part.left[0]} by {step}."
        )


def _check_positions(part: ResidualPart, groups: Grouping, at: FloatArray) -> None:
    counts = np.bincount(groups.codes)
    if counts.max() < 2:
        raise DesignError(
            f"residual: no level of {groups.name} has two rows, so that nothing shows a correlation within it. "
            f"{part.text} needs repeated rows of a group."
        )
    if not part.left:
        return
    order = np.lexsort((*at.T[::-1], groups.codes))
    same = (np.diff(groups.codes[order]) == 0) & (np.diff(at[order], axis=0) == 0).all(axis=1)
    if same.any():
        row = order[np.flatnonzero(same)[0]]
        raise DesignError(
            f"residual: {groups.name} {groups.levels[groups.codes[row]]!r} has two rows at the same "
            f"{' + '.join(part.left)} ({int(same.sum())} such pair(s) in all). In {part.text} every row of a group has "
            "a place of its own. Take means, drop duplicates, or add what tells them apart to the group."
        )


def _correlation(
    part: ResidualPart, family: str, groups: Grouping, at: FloatArray, visits: tuple[str, ...]
) -> Correlation:
    counts = np.bincount(groups.codes)
    if family == "ar1":
        return SerialCorrelation()
    if family == "car1":
        return ContinuousSerialCorrelation()
    if counts.max() > MOST_DENSE and family != "ad":
        raise DesignError(
            f"residual: a level of {groups.name} has {counts.max()} rows, and {part.text} writes out their "
            f"correlations, for {MOST_DENSE} rows at most. ar1 and car1 take groups of any size."
        )
    if family == "cs":
        return EqualCorrelation(int(counts.max()))
    if family == "arma":
        return MovingAverageCorrelation()
    if family in PLACES:
        return DistanceCorrelation(family)
    _check_visits(part, family, groups, at[:, 0].astype(np.int64), visits)
    if family == "us":
        return FreeCorrelation(visits)
    return BandedCorrelation(visits) if family == "toep" else AntedependentCorrelation(visits)


def _check_visits(part: ResidualPart, family: str, groups: Grouping, codes: IntArray, visits: tuple[str, ...]) -> None:
    K = len(visits)
    if K > _MOST_VISITS:
        raise DesignError(
            f"residual: {part.text} has {K} visits, and parameters for each; at most {_MOST_VISITS} are taken. ar1, "
            "car1 and exp have one parameter for any times."
        )
    present = np.zeros((groups.n_levels, K))
    present[groups.codes, codes] = 1.0
    together = present.T @ present
    if family == "us":
        needed = [(a, b) for a in range(K) for b in range(a) if together[a, b] < 2]
    elif family == "ad":
        needed = [(a, a - 1) for a in range(1, K) if together[a, a - 1] < 2]
    else:
        needed = [(h, 0) for h in range(1, K) if np.diagonal(together, h).sum() < 2]
    if needed:
        a, b = needed[0]
        raise DesignError(
            f"residual: fewer than two levels of {groups.name} have both visits {visits[b]!r} and {visits[a]!r}"
            + (" or others as far apart" if family == "toep" else "")
            + f", so that {part.text} has a correlation that the data do not show. Use ar1 or cs, which have one "
            "correlation for all, or leave a visit out."
        )


def series_of(part: ResidualPart, text: str, columns: Mapping[str, pd.Series]) -> pd.Series:
    """A column, or the values of an expression of columns."""
    name = text.strip("`")
    return columns[name] if name in columns else pd.Series(numbers(part, text, columns))


def numbers(part: ResidualPart, text: str, columns: Mapping[str, pd.Series]) -> FloatArray:
    """Values (n,) of a column of numbers, or of an expression of columns.

    Raises
    ------
    DesignError
        No numbers, or none that are finite.
    """
    name = text.strip("`")
    if name in columns and not pd.api.types.is_numeric_dtype(columns[name].dtype):
        raise DesignError(
            f"residual: {part.text} needs numbers, and {name} has {columns[name].iloc[0]!r}. Turn it into numbers "
            "first: days since the start for dates, positions for factors."
        )
    values = np.asarray(Evaluator(columns, {}, {}).vector(text if name not in columns else f"`{name}`"), dtype=float)
    if not np.isfinite(values).all():
        raise DesignError(
            f"residual: {text} of {part.text} has {int((~np.isfinite(values)).sum())} value(s) that are "
            "no finite numbers."
        )
    return values
