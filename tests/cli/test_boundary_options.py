"""Options of the boundary report on the command line: what is left out is not computed."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

import bayeslmm as bl
from bayeslmm.boundary import build
from bayeslmm.cli import app

SMALL = ("Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff2")


def sections(folder):
    return list(json.loads((folder / "boundary.json").read_text(encoding="utf-8"))["sections"])


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def unsimulated(monkeypatch):
    monkeypatch.setitem(build._REST, "tests", lambda _: pytest.fail("tests were computed"))
    monkeypatch.setattr(build, "sample_posterior", lambda *_: pytest.fail("a posterior was drawn"))


def test_brief_is_the_verdict_and_what_it_stands_on(unsimulated, tmp_path):
    text = run("boundary", *SMALL, "--detail", "brief", "--out", str(tmp_path))
    assert "The fit is singular" in text
    assert sections(tmp_path) == ["components", "edge"]


@pytest.mark.parametrize(
    "options",
    [("--leave-out", "tests,posterior"), ("--leave-out", "tests", "--leave-out", "posterior")],
)
def test_sections_are_left_out_by_name(tmp_path, options):
    run("boundary", *SMALL, *options, "--out", str(tmp_path))
    assert sections(tmp_path) == ["components", "edge", "limits", "zero_rate", "penalised"]


def test_full_says_all_of_a_regular_fit(tmp_path):
    regular = ("Yield ~ 1 + (1 | Batch)", "--data", "Dyestuff", "--leave-out", "posterior", "--out", str(tmp_path))
    run("boundary", *regular)
    assert sections(tmp_path) == ["components", "edge"]
    run("boundary", *regular, "--detail", "full")
    assert sections(tmp_path) == ["components", "edge", "limits", "tests", "zero_rate", "penalised"]


def test_the_report_of_a_comparison_has_the_same_options(tmp_path):
    run("compare", *SMALL, "--draws", "400", "--detail", "brief", "--out", str(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What varies, and what does not" in page
    assert "Tests that the sd is zero" not in page


@pytest.mark.parametrize("command", ["boundary", "compare"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--detail", "short"), ("short", "brief", "full")),
        (("--leave-out", "tests,test"), ("test", "zero_rate", "penalised")),
    ],
)
def test_unknown_names_are_refused_before_the_work(monkeypatch, command, options, words):
    monkeypatch.setattr(bl.Model, "fit", lambda *_, **__: pytest.fail("fitted before the options were looked at"))
    result = CliRunner().invoke(app, [command, *SMALL, *options])
    text = re.sub(r"[\s│]+", " ", result.output)
    assert result.exit_code != 0
    assert all(word in text for word in words)
