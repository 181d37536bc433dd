"""The samplers that calibration can put to the test, each as a function of the data of one replicate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayeslmm.bayes.collapsed import correlations, sample_collapsed
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.log_likelihood import variance_draws
from bayeslmm.bayes.prior_draws import PriorDraws, block_terms
from bayeslmm.bayes.priors import Priors
from bayeslmm.calibration.quantities import QuantityDraws
from bayeslmm.design import Design
from bayeslmm.likelihood import SummedDesign
from bayeslmm.model import Model
from bayeslmm.types import FloatArray

type Sampler = Callable[[SummedDesign, Sequence[FloatArray], np.random.Generator], QuantityDraws]

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

    def __call__(self, cp: SummedDesign, start: Sequence[FloatArray], rng: np.random.Generator) -> QuantityDraws:
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

    def __call__(self, cp: SummedDesign, start: Sequence[FloatArray], rng: np.random.Generator) -> QuantityDraws:
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
    drawn = variance_draws(design, posterior)
    chosen = np.arange(_THIN - 1, drawn.sigma.size, _THIN)[:draws]
    drawn = drawn.part(chosen)
    relative = drawn.relative_sds
    sds = tuple(t * drawn.sigma[:, None] for t in relative)
    corrs = tuple(correlations(T, t) for T, t in zip(drawn.factors, relative, strict=True))
    effects = {group.labels.group: np.asarray(posterior[group.b]) for group in make_layout(design).groups}
    blocks = block_terms(design)
    kept = (effects[design.terms[terms[0]].group] for terms in blocks)
    b = tuple(values.reshape(-1, *values.shape[2:])[chosen] for values in kept)
    return PriorDraws(drawn.beta, drawn.sigma, sds, corrs, b, blocks, lam=drawn.lam)
