"""means on the command line: of posteriors and of both, contrasts of one's own, letters; rows with missing values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app

FORMULA = "score ~ Machine + (1 | Worker)"
CALL = ("means", FORMULA, "Machine", "--data", "Machines")
OWN = "C - others=-1/2,-1/2,1"


def ran(*words: str, given: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"}, input=given)
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert all(len(line) <= 80 or "/" in line for line in result.stdout.splitlines())
    return result.stdout


@pytest.fixture(scope="module")
def of_rows() -> pd.Series:
    """Of balanced data and flat priors on fixed effects, the means by either engine."""
    return bl.load_dataset("Machines").groupby("Machine", observed=True)["score"].mean()


@pytest.mark.parametrize(
    "contrast",
    [
        OWN,
        "C - others=A:-0.5,B:-1/2,C:1",
        '{"C - others": [-0.5, -0.5, 1]}',
        '{"C - others": {"B": -0.5, "C": 1, "A": -0.5}}',
    ],
)
def test_contrasts_of_ones_own(contrast: str, of_rows: pd.Series, tmp_path: Path) -> None:
    text = ran(*CALL, "--contrast", contrast, "--contrast", "B = A=-1,1,0", "--out", str(tmp_path))
    written = pd.read_csv(tmp_path / "contrasts.csv").set_index("contrast")["estimate"]
    assert written["C - others"] == pytest.approx(of_rows["C"] - (of_rows["A"] + of_rows["B"]) / 2, rel=1e-9)
    assert written["B = A"] == pytest.approx(of_rows["B"] - of_rows["A"], rel=1e-9)
    assert "C - others" in text


def test_means_of_a_posterior(of_rows: pd.Series, tmp_path: Path) -> None:
    """Quadrature has the means without Monte Carlo error: those of the rows, as priors of fixed effects are flat."""
    options = ("--posterior", "--rope", "1,9", "--priors", "pc", "--draws", "1000", "--seed", "3")
    text = ran(*CALL, *options, "--contrast", OWN, "--letters", "--out", str(tmp_path))
    means, contrasts = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("means", "contrasts"))
    np.testing.assert_allclose(means["mean"], of_rows, rtol=1e-6)
    assert contrasts["mean"][0] == pytest.approx(of_rows["C"] - (of_rows["A"] + of_rows["B"]) / 2, rel=1e-6)
    post = bl.Model(FORMULA, bl.load_dataset("Machines")).sample(1000, priors="pc", random_seed=3)
    beta = np.column_stack([post.draws(name) for name in post.design.fixed_names])
    # Treatment contrasts: C - (A + B) / 2 is the coefficient of C minus half of that of B.
    difference = beta[:, 2] - beta[:, 1] / 2
    assert contrasts["in_rope"][0] == pytest.approx(np.mean((difference >= 1) & (difference <= 9)))
    assert "95 % HDI" in text and "P(in ROPE)" in text
    assert pd.read_csv(tmp_path / "letters.csv").set_index("Machine")["letters"].to_dict() == dict(
        zip("ABC", "abc", strict=True)
    )


def test_both_side_by_side(tmp_path: Path) -> None:
    asked = "--slope age --data Orthodont --both --pairs --letters --level 0.9 --draws 1000"
    text = ran("means", "distance ~ age * Sex + (age | Subject)", "Sex", *asked.split(), "--out", str(tmp_path))
    record = json.loads((tmp_path / "contrasts.json").read_text())[0]
    slopes = pd.read_csv(tmp_path / "slopes.csv")
    assert record["estimate"] == pytest.approx(slopes["estimate"][0] - slopes["estimate"][1], rel=1e-9)
    assert record["mean"] == pytest.approx(record["estimate"], abs=0.02)
    assert "90 % intervals, HDI of posteriors" in text
    apart = record["conf_low"] > 0 or record["conf_high"] < 0
    assert (pd.read_csv(tmp_path / "letters.csv")["letters"].nunique() == 2) == apart


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rope", "1"), "--rope is about a posterior: add --posterior"),
        (("--seed", "2"), "--seed is about a posterior"),
        (("--posterior", "--both"), "exclude each other"),
        (("--posterior", "--ddf", "z"), "--ddf is about fits"),
        (("--both", "--rope", "1"), "--rope is about one analysis"),
        (("--contrast", "poly", "--contrast", OWN), "Give one set, or weights for every contrast"),
        (("--contrast", OWN, "--contrast", OWN), "'C - others' twice"),
        (("--contrast", "C=1,x"), "takes a number, or several between commas, and got 'x'"),
        (("--contrast", "C=A:1,2"), "LEVEL:WEIGHT for each level"),
        (("--contrast", "C=1/0,1"), "got '1/0'"),
        (("--contrast", "{C"), "is no JSON"),
        (("--contrast", '{"C": 1}'), "gives no contrasts"),
        (("--contrast", OWN, "--reference", "A"), "--contrast dunnett"),
        (("--na-action", "na.exclude"), "'exclude' here"),
    ],
)
def test_wrong_words_are_refused_before_the_data_are_read(words: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(app, [*CALL[:3], *words, "--data", "no such file.csv"], env={"COLUMNS": "80"})
    assert result.exit_code == 2 and "no such file" not in result.output
    assert said in " ".join(result.output.replace("│", " ").split())


def test_weights_that_do_not_fit_the_means_are_refused_in_words(fails: Callable[..., str]) -> None:
    assert "there are 3 means to compare (A, B, C)" in " ".join(fails(*CALL, "--contrast", "B=-1,1").split())
    assert "'D', which is none of the means: A, B, C" in " ".join(fails(*CALL, "--contrast", "B=D:1").split())


ROWS = "y,x,g\n" + "".join(f"{(k * k) % 7},{k % 3},{'abcd'[k // 3]}\n" for k in range(12)) + "1,,a\n"


@pytest.mark.parametrize("words", ["fit", "means", "anova", "to lme4", "boundary", "compare", "power"])
def test_rows_with_missing_values_can_be_an_error(words: str) -> None:
    formula = "~ x + (1 | g)" if words == "power" else "y ~ x + (1 | g)"
    result = CliRunner().invoke(app, [*words.split(), formula, "--data", "-", "--na-action", "fail"], input=ROWS)
    assert isinstance(result.exception, bl.DesignError)
    assert "1 row(s) have missing values (missing x: 14)" in str(result.exception)


def test_power_has_posteriors_and_a_curve(tmp_path: Path) -> None:
    """The picture is what `PowerStudy.plot` draws; the shares of posteriors are those of the function."""
    one = "Reaction ~ Days + (1 | Subject)"
    options = (
        "--effect",
        "Days=9",
        "--groups",
        "5",
        "--parameter",
        "Days",
        "--n",
        "20",
        "--hdi",
        "4",
        "--priors",
        "pc",
    )
    text = ran("power", one, "--data", "sleepstudy", *options, "--out", str(tmp_path))
    assert (tmp_path / "power.png").read_bytes().startswith(b"\x89PNG")
    written = pd.read_csv(tmp_path / "power.csv").set_index("test")
    model = bl.Model(one, bl.load_dataset("sleepstudy"))
    found = bl.power(model, {"Days": 9}, groups=5, parameters="Days", n=20, hdi=4, priors="pc", progressbar=False)
    np.testing.assert_allclose(written["power"], found.table.set_index("test")["power"])
    assert written.loc["hdi", "n"] == 4 and "hdi" in text


def test_priors_of_no_posteriors_and_a_folder_in_place_of_the_curve(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "power.png").mkdir()
    plan = ("power", "Reaction ~ Days + (1 | Subject)", "--data", "sleepstudy")
    assert "power.png" in fails(*plan, "--n", "2", "--out", str(tmp_path)).replace("\n", "")
    result = CliRunner().invoke(app, [*plan, "--priors", "pc"], env={"COLUMNS": "80"})
    assert result.exit_code == 2 and "Give --hdi" in " ".join(result.output.replace("│", " ").split())
