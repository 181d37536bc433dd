"""Simulation-based calibration: does the posterior hold what it says, on the user's own design."""

from __future__ import annotations

from bayeslmm.calibration.result import Calibration
from bayeslmm.calibration.run import calibrate

__all__ = ["Calibration", "calibrate"]
