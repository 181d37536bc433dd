"""Times of posteriors of models whose residuals have parameters, written to ``results/residual_posterior.csv``.

Run as ``python tests/benchmarks/residual_posterior.py [path of a table of a trial]``: the second row is a trial with
ten visits, which is not shipped (columns ``BCVA_CHG``, ``BCVA_BL``, ``RACE``, ``ARMCD``, ``AVISIT``, ``USUBJID``).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pandas as pd

import bayeslmm as bl

RESULT = Path(__file__).parent / "results" / "residual_posterior.csv"
DRAWS = 4000


def timed(name: str, formula: str, data: pd.DataFrame, residual: str) -> dict[str, object]:
    """CPU and wall seconds of fit and 4,000 draws, the second of two runs."""
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        post = bl.Model(formula, data, residual=residual).sample(DRAWS, random_seed=1, progressbar=False)
        used = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "case": name,
        "formula": formula,
        "residual": residual,
        "parameters": len(post.design.residual.names) + 1,
        "method": post.method,
        "reliable": post.diagnostics.reliable,
        "efficiency": round(post.diagnostics.efficiency, 2),
        "pareto_k": round(post.diagnostics.pareto_k, 2),
        "cpu": round(used[0], 2),
        "wall": round(used[1], 2),
    }


if __name__ == "__main__":
    rows = [timed("Orthodont", "distance ~ age * Sex + (age | Subject)", bl.load_dataset("Orthodont"), "by(Sex)")]
    if len(sys.argv) > 1:
        formula = "BCVA_CHG ~ BCVA_BL + RACE + ARMCD * AVISIT"
        rows.append(timed("ten visits", formula, pd.read_csv(sys.argv[1]), "us(AVISIT | USUBJID)"))
    table = pd.DataFrame(rows)
    table.to_csv(RESULT, index=False, lineterminator="\n")
    print(table.to_string())
