"""Sums of rows of nested factors and sparse crossed ones: point by point, with the average information."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import sparse

from bayeslmm.likelihood import chain_conditional as cc
from bayeslmm.likelihood import elimination as el
from bayeslmm.likelihood import large
from bayeslmm.likelihood.chain_sums import ChainParts, ChainSums, FactorColumns, effect_columns, split_chain
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.exact_traces import ChainPieces
from bayeslmm.likelihood.factor import Factor, Replicates, stacked
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.joint_draws import draws_by_reference
from bayeslmm.likelihood.last_blocks import LastBlocks, LeadingDense, first_of_few
from bayeslmm.likelihood.level_sums import unlike
from bayeslmm.likelihood.rotation import InternalPrior, draw_trailing
from bayeslmm.likelihood.starts import chain_squares, chain_start
from bayeslmm.likelihood.sums import Work, check_one_frame, level_rows
from bayeslmm.types import FloatArray, IntArray

type Factors = Sequence[FloatArray]


@dataclass(frozen=True)
class Hierarchy(ChainSums):
    """See `ChainSums` for the arrays and `sums.Sums` for the methods."""

    @classmethod
    def of(cls, frame: Frame, rows: FrameRows) -> Hierarchy:
        """Sums of some rows."""
        factors = [
            FactorColumns(codes, block.n_levels, Z)
            for block, codes, Z in zip(frame.blocks, rows.codes, rows.Z, strict=True)
        ]
        chain = frame.plan.chain
        indicators = effect_columns(factors[chain:], rows.Xy.shape[0])
        return cls._from(frame, rows.n, split_chain(factors[0], factors[1:chain], indicators, rows.Xy))

    @classmethod
    def _from(cls, frame: Frame, n: int, parts: ChainParts) -> Hierarchy:
        return cls(frame, n, parts.R, parts.up, parts.cells, parts.fixed, parts.rows, parts.D)

    @property
    def batched(self) -> bool:
        return False

    @property
    def reference(self) -> None:
        return None

    @property
    def unlike(self) -> bool:
        return unlike(self.R)

    @property
    def cost(self) -> float:
        return float("inf")

    @property
    def between(self) -> int:
        return self.R.size + sum(u.size for u in self.up) + self.cells.values.size + self.fixed.size

    def evaluate(self, factors: Factors, replicates: Replicates | None = None, keep: bool = False) -> Factor:
        if replicates is not None:
            raise TypeError("a hierarchy has one response")
        return stacked([self._evaluate([T[k] for T in factors]) for k in range(factors[0].shape[0])])

    def evaluate_many(self, factors: Factors) -> Factor:
        # One at a time, with what concerns beta alone: thousands of dense blocks would fill the memory.
        return stacked([self._of_fixed([T[k] for T in factors]) for k in range(factors[0].shape[0])])

    def _of_fixed(self, factors: Factors) -> Factor:
        """What densities need at one point; nan where sds are so large that digits do not suffice."""
        try:
            return self._evaluate(factors).of_fixed(self.q_dense)
        except np.linalg.LinAlgError:
            p, m, nan = self.frame.p, self.D.shape[0], np.full(1, np.nan)
            chol, solution = np.full((1, p, p), np.nan), np.full((1, p), np.nan)
            return Factor(nan, nan, nan, np.empty((0, m, m)), chol, solution, np.empty((0, m)), np.empty((0, m)))

    @property
    def first_of_last(self) -> int:
        return first_of_few(self)

    def last_blocks(self, factor: Factor) -> LastBlocks | None:
        return LeadingDense.of(self, factor).last if first_of_few(self) < len(self.frame.blocks) else None

    def _evaluate(self, factors: Factors) -> Factor:
        q, chain = self.q_dense, self.plan.chain
        eliminated = el.eliminate(self, factors[:chain])
        S = eliminated.trailing
        dense = large.factor_dense(
            S[:-1, :-1], factors[chain:], [block.n_levels for block in self.frame.trailing_blocks]
        )
        half = dense.half(S[:-1, -1:])
        r2 = S[-1, -1] - (half**2).sum()
        logs = 2.0 * np.log(np.diagonal(dense.chol))
        solution = dense.back(half)
        return Factor(
            np.array([eliminated.log_det + logs[:q].sum()]),
            np.array([logs[q:].sum() + self.frame.log_det_fixed]),
            np.array([r2]),
            S[None],
            dense.chol[None],
            solution.T,
            np.append(-dense.scale(solution.copy(), False)[:, 0], 1.0)[None],
            S[-1, -1:],
            hierarchy=(eliminated, dense),
        )

    def derivatives(self, factors: Factors, factor: Factor, nu: int, reml: bool) -> Derivatives:
        eliminated, dense = cc.at_one_point(factor)
        solution = dense.scale(factor.solution.T.copy(), False)[:, 0]
        traces, squares, scores = large.gradient(self, eliminated, dense, solution, reml)
        kept = ChainPieces(self, eliminated, dense, scores, reml)
        return Derivatives(
            tuple(a[None] for a in traces), tuple(a[None] for a in squares), kept, nu / factor.r2, factor.r2
        )

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
        eliminated, dense = cc.at_one_point(factor)
        if not isinstance(first.pieces, ChainPieces):
            raise TypeError("these derivatives are of other sums")
        solution = -dense.scale(column.T.copy(), False)
        response = el.response(self)
        nothing = el.ChainColumn(0.0 * response.between, tuple(0.0 * w for w in response.within), 0.0 * response.dense)
        halves = [np.zeros_like(member.half.fixed[..., -1:]) for member in eliminated.members]
        w = el.scores(self, nothing, el.backward(self, eliminated, halves, solution), solution)
        held = [s + float(share[0]) * own for s, own in zip(first.pieces.scores, w, strict=True)]
        scaled = [float(size[0]) * own for own in w]
        both = [a + b for a, b in zip(held, scaled, strict=True)]
        one, other, total = (self._with_scores(first, first.pieces, scores) for scores in (held, scaled, both))
        return one, other, total

    def _with_scores(self, first: Derivatives, kept: ChainPieces, scores: list[FloatArray]) -> Derivatives:
        squares = [s[..., 0].T @ s[..., 0] for s in scores[: self.plan.chain]]
        for block, span in self.frame.trailing_spans:
            s = scores[-1][span, 0].reshape(block.n_levels, block.size)
            squares.append(s.T @ s)
        moved = replace(kept, scores=scores)
        return Derivatives(first.traces, tuple(s[None] for s in squares), moved, first.scale, first.r2)

    def solve_fixed(self, factor: Factor, points: IntArray, right: FloatArray) -> FloatArray:
        _, dense = cc.at_one_point(factor)
        whole = np.zeros((self.q_dense + self.frame.p, 1))
        whole[self.q_dense :, 0] = right[0]
        return np.asarray(dense.back(dense.half(whole)).T)

    def start(self) -> list[FloatArray]:
        return chain_start(self)

    def closed_form(self, reml: bool) -> None:
        return None

    def squares(self) -> list[FloatArray]:
        return chain_squares(self)

    def complete(
        self,
        factors: Factors,
        factor: Factor,
        trailing: FloatArray,
        sigma: FloatArray | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[FloatArray]:
        return cc.complete_chain(self, factors, factor, trailing, sigma, rng)

    def draw_jointly(
        self,
        factors: Factors,
        factor: Factor | None,
        sigma: FloatArray,
        rng: np.random.Generator,
        prior: InternalPrior | None = None,
        report: Callable[[int], None] | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        def one(own: Factors, sd: FloatArray) -> tuple[FloatArray, list[FloatArray]]:
            at = self.evaluate(own)
            drawn = draw_trailing(at, self.q_dense, sd, rng, prior)
            return drawn[:, self.q_dense :], self.complete(own, at, drawn, sd, rng)

        return draws_by_reference(self, self.evaluate, one, factors, sigma, rng, prior, report)

    def variances(self, factors: Factors, factor: Factor, fixed_known: bool) -> list[FloatArray]:
        return cc.chain_variances(self, factor, fixed_known)

    def row_errors(
        self, factors: Factors, factor: Factor, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]
    ) -> FloatArray:
        return cc.chain_errors(self, factors, factor, x, known)

    def row_size(self) -> int:
        return sum(block.q for block in self.frame.blocks) + self.frame.p

    def sensitivity(
        self, factors: Factors, factor: Factor, first: Derivatives
    ) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[FloatArray, FloatArray] | None]:
        return *cc.chain_sensitivity(self, factor), None

    def moved(self, factors: Factors, factor: Factor, chol: FloatArray, move: FloatArray) -> Factor:
        eliminated, dense = cc.at_one_point(factor)
        residual = factor.residual.copy()
        residual[:, :-1] -= dense.scale(move.T.copy(), False)[:, 0]
        kept = eliminated, large.Dense(np.asfortranarray(chol[0].T), dense.lam, dense.levels)
        return replace(factor, chol=chol, solution=factor.solution + move, residual=residual, hierarchy=kept)

    def rescaled(self, factors: Factors, factor: Factor, power: int) -> Factor:
        return self.evaluate(factors)

    def work(self) -> Work:
        rows = sum(r.own.size + sum(u.size for u in r.up) + r.effects.size + r.fixed.size for r in self.rows)
        cells, first, p = self.cells.columns.size, self.frame.blocks[0], self.frame.p
        per_level = np.diff(self.cells.starts).astype(float)
        tails = sum(rows.own.size * (rows.effects.shape[2] + p + 1) for rows in self.rows)
        flops = 0.5 * (per_level**2).sum() * first.size + self.fixed.size * (p + 1) + tails
        fill = cells / max(first.n_levels * self.q_dense, 1)
        return Work("hierarchy", cells, fill, self.between + rows + self.D.size, float(flops))

    def on(self, frame: Frame) -> Self:
        return replace(self, frame=frame)

    def merge(self, other: Self) -> Self:
        check_one_frame(self, other)
        (J, c, _), codes = self.R.shape, np.tile(level_rows(self), 2)
        # What both say of a level of the first member is c rows each, which are summed up like any rows.
        first = FactorColumns(codes, J, np.concatenate([self.R, other.R]).reshape(2 * J * c, c))
        chain = [
            FactorColumns(parents[codes], block.n_levels, np.concatenate([a, b]).reshape(2 * J * c, block.size))
            for parents, block, a, b in zip(self.plan.up[0], self.frame.blocks[1:], self.up, other.up, strict=False)
        ]
        indicators = sparse.csr_array(sparse.vstack([self.cells.rows(), other.cells.rows()]))
        fixed = np.concatenate([self.fixed, other.fixed]).reshape(2 * J * c, -1)
        both = split_chain(first, chain, indicators, fixed)
        rows = tuple(a.plus(b).plus(new) for a, b, new in zip(self.rows, other.rows, both.rows, strict=True))
        merged = replace(both, rows=rows, D=self.D + other.D + both.D)
        return replace(self, n=self.n + other.n, **vars(merged))
