"""Levels of the grouping factors: no pooling, BLUP and posterior, and how far each is drawn to the mean."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd

from bayeslmm.comparison.compared import Compared
from bayeslmm.design.design import Design
from bayeslmm.faces import Posterior
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.level_grams import term_grams
from bayeslmm.likelihood.rowless import summed_elsewhere
from bayeslmm.residual import each_point
from bayeslmm.results.digits import in_digits
from bayeslmm.results.intervals import hdi
from bayeslmm.teaching.grouped import cross_products_by_level
from bayeslmm.teaching.shrinkage import shrinkage_matrices
from bayeslmm.types import FloatArray

# Doubles in the widest array of a batch of draws.
_CHUNK = 4_000_000


def group_table(both: Compared) -> pd.DataFrame:
    """See `Comparison.groups`."""
    frame = both.reml.shrinkage().rename(columns={"raw": "no_pooling"})
    frame = frame.drop(columns=["weight_min", "weight_max"])
    frame["posterior_mean"] = _by_row(frame, both.posterior.ranef())
    design, cp = both.design, summed_elsewhere(both.reml.cp)
    drawn = np.concatenate([_weights(both.posterior, design, cp, i, both.level) for i in range(len(design.terms))])
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


def group_errors(both: Compared, table: pd.DataFrame) -> pd.DataFrame:
    """Monte Carlo standard errors of posterior means and sds of effects, which are nearly normal."""
    post, sd = both.posterior, table["posterior_sd"]
    # Of Markov chains, effects are drawn exactly given parameters that depend on each other.
    error = sd * post._inflation / np.sqrt(post.n_draws)
    ratio = table["sd_ratio"] / np.sqrt(2.0 * post.n_draws)
    found = {"posterior_mean": error, "posterior_sd": error / np.sqrt(2.0), "sd_ratio": ratio}
    return pd.DataFrame({**found, **_weight_errors(both, table)})


def _weight_errors(both: Compared, table: pd.DataFrame) -> dict[str, pd.Series]:
    """Of the mean and of the interval of each weight, from the width of the interval: that of a normal density."""
    share, z = (1.0 - both.level) / 2.0, NormalDist().inv_cdf(0.5 + both.level / 2.0)
    width = table["weight_high"] - table["weight_low"]
    mean = width / (2.0 * z) * both.posterior._inflation / np.sqrt(both.posterior.n_draws)
    end = mean * np.sqrt(share * (1.0 - share)) / NormalDist().pdf(z)
    return {"weight_mean": mean, "weight_low": end, "weight_high": end}


def shown_groups(both: Compared, frame: pd.DataFrame) -> pd.DataFrame:
    """The table as text, every number as far as it is known."""
    return in_digits(frame, group_errors(both, frame))


def _by_row(frame: pd.DataFrame, values: dict[str, pd.DataFrame]) -> FloatArray:
    """Values of every group, levels x effects, in the rows of the table (levels of a term in the same order)."""
    out = np.empty(len(frame))
    keys = list(zip(frame["term"], frame["group"], frame["effect"], strict=True))
    for key in dict.fromkeys(keys):
        out[[k == key for k in keys]] = values[key[1]][key[2]].to_numpy()
    return out


def _weights(post: Posterior, design: Design, cp: SummedDesign | None, position: int, level: float) -> FloatArray:
    """Posterior mean and interval of the diagonal of every level's shrinkage matrix, shape (J * c, 3)."""
    if design.residual.names:
        return _weights_by_draw(post, design, position, level)
    term = design.terms[position]
    grouping = design.groupings[term.group]
    if cp is None:
        A = cross_products_by_level(design.whitened(term.Z, within=grouping), grouping)
    else:
        A = term_grams(cp, position)
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


def _weights_by_draw(post: Posterior, design: Design, position: int, level: float) -> FloatArray:
    """The same where every draw has residual parameters of its own."""
    term, draws = design.terms[position], post._variance_draws
    grouping, T = design.groupings[term.group], draws.factors[position]
    c = T.shape[-1]
    W = np.empty((len(T), grouping.n_levels, c))
    for lam, own in each_point(draws.lam):
        A = cross_products_by_level(design.whitened(term.Z, lam, within=grouping), grouping)
        for k in own:
            W[k] = np.diagonal(shrinkage_matrices(A, T[k])[0], axis1=-2, axis2=-1)
    flat = W.reshape(len(T), -1)
    ends = [hdi(values, level, "sd" if c == 1 else "fixed") for values in flat.T]
    return np.column_stack([flat.mean(axis=0), np.array(ends)])
