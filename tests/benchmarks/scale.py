"""What rows that are larger than memory take: ``python tests/benchmarks/scale.py FOLDER --rows 100_000_000``.

The data (a response, a covariate, groups as whole numbers, in no order) are written to the folder once, in parquet
files of ten million rows. Model, fit and posterior run in a process of their own; CPU and wall seconds of each stage
and the peak of resident memory so far are printed, and appended to ``results/scale.csv`` with ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "scale.csv"
_FILE = 10_000_000
_FORMULAS = {"slopes": "y ~ x + (x | g)", "intercepts": "y ~ x + (1 | g)"}


def write(folder: Path, rows: int, groups: int) -> Path:
    """Parquet files of the data, unless they are there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chosen = folder / f"rows_{rows}_groups_{groups}"
    chosen.mkdir(parents=True, exist_ok=True)
    effects = np.random.default_rng(1).normal(size=(groups, 2)) @ np.array([[0.8, 0.1], [0.0, 0.3]])
    for number, start in enumerate(range(0, rows, _FILE)):
        path = chosen / f"part_{number:03d}.parquet"
        if path.exists():
            continue
        rng = np.random.default_rng([7, number])
        n = min(_FILE, rows - start)
        g, x = rng.integers(0, groups, n), rng.normal(2.0, 1.0, n)
        y = 1.0 + 0.5 * x + effects[g, 0] + effects[g, 1] * x + rng.normal(size=n)
        part = path.with_suffix(".part")
        pq.write_table(pa.table({"y": y, "x": x, "g": g.astype(np.int32)}), part, row_group_size=1 << 20)
        part.rename(path)
    return chosen


def measured(data: str, formula: str, draws: int) -> list[dict[str, float | str]]:
    """The stages of one process."""
    import bayeslmm as bl

    found: list[dict[str, float | str]] = []
    begun = time.time(), time.process_time()

    def stage(name: str) -> None:
        nonlocal begun
        now = time.time(), time.process_time()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        found.append({"stage": name, "wall": now[0] - begun[0], "cpu": now[1] - begun[1], "peak GB": peak})
        print(json.dumps(found[-1]), flush=True)
        begun = time.time(), time.process_time()

    stage("import")
    model = bl.Model(formula, data)
    stage("sums")
    fit = model.fit()
    stage("fit")
    print(fit.summary(), flush=True)
    stage("summary")
    if draws:
        posterior = model.sample(draws=draws, random_seed=1)
        stage("posterior")
        print(posterior, flush=True)
        stage("posterior printed")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=lambda text: int(text.replace("_", "")), default=1_000_000)
    parser.add_argument("--groups", type=lambda text: int(text.replace("_", "")), default=None)
    parser.add_argument("--model", choices=list(_FORMULAS), default="slopes")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--keep", action="store_true", help="append the figures to results/scale.csv")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    groups = asked.groups or max(asked.rows // 100, 10)
    data = write(asked.folder, asked.rows, groups)
    if not asked.child:
        # The peak of this process is that of the data it wrote.
        raise SystemExit(subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child"], check=False).returncode)
    found = measured(str(data), _FORMULAS[asked.model], asked.draws)
    if asked.keep:
        new = not RESULTS.exists()
        with RESULTS.open("a") as file:
            if new:
                file.write("rows,groups,model,draws,threads,stage,wall,cpu,peak_gb\n")
            for one in found:
                threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
                head = f"{asked.rows},{groups},{asked.model},{asked.draws},{threads}"
                file.write(f"{head},{one['stage']},{one['wall']:.2f},{one['cpu']:.2f},{one['peak GB']:.2f}\n")


if __name__ == "__main__":
    main()
