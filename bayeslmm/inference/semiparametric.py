"""Responses of a semiparametric bootstrap: residuals and random effects of a fit, rescaled and drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.types import FloatArray


def resampled_responses(
    design: Design,
    terms: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    lam: FloatArray,
    effects: Sequence[FloatArray],
    kept: Mapping[int, FloatArray],
    n: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Responses (rows, n) with effects and residuals drawn from those of a fit, with replacement.

    Predicted effects are shrunken and residuals are fitted, so that both vary less than they should: they are centred
    and rescaled to the estimated covariances. Effects of a level stay together over all terms of its factor.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma, beta, lam
        Estimates.
    effects : sequence of FloatArray, each (levels, c)
        Predicted effects of every term.
    kept : mapping of int to FloatArray
        Effects of terms that are not drawn.
    n : int
    rng : numpy.random.Generator

    References
    ----------
    Carpenter, Goldstein & Rasbash (2003), J. R. Stat. Soc. C 52, 431-443.
    """
    mean = design.X @ beta if design.offset is None else design.X @ beta + design.offset
    fitted = mean + sum(
        (term.Z * b[design.groupings[term.group].codes]).sum(1) for term, b in zip(design.terms, effects, strict=True)
    )
    white = design.residual.whiten(lam, (design.y - fitted)[:, None])[:, 0]
    white = rescaled(white[:, None], np.array([[sigma]]))[:, 0]
    out = mean[:, None] + design.residual.color(lam, white[rng.integers(design.n, size=(design.n, n))])
    chosen = {
        name: rng.integers(grouping.n_levels, size=(grouping.n_levels, n))
        for name, grouping in design.groupings.items()
    }
    for k, (term, T, b) in enumerate(zip(design.terms, terms, effects, strict=True)):
        codes = design.groupings[term.group].codes
        if k in kept:
            out += (term.Z * kept[k][codes]).sum(1)[:, None]
            continue
        own = rescaled(b, sigma * T)
        for a in range(own.shape[1]):
            out += term.Z[:, a, None] * own[chosen[term.group], a][codes]
    return out


def rescaled(values: FloatArray, factor: FloatArray) -> FloatArray:
    """Values (m, c), centred, with the second moments ``factor @ factor.T`` in all directions in which they vary.

    Examples
    --------
    >>> moved = rescaled(np.array([[1.0], [2.0], [6.0]]), np.array([[2.0]]))
    >>> round(float(moved.mean()), 12), round(float((moved**2).mean()), 12)
    (0.0, 4.0)
    """
    centred = values - values.mean(axis=0)
    roots, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    usable = roots > 1e-12 * max(float(roots.max(initial=0.0)), 1e-300)
    whitening = vectors * np.where(usable, 1.0 / np.sqrt(np.where(usable, roots, 1.0)), 0.0)
    # Any root of the covariance will do; this one turns the values least.
    own, turned = np.linalg.eigh(factor @ factor.T)
    root = turned * np.sqrt(np.maximum(own, 0.0)) @ turned.T
    return np.asarray(centred @ whitening @ vectors.T @ root)
