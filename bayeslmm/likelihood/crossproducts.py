"""All that the criteria need of some rows, whatever became of these."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from bayeslmm.design.design import Design
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.likelihood.columns import Basis, Response
from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.structure import Elimination
from bayeslmm.likelihood.sums import Sums
from bayeslmm.types import FloatArray


@by_value
@dataclass(frozen=True, eq=False)
class CrossProducts:
    """Sufficient statistics for the linear mixed model with Gaussian residuals.

    They hold no rows: sums of chunks of rows merge (`sums.merge`), and what needs the rows again asks for a
    `SummedDesign`.

    Attributes
    ----------
    sums : Sums
        `Levels` where one block is eliminated and the rest is small, `Hierarchy` otherwise; on its `frame`.
    response : Response
        What was taken out of the response before it was summed.
    log_weights : float
        Log determinant of what the rows were multiplied by, squared: the sum of the log precision weights over the
        observations (slw), or minus the log determinant of the residual correlation.
    sigma_unit : float
        What sigma is in units of y.
    sigma : float or None
        The residual standard deviation where it is known; None where the criteria are minimised over it.
    """

    sums: Sums
    response: Response
    log_weights: float
    sigma_unit: float
    sigma: float | None = field(default=None, kw_only=True)

    @property
    def frame(self) -> Frame:
        """The coordinates."""
        return self.sums.frame

    @property
    def n(self) -> int:
        return self.sums.n

    @property
    def p(self) -> int:
        return self.sums.frame.p

    @property
    def blocks(self) -> tuple[Block, ...]:
        """In the order of elimination: the chain, then the blocks that are left to the dense trailing matrix."""
        return self.sums.frame.blocks

    @property
    def plan(self) -> Elimination:
        return self.sums.frame.plan

    @property
    def fixed(self) -> Basis:
        """Coordinates used for X."""
        return self.sums.frame.fixed

    @property
    def trailing_blocks(self) -> tuple[Block, ...]:
        """Blocks outside the chain."""
        return self.sums.frame.trailing_blocks

    @cached_property
    def q_trailing(self) -> int:
        """q2, the number of random effects outside the chain."""
        return self.sums.frame.q_trailing

    @property
    def log_det_fixed(self) -> float:
        """Add this to ``log |X'V^-1X|`` in the orthogonalised columns to have it in the user's units."""
        return self.sums.frame.log_det_fixed


@by_value
@dataclass(frozen=True, eq=False)
class SummedDesign(CrossProducts):
    """A design and its cross-products.

    Attributes
    ----------
    design : Design
    rows : {"own", "whitened", "mixed"}
        What the rows of the design are to the sums: their own; whitened, which is all that was summed; or whitened
        so that rows of several levels are mixed, of which the design cannot tell.
    """

    design: Design
    rows: Literal["own", "whitened", "mixed"] = "own"

    @property
    def columns(self) -> list[FloatArray] | None:
        """Columns (n, c) of the blocks, where those of another response were kept."""
        return vars(self).get("columns")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "columns"}

    def __repr__(self) -> str:
        return fill(f"<Cross-products of {self.design.formula!r}: {self.design.observations}>", indent="  ")
