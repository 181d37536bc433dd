"""Compute the coverage atlas, write it where it ships, draw the figures of its page. Continues where it was killed."""

from __future__ import annotations

import argparse
from pathlib import Path

import bayeslmm as bl

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "bayeslmm" / "datasets" / "data" / "coverage_atlas.csv"
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
    study = bl.coverage_study(n_jobs=arguments.jobs, store=arguments.store)
    print(study)
    study.to_csv(TABLE)
    draw()


def draw() -> None:
    """Figures of the shipped table."""
    atlas = bl.coverage_atlas()
    for name, (parameter, design) in FIGURES.items():
        figure = atlas.plot(parameter, design)[0].figure
        figure.savefig(ROOT / "docs" / "_static" / name, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
