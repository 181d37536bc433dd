"""Contrasts with R's definitions: treatment, sum, helmert, poly, diff, and matrices of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.design.groups import level_name
from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

_POLYNOMIAL = (".L", ".Q", ".C")
NAMED = ("treatment", "sum", "helmert", "poly", "diff")
_KNOWN = "'treatment' (with a reference: bl.Treatment(level)), 'sum', 'helmert', 'poly', 'diff', or a matrix"


@dataclass(frozen=True)
class Treatment:
    """Treatment contrasts with a chosen reference level, for ``contrasts={"f": Treatment("b")}``.

    Each coefficient is the difference between one level and the reference. ``("treatment", "b")`` says the same.

    Parameters
    ----------
    reference : object, optional
        A level; the first one if None.

    Examples
    --------
    >>> contrast_matrix(Treatment("b"), ["a", "b", "c"]).astype(int).tolist()
    [[1, 0], [0, 0], [0, 1]]
    """

    reference: Any = None


type Contrasts = str | tuple[str, Any] | Treatment | FloatArray | pd.DataFrame


def contrast_matrix(kind: Contrasts, levels: int | Sequence[Any], name: str = "a factor") -> FloatArray:
    """R's contr.treatment, contr.sum, contr.helmert, contr.poly, MASS's contr.sdif, or a user's matrix.

    Parameters
    ----------
    kind : str, tuple, Treatment, array or DataFrame of shape (levels, k)
        ``"diff"`` compares every level with the one before it. Rows of a DataFrame whose index names the levels are
        put in their order, and its columns name the coefficients.
    levels : int or sequence
        The levels in their order, or how many there are.
    name : str
        What the contrasts are for, named in messages.

    Returns
    -------
    FloatArray, shape (levels, k)

    Raises
    ------
    DesignError
        Unknown name or reference level, a matrix with another number of rows or with missing values.

    Examples
    --------
    >>> contrast_matrix("sum", 3).astype(int).tolist()
    [[1, 0], [0, 1], [-1, -1]]
    """
    names = list(range(levels)) if isinstance(levels, int) else list(levels)
    n = len(names)
    if isinstance(kind, pd.DataFrame | np.ndarray | list):
        return _own_matrix(kind, names, name)
    if isinstance(kind, Treatment | tuple):
        return np.delete(np.eye(n), _reference(kind, names, name), axis=1)
    if kind == "treatment":
        return np.eye(n)[:, 1:]
    if kind == "sum":
        return np.vstack([np.eye(n - 1), -np.ones(n - 1)])
    if kind == "helmert":
        lower = -np.triu(np.ones((n, n - 1)))
        lower[np.arange(1, n), np.arange(n - 1)] = np.arange(1, n)
        return lower
    if kind == "poly":
        return _orthonormal_polynomials(n)
    if kind == "diff":
        steps = np.arange(1, n)
        return np.where(np.arange(n)[:, None] < steps, steps - n, steps) / n
    raise DesignError(f"Unknown contrasts {kind!r} for {name}. Known: {_KNOWN}.")


def _orthonormal_polynomials(n: int) -> FloatArray:
    """Polynomials of degree 1 to n - 1 on equally spaced points; each is made from the one before it.

    Powers of the scores would lose all digits from about twenty levels on.
    """
    scores = np.linspace(-1.0, 1.0, n)
    Q = np.full((n, n), 1.0 / np.sqrt(n))
    for degree in range(1, n):
        column = scores * Q[:, degree - 1]
        for _ in range(2):
            column = column - Q[:, :degree] @ (Q[:, :degree].T @ column)
        Q[:, degree] = column / np.linalg.norm(column)
    return Q[:, 1:]


def contrast_names(kind: Contrasts, levels: Sequence[Any]) -> list[str]:
    """What the columns of :func:`contrast_matrix` are called, as in R.

    Examples
    --------
    >>> contrast_names("diff", ["lo", "mid", "hi"]), contrast_names(Treatment("mid"), ["lo", "mid", "hi"])
    (['mid-lo', 'hi-mid'], ['lo', 'hi'])
    """
    names = [level_name(level) for level in levels]
    if isinstance(kind, pd.DataFrame):
        return [str(column) for column in kind.columns]
    if isinstance(kind, Treatment | tuple):
        del names[_reference(kind, levels, "a factor")]
        return names
    if isinstance(kind, str):
        if kind == "treatment":
            return names[1:]
        if kind == "diff":
            return [f"{later}-{earlier}" for earlier, later in pairwise(names)]
        if kind == "poly":
            return [_POLYNOMIAL[j] if j < 3 else f"^{j + 1}" for j in range(len(names) - 1)]
        return [str(j + 1) for j in range(len(names) - 1)]
    return [str(j + 1) for j in range(np.asarray(kind).shape[1])]


def _reference(kind: Treatment | tuple[str, Any], levels: Sequence[Any], name: str) -> int:
    """Position of the reference level."""
    if isinstance(kind, tuple):
        if len(kind) != 2 or kind[0] != "treatment":
            raise DesignError(f"Unknown contrasts {kind!r} for {name}. Known: {_KNOWN}.")
        kind = Treatment(kind[1])
    if kind.reference is None:
        return 0
    wanted = level_name(kind.reference)
    names = [level_name(level) for level in levels]
    if wanted not in names:
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise DesignError(
            f"The reference level {wanted!r} of {name} does not occur, so there is nothing to compare with. "
            f"Choose one of: {shown}."
        )
    return names.index(wanted)


def _own_matrix(kind: Any, levels: Sequence[Any], name: str) -> FloatArray:
    """A user's matrix in the order of the levels."""
    if isinstance(kind, pd.DataFrame) and not isinstance(kind.index, pd.RangeIndex):
        rows = [level_name(label) for label in kind.index]
        wanted = [level_name(level) for level in levels]
        if sorted(rows) != sorted(wanted):
            raise DesignError(
                f"The rows of the contrast matrix for {name} are called {', '.join(rows)}, but the levels are "
                f"{', '.join(wanted)}. Name every level once."
            )
        kind = kind.iloc[[rows.index(level) for level in wanted]]
    try:
        matrix = np.asarray(kind, dtype=float)
    except (TypeError, ValueError) as error:
        raise DesignError(f"The contrast matrix for {name} does not hold numbers: {error}.") from error
    if matrix.ndim != 2 or matrix.shape[0] != len(levels):
        raise DesignError(
            f"The contrast matrix for {name} has shape {matrix.shape}, but there are {len(levels)} levels. It needs "
            "one row per level and one column per contrast."
        )
    if not np.isfinite(matrix).all():
        raise DesignError(f"The contrast matrix for {name} holds missing or infinite values. Fill in all of them.")
    return matrix
