"""The bar of rows: shown late, in terminals alone, and gone at the end."""

from __future__ import annotations

import io

import pandas as pd
import pytest
import rich.console

from bayeslmm.sources import checked, open_source
from bayeslmm.sources import progress as progress_module
from bayeslmm.sources.progress import RowsBar


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal gets."""
    shown = io.StringIO()
    console = rich.console.Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    return shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_nothing_is_shown_within_a_second(screen: io.StringIO, clock: list[float]) -> None:
    with RowsBar("Reading", 100) as bar:
        bar.advance(50)
        clock[0] = 0.9
        bar.advance(50)
    assert screen.getvalue() == ""


def test_rows_and_rows_per_second(screen: io.StringIO, clock: list[float]) -> None:
    with RowsBar("Reading", 10_000_000) as bar:
        bar.advance(1_000_000)
        clock[0] = 2.0
        bar.advance(4_000_000)
    text = screen.getvalue()
    assert "Reading" in text
    assert "5M of 10M rows" in text
    assert "2.5M rows/s" in text


def test_the_number_of_rows_need_not_be_known(screen: io.StringIO, clock: list[float]) -> None:
    with RowsBar("Reading", None) as bar:
        clock[0] = 2.0
        bar.advance(3_000)
    assert "3k rows" in screen.getvalue()


def test_files_get_none(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    shown = io.StringIO()
    console = rich.console.Console(file=shown, force_terminal=False)
    monkeypatch.setattr(rich.console, "Console", lambda **_: console)
    with RowsBar("Reading", 100) as bar:
        clock[0] = 2.0
        bar.advance(50)
    assert shown.getvalue() == ""


def test_passes_show_it(screen: io.StringIO, clock: list[float]) -> None:
    def tables():
        for number in range(5):
            clock[0] += 1.0
            yield pd.DataFrame({"y": [float(number)] * 10})

    data = checked(open_source(tables), ["y"], most=10)
    list(data.chunks("Counting levels"))
    assert "Counting levels" in screen.getvalue()
    before = len(screen.getvalue())
    list(data.chunks("Adding rows"))
    assert "50 of 50 rows" in screen.getvalue()[before:]
    before = len(screen.getvalue())
    list(data.chunks("Adding rows", progress=False))
    assert len(screen.getvalue()) == before
