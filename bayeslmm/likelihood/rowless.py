"""Cross-products of designs whose rows are not in memory: what a frame has by row is made from the rows when needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.rows_elsewhere import RowArray
from bayeslmm.likelihood.columns import Basis, Response
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.frame import Frame
from bayeslmm.likelihood.sums import Sums
from bayeslmm.types import FloatArray


def summed_without_rows(design: Design, sums: Sums, response: Response) -> SummedDesign:
    """Cross-products on a design without rows.

    Parameters
    ----------
    design : Design
        With `RowFacts`.
    sums : Sums
        Of all rows; nothing that its frame has by row is looked at.
    response : Response
        What was taken out before rows were summed, all passes together; its residual is not looked at.

    Returns
    -------
    SummedDesign
    """
    facts = design.facts
    if facts is None:
        raise TypeError("a design without rows has facts")
    frame = frame_without_rows(design, sums.frame)
    sums = sums.on(frame)
    left = ResidualRows(design, frame, response.coef, response.constant, sums.reference)
    response = replace(response, residual=_by_row((design.n,), left))
    unit = 1.0 if facts.weights is None else float(np.sqrt(facts.weights[2]))
    return SummedDesign(sums, response, facts.log_weights, unit, design, sigma=design.sigma)


def frame_without_rows(design: Design, frame: Frame) -> Frame:
    """The same coordinates, with rows that are those of a design."""
    fixed = frame.fixed
    columns = _by_row((design.n, len(fixed.transform)), FixedRows(design, fixed.transform))
    blocks = tuple(
        replace(block, grouping=design.groupings.get(block.grouping.name, block.grouping)) for block in frame.blocks
    )
    return replace(frame, blocks=blocks, fixed=Basis(columns, fixed.transform, fixed.constant, fixed.good))


@dataclass(frozen=True)
class FixedRows:
    """Makes the columns of X in the coordinates of a frame."""

    design: Design
    transform: FloatArray

    def __call__(self) -> FloatArray:
        return np.asarray(self.design.X @ self.transform)


@dataclass(frozen=True)
class ResidualRows:
    """Makes what is left of the response once all that was taken out of it is taken out."""

    design: Design
    frame: Frame
    coef: FloatArray
    constant: float
    reference: FloatArray | None

    def __call__(self) -> FloatArray:
        design, frame = self.design, self.frame
        left = np.asarray(design.y_less_offset) - self.constant - np.asarray(frame.fixed.columns) @ self.coef
        if self.reference is None:
            return left
        for block, span in frame.trailing_spans:
            effects = self.reference[span].reshape(block.n_levels, block.size) @ block.basis.T
            left -= (block.columns(design) * effects[np.asarray(block.grouping.codes)]).sum(1)
        return left


def _by_row(shape: tuple[int, ...], make: Callable[[], FloatArray]) -> FloatArray:
    return cast(FloatArray, RowArray(shape, float, make))
