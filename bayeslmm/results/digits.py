"""How many digits of a number are shown: as many as its Monte Carlo error leaves, no zero that draws cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.screen import cell_text, number

# The last digit shown is worth at least this share of the Monte Carlo standard error.
_SHARE = 0.5
# Significant digits: of a number without Monte Carlo error, and of one whose error is not known.
_MOST, _FEW = 5, 2
# Beyond these powers of ten numbers are written with an exponent.
_SMALLEST, _LARGEST = -4, 5
# Upper 95 % limit of a share of which nothing was seen among n: three over n.
_UNSEEN = 3.0


def to_error(value: float, error: float) -> str:
    """A number as far as its Monte Carlo standard error lets it be known.

    Parameters
    ----------
    value : float
    error : float
        Standard error; 0 where there is none, nan where it is not known.

    Returns
    -------
    str
        Rounded to the smallest power of ten that is at least half the standard error; five significant digits at most.

    Examples
    --------
    >>> to_error(16.1873, 0.09), to_error(16.1873, 0.0), to_error(1234.56, 30.0), to_error(0.0031, 0.02)
    ('16.2', '16.187', '1200', '0.00')
    >>> to_error(3.14159e-9, 2e-11), to_error(float("inf"), 0.1), to_error(float("nan"), 0.1)
    ('3.14e-09', 'inf', '')
    """
    if value != value:
        return ""
    if value == 0 or not np.isfinite(value) or error == 0:
        return number(value)
    if not np.isfinite(error):
        return f"{value:.{_FEW}g}"
    place = _place(error)
    own = _exponent(value)
    if place <= own - _MOST + 1:
        return number(value)
    if place > own + 1:
        return _zero(place)
    rounded = f"{value:.{own - place}e}" if place <= own else f"{round(value / 10.0**place):d}e{place}"
    return _written(float(rounded), place)


def _place(error: float) -> int:
    """Power of ten of the last digit."""
    return int(np.ceil(np.log10(_SHARE * error) - 1e-9))


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])


def _zero(place: int) -> str:
    return f"{0.0:.{-place}f}" if _SMALLEST <= place < 0 else "0"


def _written(value: float, place: int) -> str:
    if value == 0:
        return _zero(place)
    own = _exponent(value)
    if _SMALLEST <= own < _LARGEST:
        return f"{value:.{max(-place, 0)}f}"
    return f"{value:.{max(own - place, 0)}e}"


def probability(share: float, size: float) -> str:
    """A probability from draws; where none of them, or all, agree only what can be said.

    Parameters
    ----------
    share : float
    size : float
        Independent draws that it is from.

    Examples
    --------
    >>> probability(0.0, 4000), probability(1.0, 400), probability(0.61667, 280), probability(0.00025, 4000)
    ('< 0.001', '> 0.99', '0.6', '< 0.001')
    """
    if share != share:
        return ""
    least = _step(_UNSEEN / size)
    if min(share, 1.0 - share) * size < 1.0 - 1e-9:
        return f"< {least:g}" if share < 0.5 else f"> {1.0 - least:g}"
    error = float(np.sqrt(share * (1.0 - share) / size))
    text = to_error(share, error)
    if float(text) in (0.0, 1.0):
        return f"< {10.0 ** _place(error):g}" if share < 0.5 else f"> {1.0 - 10.0 ** _place(error):g}"
    return text


def _step(value: float) -> float:
    """The next number of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= value * (1 - 1e-9)))


def in_digits(
    frame: pd.DataFrame, errors: pd.DataFrame | None = None, shares: Mapping[str, Sequence[float]] | None = None
) -> pd.DataFrame:
    """A table as text, every number as far as it is known.

    Parameters
    ----------
    frame : DataFrame
    errors : DataFrame, optional
        Monte Carlo standard errors of some of its columns, rows in the same order; the other columns have none.
    shares : mapping of str to sequence of float, optional
        Columns that are probabilities from draws, and the number of independent draws of every row.
    """
    out = {}
    for name in frame.columns:
        values = frame[name].tolist()
        if shares and name in shares:
            out[name] = [probability(float(p), size) for p, size in zip(values, shares[name], strict=True)]
        elif errors is not None and name in errors:
            pairs = zip(values, errors[name].to_numpy(dtype=float), strict=True)
            out[name] = [to_error(float(value), error) for value, error in pairs]
        else:
            out[name] = [cell_text(value) for value in values]
    return pd.DataFrame(out, index=frame.index, columns=frame.columns, dtype=object)
