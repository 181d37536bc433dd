"""What the command line loads before it computes, and an interrupt while it loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import bayeslmm as bl

# Each costs more than reading the arguments does.
_HEAVY = ("numpy", "pandas", "scipy", "matplotlib", "numba", "pymc", "pytensor", "arviz", "xarray", "formulae")
_COMMANDS = ("fit", "compare", "anova", "means", "power", "boundary", "lint", "demo")

# Runs the command line once for every list of arguments, in one process.
_EACH = """
import json, sys
from bayeslmm.__main__ import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["bayeslmm", *arguments]
    try:
        main()
        codes.append(0)
    except SystemExit as stop:
        codes.append(stop.code)
    sys.stdout.write(chr(12))
sys.stderr.write(chr(12) + json.dumps([codes, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

# Finds no module: it only sees what is looked for, and presses Ctrl-C once.
_INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
where, sys.argv = sys.argv[1], ["bayeslmm", *sys.argv[2:]]
class Finder:
    pressed = False
    def find_spec(self, name, path=None, target=None):
        if name == where and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from bayeslmm.__main__ import main
main()
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_help_and_mistyped_commands_load_no_library_of_the_work() -> None:
    helps = [[command, "--help"] for command in _COMMANDS]
    found = run(_EACH, json.dumps([["--help"], ["--version"], ["fitt"], ["fit"], *helps]))
    codes, loaded = json.loads(found.stderr.rpartition("\f")[2])
    assert codes == [0, 0, 2, 2, *(0 for _ in helps)]
    assert "typer" in loaded
    assert not set(loaded) & set(_HEAVY)
    texts = found.stdout.split("\f")
    assert texts[1] == f"bayeslmm {bl.__version__}\n"
    for command, text in zip(_COMMANDS, texts[4:], strict=False):
        assert command in texts[0] and f"Example: bayeslmm {command}" in text


@pytest.mark.parametrize("module", ["typer", "pandas", "bayeslmm.console"])
def test_an_interrupt_while_it_loads_is_one_line(module: str) -> None:
    found = run(_INTERRUPTED, module, "fit", "Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff")
    assert found.returncode == 130
    assert (found.stdout, found.stderr) == ("", "Interrupted: nothing more was computed or written.\n")
