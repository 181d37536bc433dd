"""Settings for all tests."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import matplotlib
from hypothesis import settings

# A shell without job control lets what it starts in the background ignore interrupts, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

matplotlib.use("Agg")
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=500, deadline=None)
settings.load_profile("fast")

if noise := os.environ.get("BAYESLMM_ROUNDING_NOISE"):
    path = Path(__file__).with_name("rounding.py")
    spec = importlib.util.spec_from_file_location("rounding", path)
    rounding = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(rounding)  # type: ignore[union-attr]
    rounding.install(noise)
