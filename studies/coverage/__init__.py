"""The coverage study behind `bayeslmm.coverage_atlas`: which intervals hold true variances, over a grid of designs.

Estimates, profiles and pivots are the package's own. Posteriors are computed here, for hundreds of responses at once.
"""

from __future__ import annotations

from studies.coverage.run import coverage_study

__all__ = ["coverage_study"]
