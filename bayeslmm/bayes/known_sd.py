"""A residual standard deviation that is known, in the place of its prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bayeslmm.bayes.prior_numbers import check_scale, settle
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class KnownSd:
    """All mass of a standard deviation at one value: nothing to integrate over, to draw or to show.

    Attributes
    ----------
    value : float
        Units of y.

    Examples
    --------
    >>> KnownSd(2.0).quantile(0.1), str(KnownSd(2.0))
    (2.0, 'known: 2')
    """

    value: float
    proper: ClassVar[bool] = True
    even: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("A known standard deviation", self.value)
        settle(self)

    def log_density(self, s: FloatArray) -> FloatArray:
        """Zero: the whole mass is at the value, and no other is asked for."""
        return np.zeros(np.shape(s))

    def quantile(self, probability: float) -> float:
        """The value."""
        return self.value

    def __str__(self) -> str:
        return f"known: {self.value:g}"
