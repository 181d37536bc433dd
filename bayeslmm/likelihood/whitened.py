"""Rows that a residual structure has whitened at given parameters: an ordinary model with independent residuals.

At a point lam of the parameters of the structure, ``W R W' = I`` makes of the rows (X, Z, y) the rows of a model with
independent residuals, whose sums, criterion and all that follows are those of any other. Where W mixes rows of several
levels of a factor, its effects have no columns of their own level any more, and are written out densely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.columns import Basis, orthogonalise, residualise
from bayeslmm.likelihood.crossproducts import SummedDesign
from bayeslmm.likelihood.frame import Frame, choose_blocks, no_effects
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.levels import Levels
from bayeslmm.likelihood.reduction import cross_products
from bayeslmm.likelihood.structure import Elimination
from bayeslmm.residual import crosses, make_residual
from bayeslmm.types import FloatArray

# Random effects that are eliminated densely, and numbers written out for them.
MOST_EFFECTS, MOST_NUMBERS = 3000, 40_000_000


def whitened_design(design: Design, lam: FloatArray) -> Design:
    """The rows at one point, as data of a model whose residuals are independent with standard deviation sigma.

    Parameters
    ----------
    design : Design
        Its residual structure has k parameters.
    lam : FloatArray, shape (k,)
    """
    columns = [design.X, design.y_less_offset, *(term.Z for term in design.terms)]
    white = design.residual.whiten(lam, np.column_stack(columns))
    p, start, terms = design.p, design.p + 1, []
    for term in design.terms:
        terms.append(replace(term, Z=white[:, start : start + term.Z.shape[1]]))
        start += term.Z.shape[1]
    return replace(
        design,
        y=white[:, p],
        X=white[:, :p],
        terms=tuple(terms),
        residual=make_residual(design.n),
        offset=None,
        recipe=None,
        store="levels",
    )


def log_det(design: Design, lam: FloatArray) -> float:
    """Log determinant of the residual covariance over sigma^2, of all observations."""
    if design.frequency is None:
        return float(design.residual.log_det(lam))
    return float(design.frequency @ np.log(design.residual.variance(lam)))


def whitened_products(design: Design, lam: FloatArray) -> SummedDesign:
    """Cross-products of the whitened rows.

    Raises
    ------
    DesignError
        Groups of correlated residuals cross grouping factors with too many effects.

    Examples
    --------
    >>> import numpy as np
    >>> import bayeslmm as bl
    >>> model = bl.Model("Reaction ~ Days", bl.load_dataset("sleepstudy"), residual="ar1(Days | Subject)")
    >>> cp = whitened_products(model.design, np.array([1.0]))
    >>> cp.n, cp.p, round(cp.log_weights, 3)
    (180, 2, 140.545)
    """
    mixed = mixed_groups(design)
    check_size(design, mixed)
    white = whitened_design(design, lam)
    log_weights = -log_det(design, lam)
    if mixed:
        return _mixed(design, white, lam, mixed, log_weights)
    return replace(cross_products(white), log_weights=log_weights, rows="whitened")


def rows_to_whiten(design: Design) -> SummedDesign:
    """Coordinates in which the rows of a design can be whitened at any lam, which has not happened yet.

    For what is computed from the rows themselves; the sums are those of rows as they are.

    Raises
    ------
    DesignError
        As `whitened_products`.
    """
    mixed = mixed_groups(design)
    if not mixed:
        return cross_products(design)
    check_size(design, mixed)
    frame, columns = dense_frame(design, mixed)
    fixed = orthogonalise(design.X, None, rotate=False)
    response = residualise(design.y_less_offset, fixed, None)
    frame = replace(frame, fixed=fixed)
    codes = tuple(block.grouping.codes for block in frame.blocks)
    rows = FrameRows(codes, tuple(columns), np.column_stack([fixed.columns, response.residual]), design.n)
    return SummedDesign(Levels.of(frame, rows), response, 0.0, 1.0, design, "mixed")


def mixed_groups(design: Design) -> tuple[str, ...]:
    """Grouping factors of which whitening mixes rows of several levels."""
    clusters = design.residual.clusters
    if clusters is None:
        return ()
    return tuple(name for name, own in design.groupings.items() if crosses(clusters, own.codes))


def check_size(design: Design, mixed: Sequence[str]) -> None:
    """Refuse effects that would have to be eliminated densely and are too many.

    Raises
    ------
    DesignError
    """
    sizes = {name: levels * effects for name, (levels, effects) in design.sizes.items()}
    clear = [name for name in sizes if name not in mixed]
    first = max(clear, key=lambda name: sizes[name]) if clear else ""
    dense = sum(size for name, size in sizes.items() if name != first)
    if dense <= MOST_EFFECTS and dense * design.n <= MOST_NUMBERS:
        return
    why = (
        f"residuals depend on one another across levels of {', '.join(mixed)}"
        if mixed
        else f"models with residual parameters eliminate one factor ({first}) level by level and the others densely"
    )
    raise DesignError(
        f"{dense} random effects in {design.n} rows would be written out densely ({why}); at most {MOST_EFFECTS} are, "
        f"and {MOST_NUMBERS:.0e} numbers. Put the correlation within the levels of a grouping factor, leave a "
        "factor out, or use a part of the data."
    )


def _mixed(design: Design, white: Design, lam: FloatArray, mixed: Sequence[str], log_weights: float) -> SummedDesign:
    """Sums with the effects of mixed factors written out."""
    frame, columns = dense_frame(design, mixed)
    fixed = orthogonalise(white.X, None, rotate=False)
    frame = replace(frame, fixed=fixed)
    response = residualise(white.y, fixed, None)
    Xy = np.column_stack([fixed.columns, response.residual])
    rows = dense_rows(design, frame, columns, lam, Xy)
    sums = Levels.of(frame, rows)
    return SummedDesign(sums, response, log_weights, 1.0, white, "mixed")


def dense_frame(design: Design, mixed: Sequence[str]) -> tuple[Frame, list[FloatArray]]:
    """A frame whose first block is not mixed, if need be one without effects; its columns before whitening."""
    _, blocks, columns = choose_blocks(replace(design, residual=make_residual(design.n), store="levels"))
    pairs = list(zip(blocks, columns, strict=True))
    clear = [pair for pair in pairs if pair[0].grouping.name not in mixed]
    first = clear[0] if clear else (no_effects(design.n), np.empty((design.n, 0)))
    ordered = [first, *(pair for pair in pairs if pair is not first)]
    order = Elimination(tuple(range(len(ordered))), 1, ((),), "levels")
    nothing = Basis(np.empty((design.n, 0)), np.empty((0, 0)))
    frame = Frame(tuple(block for block, _ in ordered), order, nothing, tuple(t.structure for t in design.terms))
    return frame, [own for _, own in ordered]


def dense_rows(design: Design, frame: Frame, columns: list[FloatArray], lam: FloatArray, Xy: FloatArray) -> FrameRows:
    """Whitened rows with all effects but those of the first block written out; Xy whitened already."""
    codes = tuple(block.grouping.codes for block in frame.blocks)
    written = frame.trailing_rows(np.empty((design.n, 0)), list(zip(columns, codes, strict=True)))
    white = design.residual.whiten(lam, np.hstack([columns[0], written]))
    c = columns[0].shape[1]
    return FrameRows(codes, (white[:, :c], *columns[1:]), Xy, design.n, white[:, c:])


@dataclass(frozen=True)
class RowsAtPoints:
    """Rows in coordinates that stay as they are while lam moves.

    Attributes
    ----------
    design : Design
    base : SummedDesign
        At the point where the coordinates were chosen.
    Xy : FloatArray, shape (n, p + 1)
        Columns of X and the response less a fit, not whitened.
    Z : tuple of FloatArray, each (n, c)
        Columns of the blocks, not whitened.
    """

    design: Design
    base: SummedDesign
    Xy: FloatArray
    Z: tuple[FloatArray, ...]

    @classmethod
    def of(cls, design: Design, lam: FloatArray) -> RowsAtPoints:
        """Coordinates chosen at a point."""
        base = whitened_products(design, lam)
        X = design.X @ base.fixed.transform
        Z = tuple(block.columns(design) @ block.basis for block in base.blocks)
        return cls(design, base, np.column_stack([X, design.y_less_offset - X @ base.response.removed]), Z)

    def at(self, lam: FloatArray) -> SummedDesign:
        """Sums at another point, on the same coordinates; no refinement of the response."""
        Xy = self.design.whitened(self.Xy, lam)
        if self.base.rows == "mixed":
            rows = dense_rows(self.design, self.base.frame, list(self.Z), lam, Xy)
        else:
            codes = tuple(block.grouping.codes for block in self.base.blocks)
            rows = FrameRows(codes, tuple(self.design.whitened(z, lam) for z in self.Z), Xy, self.base.n)
        sums = Levels.of(self.base.frame, rows)
        return replace(self.base, sums=sums, log_weights=-log_det(self.design, lam))

    def trailing(self) -> FloatArray:
        """Columns (n, m) of the effects of all blocks but the first, X and y, not whitened."""
        codes = [block.grouping.codes for block in self.base.blocks]
        return self.base.frame.trailing_rows(self.Xy, list(zip(self.Z, codes, strict=True)))
