"""What users hold: fits and posteriors, with the functions of the rooms below bound to them."""

from __future__ import annotations

from bayeslmm.faces.fit import PenalisedResult, REMLResult
from bayeslmm.faces.kinds import fit_by, fit_result
from bayeslmm.faces.posterior import Posterior

__all__ = ["PenalisedResult", "Posterior", "REMLResult", "fit_by", "fit_result"]
