"""What counts as a negligible standard deviation unless the user says."""

from __future__ import annotations

from numbers import Real

import numpy as np

from bayeslmm.bayes.prior_scales import response_sd, rms
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError
from bayeslmm.results.labels import Parameter

# Share of sd(y) / rms(column).
_NEGLIGIBLE = 0.05


def negligible_sd(design: Design, p: Parameter) -> float:
    """5 % of sd(y) / rms(column), units of the effect."""
    size = float(rms(design, design.terms[p.position].Z[:, [p.effects[0]]])[0])
    return _NEGLIGIBLE * response_sd(design) / size


def check_delta(delta: float | None) -> None:
    """Refuse what is no size of a standard deviation.

    Raises
    ------
    DesignError
    """
    if delta is None:
        return
    if isinstance(delta, bool) or not isinstance(delta, Real) or not (np.isfinite(delta) and delta >= 0):
        raise DesignError(
            f"delta={delta!r}: a standard deviation below which it is negligible is a number of at least 0, in the "
            "units of the response."
        )
