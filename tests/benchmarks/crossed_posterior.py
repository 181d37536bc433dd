"""Posteriors of correlated effects of subjects and items, written to ``results/crossed_posterior.csv``.

Run as ``python tests/benchmarks/crossed_posterior.py FOLDER [seeds]``. The folder has the tables of psycholinguistic
experiments that Lai, Domke & Sheldon (2024, AISTATS) compiled, which are not shipped. One thread is asked for by
``OMP_NUM_THREADS=1``; seconds are CPU seconds of the whole call from data frame to 4,000 draws, medians over the seeds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import bayeslmm as bl

RESULT = Path(__file__).parent / "results" / "crossed_posterior.csv"
DRAWS, SEEDS = 4000, 20
CASES = {
    "english": ("df_english", "NP1 ~ condition + (condition | subject) + (condition | item)"),
    "mandarin": ("df_gibsonwu", "rt ~ type + (type | subj) + (type | item)"),
    "mandarin 2": ("df_gibsonwu2", "rt ~ condition + (condition | subj) + (condition | item)"),
    "gg05": ("df_gg05_rc", "RT ~ condition + (condition | subj) + (condition | item)"),
    "dutch": ("df_dutch", "NP1 ~ condition + (condition | subject) + (condition | item)"),
    "eeg": ("df_eeg", "n400 ~ cloze + (cloze | subj) + (cloze | item)"),
    "dillonE1": ("df_dillonE1", "rt ~ int + (int | subj) + (int | item)"),
    "pupil": ("df_pupil_complete", "p_size ~ load + (load | subj)"),
}


def measured(name: str, formula: str, data: pd.DataFrame, seeds: int) -> dict[str, object]:
    """Seconds and certificates over some seeds, after a run that counts for nothing."""
    seconds, posts = [], []
    for seed in range(-1, seeds):
        start = time.process_time()
        posts.append(bl.Model(formula, data).sample(DRAWS, random_seed=abs(seed), progressbar=False))
        seconds.append(time.process_time() - start)
    found, cpu = [post.diagnostics for post in posts[1:]], np.array(seconds[1:])
    k = np.array([d.pareto_k for d in found])
    return {
        "case": name,
        "rows": posts[0].design.n,
        "methods": " ".join(sorted({d.method for d in found})),
        "cpu": round(float(np.median(cpu)), 2),
        "cpu_max": round(float(cpu.max()), 2),
        "points": int(np.median([d.points for d in found])),
        "efficiency_min": round(min(d.efficiency for d in found), 2),
        "kish_min": round(min(d.efficiency * d.points for d in found)),
        "ess_min": round(min(distinct_ess(post) for post in posts[1:])),
        "pareto_k_min": round(float(k.min()), 2),
        "pareto_k_max": round(float(k.max()), 2),
        "largest_weight": round(max(d.largest_weight for d in found), 1),
        "reliable": all(d.reliable for d in found),
    }


def distinct_ess(post: bl.Posterior) -> float:
    """Effective number of the draws of the variance parameters: what comes from one point counts once."""
    sigma = np.asarray(post.data["posterior"]["sigma"]).ravel()
    counts = np.unique(sigma, return_counts=True)[1]
    return float(sigma.size**2 / (counts**2).sum())


if __name__ == "__main__":
    folder, seeds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS
    rows = []
    for case, (file, formula) in CASES.items():
        rows.append(measured(case, formula, pd.read_csv(folder / f"{file}.csv"), seeds))
        print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(RESULT, index=False, lineterminator="\n")
