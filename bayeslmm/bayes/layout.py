"""Names, dims and coords of a posterior, shared by the collapsed path and the hierarchical model.

Posterior variables are ``beta``, ``sigma`` and, for every grouping factor g, ``sd_g``, ``corr_g``
and ``b_g``. The terms of one factor are merged in the order of the formula:
``(1 | g) + (0 + x | g)`` has one ``sd_g`` with two entries and no ``corr_g``. Effects that share an sd have one
entry, named after their structure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels
from bayeslmm.design.lazy import Deferred, Lazy
from bayeslmm.design.variances import SdLabel, variance_labels
from bayeslmm.types import AnyArray, FloatArray, IntArray

# Dims of every posterior; xarray and PyMC allow no variable and no other dim of these names.
# ArviZ stacks chain and draw into "sample".
_SAMPLE_DIMS = ("chain", "draw", "sample")


@dataclass(frozen=True)
class GroupLayout:
    """Names of everything that belongs to one grouping factor.

    Attributes
    ----------
    labels : GroupLabels
        Levels, effects and correlations.
    sds : tuple of SdLabel
        Standard deviations.
    name : str
        The grouping factor as it appears in variable names.
    dim : str
        Dim of its levels: the name itself unless a variable is called so.
    at_mean : str
        What sets names of quantities at the means of columns apart from those at their zeros.
    """

    labels: GroupLabels
    sds: tuple[SdLabel, ...]
    name: str
    dim: str
    at_mean: str = "at_mean"

    @property
    def effect_dim(self) -> str:
        return f"{self.dim}__effect"

    @property
    def shared(self) -> bool:
        """Whether some effects share an sd."""
        return len(self.sds) < len(self.labels.effects)

    @property
    def sd_dim(self) -> str:
        """Dim of the sds: that of the effects if every effect has its own."""
        return f"{self.dim}__sd" if self.shared else self.effect_dim

    @cached_property
    def sd_of_effect(self) -> IntArray:
        """Position of the sd of every effect."""
        return np.array([column for column, sd in enumerate(self.sds) for _ in sd.effects])

    @property
    def pair_dim(self) -> str:
        return f"{self.dim}__pair"

    @property
    def pairs(self) -> tuple[str, ...]:
        """``"Intercept.Days"`` for every estimated correlation; empty if there is none."""
        return tuple(label for *_, label in self.labels.pairs)

    @property
    def pair_effects(self) -> tuple[list[int], list[int]]:
        """Both effects of every pair among all effects of the factor."""
        starts = {term: columns.start for term, columns in zip(self.labels.terms, self.labels.slices, strict=True)}
        places = [(starts[term] + a, starts[term] + b) for term, a, b, _ in self.labels.pairs]
        return [a for a, _ in places], [b for _, b in places]

    @property
    def sd(self) -> str:
        return f"sd_{self.name}"

    @property
    def corr(self) -> str:
        return f"corr_{self.name}"

    @property
    def b(self) -> str:
        return f"b_{self.name}"

    @property
    def sd_at_mean(self) -> str:
        return f"sd_{self.at_mean}_{self.name}"

    @property
    def corr_at_mean(self) -> str:
        return f"corr_{self.at_mean}_{self.name}"

    @property
    def b_at_mean(self) -> str:
        return f"b_{self.at_mean}_{self.name}"

    @property
    def codes(self) -> str:
        """Constant data: level of each observation."""
        return f"codes_{self.name}"

    @property
    def columns(self) -> str:
        """Constant data: columns of Z."""
        return f"Z_{self.name}"


@dataclass(frozen=True)
class Layout:
    """Names, dims and coords of one design's posterior.

    Attributes
    ----------
    response : str
        Name of the observed variable.
    coef : tuple of str
        Coords of ``beta``.
    obs : IntArray or tuple of str
        Coords of the observations; made when they are asked for.
    groups : tuple of GroupLayout
        Grouping factors in order of first appearance.
    counted : bool
        Whether rows have frequencies.
    lam : tuple of str
        Parameters of the residual structure, variables of their own.
    row_data : tuple of str
        Data (n,) of the residual structure.
    """

    response: str
    coef: tuple[str, ...]
    obs: Lazy[IntArray | tuple[str, ...]] = Lazy()  # noqa: RUF009
    groups: tuple[GroupLayout, ...] = ()
    counted: bool = False
    lam: tuple[str, ...] = ()
    row_data: tuple[str, ...] = ()

    @cached_property
    def coords(self) -> dict[str, IntArray | tuple[str, ...]]:
        """Dim to labels."""
        return {"obs": self.obs} | self.sampled_coords

    @cached_property
    def sampled_coords(self) -> dict[str, tuple[str, ...]]:
        """The same without the observations."""
        coords: dict[str, tuple[str, ...]] = {}
        if self.coef:
            coords["coef"] = self.coef
        for group in self.groups:
            coords[group.dim] = group.labels.levels
            coords[group.effect_dim] = group.labels.effects
            if group.shared:
                coords[group.sd_dim] = tuple(sd.name for sd in group.sds)
            if group.pairs:
                coords[group.pair_dim] = group.pairs
        return coords

    @cached_property
    def posterior_dims(self) -> dict[str, tuple[str, ...]]:
        """Posterior variable to its dims (chain and draw left out), in the order of printouts.

        Random effects come before their sds: ArviZ stacks the dims of all variables in the order in which a dataset
        has met them, but labels them in the order that each variable has, and numbers are under wrong labels where
        the two differ.
        """
        dims: dict[str, tuple[str, ...]] = {"beta": ("coef",)} if self.coef else {}
        dims |= dict.fromkeys(("sigma", *self.lam), ())
        dims |= {group.b: (group.dim, group.effect_dim) for group in self.groups}
        dims |= {group.sd: (group.sd_dim,) for group in self.groups}
        dims |= {group.corr: (group.pair_dim,) for group in self.groups if group.pairs}
        return dims

    @cached_property
    def at_mean_dims(self) -> dict[str, tuple[str, ...]]:
        """Further posterior variables, where priors are about effects at the means of columns, and their dims."""
        correlated = [group for group in self.groups if group.pairs]
        dims: dict[str, tuple[str, ...]] = {group.sd_at_mean: (group.sd_dim,) for group in correlated}
        return dims | {group.corr_at_mean: (group.pair_dim,) for group in correlated}

    @cached_property
    def data_dims(self) -> dict[str, tuple[str, ...]]:
        """Observed and constant data to their dims."""
        dims: dict[str, tuple[str, ...]] = {self.response: ("obs",)}
        dims |= {"X": ("obs", "coef")} if self.coef else {}
        dims |= dict.fromkeys(("weights", "offset", *self.row_data), ("obs",))
        dims |= {"frequency": ("obs",)} if self.counted else {}
        for group in self.groups:
            dims[group.columns] = ("obs", group.effect_dim)
            dims[group.codes] = ("obs",)
        return dims


def level_names(layout: Layout, group: str) -> tuple[str, str]:
    """Dim of the levels of a factor and its name within those of variables; also of one without random effects."""
    for own in layout.groups:
        if own.labels.group == group:
            return own.dim, own.name
    name = _without_slash(group)
    return _free(name, {*_SAMPLE_DIMS, "obs", layout.response, *layout.posterior_dims}), name


def make_layout(design: Design) -> Layout:
    """Layout of a design.

    Parameters
    ----------
    design : Design

    Returns
    -------
    Layout
    """
    labels = variance_labels(design)
    counted = design.frequency is not None
    names = _group_names(label.group for label, _ in labels)
    lam, row_data = design.residual.names, tuple(design.residual.data())
    variables = _variable_names(names) | ({"frequency"} if counted else set()) | {*lam, *row_data}
    response = _free(_without_slash(design.response), variables)
    taken = {*variables, response}
    at_mean = "at_mean"
    while any(name.startswith(at_mean) for name in names):
        at_mean += "_"
    groups = tuple(
        GroupLayout(label, sds, name, _free(name, taken), at_mean)
        for (label, sds), name in zip(labels, names, strict=True)
    )
    return Layout(response, design.fixed_names, _Observations(design.index), groups, counted, lam, row_data)


def _group_names(groups: Iterable[str]) -> list[str]:
    """Grouping factors as they appear in names of variables, all different."""
    names: list[str] = []
    for group in groups:
        names.append(_free(_without_slash(group), names))
    return names


def group_columns(design: Design, group: GroupLayout) -> FloatArray:
    """Columns of Z of all terms of a grouping factor, shape (n, c)."""
    return np.concatenate([design.terms[k].Z for k in group.labels.terms], axis=1)


def _variable_names(groups: Iterable[str]) -> set[str]:
    names = {*_SAMPLE_DIMS, "obs", "coef", "beta", "sigma", "mu", "X", "weights", "offset"}
    prefixes = ("sd", "corr", "b", "z", "L", "Z", "codes", "r", "ratio", "tau", "shares")
    further = ("sd_at_mean", "corr_at_mean", "b_at_mean", "at_mean")
    for group in groups:
        names |= {f"{prefix}_{group}" for prefix in (*prefixes, *further)}
    return names


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _without_slash(name: str) -> str:
    # A slash separates groups in a DataTree and in netCDF files; zarr takes a backslash for one.
    return name.replace("/", "_").replace("\\", "_")


@dataclass(frozen=True, eq=False)
class _Observations(Deferred[IntArray | tuple[str, ...]]):
    index: AnyArray

    def resolve(self) -> IntArray | tuple[str, ...]:
        return _obs_labels(self.index)


def _obs_labels(index: AnyArray) -> IntArray | tuple[str, ...]:
    """Index labels of the rows kept where they identify the rows, else their positions."""
    if index.dtype.kind in "iu":
        return np.asarray(index if np.unique(index).size == index.size else np.arange(index.size), dtype=np.int64)
    labels = list(index)
    if len(set(labels)) < len(labels):
        return np.arange(len(labels))
    if all(isinstance(label, str) for label in labels):
        return tuple(labels)
    if all(isinstance(label, int | np.integer) for label in labels):
        return np.array(labels, dtype=np.int64)
    return np.arange(len(labels))
