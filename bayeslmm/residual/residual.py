"""The contract of a residual structure.

The residuals of the n rows are normal with covariance ``sigma^2 R(lam)``. A structure is one class, bound to the rows
of a design, that says what R is. *lam* are its own parameters, k numbers without bounds (none for equal variances and
for precision weights); any leading axes are points, evaluated together.

Whatever needs R asks the structure, and asks for the least that will do: the likelihood for whitened columns and a log
determinant, simulation for the inverse of whitening, predictions for variances, PyMC for a standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from bayeslmm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from scipy import sparse

# Rows of a structure: all (None), a range or a list of different rows.
type Chosen = slice | IntArray | None

# Rows of a cluster up to which its whitening is written out, and numbers of columns over all rows.
_WRITTEN_OUT, _MOST_NUMBERS = 100, 40_000_000

# lam of a structure that has no parameters.
NO_PARAMETERS: FloatArray = np.empty(0)
NO_PARAMETERS.flags.writeable = False


class Residual(Protocol):
    """What the rows of a design have left of y given all effects: normal, mean zero, covariance ``sigma^2 R(lam)``.

    `rows` picks r of the n rows everywhere: what is meant is then the block ``R[rows, rows]``, the distribution of
    these residuals alone. Shapes below leave the axes of points out, which come first.

    Attributes
    ----------
    n : int
        Rows.
    keyword : str
        Name used in printouts, e.g. ``"weights"``.
    names : tuple of str
        Labels of the k entries of lam.
    identity : bool
        Whether R is the identity matrix, so that every residual has variance ``sigma^2``.
    clusters : IntArray or None, shape (n,)
        Rows with different numbers, 0 .. C - 1, are independent; None if all rows are.
    weights : FloatArray or None, shape (n,)
        Known precision weights, by which variances are divided; None if all are 1.
    text : str
        ``sigma^2 R`` as printouts of matrices write it.
    """

    @property
    def n(self) -> int: ...
    @property
    def keyword(self) -> str: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def identity(self) -> bool: ...
    @property
    def clusters(self) -> IntArray | None: ...
    @property
    def weights(self) -> FloatArray | None: ...
    @property
    def text(self) -> str: ...

    def whiten(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        """``W columns`` of shape (r, m), W a square root of the inverse: ``W'W = R[rows, rows]^-1``."""
        ...

    def color(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        """``W^-1 columns`` (r, m): independent standard normal columns become residuals at ``sigma = 1``."""
        ...

    def whiten_slopes(self, lam: FloatArray, columns: FloatArray, rows: Chosen = None) -> FloatArray:
        """Derivatives (k, r, m) of `whiten` in the entries of lam."""
        ...

    def log_det(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """``log det R[rows, rows]``, one number per point."""
        ...

    def log_det_slopes(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Derivatives (k,) of `log_det`."""
        ...

    def variance(self, lam: FloatArray, rows: Chosen = None) -> FloatArray:
        """Diagonal (r,) of R: variances of single residuals over ``sigma^2``."""
        ...

    def covariance(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        """``R[rows, rows]`` at one point, sparse."""
        ...

    def whitening(self, lam: FloatArray, rows: Chosen = None) -> sparse.csc_array:
        """W of `whiten` at one point, sparse."""
        ...

    def part(self, rows: slice | IntArray) -> Self:
        """The structure of some of the rows, in that order."""
        ...

    def data(self) -> dict[str, FloatArray]:
        """Arrays (n,) by the names under which a PyMC model has them as data."""
        ...

    def scale(self, sigma: Any, lam: Sequence[Any], data: Mapping[str, Any], math: Any) -> Any:
        """Standard deviation of a residual from sigma, lam and `data`, for any numbers: arrays, tensors, source text.

        Parameters
        ----------
        sigma : number
        lam : sequence of number
            One for each of `names`.
        data : mapping of str to number
            By the names of `data`.
        math : module
            Has ``sqrt`` and ``exp``: NumPy, ``pymc.math``, or a symbol of either in source text.
        """
        ...

    def latex(self, sigma: str) -> str:
        """Variance of the residual of row i in LaTeX, sigma as given."""
        ...

    def check(self, n: int) -> None:
        """Refuse contents that no structure of n rows has, as may be read from a file.

        Raises
        ------
        ValueError
            What was found.
        """
        ...


def each_point(lam: FloatArray) -> Iterator[tuple[FloatArray, IntArray]]:
    """Different ones among K points (K, k), and which of the K each is.

    Examples
    --------
    >>> [(at.tolist(), own.tolist()) for at, own in each_point(np.array([[0.5], [0.1], [0.5]]))]
    [([0.1], [1]), ([0.5], [0, 2])]
    """
    points, which = np.unique(lam, axis=0, return_inverse=True)
    which = np.ravel(which)
    ends = np.cumsum(np.bincount(which, minlength=len(points)))[:-1]
    yield from zip(points, np.split(np.argsort(which, kind="stable"), ends), strict=True)


def at_each(function: Callable[..., Any], lam: FloatArray, columns: FloatArray | None = None) -> FloatArray:
    """A function of one point (and columns of two axes) at all of them."""
    if columns is None:
        flat = [function(one) for one in lam.reshape(-1, lam.shape[-1])]
        return np.reshape(flat, (*lam.shape[:-1], *np.shape(flat[0])))
    points = np.broadcast_shapes(lam.shape[:-1], columns.shape[:-2])
    if not points:
        return np.asarray(function(lam, columns))
    each = np.broadcast_to(lam, (*points, lam.shape[-1])).reshape(-1, lam.shape[-1])
    own = np.broadcast_to(columns, (*points, *columns.shape[-2:])).reshape(-1, *columns.shape[-2:])
    found = [function(one, z) for one, z in zip(each, own, strict=True)]
    return np.reshape(found, (*points, *found[0].shape))


def log_dets(
    residual: Residual, lam: FloatArray, codes: IntArray, counts: IntArray | FloatArray | None = None
) -> FloatArray:
    """``log det R`` of the rows of every group, shape (G,) after the axes of points.

    Parameters
    ----------
    residual : Residual
    lam : FloatArray, shape (k,)
    codes : IntArray, shape (n,)
        Group of each row, 0 .. G - 1.
    counts : array, shape (n,), optional
        How many independent observations each row stands for.

    Examples
    --------
    >>> from bayeslmm.residual import PrecisionWeights
    >>> log_dets(PrecisionWeights(np.array([1.0, np.e, np.e])), NO_PARAMETERS, np.array([0, 0, 1]), np.array([1, 2, 3]))
    array([-2., -3.])
    """
    groups = int(codes.max(initial=-1)) + 1
    if residual.clusters is not None and lam.ndim == 1 and not crosses(residual.clusters, codes):
        logs, first = _of_clusters(residual, lam)
        return np.bincount(codes[first], weights=logs, minlength=groups)
    if residual.clusters is not None:
        order = np.argsort(codes, kind="stable")
        members = np.split(order, np.cumsum(np.bincount(codes, minlength=groups))[:-1])
        return np.stack([residual.log_det(lam, rows) for rows in members], axis=-1)
    logs = np.log(residual.variance(lam))
    logs = logs if counts is None else logs * counts
    sums = [np.bincount(codes, weights=row, minlength=groups) for row in logs.reshape(-1, codes.size)]
    return np.stack(sums).reshape(*logs.shape[:-1], groups)


def _of_clusters(residual: Residual, lam: FloatArray) -> tuple[FloatArray, IntArray]:
    """``log det R`` (C,) of every cluster, and its first row: of all clusters of one size together."""
    clusters = np.asarray(residual.clusters)
    order, sizes = np.argsort(clusters, kind="stable"), np.bincount(clusters)
    starts = np.cumsum(sizes) - sizes
    out = np.empty(sizes.size)
    for size in np.unique(sizes):
        own = np.flatnonzero(sizes == size)
        rows = order[starts[own, None] + np.arange(size)]
        if size > _WRITTEN_OUT:
            out[own] = [residual.log_det(lam, members) for members in rows]
            continue
        out[own] = -2.0 * np.linalg.slogdet(cluster_blocks(residual.whiten, lam, rows, residual.n))[1]
    return out, order[starts]


def cluster_blocks(change: Callable[..., FloatArray], lam: FloatArray, rows: IntArray, n: int) -> FloatArray:
    """Blocks (G, r, r) of a matrix (n, n) on the rows (G, r) of whole clusters, beside which these have zeros.

    Parameters
    ----------
    change : callable
        `Residual.whiten` or `Residual.color`, which multiply by the matrix.
    lam : FloatArray, shape (k,)
    rows : IntArray, shape (G, r)
    n : int

    Examples
    --------
    >>> from bayeslmm.residual import PrecisionWeights
    >>> weights = PrecisionWeights(np.array([1.0, 4.0]))
    >>> cluster_blocks(weights.whiten, NO_PARAMETERS, np.array([[1], [0]]), 2).tolist()
    [[[2.0]], [[1.0]]]
    """
    r = rows.shape[1]
    if n * r > _MOST_NUMBERS:
        # Roots at lam, which are known for all rows, are made again for each cluster.
        return np.stack([change(lam, np.eye(r), members) for members in rows])
    columns = np.zeros((n, r))
    columns[rows, np.arange(r)] = 1.0
    return np.asarray(change(lam, columns)[rows])


def crosses(clusters: IntArray, codes: IntArray) -> bool:
    """Whether rows of one cluster are in several groups.

    Parameters
    ----------
    clusters, codes : IntArray, shape (n,)
        Cluster and group of each row, both from 0.

    Examples
    --------
    >>> crosses(np.array([0, 0, 1]), np.array([1, 1, 1])), crosses(np.array([0, 0, 1]), np.array([0, 1, 1]))
    (False, True)
    """
    group = np.empty(int(clusters.max()) + 1, dtype=np.int64)
    group[clusters] = codes
    return bool((group[clusters] != codes).any())
