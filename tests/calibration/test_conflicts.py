"""Random conflicts between priors and data: nothing is certified and wrong. A few here, 200 by ``make calibrate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from .conflicts import Outcome, draw_conflict, outcome

RESULTS = Path(__file__).parent / "results" / "conflicts.csv"
# Of each kind; those with three and four dimensions cost their references minutes.
COUNTS = {"one-way": 120, "crossed": 40, "slopes": 40, "correlated": 10}
# Monte Carlo standard errors: 210 posteriors with two to four columns, a mean and a sd of each.
LIMIT = 6.0


def outcomes(kind: str, seeds: range) -> list[Outcome]:
    return [outcome(draw_conflict(np.random.default_rng([seed, 7]), kind), seed) for seed in seeds]


def wrong(found: Outcome) -> bool:
    return found.status == "certified" and (found.evidence_error > 1.0 or found.moment_error > LIMIT)


@pytest.mark.parametrize(("kind", "seeds"), [("one-way", range(12)), ("crossed", range(1, 3))])
def test_a_few(kind: str, seeds: range) -> None:
    found = outcomes(kind, seeds)
    assert not any(wrong(o) for o in found), found
    assert sum(o.status == "certified" for o in found) >= len(found) - 1


@pytest.mark.calibration
@pytest.mark.parametrize("kind", COUNTS)
def test_all(kind: str) -> None:
    found = outcomes(kind, range(COUNTS[kind]))
    certified = [o for o in found if o.status == "certified"]
    row = {
        "kind": kind,
        "conflicts": len(found),
        **{status: sum(o.status == status for o in found) for status in ("certified", "handed on", "refused")},
        "without reference": sum(o.status == "no reference" for o in found),
        "worst evidence error / tolerable": max((o.evidence_error for o in certified), default=0.0),
        "worst moment error / standard error": max((o.moment_error for o in certified), default=0.0),
        "certified and wrong": sum(wrong(o) for o in found),
    }
    table = pd.DataFrame([row])
    if RESULTS.exists():
        old = pd.read_csv(RESULTS)
        table = pd.concat([old[old["kind"] != kind], table])
    table.sort_values("kind").to_csv(RESULTS, index=False, float_format="%.3g", lineterminator="\n")
    assert row["certified and wrong"] == 0, [o for o in found if wrong(o)]
