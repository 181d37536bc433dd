"""bayeslmm, lme4 and Python peers on the same data: whole calls from data frame to result, one thread, CPU seconds.

Run with ``make bench-peers``; PEERS_PYTHON (or ``--peers-python``) names the interpreter in which the peers are
installed. Every (case, package) is measured in a process of its own with a time limit and a memory limit and stored in
results/peers.csv as soon as it is known, so that ``--only`` and ``--cases`` renew parts of the table.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cases import ALL, Case, responses

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PEERS = ("glmm", "polars-ds", "mixedlm", "lme_python", "interlace-lme", "mixedlm-rs", "statsmodels", "gpboost")
PACKAGES = ("bayeslmm", "lme4", *PEERS)
NUMBERS = ["seconds", "wall", "runs", "mb", "peak_mb", "sigma", "sd", "criterion"]
COLUMNS = ["case", "package", "version", "status", *NUMBERS, "note"]
ABSENT, NO_MODEL = 3, 4
# Wall seconds for each CPU second of the limit, on a machine that others use.
WAIT = 10
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
ENVIRONMENT = {**os.environ, **dict.fromkeys(THREADS, "1"), "POLARS_MAX_THREADS": "1"}
NO_MEMORY = r"MemoryError|cannot allocate|memory allocation|bad_alloc|AllocError|out of memory|Unable to allocate"
FRESH = {
    "bayeslmm": "import bayeslmm as m; m.Model({f!r}, d).fit()",
    "glmm": "import glmm as m; m.fit(d, {f!r})",
    "mixedlm": "import mixedlm as m; m.lmer({f!r}, d)",
    "lme_python": "import lme_python as m; m.lmer({f!r}, d)",
    "interlace-lme": "import interlace as m; m.fit('Reaction ~ Days', d, random=['(1 + Days | Subject)'])",
    "mixedlm-rs": "import mixedlm_rs as m; m.mixedlm('Reaction ~ Days', d, groups='Subject', re_formula='~Days').fit()",
    "statsmodels": (
        "import statsmodels.formula.api as m; m.mixedlm('Reaction ~ Days', d, groups='Subject', re_formula='~Days')"
        ".fit()"
    ),
}


@dataclass(frozen=True)
class Settings:
    """Interpreter of the peers and limits of one measurement: CPU seconds, and gigabytes of address space."""

    python: str
    seconds: float
    gigabytes: float


def write_data(case: Case, directory: Path) -> None:
    """Store the case's columns as the workers of both languages read them."""
    kinds, data = [], case.make()
    for name in data:
        column = data[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            kind, values = "factor", column.cat.codes.to_numpy().astype(np.int32) + np.int32(1)
            (directory / f"{name}.levels").write_text("\n".join(map(str, column.cat.categories)) + "\n", "utf-8")
        elif column.dtype.kind == "i":
            kind, values = "int", column.to_numpy().astype(np.int32)
        else:
            kind, values = "float", column.to_numpy(dtype=np.float64)
        values.tofile(directory / f"{name}.bin")
        kinds.append(f"{name}\t{kind}")
    (directory / "columns.tsv").write_text("\n".join(kinds) + "\n", encoding="utf-8")
    if case.name == "refits":
        responses().T.tofile(directory / "Y.f64")
    if case.name == "fresh process":
        data.to_csv(directory / "data.csv", index=False)


def run(command: list[str], settings: Settings) -> tuple[int | None, str, str]:
    """Exit code (None: over the time limit), output and errors of a process under the limits."""
    cap, seconds = int(settings.gigabytes * 2**30), math.ceil(settings.seconds)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (cap, cap))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))

    process = subprocess.Popen(
        command,
        env=ENVIRONMENT,
        cwd=HERE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=limited,
    )
    try:
        out, err = process.communicate(timeout=WAIT * settings.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return None, out, err
    return None if process.returncode == -signal.SIGXCPU else process.returncode, out, err


def status_of(code: int | None, out: str, err: str, settings: Settings) -> tuple[str, str]:
    """Status and note of a process that gave no result."""
    note = next((line.split("\t", 1)[1] for line in out.splitlines() if line.startswith("NOTE\t")), "")
    if code is None:
        return f"over {settings.seconds:.0f} s", ""
    if code == ABSENT:
        return "absent", ""
    if code == NO_MODEL:
        return "no such model", note
    if re.search(NO_MEMORY, err):
        return f"over {settings.gigabytes:g} GB", ""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return "failed", (lines[-1] if lines else f"exit code {code}").replace("\t", " ")[:200]


def command_of(package: str, case: Case, directory: Path, settings: Settings) -> list[str]:
    """The worker's command line."""
    if package == "lme4":
        return ["Rscript", "peers.R", case.name, str(directory), case.formula, lme4_group(case)]
    python = sys.executable if package == "bayeslmm" else settings.python
    return [python, "worker.py", package, case.name, str(directory)]


def lme4_group(case: Case) -> str:
    """Name under which lme4 reports the first group."""
    return {"dept_service": "dept:service"}.get(case.groups[0], case.groups[0])


def measure(package: str, case: Case, directory: Path, settings: Settings) -> dict[str, object]:
    """One row of the results."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, float("nan"))
    row.update(case=case.name, package=package, version="", status="", note="")
    if package == "lme4" and shutil.which("Rscript") is None:
        return row | {"status": "absent"}
    if case.name == "fresh process":
        return row | fresh(package, case, directory, settings)
    code, out, err = run(command_of(package, case, directory, settings), settings)
    line = next((text for text in out.splitlines() if text.startswith("RESULT\t")), None)
    if line is None:
        status, note = status_of(code, out, err, settings)
        return row | {"status": status, "note": note}
    fields = line.split("\t")[1:]
    notes = [text.split("\t", 1)[1] for text in out.splitlines() if text.startswith("NOTE\t")]
    numbers = dict(zip(NUMBERS, map(float, fields[: len(NUMBERS)]), strict=True))
    return row | numbers | {"status": "ok", "version": fields[-1], "note": "; ".join(notes)}


def fresh(package: str, case: Case, directory: Path, settings: Settings) -> dict[str, object]:
    """Median seconds of five new processes after a first one: start, imports, reading a CSV file, first fit."""
    path = str(directory / "data.csv")
    if package == "lme4":
        text = f"suppressMessages(library(lme4)); d <- read.csv('{path}'); invisible(lmer({case.formula}, d))"
        command = ["Rscript", "-e", text]
    elif package in FRESH:
        python = sys.executable if package == "bayeslmm" else settings.python
        text = f"import pandas; d = pandas.read_csv({path!r}); " + FRESH[package].format(f=case.formula)
        command = [python, "-W", "ignore", "-c", text]
    else:
        return {"status": "no such model", "note": "no correlated slopes"}
    times = []
    for _ in range(6):
        wall, cpu = time.perf_counter(), children_seconds()
        code, out, err = run(command, settings)
        times.append((children_seconds() - cpu, time.perf_counter() - wall))
        if code != 0:
            absent = re.search(r"ModuleNotFoundError|there is no package", err)
            status, note = ("absent", "") if absent else status_of(code, out, err, settings)
            return {"status": status, "note": note}
    cpu, wall = np.median(times[1:], axis=0)
    return {"status": "ok", "seconds": float(cpu), "wall": float(wall), "runs": 5}


def children_seconds() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def median(rows: list[dict[str, object]]) -> dict[str, object]:
    """The row of median CPU seconds (the lower of two); the one without a result, where there is one."""
    failed = [row for row in rows if row["status"] != "ok"]
    return failed[0] if failed else sorted(rows, key=lambda row: row["seconds"])[(len(rows) - 1) // 2]


def stored_results() -> pd.DataFrame:
    """What earlier runs measured."""
    path = RESULTS / "peers.csv"
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path, keep_default_na=False, na_values={name: ["", "nan"] for name in NUMBERS})


def store(row: dict[str, object]) -> None:
    """Replace the row of this case and package."""
    old = stored_results()
    old = old[(old["case"] != row["case"]) | (old["package"] != row["package"])]
    table = pd.DataFrame([*old.to_dict("records"), row], columns=COLUMNS)
    order = {name: i for i, name in enumerate([case.name for case in ALL] + list(PACKAGES))}
    table = table.sort_values(["case", "package"], key=lambda column: column.map(order))
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(RESULTS / "peers.csv", index=False, float_format="%.8g", lineterminator="\n")


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("PEERS_PYTHON", sys.executable)
    parser.add_argument("--peers-python", default=default, help="interpreter that has the peers (or PEERS_PYTHON)")
    parser.add_argument("--only", nargs="+", choices=PACKAGES, default=PACKAGES, help="packages to measure")
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in ALL], help="cases to measure")
    parser.add_argument("--repeats", type=int, default=1, help="processes per package and case; the median is kept")
    parser.add_argument("--limit", type=float, default=150, help="CPU seconds per package and case")
    parser.add_argument("--memory", type=float, default=8, help="GB of address space per process")
    parser.add_argument("--table", action="store_true", help="only write the table from the stored results")
    return parser.parse_args()


def main() -> None:
    """Measure, store and write the table."""
    import tables

    options = arguments()
    settings = Settings(options.peers_python, options.limit, options.memory)
    for case in ALL:
        if options.table or (options.cases and case.name not in options.cases):
            continue
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            write_data(case, directory)
            rows: dict[str, list[dict[str, object]]] = {package: [] for package in options.only}
            # Packages take turns, so that what else the machine does meets all of them.
            for package in list(options.only) * options.repeats:
                if any(row["status"] != "ok" for row in rows[package]):
                    continue
                rows[package].append(measure(package, case, directory, settings))
                store(median(rows[package]))
                print(*(f"{rows[package][-1][key]}" for key in COLUMNS), sep="  ", flush=True)
    (RESULTS / "peers.md").write_text(tables.report(stored_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
