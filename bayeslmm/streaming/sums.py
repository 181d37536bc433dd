"""The pass that sums rows on a frame: factors of levels, within parts, merged in any order of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.reduction import sums_of
from bayeslmm.streaming.coordinates import ColumnCoordinates
from bayeslmm.streaming.evaluated import EvaluatedColumns, Training, evaluated
from bayeslmm.streaming.group_facts import FactsPlan, GroupFacts
from bayeslmm.streaming.groups import GroupCoder
from bayeslmm.streaming.level_factors import cleaned, rotate_into
from bayeslmm.streaming.question import RowsLeftOut, usable
from bayeslmm.streaming.references import Histograms
from bayeslmm.types import FloatArray, IntArray

# Doubles of the rows that are rotated together.
_MOST_NUMBERS = 8_000_000
# Rows of a chunk for each level from where on they are first reduced by themselves, which rounds less.
_ALONE = 8
# Rows that are summed together where more than one block is eliminated.
_TOGETHER = 1_000_000


@dataclass(frozen=True, eq=False)
class OnFrame:
    """How the columns of a chunk become rows on a frame.

    Attributes
    ----------
    frame : Frame
        Its groupings have no rows.
    kept : IntArray
        Columns of X that are kept.
    fixed : ColumnCoordinates
        Of these.
    terms : tuple of tuple of ColumnCoordinates
        Of the terms of each block.
    coders : tuple of GroupCoder
        Of each block.
    level, drift : float
        Taken out of the response first, one after the other.
    coefs : tuple of FloatArray, each (p,)
        Coefficients whose fits are taken out then, one after the other.
    effects : tuple of FloatArray, each (q2,)
        Effects of the blocks but the first that are taken out beside each of them but the first.
    """

    frame: Frame
    kept: IntArray
    fixed: ColumnCoordinates
    terms: tuple[tuple[ColumnCoordinates, ...], ...]
    coders: tuple[GroupCoder, ...]
    level: float
    drift: float
    coefs: tuple[FloatArray, ...]
    effects: tuple[FloatArray, ...] = ()

    def rows(self, found: EvaluatedColumns, codes: Sequence[IntArray], weights: FloatArray | None, n: int) -> FrameRows:
        """Weighted columns of a chunk that stands for n observations."""
        X = found.X if self.kept.size == found.X.shape[1] else found.X[:, self.kept]
        X = self.fixed.apply(X)
        Z = [
            np.concatenate([own.apply(found.Z[t]) for own, t in zip(coords, block.terms, strict=True)], axis=1)
            if len(coords) != 1
            else coords[0].apply(found.Z[block.terms[0]])
            for coords, block in zip(self.terms, self.frame.blocks, strict=True)
        ]
        y = found.y_less_offset - self.level
        y -= self.drift
        steps: list[FloatArray | None] = [None, *self.effects]
        for coef, effects in zip(self.coefs, steps, strict=True):
            if coef.size:
                y -= X @ coef
            if effects is not None:
                for (block, span), z, own in zip(self.frame.trailing_spans, Z[1:], codes[1:], strict=True):
                    y -= (z * effects[span].reshape(block.n_levels, block.size)[own]).sum(1)
        Xy = np.concatenate([X, y[:, None]], axis=1)
        if weights is None:
            return FrameRows(tuple(codes), tuple(Z), Xy, n)
        root = np.sqrt(weights)[:, None]
        return FrameRows(tuple(codes), tuple(z * root for z in Z), Xy * root, n)


@dataclass
class LevelPartial:
    """Sums with one block eliminated level by level.

    Attributes
    ----------
    factors : FloatArray, shape (J, c, c + m)
    D : FloatArray, shape (m, m)
    n : int
        Observations.
    rows : int
        Rows of the data, also those that cannot be used.
    facts : GroupFacts or None
    histograms : Histograms or None
    """

    factors: FloatArray
    D: FloatArray
    n: int = 0
    rows: int = 0
    facts: GroupFacts | None = None
    histograms: Histograms | None = None

    def add(self, frame: Frame, rows: FrameRows) -> None:
        """Rows of a chunk."""
        J, c, width = self.factors.shape
        self.n += rows.n
        step = max(1, _MOST_NUMBERS // width)
        for start in range(0, rows.Xy.shape[0], step):
            part = slice(start, start + step)
            own, codes = self._columns(frame, rows, part), rows.codes[0][part]
            if codes.size > _ALONE * J * max(c, 1):
                alone = np.zeros_like(self.factors)
                self._leave(rotate_into(alone, codes, own))
                codes, own = np.repeat(np.arange(J), c), alone.reshape(J * c, width)
            self._leave(rotate_into(self.factors, codes, own))

    def _columns(self, frame: Frame, rows: FrameRows, part: slice) -> FloatArray:
        if not frame.trailing_blocks:
            return np.concatenate([rows.Z[0][part], rows.Xy[part]], axis=1)
        known = [(z[part], codes[part]) for z, codes in zip(rows.Z, rows.codes, strict=True)]
        return np.concatenate([rows.Z[0][part], frame.trailing_rows(rows.Xy[part], known)], axis=1)

    def _leave(self, rest: FloatArray) -> None:
        self.D += rest.T @ rest

    def merge(self, other: LevelPartial) -> LevelPartial:
        """Rows of both."""
        J, c, width = self.factors.shape
        rest = rotate_into(self.factors, np.repeat(np.arange(J), c), other.factors.reshape(J * c, width).copy())
        D = self.D + other.D + rest.T @ rest
        return LevelPartial(self.factors, D, self.n + other.n, self.rows + other.rows, *_beside(self, other))

    def finish(self, frame: Frame, reference: FloatArray | None) -> Levels:
        """The sums."""
        c = self.factors.shape[1]
        factors, rest = cleaned(self.factors)
        R, E = np.ascontiguousarray(factors[..., :c]), np.ascontiguousarray(factors[..., c:])
        return Levels(frame, self.n, R, E, self.D + rest.T @ rest, reference)


@dataclass
class WaitingPartial:
    """Sums of which many rows at a time are taken up: hierarchies, operators.

    Attributes
    ----------
    sums : Sums or None
    waiting : list of FrameRows
        Rows that are summed once there are enough.
    rows : int
    facts : GroupFacts or None
    histograms : Histograms or None
    """

    sums: Any = None
    waiting: list[FrameRows] = field(default_factory=list)
    rows: int = 0
    facts: GroupFacts | None = None
    histograms: Histograms | None = None

    def add(self, frame: Frame, rows: FrameRows) -> None:
        """Rows of a chunk."""
        self.waiting.append(rows)
        if sum(part.Xy.shape[0] for part in self.waiting) >= max(_TOGETHER, 2 * frame.blocks[0].q):
            self.settle(frame)

    def settle(self, frame: Frame) -> None:
        """Sum the rows that wait."""
        if not self.waiting and self.sums is not None:
            return
        own = sums_of(frame, _joined(frame, self.waiting))
        self.sums, self.waiting = own if self.sums is None else self.sums.on(frame).merge(own), []

    def merge(self, other: WaitingPartial) -> WaitingPartial:
        """Rows of both."""
        beside = _beside(self, other)
        frame = next((part.sums.frame for part in (self, other) if part.sums is not None), None)
        if frame is None:
            return WaitingPartial(None, [*self.waiting, *other.waiting], self.rows + other.rows, *beside)
        self.settle(frame)
        other.settle(frame)
        return WaitingPartial(self.sums.merge(other.sums.on(frame)), [], self.rows + other.rows, *beside)

    def finish(self, frame: Frame, reference: FloatArray | None) -> Any:
        """The sums."""
        self.settle(frame)
        return self.sums.on(frame)


def _beside(
    one: LevelPartial | WaitingPartial, other: LevelPartial | WaitingPartial
) -> tuple[GroupFacts | None, Histograms | None]:
    """What is counted beside the sums, of the rows of both."""
    facts = one.facts.merge(other.facts) if one.facts and other.facts else None
    histograms = one.histograms.merge(other.histograms) if one.histograms and other.histograms else None
    return facts, histograms


def _joined(frame: Frame, parts: Sequence[FrameRows]) -> FrameRows:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        codes = tuple(np.zeros(0, dtype=np.int64) for _ in frame.blocks)
        return FrameRows(
            codes, tuple(np.zeros((0, block.size)) for block in frame.blocks), np.zeros((0, frame.p + 1)), 0
        )
    count = range(len(frame.blocks))
    return FrameRows(
        tuple(np.concatenate([part.codes[k] for part in parts]) for k in count),
        tuple(np.concatenate([part.Z[k] for part in parts]) for k in count),
        np.concatenate([part.Xy for part in parts]),
        sum(part.n for part in parts),
    )


@dataclass(frozen=True)
class SumsPlan:
    """The pass that sums.

    Attributes
    ----------
    training : Training
    on : OnFrame
    facts : FactsPlan or None
        What else is looked for: only in the first of such passes.
    ranges : dict of str to (float, float)
        Columns of whose values histograms are made, with their ranges.
    """

    training: Training
    on: OnFrame
    facts: FactsPlan | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    def empty(self) -> LevelPartial | WaitingPartial:
        """Of no rows."""
        frame = self.on.frame
        facts = None if self.facts is None else self.facts.empty()
        histograms = Histograms(self.ranges) if self.ranges else None
        if frame.plan.store != "levels":
            return WaitingPartial(facts=facts, histograms=histograms)
        first, m = frame.blocks[0], frame.q_trailing + frame.p + 1
        factors = np.zeros((first.n_levels, first.size, first.size + m))
        return LevelPartial(factors, np.zeros((m, m)), facts=facts, histograms=histograms)

    def add(self, partial: Any, frame: pd.DataFrame) -> Any:
        """One more chunk."""
        chunk = usable(frame, self.training.question, RowsLeftOut())
        if chunk.n:
            found = evaluated(self.training, chunk, partial.rows)
            codes = [coder.codes(chunk.columns) for coder in self.on.coders]
            if partial.histograms is not None:
                partial.histograms.add(chunk)
            if self.facts is not None and partial.facts is not None:
                named = {coder.name: own for coder, own in zip(self.on.coders, codes, strict=True)}
                partial.facts.add(self.facts, named, found, chunk.frequency)
            partial.add(self.on.frame, self.on.rows(found, codes, chunk.row_weights, chunk.observations))
        partial.rows += len(frame)
        return partial

    def further(self, coef: FloatArray, effects: FloatArray | None) -> SumsPlan:
        """The same with one more fit taken out of the response."""
        on = self.on
        step = np.zeros(on.frame.q_trailing) if effects is None else effects
        return replace(
            self, on=replace(on, coefs=(*on.coefs, coef), effects=(*on.effects, step)), facts=None, ranges={}
        )
