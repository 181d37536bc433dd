"""The whole calibration, for ``make calibrate``: every model, and the samplers that are wrong on purpose.

Figures are stored in ``results/`` and shown in the documentation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.calibration import Calibration
from bayeslmm.calibration.result import CHI_SQUARE_LEVEL
from bayeslmm.errors import ConvergenceWarning

from .models import MODELS, REPEATED, RESIDUAL, one_way, summary, wrong_jacobian, wrong_prior

pytestmark = pytest.mark.calibration

RESULTS = Path(__file__).parent / "results"
REPLICATES, RESIDUAL_REPLICATES = 1000, 200
SEED = 20251
WRONG: dict[str, Callable[[bl.Model, int, int], Calibration]] = {
    "prior of half the scale": wrong_prior,
    "slope of the coordinate forgotten": wrong_jacobian,
}


@pytest.fixture(autouse=True)
def _failures_are_stored_first() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _store(calibration: Calibration, model: str, name: str) -> None:
    """Replace the rows of this model in the table of results."""
    path = RESULTS / name
    table = calibration.table.reset_index()
    table.insert(0, "model", model)
    table.insert(1, "method", calibration.method)
    table.insert(2, "replicates", calibration.n)
    table["failures"] = len(calibration.failures)
    table["warnings"] = len(calibration.warnings)
    table["seconds"] = round(calibration.seconds, 1)
    if path.exists():
        old = pd.read_csv(path)
        table = pd.concat([old[old["model"] != model], table])
    order = {key: k for k, key in enumerate([*MODELS, *RESIDUAL, *WRONG])}
    table = table.sort_values("model", key=lambda models: models.str.removesuffix(REPEATED).map(order), kind="stable")
    table.to_csv(path, index=False, float_format="%.4g", lineterminator="\n")
    # Read back: the summary is of the figures as they are stored.
    summary(pd.read_csv(path)).to_csv(RESULTS / f"{path.stem}_models.csv", index=False, lineterminator="\n")


@pytest.mark.parametrize("name", MODELS)
def test_collapsed_posterior(name: str) -> None:
    """Where a quantity is outside its band, one in a hundred by chance, the run goes on to four times its length."""
    first = bl.calibrate(MODELS[name](), REPLICATES, random_seed=SEED)
    _store(first, name, "collapsed.csv")
    outside = first.table.index[first.table["ecdf"] > 1.0]
    if len(outside):
        second = bl.calibrate(MODELS[name](), 4 * REPLICATES, random_seed=SEED)
        _store(second, name + REPEATED, "collapsed.csv")
        assert second.table.loc[outside, "ok"].all(), f"{first!r}\n{second!r}"
    assert (first.table["p"] > CHI_SQUARE_LEVEL / len(first.quantities)).all(), repr(first)
    assert first.n == REPLICATES, first.failures.to_string()


@pytest.mark.parametrize("name", RESIDUAL)
def test_residual_structures(name: str) -> None:
    """Fewer replicates: each has a fit of its own."""
    calibration = bl.calibrate(RESIDUAL[name](), RESIDUAL_REPLICATES, random_seed=SEED)
    _store(calibration, name, "residual.csv")
    assert (calibration.table["p"] > CHI_SQUARE_LEVEL / len(calibration.quantities)).all(), repr(calibration)
    assert calibration.n == RESIDUAL_REPLICATES, calibration.failures.to_string()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_samplers_fail(name: str) -> None:
    calibration = WRONG[name](one_way(6), REPLICATES, SEED)
    _store(calibration, name, "wrong.csv")
    assert not calibration.table.loc["sd_g[Intercept]", "ok"], repr(calibration)


@pytest.mark.parametrize("name", ["one-way, 6 groups", "correlated slopes (sleepstudy)"])
def test_nuts(name: str) -> None:
    calibration = bl.calibrate(MODELS[name](), 50, method="nuts", random_seed=SEED, draws=127)
    _store(calibration, name, "nuts.csv")
    assert calibration.ok, repr(calibration)
