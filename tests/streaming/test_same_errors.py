"""The mistakes that rows in memory are refused for, from chunks: the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from tests.design import test_bad_input as in_memory

# Of arrays with one value per row, which chunks do not take.
ARRAYS = {"test_negative_weights", "test_weights_of_the_wrong_length", "test_weights_in_another_order"}


def _cases() -> list[Callable[..., None]]:
    found = vars(in_memory).items()
    tests = [test for name, test in found if name.startswith("test_") and callable(test) and name not in ARRAYS]
    return [test for test in tests if list(inspect.signature(test).parameters) == ["data"]]


def from_chunks(formula: Any, data: Any, **options: Any) -> bl.Model:
    """The model of three chunks of the rows of a data frame; of anything else as it is."""
    if isinstance(data, pd.DataFrame) and len(data) > 3:
        third = len(data) // 3
        data = [data.iloc[:third], data.iloc[third : 2 * third], data.iloc[2 * third :]]
    return bl.Model(formula, data, **options)


class _Library:
    """The library, with models from chunks."""

    Model = staticmethod(from_chunks)

    def __getattr__(self, name: str) -> Any:
        return getattr(bl, name)


@pytest.mark.parametrize("test", _cases(), ids=lambda test: test.__name__)
def test_same_error(test: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.normal(size=24), "x": rng.normal(size=24), "g": np.repeat(list("abcdef"), 4)})
    monkeypatch.setattr(in_memory, "bl", _Library())
    test(data)
