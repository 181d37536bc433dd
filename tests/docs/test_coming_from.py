"""The pages for people who come from another package: blocks run, calls named there work, numbers are those of both.

`peers/` holds what the packages say, written by the scripts beside it; of SAS and MATLAB what others published.
"""

from __future__ import annotations

import doctest
import gzip
import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
NAMES, NUMBERS, DEFAULTS = "Names side by side", "The same data by both", "What differs"
Page = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module", params=sorted((DOCS / "coming-from").glob("*.md")), ids=lambda path: path.stem)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Text of a page, and the names that its blocks define; they run in a folder with the data of R's mmrm."""
    text = request.param.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, request.param.stem, str(request.param), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said = list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp(request.param.stem))
        _trial().to_csv("fev_data.csv", index=False)
        failed = runner.run(test, out=said.append, clear_globs=False).failed
        assert len(test.examples) >= 4
        assert failed == 0, "".join(said)
        yield text, test.globs


def _trial() -> pd.DataFrame:
    stored = json.loads(gzip.decompress((HERE.parent / "reference" / "residual_cases.json.gz").read_bytes()))
    return pd.DataFrame({name: column["values"] for name, column in stored["data"]["fev"].items()})


def _section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _tables(text: str) -> list[list[list[str]]]:
    """Rows of every table, cell by cell, the line of column names first."""
    tables, before = list[list[list[str]]](), ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            if set(line) - set("|-: "):
                tables[-1].append([cell.strip().replace(r"\|", "|") for cell in cells])
        before = line
    return tables


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_what_differs_stands_first(page: Page) -> None:
    headings = re.findall(r"^## (.*)$", page[0], flags=re.MULTILINE)
    assert headings[:3] == [DEFAULTS, NAMES, NUMBERS]


def test_every_call_named_here_works(page: Page) -> None:
    text, names = page
    (head, *rows), *_ = _tables(_section(text, NAMES))
    assert head[-1] == "here"
    assert len(rows) >= 12
    calls = [call for row in rows for call in _code(row[-1])]
    assert len(calls) >= len(rows)
    for call in calls:
        _value(call, names)
        plt.close("all")


def _value(call: str, names: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(call, names)


def _shown(value: float, like: str) -> str:
    """A number with the digits that another one is shown with."""
    mantissa, _, exponent = like.partition("e")
    text = f"{value:.{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}}"
    return re.sub(r"e([+-])0(?=\d)", r"e\1", text)


def test_numbers_are_those_of_both(page: Page) -> None:
    text, names = page
    tables = _tables(_section(text, NUMBERS))
    assert tables
    for (_, package, *_), *rows in tables:
        known = _known(package)
        for label, theirs, ours, call, *_ in rows:
            name, _, why = label.partition("<br>")
            value = float(_value(_code(call)[0], names))
            number, _, error = theirs.partition(" ± ")
            # The last digit of a mean of draws is that of a processor.
            last = 10.0 ** -len(ours.partition(".")[2])
            assert ours == _shown(value, ours) or (error and abs(float(ours) - value) < last), name
            assert number == _shown(known[name]["value"], number), name
            if error:
                _agree_as_draws(value, known[name])
            else:
                # Another default gives another number, and then the page says which.
                assert theirs == ours or len(why) > 10, name


def _known(package: str) -> dict[str, dict[str, float]]:
    """Numbers of a package by their labels; its version stands over the column."""
    for path in (HERE / "peers").glob("*.json"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["package"].startswith(package):
            rows = {row["variable"]: row | {"value": row["mean"]} for row in stored.get("rows", [])}
            numbers = stored.get("numbers", {"elpd_loo": stored.get("loo", {}).get("estimate")})
            return rows | {name: {"value": float(value)} for name, value in numbers.items()}
    raise AssertionError(f"no numbers of {package}")


def _agree_as_draws(value: float, known: dict[str, float]) -> None:
    """Means by two samplers: within four standard errors, here those of 20,000 draws with half the efficiency."""
    error = math.hypot(known["mcse_mean"], known["sd"] / math.sqrt(10_000))
    assert abs(value - known["value"]) < 4 * error
