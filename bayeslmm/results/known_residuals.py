"""What is known of the residuals of predicted rows: those of the data that they are correlated with, variances."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from bayeslmm.arguments import choice
from bayeslmm.design.design import Design
from bayeslmm.design.newdata import Rows
from bayeslmm.errors import DesignError
from bayeslmm.inference.prediction import RowsTaken
from bayeslmm.likelihood.whitened import mixed_groups
from bayeslmm.residual import KnownVariances
from bayeslmm.residual.known_rows import KnownRows
from bayeslmm.results.fit import Fit
from bayeslmm.results.random_parts import Random
from bayeslmm.types import FloatArray

type KnownResiduals = Literal["known", "new"] | None


def uses_known(design: Design, residuals: KnownResiduals, new_means: bool, random: Random) -> bool:
    """Whether a prediction uses the residuals of the data.

    Parameters
    ----------
    design : Design
    residuals : {"known", "new"} or None
        As asked for.
    new_means : bool
        Whether new rows are predicted, fixed part included.
    random : str, sequence, mapping or None
        As asked for.

    Raises
    ------
    DesignError
        Known residuals are asked for where there is nothing that they are left of, or that they say something of.
    """
    if residuals is not None:
        choice("residuals", residuals, ("known", "new"), DesignError)
    every = new_means and isinstance(random, str) and random == "all" and random not in design.groupings
    if design.residual.clusters is None:
        if residuals == "known":
            raise DesignError(
                f"residuals='known' is for models whose residuals are correlated within groups (residual='ar1(time | "
                f"g)'); those of this one are independent ({design.residual.text}), so that the residuals of the data "
                "say nothing of those of other rows. Leave it out."
            )
        return False
    if residuals == "known" and not every:
        raise DesignError(
            "residuals='known' goes with new data, random='all' and the fixed part: the residuals of the data are what "
            "is left beside all effects, and of a row of the data that residual is known itself. Leave it out, or "
            "give newdata without random= and fixed=."
        )
    return every and residuals != "new"


def weights_or_sd(design: Design, weights: Any, residual_sd: Any) -> Any:
    """Whichever of both says what the residual variances of new rows are."""
    known = isinstance(design.residual, KnownVariances)
    if known and weights is not None:
        raise DesignError(
            "This model has known residual standard deviations and no weights: give those of the new rows as "
            "residual_sd=."
        )
    if not known and residual_sd is not None:
        raise DesignError(
            "residual_sd= is for models that were given residual_sd=; the residual variance of a row of this one is "
            "sigma^2, over its weight if there are weights=."
        )
    return residual_sd if known else weights


def known_rows(fit: Fit, rows: Rows) -> KnownRows:
    """The rows beside those of the data.

    Raises
    ------
    DesignError
        A row of a group whose residuals are known is of another level of a factor that holds this group.
    """
    known = KnownRows(fit.design.residual, rows.observed, rows.clusters)
    taken = RowsTaken(fit.design, known.at(fit.optimum.lam).weights)
    mixed = mixed_groups(fit.design)
    for name, own in rows.levels.items():
        before = taken.levels(fit.design.groupings[name].codes)
        moved = (before >= 0) & (before != own.codes)
        if name not in mixed and moved.any():
            raise DesignError(
                f"{int(moved.sum())} of the new rows are of a group whose residuals are known and have another level "
                f"of {name} than this group has in the data. In the data {name} is the same in all rows of a group. "
                "Correct it, give the rows a group of their own, or take residuals='new'."
            )
    return known


def predicted_residuals(fit: Fit, rows: Rows) -> FloatArray:
    """Best linear predictions (k,) of the residuals of the rows from those of the data, units of y."""
    left = fit.design.y - fit._fitted
    return np.asarray(known_rows(fit, rows).at(fit.optimum.lam).weights @ left)
