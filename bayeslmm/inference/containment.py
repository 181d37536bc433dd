"""Degrees of freedom by containment: a fixed effect is judged by the units within which it varies.

Grouping factors are nested, from the coarsest to the finest; rows are the last stratum. A column that varies within
groups of one level, but not within those of the next, belongs to the stratum of the latter. Its degrees of freedom are

    (groups of this level) - (groups of the level above) - (columns estimated in this stratum),

with one group above the coarsest where there is a constant. The constant itself has the largest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping, parents
from bayeslmm.types import BoolArray, FloatArray, IntArray

# A column varies within groups if it differs by more than this share of its range from its value in another row.
_VARIES = 1e-10


@dataclass(frozen=True)
class Containment:
    """Strata of the fixed effects and their degrees of freedom.

    Attributes
    ----------
    strata : tuple of str
        Grouping factors from the coarsest, and ``"Residual"``.
    stratum : IntArray, shape (p,)
        In which of them each column is estimated; -1 for a constant.
    counts : IntArray, shape (strata,)
        Groups of each level (rows for the last) less groups of the level above.
    """

    strata: tuple[str, ...]
    stratum: IntArray
    counts: IntArray

    def of_columns(self) -> FloatArray:
        """Degrees of freedom (p,) of the coefficients."""
        return self._df([np.array([k]) for k in range(self.stratum.size)])

    def of_terms(self, terms: Sequence[IntArray]) -> FloatArray:
        """Degrees of freedom of terms, given as places of their columns; together they have all columns.

        A term whose columns belong to several strata is estimated in the finest of them.
        """
        return self._df(terms)

    def _df(self, terms: Sequence[IntArray]) -> FloatArray:
        left, own = self.counts.astype(float), []
        for columns in terms:
            varying = self.stratum[columns]
            varying = varying[varying >= 0]
            own.append(int(varying.max()) if varying.size else -1)
            if varying.size:
                left[own[-1]] -= len(columns)
        if (self.stratum < 0).any():
            left[0] -= 1
        # A constant has as many as the finest comparison there is.
        return np.array([left.max() if k < 0 else left[k] for k in own])


def nested_order(groupings: Sequence[Grouping]) -> list[Grouping] | None:
    """Grouping factors from the coarsest to the finest, each nested in the one before; None if they are not."""
    ordered = sorted(groupings, key=lambda grouping: grouping.n_levels)
    return None if any(parents(fine, coarse) is None for coarse, fine in pairwise(ordered)) else ordered


def containment(design: Design, ordered: Sequence[Grouping]) -> Containment:
    """Strata of the columns of X.

    Parameters
    ----------
    design : Design
    ordered : sequence of Grouping
        As `nested_order` gives them.

    References
    ----------
    Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, Springer, pages 90-92.
    """
    X, n = design.X, design.n_observations
    if design.facts is None:
        constant = ~_varies(X, np.zeros(X.shape[0], dtype=np.int64), 1)
        varies = [_varies(X, grouping.codes, grouping.n_levels) for grouping in ordered]
    else:
        constant = design.facts.constant[design.facts.X]
        varies = [design.facts.varies[grouping.name][design.facts.X] for grouping in ordered]
    stratum = np.zeros(X.shape[1], dtype=np.int64)
    for level, within in enumerate(varies):
        stratum[within] = level + 1
    stratum[constant] = -1
    sizes = [grouping.n_levels for grouping in ordered]
    counts = np.array([*sizes, n]) - np.array([0, *sizes])
    return Containment((*(grouping.name for grouping in ordered), "Residual"), stratum, counts)


def _varies(X: FloatArray, codes: IntArray, levels: int) -> BoolArray:
    """Whether each column (p,) takes several values within some group."""
    first = np.zeros(levels, dtype=np.int64)
    first[codes[::-1]] = np.arange(codes.size)[::-1]
    return np.asarray(np.abs(X - X[first[codes]]).max(axis=0) > _VARIES * np.ptp(X, axis=0))
