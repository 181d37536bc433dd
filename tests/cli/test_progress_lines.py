"""A terminal hears of what takes long in a comparison or a report; nothing else is written anywhere."""

from __future__ import annotations

import importlib
import io
import time

import matplotlib.pyplot as plt
import pytest
from rich.console import Console

import bayeslmm as bl
from bayeslmm import output, report_figures, watched

# The package has a function of the module's name.
comparing = importlib.import_module("bayeslmm.comparison.compare")


@pytest.fixture
def screen(monkeypatch):
    """Makes a terminal (or a file) of what progress is written to, and shortens patience."""

    def made(terminal: bool) -> io.StringIO:
        written = io.StringIO()
        console = Console(file=written, force_terminal=terminal, force_jupyter=False, width=120)
        monkeypatch.setattr(watched, "_console", lambda: console)
        monkeypatch.setattr(watched, "_PATIENCE", 0.02)
        return written

    return made


@pytest.fixture(scope="module")
def both():
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    return model.fit(), model.sample(400, random_seed=1)


def slow(function):
    def waits(*arguments):
        time.sleep(0.3)
        return function(*arguments)

    return waits


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("table", "sd_table", "profile intervals"),
        ("long", "long_table", "bootstrap"),
        ("groups", "group_table", "levels of groups"),
        ("fixed", "fixed_table", "fixed effects"),
    ],
)
def test_tables_of_a_comparison_say_what_takes_long(monkeypatch, screen, both, name, function, words):
    monkeypatch.setattr(comparing, function, slow(getattr(comparing, function)))
    written = screen(terminal=True)
    getattr(bl.compare(*both), name)
    assert words in written.getvalue()


def test_figures_of_a_report_say_what_takes_long(monkeypatch, screen, both, tmp_path):
    monkeypatch.setattr(report_figures, "plot_variance", slow(report_figures.plot_variance))
    written = screen(terminal=True)
    output.write([("Dyestuff2", bl.compare(*both))], tmp_path, detail="brief")
    plt.close("all")
    assert "figure 1 of 5, variance" in written.getvalue()


def test_nothing_goes_into_redirected_output(monkeypatch, screen, both, capfd):
    monkeypatch.setattr(comparing, "sd_table", slow(comparing.sd_table))
    written = screen(terminal=False)
    assert len(bl.compare(*both).table) == 3
    assert written.getvalue() == ""
    assert capfd.readouterr() == ("", "")


def test_quick_work_is_silent_on_a_terminal_too(monkeypatch, screen, both):
    written = screen(terminal=True)
    monkeypatch.setattr(watched, "_PATIENCE", 60.0)
    assert len(bl.compare(*both).table) == 3
    assert written.getvalue() == ""
