"""Crossed factors so large that nothing is filled in: solutions by conjugate gradients, log determinants as stated.

The first factor is eliminated level by level; all other effects are an operator (`crossed_operator`). Estimates of beta
and of effects, r2 and everything else that follows from solutions has the digits of any other store. The log
determinant is exact (``"packed"``), exact at one point and estimated beside it (``"anchored"``), or estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self, cast

import numpy as np
from scipy import sparse
from scipy.linalg import solve_triangular

from bayeslmm.likelihood.crossed_conditional import GivenFixed, refuse_variances
from bayeslmm.likelihood.crossed_lanczos import PROBES, Probes, make_probes
from bayeslmm.likelihood.crossed_log_det import Anchor, find_log_det
from bayeslmm.likelihood.crossed_operator import Operator
from bayeslmm.likelihood.crossed_pieces import CrossedPieces
from bayeslmm.likelihood.crossed_point import CrossedPoint, evaluate_point
from bayeslmm.likelihood.crossed_sums import CrossedSums, sum_crossed
from bayeslmm.likelihood.derivatives import Derivatives
from bayeslmm.likelihood.factor import Factor, Replicates, stacked
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.kernels import Cells
from bayeslmm.likelihood.level_sums import unlike
from bayeslmm.likelihood.rotation import InternalPrior, draw_fixed
from bayeslmm.likelihood.starts import crossed_squares, crossed_start
from bayeslmm.likelihood.sums import Work, check_one_frame, level_rows
from bayeslmm.likelihood.within import grouped_qr, split_columns
from bayeslmm.types import FloatArray, IntArray

type Factors = Sequence[FloatArray]

# Iterations of a solution and of a quadrature, roughly.
_ITERATIONS = 40


@dataclass(frozen=True)
class Crossed(CrossedSums):
    """See `CrossedSums` for the arrays and `sums.Sums` for the methods.

    Attributes
    ----------
    probes : int
        Random vectors from which log determinants are estimated.
    anchor : Anchor or None
        Where the log determinant is known exactly.
    """

    probes: int = PROBES
    anchor: Anchor | None = None

    @classmethod
    def of(cls, frame: Frame, rows: FrameRows) -> Crossed:
        """Sums of some rows."""
        return cls(**vars(sum_crossed(frame, rows)))

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
        return self.R.size + self.cells.values.size + self.fixed.size

    @property
    def exact(self) -> bool:
        """Whether every log determinant is exact."""
        return self.frame.plan.store == "packed"

    @cached_property
    def basis(self) -> Probes | None:
        """The vectors that estimate log determinants, the same at all points."""
        return None if self.exact else make_probes(Operator.at(self, self.start()), self.probes)

    def anchored(self, factors: Factors) -> Self:
        """The same with the log determinant known exactly at one point, factors (1, c, c)."""
        if self.basis is None:
            return self
        moved = replace(self, anchor=Anchor.at(Operator.at(self, [T[0] for T in factors]), self.basis))
        moved.__dict__["basis"] = self.basis
        return moved

    def evaluate(self, factors: Factors, replicates: Replicates | None = None, keep: bool = False) -> Factor:
        if replicates is not None:
            raise TypeError("crossed factors have one response")
        return stacked([self._evaluate([T[k] for T in factors]) for k in range(factors[0].shape[0])])

    def evaluate_many(self, factors: Factors) -> Factor:
        return self.evaluate(factors)

    def _evaluate(self, factors: Factors) -> Factor:
        operator = Operator.at(self, factors)
        point = evaluate_point(operator, find_log_det(operator, self.basis, self.anchor))
        left, p = point.left, self.frame.p
        chol = np.linalg.cholesky(left[:p, :p])
        half = solve_triangular(chol, left[:p, p:], lower=True) if p else left[:p, p:]
        solution = solve_triangular(chol, half, lower=True, trans=1)[:, 0] if p else half[:, 0]
        logs = 2.0 * np.log(np.diagonal(chol)).sum()
        return Factor(
            np.array([point.log_det.value]),
            np.array([logs + self.frame.log_det_fixed]),
            np.array([left[p, p] - (half**2).sum()]),
            left[None],
            chol[None],
            solution[None],
            np.append(-solution, 1.0)[None],
            left[p:, p],
            crossed=point,
        )

    def derivatives(self, factors: Factors, factor: Factor, nu: int, reml: bool) -> Derivatives:
        point, chol = at_one_point(factor), factor.chol[0]
        scores = point.scores_of_response(factor.solution[0])
        traces = [np.array(slope) for slope in point.log_det.gradient]
        if reml and chol.size:
            back = solve_triangular(chol, np.eye(chol.shape[0]), lower=True).T
            for trace, own in zip(traces, point.scores, strict=True):
                swept = (own[..., :-1] @ back).transpose(1, 0, 2).reshape(own.shape[1], -1)
                trace -= swept @ swept.T
        kept = CrossedPieces(point, chol, scores)
        return Derivatives(tuple(trace[None] for trace in traces), _squares(scores), kept, nu / factor.r2, factor.r2)

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
        kept = first.pieces
        if not isinstance(kept, CrossedPieces):
            raise TypeError("these derivatives are of other sums")
        w = [s[..., :-1] @ column[0] for s in kept.point.scores]
        held = [s + float(share[0]) * own for s, own in zip(kept.scores, w, strict=True)]
        scaled = [float(size[0]) * own for own in w]
        both = [a + b for a, b in zip(held, scaled, strict=True)]
        one, other, total = (
            replace(first, squares=_squares(scores), pieces=replace(kept, scores=scores))
            for scores in (held, scaled, both)
        )
        return one, other, total

    def solve_fixed(self, factor: Factor, points: IntArray, right: FloatArray) -> FloatArray:
        chol = factor.chol[0]
        half = solve_triangular(chol, right.T, lower=True)
        return np.asarray(solve_triangular(chol, half, lower=True, trans=1).T)

    def start(self) -> list[FloatArray]:
        return crossed_start(self)

    def closed_form(self, reml: bool) -> None:
        return None

    def squares(self) -> list[FloatArray]:
        return crossed_squares(self)

    def complete(
        self,
        factors: Factors,
        factor: Factor,
        trailing: FloatArray,
        sigma: FloatArray | None = None,
        rng: np.random.Generator | None = None,
    ) -> list[FloatArray]:
        out = [np.empty((trailing.shape[0], block.n_levels, block.size)) for block in self.frame.blocks]
        for k, beta in enumerate(trailing):
            point = factor.crossed
            if point is None:
                operator = Operator.at(self, [T[k] for T in factors])
                point = evaluate_point(operator)
            sd = None if sigma is None else float(sigma[k])
            for all_draws, one in zip(out, GivenFixed(point).effects(beta, sd, rng), strict=True):
                all_draws[k] = one
        return out

    def draw_jointly(
        self,
        factors: Factors,
        factor: Factor | None,
        sigma: FloatArray,
        rng: np.random.Generator,
        prior: InternalPrior | None = None,
        report: Callable[[int], None] | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        K = sigma.size
        beta = np.empty((K, self.frame.p))
        b = [np.empty((K, block.n_levels, block.size)) for block in self.frame.blocks]
        for k in range(K):
            own = [T[k : k + 1] for T in factors]
            at = self._evaluate_fixed(own)
            beta[k] = draw_fixed(at, 0, sigma[k : k + 1], rng, prior)[0]
            for out, one in zip(b, self.complete(own, at, beta[k : k + 1], sigma[k : k + 1], rng), strict=True):
                out[k] = one[0]
            if report is not None:
                report(k + 1)
        return beta, b

    def variances(self, factors: Factors, factor: Factor, fixed_known: bool) -> list[FloatArray]:
        point = at_one_point(factor)
        if self.frame.plan.store == "stochastic":
            refuse_variances(point.operator)
        found = GivenFixed(point).variances(factor.chol[0], fixed_known)
        return [block.basis @ v @ block.basis.T for v, block in zip(found, self.frame.blocks, strict=True)]

    def row_errors(
        self, factors: Factors, factor: Factor, x: FloatArray, known: Sequence[tuple[FloatArray, IntArray]]
    ) -> FloatArray:
        return GivenFixed(at_one_point(factor)).row_errors(factor.chol[0], x, known)

    def row_size(self) -> int:
        return self.q + self.frame.p

    @property
    def first_of_last(self) -> int:
        return len(self.frame.blocks)

    def last_blocks(self, factor: Factor) -> None:
        return None

    def sensitivity(
        self, factors: Factors, factor: Factor, first: Derivatives
    ) -> tuple[FloatArray, tuple[FloatArray, ...], tuple[FloatArray, FloatArray] | None]:
        half = solve_triangular(factor.chol[0], np.eye(self.frame.p), lower=True)
        C = half.T @ half
        return C[None], tuple((s[..., :-1] @ C)[None] for s in at_one_point(factor).scores), None

    def moved(self, factors: Factors, factor: Factor, chol: FloatArray, move: FloatArray) -> Factor:
        residual = factor.residual.copy()
        residual[:, :-1] -= move
        return replace(factor, chol=chol, solution=factor.solution + move, residual=residual)

    def rescaled(self, factors: Factors, factor: Factor, power: int) -> Factor:
        return self.evaluate(factors)

    def work(self) -> Work:
        cells, J = self.cells.columns.size, self.R.shape[0]
        numbers = self.between + self.products.nnz + self.within.size + self.D.size
        columns = self.frame.p + 1 + (0 if self.exact else self.probes)
        flops = 2.0 * _ITERATIONS * columns * (cells * self.cells.values.shape[1] + self.products.nnz)
        if self.exact:
            numbers += self.q * (self.q + 1) // 2
            flops += self.q**3
        return Work(self.frame.plan.store, cells, cells / max(J * self.q, 1), int(numbers), float(flops))

    def on(self, frame: Frame) -> Self:
        return replace(self, frame=frame)

    def merge(self, other: Self) -> Self:
        check_one_frame(self, other)
        (J, c, _), codes = self.R.shape, np.tile(level_rows(self), 2)
        Q, R = grouped_qr(np.concatenate([self.R, other.R]).reshape(2 * J * c, c), codes, J)
        stacked_fixed = np.concatenate([self.fixed, other.fixed]).reshape(2 * J * c, -1)
        rest, fixed = split_columns(Q, stacked_fixed, codes, J)
        rows = sparse.csr_array(sparse.vstack([self.cells.rows(), other.cells.rows()]))
        within = self.within + other.within + rows.T @ rest
        return replace(
            self,
            n=self.n + other.n,
            R=R,
            cells=_merged_cells(Q.reshape(2, J, c, c), self.cells, other.cells),
            fixed=fixed,
            products=sparse.csr_array(self.products + other.products),
            within=within,
            D=self.D + other.D + rest.T @ rest,
            anchor=None,
        )

    def _evaluate_fixed(self, factors: Factors) -> Factor:
        """What beta and effects need at one point, without a determinant."""
        point = evaluate_point(Operator.at(self, [T[0] for T in factors]))
        p, nothing = self.frame.p, np.zeros((1, 0))
        chol = np.linalg.cholesky(point.left[:p, :p])
        solution = np.linalg.solve(point.left[:p, :p], point.left[:p, p])
        zero = np.zeros(1)
        return Factor(zero, zero, zero, nothing[..., None], chol[None], solution[None], nothing, zero, crossed=point)


def at_one_point(factor: Factor) -> CrossedPoint:
    """What is kept of an evaluation at a single point."""
    if factor.crossed is None:
        raise TypeError("the factor of a single point of crossed factors is needed")
    return factor.crossed


def _squares(scores: list[FloatArray]) -> tuple[FloatArray, ...]:
    return tuple((s.T @ s)[None] for s in scores)


def _merged_cells(Q: FloatArray, one: Cells, other: Cells) -> Cells:
    """Sums of the cells of both after their rows were turned by Q (2, J, c, c), zeros in the pattern kept."""
    J, c = Q.shape[1:3]
    levels = np.concatenate([one.levels, other.levels]).astype(np.int32)
    columns = np.concatenate([one.columns, other.columns])
    values, pattern = [], None
    for e in range(c):
        entries = [(Q[h, cells.levels, :, e] * cells.values).sum(1) for h, cells in enumerate((one, other))]
        shape = (J, one.width)
        pattern = sparse.coo_array((np.concatenate(entries), (levels, columns)), shape=shape).tocsr()
        pattern.sum_duplicates()
        values.append(pattern.data)
    assert pattern is not None
    return Cells(
        cast("IntArray", pattern.indptr), cast("IntArray", pattern.indices), one.width, np.stack(values, axis=1)
    )
