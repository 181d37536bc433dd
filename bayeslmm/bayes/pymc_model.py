"""The model in PyMC, written out as one would on a blackboard: hierarchical in any form, or collapsed.

The same model as the collapsed posterior of `model.sample`, there to be read, extended and sampled with NUTS. The
hierarchical forms keep the fixed and random effects as parameters; the collapsed form has the
variance parameters and nothing else. All have the same names, dims and coords.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.forms import Form
from bayeslmm.bayes.layout import GroupLayout, Layout, group_columns, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_correlations import correlation_factors, joined
from bayeslmm.bayes.pymc_priors import beta_variable, sd_variables, sigma_variable
from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts


def build_pymc_model(design: Design, priors: Priors, form: Form | Mapping[str, Form] = "noncentered") -> Any:
    """Write the hierarchical model of a design in PyMC, in the user's units.

    Parameters
    ----------
    design : Design
    priors : Priors
    form : {"noncentered", "centered"} or mapping
        Of all grouping factors, or grouping factor to its form (`bayeslmm.bayes.forms.choose_forms` has suggestions).
        Non-centred random effects are standard normals times their standard deviations, which
        samples well when groups say little; the centred form samples well when they say much, and fails at a zero
        standard deviation.

    Returns
    -------
    pymc.Model
        Free variables ``beta``, ``sigma``, ``sd_<group>``, ``z_<group>`` (``b_<group>`` where centred) and, where
        effects are correlated, ``r_<group>``: one number per pair, ``(1 + partial correlation) / 2``. Their
        independent beta priors are the LKJ prior on the correlation matrix. For a correlation that
        all effects share it is the place on the range of that correlation, from 0 to 1. Priors on the ratio to sigma
        have ``ratio_<group>`` in place of ``sd_<group>``, decov ``tau_<group>`` and ``shares_<group>``. Where priors
        are about the effects at the means of columns, so are ``sd_at_mean_<group>``, ``r_<group>``, ``z_<group>`` and
        ``b_at_mean_<group>`` (centred), and ``sd_<group>``, ``corr_<group>`` and ``b_<group>`` follow from them.

    Notes
    -----
    With frequencies the observed variable holds every row once, and ``further_copies`` adds the log density of its
    other copies: the log likelihood of a row that PyMC computes is that of one copy.
    """
    import pymc as pm

    layout = make_layout(design)
    with pm.Model(coords=_coords(layout)) as model:
        sigma = sigma_variable(priors)
        mu = pm.Data("offset", design.offset, dims="obs") if design.offset is not None else 0.0
        if layout.coef:
            X = pm.Data("X", design.X, dims=("obs", "coef"))
            mu = mu + X @ beta_variable(priors.beta)
        for group in layout.groups:
            centred = (form if isinstance(form, str) else form[group.labels.group]) == "centered"
            b = _random_effects(design, group, priors, sigma, centred)
            Z = pm.Data(group.columns, group_columns(design, group), dims=("obs", group.effect_dim))
            codes = pm.Data(group.codes, design.groupings[group.labels.group].codes, dims="obs")
            mu = mu + (Z * b[codes]).sum(axis=1)
        of_rows = {name: pm.Data(name, values, dims="obs") for name, values in design.residual.data().items()}
        sigma = design.residual.scale(sigma, [model[name] for name in layout.lam], of_rows, pm.math)
        pm.Normal(layout.response, mu=mu, sigma=sigma, observed=design.y, dims="obs")
        if design.frequency is not None:
            further = pm.Data("frequency", design.frequency, dims="obs") - 1.0
            copies = pm.logp(pm.Normal.dist(mu=mu, sigma=sigma), design.y)
            pm.Potential("further_copies", (further * copies).sum())
    return model


def build_collapsed_model(cp: CrossProducts, priors: Priors) -> Any:
    """Write the model with the fixed and random effects integrated out: the variance parameters and nothing else.

    Parameters
    ----------
    cp : CrossProducts
    priors : Priors

    Returns
    -------
    pymc.Model
        Free variables ``sigma``, ``sd_<group>`` and ``r_<group>`` as in the hierarchical model, and the potential
        ``collapsed_log_likelihood``.
    """
    import pymc as pm
    import pytensor.tensor as pt

    from bayeslmm.bayes.collapsed_op import collapsed_log_likelihood

    design, layout = cp.design, make_layout(cp.design)
    used = {dim for group in layout.groups for dim in (group.sd_dim, group.effect_dim, group.pair_dim)}
    coords = {dim: labels for dim, labels in _coords(layout).items() if dim in used}
    factors: list[Any] = [None] * len(design.terms)
    with pm.Model(coords=coords) as model:
        sigma = sigma_variable(priors)
        for group in layout.groups:
            sd, blocks = _covariance(design, group, priors, sigma)
            _at_zeros(design, group, priors, sd, blocks)
            for k, (term, columns) in enumerate(zip(group.labels.terms, group.labels.slices, strict=True)):
                relative, change = sd[columns] / sigma, priors.changes[term]
                factors[term] = pt.diag(relative) if blocks is None else relative[:, None] * blocks[k]
                factors[term] = factors[term] if change is None else change.matrix @ factors[term]
        value = collapsed_log_likelihood(cp, factors, pm.math.log(sigma), priors.beta)
        pm.Potential("collapsed_log_likelihood", value)
    return model


def _coords(layout: Layout) -> dict[str, list[Any]]:
    return {dim: np.asarray(labels).tolist() for dim, labels in layout.coords.items()}


def _covariance(design: Design, group: GroupLayout, priors: Priors, sigma: Any) -> tuple[Any, list[Any] | None]:
    """Standard deviation of every effect, and factors of the correlations term by term."""
    sd = sd_variables(group, priors, sigma)
    sd = sd[group.sd_of_effect] if group.shared else sd
    return sd, correlation_factors(design, group, priors)


def _random_effects(design: Design, group: GroupLayout, priors: Priors, sigma: Any, centred: bool) -> Any:
    """Effects of every level: ``b = z (diag(sd) L)'`` with z standard normal, or centred."""
    import pymc as pm

    sd, blocks = _covariance(design, group, priors, sigma)
    _at_zeros(design, group, priors, sd, blocks)
    dims, A = (group.dim, group.effect_dim), group_change(group, priors.changes)
    if not centred:
        z = pm.Normal(f"z_{group.name}", mu=0.0, sigma=1.0, dims=dims)
        b = z * sd if blocks is None else z @ (sd[:, None] * joined(blocks)).T
        return pm.Deterministic(group.b, b if A is None else b @ A.T, dims=dims)
    if blocks is None:
        return pm.Normal(group.b, mu=0.0, sigma=sd, dims=dims)
    chol, zero = sd[:, None] * joined(blocks), np.zeros(len(group.labels.effects))
    if A is None:
        return pm.MvNormal(group.b, mu=zero, chol=chol, dims=dims)
    return pm.Deterministic(group.b, pm.MvNormal(group.b_at_mean, mu=zero, chol=chol, dims=dims) @ A.T, dims=dims)


def _at_zeros(design: Design, group: GroupLayout, priors: Priors, sd: Any, blocks: list[Any] | None) -> None:
    """Sds and correlations of the effects at the zeros of the columns, where the priors are about others."""
    import pymc as pm

    A = group_change(group, priors.changes)
    if A is None or blocks is None:
        return
    factor = A @ (sd[:, None] * joined(blocks))
    sds = pm.math.sqrt((factor**2).sum(axis=1))
    first = [group.sd_of_effect.tolist().index(k) for k in range(len(group.sds))]
    pm.Deterministic(group.sd, sds[first] if group.shared else sds, dims=group.sd_dim)
    rows = factor / sds[:, None]
    a, b = group.pair_effects
    pm.Deterministic(group.corr, (rows[a] * rows[b]).sum(axis=1), dims=group.pair_dim)
