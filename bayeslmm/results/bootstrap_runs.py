"""Bootstrap of a fit: parametric or semiparametric, of its parameters or of any function of a fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import MOST_REFITS, MOST_WORKERS, affordable, choice, shown, whole
from bayeslmm.design.design import Design
from bayeslmm.design.extension import outermost, part_of
from bayeslmm.design.observations import need_observations
from bayeslmm.errors import BayesLMMError, DesignError, FitError
from bayeslmm.inference.bootstrap import bootstrap_optima
from bayeslmm.inference.semiparametric import resampled_responses
from bayeslmm.inference.simulation import at_a_time, check_rows
from bayeslmm.reml.many import Optima
from bayeslmm.reml.residual_optimum import ResidualOptimum
from bayeslmm.results.bootstraps import Bootstrap, value_of
from bayeslmm.results.fit import Fit
from bayeslmm.results.labels import parameters as all_parameters
from bayeslmm.results.profiles import check_minimum, find_derived
from bayeslmm.results.random_parts import Random
from bayeslmm.results.refits import Refits, optima_of, refit_design
from bayeslmm.results.sampling import generator
from bayeslmm.results.simulations import Conditions, held_effects, law_of, simulated_values
from bayeslmm.results.updates import of_response
from bayeslmm.types import FloatArray, IntArray

type Statistic = Callable[[Any], Any]

# What a name may stand for besides a label of a parameter.
_NAMED = (
    "estimates",
    "fixef",
    "std_error",
    "r2",
    "icc",
    "sigma",
    "theta",
    "criterion",
    "loglik",
    "aic",
    "bic",
    "fitted",
)


def bootstrap(
    fit: Fit,
    n: int = 1000,
    random_seed: int | np.random.Generator | None = None,
    *,
    statistic: Statistic | str | None = None,
    method: Literal["parametric", "semiparametric"] = "parametric",
    random: Random = "new",
    criterion: Literal["REML", "ML"] | None = None,
    workers: int = 1,
) -> Bootstrap:
    """Bootstrap: simulate responses from the fit and refit the model to each.

    Parameters
    ----------
    n : int
    random_seed : int or numpy.random.Generator, optional
    statistic : callable or str, optional
        What is computed of every refit, by default all parameters: a function of a fit that gives a number, a Series, a
        mapping or an array of them; the label of a parameter; or one of ``"estimates"``, ``"fixef"``, ``"std_error"``,
        ``"r2"``, ``"icc"``, ``"sigma"``, ``"theta"``, ``"criterion"``, ``"loglik"``, ``"aic"``, ``"bic"``,
        ``"fitted"``. Refits are then made one by one.
    method : {"parametric", "semiparametric"}
        Random effects and residuals from normal distributions; or those of the fit, centred and rescaled to the
        estimated covariances and drawn with replacement, which does not need the normal distribution.
    random : "new", "all" or sequence of str
        Whose random effects are kept, as in `simulate`: by default none, all are drawn.
    criterion : {"REML", "ML"}, optional
        By default the one that was fitted.
    workers : int
        Threads, where refits are made together; models whose residuals have parameters are refitted one by one.

    Returns
    -------
    Bootstrap
        ``.draws``, ``.confint(level, kind)``, ``.share_singular``, ``.failed``.

    Raises
    ------
    DesignError
        Rows of the fit stand for several observations (``frequency=``); n or workers is not positive; a statistic that
        gives no numbers.
    FitError
        The fit leaves no residual; random_seed is no seed.

    Warns
    -----
    BayesLMMWarning
        Some parameters are not identified, with their names, or the fit is not a minimum.

    Notes
    -----
    Near a zero variance percentile intervals are not to be relied on: at an estimate of zero, nothing but zero is
    simulated from. `Bootstrap.confint` says so.

    References
    ----------
    Carpenter, Goldstein & Rasbash (2003), J. R. Stat. Soc. C 52, 431-443 (semiparametric).

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff")).fit()
    >>> boot = fit.bootstrap(100, random_seed=1, statistic=lambda f: f.estimates().iloc[0] / f.sigma)
    >>> boot.confint(kind="basic").shape
    (1, 2)
    """
    optimum, rng = fit._by_criterion(criterion), generator(random_seed)
    n, workers = count(fit.design, n), whole("workers", workers, 1, MOST_WORKERS, DesignError)
    choice("method", method, ("parametric", "semiparametric"), DesignError)
    check_rows(fit.design)
    if method == "semiparametric":
        need_observations(
            fit.design, "method='semiparametric' draws from residuals", "method='parametric' draws the sums of cells."
        )
    check_minimum(optimum, all_parameters(fit.design))
    fit = fit if optimum is fit.optimum else replace(fit, cp=optimum.cp, optimum=optimum)
    _, kept = held_effects(fit.design, random, lambda: fit)
    asked = None if statistic is None else _Asked(fit, statistic)
    if (
        asked is None
        and method == "parametric"
        and not kept
        and random is not None
        and not isinstance(optimum, ResidualOptimum)
    ):
        beta = np.asarray(fit._conditional.beta[0])
        parts = bootstrap_optima(
            fit.cp, optimum.terms, optimum.sigma, beta, n, rng,
            reml=optimum.reml, fixed=fit._fixed, workers=workers, lam=optimum.lam,
        )  # fmt: skip
        return _of_parameters(fit, parts)
    responses = _responses(fit, method, random, kept, n, rng)
    if asked is None:
        return _of_parameters(fit, (optima_of(fit, Y, workers) for Y in responses))
    return _of_statistic(fit, asked, responses)


def count(design: Design, n: Any) -> int:
    """A number of simulated responses, which are in memory together."""
    number = whole("n", n, 1, MOST_REFITS, DesignError)
    return affordable("n", number, design.n_observations, DesignError)


def _responses(
    fit: Fit, method: str, random: Random, kept: Mapping[int, FloatArray], n: int, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Responses (rows, some), some at a time."""
    design, optimum = fit.design, fit.optimum
    effects = held_effects(design, tuple(design.groupings), lambda: fit)[1]
    for few in at_a_time(n, design.n):
        if method == "parametric":
            yield simulated_values(design, law_of(fit, {}), Conditions(random=random), lambda: fit, few, rng)[0]
            continue
        held = kept if random is not None else {i: np.zeros_like(b) for i, b in effects.items()}
        yield resampled_responses(
            design, optimum.terms, optimum.sigma, np.asarray(fit._conditional.beta[0]), optimum.lam,
            [effects[i] for i in range(len(design.terms))], held, few, rng,
        )  # fmt: skip


def _of_parameters(fit: Fit, parts: Iterator[Optima]) -> Bootstrap:
    found = [Refits(fit.design, fit.optimum.reml, optima) for optima in parts]
    status = [status for part in found for status in part.optima.status]
    return Bootstrap(
        fit.design,
        fit.estimates(),
        pd.concat([part.estimates() for part in found], ignore_index=True),
        tuple(one.name for one in status),
        pd.Series([one.ok for one in status], dtype=bool),
        pd.Series(np.concatenate([part.is_singular for part in found])),
        without=partial(without_groups, fit, Fit.estimates),
    )


def _of_statistic(fit: Fit, asked: _Asked, parts: Iterator[FloatArray]) -> Bootstrap:
    rows, outcome, ok, singular = [], list[str](), list[bool](), list[bool]()
    for y in (y for Y in parts for y in Y.T):
        try:
            own = replace(refit_design(fit, replace(fit.design, y=y)), origin=of_response(fit.origin, y))
        except (FitError, np.linalg.LinAlgError):
            own = None
        if own is None:
            rows.append(asked.nothing)
            singular.append(False)
            ok.append(False)
            outcome.append("no_start")
            continue
        row = asked.of(own)
        rows.append(row)
        singular.append(own.is_singular)
        ok.append(bool(own.status.ok and np.isfinite(row.to_numpy()).all()))
        outcome.append(own.status.name if ok[-1] or not own.status.ok else "no_number")
    return Bootstrap(
        fit.design,
        asked.estimate,
        pd.DataFrame(rows).reset_index(drop=True),
        tuple(outcome),
        pd.Series(ok, dtype=bool),
        pd.Series(singular, dtype=bool),
        asked.name,
        partial(without_groups, fit, asked.of),
    )


def without_groups(fit: Fit, function: Callable[[Fit], pd.Series]) -> pd.DataFrame:
    """Numbers of refits without each level of the first outermost grouping factor; rows of nan where there is none.

    Without random effects without each group of correlated residuals, or each row.
    """
    codes = _independent(fit.design)
    rows = []
    for level in range(int(codes.max()) + 1):
        try:
            left = np.flatnonzero(codes != level)
            refit = refit_design(fit, part_of(fit.design, left))
            rows.append(function(replace(refit, origin=of_response(fit.origin, fit.design.y[left], left))))
        except (BayesLMMError, np.linalg.LinAlgError):
            rows.append(pd.Series(np.nan, index=function(fit).index))
    return pd.DataFrame(rows).reset_index(drop=True)


def _independent(design: Design) -> IntArray:
    """Groups (n,) of rows that are independent of one another."""
    if design.groupings:
        return design.groupings[outermost(design)[0]].codes
    clusters = design.residual.clusters
    return np.arange(design.n) if clusters is None else clusters


class _Asked:
    """A statistic, checked on the fit itself."""

    def __init__(self, fit: Fit, given: Any) -> None:
        if not callable(given) and not isinstance(given, str):
            raise DesignError(
                f"statistic={shown(given)} is neither a function of a fit nor a name. Write for example "
                "statistic=lambda fit: fit.estimates()['sigma'] ** 2."
            )
        self.fit, self.given = fit, given
        try:
            value = self._of(fit)
        except BayesLMMError:
            raise
        except Exception as error:
            raise DesignError(
                f"The statistic fails for the fit itself, before any response is simulated: {type(error).__name__}: "
                f"{error}"
            ) from error
        self.estimate: pd.Series = _numbers(value)

    @property
    def name(self) -> str:
        return self.given if isinstance(self.given, str) else str(getattr(self.given, "__name__", "statistic"))

    def _of(self, fit: Fit) -> Any:
        if not isinstance(self.given, str):
            return self.given(fit)
        if self.given in _NAMED:
            value = getattr(fit, self.given)
            return value() if callable(value) else value
        p = find_derived(self.fit.design, self.given)
        return {p.label: float(value_of(fit.estimates().to_frame().T, p, fit.design.sigma)[0])}

    @property
    def nothing(self) -> pd.Series:
        """In the place of the numbers of a response that has no fit."""
        return pd.Series(np.nan, index=self.estimate.index)

    def of(self, fit: Fit) -> pd.Series:
        """Its numbers for a fit, under the same names; nan where the fit has none."""
        try:
            found = _numbers(self._of(fit))
        except BayesLMMError:
            return self.nothing
        if not found.index.equals(self.estimate.index):
            raise DesignError(
                f"The statistic gives {found.size} numbers ({shown(list(found.index))}) for one response and "
                f"{self.estimate.size} ({shown(list(self.estimate.index))}) for the fit. It has to give the same ones."
            )
        return found


def _numbers(value: Any) -> pd.Series:
    """Numbers under names.

    Raises
    ------
    DesignError
    """
    try:
        if isinstance(value, pd.Series):
            found = pd.Series(value.to_numpy(dtype=float), index=[str(name) for name in value.index])
        elif isinstance(value, Mapping):
            found = pd.Series({str(name): float(number) for name, number in value.items()}, dtype=float)
        else:
            array = np.asarray(value, dtype=float)
            names = ["statistic"] if array.ndim == 0 else [f"statistic[{i}]" for i in range(array.size)]
            found = pd.Series(array.reshape(-1), index=names) if array.ndim <= 1 else pd.Series(dtype=float)
    except (TypeError, ValueError):
        found = pd.Series(dtype=float)
    if not found.size:
        raise DesignError(
            f"The statistic gives {shown(value)} for the fit; it takes a number, or a Series, mapping or array of them."
        )
    return found
