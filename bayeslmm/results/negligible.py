"""What counts as a negligible standard deviation unless the user says."""

from __future__ import annotations

from bayeslmm.bayes.prior_scales import response_sd, rms
from bayeslmm.design.design import Design
from bayeslmm.results.labels import Parameter

# Share of sd(y) / rms(column).
_NEGLIGIBLE = 0.05


def negligible_sd(design: Design, p: Parameter) -> float:
    """5 % of sd(y) / rms(column), units of the effect."""
    size = float(rms(design, design.terms[p.position].Z[:, [p.effects[0]]])[0])
    return _NEGLIGIBLE * response_sd(design) / size
