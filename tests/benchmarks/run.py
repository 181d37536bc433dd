"""Times of whole calls, from data frame to result, on one thread; lme4 beside them where R has it.

Run with ``make bench``. Writes results/bench.md and results/bench.csv with the versions that were measured.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import platform
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import bayeslmm as bl

RESULTS = Path(__file__).parent / "results"
SMALL = {
    "sleepstudy": ("Reaction ~ Days + (Days | Subject)", "Reaction~Days+(Days|Subject)"),
    "Dyestuff": ("Yield ~ 1 + (1 | Batch)", "Yield~1+(1|Batch)"),
    "Penicillin": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "diameter~1+(1|plate)+(1|sample)"),
    "Pastes": ("strength ~ 1 + (1 | batch/cask)", "strength~1+(1|batch/cask)"),
}


def median_time(call: Callable[[], object], repeats: int) -> float:
    """Median seconds of warm calls."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def lme4_times() -> dict[str, float]:
    """Mean seconds of a warm lmer call; empty where R or lme4 is absent."""
    if shutil.which("Rscript") is None:
        return {}
    lines = [f"data({name}); t('{name}', function() lmer({formula}, {name}))" for name, (_, formula) in SMALL.items()]
    script = (
        "suppressMessages(library(lme4));"
        "t <- function(n, f) {f(); s <- Sys.time(); for (i in 1:40) f();"
        "cat(n, as.numeric(Sys.time() - s, units='secs') / 40, '\\n')};" + ";".join(lines)
    )
    out = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=False)
    pairs = [line.split() for line in out.stdout.splitlines() if len(line.split()) == 2]
    return {name: float(seconds) for name, seconds in pairs}


def fits() -> pd.DataFrame:
    """REML on the small data sets."""
    reference, rows = lme4_times(), []
    for name, (formula, _) in SMALL.items():
        data = bl.load_dataset(name)
        seconds = median_time(lambda f=formula, d=data: bl.Model(f, d).fit(), 60)
        fit = bl.Model(formula, data).fit()
        theirs = reference.get(name, float("nan"))
        rows.append((name, 1e3 * seconds, 1e3 * theirs, theirs / seconds, fit.evaluations, fit.criterion))
    columns = ["data", "bayeslmm ms", "lme4 ms", "lme4 / bayeslmm", "evaluations", "criterion"]
    return pd.DataFrame(rows, columns=columns)


def posteriors() -> pd.DataFrame:
    """4,000 draws with their certificate."""
    rows = []
    for name in ("Dyestuff", "Dyestuff2", "sleepstudy", "Penicillin", "Pastes"):
        formula = SMALL.get(name, SMALL["Dyestuff"])[0]
        data = bl.load_dataset(name)
        seconds = median_time(lambda f=formula, d=data: bl.Model(f, d).sample(random_seed=1), 7)
        post = bl.Model(formula, data).sample(random_seed=1)
        d = post.diagnostics
        rows.append((name, post.method, seconds, d.pareto_k, d.efficiency, d.largest_weight))
    return pd.DataFrame(rows, columns=["data", "method", "seconds", "Pareto k", "efficiency", "largest weight"])


def ladder() -> pd.DataFrame:
    """Random intercepts, groups of 20: whole fit and one evaluation by size."""
    from bayeslmm.likelihood import cross_products, evaluate
    from bayeslmm.likelihood import parameters as par

    rows = []
    rng = np.random.default_rng(0)
    for n in (1_000, 10_000, 100_000, 1_000_000):
        g = np.repeat(np.arange(n // 20), 20)
        data = pd.DataFrame({"x": rng.normal(size=n), "g": g})
        data["y"] = data["x"] + rng.normal(size=n // 20)[g] + rng.normal(size=n)
        model = bl.Model("y ~ x + (1 | g)", data)
        cp = cross_products(model.design)
        factors = par.internal_factors(cp, par.starts(cp)[:1])
        one = median_time(lambda c=cp, f=factors: evaluate(c, f), 50)
        tracemalloc.start()
        start = time.perf_counter()
        bl.Model("y ~ x + (1 | g)", data).fit()
        seconds = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        seconds = min(seconds, median_time(lambda d=data: bl.Model("y ~ x + (1 | g)", d).fit(), 1))
        rows.append((n, seconds, 1e6 * one, peak / 1e6))
    return pd.DataFrame(rows, columns=["n", "fit s", "evaluation us", "peak MB"])


def visits(patients: int, times: int, missing: float) -> pd.DataFrame:
    """A trial of two arms: correlated visits, some of them missing."""
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(0.6 + 0.4 * np.eye(times)) * np.linspace(1.0, 2.0, times)[:, None]
    data = pd.DataFrame({"id": np.repeat(np.arange(patients), times), "visit": np.tile(np.arange(times), patients)})
    data["arm"], data["base"] = data["id"] % 2, np.repeat(rng.normal(size=patients), times)
    data["y"] = data["base"] + 0.3 * data["arm"] * data["visit"] + (rng.normal(size=(patients, times)) @ root.T).ravel()
    return data[rng.random(len(data)) >= missing].astype({"visit": "category", "arm": "category"})


def serial(groups: int, times: int) -> pd.DataFrame:
    """Random intercepts with autoregressive residuals."""
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"g": np.repeat(np.arange(groups), times), "time": np.tile(np.arange(times), groups)})
    data["x"], e = rng.normal(size=len(data)), rng.normal(size=(groups, times))
    for k in range(1, times):
        e[:, k] += 0.6 * e[:, k - 1]
    data["y"] = data["x"] + rng.normal(size=groups)[data["g"]] + e.ravel()
    return data


def residuals() -> pd.DataFrame:
    """Residual structures: trials of the sizes of FEV (537 visits) and BCVA (8,605), long series."""
    trial, random = "y ~ base + arm * visit", "y ~ x + (1 | g)"
    cases = (
        ("us, 4 visits", trial, visits(200, 4, 0.33), "us(visit | id)", 20),
        ("us, 10 visits", trial, visits(1000, 10, 0.14), "us(visit | id)", 5),
        ("ar1 and intercepts, 1,000 x 100", random, serial(1000, 100), "ar1(time | g)", 3),
        ("ar1 and intercepts, 10,000 x 10", random, serial(10_000, 10), "ar1(time | g)", 3),
    )
    rows = []
    for name, formula, data, residual, repeats in cases:
        seconds = median_time(lambda f=formula, d=data, r=residual: bl.Model(f, d, residual=r).fit(), repeats)
        fit = bl.Model(formula, data, residual=residual).fit()
        rows.append((name, len(data), seconds, fit.evaluations, fit.criterion))
    return pd.DataFrame(rows, columns=["residuals", "n", "seconds", "evaluations", "criterion"])


def imports() -> pd.DataFrame:
    """Fresh processes."""
    codes = {
        "python -c pass": "pass",
        "import bayeslmm": "import bayeslmm",
        "first fit, import included": (
            "import bayeslmm as bl; bl.Model('Reaction ~ Days + (Days | Subject)', bl.load_dataset('sleepstudy')).fit()"
        ),
    }
    times = {
        name: median_time(lambda c=code: subprocess.run([sys.executable, "-c", c], check=True), 5)
        for name, code in codes.items()
    }
    return pd.DataFrame({"process": times.keys(), "seconds": times.values()})


def main() -> None:
    """Measure everything and write the tables."""
    RESULTS.mkdir(exist_ok=True)
    packages = ("numpy", "scipy", "pandas", "formulae", "arviz", "pymc")
    versions = ", ".join(f"{p} {version(p)}" for p in packages)
    parts = [f"# Benchmarks\n\nPython {platform.python_version()}, {versions}; one thread, warm, medians.\n"]
    for title, table in (
        ("REML, from data frame to result", fits()),
        ("Posterior, 4,000 draws, from data frame to DataTree", posteriors()),
        ("Random intercepts by size", ladder()),
        ("Residual structures, from data frame to result", residuals()),
        ("Fresh processes", imports()),
    ):
        text = table.to_string(index=False, float_format=lambda v: f"{v:.4g}")
        parts.append(f"## {title}\n\n```\n{text}\n```\n")
        print(title, text, sep="\n", flush=True)
        table.to_csv(RESULTS / f"{title.split(',')[0].lower().replace(' ', '_')}.csv", index=False)
    (RESULTS / "bench.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
