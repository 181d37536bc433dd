"""Posteriors whose draws are numbers of our own choice: whatever is made of them has an answer of dense algebra."""

from __future__ import annotations

import numpy as np

import bayeslmm as bl
from bayeslmm.bayes.datatree import nuts_datatree
from bayeslmm.bayes.default_priors import resolve_priors
from bayeslmm.bayes.layout import make_layout
from bayeslmm.bayes.nuts import NutsDraws
from bayeslmm.faces import Posterior
from bayeslmm.results.draws import Draws
from bayeslmm.types import FloatArray


def made_up(model: bl.Model, draws: int = 40, seed: int = 1, priors: object = None) -> Posterior:
    """A posterior of two chains; sds near 0.7, sigma near 0.9, all else near 0."""
    design, rng, shape = model.design, np.random.default_rng(seed), (2, draws // 2)
    layout = make_layout(design)
    sizes = {dim: len(labels) for dim, labels in layout.coords.items()}
    posterior = {}
    for name, dims in layout.posterior_dims.items():
        z = 0.3 * rng.normal(size=(*shape, *(sizes[dim] for dim in dims)))
        if name == "sigma":
            z = 0.9 * np.exp(z)
        elif name.startswith("sd_"):
            z = 0.7 * np.exp(z)
        posterior[name] = np.tanh(z) if name.startswith("corr_") else z
    resolved = resolve_priors(design, priors)
    found = NutsDraws(posterior, {"diverging": np.zeros(shape, dtype=bool)}, "pymc")
    return Posterior._of(
        Draws(design, nuts_datatree(design, resolved, found), resolved, "nuts", {"largest R-hat": 1.0})
    )


def flat(post: Posterior, name: str) -> FloatArray:
    """Draws (S, ...) of a variable."""
    values = post.data["posterior"][name].to_numpy()
    return values.reshape(-1, *values.shape[2:])


def lam_of(post: Posterior) -> FloatArray:
    """Draws (S, k) of the residual parameters."""
    return np.stack([flat(post, name) for name in post.design.residual.names], axis=1)


def covariance(post: Posterior, k: int) -> tuple[FloatArray, FloatArray]:
    """Of the responses given the fixed effects, and of the residuals, at one draw; one effect in every term."""
    design, sigma = post.design, flat(post, "sigma")[k]
    R = sigma**2 * design.residual.covariance(lam_of(post)[k]).toarray()
    V = R.copy()
    for term in design.terms:
        codes = design.groupings[term.group].codes
        sd = flat(post, f"sd_{term.group}")[k]
        V += (codes[:, None] == codes) * (term.Z * sd**2 @ term.Z.T)
    return V, R
