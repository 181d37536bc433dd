"""Both engines on the same labels and the same scale."""

from __future__ import annotations

from bayeslmm.comparison.compare import Comparison, compare
from bayeslmm.comparison.models import ModelComparison

__all__ = ["Comparison", "ModelComparison", "compare"]
