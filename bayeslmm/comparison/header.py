"""The lines above a comparison: model, rows, engines, what counts as negligible."""

from __future__ import annotations

from bayeslmm.comparison.compared import Compared
from bayeslmm.comparison.naming import DEFAULT, long_name, structure
from bayeslmm.results.diagnostics import in_words
from bayeslmm.results.summary import ROUNDED, left_out


def header_lines(both: Compared) -> tuple[str, ...]:
    """Lines that say what is compared."""
    percent = f"{100 * both.level:g} %"
    delta = "5 % of sd(y)/sd(column)" if both.delta is None else f"{both.delta:g}"
    lines = (
        f"{both.reml.formula}   ({both.design.observations})",
        *(f"residuals: {text}" for text in structure(both.design)),
        *left_out(both.design),
        f"REML: {both.reml.status.name.replace('_', ' ')}; {percent} profile intervals",
        *_posterior_lines(both, f"{percent} highest-density intervals"),
        f"delta: {delta} (what counts as negligible)",
        ROUNDED,
    )
    squared = "variances; modes and highest-density intervals are those of the sds, squared"
    return lines if both.scale == "sd" else (*lines, squared)


def _posterior_lines(both: Compared, intervals: str) -> list[str]:
    return [
        f"{name}: {in_words(post.diagnostics, post.n_draws)} ({post.method}); {intervals}"
        for name, post in zip(_described(both), both.by_name.values(), strict=True)
    ]


def _described(both: Compared) -> list[str]:
    """Names of the posteriors with the priors in full where the name says less."""
    found = []
    for name, post in both.by_name.items():
        priors = long_name(post)
        lead = "posterior" if not (both.more or both.given) and priors == DEFAULT else f"posterior ({name})"
        found.append(lead if name.startswith(priors) else f"{lead}, under {priors}")
    return found
