"""Hypotheses of terms of the fixed part: types I, II and III of an analysis of variance.

A hypothesis is a matrix L of combinations of the coefficients. Type I adjusts a term for those before it, type II for
all that do not contain it, type III asks of a term what it does on average over the cells of those that contain it, as
if factors were coded by contrasts that sum to zero. A term contains another if it has the same numeric variables and
more factors.

Type III is defined on a model with one parameter for every cell of every term, of which only some functions can be
estimated. The hypothesis of a term is about such functions of its own cells and of those of terms that contain it, and
orthogonal to the functions that make up the hypotheses of the latter. It is the same for every coding of the factors.

Adjusting means orthogonalising, which needs a metric: that of the observations (``"ols"``, as the sums of squares of
textbooks and of SAS) or that of the fitted covariance (``"gls"``, where each term's chi-square is the fall of the
generalized sum of squares that it brings).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bayeslmm.design.fixed_terms import CellCoding, FixedTerm, FixedTerms, cell_coding
from bayeslmm.design.rank import independent_columns
from bayeslmm.types import FloatArray, IntArray

type AnovaType = Literal[1, 2, 3]

# Of the length of a row, what is left of it after taking others out is rounding below this.
_ROUNDING = 1e-9


def sequential(fixed: FixedTerms, root: FloatArray) -> list[FloatArray]:
    """Type I: each term adjusted for those before it.

    Parameters
    ----------
    fixed : FixedTerms
    root : FloatArray, shape (p, p)
        Any R with ``R'R`` the cross-products of the columns of X in the metric in which they are orthogonalised.

    Returns
    -------
    list of FloatArray, each (rows, p)
        For every one of ``fixed.all``.

    References
    ----------
    Goodnight (1978), The sweep operator, SAS Technical Report R-106: the normalised forward Doolittle rows.
    """
    rows = _doolittle(root, np.arange(root.shape[1]))
    return [rows[term.columns] for term in fixed.all]


def marginal(fixed: FixedTerms, root: FloatArray, by_variables: bool = False) -> list[FloatArray]:
    """Type II: each term adjusted for all terms that do not contain it.

    Parameters
    ----------
    fixed, root
        As in `sequential`.
    by_variables : bool
        Whether a term contains all whose variables it has, numeric ones not set apart: f is then marginal to f:x.
    """
    p = root.shape[1]
    found = []
    for term in fixed.all:
        above = _with_its_variables(fixed, term) if by_variables else fixed.containing(term)
        if not above:
            found.append(np.eye(p)[term.columns])
            continue
        last = np.concatenate([term.columns, *(other.columns for other in above)])
        order = np.concatenate([np.setdiff1d(np.arange(p), last), last])
        found.append(_doolittle(root, order)[p - last.size : p - last.size + term.columns.size])
    return found


def _with_its_variables(fixed: FixedTerms, term: FixedTerm) -> Sequence[FixedTerm]:
    own = term.factors | term.numeric
    return [other for other in fixed.terms if own and own < other.factors | other.numeric]


def _doolittle(root: FloatArray, order: IntArray) -> FloatArray:
    """Rows (p, p) of the upper triangle with unit diagonal, of columns taken in an order, in their own places."""
    upper = np.linalg.qr(root[:, order], mode="r")
    rows = np.empty_like(upper)
    rows[:, order] = upper / np.diagonal(upper)[:, None]
    return rows


def partial(fixed: FixedTerms) -> list[FloatArray] | None:
    """Type III: each term on average over the cells of those that contain it.

    Returns
    -------
    list of FloatArray, each (rows, p), or None
        For every one of ``fixed.all``; None where coefficients do not stand for functions of cells.

    References
    ----------
    SAS Institute, The Four Types of Estimable Functions (SAS/STAT User's Guide); Goodnight (1976), The general linear
    models procedure, Proc. First International SAS Users' Group Conference.
    """
    coding = cell_coding(fixed)
    if coding is None:
        return None
    # X under treatment contrasts is X times `columns`: the reference level of each factor is its first.
    columns = coding.functions @ coding.treatment
    independent = independent_columns(columns)
    if independent.size != columns.shape[0]:
        return None
    basis = columns[:, independent]
    functions = np.linalg.solve(basis, coding.functions)
    own = [np.flatnonzero((independent >= place.start) & (independent < place.stop)) for place in coding.places]
    treatment = coding.treatment[:, independent]
    place = {term.label: k for k, term in enumerate(fixed.all)}
    found = []
    for term, rows in zip(fixed.all, own, strict=True):
        above = _above(fixed, term)
        others = functions[np.concatenate([own[place[other.label]] for other in above])] if above else functions[:0]
        averaged = _without(functions[rows], others)
        found.append(np.linalg.solve(basis.T, treatment.T @ averaged.T).T)
    return found


def _above(fixed: FixedTerms, term: FixedTerm) -> Sequence[FixedTerm]:
    # The constant is marginal to all terms of factors alone, an average over their cells.
    if term is fixed.constant:
        return [other for other in fixed.terms if not other.numeric]
    return fixed.containing(term)


def _without(rows: FloatArray, others: FloatArray) -> FloatArray:
    """Rows orthogonal to the others."""
    if not others.size:
        return rows
    _, s, vt = np.linalg.svd(others, full_matrices=False)
    basis = vt[s > _ROUNDING * s.max()]
    left = rows
    for _ in range(2):
        left = left - (left @ basis.T) @ basis
    small = np.linalg.norm(left, axis=1) < _ROUNDING * np.linalg.norm(rows, axis=1)
    return np.where(small[:, None], 0.0, left)


def empty_cells(coding: CellCoding | None) -> bool:
    """Whether cells without observations leave less to be estimated than the terms ask for."""
    return coding is not None and coding.functions.shape[0] < coding.treatment.shape[1]
