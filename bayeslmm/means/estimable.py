"""Linear functions of fixed and random effects: the ESTIMATE statement of a fit and of a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from bayeslmm.bayes.layout import make_layout
from bayeslmm.design.design import Design
from bayeslmm.design.labels import group_labels
from bayeslmm.inference.prediction import variance_df
from bayeslmm.inference.residual_degrees import residual_variance_df
from bayeslmm.likelihood import Factor, SummedDesign
from bayeslmm.likelihood import parameters as par
from bayeslmm.means.averages import RowLabels
from bayeslmm.means.call import method_words
from bayeslmm.means.effect_names import EffectFunctions, effect_functions
from bayeslmm.means.functions import Display
from bayeslmm.means.marginal import MarginalMeans
from bayeslmm.means.of_draws import PosteriorMeans, read_rope
from bayeslmm.means.sources import DrawSource, Estimated, NumberSource
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.intervals import check_level
from bayeslmm.results.linear import DDF, check_ddf, combinations, known_ddf
from bayeslmm.types import FloatArray


def fit_estimable(fit: Fit, L: Any, *, ddf: DDF = "satterthwaite", level: float = 0.95) -> MarginalMeans:
    """Linear functions of fixed effects, and of random effects of levels: estimates, errors, tests and intervals.

    Parameters
    ----------
    L : mapping or array-like of shape (m, p)
        Name of a coefficient to its weight; or name of a function to such a mapping; or rows of weights of all
        coefficients. Random effects are called ``"Subject[308]"``, or of several effects ``"Subject[308, Days]"``, also
        as tuples ``("Subject", "308", "Days")``.
    ddf : {"satterthwaite", "kenward-roger", "containment", "residual", "z"}
        Of functions of fixed effects, as in `coefficients`.
    level : float

    Returns
    -------
    MarginalMeans
        Prints as a table; ``.frame`` is a data frame. The error of a function with random effects is that of prediction
        minus truth, fixed and random effects estimated together and the variances taken as known (Henderson); its
        degrees of freedom are Satterthwaite's, as in `predict`, or those of ``"residual"`` and ``"z"``.

    Raises
    ------
    DesignError
        Unknown names, a wrong number of columns, weights that are no numbers.
    FitError
        As `coefficients`.

    Examples
    --------
    The mean of the second method of the tablets, and the value that it predicts for tablet 1.

    >>> import bayeslmm as bl
    >>> fit = bl.Model("y ~ method + (1 | tablet)", bl.load_dataset("tablets")).fit()
    >>> hplc = {"Intercept": 1, "method[hplc]": 1}
    >>> found = fit.estimable({"hplc": hplc, "hplc, tablet 1": {**hplc, "tablet[1]": 1}})
    >>> found.frame[["function", "estimate", "std_error"]].round(3)
       function        estimate  std_error
    0  hplc              10.340      0.115
    1  hplc, tablet 1    10.248      0.142
    """
    check_ddf(fit, ddf)
    check_level(level)
    asked = effect_functions(fit.design, L)
    random = asked.predicts
    estimate, df = np.zeros(len(asked.names)), np.full(len(asked.names), np.inf)
    known = combinations(fit, asked.fixed, ddf)
    estimate += known.estimate
    df[~random] = known.df[~random]
    covariance = known.covariance
    if random.any():
        effects = fit.ranef()
        for group, own in asked.random.items():
            estimate += np.einsum("mjc,jc->m", own, effects[group].to_numpy())
        covariance = _prediction_covariance(fit, asked, fit.optimum.terms, fit.optimum.lam) * fit.sigma**2
        df[random] = _prediction_df(fit, asked, ddf)[random]
        # Functions of fixed effects keep the errors that they have in every other table.
        covariance[np.ix_(~random, ~random)] = known.covariance[np.ix_(~random, ~random)]
    notes = ("Functions with random effects have prediction errors with the variances taken as known.",)
    display = Display(
        "Linear functions", level, kind="contrast", method=method_words(ddf), notes=notes if random.any() else ()
    )
    labels = RowLabels({"function": asked.names}, (), len(asked.names))
    return MarginalMeans(NumberSource(Estimated(estimate, covariance, df)), labels, display)


def posterior_estimable(
    post: Draws,
    L: Any,
    *,
    ddf: DDF | None = None,
    level: float = 0.95,
    rope: float | Sequence[float] | None = None,
) -> PosteriorMeans:
    """Posterior of linear functions of fixed effects and of random effects of levels.

    Parameters
    ----------
    L : mapping or array-like
        As for a fit.
    ddf : optional
        As of a fit, so that both take one call; a posterior has no degrees of freedom.
    level : float
        Of highest-density intervals.
    rope : float or pair of float, optional
        As in `bayeslmm.means.of_draws.posterior_means`.

    Returns
    -------
    PosteriorMeans

    Raises
    ------
    DesignError
        As for a fit.
    FitError
        The draws of random effects that are needed were not kept.
    """
    known_ddf(ddf)
    check_level(level)
    asked = effect_functions(post.design, L)
    values = np.zeros((post.n_draws, len(asked.names)))
    if post.design.p:
        values += np.asarray(post.data["posterior"]["beta"]).reshape(post.n_draws, -1) @ asked.fixed.T
    for layout in make_layout(post.design).groups:
        own = asked.random.get(layout.labels.group)
        if own is not None:
            b = post._kept_effects(layout)
            values += np.einsum("sjc,mjc->sm", b.reshape(-1, *b.shape[2:]), own, optimize=True)
    display = Display("Linear functions", level, kind="contrast")
    labels = RowLabels({"function": asked.names}, (), len(asked.names))
    return PosteriorMeans(DrawSource(post, values), labels, display, read_rope(rope))


def _prediction_df(fit: Fit, asked: EffectFunctions, ddf: DDF) -> FloatArray:
    """Degrees of freedom (m,) of predictions as `predict` has them: Satterthwaite's, or those that all share."""
    if ddf != "satterthwaite":
        return np.full(len(asked.names), float(fit.cp.n - fit.cp.p) if ddf == "residual" else np.inf)
    if isinstance(fit.optimum, ResidualOptimum):

        def structured(cp: SummedDesign, factors: Sequence[FloatArray], _: Factor, lam: FloatArray) -> FloatArray:
            terms = [T[0] for T in par.term_factors(cp, list(factors))]
            return np.diagonal(_prediction_covariance(fit, asked, terms, lam))

        return residual_variance_df(fit.optimum, structured)

    def variance(factors: Sequence[FloatArray], factor: Factor) -> FloatArray:
        terms = [T[0] for T in par.term_factors(fit.cp, list(factors))]
        return np.diagonal(_prediction_covariance(fit, asked, terms, fit.optimum.lam))

    return variance_df(fit.cp, fit.optimum, variance)


def _prediction_covariance(
    fit: Fit, asked: EffectFunctions, terms: Sequence[FloatArray], lam: FloatArray
) -> FloatArray:
    """Covariance (m, m) of prediction minus truth over sigma^2, from Henderson's equations in u.

    Regular at any relative factors `terms` of the random effects and residual parameters `lam`.
    """
    from scipy.sparse.linalg import splu

    design = fit.design
    columns, targets = list[Any](), list[FloatArray]()
    for labels in group_labels(design):
        codes = design.groupings[labels.group].codes
        own = asked.random.get(labels.group)
        for k, part in zip(labels.terms, labels.slices, strict=True):
            root = terms[k]
            columns.append(_spread(design.terms[k].Z @ root, codes, len(labels.levels)))
            target = np.zeros((len(asked.names), len(labels.levels), root.shape[1]))
            targets.append((target if own is None else own[:, :, part] @ root).reshape(len(asked.names), -1))
    Z = _whitened(design, sparse.hstack(columns).tocsr(), lam)
    # Where residuals have parameters, sums are those of rows that were whitened at the estimates of these.
    columns_of_X = fit.cp.fixed.columns
    if design.residual.names:
        columns_of_X = design.residual.color(fit.optimum.lam, columns_of_X)
    X = design.whitened(columns_of_X, lam)
    q = Z.shape[1]
    cross = sparse.csr_matrix(Z.T @ X)
    A = sparse.bmat([[Z.T @ Z + sparse.identity(q), cross], [cross.T, sparse.csr_matrix(X.T @ X)]])
    right = np.concatenate([*targets, asked.fixed @ fit.cp.fixed.transform], axis=1).T
    solved = splu(A.tocsc()).solve(np.ascontiguousarray(right))
    return np.asarray(right.T @ solved)


def _spread(columns: FloatArray, codes: Any, levels: int) -> Any:
    """Columns (n, c) of a term beside each other for every level."""
    n, c = columns.shape
    places = codes[:, None] * c + np.arange(c)
    return sparse.csr_matrix((columns.ravel(), places.ravel(), np.arange(0, n * c + 1, c)), shape=(n, levels * c))


def _whitened(design: Design, Z: Any, lam: FloatArray) -> Any:
    """Columns on the scale of independent residuals; they stay sparse where rows are only weighed."""
    if design.residual.clusters is None:
        return sparse.diags(design.whitened(np.ones((design.n, 1)), lam)[:, 0]) @ Z
    return sparse.csr_matrix(design.whitened(Z.toarray(), lam))
