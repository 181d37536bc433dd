"""Every notebook runs from top to bottom; its last cell asserts the numbers its text rests on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

# No name is left of the notebook before, nor a setting of a figure.
CLEAN = """%reset -f
import sys
if "matplotlib.pyplot" in sys.modules:
    sys.modules["matplotlib.pyplot"].close("all")
    sys.modules["matplotlib"].rcdefaults()
del sys
"""
ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# What `make test` runs; the others are evidence.
QUICK = ("01", "07", "08")


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """Code of the folded solutions of the exercises."""
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", text, flags=re.S)
    return [code for part in folded for code in re.findall(r"```python\n(.*?)```", part, flags=re.S)]


@pytest.fixture(scope="module")
def client() -> Iterator[NotebookClient]:
    """One process for all notebooks: half of the time that a notebook takes is that of loading libraries."""
    empty, place = nbformat.v4.new_notebook(), {"metadata": {"path": str(ROOT)}}
    client = NotebookClient(empty, timeout=600, kernel_name="python3", resources=place)
    with client.setup_kernel():
        yield client


def run(name: str, client: NotebookClient) -> None:
    """Execute the cells of a notebook and then the solutions of its exercises."""
    notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(CLEAN))
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in solutions(notebook)]
    client.nb = notebook
    client.reset_execution_trackers()
    for number, cell in enumerate(notebook.cells):
        client.execute_cell(cell, number)


def test_there_are_thirteen_notebooks() -> None:
    assert list(NOTEBOOKS) == [f"{number:02d}" for number in range(1, 14)]


@pytest.mark.notebook
@pytest.mark.parametrize("name", QUICK)
# The kernel's own transport warns about event loops and sockets on some platforms.
@pytest.mark.filterwarnings("default")
def test_notebook_runs(name: str, client: NotebookClient) -> None:
    run(name, client)


@pytest.mark.notebook
@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name not in QUICK])
@pytest.mark.filterwarnings("default")
def test_further_notebooks_run(name: str, client: NotebookClient) -> None:
    run(name, client)


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=lambda p: p.stem)
def test_notebook_is_committed_executed_and_small(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    titles = [c.source for c in notebook.cells if c.cell_type == "markdown" and c.source.startswith("# ")]
    assert len(titles) == 1
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code)
    assert not [o for c in code for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert path.stat().st_size < 1_500_000


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=lambda p: p.stem)
def test_notebook_ends_in_exercises_and_a_folded_cell_of_checks(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    exercises, checks = notebook.cells[-2:]
    assert "## Exercises" in exercises.source
    asked = exercises.source.partition("## Exercises")[2]
    assert len(re.findall(r"^\d\. ", asked, flags=re.M)) == asked.count("<details><summary>Solution</summary>\n\n") >= 3
    assert asked.count("\n\n</details>") == asked.count("<details>") == len(solutions(notebook))
    assert "assert" in checks.source and "# the exercises" in checks.source
    assert "hide-cell" in checks.metadata.tags and checks.metadata.jupyter.source_hidden


def test_notebooks_are_in_the_docs() -> None:
    page = (ROOT / "docs" / "learn.md").read_text(encoding="utf-8")
    names = [path.stem for path in NOTEBOOKS.values()]
    assert re.findall(r"^notebooks/(\S+)$", page, flags=re.M) == names
    assert re.findall(r"^\| \[\d\d\]\(notebooks/(\S+)\.ipynb\)", page, flags=re.M) == names
