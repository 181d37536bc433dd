"""What sums on a frame can do, however they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from bayeslmm.equality import same_values
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.factor import Factor, Replicates
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.rotation import InternalPrior
from bayeslmm.types import FloatArray, IntArray

if TYPE_CHECKING:
    from bayeslmm.likelihood.last_blocks import LastBlocks

type Factors = Sequence[FloatArray]


@dataclass(frozen=True)
class Work:
    """Size of what is stored and worked on.

    Attributes
    ----------
    name : {"levels", "hierarchy", "packed", "anchored", "stochastic"}
    cells : int
        Combinations of the first factor and the dense effects that are stored.
    fill : float
        Their share of all combinations.
    numbers : int
        Doubles stored in all.
    flops : float
        Multiplications with them in one evaluation, roughly.
    """

    name: str
    cells: int
    fill: float
    numbers: int
    flops: float


class Sums(Protocol):
    """Additive statistics on a frame, and all that follows from them at given relative factors.

    `factors` are always internal relative factors of the blocks, each (K, c, c); `factor` is the evaluation there.
    Everything is on internal coordinates unless said otherwise.
    """

    @property
    def frame(self) -> Frame: ...

    @property
    def n(self) -> int:
        """Observations summed."""

    @property
    def R(self) -> FloatArray:
        """Triangular factors (J, c, c) of the first block within each level."""

    @property
    def batched(self) -> bool:
        """Whether many points are evaluated at once, derivatives kept, for little more than one."""

    @property
    def unlike(self) -> bool:
        """Whether levels, or the columns of one, are of sizes that one measure cannot compare."""

    @property
    def cost(self) -> float:
        """Doubles that one evaluation touches; infinite where points are evaluated one by one."""

    @property
    def between(self) -> int:
        """Doubles of the part that is kept level by level: the widest array of an evaluation, for each point."""

    @property
    def reference(self) -> FloatArray | None:
        """Effects that were taken out of the response before it was summed."""

    def evaluate(self, factors: Factors, replicates: Replicates | None = None, keep: bool = False) -> Factor:
        """Eliminate the random effects at K points."""

    def evaluate_many(self, factors: Factors) -> Factor:
        """What densities need at many points: of the factor and the estimates, maybe, those of beta alone."""

    @property
    def first_of_last(self) -> int:
        """The block from which on `last_blocks` has all; the number of blocks where there is nothing to gain."""

    def last_blocks(self, factor: Factor) -> LastBlocks | None:
        """What gives the evaluation at one point at any other covariances of the last blocks, if there are such."""

    def derivatives(self, factors: Factors, factor: Factor, nu: int, reml: bool) -> Derivatives:
        """Gradient of the profiled criterion with nu degrees of freedom in the covariance of every block."""

    def with_column(
        self,
        factors: Factors,
        factor: Factor,
        first: Derivatives,
        column: FloatArray,
        size: FloatArray,
        share: FloatArray,
        nu: int,
        reml: bool,
    ) -> tuple[Derivatives, Derivatives, Derivatives]:
        """Derivatives with another vector in place of s: moved along a column, the column alone, the sum of both.

        The column (K, t) of trailing effects counts `share` (K,) times in the first, `size` (K,) times in the second.
        """

    def solve_fixed(self, factor: Factor, points: IntArray, right: FloatArray) -> FloatArray:
        """Solutions (A, t) of the trailing equations at some points for right-hand sides (A, p) of beta."""

    def start(self) -> list[FloatArray]:
        """Relative factors (c, c) of every block from moments: lower triangular and regular."""

    def closed_form(self, reml: bool) -> list[FloatArray] | None:
        """Square roots (c, c) of the relative covariances at the only minimum, for balanced rows."""

    def squares(self) -> list[FloatArray]:
        """Sums of squares (J, c) of the columns of every level of every block."""

    def complete(
        self,
        factors: Factors,
        factor: Factor,
        trailing: FloatArray,
        sigma: FloatArray | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[FloatArray]:
        """Effects (K, J, c) of every block given the trailing ones (K, t): means, or draws with sigma and rng."""

    def draw_jointly(
        self,
        factors: Factors,
        factor: Factor | None,
        sigma: FloatArray,
        rng: np.random.Generator,
        prior: InternalPrior | None = None,
        report: Callable[[int], None] | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        """One exact draw of beta (K, p) and of the effects at each of many points, the cheapest way."""

    def variances(self, factors: Factors, factor: Factor, fixed_known: bool) -> list[FloatArray]:
        """Covariance (J, c, c) of the effects of each level over sigma^2 at one point, in the user's columns."""

    def row_errors(
        self, factors: Factors, factor: Factor, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]
    ) -> FloatArray:
        """Variance (k,) of the predicted mean less the true one over sigma^2.

        Rows have the columns x (k, p) of X and, for every block, columns (k, c) and levels (k,).
        """

    def row_size(self) -> int:
        """Doubles that `row_errors` holds for each row."""

    def sensitivity(
        self, factors: Factors, factor: Factor, first: Derivatives
    ) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[FloatArray, FloatArray] | None]:
        """``C = (X'V0^-1 X)^-1``, and ``Z'V0^-1 X C`` (K, J, c, p) of every block.

        Where they are at hand, too, ``Z1'V1^-1 Z1`` and ``Z1'V1^-1 (Z2, X)`` level by level, V1 being that of the
        first block alone.
        """

    def moved(self, factors: Factors, factor: Factor, chol: FloatArray, move: FloatArray) -> Factor:
        """An evaluation with another Cholesky factor and estimates moved by `move` (1, t)."""

    def rescaled(self, factors: Factors, factor: Factor, power: int) -> Factor:
        """An evaluation for the response over ``2^power`` (whose sums these are not) for the response itself."""

    def work(self) -> Work:
        """What is stored, and about how much work an evaluation is."""

    def on(self, frame: Frame) -> Self:
        """The same numbers under another name: a frame that differs in the user's columns only."""

    def merge(self, other: Self) -> Self:
        """Sums of the rows of both, which are on one frame."""


def check_one_frame(one: Sums, other: Sums) -> None:
    """Refuse sums that are not of the same coordinates and the same response."""
    same = one.frame is other.frame or one.frame == other.frame
    if not same or not same_values(one.reference, other.reference):
        raise ValueError(
            "These sums are on different frames, or of responses from which different effects were taken out: their "
            "columns are not the same, so that they cannot be added. Sum both kinds of rows on one frame."
        )


def level_rows(sums: Sums) -> IntArray:
    """Level of every row of the factors R (J, c, c), one after the other."""
    J, c = sums.R.shape[:2]
    return np.repeat(np.arange(J), c)
