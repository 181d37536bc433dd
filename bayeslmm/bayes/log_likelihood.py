"""Log likelihoods of draws: of observations given all parameters, of groups with their effects integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bayeslmm.bayes.at_means import AtMeans, sds_and_correlations
from bayeslmm.bayes.dense_groups import dense_group_density
from bayeslmm.bayes.layout import GroupLayout, Layout, group_columns, make_layout
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.covariance import canonical
from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping, parents
from bayeslmm.design.residual_groups import all_groupings
from bayeslmm.errors import FitError
from bayeslmm.likelihood import CrossProducts, SummedDesign, evaluate, small
from bayeslmm.likelihood import parameters as par
from bayeslmm.likelihood.conditional import internal_beta
from bayeslmm.likelihood.reduction import frame_columns
from bayeslmm.likelihood.within import grouped_qr, level_products, split_columns
from bayeslmm.residual import NO_PARAMETERS, each_point
from bayeslmm.residual.conditional import given_the_others
from bayeslmm.types import AnyArray, FloatArray, IntArray

# Doubles held at once.
_CHUNK = 4_000_000
_LOG_2PI = float(np.log(2.0 * np.pi))


def variance_draws(
    design: Design, posterior: Mapping[str, AnyArray], changes: Sequence[AtMeans | None] = ()
) -> VarianceDraws:
    """Variance parameters and fixed effects of the variables of a posterior.

    Parameters
    ----------
    design : Design
    posterior : mapping of str to array
        Variables of `Layout.posterior_dims` with leading dims chain and draw; random effects are not needed.
    changes : sequence of AtMeans or None, optional
        `Priors.changes`: factors are then made from the sds and correlations at the means. Far from the zero of a
        column those at the zero have correlations of 1 to rounding, in which the spread at the mean is lost.
    """
    layout = make_layout(design)

    def flat(name: str) -> FloatArray:
        values = np.asarray(posterior[name], dtype=float)
        return values.reshape(-1, *values.shape[2:])

    sigma = flat("sigma")
    beta = flat("beta") if layout.coef else np.empty((sigma.size, 0))
    sds: dict[int, FloatArray] = {}
    correlations: dict[int, FloatArray] = {}
    factors: dict[int, FloatArray] = {}
    for group in layout.groups:
        columns = flat(group.sd) / sigma[:, None]
        pairs = flat(group.corr) if group.pairs else columns[:, :0]
        for term in group.labels.terms:
            sds[term], correlations[term] = _of_term(design, group, term, columns, pairs)
            factors[term] = _factor(design, term, sds[term], correlations[term])
            change = changes[term] if changes else None
            if change is not None and group.sd_at_mean in posterior:
                means = flat(group.sd_at_mean) / sigma[:, None], flat(group.corr_at_mean)
                factors[term] = change.matrix @ _factor(design, term, *_of_term(design, group, term, *means))
    positions = range(len(design.terms))
    return VarianceDraws(
        sigma,
        tuple(sds[k] for k in positions),
        tuple(factors[k] for k in positions),
        tuple(correlations[k] for k in positions),
        beta,
        residual_parameters(design, {name: flat(name) for name in ("sigma", *design.residual.names)}),
    )


def residual_parameters(design: Design, draws: Mapping[str, FloatArray]) -> FloatArray:
    """Parameters (K, k) of the residual structure among the variables (K, ...) of K draws."""
    lam = np.empty((draws["sigma"].size, len(design.residual.names)))
    for k, name in enumerate(design.residual.names):
        lam[:, k] = draws[name]
    return lam


def _of_term(
    design: Design, group: GroupLayout, term: int, columns: FloatArray, pairs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Relative sds and correlations of one term among those of its grouping factor."""
    own = [k for k, (position, *_) in enumerate(group.labels.pairs) if position == term]
    sds = columns[:, [k for k, sd in enumerate(group.sds) if sd.term == term]]
    return sds, pairs[:, own]


def _factor(design: Design, term: int, t: FloatArray, correlations: FloatArray) -> FloatArray:
    return t[:, :, None] * design.terms[term].structure.correlation_root(correlations)


def typical_factors(design: Design, draws: VarianceDraws, changes: Sequence[AtMeans | None] = ()) -> list[FloatArray]:
    """Relative factors (c, c) at the medians of the sds and the means of the correlations.

    Lower triangular, but for terms whose effects at the means of columns (`Priors.changes`) these medians are of.
    """
    out = []
    for k, (t, correlation) in enumerate(zip(draws.relative_sds, draws.correlations, strict=True)):
        change = changes[k] if changes else None
        if change is not None:
            t, R = sds_and_correlations(change.inverse @ draws.factors[k])
            correlation = design.terms[k].structure.pair_values(R)
        T = canonical(_factor(design, k, np.median(t, axis=0)[None], correlation.mean(0)[None]))[0]
        out.append(T if change is None else change.matrix @ T)
    return out


def marginal_log_likelihood(
    cp: CrossProducts, factors: Sequence[FloatArray], sigma: FloatArray, beta: FloatArray
) -> FloatArray:
    """Log p(y | beta, variance parameters), the random effects integrated out, shape (K,).

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (K, c, c)
        Relative factors of the terms on the user's columns, any square roots.
    sigma : FloatArray, shape (K,)
    beta : FloatArray, shape (K, p)

    References
    ----------
    Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), eq. 24.
    """
    factor = evaluate(cp, par.block_factors(cp, factors))
    q2, variance = cp.q_trailing, sigma**2
    L_X = factor.chol[:, q2:, q2:]
    distance = (small.transpose(L_X) @ (internal_beta(cp, beta) - factor.solution[:, q2:])[..., None])[..., 0]
    squares = factor.r2 + (distance**2).sum(-1)
    return np.asarray(
        -0.5 * (cp.n * (_LOG_2PI + np.log(variance)) + factor.log_det - cp.log_weights + squares / variance)
    )


def pointwise(design: Design, posterior: Mapping[str, AnyArray]) -> FloatArray:
    """Log density of one copy of every response given all parameters, shape (chain, draw, n).

    Where residuals are correlated, given the other rows of its group, too: with random effects held, what
    leave-one-out needs of rows that are not independent. These densities do not add up to that of all rows.
    """
    layout = make_layout(design)
    shape = posterior["sigma"].shape
    flat = {name: posterior[name].reshape(-1, *posterior[name].shape[2:]) for name in layout.posterior_dims}
    total = flat["sigma"].shape[0]
    out = np.empty((total, design.n))
    step = max(1, _CHUNK // design.n)
    for start in range(0, total, step):
        part = slice(start, start + step)
        out[part] = _log_density(design, layout, {k: v[part] for k, v in flat.items()})
    return out.reshape(*shape, design.n)


def _log_density(design: Design, layout: Layout, draws: Mapping[str, FloatArray]) -> FloatArray:
    residual = np.broadcast_to(design.y, (draws["sigma"].size, design.n))
    if design.offset is not None:
        residual = residual - design.offset
    if layout.coef:
        residual = residual - draws["beta"] @ design.X.T
    for group in layout.groups:
        Z, codes = group_columns(design, group), design.groupings[group.labels.group].codes
        for k in range(Z.shape[1]):
            residual = residual - Z[:, k] * draws[group.b][:, codes, k]
    sigma, lam = draws["sigma"][:, None], residual_parameters(design, draws)
    off, variance = given_the_others(design.residual, lam, residual / sigma)
    return np.asarray(-0.5 * (_LOG_2PI + off**2 / variance + np.log(variance)) - np.log(sigma))


def independent_groups(design: Design) -> Grouping:
    """The grouping factor, or that of the residual correlations, whose levels are independent given the parameters.

    Raises
    ------
    FitError
        There is none: some factors are crossed, or all rows are independent.
    """
    factors = all_groupings(design)
    if not factors:
        raise FitError("The model has no grouping factor: there are no groups to have a log likelihood.")
    order = sorted(factors.values(), key=lambda grouping: grouping.n_levels)
    outer = order[0]
    for inner in order[1:]:
        if parents(inner, outer) is None:
            raise FitError(
                f"{inner.name} and {outer.name} are crossed, so that no groups of rows are independent given the "
                "parameters, and there is no log likelihood by group. post.loo(kind='group', group=...) leaves out "
                "groups of crossed factors, given all other rows."
            )
    return outer


def group_log_likelihood(cp: SummedDesign, draws: VarianceDraws) -> tuple[Grouping, FloatArray]:
    """Log p(y_g | beta, variance parameters) of every independent group, its effects integrated out.

    Parameters
    ----------
    cp : SummedDesign
    draws : VarianceDraws

    Returns
    -------
    Grouping
        The outermost factor.
    FloatArray, shape (K, J)
        They add up to `marginal_log_likelihood`.

    Raises
    ------
    FitError
        Crossed factors.
    """
    outer, residual = independent_groups(cp.design), cp.design.residual
    if residual.clusters is not None:
        return outer, dense_group_density(cp.design, draws, outer.codes)
    if not residual.names:
        return outer, _log_densities(_Nest.of(cp), draws)
    out = np.empty((draws.sigma.size, outer.n_levels))
    for lam, own in each_point(draws.lam):
        out[own] = _log_densities(_Nest.of(cp, lam), draws.part(own))
    return outer, out


def _log_densities(nest: _Nest, draws: VarianceDraws) -> FloatArray:
    step = max(1, _CHUNK // (nest.within.size + 1))
    return np.concatenate([nest.log_density(draws.part(slice(k, k + step))) for k in range(0, draws.sigma.size, step)])


@dataclass(frozen=True)
class _Nest:
    """Cross-products of nested factors, kept apart by the levels of the innermost one."""

    cp: CrossProducts
    order: tuple[int, ...]  # blocks, innermost first
    up: tuple[IntArray, ...]  # level of each factor -> level of the next one
    R: FloatArray  # (J, c, c)
    between: FloatArray  # (J, c, m): effects of the outer factors, X, y
    within: FloatArray  # (J, m, m)
    counts: FloatArray  # (J_outer,)
    log_dets: FloatArray  # (J_outer,): of the residuals

    @classmethod
    def of(cls, cp: SummedDesign, lam: FloatArray = NO_PARAMETERS) -> _Nest:
        design, blocks, columns = cp.design, cp.blocks, frame_columns(cp)
        order = tuple(sorted(range(len(blocks)), key=lambda k: -blocks[k].n_levels))
        first = blocks[order[0]].grouping
        Q, R = grouped_qr(design.whitened(columns[order[0]], lam, within=first), first.codes, first.n_levels)
        y = design.y_less_offset
        # Centred on the least-squares fit, so that little cancels in the squares.
        rest = y - design.X @ (cp.fixed.transform @ cp.response.removed)
        W = design.whitened(np.column_stack([*(columns[k] for k in order[1:]), cp.fixed.columns, rest]), lam)
        left, between = split_columns(Q, W, first.codes, first.n_levels)
        within = level_products(first.codes, left, left, first.n_levels)
        chain = [blocks[k].grouping for k in order]
        up = tuple(_levels_above(inner, outer) for inner, outer in pairwise(chain))
        counts = np.bincount(chain[-1].codes, weights=design.frequency).astype(float)
        return cls(cp, order, up, R, between, within, counts, design.log_dets(chain[-1].codes, lam))

    def log_density(self, draws: VarianceDraws) -> FloatArray:
        """Log densities (K, J_outer)."""
        cp = self.cp
        factors = par.block_factors(cp, draws.factors)
        F = self.R @ factors[self.order[0]][:, None]
        M = small.add_identity(F @ small.transpose(F))
        log_det = np.linalg.slogdet(M)[1]
        C = self.within + small.transpose(self.between) @ np.linalg.solve(M, self.between)
        for k, above in zip(self.order[1:], self.up, strict=True):
            C, log_det = _gather(C, above), _gather(log_det, above)
            C, change = _eliminate(C, factors[k])
            log_det = log_det + change
        v = np.concatenate([-internal_beta(cp, draws.beta), np.ones((draws.sigma.size, 1))], axis=1)
        squares = np.einsum("ka,kjab,kb->kj", v, C, v) / draws.sigma[:, None] ** 2
        constant = self.counts * (_LOG_2PI + 2.0 * np.log(draws.sigma)[:, None])
        return np.asarray(-0.5 * (constant + log_det + self.log_dets + squares))


def _levels_above(inner: Grouping, outer: Grouping) -> IntArray:
    above = parents(inner, outer)
    if above is None:
        raise FitError(
            f"{inner.name} and {outer.name} are crossed within larger groups. The log likelihood by group is computed "
            "for factors each of which is nested in the next; post.loo(kind='group', group=...) works for all."
        )
    return above


def _gather(values: FloatArray, parents: IntArray) -> FloatArray:
    """Sum axis 1 over the levels that share a parent."""
    order = np.argsort(parents, kind="stable")
    starts = np.searchsorted(parents[order], np.arange(parents.max() + 1))
    return np.asarray(np.add.reduceat(values[:, order], starts, axis=1))


def _eliminate(C: FloatArray, T: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Integrate the effects of the leading c columns out: what is left, and the log determinant."""
    c = T.shape[-1]
    M = small.add_identity(small.transpose(T)[:, None] @ C[..., :c, :c] @ T[:, None])
    cross = small.transpose(T)[:, None] @ C[..., :c, c:]
    left = C[..., c:, c:] - small.transpose(cross) @ np.linalg.solve(M, cross)
    return left, np.linalg.slogdet(M)[1]
