"""Interrupts before there is a draw, in the middle of an import, and parents that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import bayeslmm as bl
from bayeslmm.bayes.interrupted import complete_draws
from bayeslmm.imports import load, uninterrupted
from bayeslmm.results import sampling

ROOT = Path(__file__).parents[2]


@pytest.fixture
def interrupts():
    """A test may run where a shell ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("chains", [0, 1, 4])
@pytest.mark.parametrize("tail", [(), (2,), (0,), (3, 2)])
def test_no_draws_are_an_interrupt(chains: int, tail: tuple[int, ...]) -> None:
    empty = {"sigma": np.empty((chains, 0, *tail)), "beta": np.empty((chains, 0, 2))}
    with pytest.raises(KeyboardInterrupt, match="no draws"):
        complete_draws(empty, {}, 100, 4)


def test_draws_of_some_chains_are_kept() -> None:
    draws = np.arange(24.0).reshape(2, 6, 2)
    draws[1, 4:] = np.nan
    with pytest.warns(bl.BayesLMMWarning, match="8 of 12 draws"):
        kept, _ = complete_draws({"b": draws}, {}, 6, 2)
    np.testing.assert_array_equal(kept["b"], draws[:, :4])


def test_an_interrupt_waits_for_an_import(interrupts: None) -> None:
    done = list[str]()

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            done.append("whole")
        done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ZeroDivisionError), uninterrupted():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_not_installed_is_not_imported() -> None:
    load("no_such_library_at_all", "json")


@pytest.mark.slow
def test_without_docstrings_fits_work_and_sampling_says_why_not() -> None:
    code = (
        "import bayeslmm as bl; m = bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff'))\n"
        "print(m.fit().confint().shape)\n"
        "try: m.sample(100, random_seed=1)\n"
        "except bl.FitError as error: print('-OO' in str(error))"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "(3, 2)\nTrue\n"


WORKERS = """
import bayeslmm as bl
if __name__ == "__main__":
    {call}
"""
CALLS = {
    "coverage": "bl.coverage_study([bl.Cell('balanced', 5, 5, 0.1)], 10**6, n_jobs=2, random_seed=1)",
    "calibrate": "bl.calibrate(bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff')), n=10**4, n_jobs=2)",
}


def children(parent: int) -> list[int]:
    out = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            out.append(int(path.parent.name))
    return out


def waited(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def busy(process: int) -> bool:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    # Seconds of processor time: the worker has imported what it needs and computes.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 3.0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("call", list(CALLS))
def test_workers_end_with_a_parent_that_is_killed(call: str, tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORKERS.format(call=CALLS[call]))
    parent = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert waited(lambda: sum(map(busy, children(parent.pid))) >= 1, 90)
    workers = children(parent.pid)
    parent.kill()
    parent.wait()
    assert waited(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 30)


def test_draws_beyond_memory_are_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    monkeypatch.setattr(sampling, "memory", lambda: 8_000_000)
    monkeypatch.setattr(bl.Model, "_optimum", lambda *_: pytest.fail("fitted first"))
    # 2 + 36 + 2 + 1 numbers; without effects 5
    with pytest.raises(bl.FitError, match=r"draws=25000: with 41 numbers"):
        model.sample(25_000)
    monkeypatch.undo()
    monkeypatch.setattr(sampling, "memory", lambda: 8 * 5 * 2000)
    assert model.sample(2000, keep=(), log_likelihood=False, random_seed=1).method
    monkeypatch.setattr(sampling, "memory", lambda: None)
    assert model.sample(100, random_seed=1).method
