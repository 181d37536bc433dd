"""Check pages with axe-core in headless Chromium: at the width of a desk and of a phone, light and dark.

Without pages it checks one of every kind that the project makes: reports, the explorer, and pages of the documentation
(`make accessibility` builds these first).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from browser import CHROMIUM, Browser, browser

ROOT = Path(__file__).parents[1]
WIDTHS, SCHEMES = (1280, 390), ("light", "dark")
# The wheel that has the newest axe.min.js; what else it holds is not used.
WHEEL = "axe-playwright-python"
DOCS = [
    *("index", "start", "overview", "posterior", "boundary", "explorer", "residual-structures", "api"),
    *("gallery", "faq", "coming-from/lme4", "limitations", "benchmarks", "guides"),
    *("generated/bayeslmm.Posterior", "notebooks/02_a_variance_of_zero", "notebooks/06_shrinkage", "search"),
]
_LOADED = "document.readyState === 'complete'"
# Where a page animates what it shows, colours are those of the moment: nothing moves while they are looked at.
_AT_REST = """new Promise((done) => { document.head.append(Object.assign(document.createElement('style'),
  {textContent: '* { transition: none !important; animation: none !important; }'})); setTimeout(done, 500); })"""
_RUN = "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"


def axe_source(folder: Path) -> str:
    """The text of axe.min.js, out of a wheel from the package index."""
    line = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d"]
    subprocess.run([*line, str(folder), WHEEL], check=True)
    wheel = next(folder.glob("*.whl"))
    return zipfile.ZipFile(wheel).read("axe_playwright_python/axe.min.js").decode()


def violations(page: Browser, path: Path, width: int, scheme: str) -> list[dict[str, Any]]:
    """What axe-core finds on a page of that width, in that colour scheme."""
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(path, width=width, ready=_LOADED)
    found = []
    # Scripts of a page may still be at work when it has been loaded.
    for _ in range(3):
        page.run(_AT_REST)
        if not (found := list(page.run(_RUN))):
            break
    return found


def check(pages: list[Path], axe: str, folder: Path) -> int:
    """Print the violations of every page; how many there are."""
    count = 0
    with browser(folder) as chromium:
        # Frames within pages are looked at, too.
        chromium.call("Page.addScriptToEvaluateOnNewDocument", source=axe)
        for path in pages:
            rules = dict[str, Rule]()
            for width, scheme in product(WIDTHS, SCHEMES):
                for found in violations(chromium, path.resolve(), width, scheme):
                    rules.setdefault(found["id"], Rule(found)).add(found, f"{width} px {scheme}")
            count += len(rules)
            print(f"{path}: {len(rules) or 'no'} violation{'s' * (len(rules) != 1)}")
            print(
                *(line for rule in rules.values() for line in rule.lines()),
                sep="\n",
                end="\n" * bool(rules),
                flush=True,
            )
    return count


class Rule:
    """A rule that a page violates: where, and which elements."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.title = f"{found['id']} ({found['impact']}): {found['help']}"
        self.places, self.elements = list[str](), dict[str, str]()

    def add(self, found: dict[str, Any], place: str) -> None:
        self.places.append(place)
        for node in found["nodes"]:
            self.elements.setdefault(" ".join(map(str, node["target"])), " ".join(node["failureSummary"].split()))

    def lines(self, most: int = 5) -> Iterator[str]:
        yield f"  {self.title}, at {', '.join(self.places)}"
        for element, summary in list(self.elements.items())[:most]:
            yield f"    {element}\n      {summary}"
        if len(self.elements) > most:
            yield f"    and {len(self.elements) - most} more"


def own_pages(folder: Path) -> list[Path]:
    """One page of every kind that the package writes."""
    import bayeslmm as bl

    def model(formula: str, name: str, **options: str) -> bl.Model:
        return bl.Model(formula, bl.load_dataset(name), **options)

    sleep = model("Reaction ~ Days + (Days | Subject)", "sleepstudy")
    posts = [sleep.sample(1000, priors=priors, random_seed=1) for priors in ("default", "pc")]
    reported = {
        "regular": sleep.fit(),
        "singular": model("Yield ~ 1 + (1 | Batch)", "Dyestuff2").fit(),
        "residual": model("distance ~ age", "Orthodont", residual="by(Sex) + cs(Subject)").fit(),
        "meta": model("yi ~ 1 + (1 | trial)", "bcg", residual_sd="sei").fit(),
        "several": bl.compare(sleep.fit(), *posts),
    }
    pages = [bl.report(of, folder / f"{name}.html", question="What differs?") for name, of in reported.items()]
    means = model("yield ~ nitro + Variety + (1 | Block)", "oats").fit()
    pages.append(bl.report(means, folder / "means.html", means="Variety"))
    demo = [sys.executable, "-m", "bayeslmm", "demo", "--out", str(folder)]
    subprocess.run(demo, check=True, stdout=subprocess.DEVNULL)
    return [*pages, folder / "report.html", bl.explore().write(folder / "explorer.html")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path, help="HTML files; by default those of the project")
    parser.add_argument("--axe", type=Path, help=f"axe.min.js; by default it is fetched, in the wheel {WHEEL}")
    options = parser.parse_args()
    if CHROMIUM is None:
        parser.error("no Chromium on the PATH: install chromium, or google-chrome.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        axe = axe_source(folder) if options.axe is None else options.axe.read_text(encoding="utf-8")
        html = ROOT / "docs" / "_build" / "html"
        pages = options.pages or [*own_pages(folder), *(html / f"{page}.html" for page in DOCS)]
        return int(check(pages, axe, folder) > 0)


if __name__ == "__main__":
    sys.exit(main())
