"""bl.report: fits, posteriors and comparisons on one page that needs no other file."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bayeslmm as bl


class Reader(HTMLParser):
    """What a page holds: its texts, images, and what it would fetch; tags have to be balanced."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.text, self.images, self.fetched, self.open = [], [], [], list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        own = dict(attrs)
        if tag == "img":
            self.images.append(own)
        self.fetched += [v for k, v in own.items() if k in ("src", "href") and not str(v).startswith(("data:", "#"))]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open and not [v for v in reader.fetched if not str(v).startswith("http")]
    return reader


@pytest.fixture(scope="module")
def model() -> bl.Model:
    data = bl.load_dataset("sleepstudy").iloc[:60].rename(columns={"Subject": "a <b> & c"})
    return bl.Model("Reaction ~ Days + (1 | `a <b> & c`)", data)


def captions(page: Path) -> list[str]:
    return [html.unescape(found) for found in re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text())]


def test_a_comparison_has_both_engines_and_all_figures(model: bl.Model, tmp_path: Path) -> None:
    both = bl.compare(model.fit(), model.sample(300, random_seed=1))
    page = bl.report(both, tmp_path / "new" / "both.html")
    reader = read(page)
    assert page == tmp_path / "new" / "both.html" and [*page.parent.iterdir()] == [page]
    words = " ".join(" ".join(reader.text).split())
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", words)]
    for wanted in (*model.fit().fixef(), *both.posterior.table()["mean"]):
        assert any(abs(number - wanted) <= 2e-3 * abs(wanted) for number in printed)
    assert all(text in words for text in ("REML fit", "Posterior", "The boundary", "HDI", "a <b> & c"))
    kinds = ("Every standard deviation", "down to zero", "Levels of", "Residuals", "Every level of")
    assert len(captions(page)) == 5 and all(any(kind in one for one in captions(page)) for kind in kinds)
    assert [image["alt"] for image in reader.images] == captions(page)


def test_a_fit_a_posterior_and_several(model: bl.Model, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("bayeslmm.one_page.drawings", lambda design: [("variance",)])
    fit, post = model.fit(reml=False), model.sample(300, random_seed=1)
    page = bl.report({"by <ML>": fit, "of the posterior": post}, str(tmp_path / "two.htm"))
    text = page.read_text()
    assert re.findall("<h2>(.*?)</h2>", text) == ["by &lt;ML&gt;", "of the posterior", "The words"]
    assert "Maximum-likelihood fit" in text and "<h3>REML fit" not in text and len(captions(page)) == 5
    read(page)


def test_a_figure_that_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    page = bl.report(fit, tmp_path / "a.html")
    assert "Not drawn: Every level of Batch" in page.read_text() and "no number for lines" in page.read_text()


def test_places_are_looked_at_before_the_work(model: bl.Model, tmp_path: Path, monkeypatch: Any) -> None:
    fit = model.fit()
    there = tmp_path / "there.html"
    there.write_text("old")
    monkeypatch.setattr("bayeslmm.one_page._section", lambda *_: pytest.fail("drawn before the place was looked at"))
    with pytest.raises(bl.StorageError, match=r"there\.html"):
        bl.report(fit, there, overwrite=False)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(bl.StorageError, match="folder"):
        bl.report(fit, tmp_path / "folder.html")
    with pytest.raises(bl.StorageError):
        bl.report(fit, there / "deep" / "x.html")
    assert there.read_text() == "old"


@pytest.mark.parametrize(
    ("of", "path", "said"),
    [
        (3, "a.html", "got 3, of type int"),
        ({}, "a.html", "empty mapping"),
        ({"a": pd.DataFrame()}, "a.html", "DataFrame"),
        (None, "a.html", "NoneType"),
        ("fit", "a.pdf", "does not end in .html"),
        ("fit", None, "no path"),
        ("fit", "folder", "does not end in .html"),
    ],
)
def test_wrong_arguments(model: bl.Model, of: Any, path: Any, said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bl.ArgumentError, match=said):
        bl.report(model.fit() if of == "fit" else of, path)
