"""Every notebook runs from top to bottom; its last cell asserts the numbers its text rests on."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# Each in a kernel of its own, as a reader runs it.
ALONE = ("01", "07", "08")
# One after the other in one kernel, emptied between them: the imports are most of what a short notebook costs.
TOGETHER = ("02-03-04-05", "06-09-10", "11-12-13")
EMPTY = "import matplotlib.pyplot as plt\nplt.close('all')\n%reset -f"


def solutions(notebook: nbformat.NotebookNode) -> list[str]:
    """Code of the folded solutions of the exercises."""
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", text, flags=re.S)
    return [code for part in folded for code in re.findall(r"```python\n(.*?)```", part, flags=re.S)]


def run(names: tuple[str, ...]) -> None:
    """Execute notebooks and their solutions from top to bottom in one fresh kernel."""
    from nbclient import NotebookClient

    cells = []
    for name in names:
        notebook = nbformat.read(NOTEBOOKS[name], as_version=4)
        code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
        cells += [nbformat.v4.new_code_cell(part) for part in [*code, *solutions(notebook), EMPTY]]
    whole = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(whole, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}}).execute()


def test_every_notebook_is_run_once() -> None:
    assert sorted([*ALONE, *"-".join(TOGETHER).split("-")]) == list(NOTEBOOKS)
    assert list(NOTEBOOKS) == [f"{number:02d}" for number in range(1, 14)]


@pytest.mark.notebook
@pytest.mark.parametrize("name", ALONE)
# The kernel's own transport warns about event loops and sockets on some platforms.
@pytest.mark.filterwarnings("default")
def test_notebook_runs(name: str) -> None:
    run((name,))


@pytest.mark.notebook
@pytest.mark.parametrize("names", TOGETHER)
@pytest.mark.filterwarnings("default")
def test_further_notebooks_run(names: str) -> None:
    run(tuple(names.split("-")))


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
