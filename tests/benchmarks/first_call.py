"""What the first call of a process costs beside the imports that it cannot do without: ``make bench-first-call``.

Processes of both kinds take turns; CPU seconds of each (user and system) as the kernel counts them, medians, one
thread, files of bytecode written beforehand. Printed and written to ``results/first_call.md``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import bayeslmm

REPEATS = 21
RESULTS = Path(__file__).parent / "results" / "first_call.md"
_DATA = Path(bayeslmm.__file__).parent / "datasets" / "data" / "sleepstudy.csv"
_FIT = f"""
import pandas
import bayeslmm as bl
bl.Model("Reaction ~ Days + (Days | Subject)", pandas.read_csv({str(_DATA)!r})).fit()
"""
# What is measured, what it is compared with, and the most that it may be of that.
PAIRS = {
    "a fit of sleepstudy, read from CSV": (["-c", _FIT], "import pandas, scipy.linalg, scipy.special", 1.3),
    "bayeslmm --help": (["-m", "bayeslmm", "--help"], "import typer, rich", 1.3),
}


def seconds(arguments: list[str]) -> float:
    """CPU seconds of a Python process, from its start to its end."""
    chosen = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**chosen, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(arguments)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def compared(arguments: list[str], imports: str) -> tuple[float, float]:
    """Medians of both, measured by turns; the first of each, which may compile, does not count."""
    both = [(seconds(arguments), seconds(["-c", imports])) for _ in range(1 + REPEATS)][1:]
    first, second = (statistics.median(own) for own in zip(*both, strict=True))
    return first, second


def main() -> None:
    lines = [
        "# The first call of a process",
        "",
        f"CPU seconds of a whole process, medians of {REPEATS} that took turns with those they are compared with.",
        "",
        "| process | s | compared with | s | ratio | at most |",
        "|---|---|---|---|---|---|",
    ]
    for name, (arguments, imports, most) in PAIRS.items():
        own, base = compared(arguments, imports)
        lines.append(f"| {name} | {own:.3f} | `{imports}` | {base:.3f} | {own / base:.2f} | {most} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
