"""Second derivatives of crossed factors: the average information, which needs solutions alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.errors import FitError
from bayeslmm.likelihood.crossed_point import CrossedPoint
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class CrossedPieces:
    """`derivatives.SecondOrder` at one point.

    Attributes
    ----------
    point : CrossedPoint
    chol : FloatArray, shape (p, p)
        Factor of the matrix of the fixed effects.
    scores : list of FloatArray, each (J, c)
        ``Z'P0 y``, or what stands in its place.
    """

    point: CrossedPoint
    chol: FloatArray
    scores: list[FloatArray]

    @property
    def exact(self) -> bool:
        return False

    def affordable(self, parameters: int) -> bool:
        """Exact traces never are."""
        return False

    def second(
        self, directions: Sequence[FloatArray], scale: FloatArray, r2: FloatArray, traces_of: bool | None
    ) -> FloatArray:
        """Average information (1, d, d) along changes of G."""
        if traces_of is not None:
            return self.traces([])
        both, slopes = self._curves([gamma[0] for gamma in directions])
        return np.asarray(scale[0] * (both - np.outer(slopes, slopes) / r2[0]))[None]

    def traces(self, directions: Sequence[FloatArray]) -> FloatArray:
        """Refused: they need the whole inverse."""
        raise FitError(
            "The traces of products of two inverses, which this needs, are not formed for crossed factors that are "
            "kept as an operator (fit.structure.store): they cost the whole inverse once for each effect. With "
            "store='hierarchy' they are formed, where its dense matrix fits into memory."
        )

    def information(self, directions: Sequence[FloatArray], scale: float) -> tuple[FloatArray, FloatArray]:
        """``s' dG S dG' s`` and ``s' dG s`` times `scale`: what traces are expected to be."""
        both, slopes = self._curves(directions)
        return scale * both, scale * slopes

    def _curves(self, directions: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        d = sum(gamma.shape[0] for gamma in directions)
        z = [np.zeros((*s.shape, d)) for s in self.scores]
        slopes, at = np.empty(d), 0
        for i, gamma in enumerate(directions):
            for g in gamma:
                moved = self.scores[i] @ g
                z[i][..., at] = moved
                slopes[at] = (moved * self.scores[i]).sum()
                at += 1
        projected = self.point.projected(self.point.columns(z), self.chol)
        both = sum((x.reshape(-1, d).T @ s.reshape(-1, d) for x, s in zip(z, projected, strict=True)), np.zeros((d, d)))
        return np.asarray(0.5 * (both + both.T)), slopes
