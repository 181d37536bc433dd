"""The tools that give linear algebra another processor's digits do so, and change no more than digits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EPS = float(np.finfo(float).eps)
# Numbers with and without the noise, in a process of its own.
COMPUTE = """
import json, sys
sys.path.insert(0, "tests")
if sys.argv[1] != "0":
    import rounding
    rounding.install(sys.argv[1])
import numpy as np
from bayeslmm.numerics import newton
import bayeslmm as bl
A = np.random.default_rng(1).normal(size=(6, 9))
A = A @ A.T
fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
print(json.dumps({
    "cholesky": np.linalg.cholesky(A).ravel().tolist(),
    "diagonal": np.linalg.cholesky(np.diag([2.0, 3.0])).ravel().tolist(),
    "criterion": [fit.criterion],
    "step": np.ravel(newton._direction(A[0], A, 1.0)[0]).tolist(),
}))
"""


def compute(noise: str) -> dict[str, np.ndarray]:
    done = subprocess.run(
        [sys.executable, "-c", COMPUTE, noise], cwd=ROOT, capture_output=True, text=True, check=True, env=environment()
    )
    return {name: np.array(values) for name, values in json.loads(done.stdout).items()}


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.mark.slow
def test_noise_is_of_the_size_of_rounding_and_repeats() -> None:
    plain, noisy, again = compute("0"), compute("4"), compute("4")
    for name in plain:
        np.testing.assert_array_equal(noisy[name], again[name])
    for name in ("cholesky", "step"):
        assert (noisy[name] != plain[name]).any()
    np.testing.assert_array_equal(noisy["diagonal"], plain["diagonal"])
    # a matrix of condition 1e3 or so
    for name in ("cholesky", "step"):
        np.testing.assert_allclose(noisy[name], plain[name], rtol=0, atol=1e5 * EPS * np.abs(plain[name]).max())
    np.testing.assert_allclose(noisy["criterion"], plain["criterion"], rtol=1e-11)


def kernel(**more: str) -> str:
    code = "import sys; sys.path.insert(0, 'tools'); import second_kernel as s; print(s.kernels(), s.second_kernel())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=environment() | more
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_the_second_kernel_is_another_one_and_never_overrides() -> None:
    own, chosen = kernel(OPENBLAS_CORETYPE="").rsplit(" ", 1)
    assert chosen == "None" or chosen.lower() not in own.lower()
    assert kernel(OPENBLAS_CORETYPE="Nehalem").endswith(" None")
