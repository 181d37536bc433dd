"""Large crossed factors, users x films: REML and the posterior of the variances, ``results/crossed_factors.csv``.

Run as ``python tests/benchmarks/crossed_factors.py FOLDER CASE STORE [posterior]``; FOLDER keeps the simulated data,
and each run adds its row. Ratings have the shape of MovieLens: activity of users and popularity of films follow power
laws, no user rates a film twice, every film has at least 10 ratings. Seconds are CPU and wall seconds of the call;
memory is the peak of the process, data frame included.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

RESULT = Path(__file__).parent / "results" / "crossed_factors.csv"
FORMULA = "rating ~ 1 + (1 | user) + (1 | film)"
# Ratings, users, films.
CASES = {
    "1e5": (100_000, 2_000, 1_200),
    "1e6": (1_000_000, 6_000, 3_700),
    "2.5e7 x 24,000": (25_000_000, 162_000, 24_000),
    "2.5e7 x 54,000": (25_000_000, 162_000, 54_000),
}
LEAST = 10


def simulate(n: int, users: int, films: int, seed: int = 1) -> pd.DataFrame:
    """Ratings (about n of them) with variances close to those of MovieLens."""
    rng = np.random.default_rng(seed)
    activity = np.minimum(rng.pareto(1.2, users) + 0.5, 200.0)
    popularity = np.exp(np.minimum(rng.normal(0.0, 2.0, films), 6.0))
    film = np.searchsorted(np.cumsum(popularity) / popularity.sum(), rng.random(int(1.7 * n)))
    user = np.searchsorted(np.cumsum(activity) / activity.sum(), rng.random(film.size))
    pair = np.unique(film * np.int64(users) + user)
    pair = rng.permutation(pair)[:n]
    while True:
        have = np.bincount(pair // users, minlength=films)
        few = np.flatnonzero(have < LEAST)
        if not few.size:
            break
        more = np.repeat(few, LEAST) * np.int64(users) + rng.integers(0, users, few.size * LEAST)
        pair = np.concatenate([pair[have[pair // users] >= LEAST], np.unique(more)])
    pair = rng.permutation(pair)
    film, user = (pair // users).astype(np.int32), (pair % users).astype(np.int32)
    y = 3.2 + rng.normal(0.0, 0.43, users)[user] + rng.normal(0.0, 0.5, films)[film] + rng.normal(0.0, 0.86, film.size)
    return pd.DataFrame({"user": user, "film": film, "rating": y})


def kept(folder: Path, case: str) -> pd.DataFrame:
    """The data of a case, simulated once."""
    path = folder / f"ratings {case}.npz"
    if not path.exists():
        data = simulate(*CASES[case])
        np.savez(path, **{name: data[name].to_numpy() for name in data})
    with np.load(path) as stored:
        return pd.DataFrame({name: stored[name] for name in stored.files})


def peak() -> float:
    """GB of memory at most, so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e6, 2)


def measured(case: str, store: str, data: pd.DataFrame, posterior: bool) -> dict[str, object]:
    """One row of the table."""
    import bayeslmm as bl

    cpu, wall = time.process_time(), time.time()
    model = bl.Model(FORMULA, data, store=store)
    fit = model.fit()
    sds = fit.varcorr()["sdcor"].round(6).tolist()
    said = fit.optimum.estimated
    row: dict[str, object] = {
        "case": case,
        "rows": len(data),
        "users": data["user"].nunique(),
        "films": data["film"].nunique(),
        "store": store,
        "fit_cpu": round(time.process_time() - cpu, 1),
        "fit_wall": round(time.time() - wall, 1),
        "evaluations": fit.optimum.evaluations,
        "fit_gb": peak(),
        "sd_user": sds[0],
        "sd_film": sds[1],
        "sigma": round(fit.sigma, 8),
        "criterion": round(fit.criterion, 5),
        "criterion_error": "" if said is None else f"{said.criterion:.2g}",
        "share_of_se": "" if said is None else f"{said.share:.2g}",
        "exact_points": "" if said is None else said.exact_points,
    }
    print(row, flush=True)
    if posterior:
        cpu, wall = time.process_time(), time.time()
        post = model.sample(4000, random_seed=1, keep=(), progressbar=False)
        draws = post.data["posterior"]
        row |= {"post_cpu": round(time.process_time() - cpu, 1), "post_wall": round(time.time() - wall, 1)}
        row |= {"post_gb": peak(), "polynomial_error": f"{post.diagnostics.surrogate_error or 0.0:.1g}"}
        for name, variable in (("user", "sd_user"), ("film", "sd_film"), ("sigma", "sigma")):
            values = np.asarray(draws[variable]).ravel()
            row |= {f"mean_{name}": f"{values.mean():.6f}", f"sd_{name}_post": f"{values.std():.2g}"}
    return row


if __name__ == "__main__":
    folder, case, store = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    found = pd.DataFrame([measured(case, store, kept(folder, case), "posterior" in sys.argv[4:])])
    print(found.T.to_string())
    before = [pd.read_csv(RESULT)] if RESULT.exists() else []
    pd.concat([*before, found]).to_csv(RESULT, index=False)
