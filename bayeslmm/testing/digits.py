"""How test statistics, degrees of freedom and p values are printed."""

from __future__ import annotations

import math

import pandas as pd

# Below this a p value says no more than that it is small.
_SMALLEST_P = 2.2e-16
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))


def p_text(p: float) -> str:
    """A p value: four digits, in powers of ten where small.

    Examples
    --------
    >>> p_text(0.0312345), p_text(3.2e-7), p_text(0.0), p_text(float("nan"))
    ('0.03123', '3.20e-07', '< 2.2e-16', '')
    """
    if math.isnan(p):
        return ""
    if p < _SMALLEST_P:
        return f"< {_SMALLEST_P:g}"
    return f"{p:.2e}" if p < 1e-4 else f"{p:.4g}"


def df_text(df: float) -> str:
    """Degrees of freedom: whole numbers as such, two places otherwise.

    Examples
    --------
    >>> df_text(45.00000001), df_text(17.3456), df_text(float("inf"))
    ('45', '17.35', 'inf')
    """
    if math.isnan(df):
        return ""
    if math.isinf(df):
        return "inf"
    return f"{df:.0f}" if abs(df - round(df)) < 1e-4 * max(1.0, abs(df)) * 1e-2 else f"{df:.2f}"


def figures(values: pd.Series, digits: int = 5) -> list[str]:
    """Numbers of one column with the same places after the point, at least so many significant digits in the largest.

    Examples
    --------
    >>> figures(pd.Series([20020.5, 526.0581, 321.75]))
    ['20020.5', '526.1', '321.8']
    """
    known = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not known:
        return ["" if math.isnan(v) else f"{v:g}" for v in values]
    largest, least = max(known), min(known)
    if largest >= 1e8 or largest < 1e-4:
        return ["" if math.isnan(v) else f"{v:.{digits - 1}g}" for v in values]
    after = max(0, digits - 1 - math.floor(math.log10(largest)), min(3, 3 - math.floor(math.log10(least))))
    return ["" if math.isnan(v) else f"{v:.{after}f}" for v in values]


def stars(p: float) -> str:
    """The marks that R prints behind p values."""
    return next((mark for limit, mark in STARS if p < limit), "")
