"""Whether a design that was read from a file hangs together, before anything is made of its sizes and codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from bayeslmm.arguments import kind_of
from bayeslmm.design.contrasts import Treatment
from bayeslmm.design.design import Design
from bayeslmm.design.dropped import AllRows
from bayeslmm.design.frequency import check_copies
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.recipe import Column, NamedContrasts, Recipe
from bayeslmm.design.row_facts import RowFacts
from bayeslmm.design.size import check_blocks, check_structure
from bayeslmm.residual import Estimable, make_residual
from bayeslmm.types import AnyArray


def check_stored(design: Design) -> None:
    """Refuse a design whose parts do not fit together.

    Parameters
    ----------
    design : Design
        Its fields have the types that they are annotated with.

    Raises
    ------
    ValueError
        What was found.
    """
    n = design.n
    if design.facts is not None:
        _check_without_rows(design, design.facts)
        return
    _shape("y", design.y, (design.y.size,))
    if not n:
        raise ValueError("the design has no rows")
    _shape("X", design.X, (n, len(design.fixed_names)))
    if len(design.fixed_names) > n:
        raise ValueError(f"{len(design.fixed_names)} fixed effects stand beside {n} rows")
    for name in ("offset", "index", "frequency"):
        if (values := getattr(design, name)) is not None:
            _shape(name, values, (n,))
    for name in ("y", "X", "offset"):
        _finite(name, getattr(design, name))
    design.residual.check(n)
    _check_counts(design)
    m = n if design.cells is None else len(design.cells)
    for name, grouping in design.groupings.items():
        _check_grouping(name, grouping, n)
    _check_terms(design)
    if design.recipe is not None:
        _check_recipe(design.recipe, m)
        groups, clusters = design.recipe.residual_groups, design.residual.clusters
        if groups and (clusters is None or len(groups) != int(clusters.max()) + 1):
            raise ValueError(f"{len(groups)} groups of correlated residuals have names, which is not their number")
    if design.all_rows is not None:
        _check_all_rows(design.all_rows, m, len(design.dropped.labels))


def _check_counts(design: Design) -> None:
    if design.frequency is not None and not (design.frequency > 0).all():
        raise ValueError("some frequency is not positive")
    if design.cells is not None:
        design.cells.check(design.n)


def _check_without_rows(design: Design, facts: RowFacts) -> None:
    """The same of a design whose rows are not in the file."""
    n = facts.n
    sizes = [len(term.effects) for term in design.terms]
    if facts.widths != (1, design.p, *sizes, 1) or n < 1 or facts.n_observations < n:
        raise ValueError(f"what is known of {n} rows are columns of widths {facts.widths}")
    k = sum(facts.widths)
    for name in ("low", "high", "signs"):
        _shape(f"the record of rows ({name})", getattr(facts, name), (k,))
    _shape("the record of rows (triangle)", facts.triangle, (k, k))
    _finite("the record of rows (triangle)", facts.triangle)
    _shape("y", design.y, (n,))
    _shape("X", design.X, (n, len(design.fixed_names)))
    for name, grouping in design.groupings.items():
        _shape(f"the codes of {name}", grouping.codes, (n,))
        for known in (facts.sizes, facts.rows):
            _shape(f"the sizes of {name}", known[name], (grouping.n_levels,))
        for known_columns in (facts.varies, facts.present):
            _shape(f"the record of {name}", known_columns[name], (k,))
    if not design.terms or {term.group for term in design.terms} != set(design.groupings):
        raise ValueError("the random terms and the grouping factors do not belong together")
    for term, size in zip(design.terms, sizes, strict=True):
        _shape(f"Z of {term.label}", term.Z, (n, size))
        if term.structure.size != size:
            raise ValueError(f"the covariance of {term.label} is one of {term.structure.size} effects, not {size}")
        check_structure(term.label, term.structure.keyword, size)
    check_blocks(design.sizes)
    if design.recipe is not None:
        _check_recipe(design.recipe, n)


def with_residual(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of a design as they are now, from those of files in which it had weights and no residual structure."""
    if "weights" not in content or "residual" in content:
        return content
    kept = {name: value for name, value in content.items() if name != "weights"}
    weights, y = content["weights"], content.get("y")
    if not isinstance(y, np.ndarray) or not (weights is None or isinstance(weights, np.ndarray)):
        raise ValueError("the response or the weights are no array")
    return kept | {"residual": make_residual(y.size, weights)}


def _shape(name: str, array: AnyArray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, not {shape}")


def _finite(name: str, array: AnyArray | None) -> None:
    if array is not None and not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are no finite numbers, which no design has")


def _check_grouping(name: str, grouping: Grouping, n: int) -> None:
    _shape(f"the codes of {name}", grouping.codes, (n,))
    levels = grouping.n_levels
    if grouping.name != name or not 0 < levels <= n:
        raise ValueError(f"the grouping factor {name} has {levels} levels for {n} rows and the name {grouping.name}")
    _check_codes(name, grouping.codes, levels)
    if not np.bincount(grouping.codes, minlength=levels).all():
        raise ValueError(f"a level of {name} does not occur")


def _check_all_rows(rows: AllRows, n: int, dropped: int) -> None:
    _shape("the labels of all rows", rows.index, (rows.index.size,))
    _shape("the positions of the rows kept", rows.kept, (n,))
    if rows.kept.dtype.kind not in "iu" or not (np.diff(rows.kept) > 0).all():
        raise ValueError("the positions of the rows kept do not ascend")
    if rows.kept[0] < 0 or rows.kept[-1] >= rows.index.size or rows.index.size != n + dropped:
        raise ValueError(f"{rows.index.size} rows are said to be in the data, {n} of them kept")


def _check_codes(name: str, codes: AnyArray, levels: int) -> None:
    if codes.dtype.kind not in "iu":
        raise ValueError(f"the codes of {name} are of type {codes.dtype}")
    if codes.size and not (codes.min() >= 0 and codes.max() < levels):
        raise ValueError(f"the codes of {name} run from {codes.min()} to {codes.max()} for {levels} levels")


def _check_terms(design: Design) -> None:
    without = not design.terms and not isinstance(design.residual, Estimable)
    if without or {term.group for term in design.terms} != set(design.groupings):
        raise ValueError("the random terms and the grouping factors do not belong together")
    for term in design.terms:
        size = len(term.effects)
        _shape(f"Z of {term.label}", term.Z, (design.n, size))
        _finite(f"Z of {term.label}", term.Z)
        # The size of a structure is the only number from which arrays of any size are made.
        if term.structure.size != size or not 0 < size <= design.n:
            raise ValueError(
                f"the covariance of {term.label} is one of {term.structure.size} effects, where {size} stand beside "
                f"{design.n} rows"
            )
        check_structure(term.label, term.structure.keyword, size)
    check_blocks(design.sizes)


def _check_recipe(recipe: Recipe, n: int) -> None:
    for name, column in recipe.columns.items():
        _check_column(name, column, n)
    for name, kind in recipe.contrasts.items():
        if not _is_contrast(kind):
            raise ValueError(f"the contrasts of {name} are {kind_of(kind)}")
    for name, value in recipe.namespace.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise ValueError(f"{name!r} of extra_namespace is {kind_of(value)}, which is neither number nor text")
    _shape("aliased", recipe.aliased, recipe.aliased.shape[:2])
    if recipe.frequency is not None:
        _shape("the frequency of the recipe", recipe.frequency, (n,))
        if not (recipe.frequency > 0).all():
            raise ValueError("some frequency is not positive")
        check_copies(recipe.frequency)


def _check_column(name: str, column: Column, n: int) -> None:
    kinds = {"number": "f", "boolean": "b", "factor": "iu", "time": "mMO"}
    if column.kind not in kinds or column.values.dtype.kind not in kinds[column.kind]:
        raise ValueError(f"the column {name} is said to be a {column.kind} and holds {column.values.dtype}")
    _shape(f"the column {name}", column.values, (column.values.size,))
    if column.values.size > n or len(column.levels) > n:
        raise ValueError(
            f"the column {name} has {column.values.size} values and {len(column.levels)} levels, beside {n} rows"
        )
    if column.kind == "factor":
        _check_codes(name, column.values, len(column.levels))


def _is_contrast(kind: Any) -> bool:
    return isinstance(kind, Treatment | NamedContrasts) or (
        isinstance(kind, str | np.ndarray | list | tuple) and _is_plain(kind)
    )


def _is_plain(value: Any) -> bool:
    """Numbers, text, times and collections of them: nothing that can be called, no object of the package."""
    if isinstance(value, Mapping):
        return all(_is_plain(part) for item in value.items() for part in item)
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray) and value.dtype == object:
        return all(map(_is_plain, value.ravel().tolist()))
    return not (callable(value) or is_dataclass(value) or isinstance(value, Enum))
