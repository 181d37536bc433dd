"""GPBoost's Krylov methods on the data of `crossed_factors.py`; run with a Python that has gpboost alone.

``python tests/benchmarks/crossed_peers.py FOLDER CASE [METHOD]``, METHOD ``iterative`` or ``cholesky``. Prints
estimates, CPU seconds of model and fit, and the peak of memory. The criterion is maximum likelihood, the package's
default.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import gpboost as gpb
import numpy as np

if __name__ == "__main__":
    folder, case = Path(sys.argv[1]), sys.argv[2]
    method = sys.argv[3] if len(sys.argv) > 3 else "iterative"
    with np.load(folder / f"ratings {case}.npz") as stored:
        groups = np.column_stack([stored["user"], stored["film"]]).astype(float)
        y = stored["rating"]
    cpu, wall = time.process_time(), time.time()
    model = gpb.GPModel(
        group_data=groups, likelihood="gaussian", matrix_inversion_method=method, num_parallel_threads=1
    )
    model.fit(y=y, X=np.ones((y.size, 1)))
    print(model.summary())
    print(f"{method}: sds {np.sqrt(np.asarray(model.get_cov_pars()).ravel())}")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"CPU {time.process_time() - cpu:.1f} s, by the clock {time.time() - wall:.1f} s, peak {used:.2f} GB")
