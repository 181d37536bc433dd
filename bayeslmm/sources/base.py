"""What sources do that are one stream of chunks and know nothing better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pandas as pd

from bayeslmm.sources.checking import checked
from bayeslmm.sources.grouped import check_cells, of_chunks
from bayeslmm.sources.protocol import Piece, Source


class Stream:
    """A source that is read from its beginning to its end, in an order that stays."""

    name = ""
    ordered = True
    threads = True
    n: int | None = None

    def chunks(self, columns: Sequence[str], first: int = 0) -> Iterator[pd.DataFrame]:
        """See `protocol.Source`."""
        raise NotImplementedError

    def pieces(self, columns: Sequence[str]) -> Sequence[Piece] | None:
        """See `protocol.Source`."""
        return None

    def group_by(self, keys: Sequence[str], value: str, shift: float | None = None) -> pd.DataFrame:
        """See `protocol.Source`; added up chunk by chunk."""
        check_cells(keys, value)
        return of_chunks(checked(cast(Source, self), (*keys, value)).chunks("Adding rows to cells"), keys, value, shift)
