"""The Bayesian engine: priors, the PyMC model, the collapsed posterior. The only place that knows PyMC."""

from __future__ import annotations

from bayeslmm.bayes.collapsed import CollapsedDraws, Diagnostics, sample_collapsed
from bayeslmm.bayes.default_priors import default_priors, resolve_priors
from bayeslmm.bayes.priors import Priors, SdPrior

__all__ = [
    "CollapsedDraws",
    "Diagnostics",
    "Priors",
    "SdPrior",
    "default_priors",
    "resolve_priors",
    "sample_collapsed",
]
