"""Implicit nesting: labels that start again in every level of another factor, and are read as crossed with it.

A balanced crossed design and one in which casks are called a, b, c in every batch have the same table of labels. What
tells them apart is either the table, where numbers of casks differ and every batch has the first few, or the response:
casks of one label have nothing in common, so that the labels explain no more than chance, while the cells differ.
Neither is asked where labels do not count (1, 2, 3; a, b, c; B1, B2), or where no cell has two rows: the nested reading
would be no model there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bayeslmm.types import FloatArray, IntArray

# Share of the cells of a crossed table that occur at least.
_FULL = 0.8
MOST_LEVELS = 300
# The cells differ (probability of chance below), and the labels alone explain nothing (above).
_CELLS, _LABELS = 0.001, 0.05
# Share of the variance within outer levels that is between cells, at least.
_SHARE = 0.05
# So clear an effect of the labels speaks for crossed factors, whatever the table looks like.
_CROSSED = 0.01
_ROMAN = re.compile(r"[IVX]+")


@dataclass(frozen=True)
class ImplicitTable:
    """Two factors, outer and inner, on the same rows.

    Attributes
    ----------
    outer, inner : IntArray, shape (n,)
        Codes.
    labels : tuple of str
        Levels of the inner factor.
    counts : IntArray, shape (a, b)
        Rows in every cell.
    """

    outer: IntArray
    inner: IntArray
    labels: tuple[str, ...]
    counts: IntArray

    @property
    def repeats(self) -> bool:
        """Whether cells have several rows, so that effects of cells could be told from residuals."""
        return int(self.counts.sum()) > int(np.count_nonzero(self.counts))

    @property
    def full(self) -> bool:
        return bool(np.count_nonzero(self.counts) >= _FULL * self.counts.size)


def table_of(outer: IntArray, inner: IntArray, labels: Sequence[str]) -> ImplicitTable | None:
    """Cells of two factors; None if either is too large to be looked at, has one level, or nests the other."""
    a, b = int(outer.max(initial=-1)) + 1, len(labels)
    if not (1 < a <= MOST_LEVELS and 1 < b <= MOST_LEVELS):
        return None
    counts = np.bincount(outer * b + inner, minlength=a * b).reshape(a, b)
    cells = int(np.count_nonzero(counts))
    if cells in (a, b):
        return None
    return ImplicitTable(outer, inner, tuple(labels), counts)


def could_be_nested(table: ImplicitTable) -> bool:
    """Whether the table of labels alone leaves both readings open."""
    return table.repeats and _count_order(table.labels) is not None and (table.full or _counts_up(table))


def likely_nested(table: ImplicitTable, y: FloatArray) -> bool:
    """Whether the labels start again in every level of the outer factor, by the table or by the response.

    Parameters
    ----------
    table : Table
    y : FloatArray, shape (n,)
        Response without what the fixed effects explain.

    Examples
    --------
    >>> outer, inner = np.repeat(np.arange(6), 8), np.tile(np.repeat(np.arange(4), 2), 6)
    >>> rng = np.random.default_rng(1)
    >>> cells = rng.normal(size=(6, 4))[outer, inner] + 0.1 * rng.normal(size=48)
    >>> crossed = np.arange(4.0)[inner] + cells
    >>> table = table_of(outer, inner, ["a", "b", "c", "d"])
    >>> likely_nested(table, cells), likely_nested(table, crossed)
    (True, False)
    """
    if not could_be_nested(table):
        return False
    by_chance_cells, by_chance_labels = _tests(table, y)
    if _counts_up(table):
        return by_chance_labels > _CROSSED
    return by_chance_cells < _CELLS and by_chance_labels > _LABELS


def _counts_up(table: ImplicitTable) -> bool:
    """Whether every outer level has the first few labels of a count, and not all have equally many."""
    order = _count_order(table.labels)
    if order is None:
        return False
    present = table.counts[:, order] > 0
    sizes = present.sum(axis=1)
    starts = np.arange(present.shape[1]) < sizes[:, None]
    return bool((present == starts).all() and sizes.min() < sizes.max() and present.shape[0] > 2 and sizes.min() > 0)


def _count_order(labels: Sequence[str]) -> IntArray | None:
    """Order of labels that count, 1, 2, 3 or a, b, c, perhaps behind a common word; None for others."""
    texts = [label.strip() for label in labels]
    numbers = [re.fullmatch(r"(\D*?)0*(\d+)", text) for text in texts]
    found = [match for match in numbers if match]
    if len(found) == len(texts) and len({match[1] for match in found}) == 1:
        places = [int(match[2]) for match in found]
    elif all(len(text) == 1 and text.isalpha() for text in texts):
        places = [ord(text.lower()) - ord("a") + 1 for text in texts]
    elif all(_ROMAN.fullmatch(text) for text in texts):
        places = [_roman(text) for text in texts]
    else:
        return None
    start = min(places)
    complete = start in (0, 1) and sorted(places) == list(range(start, start + len(places)))
    return np.argsort(places) if complete else None


def _roman(text: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[c] for c in text]
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


def _tests(table: ImplicitTable, y: FloatArray) -> tuple[float, float]:
    """Probabilities, by chance alone, of cells that differ as these, and of labels that do so beyond the cells."""
    a, b = table.counts.shape
    cell = table.outer * b + table.inner
    counts = table.counts.ravel()
    used = np.flatnonzero(counts)
    means = np.bincount(cell, y, a * b)[used] / counts[used]
    within = y - means[np.searchsorted(used, cell)]
    root = np.sqrt(counts[used])
    i, j = np.divmod(used, b)
    outer = np.eye(a)[i]
    both = np.column_stack([outer, np.eye(b)[j]])
    left_outer, rank_outer = _residual(outer * root[:, None], means * root)
    left_both, rank_both = _residual(both * root[:, None], means * root)
    free, extra = used.size - rank_both, rank_both - rank_outer
    scale = float(np.abs(y).max(initial=0.0)) ** 2 * y.size * 1e-24
    error, df = float(within @ within) + scale, y.size - used.size
    if free < 1 or extra < 1 or df < 1 or not error:
        return 1.0, 1.0
    ratio = (left_both / free) / (error / df)
    share = (ratio - 1) / (ratio - 1 + y.size / used.size) if ratio > 1 else 0.0
    cells = special.fdtrc(free, df, ratio) if share >= _SHARE else 1.0
    labels = special.fdtrc(extra, free, ((left_outer - left_both) / extra) / ((left_both + scale) / free))
    return float(cells), float(labels)


def _residual(X: FloatArray, y: FloatArray) -> tuple[float, int]:
    """Residual sum of squares and rank of a regression."""
    coefficients, _, rank, _ = np.linalg.lstsq(X, y)
    rest = y - X @ coefficients
    return float(rest @ rest), int(rank)
