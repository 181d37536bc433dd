"""Draws of residuals of new rows given those of the data, which every draw of the parameters leaves in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.bayes.dense_groups import diagonal_blocks
from bayeslmm.bayes.layout import GroupLayout, group_columns, make_layout
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood.row_system import by_size
from bayeslmm.residual import each_point
from bayeslmm.residual.known_rows import KnownRows
from bayeslmm.types import AnyArray, FloatArray, IntArray


@dataclass(frozen=True)
class ResidualsGiven:
    """New residuals at S draws.

    Attributes
    ----------
    mean : FloatArray, shape (S, k)
        Given the residuals of the data, units of y.
    about : FloatArray, shape (S, k)
        What the residuals are about that, from standard normal numbers; units of y.
    """

    mean: FloatArray
    about: FloatArray


def residuals_given(
    design: Design, posterior: Mapping[str, AnyArray], draws: VarianceDraws, rows: Rows, z: FloatArray | None
) -> ResidualsGiven:
    """New residuals given those of the rows of the data in the same groups.

    Parameters
    ----------
    design : Design
        Its residuals are correlated.
    posterior : mapping of str to array
        With all random effects, leading dims chain and draw.
    draws : VarianceDraws
    rows : Rows
        With their residuals.
    z : FloatArray or None, shape (S, k)
        Independent standard normal numbers; None where only means are wanted.
    """
    old, known = _beside(design, rows)
    e = _left(design, posterior, draws, old)
    mean, about = np.empty((draws.sigma.size, rows.n)), np.zeros((draws.sigma.size, rows.n))
    codes: IntArray = np.asarray(rows.observed.clusters)
    order = np.argsort(codes, kind="stable")
    sets = [order[members] for members in by_size(codes[order])]
    for lam, own in each_point(draws.lam):
        given = known.at(lam)
        mean[own] = (given.weights @ e[own].T).T
        if z is not None:
            about[own] = draws.sigma[own, None] * _coloured(given.covariance, sets, z[own])
    return ResidualsGiven(mean, about)


def _beside(design: Design, rows: Rows) -> tuple[IntArray, KnownRows]:
    """The rows of the data in the groups of new rows, and both together."""
    clusters, asked = design.residual.clusters, rows.clusters
    if clusters is None or asked is None:
        raise DesignError("Residuals are independent, so that those of the data say nothing of those of other rows.")
    old = np.flatnonzero(np.isin(clusters, asked))
    # Those that the data do not have come behind the others, as their numbers are larger.
    numbers = np.unique(asked)
    own = np.unique(clusters[old])
    place = np.empty(numbers.size, dtype=np.int64)
    there = np.isin(numbers, own)
    place[there], place[~there] = np.arange(own.size), own.size + np.arange(np.count_nonzero(~there))
    return old, KnownRows(design.residual.part(old), rows.observed, place[np.searchsorted(numbers, asked)])


def _left(design: Design, posterior: Mapping[str, AnyArray], draws: VarianceDraws, rows: IntArray) -> FloatArray:
    """Residuals (S, r) of some rows of the data at the draws."""
    e = design.y_less_offset[rows] - draws.beta @ design.X[rows].T
    for group in make_layout(design).groups:
        b, Z = flat_effects(posterior, group), group_columns(design, group)[rows]
        codes = design.groupings[group.labels.group].codes[rows]
        for k in range(Z.shape[1]):
            e -= Z[:, k] * b[:, codes, k]
    return np.asarray(e)


def flat_effects(posterior: Mapping[str, AnyArray], group: GroupLayout) -> FloatArray:
    """Draws (S, J, c) of the random effects of a factor.

    Raises
    ------
    FitError
        They were not kept.
    """
    if group.b not in posterior:
        raise FitError(
            f"The draws of {group.b} were not kept, so levels of {group.labels.group} that are known cannot be "
            "predicted. Sample again and keep them, or predict with random=None or random='new'."
        )
    b = np.asarray(posterior[group.b])
    return b.reshape(-1, *b.shape[2:])


def _coloured(covariance: sparse.csr_array, sets: Sequence[IntArray], z: FloatArray) -> FloatArray:
    """Normal numbers (S, k) of a covariance whose blocks are those of the groups, singular ones included."""
    out = np.empty(z.shape)
    for rows in sets:
        values, vectors = np.linalg.eigh(diagonal_blocks(covariance, rows))
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        out[:, rows] = (root @ z[:, rows][..., None])[..., 0]
    return out
