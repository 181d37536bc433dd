"""Names beside points of a figure, placed where they cover neither points nor one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayeslmm.design.names import in_plot
from bayeslmm.types import FloatArray, IntArray

_SIZE = 7.0
# Letters of Matplotlib's sans serif are some 0.6 of its size wide and 1.1 high; half of a point's mark.
_WIDE, _HIGH, _MARK = 0.62, 1.1, 2.5
# Directions from a point to its name, the best first, and the room between them in points.
_WAYS = ((1, 0.5), (-1, 0.5), (1, -0.5), (-1, -0.5), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_GAPS = (4.0, 9.0)


def name_points(x: FloatArray, y: FloatArray, which: IntArray, names: Sequence[Any], axis: Any, colour: str) -> None:
    """Write the names of some points beside them; called when all that sets the limits is drawn.

    Parameters
    ----------
    x, y : FloatArray, shape (n,)
        All points, none of which is to be covered.
    which : IntArray
        The points to name.
    names : sequence, of length n
    axis : matplotlib.axes.Axes
    colour : str
    """
    axis.set(xlim=axis.get_xlim(), ylim=axis.get_ylim())
    scale = 72.0 / axis.figure.dpi
    points = axis.transData.transform(np.column_stack([x, y])) * scale
    frame = np.array(axis.get_window_extent().extents) * scale
    texts = [in_plot(str(names[k])) for k in which]
    widths = np.array([_WIDE * _SIZE * len(text) for text in texts])
    for k, text, (way, gap) in zip(which, texts, places(points, which, widths, frame), strict=True):
        across, up = way
        axis.annotate(
            text,
            (x[k], y[k]),
            (gap * across, gap * up),
            textcoords="offset points",
            ha=("right", "center", "left")[across + 1],
            va="bottom" if up > 0 else "top",
            fontsize=_SIZE,
            color=colour,
        )


def places(
    points: FloatArray, which: IntArray, widths: FloatArray, frame: FloatArray
) -> list[tuple[tuple[int, float], float]]:
    """For every name the direction and the room from its point.

    Parameters
    ----------
    points : FloatArray, shape (n, 2)
    which : IntArray, shape (k,)
    widths : FloatArray, shape (k,)
    frame : FloatArray, shape (4,)
        Left, bottom, right and top, in the units of the points.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.array([[0.0, 0.0], [10.0, 2.0]])
    >>> places(points, np.array([0]), np.array([12.0]), np.array([-50.0, -50.0, 50.0, 50.0]))
    [((-1, 0.5), 4.0)]
    """
    taken: list[FloatArray] = []
    found = []
    for k, width in zip(which, widths, strict=True):
        tried = [(way, gap) for gap in _GAPS for way in _WAYS]
        boxes = [_box(points[k], width, way, gap) for way, gap in tried]
        costs = [_cost(box, points, taken, frame) + 0.01 * i for i, box in enumerate(boxes)]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        found.append(tried[best])
    return found


def _box(point: FloatArray, width: float, way: tuple[int, float], gap: float) -> FloatArray:
    across, up = way
    left = point[0] + gap * across + width * (-1.0, -0.5, 0.0)[across + 1]
    bottom = point[1] + gap * up - (0.0 if up > 0 else _HIGH * _SIZE)
    return np.array([left, bottom, left + width, bottom + _HIGH * _SIZE])


def _cost(box: FloatArray, points: FloatArray, taken: Sequence[FloatArray], frame: FloatArray) -> float:
    """How many points and, counted tenfold, names a box covers; outside the frame is as bad as five points."""
    inside = np.all((points > box[:2] - _MARK) & (points < box[2:] + _MARK), axis=1)
    over = sum(bool(np.all((box[:2] < other[2:] + 1.0) & (other[:2] < box[2:] + 1.0))) for other in taken)
    outside = bool(np.any(box[:2] < frame[:2]) or np.any(box[2:] > frame[2:]))
    return float(inside.sum()) + 10.0 * over + 5.0 * outside
