"""The sections of a boundary report: what each table is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.bayes.evidence import BayesFactor
from bayeslmm.bayes.prior_scales import rms
from bayeslmm.boundary.report import Section
from bayeslmm.boundary.zero_test import ZeroTest
from bayeslmm.boundary.zero_tests import resolve, zero_test
from bayeslmm.design.screen import number
from bayeslmm.errors import DesignError, FitError, PriorError
from bayeslmm.inference.budget import WHOLE
from bayeslmm.inference.components import Components, principal_components
from bayeslmm.inference.edge import rise_without_residual, slope_at_zero
from bayeslmm.inference.lower_rank import rise_at_lower_rank
from bayeslmm.inference.null_model import is_scalar
from bayeslmm.inference.rlrt import DRAWS
from bayeslmm.inference.spectral import rows_or_sums, spectrum
from bayeslmm.inference.zero_fraction import zero_probability
from bayeslmm.inference.zero_rate import singular_rate
from bayeslmm.results.checks import bayes_factor_against, whole_evidence
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.fit_intervals import confint, profile
from bayeslmm.results.interval_methods import or_nan
from bayeslmm.results.labels import Parameter, parameters
from bayeslmm.results.negligible import negligible_sd
from bayeslmm.results.prior_table import prior_text
from bayeslmm.types import FloatArray

# Shares of variance that the frequency of zero estimates is given for.
ICC = (0.0, 0.01, 0.05, 0.1, 0.3)
# Refits of a bootstrap test, and of each entry of the simulated rates of zero, at most.
_REFITS, _REPLICATES = 500, 300
# Sigma this much smaller than the sd of random effects is at zero if the criterion then rises by less than the second.
_NO_SIGMA, _NO_RISE = 1e-4, 1e-3
# Milliseconds of all of either in one report.
_HALF = 0.5 * WHOLE
# Effects from which on numbers that need many fits or a dense eigenproblem are left out.
MANY = 2000


@dataclass(frozen=True)
class Material:
    """A fit and what the sections of its report are made from.

    Attributes
    ----------
    fit : Fit
    draw : callable
        Gives the posterior, or None, and a seed for what is simulated; called once, and only if one is needed.
    level : float
        Of the one-sided limits.
    delta : float or None
        What counts as negligible; None for 5 % of sd(y) / sd(column).
    left_out : tuple of str
        Sections that are not wanted.
    """

    fit: Fit
    draw: Callable[[], tuple[Draws | None, int]]
    level: float
    delta: float | None
    left_out: tuple[str, ...] = ()

    @cached_property
    def _drawn(self) -> tuple[Draws | None, int]:
        return self.draw()

    @property
    def posterior(self) -> Draws | None:
        """The posterior of the same model, if there is one."""
        return self._drawn[0]

    @property
    def random_seed(self) -> int:
        return self._drawn[1]

    @cached_property
    def sds(self) -> tuple[Parameter, ...]:
        """The standard deviations that were estimated."""
        held = self.fit.optimum.fixed
        return tuple(p for p in parameters(self.fit.design) if p.kind == "sd" and p.position not in held)

    @cached_property
    def correlations(self) -> tuple[Parameter, ...]:
        """The correlations that were estimated."""
        held = self.fit.optimum.fixed
        return tuple(p for p in parameters(self.fit.design) if p.kind == "corr" and p.position not in held)

    @cached_property
    def estimates(self) -> pd.Series:
        return self.fit.estimates()

    @cached_property
    def small(self) -> bool:
        """Whether there are few enough effects for the exact methods."""
        return self.fit.design.q <= MANY

    @cached_property
    def limits(self) -> pd.DataFrame:
        """One-sided limits: ends of two-sided intervals with twice the error."""
        labels = [p.label for p in self.sds]
        two_sided = 2.0 * self.level - 1.0
        table = pd.DataFrame({"estimate": self.estimates[labels]})
        for name in ("REML", "ML"):
            # The verdict says that a fit without residual has none.
            make = partial(confint, self.fit, two_sided, parameters=labels, criterion=name)
            ends = or_nan(make, labels, say=False)
            table[f"{name} low"], table[f"{name} high"] = ends["conf_low"], ends["conf_high"]
        return table.join(self._icc(two_sided))

    def _icc(self, level: float) -> pd.DataFrame:
        """Exact limits of the intraclass correlation."""
        found = {}
        for p in self.sds if self.small else ():
            try:
                ends = confint(self.fit, level, method="pivot", parameters=p.label.replace("sd_", "icc_", 1))
            except DesignError:
                continue
            found[p.label] = ends.to_numpy()[0]
        return pd.DataFrame.from_dict(found, orient="index", columns=["ICC low", "ICC high"], dtype=float)

    @cached_property
    def tests(self) -> dict[str, ZeroTest]:
        """Tests that a standard deviation is zero, where there are any."""
        found, fit = dict[str, ZeroTest](), self.fit
        if "tests" in self.left_out:
            return found
        removals = {p.label: resolve(fit.design, p.label) for p in self.sds}
        simulated = sum(not is_scalar(fit.design, removal) for removal in removals.values())
        limits = _HALF / max(1, simulated), _REFITS
        for p in self.sds:
            try:
                removal = removals[p.label]
                found[p.label] = zero_test(fit, removal, "auto", DRAWS, self.random_seed, "auto", limits)
            except FitError as error:
                self.untested[p.label] = str(error)
        return found

    @cached_property
    def untested(self) -> dict[str, str]:
        """Standard deviations without a test, and why."""
        return {}

    @cached_property
    def bayes_factors(self) -> dict[str, BayesFactor]:
        """Bayes factors of zero, where the prior has a density there."""
        found = dict[str, BayesFactor]()
        if self.posterior is None:
            return found
        whole = cache(partial(whole_evidence, self.posterior))
        for p in self.sds:
            try:
                found[p.label] = bayes_factor_against(self.posterior, p.label, (0.5, 1.0, 2.0), whole)
            except PriorError:
                continue
        return found

    @cached_property
    def penalised(self) -> pd.Series | None:
        """Estimates with the boundary-avoiding penalty; None where there are none."""
        from bayeslmm.reml.penalised import optimise_penalised

        if "penalised" in self.left_out:
            return None
        try:
            optimum = optimise_penalised(self.fit.cp, self.fit.reml, fixed=held_theta(self.fit))
        except FitError:
            return None
        return Fit(self.fit.design, self.fit.cp, optimum).estimates()

    @cached_property
    def rises(self) -> pd.Series:
        """How much higher the criterion is where an sd is zero."""
        labels = [p.label for p in self.sds]
        at = [float(profile(self.fit, label, [0.0])["criterion"].iloc[0]) for label in labels]
        rise = pd.Series(at, index=labels) - self.fit.criterion
        return rise.where(self.estimates[labels] > 0, 0.0).clip(lower=0.0)

    @cached_property
    def ranks(self) -> dict[int, float]:
        """How much higher the criterion is where a term of correlated effects has no variance in some direction."""
        fit = self.fit
        own = sorted({p.position for p in self.correlations})
        rises = {i: rise_at_lower_rank(fit.cp, fit.optimum, i) for i in own}
        return {i: rise for i, rise in rises.items() if np.isfinite(rise)}

    @cached_property
    def sigma_at_zero(self) -> bool:
        """Whether the criterion does not rise as sigma goes to zero from where it is estimated."""
        fit = self.fit
        size = max((float(own.sd[0]) for own in self.principal), default=0.0)
        if fit.design.sigma is not None:
            return False
        return fit.sigma == 0 or (
            fit.sigma < _NO_SIGMA * size and rise_without_residual(fit.cp, fit.optimum) < _NO_RISE
        )

    @cached_property
    def principal(self) -> tuple[Components, ...]:
        """Principal components of every term that was estimated."""
        own = principal_components(self.fit.design, self.fit.optimum.terms, self.fit.sigma)
        return tuple(c for c in own if c.term not in self.fit.optimum.fixed)

    def components(self) -> Section:
        """Principal components of every term."""
        design, rows = self.fit.design, []
        for own in self.principal:
            term = design.terms[own.term]
            for k, (sd, share) in enumerate(zip(own.sd, own.share, strict=True)):
                made = combination(own.loadings[:, k], term.effects)
                rows.append((term.label, k + 1, sd, share, made if k < own.rank else f"{made}: no variance"))
        table = pd.DataFrame(rows, columns=["term", "component", "sd", "share", "combination of effects"])
        reading = (
            "Effects are measured by what they add to the response (effect times the root mean square of its column); "
            "sds are in units of the response."
        )
        return Section(
            "components", "What varies, and what does not", table.set_index(["term", "component"]), (reading,)
        )

    def edge(self) -> Section:
        """The criterion at zero."""
        labels = [p.label for p in self.sds]
        table = pd.DataFrame({"estimate": self.estimates[labels]})
        table["rise at 0"] = self.rises
        table["slope at 0"] = [self._slope(p) for p in self.sds]
        table = table.dropna(axis=1, how="all")
        reading = (
            f"Rise at 0: how much the {'REML criterion' if self.fit.reml else 'deviance'} (-2 log likelihood) is "
            "higher when that sd is zero; below 3.84 a 95 % profile interval reaches zero."
        )
        if "slope at 0" in table:
            reading += " Slope at 0: its derivative in (sd / sigma)^2 there; positive where zero is a minimum."
        return Section("edge", "The criterion at the edge", table, (reading,))

    def _slope(self, p: Parameter) -> float:
        """At the estimate where that is zero, else at the optimum without the term; nan for one of several effects."""
        own = [v for v in self.fit.optimum.vanished if v.term == p.position]
        alone = [v for v in own if np.count_nonzero(v.direction) == 1 and v.direction[p.effects[0]] != 0]
        if alone:
            return alone[0].slope
        single = len(self.fit.design.terms[p.position].effects) == 1 and not self.fit.optimum.fixed
        return slope_at_zero(self.fit.cp, p.position, self.fit.reml) if single else float("nan")

    def limit_section(self) -> Section:
        """One-sided limits."""
        table = self.limits.copy()
        table["in words"] = [_one_sided(low, high) for low, high in table[["REML low", "REML high"]].to_numpy()]
        percent = f"{100 * self.level:g} %"
        reading = [
            "REML, ML: where the profile of the criterion has risen by the chi-square quantile. Their confidence is "
            f"about {percent}: near that for REML also with few groups, less for ML when the variance is not small.",
        ]
        if "ICC high" in table and table["ICC high"].notna().any():
            reading.append(
                "ICC = sd^2 / (sd^2 + sigma^2) of a unit of the effect: exact limits, by an F pivot (Wald 1940, "
                "Harville & Fenech 1985), whatever the group sizes and the other variances."
            )
            if (table["ICC high"] == 0).any():
                reading.append(
                    "ICC from 0 to 0: the mean square is so small that no ratio would make it likely. That is an empty "
                    "interval rather than a certain one; take the profiles."
                )
        return Section(
            "limits",
            f"How large it may be: one-sided limits at {percent}",
            table.dropna(axis=1, how="all"),
            tuple(reading),
        )

    def test_section(self) -> Section | None:
        """All tests of zero, the Bayes factor beside them."""
        if "tests" in self.left_out:
            return None
        rows, notes = list[tuple[object, ...]](), dict[str, None]()
        for label, test in self.tests.items():
            for method, row in test.table.iterrows():
                rows.append((label, method, row["statistic"], row["p_value"], row["mc_error"]))
                if row["note"]:
                    notes[f"{method}: {row['note']}.".replace("..", ".")] = None
        table = pd.DataFrame(rows, columns=["parameter", "test of 0", "statistic", "p", "mc_error"])
        errors = pd.DataFrame({"p": table["mc_error"], "mc_error": np.nan})
        skipped = [f"{label} was not tested: {reason}" for label, reason in self.untested.items()]
        below = ": see how often the estimate would be zero, below." if self.zero_section() else "."
        reading = (*((f"A large p is no evidence for zero{below}",) if rows else ()), *notes, *skipped)
        table = table.set_index(["parameter", "test of 0"])
        return Section("tests", "Tests that the sd is zero", table, reading, errors)

    def zero_section(self) -> Section | None:
        """How often an estimate would be singular."""
        return self._zero_section

    @cached_property
    def _zero_section(self) -> Section | None:
        if "zero_rate" in self.left_out:
            return None
        if not self.small or self.fit.design.frequency is not None or not self.fit.cp.sums.batched:
            return None
        if self.fit.design.sigma is not None:
            # Shares of variance are those beside a sigma that is the same everywhere and estimated.
            return None
        table = pd.DataFrame(index=pd.Index(ICC, name="true share"))
        errors = pd.DataFrame(index=table.index)
        try:
            for p in self.sds:
                table[p.label], errors[p.label] = self._zero_rates(p)
        except DesignError:
            # Too few rows to estimate anything beside the fixed effects.
            return None
        largest, name = float(errors.to_numpy().max(initial=0.0)), "REML" if self.fit.reml else "ML"
        exact = largest == 0
        reading = (
            "True share: variance that the effect adds to an observation, over that plus sigma^2 (for an intercept "
            f"the ICC). Entries: share of experiments of this design in which the {name} estimate "
            f"{'is zero' if exact else 'of the term is singular'}, "
            + (
                "exactly."
                if exact
                else f"by simulation (standard error up to {largest:.2g}), other parameters as estimated."
            ),
        )
        title = "How often the estimate would be zero in such an experiment"
        return Section("zero_rate", title, table, reading, errors)

    def _zero_rates(self, p: Parameter) -> tuple[FloatArray, FloatArray]:
        fit = self.fit
        if len(fit.design.terms) == 1 and len(fit.design.terms[0].effects) == 1:
            size = float(rms(fit.design, 0)[0]) ** 2
            # zero_probability has ICC of a unit of the effect.
            ratio = np.array(ICC) / (1.0 - np.array(ICC)) / size
            return zero_probability(
                spectrum(rows_or_sums(fit.design, fit.cp), 0, (0,)), ratio / (1.0 + ratio), reml=fit.reml
            )
        rng = np.random.default_rng(self.random_seed)
        return singular_rate(
            fit.cp,
            fit.optimum.terms,
            p.position,
            p.effects[0],
            ICC,
            reml=fit.reml,
            replicates=_REPLICATES,
            fixed=held_theta(fit),
            rng=rng,
            budget=_HALF / len(self.sds),
        )

    def posterior_section(self) -> Section | None:
        """What the posterior says."""
        post = self.posterior
        if post is None:
            return None
        interval, rows, sizes = post.hdi(self.level), dict[str, dict[str, Any]](), list[float]()
        for p in self.sds:
            delta = negligible_sd(self.fit.design, p) if self.delta is None else self.delta
            factor = self.bayes_factors.get(p.label)
            sizes.append(post._size(post.draws(p.label) < delta))
            rows[p.label] = {
                "HDI low": interval.loc[p.label].iloc[0],
                "HDI high": interval.loc[p.label].iloc[1],
                "delta": delta,
                "P(sd < delta)": post.probability_below(p.label, delta),
                "BF01": factor.bf01 if factor else np.nan,
                "BF01, prior / 2": np.exp(factor.log_bf01_at_scales[0]) if factor else np.nan,
                "BF01, prior x 2": np.exp(factor.log_bf01_at_scales[2]) if factor else np.nan,
                "prior": prior_text(self.fit.design, post.priors, p),
            }
        reading = (
            f"HDI: the shortest interval with {100 * self.level:g} % of the posterior; from 0 on it is an upper limit. "
            "delta: what counts as negligible. BF01: how much better the data are predicted by a zero than by the "
            "prior; it depends on the scale of the prior, as its columns show. Where the prior is about the mean of a "
            "predictor, so is the zero of BF01; the HDI is about the predictor's zero.",
        )
        ends = post.monte_carlo_errors(self.level)[["hdi_low", "hdi_high"]].loc[list(rows)]
        errors = ends.rename(columns={"hdi_low": "HDI low", "hdi_high": "HDI high"})
        table = pd.DataFrame.from_dict(rows, orient="index")
        for name in ("BF01", "BF01, prior / 2", "BF01, prior x 2"):
            errors[name] = table[name].astype(float) * [self._relative_error(label) for label in rows]
        shares = {"P(sd < delta)": tuple(sizes)}
        return Section("posterior", "The posterior of the same model", table, reading, errors, shares)

    def _relative_error(self, label: str) -> float:
        factor = self.bayes_factors.get(label)
        return factor.error if factor else 0.0

    def penalty_section(self) -> Section | None:
        """What a boundary-avoiding prior would give."""
        if self.penalised is None:
            return None
        labels = [p.label for p in parameters(self.fit.design) if p.kind in ("sd", "corr", "sigma")]
        table = pd.DataFrame({"estimate": self.estimates[labels], "with penalty": self.penalised[labels]})
        reading = (
            "The penalty adds the log of sd / sigma (of 1.5 times the log determinant, for correlated effects) to the "
            "log likelihood: a point estimate off zero, by construction.",
        )
        return Section("penalised", "With a boundary-avoiding penalty", table, reading)


def _one_sided(low: float, high: float) -> str:
    """What the limits by REML say, each for itself."""
    parts = [f"above {number(low)}"] if low > 0 else []
    parts += [f"below {number(high)}"] if np.isfinite(high) else []
    return f"{' or '.join(parts)} (one-sided)" if parts else ""


def no_residual(fit: Fit) -> str:
    """The verdict where sigma is at its zero."""
    return (
        f"The residual standard deviation is at its zero: sigma is estimated as {number(fit.sigma)}, and the criterion "
        "is not higher with any smaller one. The random effects reproduce every observation, so that their standard "
        "deviations hold what would be residual. Ratios to sigma, and tests that need a residual, mean nothing."
    )


def percent(share: float) -> str:
    """A share in per cent that does not round to none.

    Examples
    --------
    >>> percent(0.376), percent(4.2e-9)
    ('37.6%', '4.2e-07%')
    """
    return f"{share:.1%}" if share >= 0.001 else f"{100.0 * share:.2g}%"


def combination(loadings: Sequence[float] | np.ndarray, effects: Sequence[str]) -> str:
    """A combination of effects in words, small parts left out."""
    loadings = np.asarray(loadings, dtype=float)
    if loadings.size == 1:
        return effects[0]
    parts = [(x, name) for x, name in zip(loadings, effects, strict=True) if abs(x) > 0.05]
    return " ".join(f"{'-' if x < 0 else '+'} {abs(x):.2f} {name}" for x, name in parts).removeprefix("+ ")


def held_theta(fit: Fit) -> dict[int, FloatArray]:
    """Theta of the terms that were not estimated, by position."""
    return {i: fit.design.terms[i].structure.theta(fit.optimum.terms[i]) for i in fit.optimum.fixed}
