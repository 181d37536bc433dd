"""Leave-one-out cross-validation in which only the variance parameters are reweighted.

Given the variance parameters the predictive density of the rows left out is known exactly (`likelihood.leave_out`),
with fixed and random effects integrated out. The importance ratio of a draw is one over that density, so what has to
be bridged by weights is the change of a handful of variance parameters; with the usual conditional likelihood it is
that of every random effect too, which fails as soon as a group is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter, warn

import numpy as np
from scipy.special import logsumexp

from bayeslmm.arguments import shown, whole
from bayeslmm.bayes.evidence import integrated, products_like
from bayeslmm.bayes.layout import Layout, level_names, make_layout
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.mixed_normals import by_prior, mixed_normals
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.smooth_groups import smooth_densities
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.design.observations import need_observations
from bayeslmm.design.residual_groups import all_groupings
from bayeslmm.design.without import without_rows
from bayeslmm.errors import ArgumentError, ConvergenceWarning, DesignError, FitError
from bayeslmm.likelihood import CrossProducts, NormalPrior, SummedDesign
from bayeslmm.likelihood.leave_out import GroupsLeftOut, leave_group_out, leave_one_out, lost_without
from bayeslmm.likelihood.wide_groups import pays
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.types import AnyArray, FloatArray, IntArray

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDDataLOO
    from xarray import DataTree

# Draws used unless the design is large: their weights concern few parameters, and draws are independent.
DRAWS = 1000
_FEWEST = 100
# Pareto smoothing takes the largest fifth of the weights, and a tail of fewer than six has no shape.
_LEAST = 30
# Multiplications that a default run may take, some minutes of one core.
_WORK = 1e13


@dataclass(frozen=True)
class LeftOutDraws:
    """Log densities at the draws that are used, with leading dims chain and draw.

    Attributes
    ----------
    without : FloatArray, shape (chain, draw, units)
        Of each unit (observation or group) given all others.
    kept : FloatArray, shape (chain, draw, units)
        Of a new unit of the same values given all.
    labels : sequence
        Names of the units.
    dim : str
        Their dim.
    name : str
        Name of the variable.
    codes : IntArray or None
        Unit of every row; None for the rows themselves.
    step : int
        Every how-manieth draw was used.
    """

    without: FloatArray
    kept: FloatArray
    labels: Sequence[Any] | AnyArray
    dim: str
    name: str
    codes: IntArray | None
    step: int


def default_draws(design: Design) -> int:
    """How many draws leave-one-out uses if none are asked for."""
    largest = max((len(t.effects) * design.groupings[t.group].n_levels for t in design.terms), default=0)
    width = max(design.q - largest, 0) + design.p + 1
    return int(min(DRAWS, max(_FEWEST, _WORK / (design.n * width**2))))


def leave_out(
    cp: SummedDesign,
    tree: DataTree,
    priors: Priors,
    kind: str,
    group: str | None,
    draws: int | None,
) -> LeftOutDraws:
    """Exact log densities of what is left out, at a thinned set of draws.

    Parameters
    ----------
    cp : SummedDesign
    tree : xarray.DataTree
        With the group posterior.
    priors : Priors
        That the draws were drawn under; precisions of `Priors.heavy` are drawn beside the variance parameters.
    kind : {"observation", "group"}
    group : str or None
        Grouping factor, or that of the residual correlations; may be left out if there is one only.
    draws : int or None

    Raises
    ------
    DesignError
        Unknown kind or factor.
    FitError
        Frequencies with ``kind="observation"``; a unit that a flat coefficient rests on alone; too few draws.
    """
    design, layout = cp.design, make_layout(cp.design)
    units = _units(design, layout, kind, group)
    codes = units.codes
    if codes is None:
        need_observations(design, "ELPD adds up densities", "loo('group') leaves out groups.", FitError)
    if codes is None and design.frequency is not None:
        raise FitError(
            "The rows have frequencies, and ELPD adds up rows, not observations. Write the rows out "
            "(data.loc[data.index.repeat(frequency)]), or leave out groups: loo(kind='group')."
        )
    posterior = tree["posterior"].to_dataset()
    plans = [(default_draws(design) if draws is None else draws, False)]
    if codes is not None and not priors.heavy and pays(cp, codes):
        # Between draws that are interpolated more of them cost nothing.
        plans.insert(0, (DRAWS if draws is None else draws, True))
    for wanted, smooth in plans:
        step = _step(int(posterior["sigma"].size), wanted)
        thinned = posterior.isel(draw=slice(None, None, step))
        values = variance_draws(design, {str(k): v.to_numpy() for k, v in thinned.items()}, priors.changes)
        found = _densities(cp, values, priors, units, kind, smooth)
        if found is not None:
            break
    assert found is not None
    shape = (thinned.sizes["chain"], thinned.sizes["draw"], -1)
    left, kept = (one.reshape(shape) for one in found)
    return LeftOutDraws(left, kept, units.labels, units.dim, units.name, codes, step)


def _densities(
    cp: SummedDesign, values: VarianceDraws, priors: Priors, units: _Units, kind: str, smooth: bool
) -> tuple[FloatArray, FloatArray] | None:
    """Log densities (K, units) at all draws, without each unit and with it; None if they cannot be interpolated."""
    design, codes = cp.design, units.codes
    own = mixed_normals(priors.beta, priors.heavy, values.beta)
    _check_estimable(cp, own[0], lost_without(cp, codes, own[0]), units.labels, kind)
    factors = values.block_factors(cp)

    def at(part: slice | IntArray) -> tuple[list[FloatArray], FloatArray, FloatArray]:
        lam = values.lam[part] if design.residual.names else NO_PARAMETERS
        return [F[part] for F in factors], values.sigma[part], lam

    def left_out(part: slice, prior: NormalPrior | None) -> tuple[FloatArray, FloatArray]:
        chosen, sigma, lam = at(part)
        found = (
            leave_one_out(cp, chosen, sigma, prior, lam)
            if codes is None
            else leave_group_out(cp, chosen, sigma, codes, prior, lam)
        )
        return found.log_density, found.log_density_kept

    def groups(part: IntArray, known: IntArray) -> GroupsLeftOut:
        chosen, sigma, lam = at(part)
        return leave_group_out(cp, chosen, sigma, known, own[0], lam)

    if smooth and codes is not None:
        sizes = np.bincount(codes, weights=design.frequency).astype(float)
        return smooth_densities(partial(groups, known=codes), values, sizes, own[0] is not None)
    without, kept = (np.concatenate(parts) for parts in zip(*by_prior(own, left_out), strict=True))
    return without, kept


def _step(total: int, wanted: int) -> int:
    """Every how-manieth of `total` draws is used so that they are about `wanted`, and no fewer than smoothing needs.

    Raises
    ------
    FitError
    """
    try:
        wanted = whole("draws", wanted, _LEAST)
    except ArgumentError:
        raise FitError(
            f"draws={shown(wanted)}: leave-one-out needs a whole number of at least {_LEAST} draws, because the "
            "weights are "
            "judged by the shape of their largest fifth. Leave draws out, or give e.g. draws=1000."
        ) from None
    if total < _LEAST:
        raise FitError(
            f"The posterior has {total} draws, and leave-one-out needs at least {_LEAST}, because the weights are "
            "judged by the shape of their largest fifth. Sample more: sample(draws=1000)."
        )
    return min(ceil(total / min(int(wanted), total)), total // _LEAST)


@dataclass(frozen=True)
class _Units:
    """What is left out: as in `LeftOutDraws`."""

    labels: Sequence[Any] | AnyArray
    dim: str
    name: str
    codes: IntArray | None


def _units(design: Design, layout: Layout, kind: str, group: str | None) -> _Units:
    if kind == "observation":
        if group is not None:
            raise DesignError(f"group={group!r} goes with kind='group'. Leave it out, or pass kind='group'.")
        return _Units(layout.obs, "obs", layout.response, None)
    if kind != "group":
        raise DesignError(f"kind={kind!r} is unknown. Use 'observation' or 'group'.")
    groupings = all_groupings(design)
    if not groupings:
        raise DesignError("kind='group': the model has no grouping factor, and its residuals are independent.")
    if group is None and len(groupings) == 1:
        group = next(iter(groupings))
    if group not in groupings:
        found = "group was not given" if group is None else f"group={group!r} is no grouping factor"
        raise DesignError(f"{found}; the model has {', '.join(groupings)}. Pass group= one of these.")
    grouping = groupings[group]
    dim, name = level_names(layout, group)
    return _Units(grouping.levels, dim, f"{layout.response}_{name}", grouping.codes)


def _check_estimable(
    cp: CrossProducts, prior: NormalPrior | None, lost: AnyArray, labels: Sequence[Any] | AnyArray, kind: str
) -> None:
    if lost.any():
        names = ", ".join(str(labels[k]) for k in np.flatnonzero(lost)[:8])
        raise FitError(
            f"Without {kind} {names} some fixed effect cannot be estimated, and with a flat prior on it nothing can be "
            "predicted there. Give the fixed effects a proper prior (priors='weak') or leave out another unit."
        )


def psis_loo(left: LeftOutDraws, tree: DataTree, method: str) -> ELPDDataLOO:
    """ELPD by Pareto-smoothed importance sampling, as ArviZ's own object.

    Parameters
    ----------
    left : LeftOutDraws
    tree : xarray.DataTree
        The posterior that `left` is about.
    method : str
        Draws of ``"nuts"`` are correlated, those of the other methods are not.

    Returns
    -------
    arviz_stats.utils.ELPDDataLOO
        Its ``p`` compares with the log density of the units given all data, itself included, as is usual.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Statistics and Computing 27, 1413-1432; Merkle, Furr & Rabe-Hesketh (2019),
    Psychometrika 84, 802-829, for the choice between conditional and marginal likelihoods.
    """
    from arviz_base import from_dict
    from arviz_stats import loo

    names = [str(name) for name in tree["posterior"].data_vars if str(name).startswith(("sigma", "sd_", "corr_"))]
    posterior = {name: tree["posterior"][name].to_numpy()[:, :: left.step] for name in names}
    small = from_dict(
        {"posterior": posterior, "log_likelihood": {left.name: left.without}},
        coords={left.dim: np.asarray(left.labels)},
        dims={left.name: [left.dim]},
    )
    with catch_warnings():
        simplefilter("ignore", UserWarning)
        result = loo(small, pointwise=True, reff=None if method == "nuts" else 1.0)
    draws = left.kept.shape[0] * left.kept.shape[1]
    given_all = logsumexp(left.kept, axis=(0, 1)) - np.log(draws)
    each = result.elpd_i.copy(data=given_all - result.elpd_i.to_numpy())
    return replace(result, p=float(each.sum()), p_loo_i=each)


def _unreliable(result: ELPDDataLOO) -> IntArray:
    # A k that could not be estimated is nan.
    return np.flatnonzero(~(result.pareto_k.to_numpy() <= result.good_k))


def warn_about_k(result: ELPDDataLOO, left: LeftOutDraws) -> None:
    """Name the units whose weights cannot be trusted, and say what to do instead.

    Warns
    -----
    ConvergenceWarning
    """
    bad = _unreliable(result)
    if bad.size:
        names = ", ".join(f"{left.labels[i]} (k {float(result.pareto_k[i]):.2f})" for i in bad[:6])
        warn(
            f"Leaving out {names} changes the posterior of the variances too much for reweighting (Pareto k above "
            f"{result.good_k:.2f}; {bad.size} of {len(left.labels)} units). Pass refit=True to integrate the posterior "
            "without each of these instead.",
            ConvergenceWarning,
            stacklevel=3,
        )


def refitted(
    cp: SummedDesign, priors: Priors, terms: Sequence[FloatArray], left: LeftOutDraws, result: ELPDDataLOO
) -> ELPDDataLOO:
    """The result with units of large Pareto k computed as ``p(y) / p(y without the unit)``; their k is set to 0.

    Parameters
    ----------
    terms : sequence of FloatArray, each (c, c)
        Relative factors near the bulk of the posterior.
    """
    k, elpd = result.pareto_k.to_numpy().copy(), result.elpd_i.to_numpy().copy()
    bad = _unreliable(result)
    if not bad.size:
        return result
    kept = elpd + result.p_loo_i.to_numpy()
    whole = integrated(cp, priors, terms, np.random.default_rng(0)).value
    for unit in bad:
        rows = np.array([unit]) if left.codes is None else np.flatnonzero(left.codes == unit)
        rest = products_like(cp, without_rows(cp.design, rows))
        elpd[unit], k[unit] = whole - integrated(rest, priors, terms, np.random.default_rng(0)).value, 0.0
    return replace(
        result,
        elpd=float(elpd.sum()),
        se=float(np.sqrt(elpd.size * elpd.var())),
        p=float((kept - elpd).sum()),
        warning=False,
        elpd_i=result.elpd_i.copy(data=elpd),
        p_loo_i=result.elpd_i.copy(data=kept - elpd),
        pareto_k=result.pareto_k.copy(data=k),
    )
