"""Times of what is asked of a fit near a zero variance: ``make bench-boundary``.

Seconds of processor time, the best of three for what is short, on one core; printed and written to
``results/boundary.md``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

import bayeslmm as bl
from bayeslmm.bayes.evidence import BayesFactor
from bayeslmm.inference.profile import profile_ends_many
from bayeslmm.inference.profile_coordinates import ProfileTarget
from bayeslmm.inference.rlrt import DRAWS, profile, simulate
from bayeslmm.inference.spectral import spectrum
from bayeslmm.reml.many import optimise_many


def seconds(run: Callable[[], object], repeats: int = 3) -> float:
    """Least processor time of a few runs."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return float(best)


def unbalanced(levels: int, rows: int, weighted: bool = False) -> bl.Model:
    """Random group sizes; weights make every eigenvalue another one."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": rng.integers(0, levels, rows), "x": rng.normal(size=rows), "y": rng.normal(size=rows)})
    frame["w"] = rng.uniform(0.5, 2.0, rows) if weighted else 1.0
    return bl.Model("y ~ x + (1 | g)", frame, weights="w" if weighted else None)


def null_distributions() -> list[tuple[str, float]]:
    """Exact null distributions of the restricted likelihood ratio."""
    models = {
        "Dyestuff": bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")),
        "sleepstudy, intercepts": bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy")),
        "tablets_missing": bl.Model("y ~ method + (1 | tablet)", bl.load_dataset("tablets_missing")),
        "30 levels, 150 rows": unbalanced(30, 150),
        "300 levels, 1500 rows": unbalanced(300, 1500),
        "1500 levels, 6000 rows": unbalanced(1500, 6000),
        "200 levels, weights": unbalanced(200, 2000, weighted=True),
    }
    found = []
    for name, model in models.items():
        problem = profile(spectrum(model.design, 0, (0,)))
        label = f"{DRAWS:,} draws of RLRT, {name} ({problem.mu.size} distinct eigenvalues)"
        found.append((label, seconds(lambda problem=problem: simulate(problem, DRAWS, 1))))  # type: ignore[misc]
    return found


def tests() -> list[tuple[str, float]]:
    """Tests of zero variances, every method of the table."""
    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    dyestuff = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    return [
        ("test_zero, Dyestuff", seconds(lambda: dyestuff.test_zero("Batch"))),
        ("test_zero, 1,000 refits, Dyestuff", seconds(lambda: dyestuff.test_zero("Batch", method="bootstrap"))),
        ("test_zero, slope of sleepstudy (1,000 refits)", seconds(lambda: sleep.test_zero("sd_Subject[Days]"))),
        ("ranova, sleepstudy (3 x 1,000 refits)", seconds(lambda: bl.ranova(sleep))),
    ]


def crossed(rows: int, first: int, second: int, slopes: bool) -> bl.Model:
    """Two crossed factors, slopes of the first on request."""
    rng = np.random.default_rng(0)
    g, h, x = rng.integers(0, first, rows), rng.integers(0, second, rows), rng.normal(size=rows)
    y = 1 + 0.5 * x + 0.6 * rng.normal(size=first)[g] + 0.3 * rng.normal(size=second)[h] + rng.normal(size=rows)
    if slopes:
        y += 0.2 * rng.normal(size=first)[g] * x
    frame = pd.DataFrame({"y": y, "x": x, "g": g.astype(str), "h": h.astype(str)})
    return bl.Model(f"y ~ x + ({'1 + x' if slopes else '1'} | g) + (1 | h)", frame)


def intervals() -> list[tuple[str, float]]:
    """Intervals of all parameters."""
    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    large = crossed(100_000, 10_000, 500, slopes=True).fit()
    evaluations = crossed(73_421, 2_972, 1_128, slopes=False).fit()
    found = [
        ("profile intervals, sleepstudy (6 parameters)", seconds(sleep.confint)),
        ("Wald intervals, sleepstudy", seconds(lambda: sleep.confint(method="wald"))),
        ("pivot intervals, sleepstudy", seconds(lambda: sleep.confint(method="pivot"))),
        ("bootstrap, sleepstudy, 1,000 refits", seconds(lambda: sleep.bootstrap(1000, 1))),
        ("profile intervals, 10,000 x 500 slopes, 100,000 rows (7 parameters)", seconds(large.confint, 1)),
        ("profile intervals, crossed as InstEval, 73,421 rows (5 parameters)", seconds(evaluations.confint, 1)),
    ]
    Y = sleep.simulate(4000, 1).to_numpy()
    for reml in (True, False):
        optima = optimise_many(sleep.cp, Y, reml)
        for k, name in enumerate(("intercepts", "slopes")):
            target = ProfileTarget("sd", 0, (k,))
            label = f"profile intervals of the sd of {name}, 4,000 responses of sleepstudy, {'REML' if reml else 'ML'}"
            run = partial(profile_ends_many, sleep.cp, Y, optima, target, 0.95, reml)
            found.append((label, seconds(run, 1)))
    return found


def studies() -> list[tuple[str, float]]:
    """Cells of a coverage study, 4,000 replicates with every interval."""
    cells = [
        bl.Cell("balanced", 6, 5, 0.1),
        bl.Cell("balanced", 30, 20, 0.1),
        bl.Cell("unbalanced", 10, 20, 0.1),
        bl.Cell("x || g", 18, 10, 0.5, 0.5),
        bl.Cell("x | g", 30, 10, 0.5, 0.5, 0.9),
    ]
    return [
        (f"coverage cell {cell}, 4,000 replicates", seconds(lambda cell=cell: bl.coverage_study([cell]), 1))  # type: ignore[misc]
        for cell in cells
    ]


def reports() -> list[tuple[str, float]]:
    """Boundary reports, a posterior included, and comparisons in full."""
    zero = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    sleep = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    both = (sleep.fit(), sleep.sample(random_seed=1))
    return [
        ("boundary report, Dyestuff2", seconds(zero.fit().boundary)),
        ("boundary report, sleepstudy (regular: the verdict)", seconds(lambda: sleep.fit().boundary())),
        ("boundary report, sleepstudy, all of it", seconds(lambda: sleep.fit().boundary(detail="full"), 1)),
        ("boundary report, 65 schools, 1,081 rows, slopes (regular)", seconds(lambda: schools().fit().boundary())),
        ("Satterthwaite, 39 covariance parameters, 4,480 rows", seconds(satterthwaite_of_many, 1)),
        ("compare, sleepstudy: table", seconds(lambda: bl.compare(*both).table)),
        ("compare, sleepstudy: all tables (long, groups, fixed), 1,000 refits", seconds(lambda: everything(*both), 1)),
    ]


def asked_for() -> list[tuple[str, float]]:
    """What is asked for by name and takes seconds."""
    school = schools()
    fit, post = school.fit(), school.sample(1000, random_seed=1)
    ridge = saturated().fit(on_failure="ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.BayesLMMWarning)
        return [
            ("posterior.bayes_factor, slope of 65 schools, three scales", seconds(partial(school_factor, post), 1)),
            ("posterior.loo by groups, 65 schools, 1,000 draws", seconds(lambda: post.loo("group"), 1)),
            ("ranova, two crossed terms of two correlated effects", seconds(lambda: bl.ranova(two_terms().fit()), 1)),
            ("profile intervals, 65 schools, slopes", seconds(fit.confint)),
            ("profile intervals, cs() with as many effects as rows (not identified)", seconds(ridge.confint, 1)),
        ]


def school_factor(post: bl.Posterior) -> BayesFactor:
    """How the data speak for a slope of zero, under three scales of the prior."""
    return post.bayes_factor("sd_school[x]", scales=(0.5, 1.0, 2.0))


def two_terms() -> bl.Model:
    """Slopes of two crossed factors."""
    rng = np.random.default_rng(2)
    g, h, x = rng.integers(0, 30, 400), rng.integers(0, 20, 400), rng.normal(size=400)
    u, v = rng.normal(size=(30, 2)) * [0.6, 0.3], rng.normal(size=(20, 2)) * [0.5, 0.2]
    y = 0.1 + 0.55 * x + u[g, 0] + u[g, 1] * x + v[h, 0] + v[h, 1] * x + 0.75 * rng.normal(size=400)
    return bl.Model("y ~ x + (x | g) + (x | h)", pd.DataFrame({"y": y, "x": x, "g": g, "h": h}))


def saturated() -> bl.Model:
    """Effects that hold all of the residual variance, or none of it: a ridge."""
    rng = np.random.default_rng(3)
    f, g = np.tile(list("abc"), 8), np.repeat(np.arange(8), 3)
    y = rng.normal(size=8)[g] + rng.normal(size=24)
    return bl.Model("y ~ f + cs(0 + f | g)", pd.DataFrame({"y": y, "f": f, "g": g}), saturated="allow")


def schools() -> bl.Model:
    """Pupils in schools with slopes, all variances far from zero."""
    rng = np.random.default_rng(1)
    g, x = rng.integers(0, 65, 1081), rng.normal(size=1081)
    u = rng.normal(size=(65, 2)) @ np.array([[0.3, 0.08], [0.0, 0.12]])
    y = 0.1 + 0.55 * x + u[g, 0] + u[g, 1] * x + 0.75 * rng.normal(size=1081)
    return bl.Model("y ~ x + (x | school)", pd.DataFrame({"school": [f"s{k}" for k in g], "x": x, "y": y}))


def satterthwaite_of_many() -> pd.DataFrame:
    """A maximal model of 56 subjects and 80 items."""
    rng = np.random.default_rng(2)
    s, i = (index.ravel() for index in np.meshgrid(np.arange(56), np.arange(80), indexing="ij"))
    a, b, c = rng.choice([-0.5, 0.5], size=(3, s.size))
    X = np.column_stack([np.ones(s.size), a, b, c, a * b, a * c, b * c, a * b * c])
    y = (X * rng.normal(scale=0.5, size=(56, 8))[s]).sum(1) + (X[:, :2] * rng.normal(size=(80, 2))[i]).sum(1)
    frame = pd.DataFrame({"y": y + rng.normal(size=s.size), "a": a, "b": b, "c": c, "s": s, "i": i})
    return bl.Model("y ~ a * b * c + (a * b * c | s) + (a | i)", frame).fit().coefficients()


def everything(fit: bl.REMLResult, posterior: bl.Posterior) -> None:
    """Every table of a comparison."""
    both = bl.compare(fit, posterior)
    for name in ("table", "long", "groups", "fixed"):
        getattr(both, name)


def main() -> None:
    """Print and store all times."""
    rows = []
    for part in (null_distributions, tests, intervals, reports, asked_for, studies):
        for name, value in part():
            print(f"{value:8.3f} s  {name}", flush=True)
            rows.append(f"| {name} | {value:.3f} |")
    text = "# Near a zero variance: seconds of processor time on one core\n\n| what | s |\n|---|---|\n"
    path = Path(__file__).parent / "results" / "boundary.md"
    path.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
