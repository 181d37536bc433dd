"""The table of a coverage study: one row for every cell, parameter and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import fdtr

from bayeslmm.calibration.atlas import CELL_COLUMNS
from bayeslmm.calibration.atlas_cells import Cell
from bayeslmm.calibration.shares import mc_error
from studies.coverage.chunk import CellChunk, CellTask, columns, truth

COLUMNS = [
    *CELL_COLUMNS,
    "parameter",
    "truth",
    "method",
    "replicates",
    "coverage",
    "below",
    "above",
    "mc_error",
    "width_median",
    "width_ratio",
    "zero_share",
    "zero_exact",
]


def exact_zero(cell: Cell) -> float:
    """Probability that the REML estimate is zero, ``P(F <= 1/k)``; nan where there is no closed form."""
    if cell.design != "balanced":
        return float("nan")
    k = 1.0 + cell.size * cell.icc / (1.0 - cell.icc)
    return float(fdtr(cell.groups - 1, cell.groups * (cell.size - 1), 1.0 / k))


def make_table(cells: Sequence[Cell], chunks: Mapping[CellTask, CellChunk]) -> pd.DataFrame:
    """Rows of all cells that have replicates, in the order of the cells.

    Parameters
    ----------
    cells : sequence of Cell
    chunks : mapping
        Finished chunks by task, in any order.

    Returns
    -------
    pandas.DataFrame
    """
    by_cell: dict[Cell, list[tuple[int, CellChunk]]] = {cell: [] for cell in cells}
    for task, chunk in chunks.items():
        by_cell[task.cell].append((task.chunk, chunk))
    rows: list[dict[str, object]] = []
    for cell, parts in by_cell.items():
        if parts:
            rows += _rows(cell, [chunk for _, chunk in sorted(parts, key=lambda part: part[0])])
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(cell: Cell, parts: Sequence[CellChunk]) -> list[dict[str, object]]:
    outcome = np.concatenate([part.outcome for part in parts], axis=1)
    width = np.median(np.concatenate([part.width for part in parts], axis=1), axis=1)
    singular = np.concatenate([part.singular for part in parts])
    R, names = singular.size, columns(cell)
    pivot = {parameter: width[m] for m, (parameter, method) in enumerate(names) if method == "pivot"}
    rows = []
    for m, (parameter, method) in enumerate(names):
        coverage = float((outcome[m] == 0).mean())
        rows.append(
            {name: getattr(cell, name) for name in CELL_COLUMNS}
            | {
                "parameter": parameter,
                "truth": truth(cell, parameter),
                "method": method,
                "replicates": R,
                "coverage": coverage,
                "below": float((outcome[m] < 0).mean()),
                "above": float((outcome[m] > 0).mean()),
                "mc_error": mc_error(coverage, R),
                "width_median": float(width[m]),
                "width_ratio": float(width[m] / pivot[parameter]) if parameter in pivot else float("nan"),
                "zero_share": float(singular.mean()),
                "zero_exact": exact_zero(cell),
            }
        )
    return rows
