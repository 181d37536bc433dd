"""Draws of means and of new observations at given rows from a posterior, a few rows at a time; groups of a DataTree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from bayeslmm.arguments import MOST_DRAWS, affordable, generator, shown, whole
from bayeslmm.bayes.datatree import at_mean_variables, groups_tree, with_group
from bayeslmm.bayes.default_priors import PriorSpec, resolve_priors
from bayeslmm.bayes.given_residuals import flat_effects, residuals_given
from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.prior_draws import draw_prior, simulate_response
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows, own_rows
from bayeslmm.errors import ArgumentError, DesignError
from bayeslmm.types import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from xarray import DataTree

# Doubles of draws held at once.
_CHUNK = 250_000
_NOISE, _LEVELS = 0, 1


@dataclass(frozen=True)
class Request:
    """What is drawn at every row.

    Attributes
    ----------
    groups : tuple of str
        Grouping factors whose effects are part of the mean.
    observation : bool
        Whether residual noise is added: a new observation instead of its mean.
    sample_new : bool
        Whether a level that the design does not have gets effects drawn from the distribution between levels,
        the same ones in all its rows; zero otherwise.
    known_residuals : bool
        Whether residuals of the data that are correlated with those of the rows are part of what is known.
    """

    groups: tuple[str, ...]
    observation: bool = False
    sample_new: bool = False
    known_residuals: bool = False


def predictive_draws(
    design: Design, posterior: Mapping[str, AnyArray], rows: Rows, request: Request, rng: np.random.Generator
) -> Iterator[tuple[IntArray, FloatArray, FloatArray]]:
    """Draws at the complete rows.

    Parameters
    ----------
    design : Design
    posterior : mapping of str to array
        Variables of `Layout.posterior_dims`, leading dims chain and draw.
    rows : Rows
    request : Request
    rng : numpy.random.Generator

    Yields
    ------
    IntArray
        Some of the rows; those whose residuals hang together come at once.
    FloatArray, shape (S, k)
        Draws of their means, chain after chain.
    FloatArray, shape (S, k)
        Draws of an observation, or of the mean again if no observation is asked for.

    Raises
    ------
    FitError
        The draws of the random effects were not kept.
    """
    draws = variance_draws(design, posterior)
    groups = [group for group in make_layout(design).groups if group.labels.group in request.groups]
    entropy = int(rng.integers(2**63))
    noise = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(_NOISE,)))
    columns, effects = _known_effects(design, posterior, rows, groups)
    for part in _together(rows, request, max(1, _CHUNK // draws.sigma.size)):
        own = rows.part(part)
        # Row by row in memory, so that the draws of an effect are added to those of its rows as they lie.
        mean = (own.X @ draws.beta.T).T
        if own.offset is not None:
            mean += own.offset
        if columns.shape[1]:
            mean += (columns[part] @ effects).T
        if request.sample_new:
            for position, group in enumerate(groups):
                _add_new(mean, design, own, group, draws, (entropy, position))
        # Row after row, so that the draws do not depend on how many rows are taken at once.
        z = noise.standard_normal((own.n, draws.sigma.size)).T if request.observation else None
        if request.known_residuals:
            given = residuals_given(design, posterior, draws, own, z)
            mean += given.mean
            yield part, mean, mean + given.about
        elif z is None:
            yield part, mean, mean
        else:
            z = draws.sigma[:, None] * z
            yield part, mean, mean + own.observed.color(draws.lam, z[..., None])[..., 0]


def _together(rows: Rows, request: Request, most: int) -> Iterator[IntArray]:
    """Rows, about `most` at a time, none without those that its residual depends on."""
    clusters = rows.observed.clusters if request.observation or request.known_residuals else None
    if clusters is None:
        clusters = np.arange(rows.n)
    order = np.argsort(clusters, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(clusters[order])) + 1, rows.n)
    start = 0
    while start < rows.n:
        # As many groups as fit, and one at least.
        last = max(np.searchsorted(ends, start + most, side="right") - 1, np.searchsorted(ends, start, side="right"))
        yield order[start : ends[last]]
        start = int(ends[last])


def _columns(rows: Rows, group: GroupLayout) -> FloatArray:
    return np.concatenate([rows.Z[k] for k in group.labels.terms], axis=1)


def _known_effects(
    design: Design, posterior: Mapping[str, AnyArray], rows: Rows, groups: Sequence[GroupLayout]
) -> tuple[sparse.csr_array, FloatArray]:
    """Columns (n, q) of the effects of levels that the design has, and draws (q, S) of these."""
    columns, effects = [sparse.csr_array((rows.n, 0))], list[FloatArray]()
    for group in groups:
        codes, Z = rows.levels[group.labels.group].codes, _columns(rows, group)
        n_levels, c = design.groupings[group.labels.group].n_levels, Z.shape[1]
        known = np.flatnonzero(codes < n_levels)
        if known.size:
            places = codes[known, None] * c + np.arange(c)
            entries = Z[known].ravel(), (np.repeat(known, c), places.ravel())
            columns.append(sparse.csr_array(entries, shape=(rows.n, n_levels * c)))
            b = flat_effects(posterior, group)
            effects.append(b.reshape(b.shape[0], -1).T)
    if not effects:
        return columns[0], np.empty((0, 1))
    return sparse.csr_array(sparse.hstack(columns, format="csr")), np.ascontiguousarray(np.concatenate(effects))


def _add_new(
    mean: FloatArray, design: Design, rows: Rows, group: GroupLayout, draws: VarianceDraws, key: tuple[int, int]
) -> None:
    codes = rows.levels[group.labels.group].codes
    first = design.groupings[group.labels.group].n_levels
    for code in np.unique(codes[codes >= first]):
        # Every level has numbers of its own, the same whenever its rows come up.
        seed = np.random.SeedSequence(key[0], spawn_key=(_LEVELS, key[1], int(code) - first))
        rng = np.random.default_rng(seed)
        at = np.flatnonzero(codes == code)
        for k in group.labels.terms:
            T = draws.factors[k]
            z = draws.sigma[:, None, None] * rng.standard_normal((T.shape[0], T.shape[1], 1))
            mean[:, at] += (T @ z)[:, :, 0] @ rows.Z[k][at].T


def posterior_predictive(design: Design, tree: DataTree, rng: np.random.Generator) -> DataTree:
    """A new tree with the group posterior_predictive: a new observation at every row of the data, per draw.

    Parameters
    ----------
    design : Design
        With frequencies, one observation for one copy of each row.
    tree : xarray.DataTree
        With a posterior.
    rng : numpy.random.Generator
    """
    groups = tuple(design.groupings)
    posterior: Any = tree["posterior"].to_dataset()
    shape = posterior["sigma"].shape
    values = np.empty((posterior["sigma"].size, design.n))
    for part, _, drawn in predictive_draws(design, posterior, own_rows(design, groups), Request(groups, True), rng):
        values[:, part] = drawn
    layout = make_layout(design)
    return with_group(tree, layout, "posterior_predictive", {layout.response: values.reshape(*shape, design.n)})


def prior_tree(
    design: Design, priors: Priors, draws: int, rng: np.random.Generator, predictive: bool = True
) -> DataTree:
    """Draws of all parameters from the prior, and of a response for each.

    Parameters
    ----------
    design : Design
    priors : Priors
        Proper in every parameter.
    draws : int
        One chain of so many.
    rng : numpy.random.Generator
    predictive : bool
        Whether responses are drawn, n numbers per draw.

    Returns
    -------
    xarray.DataTree
        Groups prior, prior_predictive, observed_data.

    Raises
    ------
    PriorError
        The prior is improper.
    """
    layout, drawn = make_layout(design), draw_prior(design, priors, draws, rng)
    effects = {design.terms[terms[0]].group: b for terms, b in zip(drawn.block_terms, drawn.b, strict=True)}
    prior = {"beta": drawn.beta, "sigma": drawn.sigma}
    for group in layout.groups:
        prior[group.sd] = np.concatenate([drawn.sds[k] for k in group.labels.terms], axis=1)
        if group.pairs:
            prior[group.corr] = np.stack([drawn.corrs[k][:, a, b] for k, a, b, _ in group.labels.pairs], axis=1)
        prior |= at_mean_variables(group, priors, drawn)
        prior[group.b] = effects[group.labels.group]
    if design.residual.names:
        prior |= dict(zip(design.residual.names, drawn.lam.T, strict=True))
    from bayeslmm.bayes.free_variables import free_variables

    names = [name for name in (*layout.posterior_dims, *layout.at_mean_dims) if name in prior]
    draws_of = {name: prior[name][None] for name in names}
    groups: dict[str, dict[str, Any]] = {"prior": draws_of | free_variables(design, priors, draws_of)}
    if predictive:
        groups["prior_predictive"] = {layout.response: simulate_response(design, drawn, rng)[None]}
    groups["observed_data"] = {layout.response: design.y}
    return groups_tree(layout, groups, {"formula": design.formula})


def prior_predictive(
    design: Design, priors: PriorSpec = None, draws: int = 1000, random_seed: int | np.random.Generator | None = None
) -> DataTree:
    """Draws from the prior and responses given them: what the model expects before it has seen the data.

    Parameters
    ----------
    design : Design
    priors : str, Priors or mapping, optional
        As for `Model.sample`; they have to be proper, e.g. ``"weak"``.
    draws : int
    random_seed : int or Generator, optional

    Returns
    -------
    xarray.DataTree
        Groups prior, prior_predictive, observed_data.

    Raises
    ------
    PriorError
        A prior is improper, as the default one of the fixed effects is.
    """
    check_prior_draws(draws)
    rng = generator(random_seed, error=DesignError)
    affordable("draws", int(draws), design.n + design.q + design.p + 1, DesignError)
    return prior_tree(design, resolve_priors(design, priors), int(draws), rng)


def check_prior_draws(draws: int) -> None:
    """Refuse what is no number of draws from the prior.

    Raises
    ------
    DesignError
    """
    try:
        whole("draws", draws, 1, MOST_DRAWS)
    except ArgumentError:
        raise DesignError(
            f"draws={shown(draws)} is not a positive whole number, or above {MOST_DRAWS:,}, so that the prior cannot "
            "be "
            "drawn from so many times. Give e.g. draws=1000."
        ) from None
