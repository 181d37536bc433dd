"""Names, dims and coords of a posterior, shared by the collapsed path and the hierarchical model.

Posterior variables are ``beta``, ``sigma`` and, for every grouping factor g, ``sd_g``, ``corr_g`` and ``b_g``. The
terms of one factor are merged in the order of the formula: ``(1 | g) + (0 + x | g)`` has one ``sd_g`` with two
entries and, having no correlation, no ``corr_g``.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayeslmm.design.design import Design, RandomTerm
from bayeslmm.types import FloatArray, IntArray

# Dims of every posterior; xarray and PyMC allow no variable and no other dim of these names.
_SAMPLE_DIMS = ("chain", "draw")


@dataclass(frozen=True)
class GroupLayout:
    """Names of everything that belongs to one grouping factor.

    Attributes
    ----------
    name : str
        The grouping factor, e.g. ``"Subject"``.
    dim : str
        Dim of its levels: the name itself unless a variable is called so.
    levels : tuple of str
        Coords of `dim`.
    effects : tuple of str
        Effects of all its terms; a repeated one gets ``".1"``, ``".2"``.
    pairs : tuple of str
        ``"Intercept.Days"`` for every estimated correlation; empty if there is none.
    terms : tuple of int
        Positions of its terms in ``design.terms``.
    slices : tuple of slice
        Columns of each of these terms among `effects`.
    correlated : tuple of bool
        For each of these terms, whether it has correlations.
    """

    name: str
    dim: str
    levels: tuple[str, ...]
    effects: tuple[str, ...]
    pairs: tuple[str, ...]
    terms: tuple[int, ...]
    slices: tuple[slice, ...]
    correlated: tuple[bool, ...]

    @property
    def effect_dim(self) -> str:
        return f"{self.dim}__effect"

    @property
    def pair_dim(self) -> str:
        return f"{self.dim}__pair"

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
        Coords of the observations.
    groups : tuple of GroupLayout
        Grouping factors in order of first appearance.
    """

    response: str
    coef: tuple[str, ...]
    obs: IntArray | tuple[str, ...]
    groups: tuple[GroupLayout, ...]

    @cached_property
    def coords(self) -> dict[str, IntArray | tuple[str, ...]]:
        """Dim to labels."""
        coords: dict[str, IntArray | tuple[str, ...]] = {"obs": self.obs}
        if self.coef:
            coords["coef"] = self.coef
        for group in self.groups:
            coords[group.dim] = group.levels
            coords[group.effect_dim] = group.effects
            if group.pairs:
                coords[group.pair_dim] = group.pairs
        return coords

    @cached_property
    def posterior_dims(self) -> dict[str, tuple[str, ...]]:
        """Posterior variable to its dims (chain and draw left out), in the order of printouts."""
        dims: dict[str, tuple[str, ...]] = {"beta": ("coef",)} if self.coef else {}
        dims["sigma"] = ()
        dims |= {group.sd: (group.effect_dim,) for group in self.groups}
        dims |= {group.corr: (group.pair_dim,) for group in self.groups if group.pairs}
        dims |= {group.b: (group.dim, group.effect_dim) for group in self.groups}
        return dims

    @cached_property
    def data_dims(self) -> dict[str, tuple[str, ...]]:
        """Observed and constant data to their dims."""
        dims: dict[str, tuple[str, ...]] = {self.response: ("obs",)}
        dims |= {"X": ("obs", "coef")} if self.coef else {}
        dims |= {"weights": ("obs",), "offset": ("obs",)}
        for group in self.groups:
            dims[group.columns] = ("obs", group.effect_dim)
            dims[group.codes] = ("obs",)
        return dims


def make_layout(design: Design) -> Layout:
    """Layout of a design.

    Parameters
    ----------
    design : Design

    Returns
    -------
    Layout
    """
    names = list(dict.fromkeys(term.group for term in design.terms))
    variables = _variable_names(names)
    response = _free(_without_slash(design.response), variables)
    groups = tuple(_group_layout(design, name, {*variables, response}) for name in names)
    return Layout(response, design.fixed_names, _obs_labels(design), groups)


def _group_layout(design: Design, name: str, taken: Collection[str]) -> GroupLayout:
    positions = tuple(k for k, term in enumerate(design.terms) if term.group == name)
    terms = [design.terms[k] for k in positions]
    ends = np.cumsum([0, *(len(term.effects) for term in terms)]).tolist()
    slices = tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))
    effects = _distinct(effect for term in terms for effect in term.effects)
    correlated = tuple(has_correlations(term) for term in terms)
    blocks = [effects[part] for part, flag in zip(slices, correlated, strict=True) if flag]
    return GroupLayout(
        name=_without_slash(name),
        dim=_free(_without_slash(name), taken),
        levels=design.groupings[name].levels,
        effects=effects,
        pairs=tuple(pair for block in blocks for pair in _pair_names(block)),
        terms=positions,
        slices=slices,
        correlated=correlated,
    )


def has_correlations(term: RandomTerm) -> bool:
    """Whether the structure of a term has more free entries than its variances."""
    return len(term.structure.rows) > len(term.effects)


def pair_positions(size: int) -> tuple[IntArray, IntArray]:
    """Positions (a, b), a < b, of the correlations of `size` effects: (0, 1), (0, 2), ..., (1, 2), ...

    Examples
    --------
    >>> [x.tolist() for x in pair_positions(3)]
    [[0, 0, 1], [1, 2, 2]]
    """
    return np.triu_indices(size, 1)


def group_columns(design: Design, group: GroupLayout) -> FloatArray:
    """Columns of Z of all terms of a grouping factor, shape (n, c)."""
    return np.concatenate([design.terms[k].Z for k in group.terms], axis=1)


def _pair_names(effects: tuple[str, ...]) -> list[str]:
    rows, cols = pair_positions(len(effects))
    return [f"{effects[a]}.{effects[b]}" for a, b in zip(rows, cols, strict=True)]


def _distinct(effects: Iterable[str]) -> tuple[str, ...]:
    """Number repeated labels: ``("a", "b", "a")`` becomes ``("a", "b", "a.1")``."""
    out: list[str] = []
    for effect in effects:
        label, number = effect, 0
        while label in out:
            number += 1
            label = f"{effect}.{number}"
        out.append(label)
    return tuple(out)


def _variable_names(groups: Iterable[str]) -> set[str]:
    names = {*_SAMPLE_DIMS, "obs", "coef", "beta", "sigma", "mu", "X", "weights", "offset"}
    for group in map(_without_slash, groups):
        names |= {f"{prefix}_{group}" for prefix in ("sd", "corr", "b", "z", "L", "Z", "codes")}
    return names


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _without_slash(name: str) -> str:
    # A slash separates groups in a DataTree and in netCDF files.
    return name.replace("/", "_")


def _obs_labels(design: Design) -> IntArray | tuple[str, ...]:
    """Index labels of the rows kept where they identify the rows, else their positions."""
    if _unique_of_type(design.index, str):
        return tuple(str(label) for label in design.index)
    if _unique_of_type(design.index, int | np.integer):
        return np.array(design.index, dtype=np.int64)
    return np.arange(design.n)


def _unique_of_type(labels: tuple[Hashable, ...], kind: object) -> bool:
    same = all(isinstance(label, kind) and not isinstance(label, bool) for label in labels)  # type: ignore[arg-type]
    return same and len(set(labels)) == len(labels)
