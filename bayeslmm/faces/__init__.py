"""What users hold: fits and posteriors, with the functions of the rooms below bound to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayeslmm.faces.fit import PenalisedResult, REMLResult
from bayeslmm.faces.kinds import fit_by, fit_result

if TYPE_CHECKING:
    from bayeslmm.faces.posterior import Posterior

__all__ = ["PenalisedResult", "Posterior", "REMLResult", "fit_by", "fit_result"]


def __getattr__(name: str) -> Any:
    # A fit is made without the posterior, and all that can be asked of one.
    if name == "Posterior":
        from bayeslmm.faces.posterior import Posterior

        return Posterior
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
