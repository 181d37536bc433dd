"""Draws from a posterior under the labels of the parameters, and the numbers that are read off them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import real, shown
from bayeslmm.bayes.collapsed import Diagnostics
from bayeslmm.bayes.layout import GroupLayout, make_layout
from bayeslmm.bayes.log_likelihood import typical_factors, variance_draws
from bayeslmm.bayes.moments import ExactMoments
from bayeslmm.bayes.priors import Priors
from bayeslmm.bayes.propriety import finite_moments
from bayeslmm.bayes.residual_evidence import products_in_the_middle
from bayeslmm.bayes.variance_draws import VarianceDraws
from bayeslmm.design.design import Design
from bayeslmm.design.padding import by_row
from bayeslmm.design.readable import Tables, readable
from bayeslmm.design.screen import fill
from bayeslmm.equality import by_value
from bayeslmm.errors import ArgumentError, DesignError, FitError
from bayeslmm.likelihood import SummedDesign
from bayeslmm.likelihood.whitened import rows_to_whiten
from bayeslmm.residual import natural_parameters
from bayeslmm.results.diagnostics import certificate_text
from bayeslmm.results.digits import in_digits
from bayeslmm.results.dropped_columns import with_dropped
from bayeslmm.results.effects import mean_of_rows
from bayeslmm.results.intervals import check_level, hdi
from bayeslmm.results.labels import Parameter, at_mean_parameters, find, parameters
from bayeslmm.results.linear import DDF, known_ddf
from bayeslmm.results.monte_carlo import dependence, effect_errors, standard_errors
from bayeslmm.results.tables import tidy_table
from bayeslmm.types import BoolArray, FloatArray

# Columns of tables, as intervals have them.
_ENDS = {"hdi_low": "conf_low", "hdi_high": "conf_high"}


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class Draws:
    """Draws from a posterior, and the numbers that are read off them.

    Attributes
    ----------
    design : Design
    data : xarray.DataTree
        ArviZ groups ``posterior``, ``observed_data``, ``constant_data``, ``sample_stats``, ``log_likelihood``.
    priors : Priors
    method : str
        ``"quadrature"``, ``"importance"``, ``"collapsed_nuts"`` or ``"nuts"``.
    diagnostics : Diagnostics or mapping
        Certificate of the method.
    exact : ExactMoments or None
        Means and standard deviations without Monte Carlo error (quadrature).
    cp : SummedDesign or None
        What the draws were drawn from.
    """

    design: Design
    data: Any = field(repr=False)
    priors: Priors
    method: str
    diagnostics: Diagnostics | Mapping[str, float]
    exact: ExactMoments | None = field(default=None, repr=False)
    cp: SummedDesign | None = field(default=None, repr=False)

    @cached_property
    def cross_products(self) -> SummedDesign:
        """The sufficient statistics of the data; where residuals have parameters, of rows that each draw whitens."""
        return rows_to_whiten(self.design) if self.cp is None or self.design.residual.names else self.cp

    @cached_property
    def _integrated(self) -> SummedDesign:
        """What the posterior is integrated from: where residuals have parameters, at the draw most in the middle."""
        if not self.design.residual.names:
            return self.cross_products
        return products_in_the_middle(self.design, self._variance_draws.lam)

    @cached_property
    def _parameters(self) -> tuple[Parameter, ...]:
        return parameters(self.design)

    @property
    def formula(self) -> str:
        return self.design.formula

    @property
    def n(self) -> int:
        """Number of observations used (with frequencies, their sum)."""
        return self.design.n_observations

    @cached_property
    def n_draws(self) -> int:
        """Draws over all chains."""
        sigma = self.data["posterior"]["sigma"]
        return int(sigma.size)

    def draws(self, label: str) -> FloatArray:
        """All draws (S,) of one parameter by its label, e.g. ``"sd_Subject[Days]"``.

        Also of one at the means of columns, as in `at_means`: ``"sd_at_mean_Subject[Intercept]"``.
        """
        return self._draws(find(self.design, label, self.priors))

    def _draws(self, p: Parameter) -> FloatArray:
        posterior = self.data["posterior"]
        if p.kind == "sigma":
            return np.asarray(posterior["sigma"]).ravel()
        if p.kind == "residual":
            return self._residual_draws[:, p.column]
        if p.kind == "fixed":
            values = np.asarray(posterior["beta"])
        else:
            layout = self._layout(p)
            names = (layout.sd_at_mean, layout.corr_at_mean) if p.at_mean else (layout.sd, layout.corr)
            values = np.asarray(posterior[names[p.kind == "corr"]])
        return np.asarray(values[..., p.column].ravel())

    @cached_property
    def _residual_draws(self) -> FloatArray:
        """Draws (S, k) of the residual parameters in the user's units."""
        return natural_parameters(self.design.residual, self._variance_draws.lam)

    def _layout(self, p: Parameter) -> GroupLayout:
        groups = make_layout(self.design).groups
        return next(group for group in groups if group.labels.group == p.group)

    def _all(self) -> FloatArray:
        return np.stack([self._draws(p) for p in self._parameters], axis=1)

    def fixef(self, *, dropped: bool = False) -> pd.Series:
        """Posterior means of the fixed effects; those that were left out as nan if `dropped`."""
        means = self.estimates()[list(self.design.fixed_names)].rename("estimate")
        return with_dropped(self.design, means, dropped)

    def std_error(self) -> pd.Series:
        """Posterior standard deviations of the fixed effects."""
        return self.table()["sd"][list(self.design.fixed_names)].rename("std_error")

    @property
    def sigma(self) -> float:
        """Posterior mean of the residual standard deviation, or the value that is known."""
        return float(self.estimates()["sigma"]) if self.design.sigma is None else self.design.sigma

    def estimates(self) -> pd.Series:
        """Posterior means of all parameters under their labels."""
        return self.table()["mean"].rename("estimate")

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Mean, sd, median and highest-density interval of every parameter.

        By quadrature the means and sds of sds, sigma, residual parameters and fixed effects carry no Monte Carlo error.
        Where the posterior of an sd has no finite mean or sd (few levels and a prior with a long tail), these are
        infinite.
        """
        frame = self._table(self._parameters, level)
        for p, mean, sd in self._exact():
            frame.loc[p.label, ["mean", "sd"]] = mean, sd
        for p in self._parameters:
            if p.kind == "sd" and (p.position, p.effects[0]) in self._finite_moments:
                # A number would be a property of the grid or of the seed.
                frame.loc[p.label, "sd"] = np.inf
                if self._finite_moments[p.position, p.effects[0]] < 1:
                    frame.loc[p.label, "mean"] = np.inf
        return readable(frame, lambda: in_digits(frame, self.monte_carlo_errors(level)))

    def monte_carlo_errors(self, level: float = 0.95) -> pd.DataFrame:
        """Monte Carlo standard errors of the numbers in `table`: how much they would change with another seed.

        Parameters
        ----------
        level : float
            Of the highest-density intervals.

        Returns
        -------
        DataFrame
            Columns ``mean``, ``sd``, ``median``, ``mode``, ``hdi_low``, ``hdi_high``; 0 for what draws have no part in
            (means and sds by quadrature, ends of a parameter's range), nan where there are too few draws.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
        >>> errors = model.sample(1000, random_seed=1).monte_carlo_errors()
        >>> float(errors.loc["sigma", "mean"]), bool(errors.loc["sigma", "hdi_high"] > 0.5)
        (0.0, True)
        """
        level = check_level(level)
        if level not in self._error_tables:
            self._error_tables[level] = self._errors(level)
        return readable(self._error_tables[level].copy())

    @cached_property
    def _error_tables(self) -> dict[float, pd.DataFrame]:
        return {}

    def _errors(self, level: float) -> pd.DataFrame:
        frame = self._errors_of_draws(self._parameters, level)
        for p, *_ in self._exact():
            frame.loc[p.label, ["mean", "sd"]] = 0.0
        return frame

    def _errors_of_draws(self, known: Sequence[Parameter], level: float) -> pd.DataFrame:
        rows = {
            p.label: standard_errors(self._draws(p), level, p.kind, self._dependent, self._inflation) for p in known
        }
        return pd.DataFrame.from_dict(rows, orient="index", dtype=float)

    @property
    def _dependent(self) -> bool:
        """Whether the draws are those of Markov chains."""
        return not isinstance(self.diagnostics, Diagnostics)

    @cached_property
    def _inflation(self) -> float:
        """Factor on Monte Carlo errors where weighted points count for fewer than there are draws."""
        d = self.diagnostics
        if not isinstance(d, Diagnostics):
            return 1.0
        return float(np.sqrt(max(1.0, self.n_draws / max(d.points * d.efficiency, 1.0))))

    def _size(self, agree: BoolArray) -> float:
        """Number of independent draws that tell as much of a probability as these."""
        factor = self._inflation * (dependence(agree.astype(float)) if self._dependent else 1.0)
        return float(agree.size / factor**2)

    def _table(self, known: Sequence[Parameter], level: float) -> pd.DataFrame:
        """Summaries of the draws."""
        check_level(level)
        draws = [self._draws(p) for p in known]
        intervals = [hdi(x, level, p.kind) for x, p in zip(draws, known, strict=True)]
        return pd.DataFrame(
            {
                "mean": [x.mean() for x in draws],
                "sd": [x.std(ddof=1) for x in draws],
                "median": [np.median(x) for x in draws],
                "hdi_low": [low for low, _ in intervals],
                "hdi_high": [high for _, high in intervals],
            },
            index=[p.label for p in known],
        )

    def at_means(self, level: float = 0.95) -> pd.DataFrame:
        """The sds and correlations of random effects at the means of their columns.

        Those that the default priors of terms such as ``(x | g)`` are about, so that the posterior does not depend on
        where x has its zero; `table` has those at the zeros, as REML does. Labels of rows are taken by `draws`,
        `probability_below` and `bayes_factor`. Without rows where no prior is about the means.

        Parameters
        ----------
        level : float
            Of the highest-density intervals.

        Returns
        -------
        DataFrame
            Columns as in `table`.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> model = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
        >>> model.sample(4000, random_seed=1).at_means()["mean"].round(0)
        sd_at_mean_Subject[Intercept]           40.0
        sd_at_mean_Subject[Days]                 6.0
        corr_at_mean_Subject[Intercept.Days]     1.0
        Name: mean, dtype: float64
        """
        known = at_mean_parameters(self.design, self.priors)
        frame = self._table(known, level)
        return readable(frame, lambda: in_digits(frame, self._errors_of_draws(known, level)))

    @cached_property
    def _finite_moments(self) -> dict[tuple[int, int], int]:
        return finite_moments(self.design, self.priors, self.cp if self.design.facts is not None else None)

    def _exact(self) -> list[tuple[Parameter, float, float]]:
        if (exact := self.exact) is None:
            return []
        found = [(p, exact.of(p.kind, p.position, p.effects)) for p in self._parameters]
        return [(p, *moments) for p, moments in found if moments]

    def hdi(self, level: float = 0.95) -> pd.DataFrame:
        """Highest-density intervals; that of an sd is on the sd scale and may start at 0."""
        frame = pd.DataFrame(self.table(level)[list(_ENDS)]).rename(columns=_ENDS)
        return readable(frame, lambda: in_digits(frame, self.monte_carlo_errors(level).rename(columns=_ENDS)))

    def confint(self, level: float = 0.95) -> pd.DataFrame:
        """The same as `hdi`, under the name that fits use."""
        return self.hdi(level)

    def probability_below(self, label: str, delta: float) -> float:
        """Posterior probability that a parameter is below `delta`.

        Parameters
        ----------
        label : str
        delta : float
            On the scale of the parameter; an sd or sigma in units of y.

        Raises
        ------
        DesignError
            Unknown label, or `delta` is no number.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> post = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff2")).sample(4000, random_seed=1)
        >>> round(post.probability_below("sd_Batch", 1.0), 1)
        0.6
        """
        draws = self.draws(label)
        try:
            return float(np.mean(draws < real("delta", delta, finite=False)))
        except ArgumentError:
            raise DesignError(
                f"delta={shown(delta)} is no number that {label} could be below. Give one, on the scale of the "
                "parameter."
            ) from None

    def ranef(self) -> dict[str, pd.DataFrame]:
        """Posterior means of the random effects: group to frame of levels x effects."""
        return self._effects(np.mean, "mean")

    def ranef_sd(self) -> dict[str, pd.DataFrame]:
        """Posterior standard deviations of the random effects."""
        return self._effects(np.std, "sd")

    def ranef_interval(self, level: float = 0.95) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
        """Lower and upper ends of the equal-tailed intervals of the random effects."""
        check_level(level)
        low, high = (
            self._effects(lambda b, axis, q=q: np.quantile(b, q, axis=axis), q)
            for q in (0.5 - level / 2, 0.5 + level / 2)
        )
        return low, high

    def _effects(self, statistic: Callable[..., FloatArray], measured: str | float) -> dict[str, pd.DataFrame]:
        """A statistic of the effects, and which one it is for their Monte Carlo errors."""
        frames = dict[str, pd.DataFrame]()
        for group in make_layout(self.design).groups:
            draws, labels = self._kept_effects(group), group.labels
            index = pd.Index(list(labels.levels), name=labels.group)
            frame = pd.DataFrame(statistic(draws, axis=(0, 1)), index=index, columns=list(labels.effects))
            frames[labels.group] = readable(frame, partial(self._effect_texts, frame, draws, measured))
        return Tables(frames)

    def _effect_texts(self, frame: pd.DataFrame, draws: FloatArray, measured: str | float) -> pd.DataFrame:
        errors = effect_errors(draws.reshape(-1, *draws.shape[2:]), measured, self._dependent, self._inflation)
        return in_digits(frame, pd.DataFrame(errors, index=frame.index, columns=frame.columns))

    def _kept_effects(self, group: GroupLayout) -> FloatArray:
        if group.b not in self.data["posterior"]:
            raise FitError(
                f"The draws of {group.b} were not kept (keep=), so there are none to summarise. Sample again with "
                f"keep=None, or with {group.b!r} among the names."
            )
        return np.asarray(self.data["posterior"][group.b])

    def varcorr(self) -> pd.DataFrame:
        """Posterior means: group, effect1, effect2, vcov, sdcor."""
        rows: list[tuple[str, str | None, str | None, float, float]] = []
        errors = list[list[float]]()
        for p in self._parameters:
            if p.kind in ("fixed", "residual"):
                continue
            draws = self._draws(p)
            if p.kind == "corr":
                a, b = (self._sd_draws(p, k) for k in p.effects)
                first, second = self._pair_names(p)
                product = draws * a * b
                rows.append((str(p.group), first, second, float(np.mean(product)), float(draws.mean())))
            else:
                product = draws**2
                effect = None if p.kind == "sigma" else p.term.removeprefix("sd__")
                rows.append((str(p.group), effect, None, float(np.mean(product)), float(draws.mean())))
            errors.append([float(self._mean_error(x)) for x in (product, draws)])
        frame = pd.DataFrame(rows, columns=["group", "effect1", "effect2", "vcov", "sdcor"])
        return readable(frame, lambda: in_digits(frame, pd.DataFrame(errors, columns=["vcov", "sdcor"])))

    def _mean_error(self, draws: FloatArray) -> float:
        return float(effect_errors(draws[:, None], "mean", self._dependent, self._inflation)[0])

    def _sd_draws(self, p: Parameter, effect: int) -> FloatArray:
        for q in self._parameters:
            if q.kind == "sd" and q.position == p.position and effect in q.effects:
                return self._draws(q)
        raise KeyError(p.label)

    def _pair_names(self, p: Parameter) -> tuple[str, str]:
        if not self.design.terms[p.position].structure.entries:
            name = p.term.removeprefix("cor__")
            return name, name
        own = self._layout(p).labels.term_effects(p.position)
        return own[p.effects[0]], own[p.effects[1]]

    def fitted(self) -> pd.Series:
        """Posterior mean of the conditional mean of every observation; nan where na_action="exclude" left a row out."""
        return by_row(self.design, self._fitted, "fitted")

    @property
    def _fitted(self) -> FloatArray:
        """Posterior means (n,) of the means of the rows of the design."""
        beta = np.asarray(self.data["posterior"]["beta"]).mean(axis=(0, 1)) if self.design.p else np.empty(0)
        return mean_of_rows(self.design, beta, lambda group: self._kept_effects(group).mean(axis=(0, 1)))

    def tidy(self, level: float = 0.95, ddf: DDF | None = None) -> pd.DataFrame:
        """One row per parameter with broom.mixed's columns; estimate is the mean, the interval the HDI.

        `ddf` is taken so that fits and posteriors take one call: a posterior has no degrees of freedom.
        """
        known_ddf(ddf)
        table = self.table(level)
        known, ends = self._parameters, pd.DataFrame(self.hdi(level))
        frame = pd.DataFrame(tidy_table(known, table["mean"].to_numpy(), table["sd"].to_numpy(), ends))
        names = {"mean": "estimate", "sd": "std_error", **_ENDS}
        return readable(frame, lambda: in_digits(frame, self.monte_carlo_errors(level).rename(columns=names)))

    def certificate(self) -> str:
        """How far the draws can be trusted, in one line."""
        return certificate_text(self.diagnostics)

    def __repr__(self) -> str:
        return fill(f"<Posterior of {self.formula!r}: {self.n_draws} draws by {self.method}>", indent="  ")

    @cached_property
    def _variance_draws(self) -> VarianceDraws:
        posterior = self.data["posterior"]
        names = [str(name) for name in posterior.data_vars if not str(name).startswith("b_")]
        return variance_draws(self.design, {name: posterior[name].to_numpy() for name in names}, self.priors.changes)

    def _by_chain(self, values: FloatArray) -> FloatArray:
        shape = self.data["posterior"]["sigma"].shape
        return values.reshape(*shape, *values.shape[1:])

    @cached_property
    def _typical(self) -> list[FloatArray]:
        """Relative factors in the middle of the posterior, where integration starts."""
        return typical_factors(self.design, self._variance_draws, self.priors.changes)
