"""The same model as text for other packages: calls with their differing defaults in comments."""

from __future__ import annotations

from bayeslmm.design.script import Script
from bayeslmm.exporting.targets import PACKAGES, TARGETS, export

__all__ = ["PACKAGES", "TARGETS", "Script", "export"]
