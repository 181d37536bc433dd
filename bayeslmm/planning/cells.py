"""The cells of a power study: sizes of the design and true values, from what a user asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, numbers_of, real, shown, whole
from bayeslmm.bayes.priors import Normal
from bayeslmm.design.design import Design
from bayeslmm.design.extended_residuals import all_factors
from bayeslmm.design.extension import MOST_LEVELS, extend, the_factor
from bayeslmm.errors import DesignError
from bayeslmm.results.labels import parameters
from bayeslmm.results.stated import stated_values

# Cells that a study may have: with 1,000 responses each it takes an hour.
MOST_CELLS = 2_000
# Columns of the result beside those of the values of parameters.
RESULTS = ("rows", "parameter", "test", "truth", "power", "mc_error", "width", "none", "singular", "n")
TAKEN = ("groups", "replicates", "total", *RESULTS)
# What true values are called here and not in `simulate`.
_CALLED = {"beta": "effects", "sd": "sds", "corr": "corrs"}
_ARGUMENTS = {"effects": "beta", "sds": "sd", "residual": "residual"}
_EXAMPLES = {"effects": "{'x': 0.5}, or {'x': [0.2, 0.5, 0.8]} for several.", "sds": "{'g': 2.0}."}


@dataclass(frozen=True)
class PowerCell:
    """One combination of sizes and true values.

    Attributes
    ----------
    groups : dict of str to int
        Grouping factor to its number of levels, where one was asked for.
    replicates : int or None
        Rows of every combination of levels; None for those of the study.
    stated : dict of str to float
        Labels to true values.
    spread : dict of str to float
        Labels of fixed effects to the sd of the normal distribution that each response draws its own from.
    varied : dict of str to float
        What differs between the cells, by the name of its column.
    """

    groups: dict[str, int]
    replicates: int | None
    stated: dict[str, Any]
    spread: dict[str, float]
    varied: dict[str, float]

    def design(self, design: Design) -> Design:
        """A design of these sizes."""
        return extend(design, self.groups, self.replicates).design


def make_cells(
    design: Design,
    groups: Any,
    replicates: Any,
    total: Any,
    effects: Any,
    sds: Any,
    corrs: Any,
    sigma: Any,
    residual: Any = None,
) -> list[PowerCell]:
    """All combinations of the values given in lists.

    Raises
    ------
    DesignError
        Names that there are not, values that make no sense, too many cells.
    """
    sizes = _sizes(design, groups)
    rows = _rows(design, replicates, total)
    values: list[tuple[str, str, list[Any]]] = []
    for name, given in (("effects", effects), ("sds", sds), ("residual", residual)):
        values += [(name, key, own) for key, own in _lists(design, name, given)]
    axes = [*sizes.values(), *([rows] if rows else []), *(own for _, _, own in values)]
    count = int(np.prod([len(axis) for axis in axes]))
    if count > MOST_CELLS:
        raise DesignError(f"These lists make {count:,} combinations, and a study takes {MOST_CELLS:,}. Shorten some.")
    cells = []
    for picked in product(*axes):
        own = dict(zip(sizes, picked, strict=False))
        rest = list(picked[len(sizes) :])
        number: int | None = rest.pop(0) if rows else None
        chosen = [(name, key, value) for (name, key, _), value in zip(values, rest, strict=True)]
        stated, spread, named = _stated(design, chosen, corrs, sigma)
        varied: dict[str, float] = {_column(name, sizes): own[name] for name in sizes if len(sizes[name]) > 1}
        if number is not None and len(rows) > 1:
            varied["replicates" if total is None else "total"] = number
        varied |= {
            _free(label): stated[label] for label, (_, _, every) in zip(named, values, strict=True) if len(every) > 1
        }
        if total is not None and number is not None:
            number = _share(design, own, number)
        cells.append(PowerCell(own, number, stated, spread, varied))
    return cells


def _free(label: str) -> str:
    """A column for the values of a parameter that is called like none of the others."""
    return f"true {label}" if label in TAKEN else label


def _column(name: str, sizes: Mapping[str, Any]) -> str:
    return "groups" if len(sizes) == 1 else f"groups[{name}]"


def _sizes(design: Design, groups: Any) -> dict[str, list[int]]:
    if groups is None:
        return {}
    if isinstance(groups, Mapping):
        for key in groups:
            choice("groups: the grouping factor", key, list(all_factors(design)), DesignError)
        return {key: _whole_list(f"groups[{key!r}]", value, 2) for key, value in groups.items()}
    numbers = _whole_list("groups", groups, 2)
    return {the_factor(design, "groups", numbers[0]): numbers}


def _rows(design: Design, replicates: Any, total: Any) -> list[int]:
    if replicates is not None and total is not None:
        raise DesignError("total= is divided among the cells, which gives their replicates: give one of the two.")
    if total is not None:
        return _whole_list("total", total, 2)
    return [] if replicates is None else _whole_list("replicates", replicates, 1)


def _whole_list(name: str, given: Any, least: int) -> list[int]:
    # An array without axes is one number.
    several = given.ndim > 0 if isinstance(given, np.ndarray) else isinstance(given, list | tuple | range | pd.Series)
    if several:
        found = [whole(f"{name}: one of them", value, least, MOST_LEVELS, DesignError) for value in given]
        if not found:
            raise DesignError(f"{name}={shown(given)} is empty. Give one number or several.")
        return list(dict.fromkeys(found))
    return [whole(name, given, least, MOST_LEVELS, DesignError)]


def _share(design: Design, groups: dict[str, int], total: int) -> int:
    """Rows of every combination of levels, of all rows."""
    grouped = extend(design, groups).design if groups else design
    codes = np.column_stack([np.zeros(grouped.n), *(own.codes for own in all_factors(grouped).values())])
    cells = len(np.unique(codes, axis=0))
    if total < cells:
        raise DesignError(f"total={total} is less than one row for each of {cells} groups ({groups}).")
    return total // cells


def _lists(design: Design, name: str, given: Any) -> list[tuple[str, list[Any]]]:
    """Keys and the values that each takes in turn."""
    if given is None:
        return []
    if isinstance(given, pd.Series):
        given = given.to_dict()
    if not isinstance(given, Mapping):
        raise DesignError(
            f"{name}={shown(given)} is no mapping of labels to values. Write for example {name}="
            + _EXAMPLES.get(name, "{'rho': 0.5}.")
        )
    found = []
    for key, value in given.items():
        if not isinstance(key, str):
            raise DesignError(f"{name} has the key {shown(key)}; it takes labels, which are text.")
        if name == "sds" and sum(p.kind == "sd" and p.group == key for p in parameters(design)) > 1:
            # All of a grouping factor, as in `simulate`.
            found.append((key, [value]))
        elif isinstance(value, list | range | np.ndarray | pd.Series):
            every = list(numbers_of(f"{name}[{key!r}]", value, shape=(None,), error=DesignError))
            if not every:
                raise DesignError(f"{name}[{key!r}] is empty. Give one value or several.")
            found.append((key, list(dict.fromkeys(map(float, every)))))
        else:
            found.append((key, [value]))
    return found


def _stated(
    design: Design, chosen: list[tuple[str, str, Any]], corrs: Any, sigma: Any
) -> tuple[dict[str, Any], dict[str, float], list[str]]:
    """Values by label, spreads of those that are drawn, and the label of each of the chosen."""
    stated, spread, named = dict[str, Any](), dict[str, float](), []
    for name, key, value in chosen:
        centre, sd = _distribution(key, value) if name == "effects" else (value, 0.0)
        own = stated_values(design, **{_ARGUMENTS[name]: {key: centre}}, called=_CALLED)
        twice = [label for label in own if label in stated]
        if twice:
            raise DesignError(f"{name} gives {twice[0]} twice. Keep one of its names.")
        if sd > 0:
            spread |= dict.fromkeys(own, sd)
        named.append(next(iter(own)))
        stated |= own
    rest = stated_values(design, corr=corrs, sigma=sigma, called=_CALLED)
    return stated | rest, spread, named


def _distribution(key: str, value: Any) -> tuple[Any, float]:
    """Mean and sd of a normal distribution, sd 0 for a number."""
    if isinstance(value, Normal):
        return float(value.mean), float(value.sd)
    if isinstance(value, tuple):
        if len(value) != 2:
            raise DesignError(
                f"effects[{key!r}]={shown(value)} is no pair (mean, sd) of a normal distribution. A list has values "
                "that are tried in turn."
            )
        mean = real(f"effects[{key!r}]: the mean", value[0], error=DesignError)
        return mean, real(f"effects[{key!r}]: the sd", value[1], least=0.0, error=DesignError)
    return value, 0.0
