"""Components of a first proposal for where a standard deviation is zero.

The likelihood does not know the correlations of an effect whose sd is zero: there they have their prior, however well
they are known elsewhere. On the coordinates this is a ridge at the foot of the mode, narrow along the sd and as wide as
the prior along the correlations. A normal density at the mode does not reach it, and the few points that do would get
weights many times the others'.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayeslmm.bayes.proposals import MixtureT, blend, single
from bayeslmm.bayes.target import Target
from bayeslmm.types import FloatArray, IntArray

# Mass beside that of the mode below which a ridge is left to the tails; the least that others are given, so that no
# estimate of their mass is too low, and the most.
_NEGLIGIBLE, _LEAST, _MOST = 1e-4, 0.05, 1.0
# Points along the sd.
_POINTS = 25


def with_ridges(target: Target, pilot: MixtureT) -> MixtureT:
    """A proposal whose first component is at the mode, with one component more for every ridge that counts.

    Parameters
    ----------
    target : Target
    pilot : MixtureT
    """
    mean, root, df = pilot.means[0], pilot.chols[0], float(pilot.df[0])
    peak = _log_mass(target, mean, root)
    for k, free, widths in _undetermined(target):
        at, along = _foot(target, mean, root, k, free, widths)
        ridge = single(at, along, df, target.folded)
        # Half of it: the component is symmetric about zero.
        mass = float(np.exp(_log_mass(target, at, ridge.chols[0]) - peak)) / 2.0
        if mass > _NEGLIGIBLE:
            share = min(max(mass, _LEAST), _MOST)
            pilot = blend(pilot, ridge, share / (1.0 + share))
    return pilot


def _undetermined(target: Target) -> Iterator[tuple[int, IntArray, FloatArray]]:
    """Coordinates of sds that can be zero, of the correlations that have their prior there, and widths of that."""
    position = 0
    for own in target.coordinates:
        for k, even in enumerate(own.even):
            free = own.freed_by(k)
            if even and free.size:
                # Of (1 - z^2)^(shape - 1) on the coordinate, by the curvature at zero.
                widths = 1.0 / np.sqrt(1.0 + (own.shapes[free] - 1.0) * 4.0 / np.pi)
                yield position + k, position + own.size + free, widths
        position += own.dimension


def _foot(
    target: Target, mean: FloatArray, root: FloatArray, k: int, free: IntArray, widths: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean (d,) and square root (d, r) of the covariance where coordinate k is zero and those in `free` are so.

    The others are as the normal density at the mode has them given coordinate k.
    """
    length = np.sqrt((root[k] ** 2).sum())
    slope = root @ (root[k] / length)
    at = mean - slope * mean[k] / length
    at[k], at[free] = 0.0, 0.0
    at = np.where(target.folded, np.abs(at), at)
    places = np.linspace(0.0, abs(mean[k]) + length, _POINTS)
    points = np.repeat(at[None], _POINTS, axis=0)
    # Away from the correlations at the mode, which belong to the mode.
    points[:, k], points[:, free] = places, -np.where(mean[free] < 0, -1.0, 1.0) * widths
    with np.errstate(invalid="ignore", over="ignore"):
        log_density = target.evaluate(points).log_density
        heights = np.nan_to_num(np.minimum(np.exp(log_density - log_density[0]), 1.0))
    own = np.zeros((mean.size, free.size + 1))
    own[k, 0] = max(np.sqrt(2.0 / np.pi) * np.trapezoid(heights, places), places[1])
    own[free, np.arange(1, free.size + 1)] = widths
    rest = root - np.outer(slope, root[k] / length)
    rest[np.append(free, k)] = 0.0
    return at, np.concatenate([rest, own], axis=1)


def _log_mass(target: Target, mean: FloatArray, root: FloatArray) -> float:
    """Log of what a normal density with the target's height would hold, but for a constant."""
    height = float(target.evaluate(mean[None]).log_density[0])
    return height + float(np.log(np.abs(np.diagonal(root))).sum())
