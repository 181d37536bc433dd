"""anova, means and power on the command line: the numbers of the functions, on a screen and in files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app

OATS, SLEEP = "yield ~ Variety * C(nitro) + (1 | Block/Variety)", "Reaction ~ Days + (Days | Subject)"


def ran(*words: str, given: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"}, input=given)
    assert result.exit_code == 0, result.output + repr(result.exception)
    for line in result.stdout.splitlines():
        assert len(line) <= 80 or "/" in line, line
    assert "…" not in result.stdout
    return result.stdout


def refused(*words: str) -> str:
    """What is said of a wrong call, for which no data are read."""
    result = CliRunner().invoke(app, [*words, "--data", "no such file.csv"], env={"COLUMNS": "80"})
    assert result.exit_code == 2, result.output
    assert "no such file" not in result.output
    return " ".join(result.output.replace("│", " ").split())


def row(text: str, label: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(label)).removeprefix(label).split()


def strata() -> dict[str, tuple[float, float]]:
    """F and denominator of oats, a balanced split plot, from sums of squares."""
    data = bl.load_dataset("Oats")
    y = data["yield"]

    def squares(*names: str) -> float:
        means = y.groupby([data[name] for name in names], observed=True).transform("mean")
        return float(((means - y.mean()) ** 2).sum())

    total = float(((y - y.mean()) ** 2).sum())
    varieties, nitro, plots = squares("Variety"), squares("nitro"), squares("Block", "Variety")
    both = squares("Variety", "nitro") - varieties - nitro
    of_plots, rest = (plots - squares("Block") - varieties) / 10, (total - plots - nitro - both) / 45
    return {
        "Variety": (varieties / 2 / of_plots, 10),
        "C(nitro)": (nitro / 3 / rest, 45),
        "Variety:C(nitro)": (both / 6 / rest, 45),
    }


def test_terms_of_one_formula(tmp_path: Path) -> None:
    text = ran("anova", OATS, "--data", "Oats", "--out", str(tmp_path))
    written = pd.read_csv(tmp_path / "anova.csv", index_col="row")
    for label, (F, df) in strata().items():
        assert written.loc[label, "F value"] == pytest.approx(F, rel=1e-7)
        assert written.loc[label, "DenDF"] == pytest.approx(df, rel=1e-6)
        cells = row(text, f"{label} ")
        assert cells[3] == str(df) and float(cells[4]) == pytest.approx(F, abs=6e-4)
    assert len(json.loads((tmp_path / "anova.json").read_text())) == 3
    chisq = row(ran("anova", OATS, "--data", "Oats", "--test", "chisq", "--type", "ii"), "C(nitro)")
    assert float(chisq[0]) == pytest.approx(3 * strata()["C(nitro)"][0], abs=6e-4) and chisq[1] == "3"


def test_several_formulas_are_compared_by_likelihood_ratios(tmp_path: Path) -> None:
    """The ratio that lme4's anova prints: 42.139 on 2 degrees of freedom."""
    both = ("Reaction ~ Days + (1 | Subject)", SLEEP, "--data", "sleepstudy")
    text = ran("anova", *both, "--out", str(tmp_path))
    assert "REML fits 1, 2 were refitted by ML" in text
    assert row(text, "2     6")[5] == "42.139"
    assert "--test bootstrap simulates the" in text
    written = pd.read_csv(tmp_path / "anova.csv", index_col="row")
    assert written.loc[2, "Pr(>Chisq)"] == pytest.approx(np.exp(-written.loc[2, "Chisq"] / 2), rel=1e-9)
    by_reml = row(ran("anova", *both, "--no-refit"), "2     6")
    criteria = [bl.Model(formula, bl.load_dataset("sleepstudy")).fit().criterion for formula in both[:2]]
    assert float(by_reml[5]) == pytest.approx(criteria[0] - criteria[1], abs=6e-4)


@pytest.fixture(scope="module")
def oats(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("oats")
    text = ran("means", OATS, "nitro", "--data", "Oats", "--pairs", "--ddf", "kenward-roger", "--out", str(folder))
    return text, pd.read_csv(folder / "means.csv"), pd.read_csv(folder / "contrasts.csv")


def test_means_and_their_differences(oats: tuple[str, pd.DataFrame, pd.DataFrame]) -> None:
    """Of balanced data the means are those of the rows."""
    text, means, contrasts = oats
    of_rows = bl.load_dataset("Oats").groupby("nitro", observed=True)["yield"].mean()
    np.testing.assert_allclose(means["estimate"], of_rows, rtol=1e-9)
    assert float(row(text, "0.6 ")[0]) == pytest.approx(of_rows[0.6], abs=0.005)
    assert contrasts["contrast"].tolist()[:2] == ["0 - 0.2", "0 - 0.4"]
    np.testing.assert_allclose(contrasts["df"], 45, rtol=1e-6)
    # 2 / 18 of the residual variance, which a split plot has with 45 degrees of freedom.
    sigma = bl.Model(OATS, bl.load_dataset("Oats")).fit().sigma
    np.testing.assert_allclose(contrasts["std_error"], sigma / 3, rtol=1e-6)
    assert "Tukey's method for comparing 4 means" in text and "Kenward-Roger df" in text
    assert "--by Variety shows them apart" in text


def test_slopes_groups_and_places() -> None:
    """The slope is the difference of two means over their distance."""
    formula, data = "distance ~ age * Sex + (age | Subject)", ("--data", "Orthodont")
    slope = ran("means", formula, "Sex", "--slope", "age", *data)
    means = ran("means", formula, "age", "--by", "Sex", "--at", "age=8,14", "--at", "Sex=Male", *data, "--pairs")
    assert "Female" not in means
    assert 6 * float(row(slope, "Male")[0]) == pytest.approx(-float(row(means, "Male  8 - 14")[0]), abs=6e-3)
    lower = ran("means", formula, "Sex", *data, "--contrast", "dunnett", "--reference", "Female", "--level", "0.9")
    assert "Male - Female" in lower and "90 % intervals" in lower


def test_power_is_that_of_the_function(tmp_path: Path) -> None:
    options = ("--effect", "Days=3,6", "--groups", "10", "--parameter", "Days", "--n", "50", "--seed", "3")
    text = ran("power", SLEEP, "--data", "sleepstudy", *options, "--out", str(tmp_path))
    model = bl.Model(SLEEP, bl.load_dataset("sleepstudy"))
    found = bl.power(model, {"Days": [3, 6]}, groups=10, parameters="Days", n=50, random_seed=3).table
    assert [float(line.split()[2]) for line in text.splitlines() if line.startswith("  Days")] == [*found["power"]]
    np.testing.assert_allclose(pd.read_csv(tmp_path / "power.csv")["power"], found["power"])


def test_power_of_a_study_without_responses() -> None:
    rows = "x,g\n" + "".join(f"{x},g{g}\n" for g in range(6) for x in (0, 1))
    truth = ("--effect", "x=normal(9, 0.1)", "--effect", "Intercept=0", "--sd", "g=1", "--sigma", "1", "--n", "20")
    text = ran("power", "~ x + (1 | g)", "--data", "-", *truth, "--parameter", "x", given=rows)
    assert row(text, "  x ")[1] == "1" and "Assurance" in text


def test_degrees_of_freedom_of_the_command_fit(tmp_path: Path) -> None:
    """Of Dyestuff2, whose variance is estimated at zero, Kenward and Roger count the batches: 5."""
    one = ("fit", "Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff2")
    text = ran(*one, "--ddf", "kenward-roger", "--out", str(tmp_path))
    assert "Kenward and Roger" in text and row(text, "Intercept")[2] == "5"
    fit = bl.Model(one[1], bl.load_dataset("Dyestuff2")).fit()
    wanted = fit.coefficients("kenward-roger").loc["Intercept", ["std_error", "conf_low", "conf_high"]]
    written = pd.read_csv(tmp_path / "fit.csv").set_index("effect").loc["fixed", list(wanted.index)]
    np.testing.assert_allclose(written.astype(float), wanted.astype(float), rtol=1e-9)
    assert row(text, "Intercept")[-2:] == [f"{wanted['conf_low']:.4f}", f"{wanted['conf_high']:.4f}"]
    assert "--ddf kenward-roger counts it as uncertain" in " ".join(ran(*one).split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fit", SLEEP, "--ddf", "kenwardroger"), "Did you mean 'kenward-roger'?"),
        (("anova", SLEEP, "--type", "4"), "'1', '2', '3'"),
        (("anova", SLEEP, SLEEP, "--ddf", "z"), "compared by likelihood ratios"),
        (("means", SLEEP, "--adjust", "tuky"), "Did you mean 'tukey'?"),
        (("means", SLEEP, "--contrast", "dunnet"), "Did you mean 'dunnett'?"),
        (("means", SLEEP, "--average", "even"), "'equal', 'proportional'"),
        (("means", SLEEP, "--pairs", "--contrast", "poly"), "give one of them"),
        (("means", SLEEP, "--reference", "a"), "--contrast dunnett"),
        (("means", SLEEP, "--slope", "Days", "--response"), "Leave one out"),
        (("power", SLEEP, "--ddf", "residual"), "'satterthwaite', 'kenward-roger' or 'z'"),
        (("power", SLEEP, "--groups", "10,x"), "whole number, or several between commas, and got 'x'"),
        (("power", SLEEP, "--effect", "Days"), "--effect Days=5, and got 'Days'"),
        (("power", SLEEP, "--effect", "Days=1", "--effect", "Days=2"), "'Days' twice"),
    ],
)
def test_wrong_words_are_refused_before_the_data_are_read(words: tuple[str, ...], said: str) -> None:
    assert said in refused(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("anova", "Yield ~ 1 + (1 | Batch)"), "no terms to test but the constant"),
        (("anova", "Yield ~ 1 + (1 | Batch)", "Batch ~ 1 + (1 | Batch)"), "Batch"),
        (("means", "Yield ~ 1 + (1 | Batch)", "Batches"), "'Batches' cannot be asked about"),
        (("means", "Yield ~ 1 + (1 | Batch)", "--ml", "--ddf", "kenward-roger"), "or use --ddf satterthwaite"),
        (("power", "Yield ~ 1 + (1 | Batch)", "--effect", "Interc=3"), "Did you mean 'Intercept'?"),
    ],
)
def test_what_the_data_do_not_have_is_said_in_words(
    fails: Callable[..., str], words: tuple[str, ...], said: str
) -> None:
    text = fails(*words, "--data", "Dyestuff")
    assert text.startswith("Error: ") and said in re.sub(r"\s+", " ", text)


def test_a_folder_in_place_of_a_table_is_seen_before_the_work(
    fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bl.Model, "fit", lambda *_, **__: pytest.fail("fitted before the folder was looked at"))
    (tmp_path / "means.csv").mkdir()
    (tmp_path / "anova.json").mkdir()
    for command in ("means", "anova"):
        text = fails(command, SLEEP, "--data", "sleepstudy", "--out", str(tmp_path))
        assert f"{command}." in text.replace("\n", "")
