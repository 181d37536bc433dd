"""The criterion with 60 digits from the dense marginal covariance, on the numbers that a design holds."""

from __future__ import annotations

import decimal
from collections.abc import Sequence

import numpy as np

from bayeslmm.design.design import Design

DIGITS = 60
PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def exact(values: np.ndarray) -> np.ndarray:
    """Every double as the decimal number that it is."""
    return np.vectorize(lambda value: decimal.Decimal(float(value)), otypes=[object])(values)


def exact_criterion(design: Design, terms: Sequence[np.ndarray], reml: bool) -> decimal.Decimal:
    """-2 log (restricted) likelihood at its best sigma; `terms` are relative factors on the user's columns."""
    with decimal.localcontext() as context:
        context.prec = DIGITS
        rows = np.arange(design.y.size)
        if design.frequency is not None:
            rows = np.repeat(rows, design.frequency)
        n = rows.size
        V = exact(np.zeros((n, n)))
        weights = exact(np.ones(n) if design.weights is None else design.weights[rows])
        V[np.arange(n), np.arange(n)] = 1 / weights
        for term, T in zip(design.terms, terms, strict=True):
            columns = exact(term.Z[rows]) @ exact(np.asarray(T))
            codes = design.groupings[term.group].codes[rows]
            for level in np.unique(codes):
                own = np.flatnonzero(codes == level)
                V[np.ix_(own, own)] += columns[own] @ columns[own].T
        y = exact(design.y[rows]) - exact(np.zeros(n) if design.offset is None else design.offset[rows])
        return _profiled(V, np.column_stack([exact(design.X[rows]), y]), reml)


def _profiled(V: np.ndarray, columns: np.ndarray, reml: bool) -> decimal.Decimal:
    """Elimination of V beside the columns of X and y, then of what is left of X'V^-1X."""
    n, p = columns.shape[0], columns.shape[1] - 1
    log_det = decimal.Decimal(0)
    for j in range(n):
        log_det += V[j, j].ln()
        below = V[j + 1 :, j] / V[j, j]
        V[j + 1 :, j + 1 :] -= np.outer(below, V[j, j + 1 :])
        columns[j + 1 :] -= np.outer(below, columns[j])
    products = columns.T @ (columns / np.diagonal(V)[:, None])
    for j in range(p):
        log_det += products[j, j].ln() if reml else 0
        below = products[j + 1 :, j] / products[j, j]
        products[j + 1 :, j + 1 :] -= np.outer(below, products[j, j + 1 :])
    nu = n - p if reml else n
    return log_det + nu * (1 + (2 * PI * products[p, p] / nu).ln())
