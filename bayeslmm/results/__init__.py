"""Labels on numbers: the accessors that both engines share."""

from __future__ import annotations

from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.posterior import Posterior
from bayeslmm.results.reml_result import REMLResult
from bayeslmm.results.summary import Summary

__all__ = ["Parameter", "Posterior", "REMLResult", "Summary", "parameters"]
