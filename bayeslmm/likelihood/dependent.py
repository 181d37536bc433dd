"""Groups of rows that depend on one another, those with the same columns and the same residual structure together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from bayeslmm.design.design import Design
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.types import FloatArray, IntArray

# Rows of a group whose covariance is inverted as it is.
MOST_ROWS = 100


@dataclass(frozen=True)
class DependentRows:
    """Groups of m rows that have equally many levels of every factor, by pattern.

    Attributes
    ----------
    rows : IntArray, shape (B, m)
        Rows of every group, those of one pattern in the same order.
    which : IntArray, shape (B,)
        Pattern of every group.
    one : IntArray, shape (U,)
        A group of each pattern.
    counts : FloatArray, shape (U,)
        Groups of each pattern.
    levels : tuple of IntArray, each (B, l)
        Of the factor of every term, the levels in every group in the order of its rows.
    """

    rows: IntArray
    which: IntArray
    one: IntArray
    counts: FloatArray
    levels: tuple[IntArray, ...]

    @property
    def first(self) -> IntArray:
        """Rows (U, m) of one group of each pattern."""
        return np.asarray(self.rows[self.one])


def dependent_rows(design: Design, largest: int = MOST_ROWS) -> tuple[DependentRows, ...] | None:
    """The groups of a design, those of one size and with equally many levels together; None if one is too large.

    Parameters
    ----------
    design : Design
    largest : int
        Rows of a group.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("distance ~ age + (1 | Subject)", bl.load_dataset("Orthodont"), residual="by(Sex)")
    >>> [(kind.rows.shape, sorted(kind.counts.tolist())) for kind in dependent_rows(model.design)]
    [((27, 4), [11.0, 16.0])]
    """
    memberships = _memberships(design)
    group = connected(memberships, design.n)
    sizes = np.bincount(group)
    if sizes.max(initial=0) > largest:
        return None
    described = _described(design)
    order = np.lexsort((*described.T[::-1], *memberships[::-1], group))
    starts = np.append(0, np.cumsum(sizes))[:-1]
    relative = [_relative(codes[order], group[order], starts) for codes in memberships]
    counts = np.stack([np.maximum.reduceat(own, starts) + 1 for own in (*relative, np.zeros(design.n, dtype=int))])
    kinds = np.unique(np.vstack([sizes, counts]), axis=1, return_inverse=True)[1].ravel()
    key = np.column_stack([described[order], *relative])
    out = []
    for kind in range(kinds.max(initial=-1) + 1):
        own = np.flatnonzero(kinds == kind)
        places = starts[own][:, None] + np.arange(sizes[own[0]])
        which, one, many = _patterns(key[places].reshape(own.size, -1))
        rows = order[places]
        levels = tuple(_levels(design.groupings[term.group].codes[rows]) for term in design.terms)
        out.append(DependentRows(rows, which, one, many, levels))
    return tuple(out)


def _memberships(design: Design) -> list[IntArray]:
    """Codes (n,) of whatever makes rows depend on one another."""
    found = [np.asarray(own.codes, dtype=np.int64) for own in design.groupings.values()]
    clusters = design.residual.clusters
    return found if clusters is None else [*found, np.asarray(clusters, dtype=np.int64)]


def connected(memberships: Sequence[IntArray], n: int) -> IntArray:
    """Number (n,) of the set of every row: rows are connected by the codes that they share, those below 0 by none.

    Examples
    --------
    >>> connected([np.array([0, 0, 1, -1]), np.array([0, 1, 1, 2])], 4)
    array([0, 0, 0, 1])
    """
    from scipy.sparse.csgraph import connected_components

    rows, nodes, next_node = [np.arange(0)], [np.arange(0)], n
    for codes in memberships:
        own = np.flatnonzero(codes >= 0)
        rows.append(own)
        nodes.append(next_node + codes[own])
        next_node += int(codes.max(initial=-1)) + 1
    places = (np.concatenate(rows), np.concatenate(nodes))
    graph = coo_array((np.ones(places[0].size), places), shape=(next_node, next_node))
    labels = connected_components(graph, directed=False)[1][:n]
    return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)


def _described(design: Design) -> FloatArray:
    """What makes the covariances of groups differ, row by row, positions first."""
    residual = design.residual
    columns = [residual.at] if isinstance(residual, CorrelatedRows) else []
    columns += [term.Z for term in design.terms]
    columns += [values[:, None] for values in residual.data().values()]
    columns += [] if design.frequency is None else [design.frequency[:, None].astype(float)]
    return np.column_stack([np.zeros((design.n, 0)), *columns]).astype(float) + 0.0


def _relative(codes: IntArray, group: IntArray, starts: IntArray) -> IntArray:
    """Number (n,) of every code among those of its group, in the order in which they come up there."""
    pair = np.unique(np.column_stack([group, codes]), axis=0, return_index=True, return_inverse=True)
    place, inverse = pair[1], pair[2].ravel()
    # Places are those of first rows: their ranks within a group are the numbers.
    rank = np.empty(place.size, dtype=np.int64)
    rank[np.argsort(place, kind="stable")] = np.arange(place.size)
    ranks = rank[inverse]
    return np.asarray(ranks - ranks[starts][group])


def _patterns(key: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Pattern (B,) of every row of a key, a row of each, and how many there are."""
    items = np.ascontiguousarray(key + 0.0)
    if not items.shape[1]:
        return np.zeros(len(items), dtype=np.int64), np.zeros(1, dtype=np.int64), np.array([float(len(items))])
    # Whole rows as one item each sort much faster than column by column.
    whole = items.view(np.dtype((np.void, items.dtype.itemsize * items.shape[1]))).ravel()
    _, one, which, counts = np.unique(whole, return_index=True, return_inverse=True, return_counts=True)
    return which.ravel(), one, counts.astype(float)


def _levels(codes: IntArray) -> IntArray:
    """Levels (B, l) in every group of rows (B, m), in the order in which they come up."""
    B, m = codes.shape
    first = (codes[:, :, None] != codes[:, None, :]) | (np.arange(m)[:, None] <= np.arange(m))
    new = first.all(axis=2)
    return np.asarray(codes[new].reshape(B, -1))
