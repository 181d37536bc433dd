"""Cross-products of designs whose rows are not in memory: what a frame has by row is made from the rows when needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grouping import Grouping
from bayeslmm.design.row_arrays import RowArray, product_by_row
from bayeslmm.errors import StorageError
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
    columns = product_by_row(design.X, fixed.transform)
    blocks = tuple(
        replace(block, grouping=design.groupings.get(block.grouping.name, block.grouping)) for block in frame.blocks
    )
    return replace(frame, blocks=blocks, fixed=Basis(columns, fixed.transform, fixed.constant, fixed.good))


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


def summed_elsewhere(cp: SummedDesign) -> SummedDesign | None:
    """The cross-products where the rows are not in memory; None where these are there to look at."""
    return None if cp.design.facts is None else cp


def sums_without_rows(cp: SummedDesign) -> tuple[Sums, Response]:
    """What a file keeps of cross-products on a design without rows: the names of levels are in the design.

    Raises
    ------
    StorageError
        Crossed factors that are kept as an operator.
    """
    if cp.plan.operator:
        raise StorageError(
            f"The sums of crossed factors with store={cp.plan.store!r} are not kept in files, and the rows they were "
            "made of are not in memory. Make the model again from the rows, or, where its dense matrix fits into "
            "memory, with store='hierarchy', whose sums are kept."
        )
    known = cp.design.groupings
    blocks = tuple(
        replace(block, grouping=Grouping(block.grouping.name, np.zeros(0, dtype=np.int64), ()))
        if block.grouping.name in known
        else block
        for block in cp.blocks
    )
    fixed = replace(cp.fixed, columns=np.empty((0, cp.p)))
    frame = replace(cp.frame, blocks=blocks, fixed=fixed)
    return cp.sums.on(frame), replace(cp.response, residual=np.empty(0))


def check_sums_of(design: Design, sums: Sums, response: Response) -> None:
    """Refuse sums that were read from a file and are not those of a design.

    Raises
    ------
    ValueError
        What was found.
    """
    frame, p = sums.frame, design.p
    sizes = dict.fromkeys(design.groupings, 0)
    for term in design.terms:
        sizes[term.group] += len(term.effects)
    found = {block.grouping.name: block.basis.shape for block in frame.blocks}
    if found != {name: (c, c) for name, c in sizes.items()} or frame.fixed.transform.shape != (p, p):
        raise ValueError(f"the sums are of effects {found}, and of {frame.fixed.transform.shape} fixed effects")
    terms = sorted(term for block in frame.blocks for term in block.terms)
    if terms != list(range(len(design.terms))) or len(frame.structures) != len(design.terms):
        raise ValueError(f"the sums are of the terms {terms}")
    if response.coef.shape != (p,) or response.constant_coef.shape != (p,) or sums.n != design.n_observations:
        raise ValueError(f"the sums are of {sums.n} observations and {response.coef.size} fixed effects")
    first = frame.blocks[0]
    levels = design.groupings[first.grouping.name].n_levels
    if sums.R.shape != (levels, *first.basis.shape) or not np.isfinite(sums.R).all():
        raise ValueError(f"the factors of {first.grouping.name} have shape {sums.R.shape}")
