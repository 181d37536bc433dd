"""The page of what works without rows says what happens."""

from __future__ import annotations

import re
from pathlib import Path

from .members import NOT_TRIED, members, needs_rows

PAGE = Path(__file__).parents[2] / "docs" / "scale_rows.md"


def listed(heading: str) -> set[str]:
    """Members named under a heading, as ``Class.name``."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = set()
    for line in section.splitlines():
        if row := re.fullmatch(r"\| `(\w+)` \| (.*) \|", line):
            found |= {f"{row[1]}.{name}" for name in re.findall(r"`(\w+)`", row[2])}
    return found


def test_every_member_is_where_it_belongs() -> None:
    without, reading = listed("Without rows"), listed("Rows are read again")
    tried = [member for member in members() if member not in NOT_TRIED]
    assert without | reading == set(tried)
    assert not without & reading
    assert {member for member in tried if needs_rows(member)} == reading
