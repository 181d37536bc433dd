"""The log determinant of K: exact, estimated, or exact at one point with the estimate of what lies between."""

from __future__ import annotations

from dataclasses import dataclass

from bayeslmm.likelihood import small
from bayeslmm.likelihood.crossed_lanczos import LogDet, Probes, log_det
from bayeslmm.likelihood.crossed_operator import Operator, is_regular
from bayeslmm.likelihood.crossed_packed import exact_log_det
from bayeslmm.types import FloatArray


@dataclass(frozen=True)
class Anchor:
    """A point at which the log determinant and its gradient are known exactly, with what the probes say there.

    Elsewhere it is the exact value, plus by how much the estimate changes, plus the error of its slope here times the
    distance: near by an error of second order. Far away an error of a slope says nothing, and is weighed down.

    Attributes
    ----------
    G : tuple of FloatArray, each (c, c)
    levels : tuple of int
        Of every block.
    singular : frozenset of int
        Blocks after the first whose covariance is.
    exact, estimate : LogDet
    """

    G: tuple[FloatArray, ...]
    levels: tuple[int, ...]
    singular: frozenset[int]
    exact: LogDet
    estimate: LogDet

    @classmethod
    def at(cls, operator: Operator, probes: Probes) -> Anchor:
        estimate, levels = log_det(operator, probes), tuple(block.n_levels for block in operator.s.frame.blocks)
        singular = frozenset(b for b, T in enumerate(operator.T) if b and not is_regular(T))
        return cls(tuple(T @ T.T for T in operator.T), levels, singular, exact_log_det(operator)[0], estimate)

    def correct(self, there: LogDet, operator: Operator) -> LogDet:
        """The estimate at another point, corrected by what is known here."""
        away = [T @ T.T - G for T, G in zip(operator.T, self.G, strict=True)]
        known, own = self.exact, self.estimate
        value = known.value + there.value - own.value
        values = known.value + there.values - own.values
        gradient, gradients = list(there.gradient), list(there.gradients)
        for b, change in enumerate(away):
            # By how much the log determinant of a level changes, to first order.
            slope = known.gradient[b] / self.levels[b]
            error, errors = known.gradient[b] - own.gradient[b], known.gradient[b] - own.gradients[b]
            if b in self.singular:
                # Errors there grow with the standard deviation, not with the variance, and have no slope.
                if not is_regular(operator.T[b]):
                    gradient[b], gradients[b] = gradient[b] + error, gradients[b] + errors
                continue
            far = float((slope * change).sum())
            weight = 1.0 / (1.0 + far**2)
            fall = -2.0 * far * weight**2 * slope
            off, offs = float((error * change).sum()), (errors * change).sum((1, 2))
            value += weight * off
            values = values + weight * offs
            gradient[b] = gradient[b] + weight * error + off * fall
            gradients[b] = gradients[b] + weight * errors + offs[:, None, None] * fall
        return LogDet(value, tuple(gradient), values, tuple(gradients))


def find_log_det(operator: Operator, probes: Probes | None, anchor: Anchor | None) -> LogDet:
    """``log |I + Z G Z'|`` with its gradient in the covariance of every block.

    Parameters
    ----------
    operator : Operator
    probes : Probes or None
        None for the exact one.
    anchor : Anchor or None
    """
    if probes is None:
        found = exact_log_det(operator)[0]
    else:
        found = log_det(operator, probes)
        if anchor is not None:
            found = anchor.correct(found, operator)
    R = operator.s.R
    own = small.dot(small.transpose(R), small.dot(operator.M, R)).sum(0)
    return LogDet(
        found.value + operator.log_first,
        (found.gradient[0] + own, *found.gradient[1:]),
        found.values + operator.log_first,
        (found.gradients[0] + own, *found.gradients[1:]),
    )
