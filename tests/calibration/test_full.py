"""The whole calibration, for ``make calibrate``: every model, and the samplers that are wrong on purpose.

Figures are stored in ``results/`` and shown in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.calibration import Calibration

from .models import MODELS, one_way, wrong_jacobian, wrong_prior

pytestmark = pytest.mark.calibration

RESULTS = Path(__file__).parent / "results"
REPLICATES = 1000
SEED = 20251


def _store(calibration: Calibration, model: str, name: str) -> None:
    """Replace the rows of this model in the table of results."""
    path = RESULTS / name
    table = calibration.table.reset_index()
    table.insert(0, "model", model)
    table.insert(1, "method", calibration.method)
    table.insert(2, "replicates", calibration.n)
    table["warnings"] = len(calibration.warnings)
    table["seconds"] = round(calibration.seconds, 1)
    if path.exists():
        old = pd.read_csv(path)
        table = pd.concat([old[old["model"] != model], table])
    table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")


@pytest.mark.parametrize("name", MODELS)
def test_collapsed_posterior(name: str) -> None:
    calibration = bl.calibrate(MODELS[name](), REPLICATES, random_seed=SEED)
    _store(calibration, name, "collapsed.csv")
    assert calibration.n == REPLICATES
    assert calibration.ok, repr(calibration)


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("prior of half the scale", wrong_prior),
        ("Jacobian of the coordinate forgotten", wrong_jacobian),
    ],
)
def test_wrong_samplers_fail(name: str, run: Callable[[bl.Model, int, int], Calibration]) -> None:
    calibration = run(one_way(6), REPLICATES, SEED)
    _store(calibration, name, "wrong.csv")
    assert not calibration.table.loc["sd_g[Intercept]", "ok"], repr(calibration)


@pytest.mark.parametrize("name", ["one-way, 6 groups", "correlated slopes (sleepstudy)"])
def test_nuts(name: str) -> None:
    calibration = bl.calibrate(MODELS[name](), 50, method="nuts", random_seed=SEED, draws=127)
    _store(calibration, name, "nuts.csv")
    assert calibration.ok, repr(calibration)
