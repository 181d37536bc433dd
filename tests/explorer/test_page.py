"""The page in a browser without a window: keys move sliders, and what follows is what the package says."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import bayeslmm as bl

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from browser import CHROMIUM, Browser, browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# Milliseconds of the processor in which a move is to be answered, with all that is drawn.
PROMISED_TIME = 150.0
PROMISED = 1e-6
RIGHT, LEFT = ("ArrowRight", 39), ("ArrowLeft", 37)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def opened(page: Browser, of: bl.Model | None, folder: Path, **size: int) -> None:
    page.errors.clear()
    page.open(bl.explore(of).write(folder / "explorer.html"), **size)
    assert page.errors == []


def number(page: Browser, element: str) -> float:
    return float(page.run(f"document.getElementById({element!r}).dataset.value"))


def own_data(page: Browser) -> pd.DataFrame:
    """The data as the page offers them for Python."""
    page.run("document.getElementById('take-away').open = true")
    page.press("groups", *RIGHT)
    page.press("groups", *LEFT)
    return pd.read_csv(io.StringIO(page.run("document.getElementById('csv').value")), dtype={"group": str})


def test_a_slider_changes_numbers_and_pictures_and_they_are_the_packages(page: Browser, tmp_path: Path) -> None:
    opened(page, None, tmp_path)
    pictures = ("data", "shrinkage", "profile", "density", "zero")
    drawn = {name: page.run(f"document.getElementById({name!r}).innerHTML") for name in pictures}
    before = number(page, "reml-level"), number(page, "median-level"), number(page, "chance")
    page.press("level", *RIGHT, times=6)
    assert number(page, "true-level") == pytest.approx(5.2)
    after = number(page, "reml-level"), number(page, "median-level"), number(page, "chance")
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert after[2] < before[2]
    assert [name for name in pictures if page.run(f"document.getElementById({name!r}).innerHTML") == drawn[name]] == []
    fit = bl.Model("y ~ 1 + (1 | group)", own_data(page)).fit()
    assert after[0] == pytest.approx(float(fit.estimates()["sd_group[Intercept]"]), rel=PROMISED)
    assert number(page, "reml-sigma") == pytest.approx(fit.sigma, rel=PROMISED)
    assert number(page, "criterion") == pytest.approx(fit.criterion, abs=PROMISED)
    assert page.errors == []


def test_reml_falls_onto_zero_and_the_posterior_does_not(page: Browser, tmp_path: Path) -> None:
    opened(page, bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")), tmp_path)
    words = page.run("document.getElementById('words').textContent")
    assert words.startswith("REML says zero")
    assert number(page, "reml-level") == 0.0
    assert number(page, "low-level") > 0.0
    shown = re.search(r"as likely above as below ([\d.]+)", words)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(number(page, "median-level"), rel=5e-3)


def processor_time(page: Browser) -> float:
    """Milliseconds that the page's thread has worked: the clock would count what else the machine has to do."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return 1e3 * next(m["value"] for m in metrics if m["name"] == "TaskDuration")


# A slider set to a share of its range, until the page has answered and laid out what it drew.
_MOVE = """(async () => {{ const e = document.getElementById({0!r}), moves = document.body.dataset.moves;
  e.value = +e.min + (+e.max - +e.min) * {1}; e.dispatchEvent(new Event("input", {{bubbles: true}}));
  while (document.body.dataset.moves === moves) await new Promise((done) => setTimeout(done, 1));
  document.body.getBoundingClientRect(); }})()"""


def test_every_slider_of_both_designs_is_answered_in_time(page: Browser, tmp_path: Path) -> None:
    opened(page, None, tmp_path)
    page.call("Performance.enable", timeDomain="threadTicks")
    times, moved = dict[tuple[str, str], list[float]](), dict[tuple[str, str], int]()
    for kind in ("levels", "slopes"):
        page.run(f"document.querySelector('input[name=kind][value={kind}]').click()")
        sliders = "[...document.querySelectorAll('input[type=range]')].filter((e) => e.checkVisibility())"
        for slider in page.run(f"{sliders}.map((e) => e.id)"):
            medians = set()
            for share in (0.0, 0.3, 0.6, 1.0, 0.5):
                before = processor_time(page)
                page.run(_MOVE.format(slider, share))
                times.setdefault((kind, slider), []).append(processor_time(page) - before)
                medians.add(number(page, "median-level"))
            moved[kind, slider] = len(medians)
    assert len(times) == 12
    assert min(moved.values()) > 3
    assert {key: worst for key, one in times.items() if (worst := max(one)) >= PROMISED_TIME} == {}
    assert page.errors == []


def test_all_digits_are_there_when_a_slider_rests(page: Browser, tmp_path: Path) -> None:
    opened(page, bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")), tmp_path)
    page.press("scale", *RIGHT)
    moving = number(page, "median-slope")
    look = "new Promise((d) => { const look = () => document.body.dataset.fine ? d() : setTimeout(look, 20); look(); })"
    page.run(look)
    resting = number(page, "median-slope")
    # While it moves, four digits are shown of a rule with fewer nodes.
    assert resting == pytest.approx(moving, rel=1e-3)
    page.run("delete document.body.dataset.fine; document.querySelector('#new-data').click()")
    page.run(look)
    assert number(page, "median-slope") == pytest.approx(resting, rel=1e-12), (
        "the data are the user's, whatever the seed"
    )
    assert number(page, "reml-slope") == pytest.approx(5.922, abs=5e-4), "of lme4"


@pytest.mark.parametrize("width", [1280, 800, 390])
def test_nothing_is_wider_than_the_screen(page: Browser, tmp_path: Path, width: int) -> None:
    opened(page, bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")), tmp_path, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width
    parts = "[...document.querySelectorAll('figure, fieldset, #words')]"
    assert page.run(f"{parts}.filter((e) => e.getBoundingClientRect().right > innerWidth).length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page: Browser, tmp_path: Path, scheme: str) -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened(page, bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")), tmp_path)
    colours = page.run(_COLOURS)
    assert len(colours) > 40
    assert [(text, ratio) for text, front, back in colours if (ratio := contrast(front, back)) < 4.5] == []


# Every element with text of its own: its words, its colour and the nearest background that is one.
_COLOURS = """[...document.querySelectorAll('body *')].filter((e) =>
  e.checkVisibility() && !e.closest('option, textarea') &&
  [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())).map((e) => {
    const style = getComputedStyle(e), behind = (n) => { for (; n; n = n.parentElement) {
      const c = getComputedStyle(n).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; };
    return [e.textContent.trim().slice(0, 40), e.closest('svg') ? style.fill : style.color, behind(e)]; })"""


def contrast(front: str, back: str) -> float:
    """Contrast ratio of WCAG 2 of two colours as browsers write them."""

    def luminance(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    a, b = sorted([luminance(front), luminance(back)])
    return (b + 0.05) / (a + 0.05)


def test_every_control_has_a_label_and_every_picture_words(page: Browser, tmp_path: Path) -> None:
    opened(page, None, tmp_path)
    unnamed = (
        "[...document.querySelectorAll('input, select, textarea')].filter((e) => !e.labels.length).map((e) => e.id)"
    )
    assert page.run(unnamed) == []
    pictures = "[...document.querySelectorAll('figure:not([hidden]) svg')].map((e) => e.getAttribute('aria-label'))"
    assert [words for words in page.run(pictures) if not words or len(words) < 30] == []


def test_names_from_the_data_are_text(page: Browser, tmp_path: Path) -> None:
    data = bl.load_dataset("Dyestuff2")
    data["Batch"] = data["Batch"].map(lambda b: f"</script><img src=x onerror=alert(1)>{b}")
    opened(page, bl.Model("Yield ~ 1 + (1 | Batch)", data), tmp_path)
    assert page.run("document.images.length") == 0


def test_a_notebook_shows_the_page_within_another(page: Browser, tmp_path: Path) -> None:
    outer = tmp_path / "notebook.html"
    outer.write_text(f"<!DOCTYPE html><body data-moves=1>{bl.explore()._repr_html_()}</body>", encoding="utf-8")
    page.open(outer)
    look = (
        "new Promise((done) => { const look = () => { const inner = document.querySelector('iframe').contentDocument; "
        "if (+(inner?.body?.dataset.moves || 0) > 0) done(inner.getElementById('reml-level').dataset.value); "
        "else setTimeout(look, 20); }; look(); })"
    )
    assert float(page.run(look)) > 0
