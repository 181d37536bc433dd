"""The sums re-formed for rows that are whitened, the coordinates left alone.

A residual covariance ``sigma^2 R`` with ``W R W' = I`` makes of the rows (X, Z, y) the rows (W X, W Z, W y) with
independent residuals. Sums of these on the frame of the design give the criterion of the model with R, and theta keeps
its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.likelihood.columns import Basis, Response, orthogonalise, rescale
from bayeslmm.likelihood.crossproducts import CrossProducts, SummedDesign
from bayeslmm.likelihood.frame import Block, Frame
from bayeslmm.likelihood.frame_rows import FrameRows
from bayeslmm.likelihood.reduction import effect_fits, frame_columns, sum_rows
from bayeslmm.residual import make_residual
from bayeslmm.types import FloatArray, IntArray

type Whiten = Callable[[FloatArray, IntArray], FloatArray]

# The frame is chosen afresh where the correlations of the whitened columns of X, or of a term, have a smaller
# eigenvalue (cross-products would lose two digits and more), or a column's root mean square leaves these bounds.
POOR, SIZES = 0.01, (1e-3, 1e3)
# Two ways to whiten a level differ by less than this share of the columns unless rows of several levels are mixed.
_MIXED = 1e-9
# A column of X whose part beyond the others is a smaller share of its length depends on them.
_DEPENDENT = 1e-10


@dataclass(frozen=True)
class _Whitened:
    """Whitened columns: X and the response's residual on the frame, those of every block."""

    X: FloatArray
    y: FloatArray
    Z: list[FloatArray]
    dense: FloatArray | None


def reweight(
    cp: SummedDesign, whiten: FloatArray | Whiten, log_det: float | None = None, n: int | None = None
) -> CrossProducts:
    """Cross-products of whitened rows on the coordinates of the design.

    Parameters
    ----------
    cp : SummedDesign
        Of the rows as they are; whitening comes on top of their precision weights.
    whiten : FloatArray of shape (n,) or callable
        What each row is multiplied by (diagonal whitening, zeros included), or a function of columns (n, k) and the
        numbers of their rows (n,) that gives ``W columns``. W may mix rows of one level of the factor that is
        eliminated first, and of nothing larger.
    log_det : float, optional
        ``log |W'W|``, minus the log determinant of R. Computed for an array, over the rows that are not zero.
    n : int, optional
        Observations that are left, by default all but those that an array gives a zero.

    Returns
    -------
    CrossProducts
        On the same frame, or on one chosen afresh where the whitened columns are nearly dependent (`POOR`) or of
        sizes far from one (`SIZES`).

    Raises
    ------
    DesignError
        Rows of several levels are mixed; the whitened columns of X are linearly dependent.

    Examples
    --------
    >>> import numpy as np
    >>> import bayeslmm as bl
    >>> from bayeslmm.reml import optimise
    >>> data = bl.load_dataset("sleepstudy")
    >>> cp = bl.Model("Reaction ~ Days + (Days | Subject)", data).cross_products
    >>> late = reweight(cp, np.where(data["Days"] > 5, 0.5, 1.0))
    >>> round(optimise(late).criterion, 4), late.frame.blocks is cp.frame.blocks
    (1725.3752, True)
    """
    design = cp.design
    if isinstance(whiten, np.ndarray):
        left, own = _of_array(cp, whiten)
        log_det, n = own if log_det is None else log_det, left if n is None else n
        root = whiten
        apply: Whiten = lambda columns, rows: columns * root[rows, None]  # noqa: E731
    elif design.frequency is not None:
        raise DesignError(
            "Rows that stand for several observations each (frequency=) have no residual correlations of their own. "
            "Write the rows out, data.loc[data.index.repeat(frequency)], or whiten by an array of one factor per row."
        )
    else:
        apply = whiten
    if log_det is None:
        raise DesignError("The log determinant of a whitening by a function is not known: give log_det = log |W'W|.")
    white = _whitened(cp, apply, isinstance(whiten, np.ndarray))
    frame, columns = _frame(cp.frame, white)
    response = _response(cp, white.y, frame)
    codes = tuple(block.grouping.codes for block in frame.blocks)
    Xy = np.column_stack([frame.fixed.columns, response.residual])
    rows = FrameRows(codes, tuple(columns), Xy, cp.n if n is None else n, white.dense)
    found = replace(
        cp,
        design=_whitened_design(design, apply),
        response=response,
        log_weights=cp.log_weights + log_det,
        rows="whitened" if white.dense is None else "mixed",
    )
    return sum_rows(found, frame, rows, columns)


def _of_array(cp: SummedDesign, root: FloatArray) -> tuple[int, float]:
    """Observations left by a diagonal whitening, and its log determinant."""
    design = cp.design
    if root.shape != (design.n,) or not np.isfinite(root).all():
        raise DesignError(
            f"The whitening has the shape {root.shape} (all finite: {bool(np.isfinite(root).all())}); it takes one "
            f"finite factor for each of the {design.n} rows."
        )
    counts = design.counts
    kept = root != 0
    gone = int(counts[~kept].sum())
    return cp.n - gone, float(counts[kept] @ np.log(root[kept] ** 2))


def _weighted(design: Design, columns: FloatArray) -> FloatArray:
    return columns if design.row_weights is None else columns * np.sqrt(design.row_weights)[:, None]


def _whitened(cp: SummedDesign, apply: Whiten, diagonal: bool) -> _Whitened:
    """All columns whitened, those of mixed levels written out."""
    design, rows = cp.design, np.arange(cp.design.n)
    columns = frame_columns(cp)
    Z = [_weighted(design, z) for z in columns]
    residual = cp.response.residual
    if cp.sums.reference is not None:
        residual = residual + sum(effect_fits(cp, columns, cp.sums.reference))
    Xy = apply(_weighted(design, np.column_stack([cp.fixed.columns, residual])), rows)
    codes = [block.grouping.codes for block in cp.blocks]
    white = [apply(z, rows) for z in Z]
    mixed = [not diagonal and _mixes(apply, z, w, block) for z, w, block in zip(Z, white, cp.blocks, strict=True)]
    names = [block.grouping.name for block, lost in zip(cp.blocks, mixed, strict=True) if lost]
    if mixed[0] or (names and not cp.sums.batched):
        first = cp.blocks[0].grouping.name
        raise DesignError(
            f"The whitening mixes rows of several levels of {', '.join(names)}. Sums by level need residuals that are "
            f"independent between the levels of {first}, which is eliminated first"
            + ("." if mixed[0] else f", and store='levels' where levels of {names[0]} are crossed with it.")
        )
    nothing = np.empty((rows.size, 0))
    dense = apply(cp.frame.trailing_rows(nothing, list(zip(Z, codes, strict=True))), rows) if names else None
    return _Whitened(Xy[:, :-1], Xy[:, -1], white, dense)


def _mixes(apply: Whiten, Z: FloatArray, white: FloatArray, block: Block) -> bool:
    """Whether rows of several levels of a block are mixed: signs by level would not come through."""
    codes = block.grouping.codes
    signs = np.random.default_rng(block.n_levels).normal(size=block.n_levels)[codes, None]
    size = max(float(np.abs(white).max(initial=0.0)), 1e-300)
    difference = apply(Z * signs, np.arange(codes.size)) - signs * white
    return bool(np.abs(difference).max(initial=0.0) > _MIXED * size * float(np.abs(signs).max()))


def poor(columns: FloatArray) -> bool:
    """Whether columns are nearly dependent, or of sizes far from one; see `POOR` and `SIZES`."""
    if not columns.shape[1]:
        return False
    size = np.sqrt((columns**2).mean(axis=0))
    if not ((size > SIZES[0]) & (size < SIZES[1])).all():
        return True
    scaled = columns / size
    return bool(np.linalg.eigvalsh(scaled.T @ scaled / columns.shape[0])[0] < POOR)


def _frame(frame: Frame, white: _Whitened) -> tuple[Frame, list[FloatArray]]:
    """The frame with whitened columns of X, and those of the blocks; bases afresh where they have become poor."""
    fixed = replace(frame.fixed, columns=white.X, one=None, good=False)
    if poor(white.X):
        change = orthogonalise(white.X, None)
        fixed = Basis(change.columns, frame.fixed.transform @ change.transform, None, change.good)
    if _dependent(fixed.columns):
        raise DesignError(
            "The whitened columns of X are linearly dependent, so that the fixed effects have no estimates: rows of "
            "weight zero leave nothing of some column, or of the difference of some. Take those columns or rows out."
        )
    if white.dense is not None:
        return replace(frame, fixed=fixed), white.Z
    blocks, columns = list(frame.blocks), list(white.Z)
    for b, place, _, _, structure in frame.terms:
        if poor(columns[b][:, place]):
            change = (orthogonalise if structure.basis_free else rescale)(columns[b][:, place], None)
            basis, own = blocks[b].basis.copy(), columns[b].copy()
            basis[place, place], own[:, place] = basis[place, place] @ change.transform, change.columns
            blocks[b], columns[b] = replace(blocks[b], basis=basis), own
    kept = all(a is b for a, b in zip(blocks, frame.blocks, strict=True))
    return replace(frame, fixed=fixed, blocks=frame.blocks if kept else tuple(blocks)), columns


def _dependent(columns: FloatArray) -> bool:
    if not columns.shape[1]:
        return False
    size = np.sqrt((columns**2).sum(axis=0))
    if not size.all() or columns.shape[0] < columns.shape[1]:
        return True
    return bool(np.abs(np.diagonal(np.linalg.qr(columns / size, mode="r"))).min() < _DEPENDENT)


def _response(cp: CrossProducts, residual: FloatArray, frame: Frame) -> Response:
    """What least squares on the whitened columns leaves of the whitened residual."""
    X = frame.fixed.columns
    coef = np.linalg.solve(frame.fixed.transform, cp.fixed.transform @ cp.response.removed)
    if X.shape[1]:
        # The second pass refines the first where that has cancelled digits.
        for _ in range(2):
            step = np.linalg.lstsq(X, residual)[0]
            residual, coef = residual - X @ step, coef + step
    spread = float(np.sqrt(np.mean(residual**2))) * cp.sigma_unit
    return Response(residual, coef, 0.0, np.zeros(coef.size), spread)


def _whitened_design(design: Design, apply: Whiten) -> Design:
    """The rows as data of a model with independent residuals."""
    rows = np.arange(design.n)
    y = design.y_less_offset
    Xy = apply(_weighted(design, np.column_stack([design.X, y])), rows)
    terms = tuple(replace(term, Z=apply(_weighted(design, term.Z), rows)) for term in design.terms)
    return replace(
        design,
        y=Xy[:, -1],
        X=Xy[:, :-1],
        terms=terms,
        residual=make_residual(design.n),
        offset=None,
        frequency=None,
        recipe=None,
    )
