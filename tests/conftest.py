"""Settings for all tests."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

# A shell without job control lets what it starts in the background ignore interrupts, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

matplotlib.use("Agg")
# Examples in docstrings leave their figures open.
matplotlib.rcParams["figure.max_open_warning"] = 0
settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=500, deadline=None)
settings.load_profile("fast")

if noise := os.environ.get("BAYESLMM_ROUNDING_NOISE"):
    path = Path(__file__).with_name("rounding.py")
    spec = importlib.util.spec_from_file_location("rounding", path)
    rounding = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(rounding)  # type: ignore[union-attr]
    rounding.install(noise)


# Files of long tests: of each test the first case is run by `make test`, the others by `make evidence`. Tests of which
# another stands for their kind are named whole.
LONG = (Path(__file__).parent / "long.txt").read_text(encoding="utf-8").split()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as evidence what is long, so that every kind of it stays in the quick run."""
    root, seen = config.rootpath, set[tuple[str, str]]()
    for item in items:
        file = item.path.relative_to(root).as_posix() if item.path.is_relative_to(root) else ""
        # Cases differ by what stands in brackets.
        test = file, item.nodeid.partition("[")[0]
        if (file in LONG and test in seen) or f"{file}::{test[1].rpartition('::')[2]}" in LONG:
            item.add_marker("evidence")
        seen.add(test)


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command line, which has to end with a code and without a traceback; gives what it says on stderr."""

    def run(*arguments: str, code: int = 1) -> str:
        from bayeslmm.cli import main

        monkeypatch.setattr(sys, "argv", ["bayeslmm", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        return re.sub(r"\x1b\[[0-9;]*m", "", shown.err)

    return run


@pytest.fixture(scope="session")
def rows_by_formula() -> pd.DataFrame:
    """90 rows that R makes to the last digit: 3 in each of 6 groups `g`, five times; not to be changed in place."""
    i = np.arange(1, 91)
    rep, g, fh = (i - 1) % 3 + 1, (i - 1) // 3 % 6 + 1, (i - 1) // 18
    second = rep % 2 == 1
    x = np.round(np.sin(i * 1.7), 3)
    y = 10 + (fh + 1) * 0.7 + (fh > 1) * 1.3 + second * 0.4 * (fh + 1) + 0.5 * x
    y = y + np.sin(g * 2.1) * 1.5 + np.cos(i * 2.9) * 0.8 + np.sin(i * 7.3) * 0.5
    return pd.DataFrame({"y": np.round(y, 3), "x": x, "g": g.astype(str), "k": np.where(second, "k2", "k1")})
