"""How far every level is drawn towards the mean, and what draws it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.labels import group_labels
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.level_grams import residual_scores, term_grams
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.teaching.grouped import cross_products_by_level, least_squares_by_level, least_squares_of_grams
from bayeslmm.types import FloatArray, IntArray


def shrinkage_matrices(A: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``W = Sigma (Sigma + sigma^2 A^-1)^-1`` of every level and its eigenvalues.

    Written as ``T (I + T'AT)^-1 T'A``, which needs neither inverse: a singular Sigma and a level that does not
    determine its own effects are ordinary cases.

    Parameters
    ----------
    A : FloatArray, shape (..., c, c)
        Weighted cross-products of every level's columns.
    T : FloatArray, shape (..., c, c)
        Relative factor, ``Sigma = sigma^2 T T'``.

    Returns
    -------
    W : FloatArray, shape (..., c, c)
    eigenvalues : FloatArray, shape (..., c)
        Rising, each in [0, 1).
    """
    inner = T.mT @ A @ T
    W = T @ np.linalg.solve(np.eye(T.shape[-1]) + inner, T.mT @ A)
    eigen = np.maximum(np.linalg.eigvalsh(inner), 0.0)
    return W, eigen / (1.0 + eigen)


def shrinkage_table(
    design: Design,
    terms: Sequence[FloatArray],
    beta: FloatArray,
    effects: Sequence[FloatArray],
    lam: FloatArray = NO_PARAMETERS,
    cp: SummedDesign | None = None,
) -> pd.DataFrame:
    """One row per term, level and effect.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors in the user's units.
    beta : FloatArray, shape (p,)
    effects : sequence of FloatArray, each (J, c)
        Predictions (BLUPs) of every term.
    lam : FloatArray, shape (k,)
        Parameters of the residual structure.
    cp : SummedDesign, optional
        Of a design whose rows are not in memory.

    Returns
    -------
    pandas.DataFrame
        See ``REMLResult.shrinkage``.
    """
    if cp is not None:
        return _from_sums(cp, terms, beta, effects)
    predicted = [
        (term.Z * b[design.groupings[term.group].codes]).sum(axis=1)
        for term, b in zip(design.terms, effects, strict=True)
    ]
    rest = design.y_less_offset - design.X @ beta - np.sum(predicted, axis=0)
    names = {i: labels.term_effects(i) for labels in group_labels(design) for i in labels.terms}
    frames = [
        _frame(design, term, names[i], rest + predicted[i], terms[i], effects[i], lam)
        for i, term in enumerate(design.terms)
    ]
    return pd.concat(frames, ignore_index=True)


def _frame(
    design: Design,
    term: RandomTerm,
    names: tuple[str, ...],
    partial: FloatArray,
    T: FloatArray,
    blup: FloatArray,
    lam: FloatArray,
) -> pd.DataFrame:
    grouping = design.groupings[term.group]
    white = design.whitened(np.column_stack([term.Z, partial]), lam, within=grouping)
    W, eigenvalues = shrinkage_matrices(cross_products_by_level(white[:, :-1], grouping), T)
    raw = least_squares_by_level(white[:, :-1], white[:, -1], grouping).coefficients
    counts = np.bincount(grouping.codes, design.counts, len(blup)).astype(np.int64)
    return _table(term, grouping, names, counts, raw, blup, W, eigenvalues)


def _from_sums(
    cp: SummedDesign, terms: Sequence[FloatArray], beta: FloatArray, effects: Sequence[FloatArray]
) -> pd.DataFrame:
    """The table of rows that are not in memory: what is left of the response in a level adds to its prediction."""
    design, facts = cp.design, cp.design.facts
    assert facts is not None
    by_block = [np.concatenate([effects[i] for i in block.terms], axis=1) for block in cp.blocks]
    scores = residual_scores(cp, beta, by_block)
    names = {i: labels.term_effects(i) for labels in group_labels(design) for i in labels.terms}
    frames = dict[int, pd.DataFrame]()
    for block, score in zip(cp.blocks, scores, strict=True):
        for i, columns in zip(block.terms, block.slices, strict=True):
            A, term = term_grams(cp, i), design.terms[i]
            W, eigenvalues = shrinkage_matrices(A, terms[i])
            raw = effects[i] + least_squares_of_grams(A, score[:, columns])
            counts = facts.sizes[term.group]
            grouping = design.groupings[term.group]
            frames[i] = _table(term, grouping, names[i], counts, raw, effects[i], W, eigenvalues)
    return pd.concat([frames[i] for i in range(len(frames))], ignore_index=True)


def _table(
    term: RandomTerm,
    grouping: Grouping,
    names: tuple[str, ...],
    counts: IntArray,
    raw: FloatArray,
    blup: FloatArray,
    W: FloatArray,
    eigenvalues: FloatArray,
) -> pd.DataFrame:
    J, c = blup.shape
    return pd.DataFrame(
        {
            "term": term.label,
            "group": term.group,
            "level": np.repeat(np.array(grouping.levels, dtype=object), c),
            "effect": np.tile(np.array(names, dtype=object), J),
            "n": np.repeat(counts, c),
            "raw": raw.ravel(),
            "blup": blup.ravel(),
            "weight": np.diagonal(W, axis1=1, axis2=2).ravel(),
            "weight_min": np.repeat(eigenvalues[:, 0], c),
            "weight_max": np.repeat(eigenvalues[:, -1], c),
        }
    )
