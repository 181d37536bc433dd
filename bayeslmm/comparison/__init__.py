"""Both engines on the same labels and the same scale."""

from __future__ import annotations

from bayeslmm.comparison.compare import Comparison, compare

__all__ = ["Comparison", "compare"]
