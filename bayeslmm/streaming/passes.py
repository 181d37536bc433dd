"""A pass over chunks: what is to be added up, a piece of the chunks summed, partial sums merged in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import pandas as pd


class Mergeable(Protocol):
    """Sums of some chunks."""

    def merge(self, other: Any) -> Any:
        """Sums of these chunks and of the other's, which follow them."""


class PassPlan[P: Mergeable](Protocol):
    """What is to be added up; other processes may be given it."""

    def empty(self) -> P:
        """Sums of no chunk."""

    def add(self, partial: P, frame: pd.DataFrame) -> P:
        """The same with one more chunk."""


def reduce_piece[P: Mergeable](chunks: Iterable[pd.DataFrame], plan: PassPlan[P]) -> P:
    """Sums of some chunks.

    Parameters
    ----------
    chunks : iterable of pandas.DataFrame
        In their order.
    plan : PassPlan
    """
    partial = plan.empty()
    for frame in chunks:
        partial = plan.add(partial, frame)
    return partial
