"""Find the columns of X that the ones before them span."""

from __future__ import annotations

import numpy as np

from bayeslmm.types import FloatArray, IntArray

# A column is dependent if less than this share of its length about its mean is left outside the earlier ones,
# or less than this share of its length about zero, which is rounding.
_DEPENDENT = 1e-7
_ROUNDING = 1e-13
_GRAM_CLEAR = 1e-6


def independent_columns(X: FloatArray) -> IntArray:
    """Positions of the columns to keep, in order; later columns give way to earlier ones, as in R's lm.

    Parameters
    ----------
    X : FloatArray, shape (n, p)

    Examples
    --------
    >>> x = np.arange(5.0)
    >>> independent_columns(np.column_stack([np.ones(5), x, 2 * x, x**2])).tolist()
    [0, 1, 3]
    """
    p = X.shape[1]
    scaled = _centre_and_scale(X)
    usable = (scaled**2).sum(0) > 0
    gram = scaled.T @ scaled
    if usable.all() and p and np.linalg.eigvalsh(gram)[0] > _GRAM_CLEAR:
        return np.arange(p)
    keep: list[int] = []
    basis = np.empty((X.shape[0], 0))
    spread = np.linalg.norm(scaled - scaled.mean(axis=0), axis=0)
    for j in np.flatnonzero(usable):
        rest = scaled[:, j]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        length = float(np.linalg.norm(rest))
        if length > max(_DEPENDENT * spread[j], _ROUNDING):
            keep.append(int(j))
            basis = np.column_stack([basis, rest / length])
    return np.array(keep, dtype=np.int64)


def _centre_and_scale(X: FloatArray) -> FloatArray:
    constant = (X[0] == X).all(axis=0)
    centred = X.copy()
    if constant[:1].any():
        centred[:, ~constant] -= X[:, ~constant].mean(axis=0)
    length = np.sqrt((centred**2).sum(0))
    return centred / np.where(length > 0, length, 1.0)
