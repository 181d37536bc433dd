"""Simulation studies: is the posterior right on the user's own design, and do intervals hold the truth."""

from __future__ import annotations

from bayeslmm.calibration.atlas import CoverageStudy, coverage_atlas
from bayeslmm.calibration.atlas_cells import Cell, coverage_grid
from bayeslmm.calibration.coverage_result import Coverage
from bayeslmm.calibration.coverage_run import coverage
from bayeslmm.calibration.result import Calibration
from bayeslmm.calibration.run import calibrate
from bayeslmm.calibration.study import coverage_study

__all__ = [
    "Calibration",
    "Cell",
    "Coverage",
    "CoverageStudy",
    "calibrate",
    "coverage",
    "coverage_atlas",
    "coverage_grid",
    "coverage_study",
]
