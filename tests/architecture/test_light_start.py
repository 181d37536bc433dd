"""What the first fit of a process loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bayeslmm

DATA = Path(bayeslmm.__file__).parent / "datasets" / "data"

_FITS = (
    ("Reaction ~ Days + (Days | Subject)", "sleepstudy"),
    ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
    ("score ~ Machine + (Machine | Worker)", "Machines"),
)
# What a program that reads a table and solves equations has loaded without us, then what a fit adds.
_FIT = """
import sys
import pandas, scipy.linalg, scipy.special
pandas.read_csv(sys.argv[2])
before = set(sys.modules)
import bayeslmm as bl
bl.Model(sys.argv[1], pandas.read_csv(sys.argv[2])).fit()
print(*set(sys.modules) - before)
"""
# By room. A module belongs here if most fits call it; what is asked of few fits, or after the fit, loads when it is.
_NEEDED = {
    "": "arguments equality errors faces habits home imports memory model results specification types",
    "design": "algebra arithmetic build choice coding contrasts covariance data design distinct dominant dot dropped "
    "elsewhere estimable evaluate expressions factors formula frequency functions grouping groups implicit "
    "kinds known labels lazy looks lookup magnitude names notes padding per_row quoting rank recipe "
    "reference remedies residual_text residual_translation residual_words saturated screen size tables terms "
    "theta tokens transforms updating variances",
    "design.covariance": "autoregressive compound contract entries products toeplitz",
    "faces": "fit kinds",
    "likelihood": "balanced columns conditional criteria crossproducts derivatives factor frame frame_rows heavy "
    "level_conditional level_sums levels many_points normal_prior packed_pairs parameters recheck reduction rotation "
    "small splitting starts structure sums tiles within",
    "numerics": "differences direct newton newton_many",
    "reml": "confirm criterion elsewhere fixed identified multistart optimum penalised penalty scale status zeros",
    "residual": "estimable known residual variance",
    "results": "fit",
}


@pytest.mark.parametrize(("formula", "name"), _FITS)
def test_a_fit_loads_what_it_needs_and_no_library_beyond_its_tables_and_equations(formula: str, name: str) -> None:
    run = [sys.executable, "-c", _FIT, formula, str(DATA / f"{name}.csv")]
    loaded = set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    rooms = {f"bayeslmm.{room}".rstrip("."): modules.split() for room, modules in _NEEDED.items()}
    needed = {"bayeslmm", *rooms, *(f"{room}.{module}" for room, modules in rooms.items() for module in modules)}
    assert "bayeslmm.likelihood.levels" in loaded
    assert sorted(loaded - needed) == []


def test_what_a_fit_does_not_load_is_there_when_it_is_asked_for() -> None:
    code = (
        "import sys, bayeslmm as bl; fit = bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff')).fit();"
        "kept = 'bayeslmm.testing.term_table' in sys.modules;"
        "print(kept, bl.REMLResult.anova.__module__, fit.anova.__name__, bl.REMLResult.anova is bl.REMLResult.anova)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "bayeslmm.testing.term_table", "anova", "True"]
