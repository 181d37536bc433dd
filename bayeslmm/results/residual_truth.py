"""Parameters of a residual structure from values in the user's units, of which some or all are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.residual import NO_PARAMETERS, estimable, natural_parameters
from bayeslmm.types import FloatArray

_RANGES = {"positive": (0.0, np.inf), "unit": (0.0, 1.0), "correlation": (-1.0, 1.0), "real": (-np.inf, np.inf)}
_IN_WORDS = {
    "positive": "above 0",
    "unit": "between 0 and 1",
    "correlation": "between -1 and 1",
    "real": "finite numbers",
}
# What the values that are found may differ from those given, relative to 1 or their size.
_EXACT = 1e-8


def check_residual_value(design: Design, position: int, name: str, value: float) -> None:
    """Refuse a value that a residual parameter cannot have.

    Raises
    ------
    DesignError
    """
    kind = estimable(design.residual).ranges[position]
    low, high = _RANGES[kind]
    if not low < value < high:
        raise DesignError(f"{name} cannot be {value:g}; its values are {_IN_WORDS[kind]}.")


def lam_of_values(design: Design, given: Mapping[str, Any], fitted: FloatArray | None) -> FloatArray:
    """Parameters (k,) on their scales without bounds.

    Parameters
    ----------
    design : Design
    given : mapping
        Labels, ``"residual_rho"``, to values in the user's units; other labels are not looked at.
    fitted : FloatArray or None
        Estimates of those that are not given; None: there are none.

    Raises
    ------
    DesignError
        Values of which no covariance is made; some are missing and there are no estimates.
    """
    residual = design.residual
    if not residual.names:
        return NO_PARAMETERS
    labels = [f"residual_{label}" for label in estimable(residual).labels]
    missing = [label for label in labels if label not in given]
    if fitted is not None and len(missing) == len(labels):
        return fitted
    if missing and fitted is None:
        raise DesignError(
            f"The study has no data to estimate from, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            f"not given. Give all of them in residual={{{missing[0].removeprefix('residual_')!r}: ...}}."
        )
    start = np.zeros(len(labels)) if fitted is None else fitted
    values = natural_parameters(residual, start)
    for k, label in enumerate(labels):
        if label in given:
            values[k] = float(given[label])
    own = estimable(residual)

    def away_from(lam: FloatArray) -> tuple[FloatArray, FloatArray]:
        found, slopes = own.natural(lam)
        return found - values, slopes

    with np.errstate(all="ignore"):
        from scipy.optimize import root

        found = root(away_from, start, jac=True, tol=1e-14)
    away = np.abs(own.natural(found.x)[0] - values) / np.maximum(1.0, np.abs(values))
    if not (away <= _EXACT).all():
        said = ", ".join(f"{label} = {value:g}" for label, value in zip(labels, values, strict=True))
        raise DesignError(f"No residual covariance {own.expression} has {said}. Move correlations towards 0.")
    return np.asarray(found.x, dtype=float)
