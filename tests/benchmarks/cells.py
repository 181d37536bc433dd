"""Wall time, CPU time and peak memory of models by one GROUP BY: rows on disk, `y ~ 1 + (1 | g)`.

    python tests/benchmarks/cells.py [--rows 1e8] [--groups 1e6] [--folder DIR] [--engine duckdb polars parquet]

Rows of (int32 g, float64 x, float64 y) are written to one parquet file in row groups of a million, once per size; each
engine runs in a process of its own. Results are added to `results/cells.csv`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FORMULA = "y ~ 1 + (1 | g)"
ENGINES = ("duckdb", "polars", "parquet")
_GROUP = 1_000_000
_HERE = Path(__file__).parent


def written(folder: Path, rows: int, groups: int) -> Path:
    """The parquet file, made if it is not there."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"rows_{rows}_{groups}.parquet"
    if path.exists():
        return path
    rng = np.random.default_rng(1)
    effects = rng.normal(size=groups)
    schema = pa.schema([("g", pa.int32()), ("x", pa.float64()), ("y", pa.float64())])
    part = path.with_suffix(".part")
    with pq.ParquetWriter(part, schema) as writer:
        for start in range(0, rows, _GROUP):
            n = min(_GROUP, rows - start)
            g = rng.integers(0, groups, n, dtype=np.int32)
            x = rng.normal(size=n)
            y = 10.0 + effects[g] + 2.0 * rng.normal(size=n)
            writer.write_table(pa.table([g, x, y], schema=schema))
    part.rename(path)
    return path


def measured(path: Path, engine: str) -> dict[str, Any]:
    """One model and its fit, timed in this process."""
    import resource

    import bayeslmm as bl

    source: Any = str(path)
    if engine == "duckdb":
        import duckdb

        source = duckdb.connect().read_parquet(str(path))
    if engine == "polars":
        import polars as pl

        source = pl.scan_parquet(path)
    found: dict[str, Any] = {"engine": engine, "file": path.name}
    began = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        found[f"{name} s"] = round(time.perf_counter() - began[0], 2)
        found[f"{name} cpu s"] = round(time.process_time() - began[1], 2)

    cells = bl.cell_sums(FORMULA, source)
    lap("sums")
    model = bl.Model.from_sums(FORMULA, cells)
    lap("model")
    fit = model.fit()
    lap("fit")
    found |= {"sigma": fit.sigma, "sd": float(fit.estimates().iloc[0]), "status": str(fit.status)}
    return found | {"peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e7)
    parser.add_argument("--groups", type=float, default=1e5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=["duckdb"])
    parser.add_argument("--worker", default="")
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(measured(Path(asked.worker), asked.engine[0])))
        return
    path = written(asked.folder, int(asked.rows), int(asked.groups))
    results = []
    for engine in asked.engine:
        command = [sys.executable, __file__, "--worker", str(path), "--engine", engine]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results.append(json.loads(out.splitlines()[-1]))
        print(results[-1], flush=True)
    import pandas as pd

    table = _HERE / "results" / "cells.csv"
    pd.DataFrame(results).to_csv(table, mode="a", header=not table.exists(), index=False)


if __name__ == "__main__":
    main()
