"""Simulation studies: is the posterior right on the user's own design, and do intervals hold the truth."""

from __future__ import annotations

from bayeslmm.calibration.coverage_cells import Cell, coverage_grid
from bayeslmm.calibration.coverage_result import CoverageStudy, coverage_atlas
from bayeslmm.calibration.coverage_run import coverage_study
from bayeslmm.calibration.result import Calibration
from bayeslmm.calibration.run import calibrate

__all__ = [
    "Calibration",
    "Cell",
    "CoverageStudy",
    "calibrate",
    "coverage_atlas",
    "coverage_grid",
    "coverage_study",
]
