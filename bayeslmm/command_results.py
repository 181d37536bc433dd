"""How a command ends that computed something: files in the folder of --out, and what the screen shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bayeslmm.option_values import in_options

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def check_files(out: Path | None, names: Iterable[str]) -> None:
    """Refuse, before anything is computed, a folder in which the files could not be written."""
    if out is not None:
        from bayeslmm.files.writing import check_folder

        check_folder(out, names)


def check_tables(out: Path | None, names: Iterable[str]) -> None:
    """The same of the files of tables."""
    from bayeslmm.output import table_files

    check_files(out, table_files(names))


def finish(out: Path | None, write: Callable[[Path], list[Path]], show: Callable[[Console], None]) -> None:
    """Write files if there is a folder for them, show the results, and say what was written."""
    from bayeslmm.console import say, terminal

    # Files first: they are not lost if who reads the output closes it.
    paths = [] if out is None else write(out)
    console = terminal()
    show(console)
    if paths:
        say(console, f"Wrote to {out}: {', '.join(path.name for path in paths)}.")


def finish_tables(texts: Iterable[str], tables: Mapping[str, pd.DataFrame], out: Path | None) -> None:
    """Write tables, and print what they say."""
    from bayeslmm.console import show
    from bayeslmm.output import write_tables

    text = in_options("\n\n".join(texts))
    finish(out, lambda folder: write_tables(tables, folder), lambda console: show(console, text))


def use_files() -> None:
    """Figures go to files: no window system is asked for."""
    import matplotlib

    matplotlib.use("Agg")
