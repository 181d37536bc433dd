"""Every notebook runs from top to bottom; its last cell asserts the numbers its text rests on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

CLEAN = """%reset -f
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
    sys.modules["matplotlib"].rcdefaults()
del sys
"""
ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@pytest.fixture(scope="module")
def client() -> Iterator[NotebookClient]:
    """One process for all notebooks: half of the time that a notebook takes is that of loading libraries."""
    empty, place = nbformat.v4.new_notebook(), {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(empty, timeout=600, kernel_name="python3", resources=place)
    with client.setup_kernel():
        yield client


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
# The kernel's own transport warns about event loops and sockets on some platforms.
@pytest.mark.filterwarnings("default")
def test_notebook_runs(path: Path, client: NotebookClient) -> None:
    notebook = nbformat.read(path, as_version=4)
    # No name is left of the notebook before, nor a setting of a figure.
    notebook.cells.insert(0, nbformat.v4.new_code_cell(CLEAN))
    client.nb = notebook
    client.reset_execution_trackers()
    for number, cell in enumerate(notebook.cells):
        client.execute_cell(cell, number)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_committed_executed_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    titles = [c.source for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("# ")]
    assert len(titles) == 1
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert "assert" in code[-1].source
    assert path.stat().st_size < 1_500_000
