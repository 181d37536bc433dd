"""The samplers that calibration can put to the test, each as a function of the data of one replicate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayeslmm.bayes.collapsed import sample_collapsed
from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.prior_draws import PriorDraws, block_terms
from bayeslmm.bayes.priors import Priors
from bayeslmm.calibration.quantities import Draws
from bayeslmm.design import Design
from bayeslmm.design.shared import Shared
from bayeslmm.likelihood import CrossProducts
from bayeslmm.model import Model
from bayeslmm.types import FloatArray

type Sampler = Callable[[CrossProducts, Sequence[FloatArray], np.random.Generator], Draws]

# Draws of NUTS for every one that is ranked: ranks need independent draws.
_THIN = 4


@dataclass(frozen=True)
class Collapsed:
    """Independent draws of the collapsed posterior.

    Attributes
    ----------
    priors : Priors
    draws : int
    method : str
    """

    priors: Priors
    draws: int
    method: str

    def __call__(self, cp: CrossProducts, start: Sequence[FloatArray], rng: np.random.Generator) -> Draws:
        return sample_collapsed(cp, self.priors, start, draws=self.draws, method=self.method, rng=rng)


@dataclass(frozen=True)
class Nuts:
    """Thinned draws of NUTS on the hierarchical model, by `Model.sample`.

    Attributes
    ----------
    priors : Priors
    draws : int
        Kept; four times as many are drawn, by two chains.
    tune : int
        Per chain.
    """

    priors: Priors
    draws: int
    tune: int = 1000

    def __call__(self, cp: CrossProducts, start: Sequence[FloatArray], rng: np.random.Generator) -> Draws:
        total = _THIN * (self.draws + 1)
        post = Model._from_design(cp.design).sample(
            total,
            method="nuts",
            priors=self.priors,
            chains=2,
            tune=self.tune,
            random_seed=int(rng.integers(2**31)),
            progressbar=False,
            log_likelihood=False,
        )
        return _thinned(cp.design, post.data["posterior"], self.draws)


def make_sampler(priors: Priors, draws: int, method: Literal["auto", "quadrature", "importance", "nuts"]) -> Sampler:
    """Sampler of a method of `Model.sample`."""
    return Nuts(priors, draws) if method == "nuts" else Collapsed(priors, draws, method)


def _thinned(design: Design, posterior: Any, draws: int) -> PriorDraws:
    """Every fourth draw of both chains in the layout of the collapsed draws."""
    layout = make_layout(design)

    def flat(name: str) -> FloatArray:
        values = posterior[name].transpose("chain", "draw", *layout.posterior_dims[name]).to_numpy()
        return np.asarray(values.reshape(-1, *values.shape[2:])[_THIN - 1 :: _THIN][:draws])

    sigma = flat("sigma")
    sds: list[FloatArray] = [sigma] * len(design.terms)
    corrs = sds.copy()
    effects = {}
    for group in layout.groups:
        values, pairs = flat(group.sd), flat(group.corr) if group.pairs else sigma[:, None]
        for k in group.labels.terms:
            sds[k] = values[:, [column for column, sd in enumerate(group.sds) if sd.term == k]]
            corrs[k] = _correlation(design, group, k, pairs)
        effects[group.labels.group] = flat(group.b)
    blocks = block_terms(design)
    b = tuple(effects[design.terms[terms[0]].group] for terms in blocks)
    beta = flat("beta") if layout.coef else np.zeros((sigma.size, 0))
    return PriorDraws(beta, sigma, tuple(sds), tuple(corrs), b, blocks)


def _correlation(design: Design, group: GroupLayout, position: int, pairs: FloatArray) -> FloatArray:
    """Correlation matrices (S, c, c) of one term from the free correlations of its group."""
    term = design.terms[position]
    own = [(column, a, b) for column, (k, a, b, _) in enumerate(group.labels.pairs) if k == position]
    if isinstance(term.structure, Shared):
        theta = np.ones((pairs.shape[0], len(term.structure.rows)))
        if own:
            theta[:, 1] = pairs[:, own[0][0]]
        root = term.structure.factor(term.structure.coordinates(theta))
        return np.asarray(root @ np.swapaxes(root, 1, 2))
    out = np.tile(np.eye(len(term.effects)), (pairs.shape[0], 1, 1))
    for column, a, b in own:
        out[:, a, b] = out[:, b, a] = pairs[:, column]
    return out
