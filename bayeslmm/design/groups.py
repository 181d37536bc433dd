"""Code grouping factors over the cells that occur."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.design import Grouping
from bayeslmm.errors import DesignError
from bayeslmm.types import IntArray


def factorize(series: pd.Series) -> tuple[IntArray, list[str]]:
    """Codes (n,) and level names, levels in category order or sorted.

    Parameters
    ----------
    series : pandas.Series
        No missing values.
    """
    if isinstance(series.dtype, pd.CategoricalDtype):
        raw = series.cat.codes.to_numpy()
        present = np.flatnonzero(np.bincount(raw, minlength=len(series.cat.categories)))
        position = np.zeros(len(series.cat.categories), dtype=np.int64)
        position[present] = np.arange(present.size)
        return position[raw], [level_name(v) for v in series.cat.categories[present].tolist()]
    try:
        codes, levels = pd.factorize(series, sort=True)
    except TypeError:
        codes, levels = pd.factorize(series.astype(str), sort=True)
    return codes.astype(np.int64), [level_name(level) for level in levels.tolist()]


def level_name(value: object) -> str:
    """Text of a level; integral floats lose their ``.0``."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def group_by(columns: Mapping[str, pd.Series], factors: Sequence[str]) -> Grouping:
    """Grouping factor of one column or of the combinations of several that occur.

    Parameters
    ----------
    columns : mapping of str to pandas.Series
    factors : sequence of str
        Columns; levels are ordered by the first, then the second, and so on.

    Raises
    ------
    DesignError
        Different levels that would have the same name.
    """
    codes, levels = factorize(columns[factors[0]])
    for name in factors[1:]:
        inner, inner_levels = factorize(columns[name])
        cell = codes * len(inner_levels) + inner
        occurring, codes = np.unique(cell, return_inverse=True)
        outer_part, inner_part = np.divmod(occurring, len(inner_levels))
        levels = [f"{levels[a]}:{inner_levels[b]}" for a, b in zip(outer_part, inner_part, strict=True)]
        codes = codes.astype(np.int64)
    name = ":".join(factors)
    _check_distinct(name, levels)
    return Grouping(name, codes, tuple(levels))


def _check_distinct(name: str, levels: Sequence[str]) -> None:
    if len(set(levels)) == len(levels):
        return
    twice = Counter(levels).most_common(1)[0][0]
    raise DesignError(
        f"Two different levels of {name} would both be called {twice!r}. Rename the levels so that their names differ "
        "(in a combination a:b the parts are joined by a colon)."
    )
