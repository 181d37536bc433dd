"""Covariance structures of one random-effects term: which entries of its factor T are free.

The covariance of the c effects of a term is ``sigma^2 T T'`` with T lower triangular (c, c). A structure says
which entries of T are free parameters (theta) and names them; a new structure is one class here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from bayeslmm.types import FloatArray, IntArray


class CovarianceStructure(Protocol):
    """The contract of a covariance structure.

    Attributes
    ----------
    size : int
        c, the number of effects.
    keyword : str
        Name used in formulas and printouts, e.g. ``"us"``.
    rows, cols : IntArray, shape (k,)
        Position of each free parameter in T, in the order of theta (column by column, as lme4's).
    basis_free : bool
        Whether the set of covariances is closed under every change of basis ``Z -> Z C``; if not, only
        a rescaling of columns leaves the model unchanged.
    """

    @property
    def size(self) -> int: ...
    @property
    def keyword(self) -> str: ...
    @property
    def rows(self) -> IntArray: ...
    @property
    def cols(self) -> IntArray: ...
    @property
    def basis_free(self) -> bool: ...


@dataclass(frozen=True)
class Unstructured:
    """Every variance and covariance free: ``(f | g)``. c (c + 1) / 2 parameters.

    Examples
    --------
    >>> Unstructured(2).rows, Unstructured(2).cols
    (array([0, 1, 1]), array([0, 0, 1]))
    """

    size: int
    keyword: str = "us"
    basis_free: bool = True

    @cached_property
    def rows(self) -> IntArray:
        return np.concatenate([np.arange(j, self.size) for j in range(self.size)])

    @cached_property
    def cols(self) -> IntArray:
        return np.concatenate([np.full(self.size - j, j) for j in range(self.size)])


@dataclass(frozen=True)
class Diagonal:
    """Independent effects with a variance each: ``(f || g)``. c parameters."""

    size: int
    keyword: str = "diag"
    basis_free: bool = False

    @cached_property
    def rows(self) -> IntArray:
        return np.arange(self.size)

    @cached_property
    def cols(self) -> IntArray:
        return np.arange(self.size)


def factor_from_theta(structure: CovarianceStructure, theta: FloatArray) -> FloatArray:
    """Fill the lower-triangular factor T from its free entries.

    Parameters
    ----------
    structure : CovarianceStructure
        Which entries are free.
    theta : FloatArray, shape (..., k)
        Relative scale (standard deviations divided by sigma).

    Returns
    -------
    FloatArray, shape (..., c, c)
    """
    theta = np.asarray(theta, dtype=float)
    factor = np.zeros((*theta.shape[:-1], structure.size, structure.size))
    factor[..., structure.rows, structure.cols] = theta
    return factor
