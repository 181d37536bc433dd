"""Whether the sizes of responses and columns leave room for their squares, which variances are made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayeslmm.errors import DesignError
from bayeslmm.numerics import direct
from bayeslmm.types import FloatArray

# Squares of numbers between these, and of coefficients of columns between these, are numbers with all their digits.
SMALLEST, LARGEST = 1e-140, 1e140
# A sum of squares between these is one of finite numbers of which the largest is well within these bounds.
_SURELY = 1e-200, 1e200


def surely_ordinary(columns: FloatArray) -> bool:
    """Whether every column (n, c) is finite and has squares; False where one sum of squares does not show it.

    Examples
    --------
    >>> surely_ordinary(np.array([[1.0, -2.0], [3.0, 0.0]])), surely_ordinary(np.array([[1.0, np.nan]]))
    (True, False)
    """
    return all(_SURELY[0] < direct.squares(column) < _SURELY[1] for column in columns.T)


def check_magnitudes(what: str, names: Sequence[str], columns: FloatArray) -> None:
    """Refuse columns whose largest entries have no squares.

    Parameters
    ----------
    what : str
        What a column is, for the message.
    names : sequence of str
    columns : FloatArray, shape (n, c)

    Raises
    ------
    DesignError

    Examples
    --------
    >>> check_magnitudes("The fixed-effects column", ["x"], np.array([[1e100], [0.0]]))
    >>> check_magnitudes("The fixed-effects column", ["x"], np.array([[3e200], [0.0]]))
    Traceback (most recent call last):
    ...
    bayeslmm.errors.DesignError: The fixed-effects column x reaches 3e+200. Variances are in squares of its unit, and \
squares of numbers beyond 1e+140 or all below 1e-140 are no numbers that a computer holds. Change the unit: divide it \
by 1e+200.
    """
    # Two rows show of most columns that they are not all small.
    some = np.abs(columns[[0, -1]]) if len(columns) else columns
    if some.size and some.max(axis=0).min() >= SMALLEST and columns.min() >= -LARGEST and columns.max() <= LARGEST:
        return
    largest = np.maximum(columns.max(axis=0, initial=0.0), -columns.min(axis=0, initial=0.0))
    bad = np.flatnonzero((largest > LARGEST) | ((largest < SMALLEST) & (largest > 0)))
    if bad.size:
        size, column = float(largest[bad[0]]), f"{what} {names[bad[0]]}".rstrip()
        raise DesignError(
            f"{column} reaches {size:.3g}. Variances are in squares of its unit, and squares of numbers "
            f"beyond {LARGEST:g} or all below {SMALLEST:g} are no numbers that a computer holds. Change the unit: "
            f"divide it by {10.0 ** np.floor(np.log10(size)):.3g}."
        )
