"""Random effects of the blocks, rearranged by grouping factor in the order of the formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from bayeslmm.bayes.layout import GroupLayout, group_columns, make_layout
from bayeslmm.design.design import Design
from bayeslmm.design.labels import GroupLabels, group_labels
from bayeslmm.likelihood import CrossProducts
from bayeslmm.types import FloatArray, IntArray


def _block(cp: CrossProducts, group: GroupLabels) -> tuple[int, IntArray]:
    """Block of a grouping factor and its columns in the order of the layout."""
    for b, block in enumerate(cp.blocks):
        if set(block.terms) == set(group.terms):
            columns = [
                np.arange(part.start, part.stop)
                for term in group.terms
                for part in [block.slices[block.terms.index(term)]]
            ]
            return b, np.concatenate(columns)
    raise KeyError(group.group)


def by_group(design: Design, cp: CrossProducts, b: Sequence[FloatArray]) -> dict[str, pd.DataFrame]:
    """Frames (levels x effects) from effects (J, c) of every block."""
    frames = {}
    for group in group_labels(design):
        k, columns = _block(cp, group)
        index = pd.Index(list(group.levels), name=group.group)
        frames[group.group] = pd.DataFrame(b[k][:, columns], index=index, columns=list(group.effects))
    return frames


def variances_by_group(design: Design, cp: CrossProducts, v: Sequence[FloatArray]) -> dict[str, FloatArray]:
    """Covariances (J, c, c) of every grouping factor."""
    out = {}
    for group in group_labels(design):
        k, columns = _block(cp, group)
        out[group.group] = v[k][:, columns][:, :, columns]
    return out


def draws_by_group(design: Design, cp: CrossProducts, b: Sequence[FloatArray]) -> dict[str, FloatArray]:
    """Draws (S, J, c) of every grouping factor from those of the blocks."""
    out = {}
    for group in group_labels(design):
        k, columns = _block(cp, group)
        out[group.group] = b[k][:, :, columns]
    return out


def fitted_values(design: Design, cp: CrossProducts, beta: FloatArray, b: Sequence[FloatArray]) -> FloatArray:
    """``offset + X beta + Z b`` from effects (J, c) of every block."""
    mean = design.X @ beta
    if design.offset is not None:
        mean = mean + design.offset
    for block, effects in zip(cp.blocks, b, strict=True):
        mean = mean + (block.columns(design) * effects[block.grouping.codes]).sum(axis=1)
    return np.asarray(mean)


def mean_of_rows(design: Design, beta: FloatArray, effects: Callable[[GroupLayout], FloatArray]) -> FloatArray:
    """``offset + X beta + Z b`` (n,) from fixed effects (p,) and the effects (J, c) of every grouping factor."""
    mean = design.X @ beta
    if design.offset is not None:
        mean = mean + design.offset
    for group in make_layout(design).groups:
        codes = design.groupings[group.labels.group].codes
        mean = mean + (group_columns(design, group) * effects(group)[codes]).sum(axis=1)
    return np.asarray(mean)
