"""The command line, through Typer's runner and through the entry point."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.cli import app, as_table, read_data, show_comparison
from bayeslmm.errors import DatasetError

SMALL = "Yield ~ 1 + (1 | Batch)"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def slopes(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"x": rng.normal(size=80), "g": np.repeat(list("abcdefgh"), 10)})
    data["y"] = 1 + data["x"] + np.repeat(rng.normal(size=8), 10) + rng.normal(size=80)
    data.loc[[3, 9], "x"] = np.nan
    path = tmp_path / "slopes.csv"
    data.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("arguments", [(), ("fit",), ("compare",), ("boundary",), ("demo",)])
def test_help_texts(arguments):
    text = plain(run(*arguments, "--help"))
    assert "Usage" in text
    if arguments in (("fit",), ("compare",)):
        assert "--data" in text
        assert "parquet" in text


def test_fit_prints_and_writes_the_tidy_table(tmp_path):
    text = run("fit", SMALL, "--data", "Dyestuff", "--out", str(tmp_path / "a" / "b"))
    assert "restricted maximum likelihood" in text
    written = pd.read_csv(tmp_path / "a" / "b" / "fit.csv")
    tidy = bl.Model(SMALL, bl.load_dataset("Dyestuff")).fit().tidy()
    np.testing.assert_allclose(written["estimate"], tidy["estimate"])
    assert len(json.loads((tmp_path / "a" / "b" / "fit.json").read_text())) == len(tidy)


def test_fit_writes_the_page_of_the_fit_and_its_figures(tmp_path):
    text = run("fit", SMALL, "--data", "Dyestuff", "--ml", "--ddf", "z", "--out", str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Dyestuff</h2>" in page
    assert "<h3>Maximum-likelihood fit</h3>" in page
    assert "(z tests)" in page
    figures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(figures) == page.count("<figure>") == 4
    assert all(name in text for name in (*figures, "fit.csv", "report.html"))


def test_a_fit_with_a_residual_structure_shows_intervals_of_all_parameters():
    model = bl.Model("distance ~ age", bl.load_dataset("Orthodont"), residual="by(Sex) + cs(Subject)")
    text = run("fit", "distance ~ age", "--data", "Orthodont", "--residual", "by(Sex) + cs(Subject)")
    table = text.partition("95 % intervals of the variance parameters")[2]
    ends = model.fit().confint(parameters=["sigma", "residual_rho"], method="wald")
    for label in ends.index:
        line = next(line.split() for line in table.splitlines() if line.startswith(label))
        np.testing.assert_allclose([float(v) for v in line[1:]], ends.loc[label], rtol=1e-3)
    assert "profile" not in table


def test_lint_reads_the_residual_structure():
    text = run("lint", "distance ~ age", "--data", "Orthodont", "--residual", "by(Sex) + toep(age | Subject)")
    assert "3 findings." in text
    assert "bmb.Formula" in text
    assert re.search(r"toep\(age \| Subject\)\n +\^+\nbayeslmm: A correlation of the residuals within Subject", text)
    assert run("lint", "y ~ x", "--residual", "corAR1(form = ~ t | g)").count("[error here]") == 1
    assert "No findings" in run("lint", "y ~ x", "--residual", "independent")


def test_fit_by_maximum_likelihood():
    assert "maximum likelihood (ML)" in run("fit", SMALL, "--data", "Dyestuff", "--ml")


def test_compare_prints_every_label_and_no_cut_number(slopes):
    text = run("compare", "y ~ x + (x | g)", "--data", str(slopes), "--draws", "400")
    for label in ("sd_g[Intercept]", "sd_g[x]", "corr_g[Intercept.x]", "sigma", "Intercept"):
        assert label in text
    assert "…" not in text


def test_compare_writes_figures_numbers_and_a_report_that_stands_alone(tmp_path):
    text = run("compare", SMALL, "--data", "Dyestuff2", "--draws", "400", "--out", str(tmp_path))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "Dyestuff2_variance.png",
        "Dyestuff2_boundary_sd_Batch_Intercept.png",
        "Dyestuff2_shrinkage_Batch.png",
        "Dyestuff2_residuals.png",
        "comparison.json",
        "report.html",
    }
    assert all(name in text for name in names)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in tmp_path.glob("*.png"))
    numbers = json.loads((tmp_path / "comparison.json").read_text())["Dyestuff2"]
    assert numbers["formula"] == SMALL
    assert numbers["parameters"]["sd_Batch[Intercept]"]["note"] == "REML says 0; upper bound"
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http://" not in page
    assert "https://" not in page
    for words in (
        "Yield ~ 1 + (1 | Batch)",
        "estimated as exactly 0 (a singular fit)",
        "half-t(3",
        "independent draws, exact to 1e-14",
        "sd_Batch[Intercept]",
    ):
        assert words in page


def test_boundary_prints_and_writes_the_report(tmp_path):
    text = plain(run("boundary", SMALL, "--data", "Dyestuff2", "--out", str(tmp_path / "b")))
    assert "The fit is singular" in text
    # the upper end by an independent program, and P(F(5, 24) <= 1)
    assert "2.0079" in text
    assert "0.56109" in text
    numbers = json.loads((tmp_path / "b" / "boundary.json").read_text())
    assert numbers["sections"]["limits"]["rows"][0]["REML high"] == pytest.approx(2.0079485399944, rel=1e-8)
    assert "What to do" in (tmp_path / "b" / "boundary.html").read_text()


def test_compare_is_reproducible(slopes):
    first, second = (
        run("compare", "y ~ x + (1 | g)", "--data", str(slopes), "--draws", "200", "--seed", "3") for _ in range(2)
    )
    assert first == second


def test_demo_compares_both_data_sets(tmp_path):
    text = run("demo", "--out", str(tmp_path))
    assert "sleepstudy" in text
    assert "Singular: (1 | Batch) leaves no variance" in text
    assert "upper" in text
    written, _, following = text.split("Written to")[1].partition(":\n")[2].partition("\n\n")
    listed = [line.strip() for line in written.splitlines() if line.strip()]
    assert "Next: open" in following
    assert "bayeslmm compare" in following
    assert listed == [name for name in listed if (tmp_path / name).is_file()]
    assert {path.name for path in tmp_path.iterdir()} == set(listed)
    assert set(json.loads((tmp_path / "comparison.json").read_text())) == {"sleepstudy", "Dyestuff2"}


def test_narrow_terminals_get_three_tables():
    model = bl.Model(SMALL, bl.load_dataset("Dyestuff2"))
    both = bl.compare(model.fit(), model.sample(200, random_seed=1))
    screen = io.StringIO()
    show_comparison(both, Console(width=80, markup=False, file=screen))
    text = screen.getvalue()
    assert "…" not in text
    for heading in ("REML and ML", "Posterior", "Near zero"):
        assert heading in text


def test_tables_show_missing_numbers_as_blanks():
    table = as_table("t", pd.DataFrame({"a": [1.23456789, np.nan]}, index=["x[b]", "y"]))
    assert [list(column.cells) for column in table.columns] == [["x[b]", "y"], ["1.2346", ""]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit", "y ~ x", "--data", "nosuch"), "no data set named 'nosuch'"),
        (("fit", "y ~ x", "--data", "no.csv"), "no file 'no.csv'"),
        (("fit", "Yield ~ 1 + (1 | Nobody)", "--data", "Dyestuff"), "'Nobody'"),
        (("fit", "Yield ~ (1 | Batch", "--data", "Dyestuff"), "^"),
        (("compare", SMALL, "--data", "Dyestuff", "--method", "magic"), "'magic' is unknown"),
        (("compare", SMALL, "--data", "Dyestuff", "--draws", "0"), "draws=0"),
    ],
)
def test_errors_are_text_and_exit_code_one(fails, arguments, words):
    text = fails(*arguments)
    assert text.startswith("Error: ")
    assert words in text


@pytest.mark.parametrize("below", ["", "deeper/folder"])
@pytest.mark.parametrize("command", ["fit", "compare", "boundary", "demo"])
def test_a_file_in_place_of_the_folder_is_refused_before_the_work(fails, monkeypatch, tmp_path, command, below):
    (tmp_path / "odd.csv").write_text("kept")
    for engine in ("fit", "sample"):
        monkeypatch.setattr(bl.Model, engine, lambda *_, **__: pytest.fail("computed before the folder was looked at"))
    monkeypatch.chdir(tmp_path)
    arguments = [] if command == "demo" else [SMALL, "--data", "Dyestuff"]
    text = fails(command, *arguments, "--out", str(Path("odd.csv", below)), code=2)
    assert "odd.csv'isafile.Giveafolder" in re.sub(r"[\s│]+", "", text)
    assert (tmp_path / "odd.csv").read_text() == "kept"


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(fails, monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda *_: False)
    text = fails("fit", SMALL, "--data", "Dyestuff", "--out", str(tmp_path / "new"), code=2)
    assert "cannotbewrittento" in re.sub(r"[\s│]+", "", text)
    assert not (tmp_path / "new").exists()


def test_help_names_every_method_of_sampling():
    text = re.sub(r"[\s│]+", " ", plain(run("compare", "--help")))
    methods = re.findall(r"[a-z_]+", text.split("--method")[1].split("[default")[0])
    assert {"auto", "quadrature", "importance", "collapsed_nuts", "nuts"} <= set(methods)


@pytest.mark.parametrize("name", ["DATA.CSV", "data.Tsv", "DATA.PARQUET"])
def test_endings_of_files_in_any_case(tmp_path, name):
    data, path = pd.DataFrame({"y": [1.0, 2.5], "g": ["a", "b"]}), tmp_path / name
    if name == "DATA.PARQUET":
        data.to_parquet(path)
    else:
        data.to_csv(path, index=False, sep="\t" if name == "data.Tsv" else ",")
    pd.testing.assert_frame_equal(read_data(str(path)), data, check_dtype=False)


def test_rows_without_values_are_counted(slopes, tmp_path):
    """Rows 3 and 9 of the table, lines 5 and 11 of the file, have no x."""
    data, out, said = (
        ("--data", str(slopes)),
        tmp_path / "out",
        "Note: 2 rows dropped (missing x: lines 5, 11 of the file)",
    )
    assert said in run("compare", "y ~ x + (1 | g)", *data, "--draws", "200", "--out", str(out))
    assert said in run("boundary", "y ~ x + (1 | g)", *data, "--out", str(out))
    page = (out / "report.html").read_text()
    comparison, boundary = page.split("<h3>The boundary</h3>")
    assert said in comparison
    assert said in boundary.split("<h3>REML fit</h3>")[0]
    assert said in (out / "boundary.html").read_text()
    assert json.loads((out / "boundary.json").read_text())["left_out"] == [said]
    assert json.loads((out / "comparison.json").read_text())["slopes"]["left_out"] == [said]


def test_reads_csv_tsv_and_parquet(tmp_path):
    data = pd.DataFrame({"y": [1.0, 2.5], "g": ["a", "b"]})
    data.to_csv(tmp_path / "d.csv", index=False)
    data.to_csv(tmp_path / "d.tsv", index=False, sep="\t")
    data.to_parquet(tmp_path / "d.parquet")
    for name in ("d.csv", "d.tsv", "d.parquet"):
        pd.testing.assert_frame_equal(read_data(str(tmp_path / name)), data, check_dtype=False)
    (tmp_path / "d.xlsx").write_text("")
    with pytest.raises(DatasetError, match="neither CSV"):
        read_data(str(tmp_path / "d.xlsx"))


@pytest.mark.parametrize("text", [b"", b'a,b\n1,"2\n', b"a,b\n1,2,3\n4,5,6,7\n", b"a,b\n\xff\xfe,1\n"])
def test_files_without_a_table_are_named(tmp_path, text):
    (tmp_path / "d.csv").write_bytes(text)
    with pytest.raises(DatasetError, match=r"d\.csv' cannot be read as a table"):
        read_data(str(tmp_path / "d.csv"))


def test_shipped_names_win_over_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.testing.assert_frame_equal(read_data("Dyestuff"), bl.load_dataset("Dyestuff"))
