"""What a tree of draws holds, looked at when it is read: checksums, and whether the draws are of the design.

zarr fills in what is not there, HDF5 has no checksum, and neither knows what a standard deviation can be. So every
variable and attribute that is written leaves a checksum, of its values and not of their bytes on disk: a tree that was
copied to another format, compressed or cut into other pieces is still the same. What has no checksum, such as groups
that a user added to the file later, is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bayeslmm.bayes.datatree import as_in_pymc, constant_data
from bayeslmm.bayes.layout import Layout, make_layout
from bayeslmm.design.design import Design
from bayeslmm.storage.checksum import of_array, of_json
from bayeslmm.types import AnyArray

# Types that come back from a file as they were; times may be kept in other units.
_EXACT = "biuf"
# Of names that differ, so many are given.
_SHOWN = 5
# Groups that every posterior has.
_SAMPLED = ("posterior", "sample_stats")
_GROUPS = (*_SAMPLED, "observed_data", "constant_data")
# Beyond 1 in size a correlation may be by rounding.
_ROUNDING = 1e-9
_LARGEST_INTEGER = 2**53


def tree_sums(tree: Any) -> dict[str, str]:
    """Checksums of a tree: of every variable and coordinate with its dimensions, and of every attribute.

    Parameters
    ----------
    tree : xarray.DataTree

    Returns
    -------
    dict of str to str
        Name as `posterior/sigma` or `posterior, attribute formula` to checksum; without variables that are neither
        numbers nor text.
    """
    return {name: _sum(value) for name, value in _entries(tree) if _is_covered(value)}


def check_sums(tree: Any, sums: Mapping[str, str]) -> None:
    """Compare a tree with the checksums that were written with it.

    Raises
    ------
    ValueError
        It names what is missing or differs.
    """
    found = dict(_entries(tree))
    missing = [name for name in sums if name not in found]
    if missing:
        raise ValueError(f"{_listed(missing)} missing")
    differing = [name for name, expected in sums.items() if _sum(found[name]) != expected]
    if differing:
        raise ValueError(f"{_listed(differing)} not what was saved: the checksum differs")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"


def _entries(tree: Any) -> Iterator[tuple[str, Any]]:
    """Variables and attributes by their names."""
    for node in tree.subtree:
        path = node.path.strip("/")
        data = node.to_dataset(inherit=False)
        for name, value in data.attrs.items():
            yield f"{path or 'the file'}, attribute {name}", value
        for name, variable in data.variables.items():
            yield f"{path}/{name}", variable


def _is_covered(value: Any) -> bool:
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind is None or not hasattr(value, "dims"):
        return True
    return kind in _EXACT or _is_text(value.dtype, value)


def _is_text(dtype: Any, variable: Any) -> bool:
    return dtype.kind in "UT" or (
        dtype.kind == "O" and all(isinstance(item, str) for item in variable.to_numpy().ravel().tolist())
    )


def _sum(value: Any) -> str:
    if not hasattr(value, "dims"):
        return of_json(_plain(value))
    return of_json([list(map(str, value.dims)), of_array(value.to_numpy())])


def _plain(value: Any) -> Any:
    """An attribute as JSON, the same before and after it was in a file: lists of one are their item, 3.0 is 3."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        items = [_plain(item) for item in np.asarray(value, dtype=object).ravel().tolist()]
        return items[0] if len(items) == 1 else items
    if isinstance(value, bool | np.bool | int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        number = float(value)
        if not np.isfinite(number):
            return str(number)
        return int(number) if number.is_integer() and abs(number) < _LARGEST_INTEGER else number
    return str(value)


def check_draws(design: Design, tree: Any) -> None:
    """Refuse draws that are not of the parameters of a design, and data that are not the design's.

    Parameters
    ----------
    design : Design
    tree : xarray.DataTree

    Raises
    ------
    ValueError
        What was found.
    """
    needed = _GROUPS if design.facts is None else _SAMPLED
    missing = [name for name in needed if name not in tree.children]
    if missing:
        raise ValueError(f"the group {missing[0]} is missing")
    layout = make_layout(design)
    _check_posterior(layout, tree["posterior"].to_dataset())
    _check_data(design, layout, tree)
    sampled = dict(tree["posterior"].sizes)
    for group in ("sample_stats", "log_likelihood"):
        if group in tree.children:
            sizes = dict(tree[group].sizes)
            if any(sizes.get(dim, sampled[dim]) != sampled[dim] for dim in ("chain", "draw")):
                raise ValueError(f"{group} has {sizes} beside draws of {sampled}")


def _check_posterior(layout: Layout, posterior: Any) -> None:
    effects = {group.b for group in layout.groups}
    for name, dims in layout.posterior_dims.items():
        if name not in posterior and name in effects:
            # A posterior may have been drawn without them.
            continue
        if name not in posterior:
            raise ValueError(f"there are no draws of {name}")
        draws = posterior[name]
        lengths = tuple(len(layout.sampled_coords[dim]) for dim in dims)
        if draws.dims != ("chain", "draw", *dims) or draws.shape[2:] != lengths or draws.dtype.kind != "f":
            raise ValueError(
                f"the draws of {name} have dimensions {draws.dims} of lengths {draws.shape} and type {draws.dtype}, "
                f"where the design has {('chain', 'draw', *dims)} with {lengths} of them"
            )
        if not draws.size and 0 not in lengths:
            raise ValueError(f"there are no draws of {name}")
        _check_values(layout, name, draws.to_numpy())
        for dim in dims:
            _same(f"the labels of {dim}", posterior.coords.get(dim), np.asarray(layout.sampled_coords[dim]))


def _check_values(layout: Layout, name: str, draws: AnyArray) -> None:
    sds, correlations = {group.sd for group in layout.groups}, {group.corr for group in layout.groups}
    if name == "sigma" and not (draws > 0).all():
        raise ValueError("some draw of sigma is not positive")
    if name in sds and not (draws >= 0).all():
        raise ValueError(f"some draw of {name} is negative or no number")
    if name in correlations and not (np.abs(draws) <= 1.0 + _ROUNDING).all():
        raise ValueError(f"some draw of {name} is no correlation")
    if not np.isfinite(draws).all():
        raise ValueError(f"some draw of {name} is not finite")


def _check_data(design: Design, layout: Layout, tree: Any) -> None:
    """Compare the data beside the draws with the design's, as far as both have them."""
    if design.facts is not None:
        return
    observed = tree["observed_data"].to_dataset()
    if layout.response not in observed:
        raise ValueError(f"there is no observed data of {layout.response}")
    _same(f"the observed {layout.response}", observed[layout.response], design.y)
    data = tree["constant_data"].to_dataset()
    for name, values in constant_data(design, layout).items():
        if name in data:
            _same(f"{name} of constant_data", data[name], values[1] if isinstance(values, tuple) else values)


def _same(name: str, found: Any, expected: AnyArray) -> None:
    values = None if found is None else found.to_numpy()
    if (
        values is None
        or values.shape != expected.shape
        or not np.array_equal(_comparable(values), _comparable(expected))
    ):
        raise ValueError(f"{name} in the file: not what the design in the file has")


def _comparable(values: AnyArray) -> AnyArray:
    return values.astype(str) if values.dtype.kind in "OTUS" else as_in_pymc(values)
