"""Mixtures of multivariate t distributions, folded at zero in chosen coordinates, and how they adapt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.special import gammaln

from bayeslmm.errors import PriorError
from bayeslmm.types import BoolArray, FloatArray

# A component further than this many of its own widths from zero has no mass worth folding there.
_FAR = 9.0


@dataclass(frozen=True)
class MixtureT:
    """Mixture of multivariate t distributions with a common number of degrees of freedom.

    Attributes
    ----------
    weights : FloatArray, shape (C,)
    means : FloatArray, shape (C, d)
    chols : FloatArray, shape (C, d, d)
        Cholesky factors of the scale matrices.
    df : FloatArray, shape (C,)
    folded : BoolArray, shape (d,)
        Coordinates replaced by their absolute value.
    """

    weights: FloatArray
    means: FloatArray
    chols: FloatArray
    df: FloatArray
    folded: BoolArray

    def draw(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Draws (size, d); the share of each component is exact up to rounding."""
        edges = np.round(np.cumsum(self.weights) * size).astype(int)
        which = np.searchsorted(edges, np.arange(size), side="right").clip(0, len(self.weights) - 1)
        z = rng.standard_normal((size, self.means.shape[1]))
        scale = np.sqrt(self.df[which] / rng.chisquare(self.df[which]))
        x = self.means[which] + scale[:, None] * (self.chols[which] @ z[..., None])[..., 0]
        return np.asarray(np.where(self.folded, np.abs(x), x))

    def log_density(self, x: FloatArray) -> FloatArray:
        """Log density (K,) of the folded mixture at x (K, d) with nonnegative folded coordinates."""
        d = x.shape[1]
        parts = []
        for weight, mean, chol, df in zip(self.weights, self.means, self.chols, self.df, strict=True):
            whiten = np.linalg.inv(chol).T
            constant = gammaln((df + d) / 2) - gammaln(df / 2) - 0.5 * d * np.log(df * np.pi)
            constant += np.log(weight) - np.log(np.diagonal(chol)).sum()
            for signs in self._images(mean, chol):
                z = x @ (signs[:, None] * whiten) - mean @ whiten
                parts.append(constant - 0.5 * (df + d) * np.log1p(np.einsum("kd,kd->k", z, z) / df))
        return _log_sum(np.stack(parts))

    def moved(self, origin: FloatArray, root: FloatArray) -> MixtureT:
        """The mixture of ``origin + root x``."""
        return replace(self, means=origin + self.means @ root.T, chols=_triangular(root @ self.chols))

    def _images(self, mean: FloatArray, chol: FloatArray) -> FloatArray:
        """Sign patterns of the mirror images that can reach the component."""
        width = np.sqrt((chol**2).sum(-1))
        near = self.folded & (np.abs(mean) < _FAR * width)
        choices = [(1.0, -1.0) if flip else (1.0,) for flip in near]
        return np.array(list(product(*choices)))


def _log_sum(logs: FloatArray) -> FloatArray:
    """Log of the sum of exponentials over the first axis; the general function costs several times as much."""
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))


def single(mean: FloatArray, root: FloatArray, df: float, folded: BoolArray) -> MixtureT:
    """One t component whose scale matrix is ``root root'``."""
    return MixtureT(np.ones(1), mean[None], _triangular(root[None]), np.array([df]), folded)


def _triangular(roots: FloatArray) -> FloatArray:
    """Cholesky factors (C, d, d) of ``root root'``, without forming it."""
    L = np.swapaxes(np.linalg.qr(np.swapaxes(roots, -1, -2), mode="r"), -1, -2)
    return np.asarray(L * np.where(np.diagonal(L, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[:, None, :])


def fit_mixture(
    x: FloatArray,
    weights: FloatArray,
    components: int,
    folded: BoolArray,
    rng: np.random.Generator,
    rounds: int = 6,
) -> MixtureT:
    """Fit a Gaussian mixture to weighted points by EM and give it t tails.

    Parameters
    ----------
    x : FloatArray, shape (K, d)
    weights : FloatArray, shape (K,)
        Normalised.
    components : int
    folded : BoolArray, shape (d,)
    rng : numpy.random.Generator
    rounds : int
        EM iterations.
    """
    d = x.shape[1]
    if not np.isfinite(weights).all():
        raise PriorError(
            "No draw has a density that a number can hold: a prior is orders of magnitude from what the data say. "
            "Look at model.priors(), and give scales in the units of the data."
        )
    mean = weights @ x
    centred = x - mean
    overall = (centred * weights[:, None]).T @ centred + 1e-10 * np.eye(d)
    means = x[rng.choice(x.shape[0], components, p=weights)]
    covariances = np.repeat(overall[None], components, axis=0)
    shares = np.full(components, 1.0 / components)
    for _ in range(rounds):
        log_p = np.stack(
            [
                np.log(shares[c]) + _log_normal(x - means[c], np.linalg.cholesky(covariances[c]))
                for c in range(components)
            ]
        )
        responsibility = np.exp(log_p - _log_sum(log_p)) * weights
        shares = np.maximum(responsibility.sum(1), 1e-3)
        shares /= shares.sum()
        total = np.maximum(responsibility.sum(1), 1e-12)
        means = (responsibility @ x) / total[:, None]
        for c in range(components):
            centred = x - means[c]
            within = (centred * responsibility[c][:, None]).T @ centred / total[c]
            covariances[c] = 0.95 * within + 0.05 * overall
    df = np.full(components, 7.0)
    return MixtureT(shares, means, np.linalg.cholesky(covariances), df, folded)


def _log_normal(shifted: FloatArray, chol: FloatArray) -> FloatArray:
    z = shifted @ np.linalg.inv(chol).T
    return np.asarray(-0.5 * np.einsum("kd,kd->k", z, z) - np.log(np.diagonal(chol)).sum())


def blend(first: MixtureT, second: MixtureT, share: float) -> MixtureT:
    """Mixture with `share` of the second (a defensive component keeps the weights bounded)."""
    return MixtureT(
        np.concatenate([(1 - share) * first.weights, share * second.weights]),
        np.concatenate([first.means, second.means]),
        np.concatenate([first.chols, second.chols]),
        np.concatenate([first.df, second.df]),
        first.folded,
    )
