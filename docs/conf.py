"""Sphinx configuration."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import bayeslmm as bl

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import figures  # noqa: E402
from class_pages import BRIEF  # noqa: E402

# Notebooks live at the top of the repository; the site shows copies.
target = HERE / "notebooks"
shutil.rmtree(target, ignore_errors=True)
target.mkdir()
for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
    shutil.copy(notebook, target / notebook.name)

# The page that explorer.md shows is made by the package, so that it is the one that users get.
bl.explore().write(HERE / "_static" / "explorer.html")

# The pictures of the gallery are made by the scripts that it shows.
figures.write(HERE / "gallery.md", HERE / "gallery")

project = "bayeslmm"
author = "bayeslmm developers"
release = "0.1.0"
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "class_pages",
    "sphinx-mathjax-offline",  # formulas are readable without a network
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "generated/.*"]
html_theme = "pydata_sphinx_theme"
html_title = "bayeslmm"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "header_links_before_dropdown": 6}
html_sidebars = {"index": []}
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
autosummary_generate = True
autosummary_context = {"brief": BRIEF}
autodoc_typehints = "none"
default_role = "py:obj"  # `fit` in a docstring is a link, where there is such a name
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_attributes_as_param_list = False
numpydoc_class_members_toctree = False

suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]


def thumbnails(app: Any, docname: str, source: list[str]) -> None:
    """The figures of the gallery in small, on top of its page."""
    if docname == "gallery":
        source[0] = figures.with_thumbnails(source[0])


def accessible(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Tables of notebooks scroll by the keyboard; headings without words are none; arrows in sidebars have names."""
    if "body" in context:
        body = re.sub(
            r'(<table(?: border="\d")?) class="dataframe"', r'\1 tabindex="0" class="dataframe"', context["body"]
        )
        context["body"] = re.sub(r"<th(?: [^>]*)?>(?:\s|<p></p>)*</th>", "<td></td>", body)
    if "generate_toctree_html" in context:
        sidebar = context["generate_toctree_html"]

        def named(*args: Any, **options: Any) -> str:
            return str(sidebar(*args, **options)).replace("<summary>", '<summary aria-label="Pages within">')

        context["generate_toctree_html"] = named


def setup(app: Any) -> None:
    app.connect("source-read", thumbnails)
    # After the theme, whose sidebar it takes.
    app.connect("html-page-context", accessible, priority=900)
