"""The hierarchical model in PyMC, written out as one would on a blackboard.

The same model as the collapsed posterior, with the fixed and random effects kept as parameters. It
is there to be read, extended and sampled with NUTS; results carry the same names, dims and coords.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.bayes.layout import (
    GroupLayout,
    Layout,
    group_columns,
    make_layout,
)
from bayeslmm.bayes.priors import (
    Exponential,
    Flat,
    HalfNormal,
    HalfT,
    InverseGammaVariance,
    Power,
    Priors,
    SdPrior,
    Uniform,
)
from bayeslmm.design.design import Design
from bayeslmm.design.shared import AR1, CompoundSymmetry, Shared
from bayeslmm.errors import PriorError
from bayeslmm.likelihood import NormalPrior
from bayeslmm.types import FloatArray


def build_pymc_model(design: Design, priors: Priors, noncentered: bool = True) -> Any:
    """Write the model of a design in PyMC, in the user's units.

    Parameters
    ----------
    design : Design
    priors : Priors
    noncentered : bool
        Whether the random effects are written as standard normals times their standard deviations,
        which samples well when groups say little; the centred form samples well when they say much,
        and fails at a zero standard deviation.

    Returns
    -------
    pymc.Model
        Free variables ``beta``, ``sigma``, ``sd_<group>``, ``z_<group>`` and, where effects are
        correlated, ``r_<group>``: one number per pair, ``(1 + partial correlation) / 2``. Their
        independent beta priors are the LKJ prior on the correlation matrix. For a correlation that
        all effects share it is the place on the range of that correlation, from 0 to 1.

    Notes
    -----
    With frequencies the observed variable holds every row once, and ``further_copies`` adds the log density of its
    other copies: the log likelihood of a row that PyMC computes is that of one copy.
    """
    import pymc as pm

    layout = make_layout(design)
    with pm.Model(coords=_coords(layout)) as model:
        sigma = _sd("sigma", [priors.sigma])
        mu = pm.Data("offset", design.offset, dims="obs") if design.offset is not None else 0.0
        if layout.coef:
            X = pm.Data("X", design.X, dims=("obs", "coef"))
            mu = mu + X @ _beta(priors.beta)
        for group in layout.groups:
            b = _random_effects(design, group, priors, noncentered)
            Z = pm.Data(group.columns, group_columns(design, group), dims=("obs", group.effect_dim))
            codes = pm.Data(group.codes, design.groupings[group.labels.group].codes, dims="obs")
            mu = mu + (Z * b[codes]).sum(axis=1)
        if design.weights is not None:
            sigma = sigma / pm.math.sqrt(pm.Data("weights", design.weights, dims="obs"))
        pm.Normal(layout.response, mu=mu, sigma=sigma, observed=design.y, dims="obs")
        if design.frequency is not None:
            further = pm.Data("frequency", design.frequency, dims="obs") - 1.0
            copies = pm.logp(pm.Normal.dist(mu=mu, sigma=sigma), design.y)
            pm.Potential("further_copies", (further * copies).sum())
    return model


def _coords(layout: Layout) -> dict[str, list[Any]]:
    return {dim: np.asarray(labels).tolist() for dim, labels in layout.coords.items()}


def _beta(prior: NormalPrior | None) -> Any:
    import pymc as pm

    if prior is not None and prior.proper.all():
        return pm.Normal("beta", mu=prior.mean, sigma=prior.sd, dims="coef")
    beta = pm.Flat("beta", dims="coef")
    if prior is None:
        return beta
    proper = np.flatnonzero(prior.proper)
    normal = pm.Normal.dist(mu=prior.mean[proper], sigma=prior.sd[proper])
    pm.Potential("beta_prior", pm.logp(normal, beta[proper]).sum())
    return beta


def _random_effects(design: Design, group: GroupLayout, priors: Priors, noncentered: bool) -> Any:
    """Effects of every level: ``b = z (diag(sd) L)'`` with z standard normal, or centred."""
    import pymc as pm

    sd = _sd(group.sd, [priors.sds[label.term][label.effects[0]] for label in group.sds], group)
    sd = sd[group.sd_of_effect] if group.shared else sd
    L = _correlation_factor(design, group, priors)
    dims = (group.dim, group.effect_dim)
    if noncentered:
        z = pm.Normal(f"z_{group.name}", mu=0.0, sigma=1.0, dims=dims)
        b = z * sd if L is None else z @ (sd[:, None] * L).T
        return pm.Deterministic(group.b, b, dims=dims)
    if L is None:
        return pm.Normal(group.b, mu=0.0, sigma=sd, dims=dims)
    return pm.MvNormal(group.b, mu=np.zeros(len(group.labels.effects)), chol=sd[:, None] * L, dims=dims)


def _correlation_factor(design: Design, group: GroupLayout, priors: Priors) -> Any:
    """Cholesky factor of the correlations of a group's effects, or None if they are independent."""
    import pymc as pm
    import pytensor.tensor as pt

    if not group.pairs:
        return None
    shapes = _beta_shapes(design, group, priors)
    r = pm.Beta(f"r_{group.name}", shapes, shapes, dims=group.pair_dim)
    blocks, correlations, start = [], [], 0
    for k in group.labels.terms:
        size, structure = len(group.labels.term_effects(k)), design.terms[k].structure
        free = sum(pair[0] == k for pair in group.labels.pairs)
        part = r[start : start + free]
        start += free
        if not free:
            blocks.append(pt.eye(size))
        elif isinstance(structure, Shared):
            low, high = structure.correlation_range
            rho = low + (high - low) * part[0]
            blocks.append(_factor_of_one(structure, rho))
            correlations.append(pt.stack([rho]))
        else:
            L = _factor_from_partials(part, size)
            blocks.append(L)
            correlations.append((L @ L.T)[np.triu_indices(size, 1)])
    pm.Deterministic(group.corr, pt.concatenate(correlations), dims=group.pair_dim)
    return blocks[0] if len(blocks) == 1 else pt.linalg.block_diag(*blocks)


def _beta_shapes(design: Design, group: GroupLayout, priors: Priors) -> FloatArray:
    """Both beta shapes of ``(1 + partial correlation) / 2`` that make the correlation matrix LKJ.

    The correlation of effects a < b given those before a has both shapes ``eta + (c - 2 - a) / 2``
    (Lewandowski, Kurowicka & Joe 2009, J. Multivariate Anal. 100, 1989-2001). A correlation that all
    effects share has both shapes eta.
    """
    sizes = {k: len(group.labels.term_effects(k)) for k in group.labels.terms}
    return np.array(
        [
            priors.lkj[k] + (0.0 if design.terms[k].structure.shared else (sizes[k] - 2 - a) / 2.0)
            for k, a, *_ in group.labels.pairs
        ]
    )


def _factor_of_one(structure: Shared, rho: Any) -> Any:
    """Lower-triangular L with unit rows of a correlation matrix with one correlation."""
    import pytensor.tensor as pt

    size = structure.size
    rows: list[list[Any]] = [[pt.zeros(())] * size for _ in range(size)]
    if isinstance(structure, CompoundSymmetry):
        for j in range(size):
            before, here = 1.0 + (j - 1) * rho, 1.0 + j * rho
            rows[j][j] = pt.sqrt((1.0 - rho) * here / before) if j else pt.ones(())
            for i in range(j + 1, size):
                rows[i][j] = rho * (pt.sqrt((1.0 - rho) / (before * here)) if j else 1.0)
    elif isinstance(structure, AR1):
        powers = [pt.ones(())]
        for _ in range(size - 1):
            powers.append(powers[-1] * rho)
        rest = pt.sqrt(1.0 - rho**2)
        for i in range(size):
            rows[i][: i + 1] = [powers[i], *(powers[i - j] * rest for j in range(1, i + 1))]
    else:
        raise PriorError(
            f"The covariance structure {structure.keyword} has no counterpart in PyMC yet. Sample with "
            "method='importance' or method='quadrature'."
        )
    return pt.stack([pt.stack(row) for row in rows])


def _factor_from_partials(r: Any, size: int) -> Any:
    """Lower-triangular L with unit rows from ``r = (1 + partial correlation) / 2``, pairs a < b."""
    import pytensor.tensor as pt

    pairs = list(zip(*np.triu_indices(size, 1), strict=True))
    rows: list[list[Any]] = [[0.0] * size for _ in range(size)]
    left: list[Any] = [1.0] * size
    for k, (a, b) in enumerate(pairs):
        rows[b][a] = (2.0 * r[k] - 1.0) * left[b]
        left[b] = left[b] * 2.0 * pt.sqrt(r[k] * (1.0 - r[k]))
    for k in range(size):
        rows[k][k] = left[k]
    return pt.stack([pt.stack(row) for row in rows])


def _sd(name: str, priors: Sequence[SdPrior], group: GroupLayout | None = None) -> Any:
    """Standard deviations: one vector if their priors are of one family, else one variable each."""
    import pymc as pm
    import pytensor.tensor as pt

    if group is None:
        return _sd_variable(name, [priors[0]], None)
    if len({type(prior) for prior in priors}) == 1:
        return _sd_variable(name, priors, group.sd_dim)
    parts = [
        _sd_variable(f"{name}__{label.name}", [prior], None) for label, prior in zip(group.sds, priors, strict=True)
    ]
    return pm.Deterministic(name, pt.stack(parts), dims=group.sd_dim)


def _sd_variable(name: str, priors: Sequence[SdPrior], dims: str | None) -> Any:
    """A PyMC variable with priors of one family; a scalar if it has no dims."""
    import pymc as pm

    def values(parameter: str) -> Any:
        numbers = [float(getattr(prior, parameter)) for prior in priors]
        return np.array(numbers) if dims else numbers[0]

    match priors[0]:
        case HalfT():
            return pm.HalfStudentT(name, nu=values("df"), sigma=values("scale"), dims=dims)
        case HalfNormal():
            return pm.HalfNormal(name, sigma=values("scale"), dims=dims)
        case Exponential():
            return pm.Exponential(name, scale=values("mean"), dims=dims)
        case Uniform():
            return pm.Uniform(name, lower=0.0, upper=values("upper"), dims=dims)
        case Flat():
            return pm.HalfFlat(name, dims=dims)
        case Power():
            sd = pm.HalfFlat(name, dims=dims)
            pm.Potential(f"{name}_prior", (values("exponent") * pm.math.log(sd)).sum())
            return sd
        case InverseGammaVariance():
            return _root_inverse_gamma(name, values("shape"), values("rate"), dims)
    raise PriorError(
        f"The prior of {name} is {priors[0]!r}, which has no counterpart in PyMC. Use one of the "
        "priors of bayeslmm, or sample with method='importance'."
    )


def _root_inverse_gamma(name: str, shape: Any, rate: Any, dims: str | None) -> Any:
    """Square root of an inverse-gamma variance; PyMC derives its density."""
    import pymc as pm

    def root(alpha: Any, beta: Any, size: Any) -> Any:
        return pm.math.sqrt(pm.InverseGamma.dist(alpha=alpha, beta=beta, size=size))

    positive = pm.distributions.transforms.log
    return pm.CustomDist(name, shape, rate, dist=root, transform=positive, dims=dims)
