"""Parts of the criterion at several points, and changes of G along the coordinates of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.inference.profile_coordinates import Piece
from bayeslmm.likelihood import CrossProducts
from bayeslmm.types import FloatArray, IntArray


@dataclass
class Terms:
    """Parts of the criterion at K points; changed in place where a coefficient is held.

    Attributes
    ----------
    logs, r2, nu : FloatArray, shape (K,)
        Logarithmic part without sigma, penalised residual sum of squares, degrees of freedom.
    traces, squares : list of FloatArray, each (K, c, c)
        Derivatives of the logarithmic part, and of minus r2, in the G of the blocks.
    weight : FloatArray, shape (K,)
        1 / sigma^2.
    """

    logs: FloatArray
    r2: FloatArray
    nu: FloatArray
    traces: list[FloatArray]
    squares: list[FloatArray]
    weight: FloatArray


@dataclass(frozen=True)
class Curves:
    """``dG`` along every coordinate, term by term (K, n, c, c) and embedded in the blocks.

    Attributes
    ----------
    pieces : tuple of Piece
    frames, own, stacks : list of FloatArray
        By term its frame (K, c, c) and changes (K, n, c, c); by block all changes (K, d_b, c, c).
    """

    pieces: tuple[Piece, ...]
    frames: list[FloatArray]
    own: list[FloatArray]
    stacks: list[FloatArray]

    def along(self, slopes: Sequence[FloatArray]) -> FloatArray:
        """What has derivatives `slopes` (K, c, c) in the G of the blocks, along every coordinate (K, k)."""
        parts = [
            np.einsum("knab,kab->kn", change, slopes[piece.block][:, piece.columns, piece.columns])
            for piece, change in zip(self.pieces, self.own, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def part(self, rows: IntArray) -> Curves:
        """Some of the points."""
        return Curves(
            self.pieces, [W[rows] for W in self.frames], [a[rows] for a in self.own], [s[rows] for s in self.stacks]
        )


def curves(cp: CrossProducts, known: tuple[Piece, ...], frames: list[FloatArray], u: FloatArray) -> Curves:
    """Changes of G at points u (K, k + 2), entries and relative sds."""
    own = list[FloatArray]()
    stacks: list[list[FloatArray]] = [[] for _ in cp.blocks]
    for piece, W in zip(known, frames, strict=True):
        change = W[:, None] @ piece.shape.directions(u[:, piece.span]) @ W.mT[:, None]
        own.append(change)
        size = cp.blocks[piece.block].size
        if change.shape[-1] != size:
            whole = np.zeros((*change.shape[:2], size, size))
            whole[:, :, piece.columns, piece.columns] = change
            change = whole
        stacks[piece.block].append(change)
    return Curves(known, frames, own, [np.concatenate(s, axis=1) for s in stacks])
