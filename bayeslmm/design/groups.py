"""Code grouping factors over the cells that occur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.design import Grouping
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
        return position[raw], [level_name(series.cat.categories[int(i)]) for i in present]
    try:
        codes, levels = pd.factorize(series, sort=True)
    except TypeError:
        codes, levels = pd.factorize(series.astype(str), sort=True)
    return codes.astype(np.int64), [level_name(level) for level in levels]


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
    """
    codes, levels = factorize(columns[factors[0]])
    for name in factors[1:]:
        inner, inner_levels = factorize(columns[name])
        cell = codes * len(inner_levels) + inner
        occurring, codes = np.unique(cell, return_inverse=True)
        outer_part, inner_part = np.divmod(occurring, len(inner_levels))
        levels = [f"{levels[a]}:{inner_levels[b]}" for a, b in zip(outer_part, inner_part, strict=True)]
        codes = codes.astype(np.int64)
    return Grouping(":".join(factors), codes, tuple(levels))
