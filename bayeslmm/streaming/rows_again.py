"""Rows of a model whose data are elsewhere, read once more when something needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.sources import Checked
from bayeslmm.streaming.evaluated import Training, evaluated
from bayeslmm.streaming.groups import GroupCoder
from bayeslmm.streaming.question import RowsLeftOut, numbered, usable
from bayeslmm.types import AnyArray, IntArray


@dataclass(frozen=True, eq=False)
class RowsAgain:
    """Reads arrays of rows in a pass over the source.

    Attributes
    ----------
    source : Checked
    training : Training
    kept : IntArray
        Columns of X.
    coders : tuple of GroupCoder
        In the order of the groupings.
    """

    source: Checked
    training: Training
    kept: IntArray
    coders: tuple[GroupCoder, ...]

    @property
    def name(self) -> str:
        """Where the rows are, for messages."""
        return self.source.name

    def read(self, names: Sequence[str]) -> Mapping[str, AnyArray]:
        """Some of the arrays, with all rows."""
        parts: dict[str, list[AnyArray]] = {name: [] for name in names}
        start = 0
        for frame in self.source.chunks("Reading rows again", aligned=True):
            rows = len(frame)
            chunk = usable(numbered(frame, start), self.training.question, RowsLeftOut())
            if chunk.n:
                found = evaluated(self.training, chunk, start)
                known: dict[str, Any] = {"y": found.y, "offset": found.offset, "frequency": chunk.frequency}
                known |= {"weights": chunk.weights, "sd": chunk.sd}
                for name in names:
                    if name == "X":
                        known[name] = found.X[:, self.kept]
                    elif name == "index":
                        known[name] = np.arange(start, start + rows)[chunk.places]
                    elif name.startswith("codes"):
                        known[name] = self.coders[int(name.removeprefix("codes"))].codes(chunk.columns)
                    elif name.startswith("Z"):
                        known[name] = found.Z[int(name[1:])]
                    parts[name].append(known[name])
            start += rows
        return {name: np.concatenate(own) for name, own in parts.items()}
