"""Error of a prediction: variance of ``x'(beta^ - beta) + z'(b^ - b)`` with both estimated together.

The covariance of (beta^ - beta, b^ - b) is the inverse of Henderson's mixed-model equations, singular covariances
included. No inverse is formed: a row is carried through the elimination, which leaves a sum of squares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows
from bayeslmm.inference.satterthwaite import df_of_slopes
from bayeslmm.likelihood import CrossProducts, Factor, SummedDesign, evaluate
from bayeslmm.likelihood import parameters as par
from bayeslmm.mode import PosteriorMode
from bayeslmm.mode.degrees import mode_df_of
from bayeslmm.reml import Optimum
from bayeslmm.types import FloatArray, IntArray

# Doubles held at once.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class RowsTaken:
    """Rows of the data that are taken off new rows, as their residuals are known.

    With residuals e of the data and weights w, ``x'beta + z'b + w'e`` of a new row is ``w'y`` and what
    ``(x - X'w)'beta + (z - Z'w)'b`` is: only the errors of the latter count.

    Attributes
    ----------
    design : Design
    weights : sparse array, shape (k, n)
    """

    design: Design
    weights: sparse.csr_array

    def part(self, chosen: slice) -> RowsTaken:
        return RowsTaken(self.design, self.weights[chosen])

    @property
    def X(self) -> FloatArray:
        """Columns of X (k, p)."""
        return np.asarray(self.weights @ self.design.X)

    def levels(self, codes: IntArray) -> IntArray:
        """For every row the level of some row that it has weights of, -1 if it has none."""
        starts, stops = self.weights.indptr[:-1], self.weights.indptr[1:]
        out = np.full(starts.size, -1)
        some = stops > starts
        out[some] = codes[self.weights.indices[starts[some]]]
        return out

    def effects(self, codes: IntArray, Z: FloatArray, levels: int) -> FloatArray:
        """Columns (k, levels * c) of all effects of a factor with columns Z (n, c)."""
        n, c = Z.shape
        places = np.repeat(np.arange(n), c), (codes[:, None] * c + np.arange(c)).ravel()
        return np.asarray((self.weights @ sparse.csr_array((Z.ravel(), places), shape=(n, levels * c))).toarray())


def prediction_variance(
    cp: CrossProducts,
    factors: Sequence[FloatArray],
    factor: Factor,
    rows: Rows,
    groups: Sequence[str],
    taken: RowsTaken | None = None,
) -> FloatArray:
    """Variance of the predicted mean less the true mean at some rows, theta taken as known, divided by sigma^2.

    Parameters
    ----------
    cp : CrossProducts
    factors : sequence of FloatArray, each (1, c, c)
        Internal relative factors of the blocks.
    factor : Factor
        ``evaluate(cp, factors)``.
    rows : Rows
    groups : sequence of str
        Grouping factors whose effects are part of the mean; levels that the design does not have count as zero.
    taken : RowsTaken, optional
        What is taken off the rows. Of the first block it has one level for each row, that of the row itself.

    Returns
    -------
    FloatArray, shape (k,)

    References
    ----------
    Henderson (1975), Biometrics 31, 423-447; Bates, Maechler, Bolker & Walker (2015), J. Stat. Softw. 67(1), for the
    equations in u.
    """
    out = np.empty(rows.n)
    step = max(1, _CHUNK // cp.sums.row_size())
    for start in range(0, rows.n, step):
        part = slice(start, min(start + step, rows.n))
        own = rows.part(part)
        known = [_effects(cp, own, b, groups) for b in range(len(cp.blocks))]
        X = own.X
        if taken is not None:
            less = taken.part(part)
            X, known = X - less.X, [_less(cp, b, pair, less) for b, pair in enumerate(known)]
        out[part] = cp.sums.row_errors(factors, factor, X @ cp.fixed.transform, known)
    return out


def _less(
    cp: CrossProducts, b: int, effects: tuple[FloatArray, IntArray], taken: RowsTaken
) -> tuple[FloatArray, IntArray]:
    """Internal columns of a block less those of the rows taken: of its own level, or (k, q) of all levels."""
    (w, codes), block = effects, cp.blocks[b]
    Z = block.columns(taken.design) @ block.basis
    if b == 0:
        levels = taken.levels(block.grouping.codes)
        return w - taken.weights @ Z, np.where(levels < 0, codes, levels)
    out = -taken.effects(block.grouping.codes, Z, block.n_levels)
    places = codes[:, None] * block.size + np.arange(block.size)
    out[np.arange(len(w))[:, None], places] += w
    return out, codes


def new_level_variance(terms: Sequence[FloatArray], rows: Rows, n_levels: Mapping[int, tuple[str, int]]) -> FloatArray:
    """Variance of ``z'b`` of levels that the design does not have, divided by sigma^2, shape (k,).

    Parameters
    ----------
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    rows : Rows
    n_levels : mapping of int to (str, int)
        For the position of every term asked for its grouping factor and its number of levels.
    """
    total = np.zeros(rows.n)
    for k, (group, levels) in n_levels.items():
        new = rows.levels[group].codes >= levels
        total += np.where(new, ((rows.Z[k] @ terms[k]) ** 2).sum(1), 0.0)
    return total


# Share of the size of a parameter by which it is moved for a derivative: errors are the square of it.
_MOVE = 1e-4


def log_slopes(
    cp: CrossProducts, optimum: Optimum, variance: Callable[[Sequence[FloatArray], Factor], FloatArray]
) -> FloatArray:
    """Derivatives (m, k) of the logarithms of variances in the internal vector, by central differences.

    Parameters
    ----------
    cp : CrossProducts
    optimum : Optimum
    variance : callable
        Gives variances (m,), divided by sigma^2, from internal factors of the blocks, each (1, c, c), and their
        ``evaluate(cp, factors)``.
    """
    x = optimum.internal
    size = par.sizes(cp, list(optimum.factors))[0]
    moves = _MOVE * np.where(size > 0, size, 1.0)

    def at(point: FloatArray) -> FloatArray:
        factors = par.internal_factors(cp, point)
        # Of a variance of zero there is none.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(variance(factors, evaluate(cp, factors)))

    steps = np.diag(moves)
    with np.errstate(invalid="ignore"):
        slopes = [(at(x + step) - at(x - step)) / (2.0 * move) for step, move in zip(steps, moves, strict=True)]
    return np.column_stack(slopes)


def variance_df(
    cp: SummedDesign, optimum: Optimum, variance: Callable[[Sequence[FloatArray], Factor], FloatArray]
) -> FloatArray:
    """Satterthwaite's degrees of freedom (m,) of variances that are functions of the covariances; see `log_slopes`.

    At a posterior mode they come from the curvature of the posterior.
    """
    if isinstance(optimum, PosteriorMode):
        return mode_df_of(optimum, variance)
    return df_of_slopes(cp, optimum, log_slopes(cp, optimum, variance))


def _effects(cp: CrossProducts, rows: Rows, b: int, groups: Sequence[str]) -> tuple[FloatArray, IntArray]:
    """Internal columns (k, c) of a block and the level of each row; zeros where the level is not known."""
    block = cp.blocks[b]
    name = block.grouping.name
    if name not in groups:
        return np.zeros((rows.n, block.size)), np.zeros(rows.n, dtype=np.int64)
    codes = rows.levels[name].codes
    known = codes < block.n_levels
    Z = np.concatenate([np.empty((rows.n, 0)), *(rows.Z[k] for k in block.terms)], axis=1)
    return np.where(known[:, None], Z @ block.basis, 0.0), np.where(known, codes, 0)
