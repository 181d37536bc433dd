"""Coordinates of columns from their triangular factor: the same centring, scaling and rotation as of rows in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.rank import STORED, not_spanned
from bayeslmm.likelihood.columns import DEPENDENT, GRAM_GOOD, GRAM_OK, SPANS_ONE, Basis, Response
from bayeslmm.numerics import direct
from bayeslmm.streaming.triangle import Triangle, upper
from bayeslmm.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class ColumnCoordinates:
    """Columns less their centres, times a matrix.

    Attributes
    ----------
    centre : FloatArray, shape (c,)
    matrix : FloatArray, shape (c, c)
    basis : Basis
        The change of basis, without rows.
    """

    centre: FloatArray
    matrix: FloatArray
    basis: Basis

    def apply(self, columns: FloatArray) -> FloatArray:
        """Columns (n, c) of some rows in these coordinates."""
        diagonal = np.diagonal(self.matrix)
        if np.count_nonzero(self.matrix) == np.count_nonzero(diagonal):
            return np.asarray((columns - self.centre) * diagonal)
        return np.asarray((columns - self.centre) @ self.matrix)


def _vectors(triangle: Triangle, places: Sequence[int]) -> FloatArray:
    """Vectors with the lengths and angles of columns, (k + 1, c)."""
    T, shift = triangle.measure, triangle.shift[list(places)]
    V = T[:, [1 + place for place in places]].copy()
    V[0] += shift * T[0, 0]
    return V


def constants(triangle: Triangle, places: Sequence[int]) -> BoolArray:
    """Which columns (c,) have one value that is not zero."""
    at = list(places)
    return np.asarray((triangle.low[at] == triangle.high[at]) & (triangle.low[at] != 0))


def _centred(
    triangle: Triangle, places: Sequence[int]
) -> tuple[FloatArray, FloatArray, FloatArray, tuple[int, float] | None]:
    """Vectors of columns about their means beside a constant one, their centres, the change of basis, the constant."""
    V, c = _vectors(triangle, places), len(places)
    centre, shift = np.zeros(c), np.eye(c)
    found = np.flatnonzero(constants(triangle, places))
    if not found.size:
        return V, centre, shift, None
    constant, T = int(found[0]), triangle.measure
    value = float(triangle.low[places[constant]])
    for k in range(c):
        if k != constant:
            centre[k] = triangle.shift[places[k]] + T[0, 1 + places[k]] / T[0, 0]
            V[0, k] = 0.0
            shift[constant, k] = -centre[k] / value
    return V, centre, shift, (constant, value)


def _sizes(V: FloatArray, n: int) -> FloatArray:
    largest = np.abs(V).max(axis=0, initial=0.0)
    unit = np.ldexp(1.0, np.frexp(largest)[1])
    size = unit * np.sqrt(((V / unit) ** 2).sum(axis=0) / n)
    return np.where(size > 0, size, 1.0)


def rescaled(triangle: Triangle, places: Sequence[int]) -> ColumnCoordinates:
    """Columns over their root mean squares."""
    scale = _sizes(_vectors(triangle, places), triangle.observations)
    matrix = np.diag(1.0 / scale)
    return ColumnCoordinates(np.zeros(len(places)), matrix, Basis(np.empty((0, len(places))), matrix))


def orthogonalised(triangle: Triangle, places: Sequence[int], rotate: bool = True) -> ColumnCoordinates:
    """Columns centred, scaled and made orthogonal, as `likelihood.columns.orthogonalise` does with rows.

    Parameters
    ----------
    triangle : Triangle
    places : sequence of int
        Columns of the triangle.
    rotate : bool
        Whether they are to be orthogonal even if they are well conditioned as they are.
    """
    c, n = len(places), triangle.observations
    none = np.empty((0, c))
    if c == 0:
        return ColumnCoordinates(np.zeros(0), np.eye(0), Basis(none, np.eye(0), good=True))
    V, centre, shift, constant = _centred(triangle, places)
    scale = _sizes(V, n)
    V = V / scale
    matrix = np.diag(1.0 / scale)
    gram = V.T @ V / n
    smallest = float(gram[0, 0] if c == 1 else direct.eigenvalues(gram)[0])
    if smallest < GRAM_GOOD or (rotate and c > 1):
        R = np.asarray(np.linalg.cholesky(gram).T) if smallest > GRAM_OK else upper(V / np.sqrt(n))
        diagonal = np.diagonal(R)
        if smallest <= GRAM_OK and diagonal.min() < DEPENDENT * max(diagonal.max(), 1e-300):
            return rescaled(triangle, places)
        matrix = matrix @ direct.triangular_inverse(R)
    return ColumnCoordinates(centre, matrix, Basis(none, shift @ matrix, constant, smallest > GRAM_GOOD or rotate))


def independent(triangle: Triangle, p: int) -> IntArray:
    """Positions of those of the first p columns that no earlier ones span, by the rules of `design.rank`."""
    if not p:
        return np.arange(0)
    T, n = triangle.plain, triangle.n
    shift, same = triangle.shift[:p], triangle.constant[:p]
    V = T[:, 1 : p + 1].copy()
    first = bool(same[0])
    V[0] += shift * T[0, 0]
    if first:
        V[0, ~same] = 0.0
    largest = np.maximum(np.abs(triangle.low[:p]), np.abs(triangle.high[:p]))
    length = np.linalg.norm(V / np.where(largest > 0, largest, 1.0), axis=0) * largest
    length = np.where(length > 0, length, 1.0)
    stored = STORED * np.spacing(largest) * np.sqrt(n) / length
    scaled = V / length
    spread = np.linalg.norm(scaled[1:], axis=0)
    return not_spanned(scaled, spread, stored)


def fitted(triangle: Triangle, fixed: ColumnCoordinates, places: Sequence[int], level: float, drift: float) -> Response:
    """What least squares on the fixed effects takes out of the response, whose place is the last one.

    Parameters
    ----------
    triangle : Triangle
    fixed : ColumnCoordinates
        Of the columns of X.
    places : sequence of int
        Where these are in the triangle.
    level, drift : float
        What the response was shifted by in the triangle.
    """
    T = triangle.measure
    p, total = len(places), float(T[0, 0] ** 2)
    y = T[:, -1].copy()
    V = _vectors(triangle, places)
    V[0] -= T[0, 0] * fixed.centre
    C = V @ fixed.matrix
    none = np.empty(0)
    one = fixed.basis.one if p else None
    if one is None and p:
        ones = np.zeros(T.shape[0])
        ones[0] = T[0, 0]
        one = np.linalg.lstsq(C, ones)[0]
        one = one if np.linalg.norm(C @ one - ones) < SPANS_ONE * T[0, 0] else None
    if one is None:
        # Nothing may be taken out beforehand that X does not span.
        y[0] += T[0, 0] * (level + drift)
        level = drift = 0.0
    else:
        moved = float(y[0] / T[0, 0])
        drift, y[0] = drift + moved, 0.0
    coef = np.linalg.lstsq(C, y)[0] if p else np.zeros(0)
    spread = float(np.linalg.norm(y - C @ coef) / np.sqrt(total))
    return Response(none, coef, level + drift, np.zeros(p) if one is None else one, spread)
