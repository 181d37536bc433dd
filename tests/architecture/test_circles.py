"""No file of the package needs itself, by whatever kind of import; no two classes have one name."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / "bayeslmm").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports: at its top, inside functions, and for types alone."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    # Importing a module runs its package too, but what is meant is the module.
    inner = {name.rpartition(".")[0] for name in names if name in known}
    return {name for name in names if name in known and name not in inner}


def test_no_import_circles() -> None:
    known = modules()
    # The front of the package names the homes of its public names, which are loaded when they are asked for.
    graph = {name: imported(path, known) - {name, "bayeslmm"} for name, path in known.items() if name != "bayeslmm"}
    assert len(graph) > 200
    assert sum(map(len, graph.values())) > 1000
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f"imports go round in a circle: {' -> '.join(error.args[1])}") from error
    assert set(order) == set(graph)


def test_class_names_are_used_once() -> None:
    homes = defaultdict(list)
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert len(homes) > 100
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
