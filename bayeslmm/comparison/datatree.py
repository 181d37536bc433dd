"""Bootstrap and profile draws under the names of the posterior, for ArviZ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayeslmm.arguments import MOST_REFITS, whole
from bayeslmm.bayes.layout import make_layout
from bayeslmm.comparison.compared import Compared
from bayeslmm.comparison.draws import profile_draws, replicates
from bayeslmm.comparison.naming import group_names
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior
from bayeslmm.results.labels import Parameter
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from xarray import Dataset, DataTree


# Chains that independent draws are dealt to, so that diagnostics that compare chains can be computed.
_CHAINS = 4


def build_tree(both: Compared, n: int | None, random_seed: int) -> DataTree:
    """See `Comparison.to_datatree`."""
    from xarray import DataTree

    groups = {}
    for group, (name, post) in zip(group_names(both.names), both.by_name.items(), strict=True):
        groups[group] = _parameters_of(both, post).assign_attrs(name=name)
    groups["bootstrap"] = _bootstrap(both, n, random_seed)
    groups["profile"] = _profile(both, n, random_seed)
    return DataTree.from_dict(groups)


def build_trees(both: Compared, n: int | None, random_seed: int) -> dict[str, DataTree]:
    """See `Comparison.datatrees`."""
    from xarray import DataTree

    tree = build_tree(both, n, random_seed)
    size = min(group.sizes["chain"] * group.sizes["draw"] for group in tree.children.values())
    names = dict(zip(group_names(both.names), both.posteriors, strict=True))
    names |= {"bootstrap": "REML bootstrap", "profile": "REML profile"}
    alike = {name: _thinned(tree[group].to_dataset(), size) for group, name in names.items()}
    return {name: DataTree.from_dict({"posterior": group}) for name, group in alike.items()}


def _thinned(group: Dataset, size: int) -> Dataset:
    """At most `size` draws, evenly spaced, in chains of one length: ArviZ aligns the draws of what it compares."""
    from xarray import DataArray, Dataset

    shape = _shape(size)
    variables = {}
    for name, values in group.data_vars.items():
        flat = values.to_numpy().reshape(-1, *values.shape[2:])
        chosen = np.linspace(0, len(flat) - 1, shape[0] * shape[1]).round().astype(int)
        variables[str(name)] = DataArray(flat[chosen].reshape(*shape, *flat.shape[1:]), dims=values.dims)
    return Dataset(variables, coords=_coords(group, shape), attrs=group.attrs)


def _shape(size: int) -> tuple[int, int]:
    chains = _CHAINS if size >= 4 * _CHAINS else 1
    return chains, size // chains


def _coords(group: Dataset, shape: tuple[int, int]) -> dict[str, object]:
    own = {str(name): c for name, c in group.coords.items() if name not in ("chain", "draw")}
    return own | {"chain": np.arange(shape[0]), "draw": np.arange(shape[1])}


def _variable(both: Compared, p: Parameter) -> str:
    """Name of the posterior variable that holds a parameter; one of residuals is in the user's units here."""
    if p.kind in ("sigma", "fixed", "residual"):
        return {"sigma": "sigma", "fixed": "beta", "residual": p.label.replace("/", "_")}[p.kind]
    layout = next(group for group in make_layout(both.design).groups if group.labels.group == p.group)
    return layout.sd if p.kind == "sd" else layout.corr


def _parameters_of(both: Compared, post: Posterior) -> Dataset:
    """The parameters of a posterior, without random effects and what follows from them."""
    posterior: Dataset = post.data["posterior"].to_dataset()
    own = {_variable(both, p): post._by_chain(post.draws(p.label)) for p in both.parameters if p.kind == "residual"}
    known = posterior.assign({name: (("chain", "draw"), values) for name, values in own.items()})
    return known[list(dict.fromkeys(_variable(both, p) for p in both.parameters))]


def _bootstrap(both: Compared, n: int | None, random_seed: int) -> Dataset:
    boot = both.bootstrap(n, random_seed)
    attrs = {"method": "parametric bootstrap of the REML fit", "not_converged": boot.failed}
    return _dataset(both, {p.label: boot.estimates[p.label].to_numpy() for p in both.parameters}, attrs)


def _profile(both: Compared, n: int | None, random_seed: int) -> Dataset:
    n = whole("n", replicates(both.reml) if n is None else n, 1, MOST_REFITS, DesignError)
    draws = profile_draws(both.reml, both.parameters, n, np.random.default_rng(random_seed))
    return _dataset(both, draws, {"method": "confidence distributions from profiles of REML, one parameter at a time"})


def _dataset(both: Compared, draws: dict[str, FloatArray], attrs: dict[str, object]) -> Dataset:
    """Draws (S,) by label with the variables, dims and coords of the posterior; S is cut to full chains."""
    from xarray import DataArray, Dataset

    template = _parameters_of(both, both.posterior)
    shape = _shape(next(iter(draws.values())).size)
    variables = {}
    for name, like in template.data_vars.items():
        values = np.empty((*shape, *like.shape[2:]))
        for p in both.parameters:
            if _variable(both, p) == name:
                place = (...,) if p.kind in ("sigma", "residual") else (..., p.column)
                values[place] = draws[p.label][: shape[0] * shape[1]].reshape(shape)
        variables[str(name)] = DataArray(values, dims=like.dims)
    return Dataset(variables, coords=_coords(template, shape), attrs=attrs)
