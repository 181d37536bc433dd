"""Residuals of a group beside one another: autocorrelation by lag, semivariogram by distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayeslmm.arguments import choice, real, shown, whole
from bayeslmm.design.design import Design
from bayeslmm.design.padding import rows_of_design
from bayeslmm.design.readable import readable
from bayeslmm.design.recovered import recovered_columns
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.errors import DesignError
from bayeslmm.residual.correlation import CorrelationByArm
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.results.deletion_cases import deletion_cases
from bayeslmm.results.fit import Fit
from bayeslmm.results.intervals import check_level
from bayeslmm.results.residual_kinds import residual_values
from bayeslmm.types import FloatArray, IntArray

type SerialKind = Literal["raw", "pearson", "normalized"]

# Pairs of rows that are looked at, and classes of distances.
_MOST_PAIRS, _MOST_BINS = 20_000_000, 10_000


@dataclass(frozen=True)
class _Placed:
    """Residuals of rows in groups.

    Attributes
    ----------
    values : FloatArray, shape (n,)
    codes : IntArray, shape (n,)
        Group of each row; -1 for none.
    at : FloatArray, shape (n, d)
        Times or places.
    group, time : str
        What they are called.
    """

    values: FloatArray
    codes: IntArray
    at: FloatArray
    group: str
    time: str


def acf(
    fit: Fit,
    kind: SerialKind = "normalized",
    *,
    time: Any = None,
    by: Any = None,
    max_lag: int | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Autocorrelation of the residuals within groups, by lag.

    The mean product of residuals that are so far apart, over the mean of their squares (nlme's ``ACF``); rows may stand
    in any order, and visits that are missing are gaps.

    Parameters
    ----------
    kind : {"raw", "pearson", "normalized"}
        As in `residuals`: response minus fitted values (nlme's ``"response"``), over the standard deviation of their
        row, or whitened by the fitted correlations, of which nothing should be left.
    time : str or array of shape (rows,), optional
        Whole times of the rows: a column of numbers that the formula uses, or values by row. By default the times or
        visits of the residual structure; without one, or where times are no whole numbers, the lag counts rows of a
        group in their order.
    by : str or array of shape (rows,), optional
        The groups: a grouping factor, or values by row. By default the groups of the residual structure, else the
        grouping factor with most levels.
    max_lag : int, optional
        In units of `time`. By default 10 log10(m) steps for groups of m rows, as in R.
    level : float
        Of the limits.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``lag``: ``acf``; ``expected``, what the fitted residual covariance says (of the residuals
        themselves: those that predicted random effects leave are correlated less, or negatively); ``limit``, beyond
        which (up and down) independent residuals are with probability 1 - `level` at any one lag, a normal quantile
        over the root of the number of pairs; ``pairs``.

    Raises
    ------
    DesignError
        No groups, no pairs, times that are no numbers, an argument that is none of these.
    FitError
        Sigma is 0.

    References
    ----------
    Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 5.3.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("sleepstudy")
    >>> fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()
    >>> fit.acf(time="Days", max_lag=3)["acf"].round(3).to_dict()
    {0: 1.0, 1: 0.383, 2: 0.089, 3: -0.111}
    """
    placed = _placed(fit, kind, time, by)
    t = _whole(placed)
    order = np.lexsort((t, placed.codes))
    order = order[placed.codes[order] >= 0]
    limit = _limit(order, placed, t) if max_lag is None else whole("max_lag", max_lag, 1, 10**9, DesignError)
    mean = _expected(fit, kind, placed)
    sums = _sums_by_lag(order, placed.codes, t, limit, lambda i, j: placed.values[i] * placed.values[j])
    expected = _sums_by_lag(order, placed.codes, t, limit, mean)
    if not sums:
        raise _no_pairs(placed)
    lags = np.array(sorted(sums))
    pairs = np.array([sums[h][1] for h in lags])
    own = float(np.mean(placed.values[order] ** 2))
    each = float(np.mean(mean(order, order)))
    if not own > 0:
        raise DesignError("All residuals are 0, so that they have no autocorrelation.")
    table = pd.DataFrame(
        {
            "acf": [1.0, *(sums[h][0] / sums[h][1] / own for h in lags)],
            "expected": [1.0, *(expected[h][0] / expected[h][1] / each for h in lags)],
            "limit": [np.nan, *(ndtri(0.5 + check_level(level) / 2) / np.sqrt(pairs))],
            "pairs": [order.size, *pairs.tolist()],
        },
        index=pd.Index([0, *lags.astype(int).tolist()], name="lag"),
    )
    table.attrs.update(kind=kind, level=level, time=placed.time, by=placed.group)
    return readable(table)


def semivariogram(
    fit: Fit,
    kind: SerialKind = "pearson",
    *,
    time: Any = None,
    by: Any = None,
    bins: int = 20,
    max_distance: float | None = None,
) -> pd.DataFrame:
    """Semivariogram of the residuals within groups: half the mean squared difference, by distance.

    Parameters
    ----------
    kind : {"raw", "pearson", "normalized"}
        As in `acf`; Pearson residuals are in standard deviations here, so that independent ones are about 1.
    time : str or array, optional
        As in `acf`, any numbers; by default the times or places of the residual structure.
    by : str or array, optional
        As in `acf`.
    bins : int
        Classes with about as many pairs each, where there are more different distances than that.
    max_distance : float, optional
        Pairs farther apart are left out.

    Returns
    -------
    pandas.DataFrame
        By class of distances: ``distance`` (the median), ``semivariogram``, ``expected`` (what the fitted residual
        covariance says at these pairs), ``pairs``. nlme's ``Variogram``, whose classes leave out the smallest distance
        where it makes several of it.

    Raises
    ------
    DesignError
        No groups, no pairs, times that are no numbers, an argument that is none of these.
    FitError
        Sigma is 0.

    References
    ----------
    Pinheiro & Bates (2000), section 5.3; Cressie (1993), Statistics for Spatial Data, section 2.4.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> data = bl.load_dataset("Orthodont")
    >>> fit = bl.Model("distance ~ age * Sex", data, residual="car1(age | Subject)").fit()
    >>> fit.semivariogram().round(3)
       distance  semivariogram  expected  pairs
    0       2.0          0.370     0.376     81
    1       4.0          0.304     0.610     54
    2       6.0          0.442     0.756     27
    """
    bins = whole("bins", bins, 1, _MOST_BINS, DesignError)
    placed = _placed(fit, kind, time, by)
    farthest = np.inf
    if max_distance is not None:
        farthest = real("max_distance", max_distance, above=0.0, error=DesignError)
    first, second = _pairs(placed, farthest)
    apart = np.sqrt(((placed.at[first] - placed.at[second]) ** 2).sum(1))
    near = apart <= farthest
    first, second, apart = first[near], second[near], apart[near]
    if not apart.size:
        raise _no_pairs(placed)
    mean = _expected(fit, kind, placed)
    half = 0.5 * (mean(first, first) + mean(second, second)) - mean(first, second)
    code = _classes(apart, bins)
    table = pd.DataFrame(
        {
            "distance": apart,
            "semivariogram": 0.5 * (placed.values[first] - placed.values[second]) ** 2,
            "expected": half,
        }
    ).groupby(code)
    out = table.mean()
    out["distance"] = table["distance"].median()
    out["pairs"] = table.size()
    out.attrs.update(kind=kind, time=placed.time, by=placed.group)
    return readable(out.reset_index(drop=True))


def _placed(fit: Fit, kind: str, time: Any, by: Any) -> _Placed:
    choice("kind", kind, get_args(SerialKind.__value__), DesignError)
    values = residual_values(fit, kind, scaled=kind == "pearson")  # type: ignore[arg-type]
    design, residual = fit.design, fit.design.residual
    if by is not None:
        cases = deletion_cases(design, rows_of_design(design, by))
        group, codes = cases.by, cases.codes
    elif (correlated := residual_grouping(design)) is not None:
        group, codes = correlated.name, correlated.codes
    elif design.groupings:
        grouping = max(design.groupings.values(), key=lambda g: g.n_levels)
        group, codes = grouping.name, grouping.codes
    else:
        raise DesignError("The model has no groups, within which residuals could hang together. Give them: by=...")
    if time is None and isinstance(residual, CorrelatedRows):
        return _Placed(values, codes, _places(residual, codes), group, residual.expression)
    if time is None:
        return _Placed(values, codes, _order(codes)[:, None], group, "rows")
    name = time if isinstance(time, str) else str(getattr(time, "name", None) or "time")
    return _Placed(values, codes, _times(design, time)[:, None], group, name)


def _places(residual: CorrelatedRows, codes: IntArray) -> FloatArray:
    """Times or places of the rows, without the number of the arm; their order in groups, codes (n,), without any."""
    d = residual.at.shape[1] - isinstance(residual.correlation, CorrelationByArm)
    at = residual.at[:, :d]
    if (at != at[:1]).any():
        return at
    return _order(codes)[:, None]


def _order(codes: IntArray, *keys: FloatArray) -> FloatArray:
    """Place (n,) of every row in its group: by some keys, or as the rows stand."""
    order = np.lexsort((*keys[::-1], codes))
    starts = np.flatnonzero(np.append(True, np.diff(codes[order]) != 0))
    place = np.empty(codes.size)
    place[order] = np.arange(codes.size) - np.repeat(starts, np.diff(np.append(starts, codes.size)))
    return place


def _times(design: Design, time: Any) -> FloatArray:
    if isinstance(time, str):
        known = () if design.recipe is None else design.recipe.columns
        if time not in known:
            raise DesignError(
                f"time={time!r} is no column that the formula uses ({', '.join(known) or 'there are none'}). Give its "
                "values by row: time=data[...]."
            )
        values: Any = recovered_columns(design, [time])[time]
    else:
        values = rows_of_design(design, time)
    try:
        numbers = np.asarray(values, dtype=float)
    except Exception:
        raise DesignError(f"time={shown(time)} are no numbers. Give one for each row.") from None
    if numbers.shape != (design.n,) or not np.isfinite(numbers).all():
        raise DesignError(
            f"time= has shape {numbers.shape} or values that are no finite numbers; it takes one number for each of "
            f"the {design.n} rows of the model."
        )
    return numbers


def _whole(placed: _Placed) -> FloatArray:
    """Whole times (n,); where there are none, the place of a row in its group."""
    t = placed.at[:, 0]
    if placed.at.shape[1] == 1 and (t == np.round(t)).all():
        return t
    return _order(placed.codes, *placed.at.T)


def _limit(order: IntArray, placed: _Placed, t: FloatArray) -> float:
    """The largest lag that is shown if nobody says: R's number of the smallest steps that there are."""
    codes, sizes = placed.codes[order], np.bincount(placed.codes[order])
    step = np.diff(t[order])[(np.diff(codes) == 0) & (np.diff(t[order]) > 0)]
    if not step.size:
        raise _no_pairs(placed)
    return float(step.min()) * max(1, int(10 * np.log10(sizes.max())))


def _sums_by_lag(
    order: IntArray,
    codes: IntArray,
    t: FloatArray,
    limit: float,
    product: Callable[[IntArray, IntArray], FloatArray],
) -> dict[float, tuple[float, int]]:
    """Sums of products of pairs of rows and their numbers, by lag above 0; rows sorted by group and time."""
    found: dict[float, tuple[float, int]] = {}
    for step in range(1, int(np.bincount(codes[order]).max(initial=1))):
        first, second = order[:-step], order[step:]
        same = codes[first] == codes[second]
        first, second = first[same], second[same]
        lag = t[second] - t[first]
        if not (lag <= limit).any():
            break
        near = (lag > 0) & (lag <= limit)
        lags, place = np.unique(lag[near], return_inverse=True)
        sums = np.bincount(place, weights=product(first[near], second[near]))
        for h, total, pairs in zip(lags.tolist(), sums.tolist(), np.bincount(place).tolist(), strict=True):
            before = found.get(h, (0.0, 0))
            found[h] = before[0] + total, before[1] + pairs
    return found


def _expected(fit: Fit, kind: str, placed: _Placed) -> Callable[[IntArray, IntArray], FloatArray]:
    """Covariances of pairs of residuals under the fitted structure, in the units of the kind."""
    residual, lam = fit.design.residual, fit.optimum.lam
    sd = np.ones(placed.values.size)
    if kind == "raw":
        sd = fit.sigma * np.sqrt(residual.variance(lam))

    def covariance(first: IntArray, second: IntArray) -> FloatArray:
        own = first == second
        if kind == "normalized" or not isinstance(residual, CorrelatedRows):
            return np.where(own, sd[first] * sd[second], 0.0)
        C = residual.correlation.matrix(
            lam[len(residual.spreads.names) :], np.stack([residual.at[first], residual.at[second]], axis=1)
        )[:, 0, 1]
        same = residual.clusters[first] == residual.clusters[second]
        return np.where(own, 1.0, np.where(same, C, 0.0)) * sd[first] * sd[second]

    return covariance


def _pairs(placed: _Placed, farthest: float) -> tuple[IntArray, IntArray]:
    """All pairs of rows of one group; of times only those that are not too far apart."""
    order = np.lexsort((*placed.at.T[::-1], placed.codes))
    order = order[placed.codes[order] >= 0]
    codes = placed.codes[order]
    first, second, count = [], [], 0
    for step in range(1, int(np.bincount(codes).max(initial=1))):
        same = codes[:-step] == codes[step:]
        a, b = order[:-step][same], order[step:][same]
        if placed.at.shape[1] == 1:
            near = placed.at[b, 0] - placed.at[a, 0] <= farthest
            a, b = a[near], b[near]
            if not a.size:
                break
        first.append(a)
        second.append(b)
        count += a.size
        if count > _MOST_PAIRS:
            raise DesignError(
                f"The rows have more than {_MOST_PAIRS:,} pairs within groups. Give max_distance=, beyond which pairs "
                "are left out, or smaller groups by=."
            )
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *first]), np.concatenate([nothing, *second])


def _classes(apart: FloatArray, bins: int) -> IntArray:
    """Class of every pair: each distance its own, or quantiles of the distances."""
    distinct, place = np.unique(apart.round(12), return_inverse=True)
    if distinct.size <= bins:
        return place.reshape(-1)
    ends = np.unique(np.quantile(apart, np.linspace(0.0, 1.0, bins + 1)))
    return np.clip(np.searchsorted(ends, apart, side="left") - 1, 0, max(ends.size - 2, 0))


def _no_pairs(placed: _Placed) -> DesignError:
    return DesignError(
        f"No level of {placed.group} has two rows at different places, so that no residuals stand beside one another. "
        "Give other groups (by=) or times (time=)."
    )
