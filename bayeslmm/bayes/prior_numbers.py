"""Numbers of priors: what may be given, and what they are kept as."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from bayeslmm.arguments import real, shown
from bayeslmm.errors import ArgumentError, PriorError


def is_finite_number(value: Any) -> bool:
    """Whether a value is one finite number; truth values are none."""
    try:
        real("value", value)
    except ArgumentError:
        return False
    return True


def settle(prior: Any) -> None:
    """Make the checked fields of a prior Python's numbers: NumPy has no logarithm of large ints and fractions."""
    for field in fields(prior):
        value = getattr(prior, field.name)
        # NumPy's floats are Python's too, but what is computed from them is not.
        if type(value) is not float and not (type(value) is int and abs(value) < 2**53):
            object.__setattr__(prior, field.name, float(value))


def check_scale(name: str, value: float) -> None:
    """Refuse what is not a positive finite number.

    Raises
    ------
    PriorError
    """
    if not (is_finite_number(value) and value > 0):
        raise PriorError(
            f"{name} is {shown(value)}, but it must be a positive finite number (a scale: in the units of the "
            "response). Give a positive number, e.g. the standard deviation of the response."
        )
