"""Whether variances can be told apart, from sums in place of rows: see `design.distinct`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np

from bayeslmm.design.distinct import Ridge, VarianceChange, changes_of, ridges_among
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.level_grams import Pairs, fixed_products, level_pairs, squares_of_fixed
from bayeslmm.types import FloatArray


def ridges_of_sums(cp: SummedDesign, reml: bool, thetas: Sequence[FloatArray | None], flat: float) -> tuple[Ridge, ...]:
    """As `distinct.find_ridges`, of rows that were multiplied by the roots of their weights."""
    design = cp.design
    if design.facts is None:
        raise TypeError("a design without rows has facts")
    rows = [design.facts.moments(k) for k in range(len(design.terms))]
    terms = changes_of(design, [own * np.sqrt(len(own)) for own in rows], thetas)
    before, after = _inner_products(cp, terms, reml)
    return ridges_among(design, terms, before, after, flat)


def _inner_products(cp: SummedDesign, terms: Sequence[VarianceChange], reml: bool) -> tuple[FloatArray, FloatArray]:
    """``tr(V_a V_b)`` and ``tr(M V_a M V_b)``, each (k, k), the residual last."""
    places = {term: (b, columns) for b, columns, term, *_ in cp.frame.terms}
    inverse = np.zeros((cp.p, 0))
    if reml and cp.p:
        inverse = np.linalg.inv(np.linalg.cholesky(squares_of_fixed(cp)[:-1, :-1])).T
    bases = [cp.blocks[places[k][0]].inverse_basis[places[k][1], places[k][1]] @ t.basis for k, t in enumerate(terms)]
    sums = []
    for k, basis in enumerate(bases):
        b, columns = places[k]
        sums.append(basis.T @ fixed_products(cp, b)[:, columns, :-1] @ inverse)
    ends = np.cumsum([0, *(len(term.changes) for term in terms)])
    k, p = int(ends[-1]) + 1, inverse.shape[1]
    before, after, swept = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, p, p))
    for i, j in combinations_with_replacement(range(len(terms)), 2):
        tile = np.s_[ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
        pairs = _between(cp, places[i], places[j])
        S = bases[i].T @ pairs.products @ bases[j]
        whole = np.einsum("lbe,laf->abef", S, S, optimize=True)
        with_fixed = np.einsum("lap,lfp->laf", sums[i][pairs.first], sums[j][pairs.second])
        part = np.einsum("lbe,laf->abef", S, with_fixed, optimize=True)
        before[tile], after[tile] = (
            np.einsum("xab,abef,yef->xy", terms[i].changes, values, terms[j].changes, optimize=True)
            for values in (whole, part)
        )
        if i == j:
            own = slice(ends[i], ends[i + 1])
            before[own, -1] = np.tensordot(terms[i].changes, S.sum(axis=0), 2)
            after[own, -1] = np.tensordot(terms[i].changes, np.einsum("lap,lbp->ab", sums[i], sums[i]), 2)
            swept[own] = np.einsum("dab,lap,lbq->dpq", terms[i].changes, sums[i], sums[i], optimize=True)
    before[-1, -1], after[-1, -1], swept[-1] = cp.n, p, np.eye(p)
    before, after = (np.triu(part) + np.triu(part, 1).T for part in (before, after))
    return before, before - 2.0 * after + np.einsum("apq,bqp->ab", swept, swept)


def _between(cp: SummedDesign, a: tuple[int, slice], b: tuple[int, slice]) -> Pairs:
    """Cross-products of the columns of two terms."""
    pairs = level_pairs(cp, a[0], b[0])
    return replace(pairs, products=pairs.products[:, a[1], b[1]])
