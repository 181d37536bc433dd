"""The next step after the demo: a file of one's own, with names and signs as a spreadsheet writes them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bayeslmm.cli import main
from bayeslmm.console import as_called


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """As a German spreadsheet saves it, with cells that are missing."""
    rng = np.random.default_rng(3)
    lines = ["Vp Nr.;Gruppe (Training);Woche;Reaktionszeit [ms]"]
    for person in range(24):
        own = rng.normal(0, 20)
        for week in range(4):
            value = f"{312 + own - 4 * week + rng.normal(0, 12):.1f}".replace(".", ",")
            shown = "" if (person + 5 * week) % 17 == 0 else value
            lines.append(f"{person};{'Übung' if person % 2 else 'Kontrolle'};{week};{shown}")
    path = tmp_path / "studie.csv"
    path.write_bytes("\n".join(lines).encode("cp1252"))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bayeslmm", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_names_without_backquotes_are_answered_by_a_line_that_works(
    sheet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "Reaktionszeit [ms] ~ Woche * Gruppe (Training) + (1 | Vp Nr.)"
    assert run(monkeypatch, "fit", typed, "--data", str(sheet)) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Put the formula in single quotes" in said
    (formula,) = re.findall(r"written in backquotes: (.*?\))(?= )", said)
    assert formula == "`Reaktionszeit [ms]` ~ Woche * `Gruppe (Training)` + (1 | `Vp Nr.`)"
    assert run(monkeypatch, "fit", formula, "--data", str(sheet)) == 0
    read = capsys.readouterr()
    assert "columns are separated by ';'" in read.err and "read with a decimal comma" in read.err
    rows = sheet.read_bytes().splitlines()[1:]
    assert f"{sum(not row.endswith(b';') for row in rows)} observations" in read.out


def test_the_program_is_named_as_it_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / ".venv" / "bin"
    place.mkdir(parents=True)
    program = place / "bayeslmm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    monkeypatch.setenv("PATH", str(place))
    assert as_called() == ("bayeslmm", "Python")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert as_called() == (".venv/bin/bayeslmm", ".venv/bin/python")
    monkeypatch.setattr(sys, "argv", [str(place / "package" / "__main__.py")])
    assert as_called()[0] == ".venv/bin/python -m bayeslmm"


def test_the_line_that_the_program_names_starts_it(tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'x/__main__.py'; from bayeslmm.console import as_called; print(as_called()[0])"
    started = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": "/nowhere"},
    )
    line = [*shlex.split(started.stdout), "--version"]
    assert subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.startswith("bayeslmm")
