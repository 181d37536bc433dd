"""A page that needs no other file: its style, pictures inside, and what the words of tables mean."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 86rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; }
table { border-collapse: collapse; font-size: .82rem; margin: 1rem 0; display: block; overflow-x: auto; max-width: 100%;
  background: linear-gradient(to left, #fff 40%, #fff0) right / 3rem 100% no-repeat local,
    radial-gradient(farthest-side at 100% 50%, #0005, #0000) right / 1rem 100% no-repeat scroll; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
tbody th { text-align: left; font-weight: 600; }
tbody th, body .bayeslmm tbody th { max-width: 22rem; white-space: normal; overflow-wrap: break-word; }
figure { display: inline-block; margin: .5rem; vertical-align: top; max-width: 46%; } img { max-width: 100%; }
figcaption { font-size: .82rem; color: #555; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
@media (max-width: 60rem) {
  figure { max-width: 100%; margin: .5rem 0; }
  th, td, .bayeslmm th, .bayeslmm td, .bayeslmm tbody th { white-space: normal; padding: .25rem .4rem; }
  .bayeslmm table { font-size: .74rem; }
}
@media (max-width: 36rem) {
  tbody th code { overflow-wrap: anywhere; white-space: normal; }
  tbody th, body .bayeslmm tbody th { min-width: 5.5rem; max-width: 8rem; overflow-wrap: anywhere; white-space: normal;
    position: sticky; left: 0; background: #fff; }
}
pre { background: #f6f6f6; padding: .75rem; overflow-x: auto; white-space: pre-wrap; }
body .words th, body .words td { text-align: left; white-space: normal; }
.question { font-size: 1.1rem; } nav ol { padding-left: 1.4rem; } summary { cursor: pointer; }
a { color: #0b5394; } img { background: #fff; }
@media (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  body { background: #15181d; color: #e6e6e6; } a { color: #8ab8ff; } figcaption { color: #b8bcc2; }
  pre { background: #20242b; } th, td { border-color: #3a3f47; }
  tbody th, body .bayeslmm tbody th { background: #15181d; }
  table { background: none; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; } nav, summary { break-after: avoid; }
  table, body .bayeslmm table { display: table; width: auto; font-size: 7.5pt; background: none; }
  th, td, body .bayeslmm th, body .bayeslmm td { white-space: normal; padding: .15rem .3rem; }
  tbody th, tbody th code, body .bayeslmm tbody th { position: static; max-width: 9rem; overflow-wrap: anywhere; }
  details:not([open])::details-content { content-visibility: visible; }
  figure, tr, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""
_WORDS = {
    "ML, REML": "maximum likelihood and restricted maximum likelihood: the values under which the data are most "
    "probable, REML after allowing for the fixed effects.",
    "profile interval": "the values that fit the data nearly as well as the best one.",
    "penalised": "REML with a penalty that keeps standard deviations off zero.",
    "HDI": "highest-density interval: the shortest interval that has this share of the posterior.",
    "delta": "the largest standard deviation that counts as negligible.",
    "singular": "some variance, or that of a combination of effects, is estimated as exactly zero.",
}


def embedded(figure: Any) -> str:
    """A figure as PNG for the source of an image; it is closed, and used no more."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def pictures(images: Sequence[tuple[str, str]]) -> str:
    """Figures with their captions, from captions and what `embedded` makes of them."""
    return "\n".join(
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        for text, data in ((html.escape(caption), data) for caption, data in images)
    )


def explained_words() -> str:
    """What the words of the tables mean."""
    entries = (f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in _WORDS.items())
    return f"<h2>The words</h2><dl>{''.join(entries)}</dl>"


def html_page(title: str, sections: Sequence[str]) -> str:
    """A page that needs no other file; what scrolls can be reached by the keyboard."""
    body = "".join(sections).replace("<table", '<table tabindex="0"').replace("<pre>", '<pre tabindex="0">')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>bayeslmm: {html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<main><h1>{html.escape(title)}</h1>{body}</main></body></html>\n"
    )
