"""The examples of the documentation print what the pages say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import bayeslmm as bl

DOCS = Path(__file__).parents[2] / "docs"


PAGES = [
    ("start.md", 3),
    ("method.md", 16),
    ("teaching.md", 16),
    ("fitting.md", 20),
    ("residual-structures.md", 15),
    ("testing.md", 10),
    ("means.md", 16),
    ("diagnostics.md", 14),
    ("posterior.md", 25),
    ("predict.md", 22),
    ("meta-analysis.md", 14),
    ("power.md", 18),
    ("checks.md", 25),
    ("calibration.md", 4),
    ("boundary.md", 14),
    ("coverage.md", 8),
    ("coming-from.md", 10),
    ("explorer.md", 8),
    ("faq.md", 60),
    ("limitations.md", 25),
]


@pytest.mark.parametrize(("name", "least"), [*PAGES, ("../README.md", 6)])
def test_examples_run(name: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    page = DOCS / name
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, page.name, str(page), 0)
    assert len(test.examples) >= least
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    result = runner.run(test)
    assert result.failed == 0, capsys.readouterr().out


def test_every_public_name_is_on_the_api_page() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8").splitlines()
    listed = [line.strip() for line in page if line.startswith("   ") and not line.strip().startswith(":")]
    assert sorted(listed) == sorted(bl.__all__)


def test_the_methods_that_the_api_page_names_exist() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    owners = {"model": bl.Model, "fit": bl.REMLResult, "post": bl.Posterior}
    named = re.findall(r"`(model|fit|post)\.(\w+)`", page)
    assert len(named) > 30
    fields = set(bl.Posterior.__dataclass_fields__)
    assert [f"{who}.{what}" for who, what in named if not hasattr(owners[who], what) and what not in fields] == []


def test_the_lines_of_the_method_are_those_of_the_code() -> None:
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| \$.*\$.* \| `(.*)` \|$", page, flags=re.MULTILINE)
    code = (DOCS.parent / "bayeslmm" / "teaching" / "criterion.py").read_text(encoding="utf-8")
    body = [line.strip() for line in code.partition('check_dense("The')[2].splitlines()[1:]]
    assert len(lines) == 9
    assert [line for line in body if line] == lines
