"""The house keeps its layers, and the page that describes it is complete."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "bayeslmm").rglob("*.py"))
MAX_FUNCTION = 60
# A file is one subject; one that is longer is likely to hold two.
MAX_FILE = 450


def test_import_loads_nothing_heavy() -> None:
    heavy = ("pymc", "matplotlib", "numba", "pandas", "arviz")
    code = f"import sys, bayeslmm; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_fitting_loads_neither_pymc_nor_matplotlib() -> None:
    code = (
        "import sys, bayeslmm as bl; bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff')).fit();"
        "print([m for m in ('pymc', 'matplotlib', 'numba') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_layers() -> None:
    importlinter = pytest.importorskip("importlinter.cli")
    assert importlinter.lint_imports(config_filename=str(ROOT / "pyproject.toml"), is_debug_mode=False) == 0


def test_every_module_is_on_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [str(path.relative_to(ROOT)) for path in MODULES if f"`{path.relative_to(ROOT).as_posix()}`" not in page]
    assert not missing
    mapped = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `bayeslmm/")]
    assert [name for name in mapped if not (ROOT / name).exists()] == []


def test_public_names_resolve() -> None:
    import bayeslmm as bl

    for name in bl.__all__:
        assert getattr(bl, name) is not None
    assert callable(bl.compare), "the function, also after its package has been imported"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            lines = (node.end_lineno or 0) - node.lineno + 1 - docstring.count("\n") - 1
            assert lines <= MAX_FUNCTION, f"{path.name}:{node.name} has {lines} lines"


def test_the_list_of_long_tests_names_tests() -> None:
    for line in (ROOT / "tests" / "long.txt").read_text(encoding="utf-8").split():
        file, _, name = line.partition("::")
        assert (ROOT / file).is_file(), f"tests/long.txt: there is no {file}"
        assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"tests/long.txt: no {line}"
