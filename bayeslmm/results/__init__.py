"""What is said of a fit and of draws: functions of `Fit` and of `Draws`, and their labels."""

from __future__ import annotations

from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.summary import Summary

__all__ = ["Parameter", "Summary", "parameters"]
