"""What counts as a negligible standard deviation unless the user says."""

from __future__ import annotations

from bayeslmm.arguments import real, shown
from bayeslmm.bayes.at_means import at_means, effect_sizes
from bayeslmm.bayes.prior_scales import response_sd
from bayeslmm.design.design import Design
from bayeslmm.errors import ArgumentError, DesignError
from bayeslmm.results.labels import Parameter

# Share of the scale of the default prior.
_NEGLIGIBLE = 0.05


def negligible_sd(design: Design, p: Parameter) -> float:
    """5 % of the scale of the default prior, sd(y) / sd(column) or sd(y) / rms(column); units of the effect."""
    return _NEGLIGIBLE * response_sd(design) / column_size(design, p)


def column_size(design: Design, p: Parameter) -> float:
    """What a unit of an effect does to y: its column's sd about the mean, or rms where the model depends on its zero.

    Of all columns together where effects share an sd.
    """
    change = at_means(design, p.position)
    return float(effect_sizes(design, p.position, change)[p.effects[0]])


def check_delta(delta: float | None) -> None:
    """Refuse what is no size of a standard deviation.

    Raises
    ------
    DesignError
    """
    if delta is None:
        return
    try:
        real("delta", delta, least=0.0)
    except ArgumentError:
        raise DesignError(
            f"delta={shown(delta)}: a standard deviation below which it is negligible is a number of at least 0, in "
            "the "
            "units of the response."
        ) from None
