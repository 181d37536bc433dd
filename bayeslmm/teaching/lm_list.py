"""A regression for every group on its own: no pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bayeslmm.arguments import flag
from bayeslmm.arguments import level as check_level
from bayeslmm.design import Design, build_design
from bayeslmm.design.formula import offsets_outside
from bayeslmm.design.newdata import new_rows
from bayeslmm.design.padding import NaAction, by_row
from bayeslmm.design.readable import readable
from bayeslmm.design.screen import fill
from bayeslmm.errors import DesignError, FormulaError
from bayeslmm.residual import NO_PARAMETERS
from bayeslmm.teaching.grouped import LevelFits, least_squares_by_level
from bayeslmm.types import FloatArray

_SHOWN = 5


@dataclass(frozen=True, repr=False, eq=False)
class LmList:
    """Least squares on every group on its own, with a pooled residual standard deviation.

    Attributes
    ----------
    design : Design
    fits : LevelFits
        The numbers, as arrays.
    """

    design: Design
    fits: LevelFits

    @property
    def formula(self) -> str:
        return self.design.formula

    @property
    def group(self) -> str:
        """Name of the grouping factor."""
        return self.design.terms[0].group

    @property
    def _levels(self) -> pd.Index:
        return pd.Index(list(self.design.groupings[self.group].levels), name=self.group)

    def _frame(self, values: FloatArray) -> pd.DataFrame:
        return readable(pd.DataFrame(values, index=self._levels, columns=list(self.design.terms[0].effects)))

    def coef(self) -> pd.DataFrame:
        """Coefficients, levels x coefficients; nan where a group's rows do not determine one."""
        return self._frame(self.fits.coefficients)

    @property
    def df(self) -> int:
        """Residual degrees of freedom over all groups."""
        return int((self.fits.n - self.fits.rank).sum())

    @property
    def sigma(self) -> float:
        """Pooled residual standard deviation; nan if no group has residual degrees of freedom."""
        return float(np.sqrt(self.fits.rss.sum() / self.df)) if self.df else float("nan")

    def groups(self) -> pd.DataFrame:
        """Per group: rows ``n``, residual ``df``, own ``sigma`` (nan for df 0) and a ``note`` ("" if all is well)."""
        df = self.fits.n - self.fits.rank
        own = np.sqrt(self.fits.rss / np.where(df > 0, df, 1))
        own[df == 0] = np.nan
        columns = {"n": self.fits.n, "df": df, "sigma": own, "note": self._notes()}
        return readable(pd.DataFrame(columns, index=self._levels))

    def _notes(self) -> list[str]:
        c = self.fits.coefficients.shape[1]
        few = "{} row{} for {} coefficients"
        dependent = "columns dependent in this group (rank {} of {})"
        return [
            "" if rank == c else (few.format(n, "s"[: n > 1], c) if n < c else dependent.format(rank, c))
            for n, rank in zip(self.fits.n.tolist(), self.fits.rank.tolist(), strict=True)
        ]

    def std_error(self, pool: bool = True) -> pd.DataFrame:
        """Standard errors, levels x coefficients.

        Parameters
        ----------
        pool : bool
            With the pooled residual standard deviation, or every group's own.
        """
        flag("pool", pool, DesignError)
        return self._frame(self._scale(pool)[:, None] * np.sqrt(self.fits.unscaled))

    def _scale(self, pool: bool) -> FloatArray:
        own: FloatArray = self.groups()["sigma"].to_numpy()
        return np.full_like(own, self.sigma) if pool else own

    def _quantile(self, level: float, pool: bool) -> FloatArray:
        """Standard errors from the estimate to the ends of an interval, for every group; nan without df."""
        from scipy.stats import t as student

        own = (self.fits.n - self.fits.rank).astype(float)
        df = np.full_like(own, self.df) if pool else own
        return np.asarray(student.ppf(0.5 + level / 2, np.where(df > 0, df, np.nan)))

    def confint(self, level: float = 0.95, pool: bool = True) -> pd.DataFrame:
        """Intervals of all coefficients by the t distribution.

        Parameters
        ----------
        level : float
        pool : bool
            With the pooled residual standard deviation and its degrees of freedom, or every group's own.

        Returns
        -------
        pandas.DataFrame
            Indexed by (level, coefficient): ``estimate``, ``std_error``, ``conf_low``, ``conf_high``.

        Raises
        ------
        DesignError
            The level is not strictly between 0 and 1.
        """
        level = check_level("level", level, DesignError)
        flag("pool", pool, DesignError)
        estimate, error = self.fits.coefficients, self.std_error(pool).to_numpy()
        half = self._quantile(level, pool)[:, None] * error
        names = pd.Index(list(self.design.terms[0].effects), name="coefficient")
        columns = {"estimate": estimate, "std_error": error, "conf_low": estimate - half, "conf_high": estimate + half}
        index = pd.MultiIndex.from_product([self._levels, names])
        return readable(pd.DataFrame({name: values.ravel() for name, values in columns.items()}, index=index))

    def residuals(self) -> pd.Series:
        """Response minus the fit of its own group, indexed as the rows kept; as the data with na_action="exclude"."""
        return by_row(self.design, self.fits.residuals, "residual")

    def fitted(self) -> pd.Series:
        """Fit of the own group at every row, indexed as `residuals`."""
        return by_row(self.design, self.design.y - self.fits.residuals, "fitted")

    def predict(self, newdata: Any, *, level: float = 0.95, pool: bool = True) -> pd.DataFrame:
        """Means at new rows, each by the line of its own group.

        Parameters
        ----------
        newdata : pandas, polars or pyarrow table
            Predictors and the grouping factor; the response is not needed.
        level : float
        pool : bool
            As in `confint`.

        Returns
        -------
        pandas.DataFrame
            ``estimate``, ``std_error``, ``conf_low``, ``conf_high``; index as `newdata`. nan in groups that the data
            did not have, in those whose rows do not determine all coefficients, and in rows with missing values.

        Raises
        ------
        DesignError
            A missing column; the level is not strictly between 0 and 1.

        Examples
        --------
        >>> import bayeslmm as bl
        >>> lines = bl.lm_list("Reaction ~ Days | Subject", bl.load_dataset("sleepstudy"))
        >>> lines.predict(pd.DataFrame({"Days": [10], "Subject": ["308"]})).round(1).iloc[0].tolist()
        [461.8, 17.5, 427.3, 496.4]
        """
        level = check_level("level", level, DesignError)
        flag("pool", pool, DesignError)
        rows = new_rows(self.design, newdata, [self.group])
        codes, Z = rows.levels[self.group].codes, rows.Z[0]
        known = np.isin(codes, np.flatnonzero(self.fits.rank == Z.shape[1]))
        own = np.where(known, codes, 0)
        estimate = (Z * self.fits.coefficients[own]).sum(axis=1)
        if rows.offset is not None:
            estimate = estimate + rows.offset
        error = self._scale(pool)[own] * np.linalg.norm(np.einsum("ij,ijk->ik", Z, self.fits.root[own]), axis=1)
        half = self._quantile(level, pool)[own] * error
        values = np.column_stack([estimate, error, estimate - half, estimate + half])
        values[~known] = np.nan
        columns = ["estimate", "std_error", "conf_low", "conf_high"]
        return readable(pd.DataFrame(rows.filled(values), index=rows.index, columns=columns))

    def __repr__(self) -> str:
        notes = self.groups()["note"]
        poor = notes[notes != ""]
        lines = [
            f"Least squares by group: {self.formula}",
            f"  {len(notes)} groups, {self.design.n} observations, pooled sigma {self.sigma:.6g} on {self.df} df",
        ]
        if len(poor):
            shown = "; ".join(f"{level}: {note}" for level, note in poor.iloc[:_SHOWN].items())
            more = f"; and {len(poor) - _SHOWN} more" if len(poor) > _SHOWN else ""
            lines.append(f"  {len(poor)} without all coefficients ({shown}{more})")
        return fill("\n".join(lines), indent="  ")


def lm_list(
    formula: str,
    data: Any,
    *,
    weights: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
    na_action: NaAction = "drop",
) -> LmList:
    """Fit a least-squares regression to every group on its own (nlme's and lme4's lmList).

    A mixed model draws these coefficients together; here no group knows of another, except for the pooled residual
    standard deviation.

    Parameters
    ----------
    formula : str
        ``"y ~ x | g"``; ``"y ~ x + offset(o) | g"`` with an offset.
    data : pandas, polars or pyarrow table
    weights : str or array of shape (rows,), optional
        Precision weights.
    contrasts : mapping, optional
        As in `Model`.
    extra_namespace : mapping, optional
        Functions and values that the formula may use.
    na_action : {"drop", "exclude", "fail"}
        Of rows with missing values, as in `Model`.

    Returns
    -------
    LmList
        A group whose rows do not determine a coefficient has nan there and a note; what its rows say about the
        residual variance is used all the same.

    Raises
    ------
    FormulaError
        The formula has no bar, or cannot be read.
    DesignError
        More than one bar, predictors outside the bar, or the data do not fit the formula.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> lines = bl.lm_list("Reaction ~ Days | Subject", bl.load_dataset("sleepstudy"))
    >>> lines.coef().loc["308"].round(3).tolist()
    [244.193, 21.765]
    >>> lines
    Least squares by group: Reaction ~ Days | Subject
      18 groups, 180 observations, pooled sigma 25.5918 on 144 df
    """
    if isinstance(formula, str) and "|" not in formula:
        raise FormulaError(
            f"The formula {formula!r} has no bar, so there are no groups to fit. Write response ~ predictors | group."
        )
    design = build_design(
        offsets_outside(formula) if isinstance(formula, str) else formula,
        data,
        weights=weights,
        contrasts=contrasts,
        extra_namespace=extra_namespace,
        saturated="allow",
        na_action=na_action,
    )
    _check_one_term(design)
    return LmList(design, _fit(design))


def _check_one_term(design: Design) -> None:
    if len(design.terms) != 1:
        raise DesignError(
            f"The formula has {len(design.terms)} grouping terms ({', '.join(t.label for t in design.terms)}), but "
            "every row can belong to one group only. Write one bar; y ~ x | a:b takes the combinations of two columns."
        )
    if design.fixed_names != ("Intercept",):
        raise DesignError(
            f"The formula has predictors outside the bar ({', '.join(design.fixed_names) or 'none, not even a 1'}). "
            "Every group gets its own coefficients, so all predictors stand left of the bar: y ~ x | g."
        )


def _fit(design: Design) -> LevelFits:
    term, lam = design.terms[0], NO_PARAMETERS
    white = design.residual.whiten(lam, np.column_stack([term.Z, design.y_less_offset]))
    fits = least_squares_by_level(white[:, :-1], white[:, -1], design.groupings[term.group])
    return replace(fits, residuals=design.residual.color(lam, fits.residuals[:, None])[:, 0])
