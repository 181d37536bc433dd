"""Posterior draws as an ArviZ DataTree: the same groups, names, dims and coords for all methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from math import gcd
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bayeslmm.bayes.collapsed import ChainDiagnostics, CollapsedDraws, Diagnostics
from bayeslmm.bayes.layout import GroupLayout, Layout, group_columns, make_layout
from bayeslmm.bayes.log_likelihood import pointwise
from bayeslmm.bayes.nuts import NutsDraws
from bayeslmm.bayes.prior_draws import PriorDraws
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.likelihood import CrossProducts, SummedDesign
from bayeslmm.types import AnyArray, FloatArray

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

_WITHOUT_DRAWS = ("observed_data", "constant_data")
# Groups with draws of parameters.
_SAMPLED = {"posterior", "prior"}


def build_datatree(
    cp: SummedDesign,
    priors: Priors,
    draws: CollapsedDraws,
    *,
    chains: int = 4,
    sample_stats: Mapping[str, FloatArray] | None = None,
    log_likelihood: bool = False,
) -> DataTree:
    """DataTree of a collapsed posterior.

    Parameters
    ----------
    cp : SummedDesign
        What `draws` were drawn from.
    priors : Priors
    draws : CollapsedDraws
        S independent draws.
    chains : int
        The draws are independent; they are dealt to this many chains (or the largest divisor it
        shares with S) so that diagnostics that compare chains can be computed.
    sample_stats : mapping, optional
        Name to one number per draw, shape (S,).
    log_likelihood : bool
        Whether to add the pointwise log likelihood, S times n numbers. With frequencies it is that of one copy of
        each row; the frequencies are in constant_data.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, observed_data, constant_data and, if asked for,
        log_likelihood.
    """
    layout = make_layout(cp.design)
    shape = _chain_shape(draws.sigma.size, chains)
    posterior = _by_chain(_posterior(cp, layout, priors, draws), shape)
    stats = _by_chain(sample_stats or {}, shape)
    attrs = {"method": draws.diagnostics.method, **_library("bayeslmm")}
    certificate = _certificate(draws.diagnostics)
    return _tree(cp.design, priors, posterior, stats, attrs, certificate, log_likelihood)


def nuts_datatree(design: Design, priors: Priors, draws: NutsDraws, *, log_likelihood: bool = False) -> DataTree:
    """DataTree of a posterior drawn by NUTS: the groups and variables of `build_datatree`.

    Parameters
    ----------
    design : Design
    priors : Priors
    draws : NutsDraws
    log_likelihood : bool

    Returns
    -------
    xarray.DataTree
    """
    attrs = {"method": "nuts", **_library(draws.library)}
    posterior = dict(draws.posterior)
    if design.sigma is not None:
        posterior["sigma"] = np.full(next(iter(posterior.values())).shape[:2], design.sigma)
    return _tree(design, priors, posterior, draws.stats, attrs, {}, log_likelihood)


def add_log_likelihood(tree: DataTree, design: Design) -> DataTree:
    """A new tree with the group log_likelihood: log density of each response given all parameters.

    Parameters
    ----------
    tree : xarray.DataTree
        From `build_datatree` or `nuts_datatree`.
    design : Design

    Returns
    -------
    xarray.DataTree
    """
    layout = make_layout(design)
    posterior = {name: tree["posterior"][name].to_numpy() for name in layout.posterior_dims}
    return with_group(tree, layout, "log_likelihood", {layout.response: pointwise(design, posterior)})


def with_group(tree: DataTree, layout: Layout, name: str, variables: Mapping[str, AnyArray]) -> DataTree:
    """A new tree with one more group, whose variables have the leading dims chain and draw."""
    out = tree.copy()
    out[name] = groups_tree(layout, {name: variables}, tree.attrs)[name]
    return out


def without_free_variables(tree: DataTree, design: Design, priors: Priors) -> DataTree:
    """A new tree without what `restored` computes again."""
    from xarray import DataTree

    from bayeslmm.bayes.free_variables import free_variables

    out = tree.copy()
    for group in _SAMPLED & set(tree.children):
        own: Any = tree[group].to_dataset()
        out[group] = DataTree(own.drop_vars(list(free_variables(design, priors, own)), errors="ignore"))
    return out


def restored(tree: DataTree, design: Design, priors: Priors) -> DataTree:
    """A tree read from a file, by whatever version, with the order and types of one that was just made."""
    from xarray import DataTree

    from bayeslmm.bayes.free_variables import free_variables

    out, layout = tree.copy(), make_layout(design)
    for group in _SAMPLED & set(tree.children):
        own = _in_order(tree[group].to_dataset(), layout.posterior_dims)
        out[group] = DataTree(own.assign(free_variables(design, priors, own)))
    if "constant_data" in tree.children:
        data = _in_order(tree["constant_data"].to_dataset(), [*layout.data_dims, *covariates(design, layout)])
        whole = {name: values.copy(data=as_in_pymc(values.to_numpy())) for name, values in data.data_vars.items()}
        out["constant_data"] = DataTree(data.assign(whole))
    return out


def _in_order(data: Dataset, names: Iterable[str]) -> Any:
    """The variables of these names first; zarr keeps no order."""
    first = [name for name in names if name in data]
    return data[[*first, *(name for name in data.data_vars if name not in first)]]


def _tree(
    design: Design,
    priors: Priors,
    posterior: Mapping[str, AnyArray],
    stats: Mapping[str, AnyArray],
    attrs: Mapping[str, str],
    certificate: Mapping[str, float],
    log_likelihood: bool,
) -> DataTree:
    layout = make_layout(design)
    common = {**attrs, "formula": design.formula}
    from bayeslmm.bayes.free_variables import free_variables

    groups: dict[str, dict[str, Any]] = {
        "posterior": dict(posterior) | free_variables(design, priors, posterior),
        "sample_stats": dict(stats),
    }
    if design.facts is None:
        groups |= {"observed_data": {layout.response: design.y}, "constant_data": constant_data(design, layout)}
    if log_likelihood:
        groups["log_likelihood"] = {layout.response: pointwise(design, posterior)}
    extra = {"posterior": {"priors": _prior_text(layout, priors)}, "sample_stats": certificate}
    return groups_tree(layout, groups, common, extra)


def groups_tree(
    layout: Layout,
    groups: Mapping[str, Mapping[str, AnyArray]],
    common: Mapping[Any, Any],
    extra: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> DataTree:
    """Groups of the ArviZ schema, one dataset each: building every variable by itself takes as long as the sampling.

    Variables that the layout does not know are pairs of dims and values.
    """
    from xarray import Dataset, DataTree

    dims = layout.posterior_dims | layout.at_mean_dims | layout.data_dims
    labels = {dim: np.asarray(values) for dim, values in layout.sampled_coords.items()}
    created = {**_library("bayeslmm", "creation_library"), "created_at": datetime.now(UTC).isoformat()}
    out = {}
    for group, variables in groups.items():
        sampled = () if group in _WITHOUT_DRAWS else ("chain", "draw")
        own = {
            name: values if isinstance(values, tuple) else ((*sampled, *dims.get(name, ())), values)
            for name, values in variables.items()
        }
        used = {dim for names, _ in own.values() for dim in names}
        if "obs" in used and "obs" not in labels:
            labels = {"obs": np.asarray(layout.obs), **labels}
        coords = {dim: values for dim, values in labels.items() if dim in used}
        if sampled and own:
            shape = next(iter(own.values()))[1].shape
            coords = {"chain": np.arange(shape[0]), "draw": np.arange(shape[1]), **coords}
        out[group] = Dataset(own, coords, {**common, **created, **extra.get(group, {})})
    tree = DataTree.from_dict(out)
    tree.attrs = {**common, **created}
    return tree


def _posterior(cp: CrossProducts, layout: Layout, priors: Priors, draws: CollapsedDraws) -> dict[str, FloatArray]:
    effects = {block.grouping.name: b for block, b in zip(cp.blocks, draws.b, strict=True)}
    out = {"beta": draws.beta} if layout.coef else {}
    out["sigma"] = draws.sigma
    out |= dict(zip(layout.lam, draws.lam.T, strict=True))
    for group in layout.groups:
        out[group.sd] = np.concatenate([draws.sds[k] for k in group.labels.terms], axis=1)
        if group.pairs:
            out[group.corr] = _correlations(group, draws.corrs)
        out |= at_mean_variables(group, priors, draws)
        b = effects[group.labels.group]
        if b is not None:
            out[group.b] = b
    return {name: out[name] for name in (*layout.posterior_dims, *layout.at_mean_dims) if name in out}


def at_mean_variables(group: GroupLayout, priors: Priors, draws: CollapsedDraws | PriorDraws) -> dict[str, FloatArray]:
    """Sds and correlations of a grouping factor's effects at the means, where some of its priors are about these."""
    if all(priors.changes[k] is None for k in group.labels.terms):
        return {}
    sds = np.concatenate([draws.sds_at_mean[k] for k in group.labels.terms], axis=1)
    return {group.sd_at_mean: sds, group.corr_at_mean: _correlations(group, draws.corrs_at_mean)}


def _correlations(group: GroupLayout, corrs: Sequence[FloatArray]) -> FloatArray:
    return np.stack([corrs[k][:, a, b] for k, a, b, _ in group.labels.pairs], axis=1)


def constant_data(design: Design, layout: Layout) -> dict[str, Any]:
    """Variables of the group constant_data: arrays with the dims of the layout, or pairs of dims and array."""
    data: dict[str, Any] = {"X": design.X} if layout.coef else {}
    data |= {"weights": np.ones(design.n)} | design.residual.data()
    data["offset"] = np.zeros(design.n) if design.offset is None else design.offset
    if design.frequency is not None:
        data["frequency"] = as_in_pymc(design.frequency)
    for group in layout.groups:
        data[group.columns] = group_columns(design, group)
        data[group.codes] = as_in_pymc(design.groupings[group.labels.group].codes)
    return data | {name: (("obs",), values) for name, values in covariates(design, layout).items()}


def as_in_pymc(values: AnyArray) -> AnyArray:
    """Whole numbers in the type that ``pm.Data`` gives them, which compares data by type, too."""
    fits = np.iinfo(np.int32)
    small = values.dtype.kind in "iu" and (not values.size or fits.min <= values.min() <= values.max() <= fits.max)
    return values.astype(np.int32) if small else values


def covariates(design: Design, layout: Layout) -> dict[str, FloatArray]:
    """Columns of the data that are columns of X or Z as they are, by name, where no other variable is called so."""
    if design.recipe is None:
        return {}
    taken = {"chain", "draw", "sample", "obs", *layout.sampled_coords, *layout.data_dims, *layout.posterior_dims}
    numbers = {name for name, column in design.recipe.columns.items() if column.kind in ("number", "boolean")}
    known = {name for name in numbers - taken if "/" not in name}
    columns = [(design.fixed_names, design.X), *((term.effects, term.Z) for term in design.terms)]
    found: dict[str, FloatArray] = {}
    for names, values in columns:
        found |= {name: values[:, k] for k, name in enumerate(names) if name in known and name not in found}
    return found


def _chain_shape(total: int, chains: int) -> tuple[int, int]:
    used = gcd(total, chains)
    return used, total // used


def _by_chain(arrays: Mapping[str, FloatArray], shape: tuple[int, int]) -> dict[str, FloatArray]:
    return {name: values.reshape(*shape, *values.shape[1:]) for name, values in arrays.items()}


def _certificate(diagnostics: Diagnostics | ChainDiagnostics) -> dict[str, float]:
    # netCDF attributes know neither None nor a method name among numbers.
    values = asdict(diagnostics)
    check = values.pop("self_check", None) or {}
    numbers = {f"self_check_{name}": value for name, value in check.items() if not isinstance(value, str)}
    del values["method"]
    return {name: value for name, value in {**values, **numbers}.items() if value is not None}


def _library(name: str, role: str = "inference_library") -> dict[str, str]:
    try:
        number = version(name)
    except PackageNotFoundError:
        # Run from a source tree.
        number = str(getattr(import_module(name), "__version__", "unknown"))
    return {role: name, f"{role}_version": number}


def _beta_text(layout: Layout, priors: Priors) -> list[str]:
    prior, p = priors.beta, len(layout.coef)
    texts = ["flat"] * p
    if prior is not None:
        known = zip(prior.centre, prior.marginal_sd, strict=True)
        texts = [f"normal({mean:.4g}, {sd:.4g})" if np.isfinite(sd) else "flat" for mean, sd in known]
    for j, own in priors.heavy:
        texts[j] = str(own)
    if set(texts) == {"flat"}:
        return ["beta ~ flat"]
    return [f"beta[{coef}] ~ {text}" for coef, text in zip(layout.coef, texts, strict=True)]


def _sd_names(group: GroupLayout, priors: Priors, position: int) -> list[str]:
    """Variable that each sd of a term has its prior as."""
    change, count = priors.changes[position], len(priors.sds[position])
    moved = (False,) * count if change is None else change.moved
    return [group.sd_at_mean if other else group.sd for other in moved]


def _prior_text(layout: Layout, priors: Priors) -> str:
    sigma = f"sigma {priors.sigma}" if priors.sigma_known else f"sigma ~ {priors.sigma}"
    lines = [sigma, *_beta_text(layout, priors)]
    for group in layout.groups:
        sds = [priors.joints[k] or prior for k in group.labels.terms for prior in priors.sds[k]]
        names = [name for k in group.labels.terms for name in _sd_names(group, priors, k)]
        labels = zip(names, group.labels.effects, sds, strict=True)
        lines += [f"{name}[{effect}] ~ {prior}" for name, effect, prior in labels]
        shapes = {(priors.changes[k] is not None, priors.lkj[k]): None for k, *_ in group.labels.pairs}
        lines += [f"{group.corr_at_mean if centred else group.corr} ~ LKJ({eta:g})" for centred, eta in shapes]
    return "; ".join(lines)
