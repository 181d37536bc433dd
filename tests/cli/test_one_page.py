"""bl.report: fits, posteriors and comparisons on one page that needs no other file."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.report_parts import how_to_repeat


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
    few = [("variance",), ("residuals",)]
    monkeypatch.setattr("bayeslmm.report_figures.drawings", lambda _, fitted: few[: 1 + fitted])
    fit, post = model.fit(reml=False), model.sample(300, random_seed=1)
    page = bl.report({"by <ML>": fit, "of the posterior": post}, str(tmp_path / "two.htm"))
    text = page.read_text()
    assert re.findall("<h2>(.*?)</h2>", text) == ["by &lt;ML&gt;", "of the posterior", "The words"]
    assert "Maximum-likelihood fit" in text and "<h3>REML fit" not in text and len(captions(page)) == 3
    read(page)


def test_contents_lead_to_every_part_and_calls_repeat_the_fit(
    model: bl.Model, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("bayeslmm.report_figures.drawings", lambda *_: [("variance",)])
    fit = model.fit()
    text = bl.report(fit, tmp_path / "a.html", question="Does <sleep> matter?").read_text()
    places = re.findall(r'href="#([\w-]+)"', text)
    assert len(places) == len(set(places)) == text.count("<h3>") + text.count("<h2>") - 1
    assert all(text.count(f'id="{place}"') == 1 for place in places)
    assert "Does &lt;sleep&gt; matter?" in text and "prefers-color-scheme: dark" in text and "@media print" in text
    calls = [html.unescape(one) for one in re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)]
    run = next(call for call in calls if call.startswith("import bayeslmm"))
    # What the page says gives the fit that it shows.
    known: dict[str, Any] = {"data": bl.load_dataset("sleepstudy").iloc[:60].rename(columns={"Subject": "a <b> & c"})}
    exec(run, known)
    assert known["fit"].criterion == fit.criterion
    assert any("lmer(" in call for call in calls) and any("lme(" in call for call in calls)
    assert f"bayeslmm {bl.__version__}" in text


def test_names_levels_and_headings_from_outside_are_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    group, x, factor = '<b>g</b> & "h"', "x &amp; <script>alert(1)</script>", "f & k"
    levels = [f"<script>alert({k})</script>" for k in range(6)]
    data = pd.DataFrame({group: np.repeat(levels, 8), x: rng.normal(size=48), factor: ["a & b", "<img src=x>"] * 24})
    data["y<br>"] = data[x] + np.repeat(rng.normal(size=6), 8) + rng.normal(size=48)
    fit = bl.Model(f"`y<br>` ~ `{x}` + `{factor}` + (`{x}` | `{group}`)", data).fit()
    page = bl.report({"<h1>data & co": fit}, tmp_path / "a.html", question="<script>alert(2)</script>?", means=factor)
    reader = read(page)
    assert not re.search(r"<(script|b>g|img src=x|br|h1>data)|&amp; <", page.read_text())
    assert not any(image.get("src") == "x" for image in reader.images)
    words = "".join(reader.text)
    assert all(name in words for name in (group, x, "<img src=x>", "<h1>data & co", "<script>alert(2)</script>?"))
    # Lines run along the number whose name holds signs.
    assert any(f"Every level of {group}" in one for one in captions(page))


def test_markdown_and_latex(tmp_path: Path) -> None:
    oats = bl.Model("yield ~ nitro + Variety + (1 | Block)", bl.load_dataset("oats"))
    fit = oats.fit()
    words = bl.report(fit, tmp_path / "a.md", question="Which variety?", means="Variety").read_text()
    assert words.startswith("# A linear mixed model\n\nWhich variety?")
    table = [line for line in words.splitlines() if line.startswith("| nitro |")]
    assert len(table) == 1 and float(table[0].split("|")[2]) == pytest.approx(fit.fixef()["nitro"], abs=1e-3)
    # The mean of a level is the prediction at the average dose.
    at = pd.DataFrame({"nitro": [0.3], "Variety": ["Marvellous"], "Block": ["I"]})
    assert f"{float(fit.predict(at, random=None).iloc[0, 0]):.2f}" in words
    rows = bl.report(fit, tmp_path / "a.tex").read_text()
    assert rows.count(r"\begin{tabular}") == rows.count(r"\end{tabular}") == 3
    # A table of LaTeX has as many cells in every row as columns were announced.
    for columns, body in re.findall(r"\\begin\{tabular\}\{(l+)\}(.*?)\\end", rows, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}
    with pytest.raises(bl.BayesLMMError, match="variety"):
        bl.report(fit, tmp_path / "b.html", means="variety")


@pytest.mark.parametrize("engine", ["fit", "posterior", "both"])
def test_markdown_shows_names_as_they_are(engine: str, tmp_path: Path) -> None:
    """By a reader of Markdown that is not ours: no name becomes emphasis, HTML or a link, wherever it stands."""
    commonmark = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    rng = np.random.default_rng(1)
    arm, group, response = "a_b*c_d*e", "[g](x) _h_", "y*1* <i>"
    data = pd.DataFrame({arm: np.tile(["A <b>", "B &amp; *C*"], 30), group: np.repeat(list("uvwxyz"), 10)})
    data[response] = rng.normal(size=60) + np.repeat(rng.normal(size=6), 10)
    model = bl.Model(f"`{response}` ~ `{arm}` + (1 | `{group}`)", data)
    fit = model.fit()
    post = model.sample(500, random_seed=1)
    of = {"fit": fit, "posterior": post, "both": bl.compare(fit, post)}[engine]
    text = bl.report({"A *b* <u>": of}, tmp_path / "a.md", question="Is *it* <so>?", means=arm).read_text()
    # Equations are no Markdown.
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    tokens = [child for token in commonmark.parse(text) for child in (token, *(token.children or []))]
    markup = {"em_open", "html_inline", "html_block", "link_open", "code_inline"}
    assert not markup & {token.type for token in tokens}
    plain = ["".join(c.content for c in t.children or []) for t in tokens if t.type == "inline"]
    assert "A *b* <u>" in plain and "Is *it* <so>?" in plain and f"Means of {arm}" in plain
    assert any(response in one and "was observed 60 times" in one for one in plain)
    assert engine == "posterior" or any("B &amp; *C*" in one and "A <b>" in one for one in plain)


def test_a_figure_that_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).fit()
    page = bl.report(fit, tmp_path / "a.html")
    assert "Not drawn: Every level of Batch" in page.read_text() and "no number for lines" in page.read_text()


def test_places_are_looked_at_before_the_work(model: bl.Model, tmp_path: Path, monkeypatch: Any) -> None:
    fit = model.fit()
    there = tmp_path / "there.html"
    there.write_text("old")
    monkeypatch.setattr("bayeslmm.one_page._parts", lambda *_: pytest.fail("drawn before the place was looked at"))
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


@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("distance ~ age", {"residual": "by(Sex) + cs(Subject)"}),
        ("distance ~ age", {"residual": "independent"}),
        ("distance ~ age + (1 | Subject)", {"weights": "age"}),
        ("distance ~ age + (1 | Subject)", {"residual_sd": "age"}),
    ],
)
def test_calls_have_what_is_known_of_the_residuals(formula: str, options: dict[str, str]) -> None:
    data = bl.load_dataset("Orthodont")
    fit = bl.Model(formula, data, **options).fit()
    known: dict[str, Any] = {"data": data}
    exec(how_to_repeat(fit).text.split("```")[1], known)
    assert known["fit"].criterion == fit.criterion


def test_calls_have_the_seed_of_the_draws_and_say_that_priors_were_given() -> None:
    model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    post = model.sample(400, random_seed=7)
    known: dict[str, Any] = {"data": bl.load_dataset("Dyestuff")}
    exec(how_to_repeat(post).text.split("```")[1].strip().removeprefix("python"), known)
    np.testing.assert_array_equal(known["post"].data["posterior"]["sigma"], post.data["posterior"]["sigma"])
    others = model.sample(400, random_seed=np.random.default_rng(7), priors={"sigma": bl.HalfCauchy(30)})
    assert "random_seed=..., priors=...)" in how_to_repeat(others).text
