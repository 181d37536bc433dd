"""How much of the variance of the response the fixed and the random effects explain.

The variance of an observation is taken apart into that of ``X beta`` over the observations, the mean over
them of ``z'Sigma z`` for every random-effects term, and the mean residual variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.equality import by_value
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.residual.correlation import EqualCorrelation
from bayeslmm.residual.structured import CorrelatedRows
from bayeslmm.types import FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class Explained:
    """Parts of the variance of an observation at S points (an estimate, or draws), units of y squared.

    Attributes
    ----------
    fixed : FloatArray, shape (S,)
        Sample variance (divisor n - 1) of ``X beta`` over the observations; a known offset is no part of it.
    random : tuple of FloatArray, each (S,)
        For every term, in the order of the formula, the mean of ``z'Sigma z`` over the observations.
    residual : FloatArray, shape (S,)
        Mean residual variance over the observations: sigma^2, with precision weights ``mean(sigma^2 / w)``.
    groups : tuple of str
        Grouping factor of every term.
    shared : FloatArray, shape (S,), or None
        Covariance of the residuals of any two rows of a group, where all pairs have one correlation (``cs``).
    shared_group : str
        The factor of these groups.
    uncounted : str
        A structure whose correlations differ between pairs, so that no share is theirs; empty if there is none.
    """

    fixed: FloatArray
    random: tuple[FloatArray, ...]
    residual: FloatArray
    groups: tuple[str, ...]
    shared: FloatArray | None = None
    shared_group: str = ""
    uncounted: str = ""

    @property
    def _random(self) -> FloatArray:
        return np.asarray(sum(self.random, np.zeros_like(self.residual)))

    @property
    def unexplained(self) -> FloatArray:
        """What the fixed effects leave (S,): the variance of a new observation of a new group about its mean."""
        return self._random + self.residual

    @property
    def r2_marginal(self) -> FloatArray:
        """Share of the fixed effects (S,)."""
        return _share(self.fixed, self.fixed + self._random + self.residual)

    @property
    def r2_conditional(self) -> FloatArray:
        """Share of fixed and random effects together (S,)."""
        return _share(self.fixed + self._random, self.fixed + self._random + self.residual)

    def icc(self, group: str | None = None) -> FloatArray:
        """Share (S,) of one grouping factor, or of all, in what the fixed effects leave.

        This is the correlation of two observations that share the level (or all levels) and nothing else, averaged
        over the observations where there are random slopes.
        """
        own = [v for v, name in zip(self.random, self.groups, strict=True) if group is None or name == group]
        if self.shared is not None and group in (None, self.shared_group):
            own.append(self.shared)
        return _share(np.asarray(sum(own, np.zeros_like(self.residual))), self.unexplained)


def explained(
    design: Design, beta: FloatArray, terms: Sequence[FloatArray], sigma: FloatArray, lam: FloatArray = NO_PARAMETERS
) -> Explained:
    """Take the variance of an observation apart.

    Parameters
    ----------
    design : Design
    beta : FloatArray, shape (S, p)
    terms : sequence of FloatArray, each (S, c, c)
        Square roots of the relative covariances on the user's columns, in the order of the formula: the covariance of
        the effects is ``sigma^2 T T'``.
    sigma : FloatArray, shape (S,)
        Units of y.
    lam : FloatArray, shape (k,) or (S, k)
        Parameters of the residual structure.

    Returns
    -------
    Explained

    References
    ----------
    Nakagawa & Schielzeth (2013), Methods Ecol. Evol. 4, 133-142; Johnson (2014), ibid. 5, 944-946, for random slopes;
    Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14, 20170213, for the ICC.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> parts = explained(fit.design, np.array([[1527.5]]), [T[None] for T in fit.optimum.terms], np.array([fit.sigma]))
    >>> parts.icc("Batch").round(4)
    array([0.4185])
    """
    spread, roots, noise = _from_rows(design, lam) if design.facts is None else _from_facts(design.facts)
    fixed = ((beta @ spread.T) ** 2).sum(-1)
    variance = np.asarray(sigma, dtype=float) ** 2
    random = []
    for root, T in zip(roots, terms, strict=True):
        random.append(((root @ T) ** 2).sum((-2, -1)) * variance)
    residual = noise * variance
    parts = Explained(fixed, tuple(random), residual, tuple(term.group for term in design.terms))
    return _with_shared(parts, design, lam)


def _from_rows(design: Design, lam: FloatArray) -> tuple[FloatArray, list[FloatArray], FloatArray]:
    """Roots of the covariance of X and of the mean squares of every term's columns; the mean residual variance."""
    n, rows = design.n_observations, design.counts
    centred = design.X - np.average(design.X, axis=0, weights=rows)
    roots = [_root(term.Z, rows) / np.sqrt(n) for term in design.terms]
    noise = np.average(design.residual.variance(lam), axis=-1, weights=rows)
    return _root(centred, rows) / np.sqrt(max(n - 1, 1)), roots, noise


def _from_facts(facts: RowFacts) -> tuple[FloatArray, list[FloatArray], FloatArray]:
    """The same of rows that are not in memory."""
    spread = facts.triangle[1:, facts.X] / np.sqrt(max(facts.n_observations - 1, 1))
    roots = [facts.moments(k) for k in range(facts.n_terms)]
    return spread, roots, np.asarray(1.0 if facts.weights is None else facts.weights[3])


def _with_shared(parts: Explained, design: Design, lam: FloatArray) -> Explained:
    own = design.residual
    if not isinstance(own, CorrelatedRows):
        return parts
    if not isinstance(own.correlation, EqualCorrelation):
        return replace(parts, uncounted=own.expression)
    grouping = residual_grouping(design)
    assert grouping is not None
    rho = own.correlation.natural(lam[..., -1:])[..., 0]
    return replace(parts, shared=rho * parts.residual, shared_group=grouping.name)


def _root(columns: FloatArray, rows: FloatArray) -> FloatArray:
    """R with ``R'R = columns' diag(rows) columns``."""
    return np.asarray(np.linalg.qr(columns * np.sqrt(rows)[:, None], mode="r"))


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
