"""The HTML report: what its figures show is said, words are explained, nothing is hidden on a small screen."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

import bayeslmm as bl
from bayeslmm.output import write

NAME = "<i>Batch|_{0}_"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = bl.load_dataset("Dyestuff").rename(columns={"Batch": NAME})
    model = bl.Model(f"Yield ~ 1 + (1 | `{NAME}`)", data)
    folder: Path = tmp_path_factory.mktemp("report")
    write([("dyes", bl.compare(model.fit(), model.sample(100, random_seed=1)))], folder)
    return (folder / "report.html").read_text()


def test_every_figure_has_a_caption_that_names_what_it_is_of(page: str) -> None:
    captions = [html.unescape(text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", page)]
    assert captions == [html.unescape(text) for text in re.findall(r'<img alt="(.*?)"', page)]
    assert len(captions) == page.count("<figure>") == 4
    assert [NAME in text for text in captions] == [False, True, True, False]
    assert "<i>" not in page


def test_the_words_of_the_tables_are_explained(page: str) -> None:
    words, used = page.split("<h2>The words</h2>")[1], page.split("<h2>The words</h2>")[0]
    explained = re.findall(r"<dt>(.*?)</dt><dd>(.+?)</dd>", words)
    for word in ("ML", "REML", "penalised", "HDI", "delta"):
        assert word in used
        assert any(word in named for named, _ in explained)


def test_wide_tables_scroll_and_their_labels_stay(page: str) -> None:
    style = page.split("<style>")[1].split("</style>")[0]
    tables = re.search(r"^table \{(.*?)\}", style, re.DOTALL | re.MULTILINE)
    assert tables is not None and "overflow-x: auto" in tables[1] and "max-width: 100%" in tables[1]
    small = style.split("@media (max-width: 36rem)")[1]
    assert "position: sticky" in small
