"""Sums of rows with one block eliminated level by level and all else dense: many points at once, exact derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from bayeslmm.design.covariance import canonical
from bayeslmm.equality import made_fast
from bayeslmm.likelihood import level_conditional as lc
from bayeslmm.likelihood.balanced import closed_form
from bayeslmm.likelihood.derivatives import Derivatives, LevelPieces, level_derivatives
from bayeslmm.likelihood.factor import Factor, Replicates, apply_lambda, evaluate_levels
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.level_sums import LevelSums
from bayeslmm.likelihood.many_points import draw_many, evaluate_many
from bayeslmm.likelihood.rotation import InternalPrior, draw_trailing
from bayeslmm.likelihood.splitting import split_rows
from bayeslmm.likelihood.starts import level_start
from bayeslmm.likelihood.sums import Work, check_one_frame, level_rows
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import FloatArray, IntArray

type Factors = Sequence[FloatArray]


@made_fast
@dataclass(frozen=True)
class Levels(LevelSums):
    """See `LevelSums` for the arrays and `sums.Sums` for the methods."""

    @classmethod
    def of(cls, frame: Frame, rows: FrameRows, reference: FloatArray | None = None) -> Levels:
        """Sums of some rows."""
        return cls(frame, rows.n, *split_rows(frame, rows), reference)

    @property
    def batched(self) -> bool:
        return True

    @property
    def cost(self) -> float:
        return float(self.D.shape[0] ** 2 + self.E.size * (self.moments is None))

    @property
    def between(self) -> int:
        return self.E.size

    def evaluate(self, factors: Factors, replicates: Replicates | None = None, keep: bool = False) -> Factor:
        return evaluate_levels(self, factors, replicates, keep)

    def evaluate_many(self, factors: Factors) -> Factor:
        if factors[0].shape[0] == 1 or self.pairs is None:
            return evaluate_levels(self, factors)
        return evaluate_many(self, self.pairs, _lower(factors))

    @property
    def first_of_last(self) -> int:
        return len(self.frame.blocks)

    def last_blocks(self, factor: Factor) -> None:
        return None

    def derivatives(self, factors: Factors, factor: Factor, nu: int, reml: bool) -> Derivatives:
        return level_derivatives(self, factors, factor, nu, reml)

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
        if self.q_trailing:
            column = apply_lambda(self.frame, factors[1:], column[..., None], transposed=False)[..., 0]
        alone = np.concatenate([column, np.zeros((column.shape[0], 1))], axis=1)
        held = factor.residual + share[:, None] * alone
        scaled = alone * size[:, None]
        one, other, both = (
            level_derivatives(self, factors, replace(factor, residual=v), nu, reml)
            for v in (held, scaled, held + scaled)
        )
        return one, other, both

    def solve_fixed(self, factor: Factor, points: IntArray, right: FloatArray) -> FloatArray:
        whole = np.zeros((points.size, self.q_trailing + self.p, 1))
        whole[:, self.q_trailing :, 0] = right
        L = factor.chol[points]
        return np.asarray(np.linalg.solve(L.mT, np.linalg.solve(L, whole))[..., 0])

    def start(self) -> list[FloatArray]:
        return level_start(self)

    def closed_form(self, reml: bool) -> list[FloatArray] | None:
        return closed_form(self, reml)

    def squares(self) -> list[FloatArray]:
        q2 = self.q_trailing
        trailing = np.diagonal(self.D)[:q2] + (self.E[..., :q2] ** 2).sum(axis=(0, 1))
        parts = [(self.R**2).sum(axis=1)]
        for block, span in self.frame.trailing_spans:
            parts.append(trailing[span].reshape(-1, block.size))
        return parts

    def complete(
        self,
        factors: Factors,
        factor: Factor,
        trailing: FloatArray,
        sigma: FloatArray | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[FloatArray]:
        return lc.complete_levels(self, factors, trailing, sigma, rng)

    def draw_jointly(
        self,
        factors: Factors,
        factor: Factor | None,
        sigma: FloatArray,
        rng: np.random.Generator,
        prior: InternalPrior | None = None,
        report: Callable[[int], None] | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        if factor is None and self.pairs is not None:
            factors = _lower(factors)
            drawn = draw_many(self, self.pairs, factors, sigma, rng, prior)
        else:
            factor = self.evaluate(factors) if factor is None else factor
            drawn = draw_trailing(factor, self.q_trailing, sigma, rng, prior)
        return drawn[:, self.q_trailing :], lc.complete_levels(self, factors, drawn, sigma, rng)

    def variances(self, factors: Factors, factor: Factor, fixed_known: bool) -> list[FloatArray]:
        return lc.level_variances(self, factors, factor, fixed_known)

    def row_errors(
        self, factors: Factors, factor: Factor, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]
    ) -> FloatArray:
        return lc.level_errors(self, factors, factor, x, known)

    def row_size(self) -> int:
        return self.blocks[0].size * self.q_trailing + self.q_trailing + self.p + 1

    def sensitivity(
        self, factors: Factors, factor: Factor, first: Derivatives
    ) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[FloatArray, FloatArray] | None]:
        if not isinstance(first.pieces, LevelPieces):
            raise TypeError("these derivatives are of other sums")
        return lc.level_sensitivity(self, factors, factor, first.pieces.Q)

    def moved(self, factors: Factors, factor: Factor, chol: FloatArray, move: FloatArray) -> Factor:
        scaled = move[..., None]
        if self.q_trailing:
            scaled = apply_lambda(self.frame, factors[1:], scaled, transposed=False)
        residual = factor.residual.copy()
        residual[:, :-1] -= scaled[..., 0]
        return replace(factor, chol=chol, solution=factor.solution + move, residual=residual)

    def rescaled(self, factors: Factors, factor: Factor, power: int) -> Factor:
        unit = np.ldexp(1.0, power)
        last = np.ones(factor.trailing.shape[-1])
        last[-1] = unit
        residual = factor.residual * unit
        residual[:, -1] = 1.0
        first = factor.first
        return replace(
            factor,
            r2=np.ldexp(factor.r2, 2 * power),
            total=np.ldexp(factor.total, 2 * power),
            trailing=factor.trailing * last[:, None] * last,
            solution=factor.solution * unit,
            residual=residual,
            first=None if first is None else (first[0], first[1] * last),
        )

    def work(self) -> Work:
        t, (J, c, _) = self.q_trailing + self.p, self.E.shape
        flops = self.E.size * t * c if self.moments is None else self.moments.sums.size
        return Work("levels", J * self.q_trailing, 1.0, self.R.size + self.E.size + self.D.size, float(flops))

    def on(self, frame: Frame) -> Self:
        return replace(self, frame=frame)

    def merge(self, other: Self) -> Self:
        check_one_frame(self, other)
        (J, c, m), codes = self.E.shape, level_rows(self)
        # What both say of a level is c rows each; the within part of these comes to the within parts of both.
        Q, R = grouped_qr(np.concatenate([self.R, other.R]).reshape(2 * J * c, c), np.tile(codes, 2), J)
        E = np.concatenate([self.E, other.E]).reshape(2 * J * c, m)
        rest, between = split_columns(Q, E, np.tile(codes, 2), J)
        return replace(self, n=self.n + other.n, R=R, E=between, D=self.D + other.D + rest.T @ rest)


def _lower(factors: Factors) -> Factors:
    """Lower triangular square roots of the covariances of the trailing blocks."""
    return [factors[0], *(canonical(T) for T in factors[1:])]
