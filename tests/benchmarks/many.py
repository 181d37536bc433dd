"""Times of `bl.fit_many`: thousands of responses fitted and tested, and their posteriors.

Run with ``python tests/benchmarks/many.py``; prints CPU seconds of one thread and writes results/many.csv.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import time
from pathlib import Path

import pandas as pd

import bayeslmm as bl

CASES = (
    ("sleepstudy", "Reaction", "~ Days + (Days | Subject)", 10_000, 0),
    ("sleepstudy", "Reaction", "~ Days + (Days | Subject)", 200, 2000),
    ("Dyestuff", "Yield", "~ 1 + (1 | Batch)", 10_000, 0),
    ("Dyestuff", "Yield", "~ 1 + (1 | Batch)", 200, 2000),
    ("Penicillin", "diameter", "~ 1 + (1 | plate) + (1 | sample)", 10_000, 0),
)


def main() -> None:
    rows = []
    for name, response, right, count, draws in CASES:
        data = bl.load_dataset(name)
        responses = bl.Model(f"{response} {right}", data).fit().simulate(count, random_seed=1)
        bl.fit_many(right, data, responses.iloc[:, :2], posterior=draws)
        start = time.process_time()
        fits = bl.fit_many(right, data, responses, posterior=draws, progressbar=False)
        seconds = time.process_time() - start
        tidy_start = time.process_time()
        fits.tidy()
        rows.append((name, right, count, draws, seconds, time.process_time() - tidy_start, len(fits.failed)))
    columns = ["data", "formula", "responses", "draws", "seconds", "tidy", "failed"]
    frame = pd.DataFrame(rows, columns=columns).round(2)
    print(frame.to_string(index=False))
    frame.to_csv(Path(__file__).parent / "results" / "many.csv", index=False)


if __name__ == "__main__":
    main()
