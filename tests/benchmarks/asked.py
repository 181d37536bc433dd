"""Times of what is asked of large posteriors, and of small models with many variances: ``make bench-asked``.

CPU seconds on one thread, of whole calls from models that are fitted; the median of three but for leave-one-out.
Printed and written to ``results/asked.md``. ``--all`` adds leave-one-out by groups of InstEval, which takes a minute.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats import ess

import bayeslmm as bl

RESULTS = Path(__file__).parent / "results" / "asked.md"


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Median of processor seconds, and what the last run returned."""
    found, seconds = None, []
    for _ in range(repeats):
        start = time.process_time()
        found = run()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), found


def lecturers() -> list[tuple[str, str]]:
    """InstEval: the posterior, predictions of all rows, groups left out."""
    data = bl.load_dataset("InstEval")
    data["service"], data["y"] = (data["service"].astype(str) == "1").astype(int), data["y"].astype(float)
    model = bl.Model("y ~ 1 + service + (1 | s) + (1 | d) + (1 | dept)", data)
    model.fit()
    sampled, post = timed(lambda: model.sample(random_seed=1, log_likelihood=False, progressbar=False), 3)
    predicted, _ = timed(post.predict, 3)
    rows = [
        ("InstEval, 4,000 draws of the posterior", f"{sampled:.1f} s"),
        ("InstEval, `post.predict()` of 73,421 rows", f"{predicted:.1f} s"),
    ]
    if "--all" in sys.argv:
        for group in ("d", "s"):
            left, _ = timed(partial(post.loo, "group", group))
            rows.append((f'InstEval, `post.loo("group", "{group}")`', f"{left:.0f} s"))
    return rows


def machines() -> list[tuple[str, str]]:
    """Effective draws per second of a correlated block of three, whole call."""
    data = bl.load_dataset("Machines")

    def run() -> Any:
        model = bl.Model("score ~ Machine + (Machine | Worker)", data)
        return model.sample(random_seed=1, log_likelihood=False, progressbar=False)

    run()
    seconds, post = timed(run, 7)
    names = ["beta", "sigma", "sd_Worker", "corr_Worker"]
    tree = post.data["posterior"].to_dataset()[names]
    least = min(float(ess(tree, method=m)[n].min()) for m in ("bulk", "tail") for n in names)
    # Resampled draws look independent.
    least = min(least, post.diagnostics.points * post.diagnostics.efficiency)
    return [("Machines, effective draws per second", f"{least / seconds:,.0f}")]


def crossed(rows: int, subjects: int, items: int) -> pd.DataFrame:
    """Subjects crossed with items, slopes of both."""
    rng = np.random.default_rng(0)
    s, i, x = np.arange(rows) % subjects, np.arange(rows) // subjects % items, rng.choice([-0.5, 0.5], rows)
    y = 1 + 0.5 * x + 0.5 * rng.normal(size=subjects)[s] + (0.4 + 0.3 * x) * rng.normal(size=items)[i]
    return pd.DataFrame({"y": y + rng.normal(size=rows), "x": x, "s": s, "i": i, "h": s})


def small() -> list[tuple[str, str]]:
    """Comparison of a model that is not identified, tests and report of two correlated terms."""
    exchanged = bl.Model("y ~ x + (x | s) + (x | h)", crossed(12, 4, 3), saturated="allow")
    compared, _ = timed(lambda: str(bl.compare(exchanged.fit(on_failure="ignore"), exchanged.sample(random_seed=1))), 3)
    fit = bl.Model("y ~ x + (x | s) + (x | i)", crossed(800, 40, 20)).fit()
    tested, _ = timed(lambda: bl.ranova(fit), 3)
    reported, _ = timed(lambda: str(fit.boundary()))
    return [
        ("comparison of a model of 12 rows that is not identified, both fits and the text", f"{compared:.1f} s"),
        ("`bl.ranova`, two correlated terms, 800 rows", f"{tested:.1f} s"),
        ("`fit.boundary()` of the same, posterior included", f"{reported:.1f} s"),
    ]


def main() -> None:
    warnings.simplefilter("ignore")
    lines = ["# What is asked of posteriors and of models with many variances", "", "CPU seconds, one thread.", ""]
    lines += ["| what | |", "|---|---|"]
    for rows in (machines, small, lecturers):
        lines += [f"| {name} | {value} |" for name, value in rows()]
        print("\n".join(lines[6:]), flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
