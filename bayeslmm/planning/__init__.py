"""Studies that are planned: their rows, and the power, precision and assurance that they would have."""

from bayeslmm.planning.plan import Plan

__all__ = ["Plan"]
