"""Principal components of the random effects: which combinations of effects vary, and which do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.equality import by_value
from bayeslmm.types import FloatArray

# Beside the largest component of its term, an sd below this is none.
_NONE = 1e-6


@by_value
@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of one term, effects scaled to their contribution to the sd of the response.

    Attributes
    ----------
    term : int
        Position in ``design.terms``.
    sd : FloatArray, shape (c,)
        Standard deviation of each component, units of y, largest first.
    loadings : FloatArray, shape (c, c)
        Columns are components; rows are effects, each multiplied by the root mean square of its column.
    """

    term: int
    sd: FloatArray
    loadings: FloatArray

    @property
    def share(self) -> FloatArray:
        """Share of the term's variance (c,); nan if it has none."""
        total = float((self.sd**2).sum())
        return self.sd**2 / total if total > 0 else np.full(self.sd.size, np.nan)

    @property
    def rank(self) -> int:
        """Number of components with variance."""
        return int((self.sd > _NONE * self.sd[0]).sum()) if self.sd[0] > 0 else 0


def principal_components(
    design: Design, terms: Sequence[FloatArray], sigma: float, *, scaled: bool = True
) -> tuple[Components, ...]:
    """Principal components of every term.

    Effects are measured by what they add to the response: an effect is multiplied by the root mean square of its
    column (about zero, not about its mean: the variance of an effect times the mean square of its column is what it
    adds to an observation on average), so that the components do not depend on units of predictors. They depend on
    where a predictor has its zero, as the variance of the intercept and its correlations do.

    Parameters
    ----------
    design : Design
    terms : sequence of FloatArray, each (c, c)
        Relative factors on the user's columns.
    sigma : float
        Units of y.
    scaled : bool
        False: effects in the units of the predictors.

    References
    ----------
    Bates, Kliegl, Vasishth & Baayen (2015), arXiv:1506.04967 (rePCA, there in the units of the predictors).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> principal_components(fit.design, fit.optimum.terms, fit.sigma)[0].share.round(3)
    array([0.624, 0.376])
    """
    found = []
    for i, (term, T) in enumerate(zip(design.terms, terms, strict=True)):
        size = np.ones(T.shape[0])
        if scaled and design.facts is not None:
            size = np.sqrt((design.facts.moments(i) ** 2).sum(0))
        elif scaled:
            size = np.sqrt(np.average(term.Z**2, axis=0, weights=design.frequency))
        U, s, _ = np.linalg.svd(size[:, None] * T * sigma)
        largest = U[np.argmax(np.abs(U), axis=0), np.arange(s.size)]
        found.append(Components(i, s, U * np.sign(largest)))
    return tuple(found)
