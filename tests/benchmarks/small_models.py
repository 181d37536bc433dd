"""Where the time of the smallest models goes: ``make bench-small``.

Microseconds of one thread by stage, medians of 500 whole calls from data frame to REML fit: every stage less those
within it. Printed and written to ``results/small_models.md``.
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bayeslmm as bl

RESULTS = Path(__file__).parent / "results" / "small_models.md"
MODELS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "Dyestuff": "Yield ~ 1 + (1 | Batch)",
    "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "Pastes": "strength ~ 1 + (1 | batch/cask)",
    "Machines": "score ~ Machine + (Machine | Worker)",
}
# Where each stage is called from.
STAGES = {
    "pandas: the table as it is now, kept": [("specification", "kept_table")],
    "formula, columns, checks: the design": [("specification", "build_design")],
    "sums": [("specification", "cross_products")],
    "start in closed form": [("reml.optimum", "choose_start")],
    "evaluation, result": [("reml.optimum", "confirm_only"), ("reml.optimum", "_finish")],
    "the same from the rows, dense: the check": [("reml.confirm", "recheck_minimum")],
}
CALLS = 500


def watch(taken: dict[str, float], running: list[float]) -> None:
    """Have every stage add to its time."""

    def watched(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            running.append(0.0)
            start = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                seconds = time.perf_counter() - start
                taken[stage] += seconds - running.pop()
                if running:
                    running[-1] += seconds

        return run

    for stage, places in STAGES.items():
        for place, name in places:
            module = importlib.import_module(f"bayeslmm.{place}")
            setattr(module, name, watched(stage, getattr(module, name)))


def main() -> None:
    taken, running = dict.fromkeys(STAGES, 0.0), list[float]()
    watch(taken, running)
    found: dict[str, dict[str, float]] = {}
    for name, formula in MODELS.items():
        data, calls = bl.load_dataset(name), list[dict[str, float]]()
        for _ in range(CALLS + 50):
            taken.update(dict.fromkeys(STAGES, 0.0))
            start = time.perf_counter()
            bl.Model(formula, data).fit()
            whole = time.perf_counter() - start
            calls.append(taken | {"rest": whole - sum(taken.values()), "whole call": whole})
        found[name] = {stage: 1e6 * statistics.median(call[stage] for call in calls[50:]) for stage in calls[0]}
    lines = ["# Where the time of small models goes", "", "Microseconds, one thread, medians of 500 calls.", ""]
    lines += ["| | " + " | ".join(MODELS) + " |", "| --- |" + " --- |" * len(MODELS)]
    for stage in found["sleepstudy"]:
        lines.append(f"| {stage} | " + " | ".join(f"{found[name][stage]:.0f}" for name in MODELS) + " |")
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
