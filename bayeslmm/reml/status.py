"""How an optimisation ended, in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bayeslmm.design.screen import fill


class FitStatus(Enum):
    """Outcome of a fit; ``str(status)`` is the text for people, ``status.ok`` whether to use the numbers."""

    converged = (
        "converged: the gradient is zero and the curvature positive to rounding error",
        True,
    )
    converged_at_boundary = (
        "converged at the boundary: a variance, or that of a combination of effects, is estimated as exactly 0 (a "
        "singular fit; fit.boundary() says what that means)",
        True,
    )
    not_identified = (
        "not identified: the criterion is at its minimum, but on a ridge, where variances can be exchanged without "
        "any change; only combinations of them are determined",
        False,
    )
    imprecise = (
        "not confirmed: two evaluations of the criterion at the estimate differ by more than rounding, because "
        "standard deviations lie so many orders of magnitude apart that one number cannot hold their digits, and the "
        "data are too large to look again with more digits. Rescale the columns of the terms, or fix the "
        "largest variance",
        False,
    )
    evaluation_limit = (
        "stopped at the evaluation limit: the criterion was still falling. Raise max_evaluations, look at "
        "fit.trace, and check whether two terms describe the same variation",
        False,
    )
    no_descent = (
        "stopped: no step lowers the criterion although the gradient is not zero. Usually rounding error "
        "from columns that are nearly dependent; rescale or centre predictors and drop redundant ones. With residual= "
        "also correlations within rounding of 1 or -1; where the log determinant is estimated, its error "
        "(store='packed' has none)",
        False,
    )
    unbounded = (
        "no estimate: the likelihood grows without bound as residual correlations run towards 1 or -1, or residual "
        "standard deviations apart. The groups are too few for so many parameters, or some do not vary at all: take "
        "a structure with fewer, and look at groups with a single value",
        False,
    )
    non_finite = (
        "stopped: the criterion is not finite. The residual variance has gone to zero (the model "
        "reproduces the response exactly); remove a random term or check for duplicated responses",
        False,
    )

    def __init__(self, text: str, ok: bool) -> None:
        self.text = text
        self.ok = ok

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return fill(f"<{type(self).__name__}.{self.name}: {self.text.partition(': ')[2]}>", indent="  ")


@dataclass(frozen=True)
class LogDetNoise:
    """How far an estimated log determinant may lead a fit astray.

    Attributes
    ----------
    probes : int
        Random vectors it is estimated from.
    exact_points : int
        Points at which it was exact.
    criterion : float
        Standard error of the criterion at the estimate.
    share : float
        Standard error of the estimates (of that combination where it is largest) over their own standard error.
    """

    probes: int
    exact_points: int
    criterion: float
    share: float

    def __str__(self) -> str:
        points = f" and {self.exact_points} exact evaluations" if self.exact_points else ""
        return (
            f"log determinant from {self.probes} random vectors{points}: criterion +- {self.criterion:.2g}, "
            f"variance parameters +- {self.share:.1g} of their standard errors"
        )
