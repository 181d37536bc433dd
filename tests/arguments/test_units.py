"""What each check of ``bayeslmm.arguments`` takes and refuses, and what its message says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayeslmm import arguments
from bayeslmm.errors import ArgumentError, DesignError

from .odd_values import ODD, Hostile


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_whole_numbers(value: Any) -> None:
    found = arguments.whole("n", value, 1, 3)
    assert type(found) is int
    assert found == 3


@pytest.mark.parametrize(
    "value", [True, np.bool_(True), 3.0, np.float64(3), "3", None, 1j, np.array([3]), np.timedelta64(3, "D"), math.nan]
)
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"n=.* is not a whole number"):
        arguments.whole("n", value)


def test_bounds_are_part_of_the_message() -> None:
    with pytest.raises(DesignError, match="n=0 is not a whole number of at least 1 and of at most 9"):
        arguments.whole("n", 0, 1, 9, DesignError)
    with pytest.raises(ArgumentError, match=r"n=3\.0 is not a whole number\. Write n=3\."):
        arguments.whole("n", 3.0)


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5), Fraction(1, 2)])
def test_real_numbers(value: Any) -> None:
    assert arguments.real("x", value, least=0.5, most=0.5) == 0.5


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, "1", 1j, Decimal(1), pd.NA, 10**400])
def test_what_is_no_real_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"x=.* is not a finite number"):
        arguments.real("x", value)


def test_ends_of_a_range() -> None:
    assert arguments.real("x", math.inf, finite=False) == math.inf
    for limits in ({"above": 1.0}, {"below": 1.0}, {"least": 1.5}, {"most": 0.5}):
        with pytest.raises(ArgumentError, match="x=1"):
            arguments.real("x", 1.0, **limits)


def test_levels() -> None:
    assert arguments.level("level", np.float32(0.5)) == 0.5
    with pytest.raises(ArgumentError, match=r"Write level=0\.95 for 95 %"):
        arguments.level("level", 95)
    for value in (0, 1, 1.5, -0.5, 10**400, Fraction(1, 10**400)):
        with pytest.raises(ArgumentError, match="not a probability strictly between 0 and 1"):
            arguments.level("level", value)


def test_choices() -> None:
    assert arguments.choice("m", np.str_("a"), ("a", None)) == "a"
    assert arguments.choice("m", None, ("a", None)) is None
    with pytest.raises(ArgumentError, match=r"m='Noe' is unknown. It takes 'one' or 'two'\. Did you mean 'one'\?"):
        arguments.choice("m", "Noe", ("one", "two"))


@pytest.mark.parametrize("value", [1, [3, 4], (5,), np.random.SeedSequence(3), None, np.random.default_rng(1)])
def test_seeds(value: Any) -> None:
    assert isinstance(arguments.generator(value), np.random.Generator)


def test_a_seed_gives_numpys_numbers() -> None:
    assert arguments.generator(7).integers(10**9) == np.random.default_rng(7).integers(10**9)
    rng = np.random.default_rng(1)
    assert arguments.generator(rng) is rng


@pytest.mark.parametrize("value", [-1, True, 1.5, "1", [], [-1], [True], np.timedelta64(1, "D"), {}])
def test_what_is_no_seed(value: Any) -> None:
    with pytest.raises(ArgumentError, match="is no seed"):
        arguments.seed("random_seed", value)


def test_mappings() -> None:
    assert arguments.mapping("fix", {"a": 1}) == {"a": 1}
    for value in ([("a", 1)], {1: 2}, None, dict):
        with pytest.raises(ArgumentError, match="fix"):
            arguments.mapping("fix", value)


def test_labels() -> None:
    assert arguments.labels("p", pd.Index(["a", "b"]), ["a", "b"]) == ("a", "b")
    with pytest.raises(ArgumentError, match=r"names .sgma., which there is not\. Did you mean 'sigma'\?"):
        arguments.labels("p", "sgma", ["sigma", "x"])
    for value in (b"a", {"a": 1}, 3, [1], np.array([["a"]])):
        with pytest.raises(ArgumentError, match="p"):
            arguments.labels("p", value)


def test_arrays_of_numbers() -> None:
    assert arguments.numbers_of("y", [Fraction(1, 2), 1]).tolist() == [0.5, 1.0]
    odd = (
        ["1"],
        [1j],
        [True],
        pd.date_range("2020", periods=2),
        [1, None],
        np.ma.masked_array([1.0], [True]),
        [math.nan],
    )
    for value in odd:
        with pytest.raises(ArgumentError, match="y"):
            arguments.numbers_of("y", value)
    with pytest.raises(ArgumentError, match=r"y has the shape \(2,\); it takes numbers in an array of shape \(3,\)"):
        arguments.numbers_of("y", [1, 2], shape=(3,))


def test_memory_is_counted() -> None:
    assert arguments.affordable("draws", 10, 10) == 10
    with pytest.raises(ArgumentError, match=r"draws=1180591620717411303424 would take .* GiB \(5 numbers for each\)"):
        arguments.affordable("draws", 2**70, 5)


CHECKS: dict[str, Callable[[Any], Any]] = {
    "shown": arguments.shown,
    "whole": lambda v: arguments.whole("a", v, 0, 10),
    "real": lambda v: arguments.real("a", v, least=0.0),
    "level": lambda v: arguments.level("a", v),
    "flag": lambda v: arguments.flag("a", v),
    "choice": lambda v: arguments.choice("a", v, ("x", None, True, 1)),
    "seed": lambda v: arguments.seed("a", v),
    "instance": lambda v: arguments.instance("a", v, float, "a float"),
    "text": lambda v: arguments.text("a", v),
    "mapping": lambda v: arguments.mapping("a", v),
    "numbers_of": lambda v: arguments.numbers_of("a", v),
}


@pytest.mark.parametrize("name", CHECKS)
def test_odd_values_are_taken_or_refused_in_words(name: str) -> None:
    for odd in ODD.values():
        try:
            CHECKS[name](odd())
        except ArgumentError as error:
            assert len(str(error)) < 500
            assert str(error).isprintable()


def test_large_values_are_shown_at_once() -> None:
    large = [list(range(10**6)), "a" * 10**7, pd.DataFrame({"a": range(10**6)}), {i: i for i in range(10**6)}]
    began = time.process_time()
    texts = [arguments.shown(value) for value in large]
    assert time.process_time() - began < 0.2
    assert max(map(len, texts)) < 120


def test_what_cannot_be_shown() -> None:
    assert len(arguments.shown(Hostile())) < 120
    assert arguments.shown("a\nb\x1b[0m") == r"'a\nb\x1b[0m'"
