"""Figures of a report: which there are, what makes them, and what stands below them."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from bayeslmm.bayes.progress import announced
from bayeslmm.comparison import Comparison
from bayeslmm.design.design import Design
from bayeslmm.errors import DesignError, FitError
from bayeslmm.faces import REMLResult
from bayeslmm.page import embedded, pictures
from bayeslmm.plots import forest, plot_boundary, plot_groups, plot_shrinkage, plot_variance
from bayeslmm.report_parts import Reported
from bayeslmm.results.labels import parameters

# What is drawn: a kind of figure, and of which label.
type Drawing = tuple[str, ...]
# What is done with a figure before it is closed.
type Keep = Callable[[Drawing, Any], None]

_CAPTIONS = {
    "forest": "Studies with their intervals, their predicted effects, the mean and a new study.",
    "variance": "Every standard deviation and correlation: {}.",
    "boundary": "{}: {}, down to zero.",
    "shrinkage": "Levels of {}: {}.",
    "groups": "Every level of {}: data, its own line, that of the population, and that of the model.",
    "residuals": "{}.",
}

# What such figures show of a fit, of a posterior, of both.
_SHOWN = {
    "variance": ("profile likelihood", "posterior density", "posterior density, with REML and ML"),
    "boundary": ("likelihood", "likelihood, prior and posterior", "likelihood, prior and posterior"),
    "shrinkage": (
        "each level alone, and predictions of the fit",
        "each level alone, and posterior",
        "each level alone, REML predictions and posterior",
    ),
}


def drawings(design: Design, fitted: bool = True) -> list[Drawing]:
    """Figures of a report.

    Parameters
    ----------
    design : Design
    fitted : bool
        Whether there is a fit, which has residuals.

    Returns
    -------
    list of Drawing
        Studies with known errors, variances, one for each sd, shrinkage in each factor, residuals, and lines of levels.
    """
    sds = [("boundary", p.label) for p in parameters(design) if p.kind == "sd"]
    studies = [("forest",)] if design.sigma is not None and design.n <= forest.MOST else []
    found = [*studies, ("variance",), *sds, *(("shrinkage", group) for group in design.groupings)]
    found += [("residuals",)] if fitted else []
    # Studies with known errors are rows of the forest plot.
    return found if studies else [*found, *(("groups", group) for group in design.groupings)]


def fit_of(of: Reported) -> REMLResult | None:
    """The fit of what is reported on, if it has one."""
    return of.reml if isinstance(of, Comparison) else of if isinstance(of, REMLResult) else None


def figures(of: Reported, keep: Keep | None = None) -> str:
    """All figures of a report as HTML; of one that cannot be drawn the reason."""
    fit, found, lost = fit_of(of), list[tuple[str, str]](), list[str]()
    draw: dict[str, Callable[..., Any]] = {
        "forest": lambda: forest.plot_forest(of).figure,
        "variance": lambda: plot_variance(of)[0].figure,
        "boundary": lambda label: plot_boundary(of, label).figure,
        "shrinkage": lambda group: plot_shrinkage(of, group)[0].figure,
        "groups": lambda group: plot_groups(of, group=group)[0].figure,
        "residuals": lambda: fit.plot()[0].figure,  # type: ignore[union-attr]
    }
    wanted = drawings(of.design, fit is not None)
    for k, (kind, *label) in enumerate(wanted):
        caption = _caption(of, kind, *label)
        with _announced(wanted, k):
            try:
                figure = draw[kind](*label)
            except (DesignError, FitError) as error:
                lost.append(f"<p>Not drawn: {html.escape(caption)} {html.escape(str(error))}</p>")
                continue
        if keep is not None:
            keep(wanted[k], figure)
        found.append((caption, embedded(figure)))
    return pictures(found) + "".join(lost)


def _caption(of: Reported, kind: str, *label: str) -> str:
    shown = list(label)
    if kind in _SHOWN:
        shown.append(_SHOWN[kind][2 if isinstance(of, Comparison) else 0 if isinstance(of, REMLResult) else 1])
    if kind == "residuals":
        shown.append("Residuals and random effects of the fit" if of.design.terms else "Residuals of the fit")
    return _CAPTIONS[kind].format(*shown)


def _announced(wanted: Sequence[Drawing], k: int) -> AbstractContextManager[None]:
    """While the block runs for long, a terminal says which of the figures is being made."""
    return announced(f"report: figure {k + 1} of {len(wanted)}, {' '.join(wanted[k])}")
