"""Lay a REML fit and a posterior of the same model side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, text
from bayeslmm.bayes.progress import announced
from bayeslmm.comparison import export
from bayeslmm.comparison.compared import Compared, Scale, check_same
from bayeslmm.comparison.datatree import build_tree, build_trees
from bayeslmm.comparison.explaining import explain_comparison
from bayeslmm.comparison.fixed import fixed_table, shown_fixed
from bayeslmm.comparison.groups import group_table, shown_groups
from bayeslmm.comparison.header import header_lines
from bayeslmm.comparison.long import long_errors, long_table
from bayeslmm.comparison.means import compared_estimable, compared_joint_tests, compared_means, compared_trends
from bayeslmm.comparison.models import ModelComparison, Rival, compare_models, in_one, is_rival
from bayeslmm.comparison.naming import given_posteriors, long_name
from bayeslmm.comparison.tables import draws_below, error_table, headings, sd_table, shown_table, variance_table
from bayeslmm.design.readable import readable
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError
from bayeslmm.faces import Posterior, REMLResult, fit_by
from bayeslmm.habits import COMPARISON, no_attribute
from bayeslmm.results.digits import in_digits
from bayeslmm.results.intervals import check_level
from bayeslmm.results.negligible import check_delta
from bayeslmm.results.summary import left_out
from bayeslmm.specification import Specification
from bayeslmm.words.explanation import Explanation

if TYPE_CHECKING:
    from xarray import DataTree

    from bayeslmm.bayes.default_priors import PriorSpec
    from bayeslmm.boundary.report import BoundaryReport
    from bayeslmm.results.influence import Influence


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Compared):
    """REML, ML and posterior of one model side by side: what ``bl.compare(fit, post)`` returns.

    It prints `table`, one row per parameter. Ask `groups` for the effects of the levels, `fixed` for the
    coefficients, `means` for means and contrasts by both, `boundary` what a variance of zero means, and `explain`
    for plain words; figures and `bayeslmm.report` take it.

    What costs time (bootstrap, profiles, adjusted degrees of freedom) is computed when it is first asked for, and kept.

    Attributes
    ----------
    reml : REMLResult
    ml : REMLResult
    posterior : Posterior
    level : float
        Level of all intervals.
    delta : float or None
        What counts as negligible for an sd, units of y; None: 5 % of sd(y) / sd(column).
    more : tuple of Posterior
        Further posteriors of the model, e.g. under other priors.
    scale : {"sd", "variance"}
        How variance parameters are shown. Modes and highest-density intervals are found on the sd scale and squared.
    given : tuple of str
        What the user calls the posteriors; empty: they are named by their priors.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
    >>> both = bl.compare(model.fit(), model.sample(random_seed=1))
    >>> both.table[["reml", "mean", "hdi_low", "hdi_high"]].round(0).loc["sigma"].tolist()
    [50.0, 52.0, 38.0, 69.0]
    """

    means = compared_means
    trends = compared_trends
    joint_tests = compared_joint_tests
    estimable = compared_estimable

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return no_attribute(self, name, COMPARISON, "both")

    @cached_property
    def sd_table(self) -> pd.DataFrame:
        """`table` on the scale of sds, whatever `scale` is."""
        with announced("comparison: profile intervals"):
            return sd_table(self)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per parameter.

        Columns: ``ml``, ``reml`` (estimates), ``reml_low``, ``reml_high`` (profile of the REML criterion),
        ``penalised`` (REML with the boundary-avoiding penalty, a point estimate; nan where it has none), ``mean``,
        ``median``, ``mode``, ``hdi_low``, ``hdi_high`` (posterior), ``p_below`` and ``delta`` (sds: posterior
        probability that the sd is below delta), ``note``. A further posterior adds three columns with its name of
        `names`: ``mean (brms)``, ``hdi_low (brms)``, ``hdi_high (brms)``.
        """
        frame = self.sd_table if self.scale == "sd" else variance_table(self, self.sd_table)
        return readable(frame, lambda: shown_table(self, frame, self.sd_table))

    @cached_property
    def long(self) -> pd.DataFrame:
        """One row per parameter and method, intraclass correlations and R2 included.

        Columns ``parameter``, ``method`` (``ML``, ``REML``, ``REML + penalty`` and the names of `posteriors`),
        ``estimate`` (posteriors: the mean, or the median where there is no finite mean), ``conf_low``, ``conf_high``,
        ``interval`` (``profile``, ``pivot``, ``bootstrap``, ``Wald z``, ``HDI`` or ``none``), ``note``. Where an
        intraclass correlation has no exact interval, and for R2, the REML fit is bootstrapped.
        """
        with announced("comparison: intervals by both criteria, a bootstrap of shares and R2"):
            return long_table(self)

    @cached_property
    def groups(self) -> pd.DataFrame:
        """One row per grouping factor, level and effect: no pooling, BLUP and posterior.

        Columns ``term``, ``group``, ``level``, ``effect``, ``n`` (rows of the level), ``no_pooling`` (least squares of
        the level alone, of what fixed effects and other terms leave), ``blup``, ``posterior_mean``; ``weight`` (share
        of the level's own data in its BLUP, at the REML estimates: ``sd^2 / (sd^2 + sigma^2 / n)`` for an intercept),
        ``weight_mean``, ``weight_low``, ``weight_high`` (its posterior); ``cond_sd`` (conditional sd of the effect,
        variances and fixed effects taken as known), ``plug_in_sd`` (variances taken as known), ``posterior_sd``, and
        ``sd_ratio``, cond_sd / posterior_sd: below 1 by what plug-in intervals miss.
        """
        with announced("comparison: levels of groups"):
            frame = group_table(self)
        return readable(frame, lambda: shown_groups(self, frame))

    def by_group(self, group: str | None = None) -> pd.DataFrame:
        """The rows of `groups` of one grouping factor.

        Parameters
        ----------
        group : str, optional
            All factors by default.

        Raises
        ------
        DesignError
            No such grouping factor.
        """
        if group is None:
            return self.groups
        text("group", group, "the name of a grouping factor", DesignError)
        if group not in self.design.groupings:
            known = ", ".join(self.design.groupings)
            raise DesignError(f"There is no grouping factor {group!r}. Grouping factors are: {known}.")
        return self.groups[self.groups["group"] == group].reset_index(drop=True)

    @cached_property
    def fixed(self) -> pd.DataFrame:
        """Fixed effects, one row per coefficient and method.

        Methods: ``Wald z``, ``Satterthwaite``, ``Kenward-Roger``, ``profile`` of the REML fit, and HDI and equal-tailed
        interval of each posterior. Columns ``estimate``, ``std_error`` (posterior sd), ``df``, ``conf_low``,
        ``conf_high``, ``note`` (why there is no interval).
        """
        with announced("comparison: degrees of freedom and intervals of fixed effects"):
            frame = fixed_table(self)
        return readable(frame, lambda: shown_fixed(self, frame))

    @cached_property
    def boundary(self) -> BoundaryReport:
        """What a variance of zero, or one near it, means here: `REMLResult.boundary` with the first posterior."""
        return self.reml.boundary(self.posterior, level=self.level, delta=self.delta)

    def influence(self, by: Any = None, *, theta: Literal["estimated", "fixed"] = "estimated") -> Influence:
        """What rows or groups do to both: `REMLResult.influence` with the first posterior's Pareto k beside it."""
        return self.reml.influence(by, theta=theta, posterior=self.posterior)

    def to_datatree(self, n: int | None = None, random_seed: int = 1) -> DataTree:
        """Posteriors, bootstrap and profiles in one tree, under the same names, for ``group=`` of ArviZ's functions.

        Parameters
        ----------
        n : int, optional
            Bootstrap replicates (see `bootstrap`), and draws from the profiles.
        random_seed : int

        Returns
        -------
        xarray.DataTree
            Groups ``posterior``, a further one such as ``posterior_brms`` for each other posterior (parameters only;
            its attribute ``name`` is that of `names`), ``bootstrap`` and ``profile``. The last has for every parameter
            draws from its confidence distribution: standard normal values of the signed root of the profiled criterion
            (one parameter at a time: no joint distribution). Undefined correlations are nan.

        Raises
        ------
        DesignError
            As `bootstrap`.
        """
        return build_tree(self, n, random_seed)

    def datatrees(self, n: int | None = None, random_seed: int = 1) -> dict[str, DataTree]:
        """The same as one tree each with a group ``posterior``, as ArviZ's comparing plots take them.

        All are thinned to one number of draws, since ArviZ aligns them.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
        >>> trees = bl.compare(model.fit(), model.sample(400, random_seed=1)).datatrees(200)
        >>> list(trees)
        ['posterior (default)', 'REML bootstrap', 'REML profile']

        ``arviz_plots.plot_forest(trees)`` draws them side by side.
        """
        return build_trees(self, n, random_seed)

    def explain(self) -> Explanation:
        """What both inferences say, in plain words, and the words of both side by side.

        Returns
        -------
        Explanation
            Paragraphs and tables: text in a terminal, HTML in a notebook.
        """
        return explain_comparison(self, self.sd_table)

    @property
    def header(self) -> tuple[str, ...]:
        """Lines that say what is compared."""
        return header_lines(self)

    def __str__(self) -> str:
        return export.text(self, self.header, self.printable())

    __repr__ = __str__

    def printable(self) -> pd.DataFrame:
        """The table as text with short headings, numbers from draws only as far as their Monte Carlo error.

        Without an empty column of notes and, to be short, penalised estimates; the rest of `table` is there.
        """
        last = ["delta", "p_below", "note"] if self.table["note"].any() else ["delta", "p_below"]
        chosen = [name for name in self.table.columns if name not in ("penalised", "delta", "p_below", "note")]
        return self._texts[[*chosen, *last]].rename(columns=headings(self))

    @cached_property
    def _texts(self) -> pd.DataFrame:
        """The table, every number as far as it is known."""
        return in_digits(self.table, error_table(self), {"p_below": draws_below(self, self.sd_table)})

    def _repr_html_(self) -> str:
        return export.html_page(self, self.header, self._texts)

    def to_latex(self, what: export.What = "table") -> str:
        """A ``tabular`` environment of the table, or of another one.

        Parameters
        ----------
        what : {"table", "long", "groups", "fixed"}

        Raises
        ------
        DesignError
            Another name.
        """
        return export.latex(self._text_frame(what))

    def to_markdown(self, what: export.What = "table") -> str:
        """A pipe table; see `to_latex`."""
        return export.markdown(self._text_frame(what))

    def _text_frame(self, what: export.What) -> pd.DataFrame:
        """One of the tables as text, with its index as columns."""
        export.check_table(what)
        if what == "table":
            return export.compact(self, self._texts).rename_axis("parameter").reset_index()
        if what == "groups":
            return shown_groups(self, self.groups)
        if what == "long":
            return in_digits(self.long, long_errors(self))
        return shown_fixed(self, self.fixed).reset_index()

    def on_scale(self, scale: Scale) -> Comparison:
        """The same comparison with sds or with variances."""
        return replace(self, scale=_check_scale(scale))

    def to_dict(self) -> dict[str, Any]:
        """Numbers of the table and certificates, ready for JSON (missing numbers are None)."""
        rows = {
            str(label): {str(k): None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
            for label, row in self.table.iterrows()
        }
        return {
            "formula": self.reml.formula,
            "n": self.design.n_observations,
            "left_out": left_out(self.design),
            "level": self.level,
            "scale": self.scale,
            "reml_criterion": self.reml.criterion,
            "ml_deviance": self.ml.criterion,
            "status": self.reml.status.name,
            "singular": self.reml.is_singular,
            "posterior_method": self.posterior.method,
            "draws": self.posterior.n_draws,
            "certificate": self.posterior.certificate(),
            "posteriors": {
                name: {"priors": long_name(post), "method": post.method, "draws": post.n_draws}
                for name, post in self.by_name.items()
            },
            "parameters": rows,
        }


@overload
def compare(
    reml: REMLResult,
    posterior: Posterior | Mapping[str, Posterior] | None = None,
    *more: Posterior,
    level: float = 0.95,
    delta: float | None = None,
    scale: Scale = "sd",
    names: Sequence[str] | None = None,
) -> Comparison: ...
@overload
def compare(
    reml: Specification | Posterior | Sequence[Rival] | Mapping[str, Rival],
    posterior: Rival | None = None,
    *more: Rival,
    names: Sequence[str] | None = None,
    draws: int = 2000,
    priors: PriorSpec = None,
    random_seed: int = 1,
) -> ModelComparison: ...
@overload
def compare(
    reml: REMLResult,
    posterior: REMLResult,
    *more: Rival,
    names: Sequence[str] | None = None,
    draws: int = 2000,
    priors: PriorSpec = None,
    random_seed: int = 1,
) -> ModelComparison: ...
def compare(
    reml: Any,
    posterior: Any = None,
    *more: Any,
    level: float = 0.95,
    delta: float | None = None,
    scale: Scale = "sd",
    names: Sequence[str] | None = None,
    draws: int = 2000,
    priors: PriorSpec = None,
    random_seed: int = 1,
) -> Comparison | ModelComparison:
    """Compare a REML (or ML) fit with a posterior of the same model, or several models of one response.

    Parameters
    ----------
    reml : REMLResult
        The other criterion is fitted too, for its column. Several models may stand here in one list, or in a mapping
        by their names.
    posterior : Posterior or mapping of str to Posterior
        A mapping gives several, with the names that tables and figures call them by.
    *more : Posterior
        Further posteriors of the same model, e.g. under other priors; each adds a mean and an interval.
    level : float
        Level of the intervals.
    delta : float, optional
        Standard deviations below it are called negligible; by default 5 % of sd(y) / sd(column).
    scale : {"sd", "variance"}
        How variance parameters are shown.
    names : sequence of str, optional
        A name for each posterior. By default they are named by their priors: ``default priors``, the name of a preset
        such as ``brms``, or in what they differ from one; models by their formulas.
    draws, priors, random_seed : int, as in `Model.sample`, int
        Of models: those of their posteriors. Posteriors that are given are taken as they are.

    Returns
    -------
    Comparison, or ModelComparison of several models, fits or posteriors

    Raises
    ------
    DesignError
        Different formulas or data, arguments out of their range, a fit with parameters held fixed or with a penalty.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2"))
    >>> both = bl.compare(model.fit(), model.sample(500, random_seed=1))
    >>> both.table.loc["sd_Batch[Intercept]", "note"]
    'REML says 0; upper bound'

    >>> tight = model.sample(500, random_seed=1, priors={"sd_Batch": bl.HalfNormal(0.5)})
    >>> bl.compare(both.reml, both.posterior, tight).names
    ('default priors', 'sd_Batch ~ half-normal(0.5)')
    >>> bl.compare(both.reml, {"wide": both.posterior, "tight": tight}).names
    ('wide', 'tight')

    >>> line = bl.Model("Reaction ~ Days + (1 | Subject)", bl.load_dataset("sleepstudy"))
    >>> lines = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    >>> bl.compare({"line": line, "lines": lines}, draws=100).table["chisq"].round(2).to_dict()
    {'line': nan, 'lines': 42.14}
    """
    together = in_one(reml) if posterior is None else None
    if together is not None:
        rivals, called = together
        return compare_models(rivals, called if names is None else names, draws, priors, random_seed)
    if is_rival(reml, posterior):
        return compare_models(
            (reml, posterior, *more) if posterior is not None else (reml,), names, draws, priors, random_seed
        )
    level = check_level(level)
    _check_scale(scale)
    check_delta(delta)
    posteriors, given = given_posteriors(posterior, more, names)
    for post in posteriors:
        check_same(reml, post)
    if reml.optimum.fixed:
        held = ", ".join(reml.design.terms[i].label for i in reml.optimum.fixed)
        raise DesignError(
            f"The fit holds parameters fixed (theta of {held}); the posterior estimates them, so that the columns "
            "would belong to different models. Compare the posterior with model.fit() without fix=."
        )
    if reml.restraint is not None:
        raise DesignError(
            f"The fit has {reml.restraint}, so that it has no profile intervals. Compare the posterior with "
            "model.fit(); the comparison has estimates with the boundary-avoiding penalty beside it."
        )
    with announced(f"comparison: the fit by {'ML' if reml.reml else 'REML'}"):
        other = fit_by(reml.design, lambda: reml.cp, not reml.reml)
    restricted, full = (reml, other) if reml.reml else (other, reml)
    return Comparison(restricted, full, posteriors[0], level, delta, posteriors[1:], scale, given)


def _check_scale(scale: Any) -> Scale:
    return choice("scale", scale, get_args(Scale), DesignError)
