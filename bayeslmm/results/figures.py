"""How estimates, test statistics, degrees of freedom and p values are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

# Below this a p value says no more than that it is small.
_SMALLEST_P = 2.2e-16
# Places after the point at most, and the largest number that is written without a power of ten.
_PLACES, _LARGEST = 8, 1e8
# Digits after the first beyond which an estimate is rounding.
_KNOWN = 11


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
    return f"{df:.0f}" if abs(df - round(df)) < 1e-6 * max(1.0, abs(df)) else f"{df:.2f}"


def figures(values: Sequence[float], digits: int = 5) -> list[str]:
    """Numbers of one column with the same places after the point, so many significant digits in the largest.

    Small ones get two digits more at most; where that leaves nothing of one, each is written by itself.

    Examples
    --------
    >>> figures([20020.5, 526.0581, 321.75]), figures([0.0, 612.1, 0.0712])
    (['20020.5', '526.1', '321.8'], ['0', '612.100', '0.071'])
    """
    known = [abs(v) for v in values if math.isfinite(v) and v != 0]
    if not known:
        return [_alone(v, digits) for v in values]
    largest, least = _exponent(max(known)), _exponent(min(known))
    after = max(0, digits - 1 - largest, min(3, 3 - least))
    if after > _PLACES or max(known) >= _LARGEST or least < -after + 1:
        return [_alone(v, digits - 1) for v in values]
    return [_rounded(v, after) if math.isfinite(v) and v != 0 else _alone(v, digits) for v in values]


def column_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers of a table as texts: tests by their names (``df``, ``p_value``), others with four digits or five.

    Examples
    --------
    >>> import pandas as pd
    >>> found = column_texts(pd.DataFrame({"df2": [45.0], "F": [37.68561], "p_value": [2.457711e-12], "note": [""]}))
    >>> found.iloc[0].tolist()
    ['45', '37.686', '2.46e-12', '']
    """
    out: dict[str, list[str]] = {}
    for name, values in frame.items():
        if name == "p_value":
            out[str(name)] = [p_text(v) for v in values]
        elif str(name).startswith("df"):
            out[str(name)] = [df_text(v) for v in values]
        elif values.dtype.kind == "f":
            out[str(name)] = figures(values.tolist(), 5 if values.abs().max() >= 1 else 4)
        else:
            out[str(name)] = [str(v) for v in values]
    return pd.DataFrame(out, index=frame.index, dtype=object).set_axis(frame.columns, axis=1)


def estimate_places(errors: Sequence[float], largest: float, digits: int) -> int | None:
    """Places after the point for estimates with standard errors; None where no common number of places will do.

    So many that the smallest error has that many significant digits.

    Examples
    --------
    >>> estimate_places([6.8246, 1.5458], 251.4, 4), estimate_places([1e-9, 5.0], 10.0, 4)
    (3, None)
    """
    known = [e for e in errors if math.isfinite(e) and e > 0]
    if not known or largest >= _LARGEST:
        return None
    after = max(0, digits - 1 - _exponent(min(known)))
    spread = _exponent(max(known)) - _exponent(min(known))
    return after if after <= _PLACES and spread <= digits else None


def to_places(value: float, places: int | None, digits: int = 5) -> str:
    """A number with so many places after the point, or by itself.

    Examples
    --------
    >>> to_places(251.4051, 3), to_places(1234567.8, None), to_places(float("nan"), 2)
    ('251.405', '1.2346e+06', '')
    """
    return _alone(value, digits) if places is None or not math.isfinite(value) else _rounded(value, places)


def _rounded(value: float, places: int) -> str:
    """So many places after the point, of the number without its errors of rounding: these decide no digit.

    Examples
    --------
    >>> _rounded(321.7499999999994, 1), _rounded(1764.05, 1), _rounded(0.0, 2)
    ('321.8', '1764.0', '0.00')
    """
    return f"{float(f'{value:.{_KNOWN}e}'):.{places}f}"


def _alone(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}g}"


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))
