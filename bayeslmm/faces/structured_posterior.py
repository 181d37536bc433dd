"""Posteriors of models whose residuals have parameters: what is right for them, and the words where nothing is yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from bayeslmm.equality import by_value
from bayeslmm.faces.posterior import Posterior
from bayeslmm.faces.refused import refused
from bayeslmm.residual import estimable
from bayeslmm.results.draws import Draws


def _not_yet(name: str) -> Callable[..., NoReturn]:
    """A method that says that there is none yet."""

    def words(post: Draws) -> str:
        return (
            f"{name} is not there yet for a posterior whose residuals have parameters "
            f"(residual={estimable(post.design.residual).expression!r}): as it stands it would leave these out. "
            "post.table(), post.draws(label), post.summary() and post.ranef() have all parameters; model.fit() has "
            "tests, means and predictions of the same model."
        )

    return refused(name, words)


@by_value
@dataclass(frozen=True, repr=False)
class StructuredPosterior(Posterior):
    """Posterior of a model whose residuals have parameters (``Model(..., residual="ar1(time | g)")``).

    Residual parameters stand in all tables under ``residual_...``, in the units of ``fit.estimates()``;
    ``post.data`` has them on their scales without bounds.
    """

    psense = _not_yet("psense")
    power_tree = _not_yet("power_tree")
    prior_sweep = _not_yet("prior_sweep")


def posterior_of(draws: Draws) -> Posterior:
    """The draws with what can be asked of them."""
    kind = StructuredPosterior if draws.design.residual.names else Posterior
    return kind._of(draws)
