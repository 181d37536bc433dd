"""Studies that are planned: their rows, and the power, precision and assurance that they would have."""

from bayeslmm.planning.plan import Plan
from bayeslmm.planning.power_run import power
from bayeslmm.planning.result import PowerStudy

__all__ = ["Plan", "PowerStudy", "power"]
