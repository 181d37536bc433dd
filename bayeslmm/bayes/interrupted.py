"""Runs that are interrupted keep what was drawn; workers that die say which chain was theirs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayeslmm.errors import ConvergenceWarning, FitError
from bayeslmm.types import AnyArray, IntArray

# Chains with a smaller share of the longest chain's draws are left out, rather than cut all chains to their length.
_SHARE = 0.5


@contextmanager
def sampling(chains: int) -> Iterator[None]:
    """Turn the failure of a worker into an error that names its chain.

    Raises
    ------
    FitError
        A chain failed, or the process that ran it died.
    KeyboardInterrupt
        Interrupted before the first draw was kept.
    """
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise FitError(
            f"The process of {_named(_chain_of(error), chains)} died without an error of its own: it was killed, or "
            "the machine ran out of memory. Nothing of the run is left. Sample with cores=1, which needs no further "
            "processes, or with fewer chains."
        ) from error
    except Exception as error:
        if type(error).__name__ == "ParallelSamplingError":
            raise FitError(f"Sampling failed in {_named(_chain_of(error), chains)}: {error}") from error
        if "Not enough samples to build a trace" in str(error):
            raise KeyboardInterrupt("interrupted during the warm-up: there are no draws to return") from error
        raise


def _named(chain: int | None, chains: int) -> str:
    return "one of the chains" if chain is None else f"chain {chain} (of 0 to {chains - 1})"


def _chain_of(error: BaseException) -> int | None:
    """Chain of an error from PyMC's workers; where it does not say, the one whose message was being read."""
    chain: int | None = getattr(error, "_chain", None)
    traceback = None if chain is not None else error.__traceback__
    while traceback is not None:
        chain = getattr(traceback.tb_frame.f_locals.get("proc"), "chain", chain)
        traceback = traceback.tb_next
    return chain


@dataclass
class OneAfterTheOther:
    """Callback for chains that PyMC runs in this process: an interrupt, which ends one chain there, ends all.

    Attributes
    ----------
    total : int
        Draws of a chain, warm-up included.
    callback : callable, optional
        Called first.
    """

    total: int
    callback: Callable[..., None] | None = None
    chain: int | None = None
    drawn: int = 0

    def __call__(self, trace: Any, draw: Any) -> None:
        if self.callback is not None:
            self.callback(trace=trace, draw=draw)
        if self.chain is not None and draw.chain != self.chain and self.drawn < self.total:
            raise KeyboardInterrupt
        self.chain, self.drawn = draw.chain, draw.draw_idx + 1


def complete_draws(
    posterior: dict[str, AnyArray], stats: dict[str, AnyArray], draws: int, chains: int
) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """What an interrupted run has drawn, as chains of one length; everything if it was not interrupted.

    Parameters
    ----------
    posterior, stats : dict
        Arrays (chain, draw, ...); draws that were not made are missing at the end or nan.
    draws, chains : int
        Asked for.

    Raises
    ------
    KeyboardInterrupt
        There are no draws.

    Warns
    -----
    ConvergenceWarning
        With the number of draws.
    """
    made = _lengths(posterior)
    if made.size == chains and (made == draws).all():
        return posterior, stats
    longest = int(made.max(initial=0))
    if not longest:
        raise KeyboardInterrupt("interrupted during the warm-up: there are no draws to return")
    kept = np.flatnonzero(made >= _SHARE * longest)
    length = int(made[kept].min())
    warnings.warn(
        f"Sampling was interrupted: {kept.size * length} of {chains * draws} draws are returned ({kept.size} of "
        f"{chains} chains with {length} of {draws} draws each). Check R-hat and the effective sample sizes before "
        "they are used.",
        ConvergenceWarning,
        stacklevel=4,
    )
    return _cut(posterior, kept, length), _cut(stats, kept, length)


def _lengths(posterior: dict[str, AnyArray]) -> IntArray:
    """Number of leading draws of every chain that were made."""
    smallest = min(posterior.values(), key=np.size)
    made = ~np.isnan(smallest).any(axis=tuple(range(2, smallest.ndim)))
    return np.cumprod(made, axis=1, dtype=int).sum(1)


def _cut(arrays: dict[str, AnyArray], chains: AnyArray, length: int) -> dict[str, AnyArray]:
    return {name: values[chains, :length] for name, values in arrays.items()}
