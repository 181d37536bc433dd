"""Models of sums over cells, in place of observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bayeslmm.design import CovarianceStructure
from bayeslmm.design.cell_sums import SumColumns
from bayeslmm.design.design import Store
from bayeslmm.design.from_sums import build_from_sums, cells_frame
from bayeslmm.design.padding import NaAction
from bayeslmm.design.residual_translation import refuse_elsewhere
from bayeslmm.design.tables import kept_table
from bayeslmm.errors import DesignError
from bayeslmm.habits import MODEL_ARGUMENTS, no_argument


def _from_sums(
    cls: type[Any],
    /,
    formula: str,
    cells: Any,
    *,
    n: str = "n",
    mean: str | None = None,
    ss: str | None = None,
    total: str | None = None,
    sum_sq: str | None = None,
    variance: str | None = None,
    sd: str | None = None,
    n_missing: str | None = None,
    weights: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    extra_namespace: Mapping[str, Any] | None = None,
    saturated: Literal["error", "allow"] = "error",
    cov: Mapping[str, CovarianceStructure] | None = None,
    store: Store = "auto",
    na_action: NaAction = "drop",
    rank_deficient: Literal["drop", "error"] = "drop",
    residual_sd: Any = None,
    residual: str | None = None,
    **unknown: Any,
) -> Any:
    """A model of observations of which only sums over cells are known: their number, mean and sum of squares.

    A cell is a combination of all predictors and levels that the formula uses; where observations agree in these, the
    three sums are all that the likelihood asks of them. Estimates, intervals, tests and posteriors are those of the
    observations. What looks at single observations (residuals, outliers, leave-one-out by observation, checks of the
    residuals' distribution) is refused.

    Parameters
    ----------
    formula : str
        As for `Model`. The response is a name, and need not be a column of `cells`.
    cells : table
        pandas, polars or pyarrow, or a source of rows that `Model` takes (it is read whole). One row per cell;
        several rows of one cell do no harm. Cells with a missing predictor are dropped and counted.
    n : str
        The column with the number of observations; cells of none are left out.
    mean, total : str, optional
        The column with the mean of the response, or with its sum; ``"mean"`` by default.
    ss, sum_sq, variance, sd : str, optional
        The column with the sum of squares about the cell's mean, the raw sum of squares (refused where too many digits
        cancel), the variance (n - 1 in the denominator) or the standard deviation; ``"ss"`` by default. A cell of one
        observation has none of its own: it may be missing.
    n_missing : str, optional
        The column with the number of rows that have no response; they are counted in `dropped`.
    weights : str or array of shape (rows,), optional
        Precision weights, the same for all observations of a cell: each has residual variance ``sigma^2 / weight``.
    contrasts, extra_namespace, saturated, cov, store, na_action, rank_deficient, residual_sd, residual
        As for `Model`; ``residual`` without correlations.

    Returns
    -------
    Model

    Raises
    ------
    FormulaError
        The formula cannot be read.
    DesignError
        The response is an expression; counts that are no whole numbers; sums that are missing, infinite or impossible;
        spreads too small beside the means for doubles; whatever `Model` says of a table.

    Examples
    --------
    >>> import bayeslmm as bl
    >>> dyes = bl.load_dataset("Dyestuff")
    >>> cells = dyes.groupby("Batch", observed=True)["Yield"].agg(["size", "mean", "var"])
    >>> model = bl.Model.from_sums("Yield ~ 1 + (1 | Batch)", cells, n="size", variance="var")
    >>> model
    Model: Yield ~ 1 + (1 | Batch)
      30 observations in 6 cells, 1 fixed effect, 6 random effects
      (1 | Batch): 6 levels x Intercept, 1 covariance parameter
    >>> round(model.fit().criterion, 4), round(bl.Model("Yield ~ 1 + (1 | Batch)", dyes).fit().criterion, 4)
    (319.6543, 319.6543)
    """
    refuse_elsewhere(unknown, weights)
    if "frequency" in unknown:
        raise DesignError(
            "from_sums got frequency=, which says how many identical rows there are; the number of observations of a "
            "cell is n=, the name of its column."
        )
    no_argument("bl.Model.from_sums", _from_sums, unknown, MODEL_ARGUMENTS, DesignError)
    sums = {"n": n, "mean": mean, "total": total, "ss": ss, "sum_sq": sum_sq, "variance": variance, "sd": sd}
    sums["n_missing"] = n_missing
    arguments: dict[str, Any] = {
        "weights": weights,
        "contrasts": contrasts,
        "extra_namespace": extra_namespace,
        "saturated": saturated,
        "cov": cov,
        "store": store,
        "na_action": na_action,
        "rank_deficient": rank_deficient,
        "residual_sd": residual_sd,
        "residual": residual,
    }
    table = cells_frame(kept_table(cells))
    model = cls._from_design(build_from_sums(formula, table, SumColumns.of(sums), arguments))
    model._table, model._arguments = table, arguments
    model._sums = {name: value for name, value in sums.items() if value is not None}
    return model


# A method of the class, made outside of it.
from_sums: classmethod[Any, ..., Any] = classmethod(_from_sums)
