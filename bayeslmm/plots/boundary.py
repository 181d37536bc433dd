"""Profile likelihood, prior and posterior of one standard deviation on one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from bayeslmm.arguments import shown as shown_value
from bayeslmm.bayes.at_means import place
from bayeslmm.bayes.prior_draws import draw_term_sds
from bayeslmm.bayes.priors import Flat, SdPrior
from bayeslmm.comparison import Comparison
from bayeslmm.comparison.tables import is_scale
from bayeslmm.design.names import in_plot
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult
from bayeslmm.figures.axes import axes_or_new
from bayeslmm.plots.style import (
    NEUTRAL,
    POSTERIOR,
    PRIOR,
    REML,
    curve_style,
    grid_for,
    headed_axes,
    posterior_density,
    posterior_style,
    probability,
    profile_likelihood,
    tidy_axes,
    units,
    widest,
    wrapped,
)
from bayeslmm.plots.subject import Subject, subject
from bayeslmm.results.intervals import density
from bayeslmm.results.labels import Parameter, find
from bayeslmm.types import FloatArray

_TEXT, _LEGEND = 10, 9
# Inches of what a legend draws before a text.
_HANDLE = 0.45
_HEIGHT, _MORE = 4.8, 0.45
_PRIOR_DRAWS = 20_000
# Share of the area under a density that can be seen as one.
_VISIBLE = 0.005
# Times the range of the curves that delta may lie away to be shown.
_FARTHEST = 4.0


def plot_boundary(both: Comparison | REMLResult | Posterior, parameter: str | None = None, ax: Any = None) -> Any:
    """REML profile likelihood, prior and posterior of one standard deviation.

    The product of profile likelihood and prior, normalised, is drawn beside the posterior. The posterior is prior
    times the likelihood *averaged* over the other parameters and their priors, where the profile takes its maximum over
    them. With one random effect the two are alike; with correlated effects and few levels the posterior can lie far
    from the product. Several posteriors have a colour each, their priors are dashed, and the products are left out.

    Parameters
    ----------
    both : Comparison, REMLResult or Posterior
        Of a fit alone its profile is drawn, of a posterior alone prior and posterior.
    parameter : str, optional
        ``"sd_Batch"`` or ``"sd_Subject[Days]"``; by default the first sd. The label of a variance (``"var_Batch"``,
        ``"sigma^2"``) will do; the figure is one of its square root, which the priors are densities of.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    DesignError
        Not the label of a standard deviation; not a comparison, fit or posterior; axes of another kind.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> axes = bl.plot_boundary(model.fit(), "sd_Batch")
    >>> [text.get_text() for text in axes.get_legend().get_texts()]
    ['REML profile likelihood (scaled)', 'REML estimate 0', 'delta = 0.19 (negligible below)']
    """
    shown = subject(both, "plot_boundary", "'sd_...'")
    p = _parameter(shown, parameter)
    # Every further posterior has two more lines in the legend.
    axes = axes_or_new(ax, "plot_boundary", (6.6, _HEIGHT + _MORE * max(0, len(shown.posteriors) - 1)))
    grid = grid_for(shown, p)
    if p.kind == "sd" and grid[-1] < shown.delta(p) <= _FARTHEST * grid[-1]:
        grid = np.union1d(grid, np.linspace(grid[-1], 1.05 * shown.delta(p), 101))
    curves = [posterior_density(post, p, grid) for post in shown.posteriors]
    top = max((float(curve.max()) for curve in curves), default=1.0)
    top = _curves(shown, p, grid, curves, top, axes)
    _marks(shown, p, grid, curves, axes)
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(0, 1.1 * top)
    tidy_axes(axes)
    _words(shown, p, axes)
    return axes


def _parameter(shown: Subject, parameter: Any) -> Parameter:
    scales = [q for q in shown.parameters if is_scale(q)]
    if parameter is None:
        return scales[0]
    known = ", ".join(q.label for q in scales)
    if not isinstance(parameter, str):
        raise DesignError(
            f"plot_boundary() got parameter={shown_value(parameter)}. Give the label of a standard deviation: {known}."
        )
    p = find(shown.design, _sd_label(shown, parameter))
    if p.kind not in ("sd", "sigma"):
        raise DesignError(f"plot_boundary shows standard deviations; {p.label!r} is none. The model has: {known}.")
    return p


def _sd_label(shown: Subject, label: str) -> str:
    """The label of an sd for that of its variance; others as they are."""
    if label == "sigma^2":
        return "sigma"
    own = {known.label for known in shown.parameters}
    return f"sd_{label[4:]}" if label.startswith("var_") and label not in own else label


def _words(shown: Subject, p: Parameter, axes: Any) -> None:
    inches = axes.get_position().width * axes.figure.get_figwidth()
    label = wrapped(f"{p.label} ({units(shown.design, p)})", inches, _TEXT)
    axes.set_xlabel(label, fontsize=_TEXT)
    headed_axes(axes, shown, _title(shown), inches, 11)
    # Below tick labels and label, in units of the font size: nowhere inside would it lie clear of all curves.
    pad = 3.6 + 1.35 * (1 + label.count("\n"))
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if inches > 1.7 * (widest(labels, _LEGEND) + _HANDLE) else 1
    axes.legend(
        handles,
        labels,
        frameon=False,
        fontsize=_LEGEND,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        borderaxespad=pad,
        ncols=columns,
    )


def _title(shown: Subject) -> str:
    if not shown.posteriors:
        return "Profile likelihood"
    if shown.fit is None:
        return "Prior and posterior"
    return f"Profile likelihood, {'priors and posteriors' if len(shown.posteriors) > 1 else 'prior and posterior'}"


def _curves(shown: Subject, p: Parameter, grid: FloatArray, curves: list[FloatArray], top: float, axes: Any) -> float:
    """Draw them; the height that they need."""
    likelihood = profile_likelihood(shown, p, grid)
    for k, curve in enumerate(curves):
        axes.fill_between(grid, curve, color=posterior_style(k)["color"], alpha=0.2 / len(curves), linewidth=0)
        style = {**curve_style(k, len(curves), grid.size), "linewidth": 2, "markersize": 5}
        axes.plot(grid, curve, **style, label=_posterior_text(shown, p, k))
    if likelihood is not None:
        text = f"{shown.criterion} profile likelihood (scaled)"
        axes.plot(grid, likelihood * top, color=REML, linewidth=2, label=text)
    for k, post in enumerate(shown.posteriors):
        prior, text, prior_density = _prior(post, p, grid)
        height = prior_density if prior.proper else np.full(grid.size, 0.1 * top)
        style = {"color": PRIOR, "linestyle": "-."}
        if shown.named:
            style = {**curve_style(k, len(curves), grid.size), "linestyle": (0, (4, 2)), "markersize": 4}
        label = in_plot(f"{shown.title('prior', k)}: {text}")
        axes.plot(grid, height, **style, linewidth=1.2 if shown.named else 1.6, label=label)
        if likelihood is not None and len(curves) == 1:
            return max(top, _product(grid, likelihood * prior_density, axes))
    return top


def _product(grid: FloatArray, product: FloatArray, axes: Any) -> float:
    """Draw it with area one, where it has one; its height."""
    area = float(np.trapezoid(product, grid))
    if not (np.isfinite(area) and area > 0):
        return 0.0
    axes.plot(grid, product / area, color=NEUTRAL, linestyle="--", linewidth=1, label="profile likelihood x prior")
    return float(product.max()) / area


def _posterior_text(shown: Subject, p: Parameter, k: int) -> str:
    """Of several posteriors also the probability of a negligible sd: shaded areas would lie on each other."""
    if len(shown.posteriors) == 1:
        return in_plot(shown.title("posterior density", k))
    below = f": {_below_text(shown, p, k)}" if p.kind == "sd" else ""
    return in_plot(f"posterior, {shown.names[k]}{below}")


def _below_text(shown: Subject, p: Parameter, k: int) -> str:
    post, delta = shown.posteriors[k], shown.delta(p)
    return f"P(sd < {delta:.2g}) {probability(post.probability_below(p.label, delta), post.n_draws)}"


def _prior(post: Posterior, p: Parameter, grid: FloatArray) -> tuple[SdPrior, str, FloatArray]:
    """The prior, in words, and its density on the grid.

    What a prior about the means of columns says of the sd at their zeros is estimated from draws.
    """
    priors, design = post.priors, post.design
    if p.kind == "sigma":
        return priors.sigma, str(priors.sigma), np.exp(priors.sigma.log_density(grid))
    prior, change = priors.sds[p.position][p.effects[0]], priors.changes[p.position]
    if change is None or not change.moved[p.effects[0]]:
        log_density = priors.log_density_sd(p.position, p.effects[0], grid)
        return prior, str(prior), np.exp(np.nan_to_num(log_density, nan=0.0))
    text = f"{prior} {place(design, p.position, p.effects[0], change)}"
    if not (all(own.proper for own in priors.sds[p.position]) and priors.sigma.proper):
        return Flat(), f"{text}, improper", np.ones(grid.size)
    rng = np.random.default_rng(0)
    draws = draw_term_sds(design, priors, p.position, _PRIOR_DRAWS, rng)[:, p.effects[0]]
    # Beyond the grid the long tail would only widen the kernel.
    inside = draws[draws <= 2.0 * grid[-1]]
    return prior, text, density(inside, p.kind, grid) * (inside.size / draws.size)


def _marks(shown: Subject, p: Parameter, grid: FloatArray, curves: list[FloatArray], axes: Any) -> None:
    estimate = shown.estimate(p)
    if np.isfinite(estimate):
        text = f"{shown.criterion} estimate {estimate:.3g}"
        axes.plot(estimate, 0, "o", color=REML, markersize=9, clip_on=False, zorder=5, label=text)
    if p.kind != "sd":
        return
    delta = shown.delta(p)
    below, text = np.append(grid[grid < delta], delta), f"delta = {delta:.2g} (negligible below)"
    alone = len(curves) == 1
    visible = alone and np.trapezoid(np.interp(below, grid, curves[0]), below) >= _VISIBLE
    if alone and not visible:
        text = f"delta = {delta:.2g}: {_below_text(shown, p, 0)}"
    if delta > grid[-1]:
        text = f"{text}, beyond the right end"
    axes.axvline(delta, color=NEUTRAL, linewidth=1, linestyle=":", label=text)
    if visible:
        height = np.interp(below, grid, curves[0])
        label = _below_text(shown, p, 0)
        axes.fill_between(below, height, color=POSTERIOR, alpha=0.45, linewidth=0, label=label)
