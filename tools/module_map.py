"""Write the module map of docs/architecture.md from the first lines of the modules' docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = "| module | what it holds |\n|---|---|\n"


def main() -> None:
    """Replace the rows of the table."""
    page = ROOT / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    start = text.index(HEAD) + len(HEAD)
    end = start
    for line in text[start:].splitlines(keepends=True):
        if not line.startswith("|"):
            break
        end += len(line)
    rows = []
    for path in sorted((ROOT / "bayeslmm").rglob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        rows.append(f"| `{path.relative_to(ROOT).as_posix()}` | {doc.splitlines()[0].rstrip('.')} |\n")
    page.write_text(text[:start] + "".join(rows) + text[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
