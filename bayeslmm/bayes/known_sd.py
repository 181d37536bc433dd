"""A residual standard deviation that is known, in the place of its prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bayeslmm.bayes.prior_numbers import check_scale, settle
from bayeslmm.bayes.priors import Priors
from bayeslmm.design.design import Design
from bayeslmm.errors import PriorError
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
    known: ClassVar[bool] = True

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


def known_log_sigma(priors: Priors) -> float | None:
    """Log sigma where it is known; None where it has a prior."""
    return float(np.log(priors.sigma.value)) if isinstance(priors.sigma, KnownSd) else None


def with_known_sigma(design: Design, priors: Priors) -> Priors:
    """The priors with a known sigma as the design has it.

    Raises
    ------
    PriorError
        The priors were made for a model with another sigma.
    """
    if design.sigma is not None:
        return replace(priors, sigma=KnownSd(design.sigma))
    if isinstance(priors.sigma, KnownSd):
        raise PriorError(
            f"These priors were made for a model whose residual standard deviation is known ({priors.sigma}), and "
            "sigma of this model has to be estimated. Start from priors of this model, or give sigma a prior."
        )
    return priors
