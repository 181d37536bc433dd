"""Cross-validation of a fit by groups: how well rows of levels that the fit has not seen are predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import Seed, generator, whole
from bayeslmm.design.readable import readable, table_text
from bayeslmm.design.screen import number, screen_width, wrap
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError, FitError
from bayeslmm.likelihood.deletion import predict_left_out
from bayeslmm.likelihood.parameters import block_factors
from bayeslmm.reml.deleted import optimise_without
from bayeslmm.results.deletion_cases import DeletionCases, deletion_cases
from bayeslmm.results.figures import column_texts
from bayeslmm.results.fit import Fit
from bayeslmm.results.influence_statistics import cannot_be_left_out

_MOST_FOLDS = 100_000


@by_value
@dataclass(frozen=True, repr=False)
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
    """

    formula: str
    groups: str
    predictions: pd.DataFrame
    folds: pd.DataFrame

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
        lines = [*wrap(title, width, "  "), *found, "", shown]
        return "\n".join(lines + ([f"{k - 12} more folds in .folds"] if k > 12 else []))

    def __repr__(self) -> str:
        return str(self)


def cv(fit: Fit, groups: Any = None, k: int | None = None, *, random_seed: Seed = 1) -> CrossValidation:
    """Leave out folds of whole groups, estimate everything from the rest, and predict what was left out.

    What is left out is predicted as rows of new levels: with the uncertainty of their effects, of the fixed effects
    and of the residual, variances as estimated from the rest. Effects of factors that are crossed with the groups are
    known as far as the rest tells of them.

    Parameters
    ----------
    groups : str or sequence of shape (rows,), optional
        Grouping factor whose levels are left out whole, or the group of each row; by default the factor with the most
        rows per level. ``"row"`` leaves out rows.
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
    if fit.design.frequency is not None:
        raise FitError("The rows have frequencies; cross-validation is of single observations. Write the rows out.")
    if fit.design.residual.clusters is not None:
        raise DesignError(f"Residuals depend on one another ({fit.design.residual.keyword}); folds would not be apart.")
    if not fit.status.ok:
        raise FitError(f"The fit {fit.status}, so that there is nothing to validate.")
    if groups is None:
        groups = min(fit.design.groupings, key=lambda name: fit.design.groupings[name].n_levels)
    chosen = deletion_cases(fit.design, None if isinstance(groups, str) and groups == "row" else groups)
    folds = chosen if k is None else _dealt(chosen, k, random_seed)
    lost = cannot_be_left_out(fit, folds)
    if lost.any():
        raise FitError(
            f"Without fold {folds.labels[int(np.argmax(lost))]} a fixed effect, or the variance of a factor, has no "
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
        raise FitError(f"The fit without fold {failed[0]} {out.status[0]} ({len(failed)} such folds).")
    blocks = block_factors(fit.cp, list(out.terms))
    mean, sd, score = predict_left_out(fit.cp, blocks, out.sigma, sets, fit.optimum.lam)
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
    return CrossValidation(fit.formula, groups, readable(table), readable(per_fold))
