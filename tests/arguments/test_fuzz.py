"""Odd values for every public argument end in a result or in an error of the package's own, soon."""

from __future__ import annotations

import pytest

from . import calls, fuzz
from .odd_values import ODD

SAMPLE = 900


def _failed(outcomes: list[fuzz.Outcome]) -> list[str]:
    return [str(outcome) for outcome in outcomes if outcome.kind not in ("result", "own")]


def _names() -> list[str]:
    return [f"{c.name}({c.argument}=)#{c.variant}" for c in calls.calls()]


def test_every_public_callable_has_a_call() -> None:
    assert calls.without_call() == []


@pytest.mark.parametrize("part", range(3))
def test_sample_of_odd_values(part: int) -> None:
    names = _names()
    pairs = fuzz.sample([(i, j) for i in range(len(names)) for j in range(len(ODD))], SAMPLE)
    assert _failed(fuzz.run(pairs[part::3], names, list(ODD), seconds=60.0)) == []


@pytest.mark.slow
def test_kinds_of_outcomes() -> None:
    """The worker tells errors of the package from those of others."""
    names = _names()
    places = {name: i for i, name in enumerate(names)}
    values = list(ODD)
    asked = [(places["Model.fit(reml=)#0"], values.index("x")), (places["Model.fit(reml=)#0"], values.index("True"))]
    assert [o.kind for o in fuzz.run(asked, names, values, seconds=60.0)] == ["own", "result"]
