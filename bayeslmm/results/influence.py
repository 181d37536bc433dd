"""What single rows, or groups of rows, do to the estimates of a fit: exact deletion, theta estimated anew or held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayeslmm.arguments import choice, instance
from bayeslmm.design.readable import html_table, readable, table_text
from bayeslmm.design.same import same_design
from bayeslmm.design.screen import cell_text, screen_width, wrap
from bayeslmm.equality import by_value
from bayeslmm.errors import DesignError, FitError
from bayeslmm.results.deletion_cases import DeletionCases, deletion_cases
from bayeslmm.results.draws import Draws
from bayeslmm.results.fit import Fit
from bayeslmm.results.influence_statistics import cannot_be_left_out, estimated, held, relative_changes, statistics
from bayeslmm.results.posterior_influence import posterior_influence
from bayeslmm.types import IntArray

type ThetaWithout = Literal["estimated", "fixed"]

# Cases that are printed.
_TOP = 10


@by_value
@dataclass(frozen=True, repr=False, eq=False)
class Influence:
    """Estimates without each of some cases (rows, or groups of rows), and what they say of the case.

    Attributes
    ----------
    formula : str
    by : str
        ``"row"`` or the name of the grouping factor.
    theta : {"estimated", "fixed"}
        Whether the variances were estimated anew without the case.
    table : DataFrame
        A line per case, largest ``cooks_d`` first. ``cooks_d``: squared distance that the fixed effects move without
        it, in their covariance, over their number; ``mdffits``: the same in their covariance without it;
        ``covratio``: determinant of their covariance without it over that with it; ``dfbetas``: the largest movement
        of one coefficient in its standard error without the case, and ``of``, which; ``sigma``: relative change of the
        residual sd; ``singular``: whether the fit without it is. By rows ``residual`` (standardised) and ``leverage``;
        by groups ``rows``. With a posterior ``pareto_k`` and ``p_loo``.
    dfbetas : DataFrame
        All coefficients, ``(with - without) / standard error without``; cases in the order of the data.
    estimates : DataFrame
        All parameters without each case, under their labels.
    changes : DataFrame
        Relative changes ``without / with - 1`` of sds, sigma and ratios of sds; differences ``without - with`` of
        correlations and exponents.
    singular : bool
        Whether the fit with all rows is singular.
    without : tuple
        Cases that could not be left out: a fixed effect or a parameter of the residuals rests on them alone, or fewer
        than two levels of a grouping factor would stay. nan everywhere.
    """

    formula: str
    by: str
    theta: ThetaWithout
    table: pd.DataFrame
    dfbetas: pd.DataFrame
    estimates: pd.DataFrame
    changes: pd.DataFrame
    singular: bool
    without: tuple[Any, ...]
    order: IntArray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def in_order(self) -> pd.DataFrame:
        """`table` in the order of the data."""
        return self.table.iloc[np.argsort(self.order)]

    @property
    def cooks_d(self) -> pd.Series:
        """Cook's distances by deletion, in the order of the data: how far the fixed effects move without each case.

        Not the conditional ones of ``fit.cooks_distance()``; ``.attrs["quantity"]`` says so.
        """
        if "cooks_d" not in self.table:
            raise DesignError("The model has no fixed effect that could move, so that there is no Cook's distance.")
        out = self.in_order["cooks_d"]
        out.attrs["quantity"] = "Cook's distance by deletion: how far the fixed effects move without the case"
        return out

    @property
    def flips(self) -> pd.DataFrame:
        """The cases without which the fit is singular although it is not with all rows, or the reverse."""
        known = self.table[self.table["singular"].notna()]
        return known[known["singular"].astype(bool) != self.singular]

    def text(self, width: int | None = None) -> str:
        """The most influential cases as text that fits the screen.

        Parameters
        ----------
        width : int, optional
            Columns of the screen; by default those of the terminal, or 80.
        """
        width = screen_width() if width is None else width
        how = "variances estimated anew" if self.theta == "estimated" else "relative variances held"
        what = "rows" if self.by == "row" else f"levels of {self.by}"
        flips = self.flips
        top = self.table.head(_TOP).drop(columns=["mdffits", *([] if len(flips) else ["singular"])], errors="ignore")
        title = f"Influence of {len(self.table)} {what} on {self.formula}; each left out exactly, {how}"
        lines = [*wrap(title, width), "", table_text(_short(top), width)]
        if len(self.table) > _TOP:
            first = "largest Cook's distance" if "cooks_d" in self.table else "largest change of sigma"
            lines += ["", *wrap(f"The {_TOP} with the {first}; .table has all {len(self.table)}.", width)]
        if len(flips):
            turned = "is not singular" if self.singular else "is singular"
            lines += wrap(f"Without {_some(flips.index)} the fit {turned}.", width)
        if self.without:
            why = "a fixed effect, a variance or correlation, or all variation rests on them"
            lines += wrap(f"Cannot be left out ({why}): {_some(self.without)}.", width)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(_short(self.table.head(_TOP)))


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """The table as texts of three digits, so that a line of the screen has all of it."""
    out = {}
    for name in table.columns:
        values = table[name].tolist()
        if name == "singular":
            out[name] = ["" if value is None else "yes" if value else "no" for value in values]
        elif name == "sigma":
            out["sigma"] = ["" if value != value else f"{100.0 * value:+.3g} %" for value in values]
        else:
            out[name] = [f"{v:.3g}" if isinstance(v, float) and v == v else cell_text(v) for v in values]
    return pd.DataFrame(out, index=table.index, dtype=object)


def _some(labels: Sequence[Any] | pd.Index, most: int = 8) -> str:
    named = ", ".join(map(str, list(labels)[:most]))
    return named if len(labels) <= most else f"{named} and {len(labels) - most} more"


def influence(
    fit: Fit,
    by: Any = None,
    *,
    theta: ThetaWithout = "estimated",
    cases: Sequence[Any] | None = None,
    posterior: Draws | None = None,
) -> Influence:
    """Leave out every row, or every group of rows, and say how the estimates change.

    Deletion is exact. With ``theta="fixed"`` (sigma estimated anew; relative variances and parameters of the residuals
    held) it follows from the factorisation of the fit, without refits; with theta estimated anew all cases are solved
    together by one vectorised Newton iteration where the design allows it, else one after the other.

    Parameters
    ----------
    by : str or sequence of shape (rows,), optional
        Grouping factor whose levels are left out (that of correlated residuals is one, too), or the group of each row
        of the fit; rows by default. A row that stands for several observations goes with all of them. Rows that stay
        keep their times and visits.
    theta : {"estimated", "fixed"}
    cases : sequence, optional
        Labels of the rows or levels to leave out; all by default.
    posterior : Posterior, optional
        Of the same model: adds the Pareto k of leaving the case out (`Posterior.loo`) and the fall in log density of
        the case when it is left out.

    Returns
    -------
    Influence

    Raises
    ------
    DesignError
        No such grouping factor, row or level; the posterior of another model.
    FitError
        The fit did not converge; more than 1,000 refits would have to be made one after the other.

    References
    ----------
    Christensen, Pearson & Johnson (1992), Technometrics 34, 38-45; Belsley, Kuh & Welsch (1980) for DFBETAS and
    COVRATIO; Schabenberger (2005), SUGI 29, paper 189, for MDFFITS in mixed models.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> fit = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).fit()
    >>> fit.influence("Subject").table[["cooks_d", "covratio"]].head(2).round(3).rename_axis(None)
         cooks_d  covratio
    309    0.149     0.890
    335    0.129     0.938
    """
    choice("theta", theta, ("estimated", "fixed"), DesignError)
    if not fit.status.ok:
        raise FitError(f"The fit {fit.status}, so that there is no estimate for a case to change.")
    if posterior is not None:
        _check_posterior(fit, instance("posterior", posterior, Draws, "a posterior of the same model", DesignError))
    chosen = deletion_cases(fit.design, by, cases)
    lost = cannot_be_left_out(fit, chosen)
    out = held(fit, chosen, lost) if theta == "fixed" else estimated(fit, chosen, lost, cases is not None)
    table, dfbetas = statistics(fit, chosen, out)
    if posterior is not None:
        table = _with_posterior(table, posterior, chosen)
    estimates = out.frame(fit, chosen.labels)
    order = _order(table)
    return Influence(
        fit.formula,
        chosen.by,
        theta,
        readable(table.iloc[order]),
        readable(dfbetas),
        readable(estimates),
        readable(relative_changes(fit, estimates)),
        fit.is_singular,
        tuple(chosen.labels[np.isnan(out.sigma)]),
        order,
    )


def _order(table: pd.DataFrame) -> IntArray:
    """Places of the cases, the most influential first."""
    size = table["cooks_d"] if "cooks_d" in table else table["sigma"].abs()
    return np.argsort(-size.fillna(-np.inf).to_numpy(), kind="stable")


def _with_posterior(table: pd.DataFrame, posterior: Draws, chosen: DeletionCases) -> pd.DataFrame:
    """The Pareto k of every case, and what its log density loses when it is left out."""
    if chosen.by != "row" and chosen.by not in posterior.design.groupings:
        raise DesignError("posterior= needs rows or a grouping factor of the model, which loo() leaves out.")
    known = posterior_influence(posterior, None if chosen.by == "row" else chosen.by)
    rows = np.concatenate([own[:1] for own in chosen.rows(np.arange(len(chosen.labels)))])
    codes = np.arange(chosen.codes.size) if chosen.by == "row" else posterior.design.groupings[chosen.by].codes
    beside: pd.DataFrame = known.iloc[codes[rows]].set_axis(table.index)
    return pd.concat([table, beside], axis=1)


def _check_posterior(fit: Fit, posterior: Draws) -> None:
    if not same_design(fit.design, posterior.design):
        raise DesignError(
            f"The posterior is one of another model, {posterior.formula!r} on {posterior.n} observations; the fit is "
            f"{fit.formula!r} on {fit.n}. Sample the Model that was fitted."
        )
