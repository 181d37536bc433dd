"""What a command works on: the table of --data, the models of its formulas, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayeslmm.faces import Posterior
    from bayeslmm.model import Model


# Loaded by the commands that compute and not before: help and the version take none of these, nor does a typing error.
WORK = ("bayeslmm.console", "bayeslmm.model", "bayeslmm.reading", "bayeslmm.output")


def read(data: str, na: list[str] | None, sep: str, decimal: str, encoding: str) -> Any:
    """The table of --data; what was decided when it was read is said before anything else."""
    from bayeslmm.reading import Options, read_table

    reading = read_table(data, Options(tuple(na or ()), sep, decimal, encoding))
    remark("standard input" if data == "-" else data, reading.notes)
    return reading.frame


def name_of(data: str) -> str:
    """What a table is called in a report."""
    return "standard input" if data == "-" else Path(data).stem


def model_of(formula: str, data: Any, *, na_action: str | None = None, **options: Any) -> Model:
    """The model, and what is odd about its data."""
    from bayeslmm.model import Model

    model = Model(formula, data, na_action=na_action or "drop", **options)  # type: ignore[arg-type]
    remark("data", model.design.notes.lines)
    return model


def sample(model: Model, draws: int | None, method: str | None, priors: str | None, seed: int | None) -> Posterior:
    """The posterior, with what every command takes where an option is left out."""
    return model.sample(
        4000 if draws is None else draws,
        method=method or "auto",  # type: ignore[arg-type]
        priors=priors or "default",
        random_seed=1 if seed is None else seed,
    )


def remark(about: str, notes: Sequence[str]) -> None:
    """Say on standard error what was noticed."""
    from bayeslmm.console import say, terminal

    console = terminal(stderr=True)
    for note in notes:
        say(console, f"Note ({about}): {note}")
