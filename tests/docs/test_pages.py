"""The examples of the documentation print what the pages say."""

from __future__ import annotations

import ast
import doctest
import inspect
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
    ("sums.md", 8),
    ("large_crossed.md", 14),
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


def listed() -> list[str]:
    """What the summaries of the API page name, `load` and `Model.fit` alike."""
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    return re.findall(r"^   ~?([A-Za-z][\w.]*)$", page, flags=re.MULTILINE)


def internal(owner: type) -> bool:
    """Whether its methods are what the package itself calls: of structures, priors and designs."""
    return owner.__module__.startswith(("bayeslmm.design", "bayeslmm.bayes", "bayeslmm.likelihood"))


def members(owner: type) -> set[str]:
    """Public methods and properties, without those of Python's own classes that it inherits from."""
    given = {name for base in owner.__mro__ if not base.__module__.startswith("bayeslmm") for name in dir(base)}
    return {name for name in dir(owner) if not name.startswith("_")} - given


def results() -> list[type]:
    """Public classes of which users call methods; a cell of the coverage study has none for them."""
    public = [getattr(bl, name) for name in bl.__all__ if name != "Cell"]
    classes = [owner for owner in public if inspect.isclass(owner) and not issubclass(owner, Exception)]
    return [owner for owner in classes if not internal(owner)]


def test_every_public_name_is_on_the_api_page() -> None:
    assert sorted(name for name in listed() if "." not in name) == sorted(bl.__all__)


@pytest.mark.parametrize("owner", results(), ids=lambda owner: owner.__name__)
def test_every_method_of_a_result_is_on_the_api_page(owner: type) -> None:
    named = {name.partition(".")[2] for name in listed() if name.startswith(f"{owner.__name__}.")}
    assert named == members(owner)


def test_what_calls_return_is_on_the_api_page() -> None:
    """Every class of the package that the annotation of a public call names as its result."""
    classes = {
        node.name
        for path in (DOCS.parent / "bayeslmm").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    calls = [getattr(bl, name) for name in bl.__all__ if not inspect.isclass(getattr(bl, name))]
    calls += [inspect.getattr_static(owner, name) for owner in results() for name in members(owner)]
    functions = [getattr(call, "fget", None) or getattr(call, "func", call) for call in calls]
    returned = [str(getattr(function, "__annotations__", {}).get("return", "")) for function in functions]
    found = {word for text in returned for word in re.findall(r"\w+", text)} & classes
    assert len(found) > 30
    assert found - {name.rpartition(".")[2] for name in listed()} == set()


def test_the_methods_that_the_api_page_names_exist() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    owners = {"model": bl.Model, "fit": bl.REMLResult, "post": bl.Posterior, "both": bl.Comparison}
    named = re.findall(r"`(model|fit|post|both)\.(\w+)`", page)
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


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("anova", "testing.md"),
        ("p-value", "testing.md"),
        ("residual plot", "diagnostics.md"),
        ("tukey", "means.md"),
        ("missing", "model.md"),
        ("icc", "fitting.md"),
        ("singular fit", "boundary.md"),
        ("weights", "model.md"),
    ],
)
def test_a_word_that_people_search_for_is_an_entry_of_its_page(word: str, name: str) -> None:
    """By Sphinx's rule: an entry comes first that holds the word and is at most twice as long."""
    page = (DOCS / name).read_text(encoding="utf-8")
    entries = ", ".join(re.findall(r"^```{index} (.*)$", page, flags=re.MULTILINE)).lower().split(", ")
    assert any(entry.startswith("! ") and word in entry and len(entry[2:]) <= 2 * len(word) for entry in entries)
