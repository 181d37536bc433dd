"""A few rows, or a level, that decide the verdict are named before anything else; ordinary fits hear nothing of it."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.results.outliers import deciding

SLEEP = "Reaction ~ Days + (Days | Subject)"


def sleep(rows: list[int], factor: float = 10.0) -> pd.DataFrame:
    frame = bl.load_dataset("sleepstudy")
    frame.index = [f"night {k}" for k in range(180)]
    frame.loc[[f"night {k}" for k in rows], "Reaction"] *= factor
    return frame


@pytest.mark.parametrize("row", [0, 44, 59, 171])
def test_a_decimal_point_that_slipped_is_the_first_thing_said(row: int) -> None:
    frame = sleep([row])
    fit = bl.Model(SLEEP, frame).fit()
    clean = bl.Model(SLEEP, frame.drop(f"night {row}")).fit()
    assert fit.is_singular
    assert not clean.is_singular
    summary = str(fit.summary())
    first = summary.split("\n")[1]
    subject = frame.loc[f"night {row}", "Subject"]
    assert first.startswith(f"Look here first: Row night {row} (Subject {subject}) has Reaction")
    flat = " ".join(summary.split())
    residual = fit.residuals("pearson", scaled=True)[f"night {row}"]
    assert f"{residual:.1f} residual sds above its fitted value. Without it the fit is not singular" in flat
    assert f"sigma is {clean.sigma:.5g}, not {fit.sigma:.5g}" in flat
    assert max(map(len, summary.split("\n"))) <= 80
    report = fit.boundary("none", detail="brief", progressbar=False)
    text = str(report).split("\n")
    assert text[1].startswith(f"Look here first: Row night {row}")
    assert report.to_dict()["outliers"] == list(report.outliers)
    assert report.advice[0].title == "Look at the data first"
    assert report._repr_html_().index("Look here first") < report._repr_html_().index("The fit is singular")


def test_two_slips_are_named_together() -> None:
    fit = bl.Model(SLEEP, sleep([44, 97])).fit()
    found = deciding(fit)
    assert found is not None
    assert set(found.rows) == {44, 97}
    assert found.changes[0] == "the fit is not singular"
    assert "Without them" in str(found)


def test_a_level_in_another_unit_is_named() -> None:
    frame = bl.load_dataset("sleepstudy")
    frame.loc[frame["Subject"].astype(str) == "333", "Reaction"] *= 10
    found = deciding(bl.Model(SLEEP, frame).fit())
    assert found is not None
    assert found.who.startswith("Subject 333 (10 rows)")
    assert found.changes[0].startswith("sd_Subject[Intercept] is 24.8")


def test_the_sign_of_an_effect_that_rests_on_one_row() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=60)
    frame = pd.DataFrame({"x": x, "g": np.repeat(np.arange(12), 5)})
    frame["y"] = 0.8 * x + rng.normal(size=12)[frame["g"]] + rng.normal(size=60)
    frame.loc[7, ["x", "y"]] = [60.0, -40.0]
    fit = bl.Model("y ~ x + (1 | g)", frame).fit()
    found = deciding(fit)
    assert found is not None
    assert found.rows.tolist() == [7]
    assert fit.fixef()["x"] < 0
    clean = bl.Model("y ~ x + (1 | g)", frame.drop(7)).fit()
    assert f"x is {clean.fixef()['x']:.5g}, not {fit.fixef()['x']:.5g}" in found.changes


@pytest.mark.parametrize("name", ["Dyestuff", "Dyestuff2", "sleepstudy", "Penicillin", "Rail", "Machines", "tablets"])
def test_ordinary_fits_hear_nothing(name: str) -> None:
    models = {
        "Dyestuff": "Yield ~ 1 + (1 | Batch)",
        "Dyestuff2": "Yield ~ 1 + (1 | Batch)",
        "sleepstudy": SLEEP,
        "Penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
        "Rail": "travel ~ 1 + (1 | Rail)",
        "Machines": "score ~ Machine + (1 | Worker)",
        "tablets": "y ~ method + (1 | tablet)",
    }
    fit = bl.Model(models[name], bl.load_dataset(name)).fit()
    assert deciding(fit) is None
    assert "Look here first" not in str(fit.summary())


def test_normal_data_are_not_accused() -> None:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 8), "x": np.tile(np.arange(8.0), 12)})
    said = 0
    for _ in range(40):
        frame["y"] = frame["x"] + rng.normal(size=12)[frame["g"]] + rng.normal(size=96)
        said += deciding(bl.Model("y ~ x + (x | g)", frame).fit()) is not None
    # One data set in a thousand has a row, and one in a thousand a level, that is looked at.
    assert said == 0


def test_the_screen_costs_next_to_nothing() -> None:
    fit = bl.Model(SLEEP, bl.load_dataset("sleepstudy")).fit()
    deciding(fit)
    times = []
    for _ in range(5):
        fit._memo.clear()
        start = time.process_time()
        deciding(fit)
        times.append(time.process_time() - start)
    # Under two milliseconds here; a refit of this model alone takes more.
    assert min(times) < 0.006
