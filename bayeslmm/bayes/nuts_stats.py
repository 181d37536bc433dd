"""The libraries that run NUTS, and their sampler statistics under the names of the ArviZ schema."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from bayeslmm.types import AnyArray

# Names of the ArviZ schema for what nutpie calls otherwise.
_STATS = {
    "logp": "lp",
    "depth": "tree_depth",
    "maxdepth_reached": "reached_max_treedepth",
    "mean_tree_accept": "acceptance_rate",
}
_KEPT = (*_STATS.values(), "energy", "diverging", "n_steps", "step_size")


def library(sampler: str) -> str:
    """The library to use: ``"auto"`` is nutpie where it can run, else PyMC."""
    if sampler != "auto":
        return sampler
    return "nutpie" if find_spec("nutpie") and find_spec("numba") else "pymc"


def schema_stats(stats: Any) -> dict[str, AnyArray]:
    """Statistics (chain, draw) of a ``sample_stats`` group."""
    renamed = {_STATS.get(str(name), str(name)): stats[name].to_numpy() for name in stats.data_vars}
    return {name: values for name, values in renamed.items() if name in _KEPT and values.ndim == 2}
