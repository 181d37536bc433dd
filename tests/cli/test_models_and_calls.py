"""Several formulas in one call, sets of priors, and calls of other packages on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app

ONE, TWO = "Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (1 | Subject)"


def ran(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_formulas_are_two_rows(tmp_path: Path) -> None:
    """The likelihood ratio is the one that lme4's anova prints: 116.46 with 1 degree of freedom."""
    text = ran("compare", ONE, TWO, "--data", "sleepstudy", "--draws", "200", "--out", str(tmp_path / "new"))
    assert "116.46" in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(tmp_path) not in line)
    written = pd.read_csv(tmp_path / "new" / "models.csv", index_col="model")
    assert written.loc["Days + (1 | Subject)", "chisq"] == pytest.approx(116.46241507, rel=1e-7)
    page = (tmp_path / "new" / "report.html").read_text()
    assert "116.46" in page and page.count("<img ") == 1 and "Not drawn" not in page
    assert (tmp_path / "new" / "models.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "new" / "models.json").read_text())
    assert [row["df"] for row in rows] == [3, 4]


def test_models_of_long_formulas_are_numbered_in_their_table() -> None:
    """No row of the table is empty, every model is named once before it, and the test is against a number."""
    rights = [
        "nitro + Variety + (1 | Block) + (1 | Block:Variety)",
        "nitro * Variety + (1 | Block) + (1 | Block:Variety)",
    ]
    text = ran("compare", *(f"yield ~ {right}" for right in rights), "--data", "oats", "--draws", "200")
    table = text.partition("Response yield")[0]
    assert all(table.count(f"{i}: {right}\n") == 1 for i, right in enumerate(rights, 1))
    blocks = [block.splitlines() for block in table.partition("\n\n")[2].strip("\n").split("\n\n")]
    assert all([line.split()[0] for line in block[1:]] == ["1", "2"] for block in blocks)
    assert all(len(line.split()) > 1 and len(line) <= 80 for block in blocks for line in block[1:])
    (against,) = (block for block in blocks if "against" in block[0])
    end = against[0].index("against") + len("against")
    assert against[2][:end].endswith(" 1")


def test_two_formulas_of_one_response_only() -> None:
    none = CliRunner().invoke(
        app, ["compare", ONE, "Reaction ~ 1 + (1 | Subject)", "--data", "sleepstudy", "--draws", "0"]
    )
    assert none.exit_code != 0 and "draws=0" in str(none.exception)
    wrong = CliRunner().invoke(app, ["compare", ONE, "Days ~ 1 + (1 | Subject)", "--data", "sleepstudy"])
    assert wrong.exit_code != 0
    assert isinstance(wrong.exception, bl.DesignError)
    assert "other values" in str(wrong.exception)


def test_priors_are_those_of_the_set() -> None:
    text = ran("compare", ONE, "--data", "sleepstudy", "--draws", "200", "--priors", "weak")
    assert "weak" in text
    default = ran("compare", ONE, "--data", "sleepstudy", "--draws", "200")
    assert "weak" not in default


def test_the_call_of_another_package_is_printed_whole() -> None:
    model = bl.Model(TWO, bl.load_dataset("sleepstudy"))
    for package in ("lme4", "sas", "statsmodels"):
        text = ran("to", package, TWO, "--data", "sleepstudy", "--ml")
        assert text.strip() == model.to(package, reml=False).strip()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("to", "statsmodel", TWO), "statsmodels"),
        (("compare", TWO, "--priors", "wek"), "weak"),
    ],
)
def test_unknown_names_are_refused_before_the_data_are_read(words: tuple[str, ...], hint: str) -> None:
    result = CliRunner().invoke(app, [*words, "--data", "no such file.csv"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert f"Did you mean '{hint}'?" in " ".join(result.output.replace("│", " ").split())
    assert "no such file" not in result.output


def test_residual_structures_and_known_errors() -> None:
    data = bl.load_dataset("Orthodont")
    fitted = ran("fit", "distance ~ age", "--data", "Orthodont", "--residual", "by(Sex) + cs(Subject)")
    assert "sd Sex[Female]" in fitted
    model = bl.Model("distance ~ age", data, residual="us(age | Subject)")
    assert ran("to", "nlme", "distance ~ age", "--data", "Orthodont", "--residual", "us(age | Subject)").strip() == (
        model.to("nlme").strip()
    )
    tested = ran("anova", "distance ~ age", "--data", "Orthodont", "--residual", "us(age | Subject)")
    assert f"{model.fit().anova()['F value'].iloc[0]:.3f}" in tested
    means = ran("means", "yi ~ alloc + (1 | trial)", "alloc", "--data", "bcg", "--residual-sd", "sei")
    assert "alloc" in means


def test_the_method_is_that_of_every_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    sample = bl.Model.sample

    def noted(self: bl.Model, *args: object, **options: object) -> object:
        asked.append(str(options["method"]))
        return sample(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bl.Model, "sample", noted)
    text = ran("compare", ONE, TWO, "--data", "sleepstudy", "--draws", "200", "--method", "quadrature")
    assert asked == ["quadrature", "quadrature"]
    assert "Days" in text
