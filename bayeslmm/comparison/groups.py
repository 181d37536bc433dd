"""Levels of the grouping factors: no pooling, BLUP and posterior, and how far each is drawn to the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayeslmm.design.design import Design
from bayeslmm.design.frequency import expanded
from bayeslmm.results import Posterior
from bayeslmm.results.intervals import hdi
from bayeslmm.teaching.grouped import cross_products_by_level
from bayeslmm.teaching.shrinkage import shrinkage_matrices
from bayeslmm.types import FloatArray

if TYPE_CHECKING:
    from bayeslmm.comparison.compare import Comparison

# Doubles in the widest array of a batch of draws.
_CHUNK = 4_000_000


def group_table(both: Comparison) -> pd.DataFrame:
    """See `Comparison.groups`."""
    frame = both.reml.shrinkage().rename(columns={"raw": "no_pooling"})
    frame = frame.drop(columns=["weight_min", "weight_max"])
    frame["posterior_mean"] = _by_row(frame, both.posterior.ranef())
    design = expanded(both.design)
    drawn = np.concatenate([_weights(both.posterior, design, i, both.level) for i in range(len(design.terms))])
    frame["weight_mean"], frame["weight_low"], frame["weight_high"] = drawn.T
    for name, known in (("cond_sd", True), ("plug_in_sd", False)):
        blocks = both.reml.ranef_variances(fixed_known=known)
        sds = {group: np.sqrt(np.diagonal(V, axis1=1, axis2=2)) for group, V in blocks.items()}
        effects = both.reml.ranef()
        named = {g: pd.DataFrame(sds[g], index=effects[g].index, columns=effects[g].columns) for g in effects}
        frame[name] = _by_row(frame, named)
    frame["posterior_sd"] = _by_row(frame, both.posterior.ranef_sd())
    frame["sd_ratio"] = frame["cond_sd"] / frame["posterior_sd"]
    order = ["term", "group", "level", "effect", "n", "no_pooling", "blup", "posterior_mean"]
    return frame[[*order, *(name for name in frame.columns if name not in order)]]


def _by_row(frame: pd.DataFrame, values: dict[str, pd.DataFrame]) -> FloatArray:
    """Values of every group, levels x effects, in the rows of the table (levels of a term in the same order)."""
    out = np.empty(len(frame))
    keys = list(zip(frame["term"], frame["group"], frame["effect"], strict=True))
    for key in dict.fromkeys(keys):
        out[[k == key for k in keys]] = values[key[1]][key[2]].to_numpy()
    return out


def _weights(post: Posterior, design: Design, position: int, level: float) -> FloatArray:
    """Posterior mean and interval of the diagonal of every level's shrinkage matrix, shape (J * c, 3)."""
    term = design.terms[position]
    grouping = design.groupings[term.group]
    A = cross_products_by_level(design.whitened(term.Z, within=grouping), grouping)
    different, which = np.unique(A.reshape(len(A), -1), axis=0, return_inverse=True)
    T = post._variance_draws.factors[position]
    c = T.shape[-1]
    # Above one effect a weight may leave [0, 1].
    kind = "sd" if c == 1 else "fixed"
    step = max(1, _CHUNK // T.size)
    found = np.empty((len(different), c, 3))
    for start in range(0, len(different), step):
        part = different[start : start + step].reshape(-1, 1, c, c)
        W = np.diagonal(shrinkage_matrices(part, T)[0], axis1=-2, axis2=-1)
        for j, draws in enumerate(W):
            ends = [hdi(draws[:, k], level, kind) for k in range(c)]
            found[start + j] = np.column_stack([draws.mean(axis=0), np.array(ends)])
    return found[np.ravel(which)].reshape(-1, 3)
