"""Derivatives of the fixed part along a covariate, by differences that no kink or step falls within."""

from __future__ import annotations

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.design.grid import FixedFunctions
from bayeslmm.errors import DesignError
from bayeslmm.means.grid import ReferenceGrid
from bayeslmm.types import FloatArray

# First step as a share of the range of the data, and how often it is halved at most (to about 1e-6).
_STEP, _HALVINGS = 1e-2, 14
# Agreement of extrapolations from neighbouring steps, and rounding of differences in units of the last place.
_AGREE, _ROUNDING = 1e-8, 100.0
# Left and right slopes that differ by this share, and do not come nearer as the step is halved, are a kink.
_APART, _NEARER = 1e-4, 0.75


def slopes_of(grid: ReferenceGrid, variable: str, spread: float) -> FixedFunctions:
    """Slopes along one column of the functions of a grid: Richardson's central differences where they have settled.

    Raises
    ------
    DesignError
        A function has no slope at a point: it has a kink or a step there.
    """
    middle = _columns(grid.functions)
    where = np.array(grid.variable(variable).values)[grid.places[:, grid.position(variable)]][:, None]

    def sides(step: float) -> tuple[FloatArray, FloatArray]:
        up, down = (_columns(grid.shifted(variable, h)) for h in (step, -step))
        return (up - middle) / step, (middle - down) / step

    step, last = _STEP * spread, sides(_STEP * spread)
    now = sides(0.5 * step)
    best, found = np.full(middle.shape, np.inf), np.zeros(middle.shape)
    kink = np.zeros(middle.shape, dtype=bool)
    for _ in range(_HALVINGS):
        new = sides(0.25 * step)
        coarse, fine = _extrapolated(last, now), _extrapolated(now, new)
        size = np.maximum(np.abs(now[0]), np.abs(now[1]))
        noise = _ROUNDING * np.finfo(float).eps * (np.abs(middle) + size * np.abs(where)) / step
        excess = np.abs(coarse - fine) / (_AGREE * size + noise + 1e-100)
        better = (best > 1.0) & (excess < best)
        gap, wider = np.abs(new[0] - new[1]), np.abs(now[0] - now[1])
        apart = (gap > _NEARER * wider) & (gap > _APART * size + 4.0 * noise)
        found, best = np.where(better, coarse, found), np.where(better, excess, best)
        kink = np.where(better, apart, kink)
        if (best <= 1.0).all():
            break
        step, last, now = 0.5 * step, now, new
    else:
        # A step at the point itself never settles.
        kink = kink | ((best > 1.0) & apart)
    if kink.any():
        row = int(np.flatnonzero(kink.any(axis=1))[0])
        raise DesignError(
            f"{_name(grid.design, int(np.flatnonzero(kink[row])[0]))} has a kink or a step at {variable} = "
            f"{where[row, 0]:.6g}, so it has no slope there: those to the left and to the right differ. Ask for the "
            f"slope on either side, e.g. at={{{variable!r}: {where[row, 0] + _STEP * spread:.4g}}}."
        )
    p = grid.functions.L.shape[1]
    return FixedFunctions(found[:, :p], found[:, p:-1], found[:, -1])


def _columns(functions: FixedFunctions) -> FloatArray:
    return np.column_stack([functions.L, functions.left_out, functions.offset])


def _extrapolated(coarse: tuple[FloatArray, FloatArray], fine: tuple[FloatArray, FloatArray]) -> FloatArray:
    """Richardson's combination of central differences: what is left is of the fourth order in the step."""
    return np.asarray((4.0 * (fine[0] + fine[1]) - (coarse[0] + coarse[1])) / 6.0)


def _name(design: Design, column: int) -> str:
    names = design.fixed_names
    return f"The column {names[column]}" if column < len(names) else f"A part of {design.formula!r}"
