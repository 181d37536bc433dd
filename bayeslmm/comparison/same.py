"""Whether a fit and a posterior belong to the same model and data."""

from __future__ import annotations

from bayeslmm.design.same import same_design
from bayeslmm.errors import DesignError
from bayeslmm.results import Posterior, REMLResult


def check_same(reml: REMLResult, posterior: Posterior) -> None:
    """Refuse what is not a fit and a posterior of one model.

    Raises
    ------
    DesignError
    """
    if not isinstance(reml, REMLResult) or not isinstance(posterior, Posterior):
        raise DesignError(
            f"compare() got a {type(reml).__name__} and a {type(posterior).__name__}. It takes the result of "
            "model.fit() first and that of model.sample() second."
        )
    if not same_design(reml.design, posterior.design):
        raise DesignError(
            f"compare() got fits of different models: {reml.formula!r} on {reml.n} observations and "
            f"{posterior.formula!r} on {posterior.n} observations. Fit and sample the same Model."
        )
