"""Contrasts that formulae does not ship, with R's definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from formulae.categorical import CategoricalBox, ContrastMatrix, Encoding

from bayeslmm.errors import DesignError
from bayeslmm.types import FloatArray

_POLYNOMIAL = (".L", ".Q", ".C")


class MatrixEncoding(Encoding):  # type: ignore[misc]
    """Coding by a given matrix; the indicator columns where the term spans the intercept, as R does.

    Parameters
    ----------
    kind : str or array of shape (levels, k)
        ``"treatment"``, ``"sum"``, ``"helmert"``, ``"poly"`` or the matrix itself.
    """

    def __init__(self, kind: str | FloatArray) -> None:
        self.kind = kind

    def code_with_intercept(self, levels: Sequence[Any]) -> ContrastMatrix:
        """Indicator columns."""
        return ContrastMatrix(np.eye(len(levels)), [str(level) for level in levels])

    def code_without_intercept(self, levels: Sequence[Any]) -> ContrastMatrix:
        """The contrasts."""
        matrix = contrast_matrix(self.kind, len(levels))
        return ContrastMatrix(matrix, self._labels(levels, matrix.shape[1]))

    def _labels(self, levels: Sequence[Any], k: int) -> list[str]:
        if isinstance(self.kind, str) and self.kind == "treatment":
            return [str(level) for level in levels[1:]]
        if isinstance(self.kind, str) and self.kind == "poly":
            return [_POLYNOMIAL[j] if j < 3 else f"^{j + 1}" for j in range(k)]
        return [str(j + 1) for j in range(k)]


def contrast_matrix(kind: str | FloatArray, levels: int, name: str = "a factor") -> FloatArray:
    """R's contr.treatment, contr.sum, contr.helmert, contr.poly, or a user's matrix.

    Parameters
    ----------
    kind : str or array of shape (levels, k)
    levels : int
    name : str
        What the contrasts are for, named in messages.

    Raises
    ------
    DesignError
        Unknown name, wrong number of rows.

    Examples
    --------
    >>> contrast_matrix("sum", 3).astype(int).tolist()
    [[1, 0], [0, 1], [-1, -1]]
    """
    if not isinstance(kind, str):
        matrix = np.asarray(kind, dtype=float)
        if matrix.ndim != 2 or matrix.shape[0] != levels:
            raise DesignError(
                f"The contrast matrix for {name} has shape {matrix.shape}, but there are {levels} levels. It needs one "
                "row per level and one column per contrast."
            )
        return matrix
    if kind == "treatment":
        return np.eye(levels)[:, 1:]
    if kind == "sum":
        return np.vstack([np.eye(levels - 1), -np.ones(levels - 1)])
    if kind == "helmert":
        lower = -np.triu(np.ones((levels, levels - 1)))
        lower[np.arange(1, levels), np.arange(levels - 1)] = np.arange(1, levels)
        return lower
    if kind == "poly":
        scores = np.arange(levels) - (levels - 1) / 2.0
        Q, R = np.linalg.qr(np.vander(scores, increasing=True))
        return np.asarray((Q * np.sign(np.diagonal(R)))[:, 1:])
    raise DesignError(
        f"Unknown contrasts {kind!r} for {name}. Known: 'treatment', 'sum', 'helmert', 'poly', or a matrix."
    )


def ordered(x: Any) -> CategoricalBox:
    """Ordered factor in a formula: polynomial contrasts over the levels."""
    return CategoricalBox(x, MatrixEncoding("poly"), _levels(x))


def factor(x: Any) -> CategoricalBox:
    """Unordered factor in a formula: treatment contrasts over the levels."""
    return CategoricalBox(x, MatrixEncoding("treatment"), _levels(x))


def _levels(x: Any) -> list[Any]:
    if isinstance(getattr(x, "dtype", None), pd.CategoricalDtype):
        return list(x.dtype.categories)
    return sorted(set(np.asarray(x).tolist()))


def scale(x: Any, center: bool = True, scale: bool = True) -> Any:
    """R's scale(): minus the mean, divided by the standard deviation with n - 1."""
    centred = x - np.mean(x) if center else x
    length = np.sqrt(np.sum(np.square(centred)) / (len(x) - 1))
    return centred / length if scale else centred
