"""What is wrong with data that hold nothing to model."""

from __future__ import annotations

from collections.abc import Mapping

from bayeslmm.errors import DesignError


def constant_response(name: str, n: int, value: float) -> DesignError:
    """Of n responses of one value."""
    return DesignError(
        f"The response {name} is constant: all {n} values are {value:g}. There is no variation to model. Check the "
        "column."
    )


def no_values(name: str, n: int) -> DesignError:
    """Of a column of n rows without a value."""
    return DesignError(
        f"Column {name!r} has no value in any of the {n} rows. Leave it out of the formula or check how the data were "
        "read."
    )


def no_rows(reasons: Mapping[str, int]) -> DesignError:
    """Of data of which every row is left out, with the rows of each reason."""
    return DesignError(
        f"No row can be used: {'; '.join(f'{reason} in {count} rows' for reason, count in reasons.items())}. Leave out "
        "the columns with most missing values, or check the weights and frequencies."
    )
