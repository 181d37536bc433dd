"""A report of fits, posteriors and comparisons on one HTML page that needs no other file."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bayeslmm.arguments import flag, shown
from bayeslmm.comparison import Comparison
from bayeslmm.errors import ArgumentError, DesignError, FitError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.files.writing import check_folder, destination, made, write_bytes
from bayeslmm.output import (
    CAPTIONS,
    announced_figure,
    drawers,
    drawings,
    embedded,
    explained_words,
    html_page,
    pictures,
)
from bayeslmm.plots import plot_groups
from bayeslmm.residual import refuse_parameters

type Reported = Comparison | REMLResult | Posterior

_CAPTIONS = {
    **CAPTIONS,
    "groups": "Every level of {}: data, its own line, that of the population, and that of the model.",
    "residuals": "Residuals and random effects of the fit.",
}
_TITLES = {
    Comparison: "REML and posterior compared",
    REMLResult: "A linear mixed model",
    Posterior: "The posterior of a linear mixed model",
}


def report(of: Reported | Mapping[str, Reported], path: str | os.PathLike[str], *, overwrite: bool = True) -> Path:
    """Write tables, figures and the boundary report of a fit, a posterior or both on one HTML page.

    Parameters
    ----------
    of : Comparison, REMLResult, Posterior, or mapping of str to these
        A mapping gives several sections, with its names for headings.
    path : path
        Ends in ``.html``; folders above it are made. The page has its figures inside and needs no other file.
    overwrite : bool
        Whether a file of that name is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ArgumentError
        Something else to report on; a path that does not end in ``.html``.
    StorageError
        The file cannot be written, which is found out before anything is drawn.

    Examples
    --------
    >>> import bayeslmm as bl, tempfile
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = bl.report(fit, folder + "/dyestuff.html").read_text(encoding="utf-8")
    >>> page.count("<figure>"), "Residual" in page
    (4, True)
    """
    sections, replaced = _sections(of), flag("overwrite", overwrite)
    for _, one in sections:
        if not isinstance(one, Posterior):
            refuse_parameters(one.design.residual, "bl.report()")
    target = _html_path(path)
    check_folder(target.parent, [target.name])
    if target.parent.is_dir():
        destination(target, overwrite=replaced)
    parts = [_section(name, one) for name, one in sections]
    titles = {title for _, one in sections for kind, title in _TITLES.items() if isinstance(one, kind)}
    title = titles.pop() if len(titles) == 1 else "Linear mixed models"
    text = html_page(title, [*parts, explained_words()])
    with made(target.parent):
        return write_bytes(target, text.encode("utf-8", errors="backslashreplace"), overwrite=replaced)


def _sections(of: Any) -> list[tuple[str, Reported]]:
    """Headings with what they are of.

    Raises
    ------
    ArgumentError
    """
    named = list(of.items()) if isinstance(of, Mapping) else [("", of)]
    for _, one in named:
        if not isinstance(one, Comparison | REMLResult | Posterior):
            raise ArgumentError(
                f"report() got {shown(one)}, of type {type(one).__name__}. It reports on a fit, a posterior or a "
                "comparison, or a mapping of names to these: bl.report(bl.compare(model.fit(), model.sample()), "
                "'report.html')."
            )
    if not named:
        raise ArgumentError("report() got an empty mapping: there is nothing to report on.")
    return [(str(name), one) for name, one in named]


def _html_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ArgumentError(f"path={shown(path)} is no path. Give the name of a file, e.g. 'report.html'.")
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"path={shown(path)} does not end in .html, and the report is a page: 'report.html'.")
    return Path(path)


def _section(name: str, of: Reported) -> str:
    fit = of.reml if isinstance(of, Comparison) else of if isinstance(of, REMLResult) else None
    posteriors = [of] if isinstance(of, Posterior) else [of.posterior, *of.more] if isinstance(of, Comparison) else []
    heading = html.escape(name or of.design.formula.replace("`", ""))
    parts = [f"<h2>{heading}</h2>"]
    if isinstance(of, Comparison):
        parts.append(of._repr_html_())
    if fit is not None:
        parts.append(f"<h3>{'REML' if fit.reml else 'Maximum-likelihood'} fit</h3>{fit.summary()._repr_html_()}")
    for post, label in zip(posteriors, _labels(of, posteriors), strict=True):
        parts.append(f"<h3>Posterior{label}</h3>{post.summary()._repr_html_()}")
    parts.append(_figures(of, fit))
    if fit is not None:
        boundary = of.boundary if isinstance(of, Comparison) else fit.boundary()
        parts.append(f"<h3>The boundary</h3>{boundary._repr_html_()}")
    return "".join(parts)


def _labels(of: Reported, posteriors: Sequence[Posterior]) -> list[str]:
    if len(posteriors) < 2 or not isinstance(of, Comparison):
        return [""] * len(posteriors)
    return [f", {html.escape(name)}" for name in of.names]


def _figures(of: Reported, fit: REMLResult | None) -> str:
    """All figures; of one that cannot be drawn the reason."""
    draw: dict[str, Callable[..., Any]] = {
        **drawers(of),
        "groups": lambda group: plot_groups(of, group=group)[0].figure,
        "residuals": lambda: fit.plot()[0].figure,  # type: ignore[union-attr]
    }
    wanted = [*drawings(of.design), *([] if fit is None else [("residuals",)])]
    # Studies with known errors are rows of the forest plot.
    wanted += [("groups", group) for group in of.design.groupings if ("forest",) not in wanted]
    found, lost = [], []
    for k, (kind, *label) in enumerate(wanted):
        with announced_figure(wanted, k):
            caption = _CAPTIONS[kind].format(*label)
            try:
                found.append((caption, embedded(draw[kind](*label))))
            except (DesignError, FitError) as error:
                lost.append(f"<p>Not drawn: {html.escape(caption)} {html.escape(str(error))}</p>")
    return pictures(found) + "".join(lost)
