"""Whether one residual structure is a special case of another."""

from __future__ import annotations

from bayeslmm.design.residual_text import ResidualPart, parse_residual
from bayeslmm.residual import Estimable, Residual
from bayeslmm.results.fit import Fit

# Of the same visits and groups: what each is a special case of.
_WIDER = {
    "cs": ("csh", "toep", "toeph", "us"),
    "csh": ("toeph", "us"),
    "ar1": ("ar1h", "toep", "toeph", "ad", "adh", "arma", "us"),
    "ar1h": ("toeph", "adh", "us"),
    "toep": ("toeph", "us"),
    "toeph": ("us",),
    "ad": ("adh", "us"),
    "adh": ("us",),
}
# Of variances: those that every visit has of its own.
_HETEROGENEOUS = ("us", "ar1h", "csh", "toeph", "adh")


def written(fit: Fit) -> str:
    """What stands behind a formula in a list of models."""
    residual = fit.design.residual
    return f", residual={residual.expression!r}" if isinstance(residual, Estimable) and residual.names else ""


def not_within(small: Residual, large: Residual) -> str:
    """Why the smaller structure is no special case of the larger; empty if it is.

    Equal and independent residuals are one of all structures.
    """
    if not small.names:
        return ""
    if not isinstance(small, Estimable) or not isinstance(large, Estimable) or not large.names:
        return "the residual structure of the smaller is not in the larger"
    own, wider = parse_residual(small.expression), list(parse_residual(large.expression))
    for part in own:
        if not any(_covers(part, other) for other in wider):
            return f"residual {part.text} of the smaller is no special case of {large.expression}"
    return ""


def _covers(small: ResidualPart, large: ResidualPart) -> bool:
    """Whether a part is a special case of another."""
    if small.text == large.text:
        return True
    if not large.correlated:
        return False
    if not small.correlated:
        # Variances by visit are in structures that have one for each.
        return small.keyword == "by" and large.keyword in _HETEROGENEOUS and small.left == large.left
    same_place = small.group == large.group and (small.left == large.left or not small.left)
    same_arms = small.by in ("", large.by)
    wider = (small.keyword, *_WIDER.get(small.keyword, ()))
    return same_place and same_arms and large.keyword in wider
