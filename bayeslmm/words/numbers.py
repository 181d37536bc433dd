"""Numbers for sentences: as many digits as their intervals leave, ends in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Significant digits of half the width of an interval, and of a number without one.
_OF_WIDTH, _ALONE = 2, 3
# Beyond these powers of ten numbers are written with an exponent.
_SMALLEST, _LARGEST = 1e-4, 1e6


@dataclass(frozen=True)
class Measured:
    """A number with an interval.

    Attributes
    ----------
    value : float
    low, high : float
        nan where there is no interval.
    """

    value: float
    low: float
    high: float

    @property
    def places(self) -> int | None:
        """Places after the point; None where the number stands alone."""
        half = 0.5 * (self.high - self.low)
        if not (math.isfinite(half) and half > 0):
            return None
        return _OF_WIDTH - 1 - math.floor(math.log10(half))

    @property
    def text(self) -> str:
        return self.write(self.value)

    @property
    def size(self) -> str:
        """Its absolute value."""
        return self.write(abs(self.value))

    @property
    def ends(self) -> str:
        """The interval: ``"7.4 to 13.6"``; a missing end in words, empty where there is none.

        Examples
        --------
        >>> Measured(10.467, 7.3587, 13.576).ends, Measured(0.0, 0.0, float("inf")).ends
        ('7.4 to 13.6', '0 or more')
        >>> Measured(251.4, 237.7, 265.1).ends, Measured(1.0, float("nan"), float("nan")).ends
        ('238 to 265', '')
        """
        if math.isnan(self.low) or math.isnan(self.high) or math.isinf(self.low):
            return f"{self.write(self.high)} or less" if math.isinf(self.low) and math.isfinite(self.high) else ""
        if math.isinf(self.high):
            return f"{self.write(self.low)} or more"
        return f"{self.write(self.low)} to {self.write(self.high)}"

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high

    def write(self, value: float) -> str:
        """A number with the places of this one."""
        if value == 0 or not math.isfinite(value):
            return "0" if value == 0 else str(value)
        places = self.places
        if places is None:
            return f"{value:.{_ALONE}g}" if _SMALLEST <= abs(value) < _LARGEST else f"{value:.{_ALONE - 1}e}"
        if not (_SMALLEST <= max(abs(self.low), abs(self.high)) < _LARGEST):
            return f"{value:.{_ALONE - 1}e}"
        rounded = round(value, places)
        return f"{abs(rounded) if rounded == 0 else rounded:.{max(places, 0)}f}"


def in_brackets(number: Measured, level: float) -> str:
    """``" (95 % interval 7.4 to 13.6)"``, or nothing."""
    return f" ({100 * level:g} % interval {number.ends})" if number.ends else ""
