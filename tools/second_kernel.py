"""Runs pytest under another OpenBLAS kernel than the processor's own, so that no tolerance fits one processor alone.

    python tools/second_kernel.py -q tests/inference

Every kernel sums in its own order. The first of a short list that this processor can run and that is not in use anyway
is chosen by ``OPENBLAS_CORETYPE``. Where there is none (another library, or a kernel that the environment prescribes)
nothing is run; `make test-rounding` disturbs any library's digits.
"""

from __future__ import annotations

import os
import subprocess
import sys

# Haswell (AVX2) for processors with AVX-512, Nehalem (SSE) for those without; the others for ARM.
CANDIDATES = ("Haswell", "Nehalem", "NEOVERSEN1", "ARMV8")
# Products and factors too: a kernel with instructions that the processor lacks ends the process, and some fail for
# larger matrices only.
PROBE = """
import numpy, scipy.linalg, threadpoolctl
a = numpy.ones((50, 50))
scipy.linalg.lu_factor(a @ a + numpy.eye(50))
for n, p in ((300, 120), (900, 500), (2500, 700)):
    z = numpy.cos(numpy.arange(n * p)).reshape(n, p)
    numpy.linalg.qr(z)
    scipy.linalg.qr(z, mode="economic")
    numpy.linalg.svd(z[:300, :100])
    numpy.linalg.cholesky(z.T @ z + numpy.eye(p))
found = {p.get("architecture", "") for p in threadpoolctl.threadpool_info() if p["internal_api"] == "openblas"}
print(*sorted(found))
"""


def kernels(wanted: str = "") -> list[str]:
    """Kernels that NumPy and SciPy use when one is asked for; none where the process does not survive it."""
    environment = os.environ | ({"OPENBLAS_CORETYPE": wanted} if wanted else {})
    done = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


def second_kernel() -> str | None:
    """A kernel that is not the processor's own, or None."""
    if os.environ.get("OPENBLAS_CORETYPE"):
        return None
    own = {name.lower() for name in kernels()}
    others = (name for name in CANDIDATES if name.lower() not in own)
    return next((name for name in others if own and [k.lower() for k in kernels(name)] == [name.lower()]), None)


def main() -> int:
    kernel = second_kernel()
    if kernel is None:
        reason = (
            "OPENBLAS_CORETYPE is set" if os.environ.get("OPENBLAS_CORETYPE") else "no other OpenBLAS kernel runs here"
        )
        print(f"The numerical tests are not run a second time: {reason}. See make test-rounding.")
        return 0
    print(f"Running with OPENBLAS_CORETYPE={kernel}", flush=True)
    return subprocess.call(
        [sys.executable, "-m", "pytest", *sys.argv[1:]], env=os.environ | {"OPENBLAS_CORETYPE": kernel}
    )


if __name__ == "__main__":
    sys.exit(main())
