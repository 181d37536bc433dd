"""Free variables of the PyMC model that a posterior does not have, as functions of its draws, computed when read.

Deterministic variables of a PyMC model count for nothing where a variable that they come from is not among the draws:
it is drawn from its prior then, and they are computed again. So a posterior that is to be used with `to_pymc` needs
``z_<group>`` beside the effects, ``r_<group>`` beside the correlations, and what priors on ratios are about. None of
these says anything new: they take no memory, and files leave them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from bayeslmm.bayes.at_means import group_change
from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.pymc_priors import one_variable, suffix_of
from bayeslmm.bayes.term_priors import Decov
from bayeslmm.design.covariance import CovarianceStructure
from bayeslmm.design.design import Design
from bayeslmm.types import FloatArray

# Of a variable its name, its dims without chain and draw, the sizes of these, and what computes it, shape (S, ...).
Found = Iterator[tuple[str, tuple[str, ...], tuple[int, ...], Callable[[], FloatArray]]]


@dataclass(frozen=True, eq=False)
class OnDemand(BackendArray):
    """An array that is computed whenever it is read.

    Attributes
    ----------
    compute : callable
        Gives all elements, in C order.
    shape : tuple of int
    """

    compute: Callable[[], FloatArray]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> Any:
        return np.dtype(float)

    def __getitem__(self, key: Any) -> Any:
        support = indexing.IndexingSupport.OUTER_1VECTOR
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: Any) -> Any:
        return self.compute().reshape(self.shape)[key]


@dataclass(frozen=True)
class _Term:
    """Draws of one term: its columns among the effects, sds (S, c) and estimated correlations (S, m)."""

    columns: slice
    structure: CovarianceStructure
    sd: FloatArray
    correlations: FloatArray


def free_variables(design: Design, priors: Priors, posterior: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Free variables of the PyMC model that are not among the draws.

    Parameters
    ----------
    design : Design
    priors : Priors
    posterior : mapping of str to array
        Variables of `Layout.posterior_dims` with leading dims chain and draw; without the effects of a group there is
        no ``z_<group>`` either.

    Returns
    -------
    dict
        Name to dims and values, which are computed when read.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(100, random_seed=1)
    >>> list(free_variables(post.design, post.priors, post.data["posterior"]))
    ['z_Batch']
    """
    sampled = np.shape(posterior["sigma"])
    out: dict[str, tuple[Any, Any]] = {}
    for group in make_layout(design).groups:
        for name, dims, sizes, compute in _of_group(design, priors, group, posterior):
            values = OnDemand(compute, (*sampled, *sizes))
            out[name] = (("chain", "draw", *dims), indexing.LazilyIndexedArray(values))
    return out


def _of_group(design: Design, priors: Priors, group: GroupLayout, posterior: Mapping[str, Any]) -> Found:
    change = group_change(group, priors.changes)
    sd_name, corr_name = (group.sd, group.corr) if change is None else (group.sd_at_mean, group.corr_at_mean)
    sd = _flat(posterior, sd_name)
    yield from _of_sds(group, sd_name, priors, sd, _flat(posterior, "sigma"))
    terms = _terms(design, group, sd, _flat(posterior, corr_name) if group.pairs else sd[:, :0])
    if group.pairs:
        yield f"r_{group.name}", (group.pair_dim,), (len(group.pairs),), partial(_places, terms)
    if group.b in posterior:
        b, dims = _flat(posterior, group.b), (group.dim, group.effect_dim)
        if change is not None:
            yield group.b_at_mean, dims, b.shape[1:], partial(_at_means, change, b)
        yield f"z_{group.name}", dims, b.shape[1:], partial(_standardised, terms, b, change)


def _at_means(change: FloatArray, b: FloatArray) -> FloatArray:
    """Effects (S, J, c) at the means of the columns, of which ``b = (those) change'`` are linear functions."""
    return np.asarray(b @ np.linalg.inv(change).T)


def _flat(posterior: Mapping[str, Any], name: str) -> FloatArray:
    values = np.asarray(posterior[name], dtype=float)
    return values.reshape(-1, *values.shape[2:])


def _terms(design: Design, group: GroupLayout, sd: FloatArray, correlations: FloatArray) -> tuple[_Term, ...]:
    labels, of_effect, out, start = group.labels, sd[:, group.sd_of_effect], list[_Term](), 0
    for k, columns in zip(labels.terms, labels.slices, strict=True):
        size = sum(pair[0] == k for pair in labels.pairs)
        own = correlations[:, start : start + size]
        out.append(_Term(columns, design.terms[k].structure, of_effect[:, columns], own))
        start += size
    return tuple(out)


def _of_sds(group: GroupLayout, name: str, priors: Priors, sd: FloatArray, sigma: FloatArray) -> Found:
    """What the priors of the standard deviations are about, where that is not the vector of them."""
    first = group.sds[0]
    if one_variable(group, priors):
        if priors.sds[first.term][first.effects[0]].relative:
            yield f"ratio_{group.name}", (group.sd_dim,), sd.shape[1:], partial(_ratio, sd, sigma)
        return
    for term in group.labels.terms:
        labels = [label for label in group.sds if label.term == term]
        own = sd[:, [group.sds.index(label) for label in labels]]
        if isinstance(priors.joints[term], Decov):
            suffix = suffix_of(group, labels)
            yield f"tau_{suffix}", (), (), partial(_root_mean_square, own, sigma)
            # PyMC's name of a dim without labels.
            yield f"shares_{suffix}", (f"shares_{suffix}_dim_0",), own.shape[1:], partial(_shares, own)
            continue
        for label, values in zip(labels, own.T, strict=True):
            if priors.sds[term][label.effects[0]].relative:
                yield f"ratio_{group.name}__{label.name}", (), (), partial(_ratio, values[:, None], sigma)
            else:
                yield f"{name}__{label.name}", (), (), partial(np.copy, values)


def _ratio(sd: FloatArray, sigma: FloatArray) -> FloatArray:
    return sd / sigma[:, None]


def _root_mean_square(sd: FloatArray, sigma: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((sd**2).mean(axis=1)) / sigma)


def _shares(sd: FloatArray) -> FloatArray:
    total = (sd**2).sum(axis=1, keepdims=True)
    return np.where(total > 0, sd**2 / np.where(total > 0, total, 1.0), 1.0 / sd.shape[1])


def _places(terms: tuple[_Term, ...]) -> FloatArray:
    """Numbers (S, pairs) from 0 to 1, ``(1 + z) / 2``: z is what a structure makes its correlations of."""
    parts = []
    for term in terms:
        order = [term.structure.partials.index((b, a)) for a, b in term.structure.pairs]
        parts.append(0.5 * (1.0 + term.structure.partial_places(_matrix(term))[:, order]))
    return np.clip(np.concatenate(parts, axis=1), 0.0, 1.0)


def _matrix(term: _Term) -> FloatArray:
    """Correlation matrices (S, c, c) of a term."""
    root = term.structure.correlation_root(term.correlations)
    return np.asarray(root @ np.swapaxes(root, 1, 2))


def _root(term: _Term) -> FloatArray:
    """Lower-triangular factors (S, c, c) of the correlations of a term; a column of zeros where nothing is left."""
    R, c = _matrix(term), term.sd.shape[1]
    L = np.zeros_like(R)
    for j in range(c):
        rest = R[:, j:, j] - np.einsum("sik,sk->si", L[:, j:, :j], L[:, j, :j])
        pivot = np.sqrt(np.maximum(rest[:, 0], 0.0))
        L[:, j:, j] = np.divide(rest, pivot[:, None], out=np.zeros_like(rest), where=pivot[:, None] > 0)
    return L


def _standardised(terms: tuple[_Term, ...], b: FloatArray, change: FloatArray | None = None) -> FloatArray:
    """Effects (S, J, c) as standard normals: z with ``b = z (diag(sd) L)'``, zero where b cannot differ from zero."""
    b = b if change is None else _at_means(change, b)
    z = np.zeros(b.shape)
    for term in terms:
        sd = term.sd[:, None, :]
        own = np.divide(b[:, :, term.columns], sd, out=np.zeros_like(b[:, :, term.columns]), where=sd > 0)
        if term.correlations.shape[1]:
            L = _root(term)
            for i in range(L.shape[1]):
                own[:, :, i] -= np.einsum("sjk,sk->sj", own[:, :, :i], L[:, i, :i])
                pivot = L[:, i, i, None]
                own[:, :, i] = np.divide(own[:, :, i], pivot, out=np.zeros_like(own[:, :, i]), where=pivot > 0)
        z[:, :, term.columns] = own
    return z
