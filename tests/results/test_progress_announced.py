"""What takes long says so while it lasts, and only when asked to."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

import bayeslmm as bl
from bayeslmm import watched
from bayeslmm.bayes.progress import Progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal without patience."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=200)
    monkeypatch.setattr(watched, "_console", lambda: console)
    monkeypatch.setattr(watched, "_PATIENCE", 0.0)
    return stream


def test_an_announced_stage_is_shown_while_it_lasts(screen: io.StringIO) -> None:
    with Progress(True) as progress:
        progress.announce("a long stage")
        for _ in range(1000):
            if "a long stage" in screen.getvalue():
                break
            time.sleep(0.01)
        assert "a long stage" in screen.getvalue()
        progress.report("steps", 1, 2)
        progress.announce("another")
        assert "a long stage" not in progress._tasks and "steps" in progress._tasks


def test_a_short_stage_is_not_shown(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "_PATIENCE", 100.0)
    with Progress(True) as progress:
        progress.announce("a short stage")
    assert screen.getvalue() == ""


def test_nothing_is_shown_unasked(screen: io.StringIO) -> None:
    with Progress(False) as progress:
        progress.announce("a stage")
    assert screen.getvalue() == ""


def test_sections_of_a_boundary_report_say_how_to_leave_them_out(screen: io.StringIO) -> None:
    fit = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes")).fit()
    fit.boundary("none")
    assert "leave_out='tests'" in screen.getvalue() and "leave_out='zero_rate'" in screen.getvalue()
    screen.truncate(0)
    fit.boundary("none", progressbar=False, leave_out="zero_rate")
    assert screen.getvalue() == ""


def test_a_bayes_factor_says_what_it_computes(screen: io.StringIO) -> None:
    post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).sample(
        100, random_seed=1, progressbar=False
    )
    post.bayes_factor("sd_Batch")
    assert "Bayes factor of sd_Batch" in screen.getvalue()


def test_one_bar_at_a_time(screen: io.StringIO) -> None:
    with Progress(True) as outer:
        outer.report("outer", 1, 2)
        with Progress(True) as inner:
            inner.report("inner", 1, 2)
        outer.report("outer", 2, 2)
    assert "outer" in screen.getvalue() and "inner" not in screen.getvalue()
    with Progress(True) as later:
        later.report("later", 1, 2)
    assert "later" in screen.getvalue()
