"""Cross-validation of a fit by groups: how well rows of levels that the fit has not seen are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import Seed, generator, whole
from bayeslmm.design.design import Design
from bayeslmm.design.observations import need_observations
from bayeslmm.design.readable import readable, table_text
from bayeslmm.design.residual_groups import residual_grouping
from bayeslmm.design.screen import number, screen_width, wrap
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood.correlated_rows import CorrelatedSystem, predict_correlated
from bayeslmm.likelihood.deletion import predict_left_out
from bayeslmm.likelihood.parameters import block_factors
from bayeslmm.likelihood.whitened import whitened_products
from bayeslmm.reml.deleted import optimise_without, still_says_all
from bayeslmm.reml.many import Optima
from bayeslmm.residual import crosses
from bayeslmm.results.deletion_cases import DeletionCases, deletion_cases
from bayeslmm.results.figures import column_texts
from bayeslmm.results.fit import Fit
from bayeslmm.results.influence_statistics import cannot_be_left_out
from bayeslmm.types import FloatArray, IntArray

_MOST_FOLDS = 100_000
_NOTE = "Rows left out are predicted from all others, those that their residuals depend on included."


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class CrossValidation:
    """Predictions of rows by fits that have not seen their fold.

    Attributes
    ----------
    formula : str
    groups : str
        What was left out together: ``"row"`` or the name of the grouping factor.
    predictions : DataFrame
        A line per row of the data: ``fold``, ``observed``, ``predicted`` (what the rest says: fixed part, and effects
        of levels that other folds have, too), ``sd`` (of the predictive distribution, variances as estimated without
        the fold), ``error``.
    folds : DataFrame
        ``rows``, ``rmse``, ``log_score`` (joint log density of the fold's rows given all others), ``sigma`` and
        ``singular`` of the fit without it.
    note : str
        What else predictions rest on.
    """

    formula: str
    groups: str
    predictions: pd.DataFrame
    folds: pd.DataFrame
    note: str = ""

    @property
    def rmse(self) -> float:
        """Root mean square error of prediction."""
        return float(np.sqrt(np.mean(self.predictions["error"] ** 2)))

    @property
    def mae(self) -> float:
        """Mean absolute error of prediction."""
        return float(self.predictions["error"].abs().mean())

    @property
    def log_score(self) -> float:
        """Sum over the folds of their joint log densities; higher is better."""
        return float(self.folds["log_score"].sum())

    @property
    def coverage(self) -> float:
        """Share of rows within 1.96 predictive standard deviations."""
        return float((self.predictions["error"].abs() <= 1.959963984540054 * self.predictions["sd"]).mean())

    def __str__(self) -> str:
        width, k = screen_width(), len(self.folds)
        title = f"Cross-validation of {self.formula}: {k} folds of whole levels of {self.groups}"
        title = title if self.groups != "row" else f"Cross-validation of {self.formula}: {k} folds of rows"
        score = f"{number(self.log_score)} ({number(self.log_score / len(self.predictions))} per row)"
        errors = f"rmse {number(self.rmse)}; mae {number(self.mae)}; log score {score};"
        found = [*wrap(errors, width, "  "), f"within 95 %: {100 * self.coverage:.0f} %"]
        shown = table_text(column_texts(self.folds.head(12)), width)
        note = wrap(self.note, width, "  ") if self.note else []
        lines = [*wrap(title, width, "  "), *note, *found, "", shown]
        return "\n".join(lines + ([f"{k - 12} more folds in .folds"] if k > 12 else []))

    def __repr__(self) -> str:
        return str(self)


def cv(fit: Fit, groups: Any = None, k: int | None = None, *, random_seed: Seed = 1) -> CrossValidation:
    """Leave out folds of whole groups, estimate everything from the rest, and predict what was left out.

    What is left out is predicted as rows of new levels: with the uncertainty of their effects, of the fixed effects
    and of the residual, variances as estimated from the rest. Effects of factors that are crossed with the groups are
    known as far as the rest tells of them. So are correlated residuals: where rows are left out and others of their
    group stay (``"row"``), predictions are conditional on these.

    Parameters
    ----------
    groups : str or sequence of shape (rows,), optional
        Grouping factor whose levels are left out whole, or the group of each row; by default the factor with the most
        rows per level, without random effects that of correlated residuals. ``"row"`` leaves out rows.
    k : int, optional
        Number of folds, to which groups are dealt at random; by default every group is a fold.
    random_seed : int or Generator
        For dealing.

    Returns
    -------
    CrossValidation

    Raises
    ------
    DesignError
        No such factor; `k` is below 2 or above the number of groups.
    FitError
        A fixed effect rests on one fold alone; a fit did not converge.

    References
    ----------
    Roberts et al. (2017), Ecography 40, 913-929, for leaving out whole groups.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> new = fit.cv("Subject")
    >>> round(new.rmse, 1), round(new.log_score, 1), len(new.folds)
    (49.6, -891.3, 18)
    """
    need_observations(
        fit.design, "Cross-validation compares predictions", "post.loo('group') leaves out groups.", FitError
    )
    if fit.design.frequency is not None:
        raise FitError("The rows have frequencies; cross-validation is of single observations. Write the rows out.")
    if not fit.status.ok:
        raise FitError(f"The fit {fit.status}, so that there is nothing to validate.")
    if groups is None:
        own = residual_grouping(fit.design)
        known = dict(fit.design.groupings) or ({} if own is None else {own.name: own})
        groups = min(known, key=lambda name: known[name].n_levels, default="row")
    chosen = deletion_cases(fit.design, None if isinstance(groups, str) and groups == "row" else groups)
    folds = chosen if k is None else _dealt(chosen, k, random_seed)
    lost = cannot_be_left_out(fit, folds)
    lost |= [not still_says_all(fit.optimum, rows) for rows in folds.rows(np.arange(lost.size))]
    if lost.any():
        raise FitError(
            f"Without fold {folds.labels[int(np.argmax(lost))]} a fixed effect, a variance or a correlation has no "
            f"estimate ({int(lost.sum())} of {lost.size} such folds). Make fewer folds (k=), or leave other groups out."
        )
    return _validated(fit, folds, chosen.by)


def _dealt(chosen: DeletionCases, k: Any, random_seed: Seed) -> DeletionCases:
    """Groups dealt to k folds of about as many groups each."""
    k = whole("k", k, 2, _MOST_FOLDS, DesignError)
    G = len(chosen.labels)
    if k > G:
        raise DesignError(f"k={k} folds are more than the {G} groups that could be dealt to them.")
    of_group = generator(random_seed, error=DesignError).permutation(np.arange(G) % k)
    return DeletionCases(chosen.by, pd.Index(np.arange(1, k + 1), name="fold"), of_group[chosen.codes], chosen.counts)


def _validated(fit: Fit, folds: DeletionCases, groups: str) -> CrossValidation:
    design = fit.design
    sets = folds.rows(np.arange(len(folds.labels)))
    out = optimise_without(fit.optimum, sets).optima
    failed = [str(folds.labels[i]) for i, status in enumerate(out.status) if not status.ok]
    if failed:
        status = next(one for one in out.status if not one.ok)
        raise FitError(f"The fit without fold {failed[0]} {status} ({len(failed)} such folds).")
    mean, sd, score = _predicted(fit, out, sets)
    labels = np.empty(design.n, dtype=object)
    for label, rows in zip(folds.labels, sets, strict=True):
        labels[rows] = label
    table = pd.DataFrame({"fold": labels, "observed": design.y, "predicted": mean, "sd": sd}, index=design.index)
    table["error"] = table["observed"] - table["predicted"]
    rmse = [float(np.sqrt(np.mean(table["error"].to_numpy()[rows] ** 2))) for rows in sets]
    per_fold = pd.DataFrame(
        {
            "rows": [rows.size for rows in sets],
            "rmse": rmse,
            "log_score": score,
            "sigma": out.sigma,
            "singular": out.singular,
        },
        index=folds.labels,
    )
    note = _NOTE if _splits_clusters(design, folds.codes) else ""
    return CrossValidation(fit.formula, groups, readable(table), readable(per_fold), note)


def _predicted(fit: Fit, out: Optima, sets: Sequence[IntArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means and sds (n,) of rows given all but their set, at the estimates without it; joint log densities (K,)."""
    design = fit.design
    if design.residual.clusters is None and out.lam is None:
        return predict_left_out(fit.cp, block_factors(fit.cp, list(out.terms)), out.sigma, sets, fit.optimum.lam)
    mean, sd, score = np.full(design.n, np.nan), np.full(design.n, np.nan), np.empty(len(sets))
    for k, rows in enumerate(sets):
        lam = fit.optimum.lam if out.lam is None else out.lam[k]
        cp = fit.cp if out.lam is None else whitened_products(design, lam)
        terms = [T[k : k + 1] for T in out.terms]
        factors = block_factors(cp, terms) if terms else list(fit.optimum.factors)
        system = CorrelatedSystem(design, cp, lam, factors)
        mean[rows], sd[rows], score[k] = predict_correlated(system, float(out.sigma[k]), rows)
    return mean, sd, score


def _splits_clusters(design: Design, codes: IntArray) -> bool:
    """Whether some rows are predicted while others that their residuals depend on stay."""
    clusters = design.residual.clusters
    return clusters is not None and crosses(clusters, codes)
