"""Gives odd values to every public argument, in processes that are killed when a call takes too long.

python tests/arguments/fuzz.py [part of a name] [--seconds 10] [--workers 2] [--out FILE]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """How one call with one odd value ended."""

    call: str
    value: str
    kind: str
    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.call} = {self.value}: {self.kind} {self.text}"


class Worker:
    """A process that makes calls; `ask` kills it when one takes too long."""

    def __init__(self) -> None:
        environment = {**os.environ, "ARGUMENTS_FOLDER": tempfile.mkdtemp(prefix="arguments_"), "MPLBACKEND": "Agg"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if self.lines.get(timeout=300).strip() != "ready":
            raise RuntimeError("The worker did not start; run worker.py by hand.")

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def ask(self, call: int, value: int, seconds: float) -> tuple[str, str, float]:
        assert self.process.stdin
        self.process.stdin.write(f"{call} {value}\n")
        self.process.stdin.flush()
        try:
            line = self.lines.get(timeout=seconds)
        except queue.Empty:
            self.stop()
            return "hung", f"longer than {seconds:g} s", seconds
        if not line:
            self.stop()
            return "died", f"the process ended with {self.process.returncode}", 0.0
        return tuple(json.loads(line)[2:])  # type: ignore[return-value]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                pipe.close()


def run(
    pairs: Sequence[tuple[int, int]],
    names: Sequence[str],
    values: Sequence[str],
    seconds: float,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcomes of (call, value) pairs, one after the other."""
    out: list[Outcome] = []
    worker = Worker()
    for call, value in pairs:
        if not worker.alive:
            worker = Worker()
        kind, text, took = worker.ask(call, value, seconds)
        out.append(Outcome(names[call], values[value], kind, text, took))
        tell(out[-1])
    worker.stop()
    return out


def sample(pairs: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """So many of the pairs, the same ones every time."""
    chosen = np.random.default_rng(12).permutation(len(pairs))[:size]
    return [pairs[k] for k in sorted(chosen.tolist())]


def call_names() -> list[str]:
    """The calls in words, in the order of their numbers."""
    from worker import _module

    return [f"{c.name}({c.argument}=)#{c.variant}" for c in _module("calls").calls()]


def main() -> None:
    from odd_values import ODD

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sample", type=int, help="so many of the calls, by a fixed seed")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    names, values = call_names(), list(ODD)
    wanted = [i for i, name in enumerate(names) if not options.part or any(p in name for p in options.part)]
    pairs = [(i, j) for i in wanted for j in range(len(values))]
    if options.sample:
        pairs = sample(pairs, options.sample)
    shares = [pairs[k :: options.workers] for k in range(options.workers)]
    found: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        found.append(outcome)
        if outcome.kind not in ("result", "own"):
            print(outcome, flush=True)

    threads = [threading.Thread(target=run, args=(share, names, values, options.seconds, tell)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(names), "arguments,", len(found), "calls:", dict(collections.Counter(o.kind for o in found)))
    if options.out:
        options.out.write_text("\n".join(json.dumps(vars(o)) for o in found))
    if any(outcome.kind not in ("result", "own") for outcome in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
