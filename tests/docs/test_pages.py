"""The examples of the documentation print what the pages say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


PAGES = [("teaching.md", 16), ("fitting.md", 20), ("posterior.md", 25), ("predict.md", 20), ("checks.md", 25)]


@pytest.mark.parametrize(("name", "least"), PAGES)
def test_examples_run(name: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / name
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, page.name, str(page), 0)
    assert len(test.examples) >= least
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    result = runner.run(test)
    assert result.failed == 0, capsys.readouterr().out
