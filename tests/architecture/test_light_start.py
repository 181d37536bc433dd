"""What the first fit of a process loads."""

from __future__ import annotations

import subprocess
import sys

_FIT = "import sys, bayeslmm as bl; bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff')).fit(); "


# A table of another library than pandas, roots, sparse solutions, priors and draws ask for these.
_NOT_NEEDED = (
    *("scipy.stats", "scipy.optimize", "scipy.interpolate", "scipy.integrate", "scipy.spatial"),
    *("scipy.sparse.linalg", "scipy.sparse.csgraph", "formulae", "narwhals", "joblib", "xarray", "rich"),
    *("arviz_base", "arviz_stats", "matplotlib", "numba", "pymc"),
)


def test_a_fit_does_not_load_what_it_does_not_use() -> None:
    code = f"{_FIT}print(*[name for name in {_NOT_NEEDED} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
