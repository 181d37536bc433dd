"""The distribution of the largest absolute value of correlated t statistics, whatever the rank of their correlation.

The statistics are ``A w / s`` with ``A A'`` the correlation, w standard normal of r dimensions and ``s^2`` a
chi-square over its degrees of freedom. The length of w and its direction u are independent, and ``|w|^2 / (r s^2)``
has an F distribution, so that

``P(max |T| > t) = mean over directions of P(F > t^2 / (r m(u)^2))``, with ``m(u) = max_i |a_i'u|``.

The integral over s is gone, and nothing asks A to be square or the correlation to be regular. The directions at which
statistic i is the largest form a cone around a_i. In it m is the cosine of the angle to a_i, whose integral up to the
edge of the cone is smooth in the angle of the edge. So what has to be known of a correlation is how the angles of
edges are distributed, once for all t and all degrees of freedom. In two and three dimensions the cones are segments and
polygons, on which Gauss and Legendre's rule converges geometrically. In more, edges are looked for in the directions
of scrambled Sobol' points; the spread over scramblings is stated.

SciPy's ``multivariate_t.cdf`` gives wrong numbers for singular correlations (.0902 where .0467 is right).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc, ndtri

from bayeslmm.equality import by_value
from bayeslmm.types import FloatArray

# Eigenvalues of a correlation matrix below this share of the largest are zero.
_RANK = 1e-10
# Statistics with a correlation this near to +-1 are one.
_SAME = 1e-12
_NODES = 24
# Longest piece, in units of the inverse hyperbolic sine, over which a rule of that many nodes keeps its digits.
_PIECE = 1.5
# Scramblings, points of each as a power of two, and how many times the statistics at most are looked at.
_SCRAMBLINGS, _POWER, _MOST = 8, 12, 40_000_000
_SEED = 20250101
# Angles of edges are kept as weights of this many nodes in each of so many bins.
_BINS, _DEGREE = 32, 8


@by_value
@dataclass(frozen=True, eq=False)
class Directions:
    """Nodes of the integral over directions.

    Attributes
    ----------
    rank : int
        Dimensions r.
    largest : FloatArray, shape (K,)
        m(u), between 0 and 1.
    weights : FloatArray, shape (parts, K)
        Each row sums to 1; several rows are independent estimates.
    """

    rank: int
    largest: FloatArray
    weights: FloatArray

    def upper(self, t: float, df: float) -> float:
        """P(max |T| > t)."""
        return float((self.weights @ self._tails(t, df)).mean())

    def error(self, t: float, df: float) -> float:
        """Standard error of `upper`; 0 where the rule has none."""
        found = self.weights @ self._tails(t, df)
        return float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else 0.0

    def critical(self, level: float, df: float) -> float:
        """T with P(max |T| <= t) = level."""
        from scipy.optimize import brentq

        top = 4.0
        while self.upper(top, df) > 1.0 - level:
            top *= 2.0
        return float(brentq(lambda t: self.upper(t, df) - (1.0 - level), 0.0, top, xtol=1e-11))

    def _tails(self, t: float, df: float) -> FloatArray:
        with np.errstate(divide="ignore", over="ignore"):
            square = (t / self.largest) ** 2
        if np.isinf(df):
            return np.asarray(chdtrc(self.rank, square))
        return np.asarray(fdtrc(self.rank, df, square / self.rank))


def directions(correlation: FloatArray) -> Directions:
    """Nodes for statistics of a correlation matrix (m, m), of any rank.

    Examples
    --------
    All pairs of three independent means with equal variances: the studentised range.

    >>> C = np.array([[1.0, -1, 0], [1, 0, -1], [0, 1, -1]]) / np.sqrt(2)
    >>> from scipy.stats import studentized_range
    >>> found, range_ = directions(C @ C.T).upper(2.5, 10.0), studentized_range.sf(2.5 * np.sqrt(2), 3, 10)
    >>> bool(abs(found - range_) < 1e-9)
    True
    """
    A = _distinct(_root(correlation))
    rank = A.shape[1]
    if rank == 1:
        return Directions(1, np.ones(1), np.ones((1, 1)))
    edges = (_circle if rank == 2 else _sphere if rank == 3 else _sampled)(A)
    return _inside(rank, *edges)


def _inside(rank: int, theta: FloatArray, weights: FloatArray) -> Directions:
    """Directions inside of cones whose edges have angles theta (K,) with weights (parts, K)."""
    x, w = _rule(2)
    angle = theta[:, None] * x
    inner = theta[:, None] * w * np.sin(angle) ** (rank - 2)
    every = (weights[:, :, None] * inner).reshape(len(weights), -1)
    return Directions(rank, np.cos(angle).ravel(), every / every.sum(axis=1, keepdims=True))


def _binned(theta: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A few nodes and weights that give the same sums of smooth functions of angles."""
    low, high = float(theta.min()), float(theta.max())
    width = (high - low) / _BINS
    if width < 1e-9:
        return np.array([0.5 * (low + high)]), np.array([weights.sum()])
    bin_ = np.minimum((theta - low) / width, _BINS - 0.5).astype(np.int64)
    local = (theta - low) / width - bin_
    nodes = 0.5 - 0.5 * np.cos((np.arange(_DEGREE) + 0.5) * np.pi / _DEGREE)
    out = np.empty((_BINS, _DEGREE))
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        basis = np.prod([(local - other) / (node - other) for other in others], axis=0)
        out[:, j] = np.bincount(bin_, weights * basis, _BINS)
    return (low + width * (np.arange(_BINS)[:, None] + nodes)).ravel(), out.ravel()


def _root(correlation: FloatArray) -> FloatArray:
    """A (m, r) with unit rows and ``A A'`` the correlation."""
    values, vectors = np.linalg.eigh(correlation)
    kept = values > _RANK * values[-1]
    A = vectors[:, kept] * np.sqrt(values[kept])
    return np.asarray(A / np.linalg.norm(A, axis=1, keepdims=True))


def _distinct(A: FloatArray) -> FloatArray:
    """Rows that are not another one or its opposite."""
    kept = list[int]()
    for i, row in enumerate(A):
        if not kept or np.abs(A[kept] @ row).max() < 1.0 - _SAME:
            kept.append(i)
    return A[kept]


def _rule(pieces: int) -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on (0, 1), a rule on each of some pieces of it."""
    x, w = np.polynomial.legendre.leggauss(_NODES)
    start = np.arange(pieces)[:, None]
    return (start + 0.5 * (x + 1.0)).ravel() / pieces, np.tile(0.5 * w, pieces) / pieces


def _circle(A: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Up to the middle of the gap between two statistics the first is the largest, from there the second."""
    angles = np.sort(np.arctan2(A[:, 1], A[:, 0]) % np.pi)
    gaps = np.diff([*angles, angles[0] + np.pi])
    return 0.5 * gaps, np.ones((1, len(gaps)))


def _sphere(A: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Edges of the polygons in which the statistics are the largest."""
    fans = [_fan(*edge) for i in range(len(A)) for edge in _edges(A, i)]
    weights, theta = (np.concatenate(parts) for parts in zip(*fans, strict=True))
    nodes, binned = _binned(theta, weights)
    return nodes, binned[None]


def _planes(A: FloatArray, i: int) -> tuple[FloatArray, FloatArray]:
    """B and c of ``b'y <= c`` for all y of the plane through a_i across it, where statistic i is the largest."""
    others = np.delete(A, i, axis=0)
    frame = np.linalg.svd(A[i][None])[2][1:]
    slope, cosine = others @ frame.T, others @ A[i]
    return np.vstack([slope, -slope]), np.concatenate([1.0 - cosine, 1.0 + cosine])


def _edges(A: FloatArray, i: int) -> list[tuple[float, float, float]]:
    """Edges of the polygon of statistic i in the plane that touches the sphere there.

    Each is its distance from the point of contact, and where it begins and ends, measured from the foot of the
    perpendicular.
    """
    b, c = _planes(A, i)
    length = np.linalg.norm(b, axis=1)
    normal, distance = b / length[:, None], c / length
    found = []
    for k in range(len(normal)):
        along = np.array([-normal[k, 1], normal[k, 0]])
        speed, room = normal @ along, distance - distance[k] * (normal @ normal[k])
        parallel = np.abs(speed) < 1e-13
        if (room[parallel] < -1e-13).any():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            limit = room / speed
        end = np.min(limit[~parallel & (speed > 0)], initial=np.inf)
        start = np.max(limit[~parallel & (speed < 0)], initial=-np.inf)
        if end > start:
            found.append((float(distance[k]), float(start), float(end)))
    return found


def _fan(distance: float, start: float, end: float) -> tuple[FloatArray, FloatArray]:
    """Nodes of the directions around a point of contact that look at one edge: weights, and angles to the edge."""
    # Positions on the edge are distance * sinh(v), which resolves edges that pass close by.
    low, high = np.arcsinh(start / distance), np.arcsinh(end / distance)
    x, w = _rule(max(int(np.ceil((high - low) / _PIECE)), 1))
    v = low + (high - low) * x
    return (high - low) * w / np.cosh(v), np.arctan(distance * np.cosh(v))


def _sampled(A: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Edges in sampled directions, of each scrambling."""
    from scipy.stats import qmc

    rank = A.shape[1]
    power = min(_POWER, int(np.log2(max(_MOST / (_SCRAMBLINGS * len(A) ** 2), 256))))
    theta = np.empty((_SCRAMBLINGS, len(A), 2**power))
    for k in range(_SCRAMBLINGS):
        points = qmc.Sobol(rank - 1, scramble=True, rng=np.random.default_rng([_SEED, k])).random_base2(power)
        normal = ndtri(np.clip(points, 1e-15, 1.0 - 1e-15))
        v = normal / np.linalg.norm(normal, axis=1, keepdims=True)
        for i in range(len(A)):
            b, c = _planes(A, i)
            with np.errstate(divide="ignore"):
                nearness = ((v @ b.T) / c).max(axis=1)
            theta[k, i] = np.arctan2(1.0, nearness)
    low, high = theta.min(), theta.max()
    ends = np.array([low, high])
    parts = [_binned(np.concatenate([own.ravel(), ends]), np.append(np.ones(own.size), [0.0, 0.0])) for own in theta]
    return parts[0][0], np.stack([weights for _, weights in parts])
