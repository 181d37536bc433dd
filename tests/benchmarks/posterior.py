"""Time from data frame to a posterior with 1,000 effective draws: bayeslmm, NumPyro, bambi, PyMC, rstanarm, one thread.

Run with ``make bench-posterior``; PEERS_PYTHON (or ``--peers-python``) names the interpreter in which bambi, PyMC,
nutpie and NumPyro are installed, Rscript is looked up on the PATH. Every (case, package) is measured in a process of
its own with a time limit and a memory limit and stored in results/posterior_peers.csv as soon as it is known, so that
``--only`` and ``--cases`` renew parts of the table. The experiments of Lai, Domke & Sheldon (2024) are not shipped:
``--experiments`` names the folder that has their files.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from peers import RESULTS, Settings, run, status_of, write_data
from posterior_cases import ALL, EXPERIMENTS, PosteriorCase

PACKAGES = ("bayeslmm", "numpyro marginal", "pymc nutpie", "bambi nutpie", "bambi pymc", "bambi numpyro", "rstanarm")
ENOUGH = 1_000
TIMES = ["seconds", "wall", "runs", "compile_cold", "compile_warm", "sampling"]
NUMBERS = [*TIMES, "chains", "draws", "tune", "divergences", "mb", "peak_mb", "kish", "min_ess", "max_rhat"]
TEXTS = ["version", "status", "worst", "method", "certificate", "means", "note"]
COLUMNS = ["case", "package", "version", "status", *NUMBERS, "worst", "method", "certificate", "means", "note"]
FILE = RESULTS / "posterior_peers.csv"


def diagnose(labels: list[str], draws: np.ndarray) -> dict[str, object]:
    """Smallest bulk or tail ESS, largest R-hat and posterior means of draws (chains, draws, parameters)."""
    import arviz_base
    import arviz_stats

    if draws.shape[2] != len(labels):
        raise ValueError(f"{draws.shape[2]} parameters instead of {labels}")
    tree = arviz_base.from_dict({"posterior": {"x": draws}})
    ess = np.minimum(*(arviz_stats.ess(tree, method=method)["x"].to_numpy() for method in ("bulk", "tail")))
    rhat = arviz_stats.rhat(tree)["x"].to_numpy()
    means = draws.mean(axis=(0, 1))
    return {
        "min_ess": float(ess.min()),
        "worst": labels[int(np.argmin(ess))],
        "max_rhat": float(rhat.max()),
        "means": "; ".join(f"{label}={mean:.6g}" for label, mean in zip(labels, means, strict=True)),
    }


def stan_draws(case: PosteriorCase, directory: Path, chains: int) -> np.ndarray:
    """rstanarm's draws as (chains, draws, parameters): its covariances turned into sds and correlations."""
    names = (directory / "draws.names").read_text("utf-8").splitlines()
    flat = np.fromfile(directory / "draws.f64")
    values = dict(zip(names, flat.reshape(len(names), chains, -1), strict=True))
    sds, correlations = [], []
    for term in case.terms:
        prefix = f"Sigma[{term.group}:"
        block = {tuple(name[len(prefix) : -1].split(",")): x for name, x in values.items() if name.startswith(prefix)}
        effects = [first for first, second in block if first == second]
        sd = {effect: np.sqrt(block[effect, effect]) for effect in effects}
        for j, first in enumerate(effects):
            for second in effects[j + 1 :]:
                covariance = block.get((second, first), block.get((first, second)))
                correlations.append(covariance / (sd[first] * sd[second]))
        sds += list(sd.values())
    fixed = [x for name, x in values.items() if name != "sigma" and not name.startswith("Sigma[")]
    return np.stack([*sds, *correlations, values["sigma"], *fixed], axis=2)


def command_of(package: str, case: PosteriorCase, directory: Path, draws: int, settings: Settings) -> list[str]:
    """The worker's command line."""
    if package == "rstanarm":
        counts = map(str, (case.chains, draws, case.tune))
        return ["Rscript", "posterior.R", str(directory), case.formula, *counts]
    python = sys.executable if package == "bayeslmm" else settings.python
    return [python, "posterior_worker.py", package, case.name, str(directory), str(draws)]


def attempt(package: str, case: PosteriorCase, directory: Path, draws: int, settings: Settings) -> dict[str, object]:
    """One process: its numbers, or the reason why there are none."""
    code, out, err = run(command_of(package, case, directory, draws, settings), settings)
    line = next((text for text in out.splitlines() if text.startswith("RESULT\t")), None)
    if line is None:
        status, note = status_of(code, out, err, settings)
        return {"status": status, "note": note}
    fields = dict(text.split("=", 1) for text in line.split("\t")[1:])
    row = {key: float(value) if key in NUMBERS else value for key, value in fields.items()}
    if package == "rstanarm":
        values = stan_draws(case, directory, int(fields["chains"]))
    else:
        values = np.load(directory / "draws.npy")
    labels = [label for label in case.labels if "bambi" not in package or label not in case.cor_labels]
    row |= diagnose(labels, values) | {"status": "ok"}
    if row.get("kish", math.inf) < row["min_ess"]:  # resampled draws look independent to an autocorrelation
        row |= {"min_ess": row["kish"], "worst": "importance weights"}
    return row


def measure(package: str, case: PosteriorCase, directory: Path, settings: Settings) -> dict[str, object]:
    """One row of the results; a sampler that falls short of the ESS runs longer, up to twice, if the limit allows."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, float("nan")) | dict.fromkeys(TEXTS, "")
    row |= {"case": case.name, "package": package}
    if package == "rstanarm" and shutil.which("Rscript") is None:
        return row | {"status": "absent"}
    result = attempt(package, case, directory, case.draws, settings)
    if result["status"] != "ok" or package == "bayeslmm":
        return row | result
    cold = result["compile_cold"]  # the caches of compilers are empty in the first process only
    for _ in range(2):
        if result["min_ess"] >= ENOUGH:
            break
        factor = 1.25 * ENOUGH / result["min_ess"]
        if 2 * cold + factor * result["seconds"] > 0.8 * settings.seconds:
            result |= {"note": "1,000 is out of reach within the limit"}
            break
        longer = attempt(package, case, directory, math.ceil(factor * result["draws"]), settings)
        if longer["status"] != "ok":
            result |= {"note": f"longer run: {longer['status']} {longer['note']}".strip()}
            break
        result = longer
    return row | result | {"compile_cold": cold}


def stored_results() -> pd.DataFrame:
    """What earlier runs measured."""
    if not FILE.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(FILE, keep_default_na=False, na_values={name: ["", "nan"] for name in NUMBERS})


def store(row: dict[str, object]) -> None:
    """Replace the row of this case and package."""
    old = stored_results()
    old = old[(old["case"] != row["case"]) | (old["package"] != row["package"])]
    table = pd.DataFrame([*old.to_dict("records"), row], columns=COLUMNS)
    order = {name: i for i, name in enumerate([case.name for case in ALL] + list(PACKAGES))}
    table = table.sort_values(["case", "package"], key=lambda column: column.map(order))
    RESULTS.mkdir(exist_ok=True)
    table.to_csv(FILE, index=False, float_format="%.6g", lineterminator="\n")


def measured(case: PosteriorCase) -> set[str]:
    """Packages that have numbers for a case."""
    rows = stored_results()
    return set(rows["package"][(rows["case"] == case.name) & (rows["status"] == "ok")])


def names(known: tuple[str, ...]) -> object:
    """Reader of a list of names between commas."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(","))
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"{sorted(unknown)} unknown; known are {', '.join(known)}")
        return chosen

    return read


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    cases = tuple(case.name for case in ALL)
    default = os.environ.get("PEERS_PYTHON", sys.executable)
    parser.add_argument("--peers-python", default=default, help="interpreter that has the peers (or PEERS_PYTHON)")
    parser.add_argument("--only", type=names(PACKAGES), default=PACKAGES, help="packages to measure: a,b")
    parser.add_argument("--cases", type=names(cases), default=cases, help="cases to measure: a,b")
    parser.add_argument("--experiments", type=Path, help="folder of the experiments; without it they are left out")
    parser.add_argument("--limit", type=float, default=600, help="CPU seconds per process")
    parser.add_argument("--memory", type=float, default=12, help="GB of address space per process")
    parser.add_argument("--missing", action="store_true", help="only what has no numbers yet")
    parser.add_argument("--table", action="store_true", help="only write the table from the stored results")
    return parser.parse_args()


def main() -> None:
    """Measure, store and write the table."""
    import posterior_tables

    options = arguments()
    settings = Settings(options.peers_python, options.limit, options.memory)
    if options.experiments:
        os.environ[EXPERIMENTS] = str(options.experiments.resolve())
    for case in ALL:
        if options.table or case.name not in options.cases or not (case.shipped or options.experiments):
            continue
        done = measured(case) if options.missing else set()
        for package in (name for name in PACKAGES if name in options.only and name not in done):
            with tempfile.TemporaryDirectory() as name:
                write_data(case, Path(name))
                row = measure(package, case, Path(name), settings)
            store(row)
            shown = ("seconds", "sampling", "compile_warm", "min_ess", "max_rhat", "divergences", "mb", "worst", "note")
            print(case.name, package, row["status"], *(f"{key} {row[key]}" for key in shown), sep="  ", flush=True)
    FILE.with_suffix(".md").write_text(posterior_tables.report(stored_results()), encoding="utf-8")


if __name__ == "__main__":
    main()
