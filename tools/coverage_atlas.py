"""Compute the coverage atlas, write it where it ships, draw the figures of its page. Continues where it was killed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

import bayeslmm as bl
from bayeslmm.calibration.atlas import CELL_COLUMNS
from studies.coverage import coverage_study

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "bayeslmm" / "datasets" / "data" / "coverage_atlas.csv"
SOURCES = TABLE.parent / "sources.json"
STATIC = ROOT / "docs" / "_static"
RESULTS = ROOT / "studies" / "coverage" / "results"
WORST = [*CELL_COLUMNS, "parameter", "method", "coverage", "below", "above"]
SHOWN = {
    "sd[Intercept]": ("reml_profile", "ml_profile", "hdi"),
    "sd[x]": ("reml_profile", "hdi"),
    "Intercept": ("z", "satterthwaite", "kenward_roger", "posterior"),
}
FIGURES = {
    "coverage_sd.png": ("sd[Intercept]", "balanced"),
    "coverage_mean.png": ("Intercept", "balanced"),
    "coverage_unbalanced.png": ("sd[Intercept]", "unbalanced"),
    "coverage_slopes.png": ("sd[x]", "x | g"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=-1, help="worker processes; -1 for one per core")
    parser.add_argument("--store", default=str(ROOT / ".coverage-atlas"), help="folder of finished chunks")
    arguments = parser.parse_args()
    study = coverage_study(n_jobs=arguments.jobs, store=arguments.store)
    print(study)
    if not (study.table["replicates"] == study.replicates).all():
        raise SystemExit("Interrupted: nothing was written. Start again to continue.")
    study.to_csv(TABLE)
    sources = json.loads(SOURCES.read_text(encoding="utf-8"))
    sources["coverage_atlas"]["rows"] = len(study.table)
    SOURCES.write_text(json.dumps(sources, indent=1), encoding="utf-8")
    show()


def show() -> None:
    """Figures and short tables of the shipped one."""
    atlas = bl.coverage_atlas()
    verdicts = atlas.criteria
    verdicts.to_csv(RESULTS / "coverage_criteria.csv", index=False, float_format="%.3f", lineterminator="\n")
    summary = atlas.summary.reset_index()
    summary.to_csv(RESULTS / "coverage_summary.csv", index=False, float_format="%.3f", lineterminator="\n")
    worst = [atlas.worst(5, parameter, method)[WORST] for parameter, methods in SHOWN.items() for method in methods]
    pd.concat(worst).to_csv(RESULTS / "coverage_worst.csv", index=False, float_format="%.4g", lineterminator="\n")
    for name, (parameter, design) in FIGURES.items():
        figure = atlas.plot(parameter, design)[0].figure
        figure.savefig(STATIC / name, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
