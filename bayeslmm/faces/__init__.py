"""What users hold: fits and posteriors, with the functions of the rooms below bound to them."""

from __future__ import annotations

from bayeslmm.faces.fit import PenalisedResult, REMLResult
from bayeslmm.faces.kinds import fit_by, fit_result
from bayeslmm.faces.posterior import Posterior
from bayeslmm.faces.structured_posterior import posterior_of

__all__ = ["PenalisedResult", "Posterior", "REMLResult", "fit_by", "fit_result", "posterior_of"]
